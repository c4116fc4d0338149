"""The rank of a matrix from its spectrum, where there is a gap, and whether entries not fitted agree with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float
from tightframe.deeplinear.observations import Observations

# Components below this share of the largest are rounding or not yet fitted.
_FLOOR = 1e-2
# Ranks to try, and the largest share of observations that the degrees of freedom of all but the first may take.
_TRIED, _FREE = 3, 0.95
# Of the entries the share that a rank is checked with, and their least and largest number.
_CHECKED, _FEWEST, _MOST = 0.02, 5, 100
# Share of these that have to be met, this close in units of the entries' root mean square.
_MET, _CLOSE = 0.9, 1e-2


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


def candidate_ranks(values: Float[torch.Tensor, " k"], observed: Observations, *, limit: int) -> list[SpectralGap]:
    """Ranks by falling ratio of their singular value to the next, that of `spectral_gap` first, three at most.

    Args:
        values: sigma_1 >= sigma_2 >= ... (k,).
        observed: The entries; but for the first, ranks whose freedom takes more than 95 % of their number are left out.
        limit: Largest rank.
    """
    if len(values) < 2:
        return [SpectralGap(1, math.inf)]
    first = spectral_gap(values, limit=limit)
    m, n = observed.shape
    ratios = (values[:-1] / values[1:]).tolist()
    found = [first]
    for at in sorted(range(min(limit, len(ratios))), key=lambda i: -ratios[i]):
        rank, steep = at + 1, float(values[at]) > _FLOOR * float(values[0])
        if rank != first.rank and steep and rank * (m + n - rank) <= _FREE * len(observed):
            found.append(SpectralGap(rank, ratios[at]))
    return found[:_TRIED]


def part_for_check(observed: Observations, *, seed: int) -> tuple[Observations, Observations]:
    """The entries without a few, and these few, by which `agrees` tells a rank from an overfit.

    They are 2 % of the entries, at least 5 and at most 100, but never more than a tenth, from rows and columns that
    have at least as many entries as half of the entries' rows and columns: what is scarce is left to the fit.
    """
    counts = observed.row_counts[observed.rows], observed.column_counts[observed.columns]
    rich = ((counts[0] >= counts[0].median()) & (counts[1] >= counts[1].median())).nonzero().squeeze(1)
    amount = min(max(round(_CHECKED * len(observed)), _FEWEST), _MOST, len(observed) // 10, len(rich))
    held = torch.zeros(len(observed), dtype=torch.bool, device=observed.rows.device)
    held[rich[torch.randperm(len(rich), generator=generator(seed))[:amount].to(rich.device)]] = True
    # A few entries that are not zero among many that are: they are all there is to fit.
    held &= observed.values[~held].any()
    return observed.subset(~held), observed.subset(held)


def agrees(
    left: Float[torch.Tensor, "m r"],
    right: Float[torch.Tensor, "n r"],
    train: Observations,
    held: Observations,
    *,
    tolerance: float,
) -> bool:
    r"""Whether nine tenths of the entries that were not fitted are met by a fit of r components.

    .. math:: |(A B^\top)_{ij} - x_{ij}| \le \max(10^{-2}, 10\, \tau)\ \mathrm{rms}(x)

    Args:
        left: A (m, r).
        right: B (n, r).
        train: What was fitted.
        held: What was not. Entries in rows or columns with fewer than r fitted entries, which leave their factor open,
            do not count; where there are no others, nothing speaks for the rank.
        tolerance: tau, the relative residual of the fit.
    """
    rank = left.shape[1]
    fixed = (train.row_counts[held.rows] >= rank) & (train.column_counts[held.columns] >= rank)
    scale = train.values.square().mean().sqrt()
    met = (held.entries(left, right) - held.values).abs() <= max(_CLOSE, 10 * tolerance) * scale
    return bool((met & fixed).sum() >= _MET * fixed.sum()) and bool(fixed.any())
