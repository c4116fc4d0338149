"""Signals in units of their noise, framed for a short kernel: what every start of a deconvolution shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.dictionary.arrays import axis_sizes
from tightframe.dictionary.blind.half_steps import HalfSteps
from tightframe.dictionary.blind.noise import significant_level, universal_penalty

Border = Literal["circular", "valid"]


def kernel_shape(kernel_size: int | Sequence[int], signals: Tensor) -> tuple[int, ...]:
    """The size of the kernel along every axis of the signals.

    Raises:
        InputError: No positive sizes, another number of axes, or a kernel longer than the signals.
    """
    size, shape = axis_sizes(kernel_size), tuple(signals.shape[1:])
    if len(size) != len(shape):
        raise InputError(
            f"one positive kernel size for each of the {len(shape)} axes of the signals",
            got=repr(kernel_size),
            remedy="Pass an int for time series, (height, width) for images.",
        )
    if any(side > length for side, length in zip(size, shape, strict=True)):
        raise InputError(
            f"a kernel no longer than the signals, {shape}", got=f"kernel_size={size}", remedy="Shorten the kernel."
        )
    return size


@dataclass(frozen=True, eq=False)
class ScaledSignals:
    """Signals in units of their noise, on a frame that may be larger than they are.

    Args:
        signals: As given, (n, *shape).
        scaled: Divided by `sigma`, (n, *frame).
        sigma: Noise measured in each, (n,).
        factor: Penalty of each signal as a multiple of `penalty`, (n, 1, ...).
        size: Of the kernel.
        before: Points of the frame before the signals, by axis.
        observed: (*frame,), or None where the frame is the signals.
        points: Entries observed.
        positive: Whether activations are at least zero.
        bias: Whether every signal has an unknown constant.
        penalty: Half of the universal penalty.
        adaptive: Whether the penalty follows the noise.
    """

    signals: Tensor
    scaled: Tensor
    sigma: Tensor
    factor: Tensor
    size: tuple[int, ...]
    before: tuple[int, ...]
    observed: Tensor | None
    points: int
    positive: bool
    bias: bool
    penalty: float
    adaptive: bool

    @classmethod
    def of(
        cls,
        signals: Tensor,
        size: tuple[int, ...],
        alpha: float | str,
        positive: bool,
        boundary: Border,
        bias: bool,
    ) -> ScaledSignals:
        """Measure the noise of signals, divide by it, and frame them; `alpha` is a penalty in their units or auto."""
        if boundary not in ("circular", "valid"):
            raise InputError("boundary, circular or valid", got=repr(boundary), remedy="Choose one.")
        shape = signals.shape[1:]
        sigma = significant_level(signals, size)
        rows = (-1, *[1] * len(shape))
        scaled = signals / sigma.view(rows)
        penalty = 0.5 * universal_penalty(math.prod(shape))
        factor = torch.ones_like(sigma) if alpha == "auto" else float(alpha) / (sigma * penalty)
        before, observed = tuple([0] * len(shape)), None
        if boundary == "valid":
            # Behind the signals as much room as before them, or activations there would wrap around to their start.
            before = tuple(side - 1 for side in size)
            pads = [amount for side in reversed(before) for amount in (side, side)]
            observed = torch.nn.functional.pad(torch.ones(shape, dtype=torch.bool, device=signals.device), pads)
            means = scaled.mean(tuple(range(1, signals.ndim)), keepdim=True)
            scaled = torch.nn.functional.pad(scaled - means, pads) + means
        return cls(
            signals=signals,
            scaled=scaled,
            sigma=sigma,
            factor=factor.view(rows),
            size=size,
            before=before,
            observed=observed,
            points=signals.numel(),
            positive=positive,
            bias=bias,
            penalty=penalty,
            adaptive=alpha == "auto",
        )

    @property
    def axes(self) -> tuple[int, ...]:
        """Those of the kernel in `signals`."""
        return tuple(range(1, self.signals.ndim))

    def state(self, kernel: Tensor) -> HalfSteps:
        """An alternation that begins at this kernel, without activations."""
        return HalfSteps(self.scaled, kernel, positive=self.positive, bias=self.bias, observed=self.observed)

    def lifted(self, kernel: Tensor) -> Tensor:
        """The kernel in the middle of a window of three lengths, or of what the frame has room for."""
        pads: list[int] = []
        for side, length in zip(reversed(self.size), reversed(self.scaled.shape[1:]), strict=True):
            extra = min(2 * (side - 1), length - side)
            pads += [extra // 2, extra - extra // 2]
        return torch.nn.functional.pad(kernel, pads)
