"""LogME: the evidence of a Bayesian linear model that reads the labels off the features, from class moments alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.collapse.spread import ClassSpread
from tightframe.core.errors import DegenerateError

_LEAST = 1e-5
_ROUNDS = 11
_CHANGE = 1e-3


def logme(spread: ClassSpread, *, complete: bool = False) -> float:
    r"""Maximum log evidence per sample of the one-hot labels, mean over classes; higher is better.

    .. math:: \tfrac1N \Big[ \tfrac D2 \log\alpha + \tfrac N2 \log\beta
        - \tfrac12 \sum_j \log(\alpha + \beta\sigma_j) - \tfrac\beta2 \|F m - y\|^2 - \tfrac\alpha2 \|m\|^2
        - \tfrac N2 \log 2\pi \Big]

    where sigma_j are the eigenvalues of F^T F (uncentred), alpha and beta the precisions of weights and of noise, found
    by the published fixed point: at most 11 rounds, until alpha / beta changes by 1e-3 of itself. All of it follows
    from F^T F, N, and F^T y = n_k mu_k of class k.

    Args:
        spread: Class moments.
        complete: The published sum runs over min(N, D) directions while D/2 log alpha counts all D: where N < D its
            value is too large by (D - N)/(2N) log alpha, often several times the rest, which favours wide features.
            True takes that away. (Where N > D published code leaves out units that are exactly zero, with the same
            effect; here they count as directions, and change nothing.)

    Returns:
        LogME, in nats per sample.

    Raises:
        DegenerateError: All features are zero, or they explain every label without remainder.

    Reference: [you2022ranking]; [you2021logme].
    """
    features = spread.mean.shape[1]
    values, vectors = torch.linalg.eigh(spread.product)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    floor = features * torch.finfo(values.dtype).eps * values[0]
    reached = min(int(spread.total), features)
    values, vectors = values[:reached], vectors[:, :reached]
    # Squares of the labels' coordinates along the left singular vectors (k, j).
    products = (spread.count[:, None] * spread.mean) @ vectors
    squares = torch.where(values > floor, products.square() / values.clamp(min=1e-300), 0.0)
    hidden = features - reached if complete else 0
    found = [
        _evidence(values, squares[k], float(spread.count[k]), spread.total, features, hidden)
        for k in range(len(spread.count))
    ]
    return math.fsum(found) / len(found)


def _evidence(values: Tensor, squares: Tensor, norm: float, total: float, features: int, hidden: int) -> float:
    """Evidence of one class; `norm` is |y|^2, its number of samples."""
    unreached = max(norm - float(squares.sum()), 0.0)
    alpha = beta = 1.0
    for _ in range(_ROUNDS):
        ratio = alpha / beta
        shrunk = values + ratio
        freedom = float((values / shrunk).sum())
        weight = float((values * squares / shrunk.square()).sum())
        residual = float((squares * (ratio / shrunk).square()).sum()) + unreached
        alpha, beta = freedom / (weight + _LEAST), (total - freedom) / (residual + _LEAST)
        if not (alpha > 0 and beta > 0):
            raise DegenerateError(
                "features that are not all zero and leave something of the labels unexplained",
                got=f"precisions {alpha:g} of the weights and {beta:g} of the noise",
                remedy="Look for dead units, or use more samples than features.",
            )
        if abs(alpha / beta - ratio) <= _CHANGE * ratio:
            break
    determinant = float(torch.log(alpha + beta * values).sum()) + hidden * math.log(alpha)
    evidence = features / 2 * math.log(alpha) + total / 2 * math.log(beta) - determinant / 2
    return (evidence - beta / 2 * residual - alpha / 2 * weight) / total - math.log(2 * math.pi) / 2
