"""Progressive separation: the straight line of log D_l over depth."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tightframe.core.errors import InputError


@dataclass(frozen=True)
class SeparationFit:
    """Least-squares line log D_l = intercept + slope l over layers l = 0, 1, ...

    Args:
        intercept: Of the natural logarithm.
        slope: Per layer.
        r_squared: Share of the variance of log D_l that the line explains; 1 where all values are equal.
    """

    intercept: float
    slope: float
    r_squared: float

    @property
    def decay_ratio(self) -> float:
        """Factor exp(slope) by which D shrinks from one layer to the next."""
        return math.exp(self.slope)

    def at(self, layer: int) -> float:
        """D on the line at this layer."""
        return math.exp(self.intercept + self.slope * layer)


def fit_separation(values: Sequence[float]) -> SeparationFit:
    r"""Fit the law of progressive separation D_l = D_0 rho^l.

    .. math:: \log D_l \approx a + l \log\rho

    Args:
        values: D_l > 0 of at least three layers, in order of depth.

    Raises:
        InputError: Fewer than three values, or values that are not positive and finite.

    Example:
        >>> round(fit_separation([8.0, 4.0, 2.0, 1.0]).decay_ratio, 12)
        0.5

    Reference: [he2023law]; lecture 6 of ICASSP 2023 [qu2023lecture6].
    """
    if len(values) < 3 or not all(math.isfinite(v) and v > 0 for v in values):
        raise InputError(
            "positive values of at least three layers",
            got=f"{list(values)}",
            remedy='Hook more layers (layers="auto"); a line through two points says nothing.',
        )
    logs = [math.log(v) for v in values]
    depth = [layer - (len(values) - 1) / 2 for layer in range(len(values))]
    mean = sum(logs) / len(logs)
    slope = sum(x * y for x, y in zip(depth, logs, strict=True)) / sum(x * x for x in depth)
    residual = sum((y - mean - slope * x) ** 2 for x, y in zip(depth, logs, strict=True))
    spread = sum((y - mean) ** 2 for y in logs)
    rounding = sum((4 * sys.float_info.epsilon * y) ** 2 for y in logs)
    return SeparationFit(
        intercept=mean + slope * depth[0],
        slope=slope,
        r_squared=max(0.0, 1 - residual / spread) if spread > rounding else 1.0,
    )
