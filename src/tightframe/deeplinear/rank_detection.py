"""The rank of a matrix from its spectrum, where there is a gap, and how many components data can bear."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Float

# Components below this share of the largest are rounding or not yet fitted.
_FLOOR = 1e-2


@dataclass(frozen=True)
class SpectralGap:
    """Where the singular values fall most steeply.

    Args:
        rank: r, the number of those above the gap.
        ratio: sigma_r / sigma_{r+1}; inf where the latter is zero.
    """

    rank: int
    ratio: float


def spectral_gap(values: Float[torch.Tensor, " k"], *, limit: int | None = None, floor: float = _FLOOR) -> SpectralGap:
    r"""The rank at the largest ratio of neighbouring singular values.

    .. math:: r = \arg\max_{i \le k'}\ \sigma_i / \sigma_{i+1}, \qquad \sigma_i > c\, \sigma_1

    Args:
        values: sigma_1 >= sigma_2 >= ... (k,), at least two.
        limit: k', the largest rank to consider.
        floor: c in [0, 1).

    Raises:
        InputError: Fewer than two values, or values that are not sorted or whose first is not above zero.

    Example:
        >>> spectral_gap(torch.tensor([5.0, 4.0, 0.1, 0.09]))
        SpectralGap(rank=2, ratio=40.0)
    """
    if values.ndim != 1 or len(values) < 2 or not bool(values[0] > 0) or bool((values.diff() > 0).any()):
        raise InputError(
            "at least two singular values, the largest first and above zero",
            got=f"shape {tuple(values.shape)}",
            remedy="Pass those of torch.linalg.svd, of one component more than the rank may have.",
        )
    limit = len(values) - 1 if limit is None else min(check_count(limit, "limit"), len(values) - 1)
    ratios = [float(ratio) for ratio in (values[:-1] / values[1:])[:limit].tolist()]
    allowed = [i for i in range(limit) if float(values[i]) > floor * float(values[0])]
    best = max(allowed, key=lambda i: ratios[i])
    return SpectralGap(best + 1, round(ratios[best], 6) if math.isfinite(ratios[best]) else math.inf)


def bearable_rank(shape: tuple[int, int], observations: int, *, most: int = 32) -> int:
    """The largest rank whose degrees of freedom r (m + n - r) number at most as many as the observations.

    Args:
        shape: (m, n).
        observations: |Omega|.
        most: Never more than this.

    Example:
        >>> bearable_rank((100, 100), 1500)
        7
    """
    m, n = shape
    rank = 1
    while rank < min(m, n, most) and (rank + 1) * (m + n - rank - 1) <= observations:
        rank += 1
    return rank
