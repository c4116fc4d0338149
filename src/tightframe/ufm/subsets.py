"""Points of low rank in deep ReLU chains: classes as subsets of few vertices."""

from __future__ import annotations

import math
from itertools import combinations, islice
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.ufm.chains import collapsed_value
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError

Units = Literal["own", "disjoint"]


def subset_point(problem: DeepUnconstrainedFeatures, *, size: int = 2, units: Units = "own") -> DeepPoint:
    r"""A point whose features pass through v < K dimensions and still fit all K classes.

    .. math:: W_1 H_1 \propto B, \quad W_2 = \dots = W_{M-2} \propto I_v, \quad W_M \propto \sigma(W_{M-1} B)^{-1}

    where
        class k is a subset S_k of m = `size` out of v vertices, v the fewest with K subsets, and B (v, K) has the
        indicators of the subsets as columns, in two factors of the least norm (with three factors in all, H_1 = B).
        Unit k of W_{M-1} fires for its own class alone, |S_k cap S_j| - (m - 1) before ReLU, or for the classes
        disjoint from it, 1 - |S_k cap S_j|.

    Subsets of one vertex give the collapsed point. Pairs, the edges of a complete graph, have rank v of about sqrt(2K);
    with disjoint units and K = 10 the last features are the adjacency of the Petersen graph. The scales of the factors
    are the best ones, in closed form: see `subset_value`. It is a start for `explore_deep`, which improves it.

    Args:
        problem: A chain of squared error with ReLU, three factors or more and equal classes.
        size: Vertices per class, at least 1.
        units: "own", or "disjoint" (for two vertices per class or more).

    Raises:
        InputError: Another kind of chain, widths below v or (the deepest) below K.
        DegenerateError: Disjoint units that do not tell the classes apart.

    Reference: [sukenik2024neural], for pairs.
    """
    _check(problem, size)
    parts = _unit_factors(problem.classes, problem.factors, size, units)
    norms = [float(part.square().sum()) for part in parts]
    scale = collapsed_value(problem, math.prod(norms))[1]
    decays = [*problem.decays[:-1], problem.decays[-1] * problem.counts[0]]
    # lambda_l s_l^2 c_l is the same for every factor, and the s_l multiply to the scale of the logits.
    shares = [decay * norm for decay, norm in zip(decays, norms, strict=True)]
    level = (scale * math.sqrt(math.prod(shares))) ** (1 / problem.factors)
    shapes = [*problem.shapes[:-1], (problem.widths[-1], problem.classes)]
    *weights, means = (
        _placed(part, shape) * (level / math.sqrt(share))
        for part, shape, share in zip(parts, shapes, shares, strict=True)
    )
    return DeepPoint(tuple(weights), means[:, problem.labels])


def subset_value(problem: DeepUnconstrainedFeatures, *, size: int = 2, units: Units = "own") -> float:
    r"""Objective of `subset_point`.

    .. math:: \min_{a \ge 0}\; \tfrac12 (a-M)^2 + \tfrac L2 \Big(n \prod_l \lambda_l c_l\Big)^{1/L} a^{2/L}

    where
        c_l are the squared norms of the factors whose logits are the identity. The collapsed point has c_l = K:
        whichever product is smaller has the smaller objective, whatever the decays. `cost_ratio` is the quotient.
    """
    _check(problem, size)
    return collapsed_value(
        problem,
        cost_ratio(problem.classes, problem.factors, size=size, units=units)
        * (float(problem.classes) ** problem.factors),
    )[0]


def cost_ratio(classes: int, factors: int, *, size: int = 2, units: Units = "own") -> float:
    r"""prod_l c_l of `subset_point` over that of the collapsed point, K^L: below 1, low rank is the better of the two.

    For all pairs of v vertices and own units of L >= 4 factors it is

    .. math:: \frac v4\, \frac{\|B\|_*^2}{K^2} \Big(\frac vK\Big)^{L-4}, \qquad
        \|B\|_* = \sqrt{2v-2} + (v-1)\sqrt{v-2}, \quad K = \tbinom v2

    Example:
        >>> [round(cost_ratio(10, factors), 3) for factors in (3, 4, 5)]
        [2.5, 1.19, 0.595]
        >>> round(cost_ratio(10, 4, units="disjoint"), 3)
        0.727
    """
    check_count(classes, "classes", least=2)
    check_count(factors, "factors", least=3)
    check_count(size, "size")
    parts = _unit_factors(classes, factors, size, units)
    return math.prod(float(part.square().sum()) / classes for part in parts)


def fewest_vertices(classes: int, *, size: int = 2) -> int:
    """The least v with C(v, size) >= K."""
    vertices = size
    while math.comb(vertices, size) < classes:
        vertices += 1
    return vertices


def _check(problem: DeepUnconstrainedFeatures, size: int) -> None:
    check_count(size, "size")
    plain = isinstance(problem.loss, SquaredError) and problem.loss.scale == 1
    if problem.linear or not (plain and problem.balanced):
        raise InputError(
            "squared error, ReLU, two layers or more and equal classes",
            got=f"{problem.loss.name}, {problem.activation}, {problem.layers} layers, counts {problem.counts[:4]}",
            remedy='Build the chain with loss="mse", activation="relu" and two widths or more.',
        )
    vertices = fewest_vertices(problem.classes, size=size)
    if problem.widths[0] < problem.classes or min(problem.widths) < vertices:
        raise InputError(
            f"widths of at least {vertices}, the deepest at least {problem.classes}",
            got=str(problem.widths),
            remedy="Widen the chain.",
        )


def _unit_factors(classes: int, factors: int, size: int, units: Units) -> list[Tensor]:
    """W_M, ..., W_1 and the class means, at scale one: their product, with ReLU, is the identity."""
    if units not in ("own", "disjoint"):
        raise InputError('units is "own" or "disjoint"', got=repr(units), remedy="Use one of the two.")
    vertices = fewest_vertices(classes, size=size)
    indicators = torch.zeros(vertices, classes, dtype=torch.float64)
    for k, subset in enumerate(islice(combinations(range(vertices), size), classes)):
        indicators[list(subset), k] = 1
    # A subset has m vertices, so that a constant c is (c/m) times the vector of ones.
    compare = indicators.T - (size - 1) / size if units == "own" else 1 / size - indicators.T
    hidden = (compare @ indicators).clamp(min=0)
    if int(torch.linalg.matrix_rank(hidden)) < classes:
        raise DegenerateError(
            "units that tell the classes apart",
            got=f"{classes} subsets of {size} out of {vertices} vertices, and units for disjoint ones",
            remedy='Use units="own", or K = C(v, size) with v > 2 size.',
        )
    reader = torch.linalg.inv(hidden)
    if factors == 3:
        return [reader, compare, indicators]
    left, values, right = torch.linalg.svd(indicators, full_matrices=False)
    spread, means = left * values.sqrt() @ left.T, (left * values.sqrt()) @ right
    eye = torch.eye(vertices, dtype=torch.float64)
    return [reader, compare, *[eye] * (factors - 4), spread, means]


def _placed(part: Tensor, shape: tuple[int, int]) -> Tensor:
    """The part in the upper left corner of zeros."""
    whole = part.new_zeros(shape)
    whole[: part.shape[0], : part.shape[1]] = part
    return whole
