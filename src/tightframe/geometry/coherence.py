"""Coherence of vectors, and how far apart K directions in R^d can be at most."""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from torch import Tensor

from tightframe.core.checks import check_count, check_features
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float

Vectors = Float[Tensor, "k d"]


def cosines(vectors: Vectors) -> Float[Tensor, "k k"]:
    """Cosines between all pairs of rows (k, k), float64.

    Raises:
        InputError: Not a matrix of at least two finite rows.
        DegenerateError: A row of length zero, which has no direction.
    """
    rows = check_features(vectors, "vectors").double()
    if len(rows) < 2:
        raise InputError("at least two vectors", got=f"{len(rows)}", remedy="Pass one vector per row.")
    largest = rows.abs().amax(1, keepdim=True)
    if not bool(torch.isfinite(largest).all()):
        raise InputError("vectors are finite", got="NaN or inf", remedy="Look for divergence in whatever made them.")
    if not bool(largest.all()):
        raise DegenerateError(
            "vectors that differ from zero",
            got=f"{int((largest == 0).sum())} of length zero",
            remedy="Leave them out: a vector of length zero has no direction.",
        )
    rows = rows / largest  # squares neither overflow nor vanish
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows @ rows.T


def coherence(vectors: Vectors) -> float:
    r"""Largest modulus of the cosine between two different vectors, the coherence of a frame.

    .. math:: \mu = \max_{i \ne j} \frac{|\langle v_i, v_j\rangle|}{\|v_i\|\,\|v_j\|}

    Signs do not count: mu measures lines. For classifiers, where v and -v are as different as can be, see
    `largest_cosine`.

    Args:
        vectors: One per row (k, d); lengths do not matter.

    Returns:
        mu in [0, 1], at least `welch_bound`.

    Raises:
        InputError: Fewer than two vectors, NaN or inf.
        DegenerateError: A vector of length zero.

    Example:
        >>> round(coherence(torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])), 6)
        0.5
    """
    return min(1.0, float(_different_pairs(cosines(vectors)).abs().max()))


def largest_cosine(vectors: Vectors) -> float:
    r"""Largest cosine between two different vectors, sign included: that of the pair hardest to tell apart.

    .. math:: \max_{i \ne j} \frac{\langle v_i, v_j\rangle}{\|v_i\|\,\|v_j\|}

    Args:
        vectors: One per row (k, d); lengths do not matter.

    Returns:
        A number in [-1, 1], at least `cosine_bound`.

    Raises:
        InputError: Fewer than two vectors, NaN or inf.
        DegenerateError: A vector of length zero.
    """
    return min(1.0, max(-1.0, float(_different_pairs(cosines(vectors)).max())))


def welch_bound(vectors: int, dimension: int) -> float:
    r"""The least coherence that K vectors in R^d can have.

    .. math:: \mu \ge \sqrt{\frac{K - d}{d (K - 1)}} \ \text{for}\ K > d, \quad \text{else}\ 0

    with equality for equiangular tight frames only. It bounds |cos|; `cosine_bound` bounds the signed cosine.

    Args:
        vectors: K, at least 2.
        dimension: d, at least 1.

    Example:
        >>> round(welch_bound(4, 3), 6), welch_bound(3, 3)
        (0.333333, 0.0)

    Reference: [welch1974lower]; [strohmer2003grassmannian], theorem 2.3.
    """
    check_count(vectors, "vectors", least=2)
    check_count(dimension, "dimension")
    return (max(0, vectors - dimension) / (dimension * (vectors - 1))) ** 0.5


def cosine_bound(vectors: int, dimension: int) -> float:
    r"""A number that the largest (signed) cosine between K vectors in R^d is never below.

    .. math:: \max_{i\ne j}\cos(v_i, v_j) \ge \begin{cases} -\frac1{K-1} & K \le d + 1 \\
        \max(0, \cos\theta) & K > d + 1 \end{cases}

    with theta the angle at which K caps of angular radius theta/2 have the area of the sphere.

    The first line is attained by the simplex ETF, zero up to K = 2d by an orthoplex (d axes, both directions), and
    cos(theta) on the circle (d = 2) by regular polygons. Elsewhere the bound need not be attained.

    Args:
        vectors: K, at least 2.
        dimension: d, at least 1.

    Example:
        >>> [round(cosine_bound(k, 2), 6) for k in (2, 3, 4, 6)]
        [-1.0, -0.5, 0.0, 0.5]

    Reference: [rankin1955closest], for the first line and the zero; disjoint caps are elementary.
    """
    check_count(vectors, "vectors", least=2)
    check_count(dimension, "dimension")
    if vectors <= dimension + 1:
        return -1 / (vectors - 1)
    if dimension == 1:
        return 1.0  # two of three directions on a line agree
    # A cap of angular radius r covers I_{sin^2 r}((d-1)/2, 1/2) / 2 of the sphere.
    square = float(betaincinv((dimension - 1) / 2, 0.5, 2 / vectors))
    return max(0.0, 1 - 2 * square)


def frame_potential(vectors: Vectors) -> float:
    r"""Sum of the squared cosines of all pairs, equal ones included.

    .. math:: \mathrm{FP} = \sum_{i, j} \cos^2(v_i, v_j)

    Args:
        vectors: One per row (k, d); lengths do not matter.

    Returns:
        A number between `frame_potential_bound` and K^2. Tight frames, and no others, have the least potential.

    Raises:
        InputError: Fewer than two vectors, NaN or inf.
        DegenerateError: A vector of length zero.

    Example:
        >>> frame_potential(torch.eye(3))
        3.0

    Reference: [benedetto2003finite].
    """
    return float(cosines(vectors).square().sum())


def frame_potential_bound(vectors: int, dimension: int) -> float:
    r"""The least frame potential of K vectors in R^d, max(K, K^2/d): orthonormal vectors, or a tight frame.

    Args:
        vectors: K, at least 2.
        dimension: d, at least 1.

    Reference: [benedetto2003finite].
    """
    check_count(vectors, "vectors", least=2)
    check_count(dimension, "dimension")
    return max(float(vectors), vectors**2 / dimension)


def _different_pairs(square: Tensor) -> Tensor:
    """The entries off the diagonal."""
    return square[~torch.eye(len(square), dtype=torch.bool, device=square.device)]
