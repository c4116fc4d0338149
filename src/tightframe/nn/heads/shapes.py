"""How many parameters known networks have, and how many of these their classifier has, from published layer shapes.

Fixing the classifier saves what `head_weight` says. Every count below is a sum over layers written from the tables of
the papers; no total is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError


@dataclass(frozen=True)
class ParameterCount:
    """Trainable parameters of a network with K classes.

    Attributes:
        name: The network.
        classes: K.
        features: d, the width that enters the classifier.
        backbone: Parameters of everything before the classifier.
        bias: Whether the classifier has a bias.
    """

    name: str
    classes: int
    features: int
    backbone: int
    bias: bool = True

    @property
    def head_weight(self) -> int:
        """K d: what a fixed classifier need not train when its bias is kept."""
        return self.classes * self.features

    @property
    def head(self) -> int:
        """Parameters of the classifier, its bias included."""
        return self.head_weight + self.classes * self.bias

    @property
    def total(self) -> int:
        """All parameters."""
        return self.backbone + self.head

    @property
    def share(self) -> float:
        """Part of all parameters that the classifier has, in [0, 1]."""
        return self.head / self.total

    def __str__(self) -> str:
        return (
            f"{self.name}, {self.classes} classes: {self.head:,} of {self.total:,} parameters in the classifier "
            f"({self.share:.2%})"
        )


def parameters(name: str, classes: int = 1000) -> ParameterCount:
    """Parameters of a published network, by layer.

    Args:
        name: One of `NETWORKS`. All have the stem for images of 224 pixels. "shufflenet" is version 1 with 3 groups and
            width 1; "shufflenet-biased" differs in details of its implementation, and with the one learned scale of a
            fixed classifier it has the 1,826,555 parameters that [hoffer2018fix] counts, 960,000 of them fixed.
        classes: K, at least 2.

    Raises:
        InputError: An unknown name; the message lists the choices.

    Example:
        >>> print(parameters("resnet50"))
        resnet50, 1000 classes: 2,049,000 of 25,557,032 parameters in the classifier (8.02%)

    Reference: [he2016deep], table 1; [huang2017densely], table 1; [zhang2018shufflenet], table 1; [ma2018shufflenet],
        table 5; [hoffer2018fix], section 3, for the share of fixed parameters.
    """
    check_count(classes, "classes", least=2)
    if name not in _MAKERS:
        raise InputError(f"a network, one of {', '.join(NETWORKS)}", got=repr(name), remedy="Choose one of these.")
    backbone, features = _MAKERS[name]()
    return ParameterCount(name, classes, features, backbone)


def _convolution(inputs: int, outputs: int, kernel: int, *, groups: int = 1) -> int:
    """A convolution without bias and the batch normalisation of its output."""
    return inputs // groups * outputs * kernel**2 + _norm(outputs)


def _norm(channels: int) -> int:
    return 2 * channels


def _resnet(depths: Sequence[int], *, bottleneck: bool) -> tuple[int, int]:
    """A 7x7 stem, then stages of blocks; the first block of a stage projects its shortcut where the width changes."""
    total, channels = _convolution(3, 64, 7), 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        wide = 4 * width if bottleneck else width
        for _ in range(depth):
            if bottleneck:
                total += _convolution(channels, width, 1) + _convolution(width, width, 3) + _convolution(width, wide, 1)
            else:
                total += _convolution(channels, width, 3) + _convolution(width, width, 3)
            total += _convolution(channels, wide, 1) if channels != wide else 0
            channels = wide
    return total, channels


def _densenet(depths: Sequence[int], *, growth: int) -> tuple[int, int]:
    """Norm, 1x1 to 4 growth, norm, 3x3 to growth in every layer; transitions halve the channels; a last norm."""
    total, channels = _convolution(3, 2 * growth, 7), 2 * growth
    for stage, depth in enumerate(depths):
        if stage:
            total += _norm(channels) + channels * (channels // 2)
            channels //= 2
        for _ in range(depth):
            inner = 4 * growth
            total += _norm(channels) + _convolution(channels, inner, 1) + inner * growth * 9
            channels += growth
    return total + _norm(channels), channels


def _shufflenet(widths: Sequence[int], *, groups: int, biases: bool = False) -> tuple[int, int]:
    """Grouped 1x1, depthwise 3x3, grouped 1x1; a quarter of the width inside; strided units append their input.

    With `biases` every convolution has one, the stem has no normalisation, and a strided unit is a quarter of what it
    adds to its input inside.
    """
    extra = int(biases)
    total, channels = _convolution(3, 24, 3) - extra * 24, 24
    for stage, (width, depth) in enumerate(zip(widths, (4, 8, 4), strict=True)):
        for unit in range(depth):
            outputs = width - channels if unit == 0 else width
            inner = (outputs if biases else width) // 4
            # The first pointwise convolution has too few channels to be grouped.
            first = 1 if stage == unit == 0 else groups
            total += _convolution(channels, inner, 1, groups=first) + _convolution(inner, inner, 3, groups=inner)
            total += _convolution(inner, outputs, 1, groups=groups) + extra * (2 * inner + outputs)
            channels = width
    return total, channels


def _shufflenet_v2(widths: Sequence[int], *, last: int = 1024) -> tuple[int, int]:
    """Half of the channels pass by, half go through 1x1, depthwise 3x3, 1x1; strided units convolve both halves."""
    total = _convolution(3, 24, 3)
    for (channels, width), depth in zip(pairwise((24, *widths)), (4, 8, 4), strict=True):
        half = width // 2
        depthwise, pointwise = _convolution(half, half, 3, groups=half), _convolution(half, half, 1)
        beside = _convolution(channels, channels, 3, groups=channels) + _convolution(channels, half, 1)
        total += beside + _convolution(channels, half, 1) + depthwise + pointwise
        total += (depth - 1) * (2 * pointwise + depthwise)
    return total + _convolution(widths[-1], last, 1), last


def _made() -> Iterator[tuple[str, Callable[[], tuple[int, int]]]]:
    yield "resnet18", lambda: _resnet((2, 2, 2, 2), bottleneck=False)
    yield "resnet34", lambda: _resnet((3, 4, 6, 3), bottleneck=False)
    yield "resnet50", lambda: _resnet((3, 4, 6, 3), bottleneck=True)
    yield "densenet169", lambda: _densenet((6, 12, 32, 32), growth=32)
    yield "shufflenet", lambda: _shufflenet((240, 480, 960), groups=3)
    yield "shufflenet-biased", lambda: _shufflenet((240, 480, 960), groups=3, biases=True)
    yield "shufflenet-v2-x0.5", lambda: _shufflenet_v2((48, 96, 192))
    yield "shufflenet-v2-x1.0", lambda: _shufflenet_v2((116, 232, 464))


_MAKERS = dict(_made())
NETWORKS = tuple(_MAKERS)
