"""Frames that collapsed features form: the simplex equiangular tight frame and the orthogonal frame."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.checks import check_count, check_features
from tightframe.core.errors import DegenerateError, InputError
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
    _check_room(classes, features)
    return (classes / (classes - 1)) ** 0.5 * _helmert(classes) @ haar_columns(features, classes - 1, seed=seed).T


def nearest_simplex_etf(vectors: ClassMeans) -> ClassMeans:
    r"""The simplex ETF whose rows are nearest to the given ones, by orthogonal Procrustes.

    .. math:: \operatorname*{arg\,max}_{F} \langle F, M\rangle
        = \sqrt{\tfrac{K}{K-1}}\, Q\, (U V^\top)^\top, \qquad M^\top Q = U S V^\top

    where
        M (k, d) is `vectors`, F runs over the simplex ETFs of unit rows, and the columns of Q (k, k-1) are an
        orthonormal basis of the vectors that sum to zero.

    The mean of the rows plays no part (Q does not see it), and neither does the scale of the frame: |a F - M| is
    smallest for the same F whatever the length a > 0. The polar factor U V^T is unique if and only if the centred rows
    span K - 1 dimensions. Otherwise several frames are equally near and one of them is returned: the choice is free
    along the missing directions, and rounding makes it.

    Args:
        vectors: One per class (k, d), K at least 2 and d at least K - 1; lengths count as weights.

    Returns:
        (k, d), rows of unit norm that sum to zero, in the dtype of the input (half precision gives float32) and on its
        device; computed in float64.

    Raises:
        InputError: Not such a matrix, NaN or inf, d < K - 1.
        DegenerateError: All rows agree, so that every simplex is equally near.

    Example:
        >>> frame = simplex_etf(4, 6, seed=1)
        >>> torch.allclose(nearest_simplex_etf(3 * frame + 1), frame)
        True

    Reference: [schonemann1966procrustes]; [markou2024guiding], for its use in training.
    """
    rows = check_features(vectors, "vectors")
    classes, features = rows.shape
    check_count(classes, "the number of vectors", least=2)
    _check_room(classes, features)
    basis = _helmert(classes).to(rows.device)
    largest = rows.double().abs().amax()
    if not bool(torch.isfinite(largest)):
        raise InputError("vectors are finite", got="NaN or inf", remedy="Look for divergence in whatever made them.")
    # Scaled first, so that squares inside the factorisation neither overflow nor vanish.
    across = (rows.double() / largest.clamp_min(torch.finfo(torch.float64).tiny)).T @ basis
    left, sizes, right = torch.linalg.svd(across, full_matrices=False)
    if not float(sizes[0]) > features * torch.finfo(torch.float64).eps:
        raise DegenerateError(
            "at least two different vectors",
            got="equal ones, to which every simplex is equally near",
            remedy="Wait until class means have separated, or build the frame with simplex_etf.",
        )
    frame = (classes / (classes - 1)) ** 0.5 * basis @ (left @ right).T
    return frame.to(rows.dtype)


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
    return haar_columns(features, classes, seed=seed).T


def unit_norm_tight_frame(
    vectors: int, dimension: int, *, seed: int = 0, tolerance: float = 1e-10, max_iterations: int = 5000
) -> Float[Tensor, "k d"]:
    r"""K unit vectors in R^d that form a tight frame, random among them: alternating projection from random vectors.

    .. math:: F^\top F = \tfrac Kd I, \qquad \|f_k\| = 1

    Each round takes the nearest tight frame, then the nearest unit vectors.

    Args:
        vectors: K, at least d.
        dimension: d, at least 1.
        seed: Seed of the vectors to begin with.
        tolerance: Largest eigenvalue of |(d/K) F^T F - I| at which to stop.
        max_iterations: Rounds at most.

    Returns:
        (k, d), float64, rows of unit norm to rounding.

    Raises:
        InputError: K < d, where unit vectors span too little.
        DegenerateError: Not within the tolerance after these rounds.

    Example:
        >>> frame = unit_norm_tight_frame(7, 3)
        >>> torch.allclose(frame.T @ frame, 7 / 3 * torch.eye(3, dtype=torch.float64), atol=1e-9)
        True

    Reference: [tropp2005designing], section 4, for the alternating projection; [benedetto2003finite].
    """
    check_count(dimension, "dimension")
    check_count(max_iterations, "max_iterations")
    if check_count(vectors, "vectors") < dimension:
        raise InputError(
            f"at least d = {dimension} vectors",
            got=f"{vectors}",
            remedy="Use orthogonal_frame for fewer vectors than dimensions.",
        )
    frame = torch.randn(vectors, dimension, dtype=torch.float64, generator=generator(seed))
    frame = torch.nn.functional.normalize(frame, dim=1)
    for _ in range(max_iterations):
        values, axes = torch.linalg.eigh(frame.T @ frame * (dimension / vectors))
        if float((values - 1).abs().amax()) <= tolerance:
            return frame
        frame = torch.nn.functional.normalize(frame @ (axes / values.sqrt()) @ axes.T, dim=1)
    raise DegenerateError(
        f"a tight frame to {tolerance:g}",
        got=f"a deviation of {float((values - 1).abs().amax()):.1e} after {max_iterations} rounds",
        remedy="Raise max_iterations or take another seed.",
    )


def haar_columns(rows: int, columns: int, *, seed: int) -> Float[Tensor, "d k"]:
    """Orthonormal columns that are uniform among all such; (rows, columns), float64, at least as many rows."""
    normal = torch.randn(rows, columns, dtype=torch.float64, generator=generator(seed))
    basis, triangle = torch.linalg.qr(normal)
    return basis * triangle.diagonal().sign()


def _check_room(classes: int, features: int) -> None:
    if features < classes - 1:
        raise InputError(
            f"at least K - 1 = {classes - 1} dimensions for a simplex of K = {classes} vectors",
            got=f"{features}",
            remedy="Use more features or fewer classes.",
        )


def _helmert(classes: int) -> Tensor:
    """Orthonormal columns (k, k-1) that span the complement of the ones vector."""
    ones, axes = torch.ones(classes, 1, dtype=torch.float64), torch.eye(classes, dtype=torch.float64)[:, :-1]
    return torch.linalg.qr(torch.cat([ones, axes], dim=1)).Q[:, 1:]
