"""Spearman's rank correlation, with a bootstrap that draws whole groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError

_ENDS = (2.5, 97.5)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rho of two sequences, equal values sharing their mean rank; NaN where one of them is constant.

    >>> round(spearman([1, 2, 3, 4], [10, 30, 20, 40]), 3)
    0.8
    """
    x, y = _values(x, y, x)
    return float(_correlations(x, y, np.ones((1, len(x))))[0])


def spearman_interval(
    x: Sequence[float], y: Sequence[float], groups: Sequence[str], *, replicates: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of Spearman's rho, drawing groups with replacement.

    Values of one group, such as the networks of one training run, are not independent: they are drawn together.

    Args:
        x: n values.
        y: n values.
        groups: The group of each.
        replicates: Draws.
        seed: Of the draws.

    Returns:
        The two ends; NaN with fewer than three groups, or where rho is undefined in more than half of the draws.

    Raises:
        InputError: Lengths that differ, or values that are not finite.
    """
    check_count(replicates, "replicates", least=2)
    x, y = _values(x, y, groups)
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    if len(places) < 3:
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(places), size=(replicates, len(places)))
    drawn = (draws[:, :, None] == np.arange(len(places))).sum(1)
    found = _correlations(x, y, drawn[:, [places[group] for group in groups]])
    defined = found[~np.isnan(found)]
    if 2 * len(defined) < replicates:
        return math.nan, math.nan
    low, high = np.percentile(defined, _ENDS)
    return float(low), float(high)


def _values(x: Sequence[float], y: Sequence[float], groups: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    if not len(x) == len(y) == len(groups):
        raise InputError(
            "as many values as groups", got=f"{len(x)}, {len(y)} and {len(groups)}", remedy="Give one of each."
        )
    x, y = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("finite values to rank", got="NaN or inf", remedy="Leave these out.")
    return x, y


def _correlations(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rho of x (n,) and y (n,) where value i occurs `times` (b, n) over; NaN where one is constant."""
    a, b = (_ranks(values, times) for values in (x, y))
    total = times.sum(1, keepdims=True)
    a, b = (rank - (times * rank).sum(1, keepdims=True) / total for rank in (a, b))
    squares = (times * a**2).sum(1) * (times * b**2).sum(1)
    # Ranks are halves of whole numbers, so that a spread that is not zero is at least a quarter.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 1e-9, (times * a * b).sum(1) / np.sqrt(squares), math.nan)


def _ranks(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean ranks (b, n) of values (n,) that occur `times` (b, n) over."""
    different, place = np.unique(values, return_inverse=True)
    counts = times @ (place[:, None] == np.arange(len(different)))
    return (counts.cumsum(1) - (counts - 1) / 2)[:, place]
