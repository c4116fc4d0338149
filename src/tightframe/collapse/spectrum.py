"""Spectra of the covariances: effective ranks and the variability collapse index."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.collapse.means import CentredMeans
from tightframe.core import linalg
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments


def between_spectrum(means: CentredMeans) -> Tensor:
    """Eigenvalues of S_B = sum_k (n_k/N) c_k c_k^T, descending, min(K-1, d) of them, never negative."""
    root = (means.count / means.total).sqrt()
    few = means.classes <= means.features
    small = means.gram * torch.outer(root, root) if few else linalg.gram(means.all * root[:, None])
    return torch.linalg.eigvalsh(small).flip(0)[: min(means.classes - 1, means.features)].clamp(min=0)


def within_spectrum(moments: ClassMoments) -> Tensor:
    """Eigenvalues of S_W = S/N, descending (d,), never negative. Costs O(d^3)."""
    return (torch.linalg.eigvalsh(moments.scatter.double()) / moments.total).flip(0).clamp(min=0)


def effective_rank(eigenvalues: Tensor) -> float:
    r"""Effective rank of Roy and Vetterli.

    .. math:: \exp\left(-\sum_i p_i \log p_i\right), \qquad p_i = \lambda_i / \sum_j \lambda_j

    Args:
        eigenvalues: Non-negative (r,).

    Returns:
        A number in [1, r].

    Example:
        >>> round(effective_rank(torch.ones(4)), 6)
        4.0

    Reference: [roy2007effective].
    """
    if bool((eigenvalues < 0).any()):
        raise InputError("non-negative eigenvalues", got=f"{float(eigenvalues.min())}", remedy="Clamp rounding at 0.")
    total = eigenvalues.double().sum()
    if not 0 < float(total) < math.inf:
        raise DegenerateError(
            "a finite covariance above zero",
            got="all eigenvalues 0" if float(total) == 0 else f"eigenvalues of sum {float(total)}",
            remedy="The features do not vary, or they overflow.",
        )
    share = eigenvalues.double() / total
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def participation_ratio(means: CentredMeans) -> float:
    """Effective dimension of the within-class scatter, tr(S)^2 / |S|_F^2, without an eigendecomposition."""
    trace = float(means.scatter.trace())
    if not trace > _rounding(means):
        raise DegenerateError("features that vary within classes", got="scatter 0", remedy="Collapse is complete here.")
    return trace**2 / float(means.scatter.square().sum())


def variability_index(means: CentredMeans) -> float:
    r"""Variability collapse index.

    .. math:: \mathrm{VCI} = 1 - \frac{\operatorname{tr}(\Sigma_T^\dagger \Sigma_B)}{\min(d, K-1)},
        \qquad \Sigma_T = \Sigma_W + \Sigma_B

    Invariant under invertible linear maps; 0 at collapse, in [0, 1]. Directions in which nothing varies are left out by
    a ridge: 1e-13 of the mean eigenvalue, or as much more as the rounding of float32 features asks for.

    Raises:
        DegenerateError: The features do not vary at all.

    Reference: [xu2023quantifying].
    """
    total = means.scatter / means.total
    weights = means.count / means.total
    for start, stop in means.ranges():
        rows = means.rows(start, stop) * weights[start:stop, None].sqrt()
        linalg.add_gram(total, rows)
    if not float(total.trace()) * means.total > _rounding(means):
        raise DegenerateError("features that vary", got="a constant", remedy="Look for dead units.")
    lower = _cholesky(linalg.mirrored(total))
    explained = 0.0
    for start, stop in means.ranges():
        rows = means.rows(start, stop) * weights[start:stop, None].sqrt()
        explained += float(torch.linalg.solve_triangular(lower, rows.T, upper=False).square().sum())
    return min(1.0, max(0.0, 1 - explained / min(means.features, means.classes - 1)))


def _rounding(means: CentredMeans) -> float:
    """Sum of squares that float64 rounding alone leaves of features which do not vary."""
    return means.total * float(1e-14 * torch.linalg.vector_norm(means.origin)) ** 2


def _cholesky(covariance: Tensor) -> Tensor:
    """Cholesky factor with the least ridge, in steps of 100 from 1e-13 of the mean eigenvalue, that makes it exist."""
    mean = float(covariance.diagonal().mean())
    if not 0 < mean < math.inf:
        got = "a constant" if mean == 0 else f"a mean variance of {mean}"
        raise DegenerateError("features that vary", got=got, remedy="Look for dead units or divergence.")
    ridge, failed = 1e-15 * mean, 1
    while failed:
        ridge *= 100
        trial = covariance.clone()
        trial.diagonal().add_(ridge)
        lower, info = torch.linalg.cholesky_ex(trial)
        failed = int(info)
    return lower
