"""More directions than a simplex has: K > d + 1 unit vectors in R^d whose largest |cosine| is small."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import ClassMeans
from tightframe.geometry.coherence import coherence, welch_bound
from tightframe.geometry.frames import haar_columns, simplex_etf

Construction = Literal["simplex", "orthogonal simplices", "conference", "numerical", "random"]

# A closed form within this factor of the Welch bound is not worth a search.
_CLOSE = 1.02
# A step of the search costs K^2 d products, twice. With fewer steps than these within the budget, there is no search.
_PRODUCTS = 2e10
_FEWEST_STEPS, _MOST_STEPS = 40, 600
# Above this K a matrix of all cosines is no longer small.
_MOST_VECTORS = 4096


def class_frame(classes: int, features: int, *, seed: int = 0) -> ClassMeans:
    """A frame for the classifier of K classes in R^d: the simplex ETF for d >= K - 1, else `incoherent_frame`.

    Returns:
        (k, d), float64, rows of unit norm.

    Raises:
        InputError: K < 2, or d = 1 < K - 1.

    Example:
        >>> class_frame(4, 3).shape, construction(4, 3), class_frame(14, 7).shape, construction(14, 7)
        (torch.Size([4, 3]), 'simplex', torch.Size([14, 7]), 'conference')
    """
    make = simplex_etf if features >= classes - 1 else incoherent_frame
    with torch.device("cpu"):  # also where modules are being made on another device, or without memory
        return make(classes, features, seed=seed)


def incoherent_frame(classes: int, features: int, *, seed: int = 0) -> ClassMeans:
    r"""K > d + 1 unit vectors in R^d with small coherence, Haar-rotated: the best of the constructions known here.

    .. math:: \mu = \max_{i \ne j} |\langle v_i, v_j\rangle| \ \ge\ \sqrt{\tfrac{K-d}{d(K-1)}}

    The constructions, of which `construction` names the one that is used:

    - "orthogonal simplices": K - d simplices in orthogonal subspaces, of nearly equal sizes m or m + 1 with
      m = floor(K / (K - d)); mu = 1/(m - 1). For K slightly above d + 1, where both are so large that
      a search takes too long; no cosine is positive.
    - "conference": K of the q + 1 lines of the equiangular tight frame in (q + 1)/2 dimensions that a Paley conference
      matrix gives, for a prime q = 1 mod 4; mu = 1/sqrt(q). For K = 1000, d = 512 that is q = 1021 and
      mu = 0.03130, beside a Welch bound of 0.03089.
    - "numerical": descent on a smooth maximum of the squared cosines, where neither comes within 2 % of the Welch
      bound; bounded by a count of operations (seconds on one core). Rounding may lead it elsewhere on another machine.
    - "random": a random tight frame whose rows are then scaled to unit length, so that it stays tight only nearly;
      above 4096 vectors, and where a step of the descent is so long that few are affordable.

    The modulus is what is made small, not the signed cosine: it keeps every pair of classes nearly orthogonal, alike
    for all pairs, and the Welch bound is its yardstick. But a classifier tells v from -v, and up to K = 2d
    `orthogonal_simplices` has no positive cosine at all, the least possible, at the price of an arbitrary grouping of
    the classes (opposite pairs at K = 2d). With features of one length its cross-entropy is lower: 0.029 against 0.075
    for K = 14, d = 7 and length 6, but only 4 % lower for K = 1000, d = 512 and length 10. Pass it to the head as
    `frame` where that counts.

    Args:
        classes: K, above d + 1; up to there the simplex exists and `simplex_etf` is the function to use.
        features: d, at least 2.
        seed: Seed of the rotation.

    Returns:
        (k, d), float64, rows of unit norm.

    Raises:
        InputError: K <= d + 1, or d < 2.

    Example:
        >>> frame = incoherent_frame(6, 3)  # six diagonals of the icosahedron
        >>> round(coherence(frame), 6), round(welch_bound(6, 3), 6)
        (0.447214, 0.447214)

    Reference: [strohmer2003grassmannian], section 3.2, for conference matrices; [paley1933orthogonal];
        [welch1974lower], for the bound.
    """
    if classes <= features + 1:
        raise InputError(
            f"more than d + 1 = {features + 1} vectors",
            got=f"{classes}",
            remedy="Use simplex_etf, whose vectors are further apart.",
        )
    kind = construction(classes, features)
    if kind == "random":
        rows = haar_columns(classes, features, seed=seed)
        return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = _fixed(classes, features, kind)
    return rows @ haar_columns(features, rows.shape[1], seed=seed).T


@lru_cache(maxsize=256)
def construction(classes: int, features: int) -> Construction:
    """Which construction `class_frame` and `incoherent_frame` use for K vectors in R^d.

    All but "numerical" depend on nothing but K, d and the seed, so that they can be made anew instead of stored.

    Raises:
        InputError: K < 2, or d = 1 < K - 1.
    """
    check_count(classes, "classes", least=2)
    if check_count(features, "features") >= classes - 1:
        return "simplex"
    check_count(features, "features", least=2)
    known = _closed_forms(classes, features)
    best = min(known, key=known.get, default=None)
    if best is not None and known[best] <= _CLOSE * welch_bound(classes, features):
        return best
    if _steps(classes, features) < _FEWEST_STEPS:
        # About the largest |cosine| among random directions.
        return best if best is not None and known[best] < (4 * math.log(classes) / features) ** 0.5 else "random"
    # The margin keeps the choice the same where rounding differs between machines.
    with torch.device("cpu"):
        found = coherence(_searched(classes, features))
    return "numerical" if best is None or found < 0.98 * known[best] else best


def orthogonal_simplices(classes: int, features: int, *, seed: int = 0) -> ClassMeans:
    r"""d + 1 < K <= 2d unit vectors in R^d without a positive cosine: K - d simplices in orthogonal subspaces.

    .. math:: \langle v_i, v_j \rangle = \begin{cases} -\frac{1}{m_g - 1} & \text{i, j in one simplex g} \\
        0 & \text{else} \end{cases}

    where
        the sizes m_g of the simplices differ by one at most and sum to K; at K = 2d they are opposite pairs, and the
        frame is an orthoplex.

    No K > d + 1 vectors have a largest cosine below zero. Which classes share a simplex follows from their order.

    Args:
        classes: K.
        features: d, at least 2.
        seed: Seed of the Haar-random rotation.

    Returns:
        (k, d), float64, rows of unit norm.

    Raises:
        InputError: K <= d + 1, where a simplex exists, or K > 2d, where some cosine is positive.

    Example:
        >>> from tightframe.geometry.coherence import largest_cosine
        >>> abs(round(largest_cosine(orthogonal_simplices(7, 5)), 6))
        0.0

    Reference: [rankin1955closest].
    """
    check_count(classes, "classes", least=2)
    check_count(features, "features", least=2)
    if not features + 1 < classes <= 2 * features:
        raise InputError(
            f"from d + 2 = {features + 2} to 2d = {2 * features} vectors",
            got=f"{classes}",
            remedy="Use simplex_etf for fewer and incoherent_frame for more.",
        )
    return _orthogonal_simplices(classes, features) @ haar_columns(features, features, seed=seed).T


def _closed_forms(classes: int, features: int) -> dict[Construction, float]:
    """Coherence of the constructions that exist."""
    known: dict[Construction, float] = {}
    smallest = classes // (classes - features)
    if smallest > 2:
        known["orthogonal simplices"] = 1 / (smallest - 1)
    if q := _paley_prime(classes, features):
        known["conference"] = q**-0.5
    return known


def _fixed(classes: int, features: int, kind: Construction) -> Tensor:
    """The frame before its rotation, in as many dimensions as it needs."""
    if kind == "orthogonal simplices":
        return _orthogonal_simplices(classes, features)
    return _conference(classes, features) if kind == "conference" else _searched(classes, features)


def _orthogonal_simplices(classes: int, features: int) -> Tensor:
    size, larger = divmod(classes, classes - features)
    sizes = [size + (group < larger) for group in range(classes - features)]
    return torch.block_diag(*(simplex_etf(k, k - 1) for k in sizes))


def _paley_prime(classes: int, features: int) -> int | None:
    """The largest prime q = 1 mod 4 with (q + 1)/2 <= d, if its q + 1 lines are enough."""
    for q in range(2 * features - 1, classes - 2, -1):
        if q % 4 == 1 and all(q % p for p in range(2, int(q**0.5) + 1)) and q > 1:
            return q
    return None


@lru_cache(maxsize=4)
def _conference(classes: int, features: int) -> Tensor:
    q = _paley_prime(classes, features)
    squares = torch.zeros(q, dtype=torch.bool)
    squares[torch.arange(1, q).square() % q] = True
    index = torch.arange(q)
    difference = (index[:, None] - index[None, :]) % q
    conference = torch.ones(q + 1, q + 1, dtype=torch.float64)
    conference[1:, 1:] = torch.where(squares, 1.0, -1.0).double()[difference]
    conference.fill_diagonal_(0.0)
    # C^2 = q I and trace C = 0: (I + C / sqrt q) / 2 projects on half of the dimensions, with 1/2 on its diagonal.
    # A basis by orthogonalising fixed random vectors is unique, unlike eigenvectors of a multiple eigenvalue.
    half = (q + 1) // 2
    normal = torch.randn(q + 1, half, dtype=torch.float64, generator=generator(0))
    basis, triangle = torch.linalg.qr((normal + conference @ normal / q**0.5) / 2)
    rows = 2**0.5 * (basis * triangle.diagonal().sign())[:classes]
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def _steps(classes: int, features: int) -> int:
    if classes > _MOST_VECTORS:
        return 0
    return min(_MOST_STEPS, int(_PRODUCTS / (classes**2 * features)))


@lru_cache(maxsize=4)
def _searched(classes: int, features: int) -> Tensor:
    """Adam on log sum exp(beta cos^2) / beta over the spheres, beta growing, from a random tight frame.

    In float32 for speed; the best of all iterates in float64.
    """
    steps = _steps(classes, features)
    rows = haar_columns(classes, features, seed=0).float()
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    best, least = rows, float("inf")
    first, second = torch.zeros_like(rows), torch.zeros(classes, 1)
    floor = max(welch_bound(classes, features), 1e-3) ** 2
    for step in range(1, steps + 1):
        along = (step - 1) / steps
        beta = 0.3 * 300**along / floor
        gram = (rows @ rows.T).fill_diagonal_(0.0)
        squares = gram.square()
        largest = float(squares.amax())
        if largest < least:
            best, least = rows, largest
        weights = torch.exp(beta * (squares - largest))
        slope = (weights * gram / weights.sum()) @ rows
        slope = slope - (slope * rows).sum(1, keepdim=True) * rows
        # One second moment per row: a step of Adam that turns along with the rotation of the frame.
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope.square().mean(1, keepdim=True)
        scaled = (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-12)
        rate = 0.6 * (1 - along) * floor**0.5 / features**0.5
        rows = rows - rate * scaled
        rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    best = best.double()
    return best / torch.linalg.vector_norm(best, dim=1, keepdim=True)
