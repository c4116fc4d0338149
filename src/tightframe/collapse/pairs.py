"""One sweep over all pairs of classes: CDNV, angles and hyperspherical uniformity together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.collapse.means import CentredMeans
from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError

_TILE = 256  # a tile of float64 stays in the second-level cache
# Below this squared distance of unit vectors (1e-6 rad) their cosine has no digits left to tell them apart.
_CLOSEST = 1e-12


@dataclass(frozen=True)
class PairStatistics:
    """Averages over the K (K-1) ordered pairs of different classes.

    Args:
        cosine_std: Standard deviation of cos(c_i, c_j): Papyan's equiangularity.
        angle_error: Mean of |cos(c_i, c_j) + 1/(K-1)|: Papyan's maximal angle.
        log_mean: Mean of log(1/|u_i - u_j|) over unit vectors u: hyperspherical uniformity, log kernel. Infinite,
            with its variance, where two directions coincide (within 1e-6 rad).
        log_variance: Variance of the same: GNC2 of Wu and Papyan.
        cdnv: Class-distance normalised variance; None where only directions were given.
    """

    cosine_std: float
    angle_error: float
    log_mean: float
    log_variance: float
    cdnv: float | None


def class_pairs(means: CentredMeans, *, exponent: int = 1) -> PairStatistics:
    r"""Pair statistics of the class means, and the class-distance normalised variance.

    .. math:: \mathrm{CDNV} = \operatorname{mean}_{i\ne j} \frac{V_i + V_j}{2\,\|\mu_i-\mu_j\|^{2e}},
        \qquad V_k = \tfrac1{n_k}\sum_{y_i=k}\|h_i-\mu_k\|^2

    Tiles of 256 x 256 pairs above the diagonal; no K x K matrix.

    Args:
        means: Centred class means.
        exponent: e; 1 is Galanti's form, 2 that of Wu and Papyan.

    Raises:
        DegenerateError: Two class means coincide, or one coincides with the global mean.
        InputError: An exponent below 1.
    """
    check_count(exponent, "exponent")
    return _sweep(means.all, means.within, exponent)


def row_pairs(rows: Tensor) -> PairStatistics:
    """Pair statistics of the directions of a (k, d) matrix, for example a classifier's rows."""
    if rows.ndim != 2 or len(rows) < 2:
        raise InputError(
            "a (k, d) matrix with k >= 2", got=f"shape {tuple(rows.shape)}", remedy="Pass one row per class."
        )
    if not bool(torch.isfinite(rows).all()):
        raise InputError("finite rows", got="NaN or inf", remedy="Look for divergence in training.")
    return _sweep(rows.detach().double(), None, 1)


def _sweep(rows: Tensor, within: Tensor | None, exponent: int) -> PairStatistics:
    classes = len(rows)
    squares = torch.linalg.vecdot(rows, rows)
    norms = squares.sqrt()
    if not float(norms.min()) > 0:
        raise DegenerateError(
            "vectors that differ from the mean of all", got="one of length zero", remedy="Angles need a direction."
        )
    unit = rows / norms[:, None]
    # Cosines and logarithms are summed about their values at equal angles: variances keep their digits at collapse.
    ideal = -1 / (classes - 1)
    sums = rows.new_zeros(6)
    for i in range(0, classes, _TILE):
        for j in range(i, classes, _TILE):
            left, right = slice(i, i + _TILE), slice(j, j + _TILE)
            cosine = unit[left] @ unit[right].T
            inside = torch.ones_like(cosine, dtype=torch.bool).triu_(1) if i == j else None
            sums[:5] += _tile_sums(cosine, ideal, inside)
            if within is not None:
                sums[5] += _tile_cdnv(cosine, squares, norms, within, left, right, inside, exponent)
    pairs = classes * (classes - 1) / 2
    first, second, absolute, log, log_square = (sums[:5] / pairs).tolist()
    return PairStatistics(
        cosine_std=max(second - first**2, 0.0) ** 0.5,
        angle_error=absolute,
        log_mean=log + _log_inverse_gap(ideal),
        log_variance=max(log_square - log**2, 0.0) if math.isfinite(log) else math.inf,
        cdnv=None if within is None else float(sums[5] / pairs),
    )


def _tile_sums(cosine: Tensor, ideal: float, inside: Tensor | None) -> Tensor:
    """Sums over a tile of (cos - ideal), its square and modulus, and of log(1/|u_i - u_j|) - ideal and its square."""
    values = cosine.flatten() if inside is None else cosine[inside]
    excess = values - ideal
    gap = 2 - 2 * values
    if values.numel() and not float(gap.min()) > _CLOSEST:
        gap = gap.masked_fill(gap <= _CLOSEST, 0.0)
    log = gap.log_().mul_(-0.5).sub_(_log_inverse_gap(ideal))
    return torch.stack([excess.sum(), excess @ excess, excess.abs().sum(), log.sum(), log @ log])


def _log_inverse_gap(cosine: float) -> float:
    """log(1/|u - v|) of unit vectors with this cosine."""
    return -0.5 * math.log(2 - 2 * cosine)


def _tile_cdnv(
    cosine: Tensor,
    squares: Tensor,
    norms: Tensor,
    within: Tensor,
    left: slice,
    right: slice,
    inside: Tensor | None,
    exponent: int,
) -> Tensor:
    """Sum over a tile of (V_i + V_j) / (2 |mu_i - mu_j|^{2e}), with |mu_i - mu_j|^2 from the cosine."""
    distance = torch.addcmul(
        squares[left, None] + squares[None, right], norms[left, None] * norms[None, right], cosine, value=-2
    )
    variance = within[left, None] + within[None, right]
    if inside is not None:
        distance, variance = distance[inside], variance[inside]
    if distance.numel() and not float((distance / squares.max()).min()) > _CLOSEST:
        raise DegenerateError(
            "class means that differ",
            got="two that coincide",
            remedy="Look for duplicated classes or dead units; CDNV is infinite there.",
        )
    return (variance / (2 * distance**exponent)).sum()
