"""A vision transformer for small images, measured and trained like the other networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError

# Patches of a default network: enough to tell parts of an image apart, few enough to train on one core.
_MOST_PATCHES, _LEAST_PATCHES = 64, 4
_HEAD_WIDTH = 32
_EPSILON = 1e-6


class TransformerBlock(nn.Module):
    r"""Pre-norm block: attention and a two-layer perceptron, each added to what enters it.

    .. math:: y = x + \mathrm{Attention}(\mathrm{norm}_1(x)), \qquad
        z = y + W_2\, \mathrm{gelu}(W_1\, \mathrm{norm}_2(y) + b_1) + b_2

    Args:
        width: Width d of every token.
        heads: Attention heads; they divide d.
        hidden: Width of the perceptron.
    """

    def __init__(self, width: int, heads: int, *, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1: nn.LayerNorm = nn.LayerNorm(width, eps=_EPSILON)
        self.qkv: nn.Linear = nn.Linear(width, 3 * width)
        self.projection: nn.Linear = nn.Linear(width, width)
        self.norm2: nn.LayerNorm = nn.LayerNorm(width, eps=_EPSILON)
        self.expand: nn.Linear = nn.Linear(width, hidden)
        self.contract: nn.Linear = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (N, t, d) to tokens (N, t, d)."""
        tokens = tokens + self._attention(self.norm1(tokens))
        return tokens + self.contract(functional.gelu(self.expand(self.norm2(tokens))))

    def _attention(self, tokens: Tensor) -> Tensor:
        n, t, d = tokens.shape
        query, key, value = self.qkv(tokens).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.projection(mixed.transpose(1, 2).reshape(n, t, d))


class VisionTransformer(nn.Module):
    """Vision transformer: patches and a class token with learned positions, pre-norm blocks, a final norm.

    The features are the class token after the final norm. The blocks are `blocks.0`, `blocks.1`, ...; all of them work
    on tokens (N, 1 + patches, d), the class token first.

    Args:
        shape: (C, H, W) of one image.
        classes: Number of classes K.
        patch: Side of a patch in pixels; it divides H and W. None for the smallest that leaves 4 to 64 patches (2 for
            8 x 8 images, 4 for 28 x 28 and 32 x 32).
        width: Width d of every token.
        depth: Number of blocks.
        heads: Attention heads, which divide d; None for the largest number that leaves each at least 32 wide.
        ratio: Width of the perceptrons over d.

    Raises:
        InputError: The patches do not tile the image, the heads do not divide the width, or a size is below 1.

    >>> VisionTransformer((1, 8, 8), 10, width=32, depth=2)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])

    Reference: [dosovitskiy2021image], section 3.1.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        patch: int | None = None,
        width: int = 128,
        depth: int = 4,
        heads: int | None = None,
        ratio: int = 4,
    ) -> None:
        super().__init__()
        for value, name in ((width, "width"), (depth, "depth"), (ratio, "ratio")):
            check_count(value, name)
        channels, height, breadth = shape
        self.shape: tuple[int, int, int] = (channels, height, breadth)
        self.patch: int = default_patch(height, breadth) if patch is None else _checked_patch(patch, height, breadth)
        heads = _default_heads(width) if heads is None else _checked_heads(heads, width)
        patches = (height // self.patch) * (breadth // self.patch)
        self.embedding: nn.Conv2d = nn.Conv2d(channels, width, self.patch, stride=self.patch)
        self.class_token: nn.Parameter = nn.Parameter(torch.empty(1, 1, width))
        self.positions: nn.Parameter = nn.Parameter(torch.empty(1, 1 + patches, width))
        self.blocks: nn.ModuleList = nn.ModuleList(
            TransformerBlock(width, heads, hidden=ratio * width) for _ in range(depth)
        )
        self.norm: nn.LayerNorm = nn.LayerNorm(width, eps=_EPSILON)
        self.classifier: nn.Linear = nn.Linear(width, classes)
        self._initialise()

    def forward_features(self, x: Tensor) -> Tensor:
        """Last features (N, d): the class token after the final norm.

        Raises:
            InputError: Images of another size or number of channels; the positions are learned for one size.
        """
        if x.ndim != 4 or x.shape[1:] != self.shape:
            raise InputError(
                f"images of shape (N, C, H, W) with (C, H, W) = {self.shape}, as the positions were learned",
                got=f"shape {tuple(x.shape)}",
                remedy="Resize the images, or build the network for this size.",
            )
        patches = self.embedding(x).flatten(2).transpose(1, 2)
        # Not len(x), which would fix the batch size of an exported network.
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), patches], dim=1) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        # The norm acts on every token by itself, and one is read.
        return self.norm(tokens[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W)."""
        return self.classifier(self.forward_features(x))

    def _initialise(self) -> None:
        for parameter in (self.class_token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)


def default_patch(height: int, width: int) -> int:
    """The smallest patch that tiles an image of this size with 4 to 64 patches.

    Raises:
        InputError: There is none.

    >>> default_patch(8, 8), default_patch(28, 28), default_patch(32, 32), default_patch(224, 224)
    (2, 4, 4, 28)
    """
    side = math.gcd(height, width)
    # Below two pixels a patch is a pixel, and the network has no locality left.
    for patch in (size for size in range(2, side + 1) if side % size == 0):
        if _LEAST_PATCHES <= (height // patch) * (width // patch) <= _MOST_PATCHES:
            return patch
    raise InputError(
        f"an image that square patches tile, {_LEAST_PATCHES} to {_MOST_PATCHES} of them",
        got=f"{height} x {width} pixels",
        remedy='Resize the images, or name the patch: patch=1 ("vit/1"), for example.',
    )


def _checked_patch(patch: int, height: int, width: int) -> int:
    if check_count(patch, "patch") > min(height, width) or height % patch or width % patch:
        raise InputError(
            f"a patch that divides the image, {height} x {width} pixels",
            got=f"patch={patch}",
            remedy=f"Use a divisor of {math.gcd(height, width)}, or resize the images.",
        )
    return patch


def _default_heads(width: int) -> int:
    return next(heads for heads in range(max(1, width // _HEAD_WIDTH), 0, -1) if width % heads == 0)


def _checked_heads(heads: int, width: int) -> int:
    if width % check_count(heads, "heads"):
        raise InputError(
            f"heads that divide the width, {width}",
            got=f"heads={heads}",
            remedy="Use a divisor, such that each head is about 32 or 64 wide.",
        )
    return heads
