"""Random changes of a whole batch of images at once, drawn from an explicit generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tightframe.core.errors import InputError

SPECS = ("none", "noise:SD", "crop-flip", "crop-flip:PAD")

Augmentation = Callable[[Tensor, Generator], Tensor]


def augment(spec: str) -> Augmentation:
    """The augmentation that `spec` names: `augment(spec)(x, generator)` is a changed copy of the batch x (N, C, H, W).

    Args:
        spec: "none"; "noise:0.15", Gaussian noise of that standard deviation in the units of the images; or
            "crop-flip", the usual augmentation of small images: a window of the original size is cut from the image
            with 4 pixels of zeros around it ("crop-flip:2": 2 pixels), and mirrored left to right in half of the cases.

    Returns:
        A picklable function of a batch and a generator. Numbers are drawn on the generator's device, so that a CPU
        generator gives the same changes whatever device the batch is on.

    Raises:
        InputError: The name is unknown or its number is not one.

    >>> x = torch.arange(8.0).reshape(1, 1, 2, 4)
    >>> augment("none")(x, torch.Generator()) is x
    True
    >>> augment("crop-flip:1")(x, torch.Generator().manual_seed(0)).shape
    torch.Size([1, 1, 2, 4])
    """
    name, colon, number = spec.partition(":")
    if spec == "none":
        return Unchanged()
    if name == "noise" and colon:
        return GaussianNoise(_number(number, spec, float))
    if name == "crop-flip":
        return CropFlip(_number(number, spec, int)) if colon else CropFlip()
    raise _unknown(spec)


@dataclass(frozen=True)
class Unchanged:
    """The batch as it is."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """The batch x itself; nothing is drawn."""
        return x


@dataclass(frozen=True)
class GaussianNoise:
    """Independent Gaussian noise on every value.

    Args:
        deviation: Standard deviation, at least 0, in the units of the (standardised) images.
    """

    deviation: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.deviation) and self.deviation >= 0):
            raise InputError("a standard deviation of at least 0", got=repr(self.deviation), remedy="Use 0.15.")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """A noisy copy of the batch x of any shape."""
        noise = torch.randn(x.shape, generator=generator, device=generator.device)
        return x + self.deviation * noise.to(x)


@dataclass(frozen=True)
class CropFlip:
    """A random window of the zero-padded image, mirrored left to right with probability one half.

    Args:
        pad: Pixels of zeros on every side; the window moves by at most that much. Zero is the mean colour of
            standardised images.
    """

    pad: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.pad, bool) or not isinstance(self.pad, int) or self.pad < 0:
            raise InputError("a whole number of pixels, at least 0", got=repr(self.pad), remedy="Use crop-flip:4.")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """A changed copy of the batch x (N, C, H, W), every image with its own window and side."""
        if x.ndim != 4:
            raise InputError(
                "images of shape (N, C, H, W)",
                got=f"shape {tuple(x.shape)}",
                remedy="Reshape the batch, or use noise: for other inputs.",
            )
        n, channels, height, width = x.shape

        def draw(high: int) -> Tensor:
            return torch.randint(high, (n, 1), generator=generator, device=generator.device).to(x.device)

        top, left, mirrored = draw(2 * self.pad + 1), draw(2 * self.pad + 1), draw(2)
        columns = torch.arange(width, device=x.device)
        columns = left + torch.where(mirrored == 1, width - 1 - columns, columns)
        rows = top + torch.arange(height, device=x.device)
        padded = functional.pad(x, (self.pad,) * 4)
        samples = torch.arange(n, device=x.device)[:, None, None, None]
        planes = torch.arange(channels, device=x.device)[:, None, None]
        return padded[samples, planes, rows[:, None, :, None], columns[:, None, None, :]]


def _number(text: str, spec: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(text)
    except ValueError:
        raise _unknown(spec) from None


def _unknown(spec: str) -> InputError:
    return InputError(f"an augmentation, one of {', '.join(SPECS)}", got=repr(spec), remedy="Choose one of these.")
