"""How large the rate reduction of unit-length features can be: a bound for all features, and what orthogonal ones have.

With shares gamma_j = n_j/n, a class whose scatter d/(n eps2) Z^T Pi_j Z has the eigenvalues x_1, x_2, ... adds at most
f(x_1) + f(x_2) + ... to 2 Delta R, where

    f(x) = log(1 + x) - gamma_j log(1 + x/gamma_j)

is convex up to x = sqrt(gamma_j) and concave beyond. The x of a class have the sum c_j = d gamma_j / eps2, because the
rows have length one.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import log1p

import numpy
from numpy.typing import NDArray

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.nn.rate.coding import check_precision

# The tangent from the origin touches f below 2.17 for every share; 52 halvings exhaust a double.
_TANGENT_BELOW = 3.0
_HALVINGS = 52


def maximal_rate_reduction(
    features: int, classes: int, *, eps2: float = 0.5, counts: Sequence[int] | None = None
) -> float:
    r"""A number that Delta R of features of length one never exceeds, the maximum itself in the cases below.

    .. math:: \Delta R \le \Delta R^* = \max_{\rho} \sum_j \frac{\rho_j}{2}\, \hat f_j\Big(\frac{c_j}{\rho_j}\Big)
        \quad \text{subject to} \quad \sum_j \rho_j \le d, \ 0 < \rho_j \le \min(n_j, d)

    where rho_j is a real number of dimensions for class j and \hat f_j the least concave function above f_j (see the
    module). For balanced classes, K <= d, and eps2 up to 0.65 (K = 2), 1.4 (K = 10) or 4 (K = 100),

    .. math:: \Delta R^* = \frac d2 \log\Big(1 + \frac1{\epsilon^2}\Big)
        - \frac{d}{2K} \log\Big(1 + \frac{K}{\epsilon^2}\Big)

    which is attained by K orthogonal subspaces of dimension d/K where that is an integer. If it is none, or the classes
    have different sizes, Delta R* is a bound, and `orthogonal_rate_reduction` is attained: what separates them is the
    rounding of rho_j to integers. For K >= d the least of Delta R* and

    .. math:: \tfrac d2 \log\Big(1 + \frac1{\epsilon^2}\Big) - \tfrac12 \log\Big(1 + \frac d{\epsilon^2}\Big)

    is returned, the largest R less the smallest R_c. It is attained by one direction per class, the K directions a
    tight frame weighted by n_j/n, which exists if no class has more than n/d samples.

    Why it is a bound: write the scatter of all as B = sum_i x_i v_i v_i^T over the eigenvectors of all classes, and
    u_i = sqrt(x_i) B^{-1/2} v_i with |u_i|^2 = t_i <= 1 and sum_i t_i <= d. As log is concave, log det(I + B) =
    sum_i u_i^T log(I + B) u_i <= sum_i t_i log(1 + x_i/t_i). As s log(1 + x/s) grows with s, taking the rate of its
    class from term i leaves at most t_i f(x_i/t_i), and summing over the terms of a class, by concavity, at most
    rho_j \hat f_j(c_j/rho_j) with rho_j = sum of its t_i, at most its rank.

    Full dimension d/K is best only where f lies on \hat f at c_j/rho_j. The condition eps2^2 < (n_j/n) d^2/d_j^2 of
    the published theorem says that f is concave there, which is weaker: with K = 10, d = 20, eps2 = 2 it holds, and one
    dimension per class is better than two.

    Args:
        features: d.
        classes: K.
        eps2: Square of the precision, above 0.
        counts: Samples of each class, K numbers, zeros allowed; by default equal and not limiting any rank.

    Returns:
        Nats; zero where only one class has samples.

    Example:
        >>> round(maximal_rate_reduction(64, 10), 2)
        25.41

    Reference: [yu2020learning], theorem 2.1, for given ranks; the bound over all ranks is derived above.
    """
    shares = _shares(features, classes, counts)
    return _bound(features, check_precision(eps2), shares) if sum(times for *_, times in shares) > 1 else 0.0


def orthogonal_rate_reduction(
    features: int, classes: int, *, eps2: float = 0.5, counts: Sequence[int] | None = None
) -> float:
    r"""Largest Delta R of classes in orthogonal subspaces, each with equal singular values.

    .. math:: \max_{r} \sum_j \frac{r_j}{2} f_j\Big(\frac{c_j}{r_j}\Big)
        \quad \text{subject to} \quad \sum_j r_j \le d, \ r_j \in \{1, \dots, \min(n_j, d)\}

    with f_j and c_j as in the module. Dimensions are given one by one to the class that gains most.

    Args:
        features: d, at least K.
        classes: K.
        eps2: Square of the precision, above 0.
        counts: As for `maximal_rate_reduction`.

    Returns:
        Nats, attained by some features of length one, at most `maximal_rate_reduction`.

    Raises:
        InputError: More classes with samples than features.

    Example:
        >>> round(orthogonal_rate_reduction(60, 10) - maximal_rate_reduction(60, 10), 9) == 0
        True
    """
    eps2 = check_precision(eps2)
    shares = [(share, cap) for share, cap, times in _shares(features, classes, counts) for _ in range(times)]
    if len(shares) > features:
        raise InputError(
            f"at most d = {features} classes, one direction for each",
            got=f"{len(shares)}",
            remedy="Raise the feature dimension; maximal_rate_reduction bounds that case too.",
        )

    def value(j: int, rank: int) -> float:
        share = shares[j][0]
        along = features * share / (eps2 * rank)
        return rank / 2 * (log1p(along) - share * log1p(along / share))

    def offer(j: int, rank: int) -> tuple[float, int, int]:
        more = value(j, rank + 1) - value(j, rank) if rank < shares[j][1] else 0.0
        return -more, j, rank

    total = sum(value(j, 1) for j in range(len(shares)))
    offers = [offer(j, 1) for j in range(len(shares))]
    heapq.heapify(offers)
    for _ in range(features - len(shares)):
        less, j, rank = offers[0]
        if less >= 0:
            break
        total -= less
        heapq.heapreplace(offers, offer(j, rank + 1))
    return total


def _shares(features: int, classes: int, counts: Sequence[int] | None) -> tuple[tuple[float, float, int], ...]:
    """Distinct classes with samples: share of the samples, largest rank, how many are alike."""
    check_count(features, "features")
    check_count(classes, "classes")
    if counts is None:
        return ((1 / classes, features, classes),)
    sizes = [check_count(int(count), "each of counts", least=0) for count in counts]
    total = sum(sizes)
    if len(sizes) != classes or not total:
        raise InputError(
            f"counts of {classes} classes, one of them above 0",
            got=f"{len(sizes)} counts with sum {total}",
            remedy="Pass torch.bincount(labels, minlength=classes).tolist().",
        )
    return tuple((size / total, min(size, features), times) for size, times in sorted(Counter(sizes).items()) if size)


@lru_cache(maxsize=1024)
def _bound(features: int, eps2: float, shares: tuple[tuple[float, float, int], ...]) -> float:
    """Delta R*, by the multiplier of the constraint on the dimensions."""
    share, cap, times = (numpy.array(column, dtype=float) for column in zip(*shares, strict=True))
    spread = features * share / eps2
    low, high = numpy.sqrt(share), numpy.full_like(share, _TANGENT_BELOW)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _marginal(share, middle) < 0
        low, high = numpy.where(below, middle, low), numpy.where(below, high, middle)
    top = numpy.minimum(cap, spread / high)
    if times @ top <= features:
        dimensions = top
    elif len(shares) == 1:
        dimensions = numpy.minimum(top, features / times)
    else:
        dimensions = _dimensions(features, share, spread, top, times)
    tight = times @ (dimensions / 2 * _gain(share, spread / dimensions))
    # The largest rank of the features: one per sample at most, sums of caps stand for samples where those are few.
    rank = min(features, float(times @ cap))
    return float(min(tight, (rank * log1p(features / (rank * eps2)) - log1p(features / eps2)) / 2))


def _dimensions(features: int, share: NDArray, spread: NDArray, top: NDArray, times: NDArray) -> NDArray:
    """Dimensions with sum d that all gain alike from more, or have all they can use."""
    equal = features / times.sum()
    least, most = 0.0, float(_marginal(share, spread / numpy.minimum(equal, top)).max())
    dimensions = top
    for _ in range(_HALVINGS):
        price = (least + most) / 2
        low, high = numpy.zeros_like(top), top
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            worth = _marginal(share, spread / middle) >= price
            low, high = numpy.where(worth, middle, low), numpy.where(worth, high, middle)
        if times @ high > features:
            least = price
        else:
            most, dimensions = price, high
    return dimensions


def _gain(share: NDArray, x: NDArray) -> NDArray:
    """f(x)."""
    return numpy.log1p(x) - share * numpy.log1p(x / share)


def _marginal(share: NDArray, x: NDArray) -> NDArray:
    """f(x) - x f'(x), twice what one more dimension adds; it grows with x beyond sqrt(share)."""
    return _gain(share, x) - x / (1 + x) + x / (1 + x / share)
