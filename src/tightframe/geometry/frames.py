"""Frames that collapsed features form: the simplex equiangular tight frame and the orthogonal frame."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import ClassMeans, Float


def ideal_gram(classes: int) -> Float[Tensor, "k k"]:
    r"""Gram matrix of a simplex ETF of unit vectors: 1 on the diagonal, -1/(K-1) elsewhere.

    .. math:: G = \tfrac{K}{K-1}\left(I_K - \tfrac1K \mathbf 1 \mathbf 1^\top\right)

    Args:
        classes: K, at least 2.

    Returns:
        (k, k), float64.

    Example:
        >>> ideal_gram(3)[0].tolist()
        [1.0, -0.5, -0.5]

    Reference: [papyan2020prevalence], definition 1.
    """
    check_count(classes, "classes", least=2)
    gram = torch.full((classes, classes), -1 / (classes - 1), dtype=torch.float64)
    return gram.fill_diagonal_(1.0)


def simplex_etf(classes: int, features: int, *, seed: int = 0) -> ClassMeans:
    r"""Rows of a simplex equiangular tight frame: K unit vectors in R^d with pairwise cosine -1/(K-1).

    .. math:: \sqrt{\tfrac{K}{K-1}}\, \left(I_K - \tfrac1K \mathbf 1\mathbf 1^\top\right) P^\top, \qquad P^\top P = I

    with the (K-1)-dimensional simplex placed by a Haar-random frame.

    Args:
        classes: K, at least 2.
        features: d, at least K - 1.
        seed: Seed of the random placement.

    Returns:
        (k, d), float64, rows of unit norm that sum to zero.

    Raises:
        InputError: d < K - 1, where no simplex ETF exists.

    Example:
        >>> frame = simplex_etf(3, 2)
        >>> torch.allclose(frame @ frame.T, ideal_gram(3))
        True

    Reference: [papyan2020prevalence], definition 1.
    """
    check_count(classes, "classes", least=2)
    if features < classes - 1:
        raise InputError(
            f"at least K - 1 = {classes - 1} dimensions for a simplex of K = {classes} vectors",
            got=f"{features}",
            remedy="Use more features or fewer classes.",
        )
    # Columns 1.. of a Helmert-like orthogonal basis span the complement of the ones vector.
    helmert = torch.linalg.qr(torch.cat([torch.ones(classes, 1), torch.eye(classes)[:, :-1]], dim=1).double()).Q[:, 1:]
    return (classes / (classes - 1)) ** 0.5 * helmert @ _haar_columns(features, classes - 1, seed).T


def orthogonal_frame(classes: int, features: int, *, seed: int = 0) -> ClassMeans:
    """Rows of an orthogonal frame: K orthonormal vectors in R^d, Haar-random; (k, d), float64.

    Raises:
        InputError: d < K.
    """
    check_count(classes, "classes", least=2)
    if features < classes:
        raise InputError(
            f"at least K = {classes} dimensions for K orthonormal vectors",
            got=f"{features}",
            remedy="Use more features or fewer classes.",
        )
    return _haar_columns(features, classes, seed).T


def _haar_columns(rows: int, columns: int, seed: int) -> Tensor:
    normal = torch.randn(rows, columns, dtype=torch.float64, generator=generator(seed))
    basis, triangle = torch.linalg.qr(normal)
    return basis * triangle.diagonal().sign()
