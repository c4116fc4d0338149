"""Networks for small images: an MLP, the ResNets with the CIFAR stem, and a vision transformer.

Every network computes `classifier(forward_features(x))` with a linear `classifier`, so that the last features
are the classifier's input.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.nn.transformer import VisionTransformer

NAMES = ("mlp", "mlp-bn", "resnet18", "resnet34", "resnet50", "vit")
_TRANSFORMER = re.compile(r"vit(/(?P<patch>\d+))?")


class MLP(nn.Module):
    """Fully connected ReLU network on flattened inputs.

    Each block `blocks.0`, `blocks.1`, ... is Linear, optional batch normalisation, ReLU.

    Args:
        in_features: Number of input values of one sample (pixels times channels).
        out_features: Number of classes K.
        widths: Width of every hidden block; the last one is the feature dimension d.
        bias: Whether the linear maps have biases.
        batch_norm: Whether each block normalises before its ReLU.

    >>> import torch
    >>> MLP(64, 10, widths=(32, 16))(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        widths: Sequence[int] = (256, 256, 256, 256),
        bias: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise InputError("at least one hidden width, each 1 or more", got=repr(widths), remedy="Set widths=(256,).")
        sizes = (in_features, *widths)
        self.blocks: nn.Sequential = nn.Sequential(
            *(_dense(a, b, bias=bias, batch_norm=batch_norm) for a, b in pairwise(sizes))
        )
        self.classifier: nn.Linear = nn.Linear(sizes[-1], out_features, bias=bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Last features (N, d) of samples (N, ...)."""
        return self.blocks(x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.classifier(self.forward_features(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = _convolution(in_channels, width, 3, stride=stride)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.conv2: nn.Conv2d = _convolution(width, width, 3)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = _shortcut(in_channels, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, width, H/stride, W/stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; the output is four times as wide."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        wide = width * self.expansion
        self.conv1: nn.Conv2d = _convolution(in_channels, width, 1)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.conv2: nn.Conv2d = _convolution(width, width, 3, stride=stride)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.conv3: nn.Conv2d = _convolution(width, wide, 1)
        self.bn3: nn.BatchNorm2d = nn.BatchNorm2d(wide)
        self.shortcut: nn.Module = _shortcut(in_channels, wide, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, 4 width, H/stride, W/stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual network for small images: a 3x3 stem of stride 1 and no max pooling.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: Number of blocks in `layer1` .. `layer4`.
        in_channels: Channels of the images.
        classes: Number of classes K.
        width: Channels of the stem; the stages have 1, 2, 4 and 8 times as many (times the expansion).

    Source: K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, CVPR 2016.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        in_channels: int,
        classes: int,
        width: int = 64,
    ) -> None:
        super().__init__()
        if width < 1:
            raise InputError("a width of at least 1 channel", got=f"width={width}", remedy="Use width=64 or 16.")
        self.conv1: nn.Conv2d = _convolution(in_channels, width, 3)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(block(channels, width * 2**stage, stride=stride))
                channels = width * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages: int = len(depths)
        self.classifier: nn.Linear = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> Tensor:
        """Last features (N, d): the last maps averaged over positions."""
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W)."""
        return self.classifier(self.forward_features(x))


def resnet18(in_channels: int, classes: int, *, width: int = 64) -> ResNet:
    """ResNet18 with the CIFAR stem; `width` scales every layer."""
    return ResNet(BasicBlock, (2, 2, 2, 2), in_channels=in_channels, classes=classes, width=width)


def resnet34(in_channels: int, classes: int, *, width: int = 64) -> ResNet:
    """ResNet34 with the CIFAR stem; `width` scales every layer."""
    return ResNet(BasicBlock, (3, 4, 6, 3), in_channels=in_channels, classes=classes, width=width)


def resnet50(in_channels: int, classes: int, *, width: int = 64) -> ResNet:
    """ResNet50 with the CIFAR stem; `width` scales every layer."""
    return ResNet(Bottleneck, (3, 4, 6, 3), in_channels=in_channels, classes=classes, width=width)


def build(
    name: str, *, shape: tuple[int, int, int], classes: int, width: int | None = None, depth: int = 4
) -> nn.Module:
    """The network called `name` for images of `shape`.

    Initial weights come from torch's global random state; seed that state to fix them.

    Args:
        name: "mlp", "mlp-bn" (with batch normalisation), "resnet18", "resnet34", "resnet50", or "vit", a vision
            transformer; "vit/4" is one with patches of 4 x 4 pixels, where "vit" chooses their side by the image.
        shape: (C, H, W) of one image.
        classes: Number of classes K.
        width: Width of every hidden layer of the MLP (default 256), of the stem of a ResNet (default 64), or of the
            tokens of the transformer (default 128).
        depth: Number of hidden layers of the MLP, or of blocks of the transformer; a ResNet's follows from its name.

    Raises:
        InputError: The name is unknown; the message lists the choices. Patches that do not tile the image.

    >>> build("mlp", shape=(1, 8, 8), classes=10).classifier
    Linear(in_features=256, out_features=10, bias=True)
    """
    if name in ("mlp", "mlp-bn"):
        in_features = shape[0] * shape[1] * shape[2]
        widths = (256 if width is None else width,) * depth
        return MLP(in_features, classes, widths=widths, batch_norm=name == "mlp-bn")
    if match := _TRANSFORMER.fullmatch(name):
        patch = match["patch"] and int(match["patch"])
        return VisionTransformer(shape, classes, patch=patch, width=128 if width is None else width, depth=depth)
    makers = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
    if name not in makers:
        raise InputError(f"a network, one of {', '.join(NAMES)}", got=repr(name), remedy="Choose one of these.")
    return makers[name](shape[0], classes, width=64 if width is None else width)


def _dense(in_features: int, out_features: int, *, bias: bool, batch_norm: bool) -> nn.Sequential:
    layers: list[tuple[str, nn.Module]] = [("linear", nn.Linear(in_features, out_features, bias=bias))]
    if batch_norm:
        layers.append(("norm", nn.BatchNorm1d(out_features)))
    return nn.Sequential(OrderedDict([*layers, ("relu", nn.ReLU())]))


def _convolution(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    projection = _convolution(in_channels, out_channels, 1, stride=stride)
    return nn.Sequential(OrderedDict(conv=projection, norm=nn.BatchNorm2d(out_channels)))
