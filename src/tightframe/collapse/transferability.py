"""H-score, TransRate and coding rate reduction of class moments."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.collapse.spread import ClassSpread, class_rows
from tightframe.core.errors import DegenerateError
from tightframe.core.typing import Features, Float, Labels, Square

TRANSRATE_EPS = 1e-4
RATE_EPS2 = 0.5
# Above this ratio of pivots the Cholesky factor decides; below, eigenvalues tell which directions are empty.
_WELL_CONDITIONED = 1e-9


def h_score(spread: ClassSpread) -> float:
    r"""H-score, the share of the features' variance that the class means explain; higher is better.

    .. math:: \operatorname{tr}\big(\operatorname{cov}(f)^\dagger \operatorname{cov}(\mathbb{E}[f \mid y])\big)
        = \operatorname{tr}(T^\dagger A A^\top)

    Between 0 and min(K - 1, d). Directions of variance below d eps of the largest count as empty; published code
    inverts all above 1e-15 of it, rounding errors included.

    Raises:
        DegenerateError: The features do not vary.

    Reference: [bao2019information].
    """
    return _explained(spread.covariance, spread.between)


def regularized_h_score(spread: ClassSpread) -> float | None:
    r"""H-score with the covariance shrunk as Ledoit and Wolf; higher is better. None without fourth moments.

    .. math:: (1-\gamma) \operatorname{tr}\Big( \big((1-\gamma)\,\tfrac TN + \gamma\,\tfrac{\operatorname{tr} T}{Nd} I
        \big)^{-1} \tfrac{A A^\top}{N - 1} \Big)

    The shrinkage gamma needs sum |h - mu|^4 beside the second moments.

    Raises:
        DegenerateError: The features do not vary.

    Reference: [ibrahim2022newer]; [ledoit2004well].
    """
    if spread.quartic is None:
        return None
    shrinkage = ledoit_wolf(spread)
    if shrinkage == 1:
        return 0.0
    total, features = spread.total, spread.mean.shape[1]
    covariance = spread.covariance * ((1 - shrinkage) / total)
    covariance.diagonal().add_(shrinkage * spread.covariance.trace() / (total * features))
    return (1 - shrinkage) * _explained(covariance, spread.between) / (total - 1)


def ledoit_wolf(spread: ClassSpread) -> float:
    r"""Shrinkage of the covariance towards a multiple of the identity.

    .. math:: \gamma = \min(1, b/\delta), \quad b = \tfrac1{d N}\Big(\tfrac1N \sum_i \|h_i-\mu\|^4
        - \|\tfrac TN\|_F^2\Big), \quad \delta = \tfrac1d \|\tfrac TN - m I\|_F^2, \quad
        m = \tfrac{\operatorname{tr}T}{Nd}

    Reference: [ledoit2004well].
    """
    total, features = spread.total, spread.mean.shape[1]
    covariance = spread.covariance / total
    square = float(covariance.square().sum())
    centre = float(covariance.trace()) / features
    delta = square - features * centre**2
    noise = max(spread.quartic / total - square, 0.0) / total
    return min(noise, delta) / delta if delta > 0 and noise > 0 else 0.0


def transrate(spread: ClassSpread, *, eps: float = TRANSRATE_EPS) -> float:
    r"""TransRate from the second moments of every class; higher is better.

    .. math:: R(T) - \tfrac1K \sum_k R(T_k), \quad R(T) = \tfrac12 \log\det\big(I + \tfrac{1}{n \epsilon} T\big), \quad
        T_k = S_k + n_k (\mu_k - \mu)(\mu_k - \mu)^\top

    with n the samples of T: all, or those of class k. Classes count alike, whatever their size, and the value depends
    on the scale of the features, both as published.

    Reference: [huang2022frustratingly].
    """
    shares = [
        _rate(_outer(spread.scatters[k], spread.between[:, k]), 1 / (float(n) * eps))
        for k, n in enumerate(spread.count)
    ]
    return _rate(spread.covariance, 1 / (spread.total * eps)) - sum(shares) / len(shares)


def rate_reduction(spread: ClassSpread, *, eps2: float = RATE_EPS2) -> float:
    r"""Coding rate reduction of features of mean square length one; higher is better.

    .. math:: \Delta R = \tfrac12 \log\det\Big(I + \tfrac{d}{N\epsilon^2 s^2} F^\top F\Big) - \sum_k \tfrac{n_k}{2N}
        \log\det\Big(I + \tfrac{d}{n_k\epsilon^2 s^2} F_k^\top F_k\Big), \quad s^2 = \tfrac1N \operatorname{tr} F^\top F

    The common scale s makes it independent of the unit of the features; single rows are not normalised.

    Reference: [yu2020learning], section 2.
    """
    scale = _scale(spread) / eps2
    roots = spread.count.sqrt()[:, None] * spread.mean
    shares = [
        float(n) * _rate(_outer(spread.scatters[k], roots[k]), scale / float(n)) for k, n in enumerate(spread.count)
    ]
    return _rate(spread.product, scale / spread.total) - sum(shares) / spread.total


def rates_of_rows(features: Features, labels: Labels, spread: ClassSpread) -> tuple[float, float]:
    """TransRate and coding rate reduction where the rows are at hand: one class at a time, on its smaller side."""
    scale, total = _scale(spread) / RATE_EPS2, spread.total
    trans, reduction = 0.0, 0.0
    for rows in class_rows(features, labels, len(spread.count)):
        rows, n = rows.double(), len(rows)
        trans += _rate_of_rows(rows - spread.origin, 1 / (n * TRANSRATE_EPS))
        reduction += n * _rate_of_rows(rows, scale / n)
    whole = _rate(spread.covariance, 1 / (total * TRANSRATE_EPS)), _rate(spread.product, scale / total)
    return whole[0] - trans / len(spread.count), whole[1] - reduction / total


def _explained(covariance: Square, between: Float[Tensor, "d k"]) -> float:
    """tr(pinv(T) A A^T)."""
    factor, info = torch.linalg.cholesky_ex(covariance)
    pivots = factor.diagonal().square()
    if int(info) == 0 and float(pivots.min()) > _WELL_CONDITIONED * float(pivots.max()):
        return float(torch.linalg.solve_triangular(factor, between, upper=False).square().sum())
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    if not bool(kept.any()):
        raise DegenerateError(
            "features that vary", got="the same features for all samples", remedy="Look for dead units."
        )
    return float(((vectors[:, kept].T @ between).square() / values[kept, None]).sum())


def _scale(spread: ClassSpread) -> float:
    length = float(spread.product.trace()) / spread.total
    if not length > 0:
        raise DegenerateError("features that are not all zero", got="zeros", remedy="Look for dead units.")
    return spread.mean.shape[1] / length


def _outer(scatter: Square, column: Tensor) -> Square:
    return torch.addr(scatter, column, column)


def _rate(square: Square, factor: float) -> float:
    """log det(I + factor M) / 2 of a positive semi-definite M."""
    shifted = square * factor
    shifted.diagonal().add_(1)
    triangle, info = torch.linalg.cholesky_ex(shifted)
    if int(info) == 0:
        return float(triangle.diagonal().log().sum())
    # Where the identity drowns in the rounding of M, eigenvalues below zero are zeros.
    return float(torch.linalg.eigvalsh(square * factor).clamp(min=0).log1p().sum()) / 2


def _rate_of_rows(rows: Features, factor: float) -> float:
    return _rate(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows, factor)
