"""Points of low rank in deep ReLU chains: classes as subsets of few vertices."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.ufm.chains import collapsed_value
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError


def subset_point(problem: DeepUnconstrainedFeatures, *, size: int = 2, reach: int | None = None) -> DeepPoint:
    r"""A point whose features pass through v < K dimensions and still fit all K classes.

    .. math:: W_1 H_1 \propto B, \quad W_2 = \dots = W_{M-2} \propto I_v, \quad
        (W_{M-1})_A \propto \mathbf 1_A - \tfrac{m-1}{m}\mathbf 1, \quad W_M \propto \sigma(W_{M-1} B)^{+}

    where
        class k is a subset S_k of m = `size` out of v vertices, v the fewest with K subsets; B (v, K) has the
        indicators of the subsets as columns; A runs over the subsets of `reach` vertices that contain a class. Before
        the last ReLU unit A has the value |A cap S_k| - (m - 1), so that it fires, with 1, for the classes inside A
        alone. Products of two factors (W_1 H_1, with three factors W_1 H_1 = W_{M-1} B) are of the least norm, half the
        nuclear norm.

    Subsets of one vertex give the collapsed point. With pairs, the edges of a complete graph, and reach = 2 every class
    has its own unit. K = 10 and reach = 3 make the adjacency of the Petersen graph. K = 15 and reach = 3 are below the
    collapsed point for three factors already, the model of theorem 4.2, whose nuclear norm condition they violate. The
    scales of the factors are the best ones, in closed form: see `subset_value`. Where K is not C(v, m), or the widths
    leave room for more units, `explore_deep` improves the point.

    Args:
        problem: A chain of squared error with ReLU, three factors or more and equal classes.
        size: m, vertices per class, at least 1.
        reach: Vertices per unit, at least m; None for m.

    Raises:
        InputError: Another kind of chain, widths below v or (the deepest) below the number of units, a reach below m.
        DegenerateError: Units that do not tell the classes apart.

    Reference: [sukenik2024neural], for pairs and four factors or more.
    """
    parts = _parts(problem, size, reach)
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


def subset_value(problem: DeepUnconstrainedFeatures, *, size: int = 2, reach: int | None = None) -> float:
    r"""Objective of `subset_point`.

    .. math:: \min_{a \ge 0}\; \tfrac12 (a-M)^2 + \tfrac L2 \Big(n \prod_l \lambda_l c_l\Big)^{1/L} a^{2/L}

    where
        c_l are the squared norms of the factors whose logits are the identity. The collapsed point has c_l = K: the
        point with the smaller product has the smaller objective, whatever the decays. `cost_ratio` is the quotient.
    """
    return collapsed_value(problem, math.prod(float(part.square().sum()) for part in _parts(problem, size, reach)))[0]


def cost_ratio(classes: int, factors: int, *, size: int = 2, reach: int | None = None) -> float:
    r"""prod_l c_l of `subset_point` over that of the collapsed point, K^L: below 1, low rank is the better of the two.

    For all pairs of v vertices, own units (reach = 2) and L >= 4 factors it is

    .. math:: \frac v4\, \frac{\|B\|_*^2}{K^2} \Big(\frac vK\Big)^{L-4}, \qquad
        \|B\|_* = \sqrt{2v-2} + (v-1)\sqrt{v-2}, \quad K = \tbinom v2

    For the 15 pairs of six vertices, reach = 3 and three factors it is (65/12) 600 / 15^3 = 26/27.

    Example:
        >>> [round(cost_ratio(10, factors), 3) for factors in (3, 4, 5)]
        [1.96, 1.19, 0.595]
        >>> round(cost_ratio(10, 4, reach=3), 3), round(27 * cost_ratio(15, 3, reach=3), 9)
        (0.727, 26.0)
    """
    check_count(classes, "classes", least=2)
    check_count(factors, "factors", least=3)
    parts = _unit_factors(classes, factors, size, reach)
    return math.prod(float(part.square().sum()) / classes for part in parts)


def fewest_vertices(classes: int, *, size: int = 2) -> int:
    """The least v with C(v, size) >= K."""
    vertices = check_count(size, "size")
    while math.comb(vertices, size) < classes:
        vertices += 1
    return vertices


def _parts(problem: DeepUnconstrainedFeatures, size: int, reach: int | None) -> list[Tensor]:
    """The factors at scale one, where they fit the problem."""
    plain = isinstance(problem.loss, SquaredError) and problem.loss.scale == 1
    if problem.linear or not (plain and problem.balanced):
        raise InputError(
            "squared error, ReLU, two layers or more and equal classes",
            got=f"{problem.loss.name}, {problem.activation}, {problem.layers} layers, counts {problem.counts[:4]}",
            remedy='Build the chain with loss="mse", activation="relu" and two widths or more.',
        )
    parts = _unit_factors(problem.classes, problem.factors, size, reach)
    needed = tuple(part.shape[1] for part in parts[:-1])
    if any(width < least for width, least in zip(problem.widths, needed, strict=True)):
        raise InputError(f"widths of at least {needed}", got=str(problem.widths), remedy="Widen the chain.")
    return parts


def _unit_factors(classes: int, factors: int, size: int, reach: int | None) -> list[Tensor]:
    """W_M, ..., W_1 and the class means, at scale one: their product, with ReLU, is the identity."""
    vertices = fewest_vertices(classes, size=size)
    reach = check_count(size if reach is None else reach, "reach", least=size)
    indicators = _indicators(vertices, size)[:, :classes]
    units = _indicators(vertices, reach).T
    overlaps = units @ indicators - (size - 1)
    firing = (overlaps > 0).any(1)
    hidden = overlaps[firing].clamp(min=0)
    if int(firing.sum()) < classes or int(torch.linalg.matrix_rank(hidden)) < classes:
        raise DegenerateError(
            "units that tell the classes apart",
            got=f"{classes} subsets of {size} out of {vertices} vertices, and units for those inside {reach} vertices",
            remedy=f"Use a reach from {size} to {vertices - size}, or K = C(v, size).",
        )
    reader = torch.linalg.pinv(hidden)
    if factors == 3:
        return [reader, *_halves(overlaps[firing])]
    # A subset has m vertices, so that subtracting a constant c is subtracting c/m times the vector of ones.
    compare = units[firing] - (size - 1) / size
    return [reader, compare, *[torch.eye(vertices, dtype=torch.float64)] * (factors - 4), *_halves(indicators)]


def _indicators(vertices: int, size: int) -> Tensor:
    """Indicators of all subsets of this size as columns, in lexicographic order."""
    columns = torch.zeros(vertices, math.comb(vertices, size), dtype=torch.float64)
    for k, subset in enumerate(combinations(range(vertices), size)):
        columns[list(subset), k] = 1
    return columns


def _halves(product: Tensor) -> tuple[Tensor, Tensor]:
    """Two factors of the least norm, U sqrt(S) and sqrt(S) V."""
    left, values, right = torch.linalg.svd(product, full_matrices=False)
    rank = int((values > 1e-12 * values[0]).sum())
    roots = values[:rank].sqrt()
    return left[:, :rank] * roots, roots[:, None] * right[:rank]


def _placed(part: Tensor, shape: tuple[int, int]) -> Tensor:
    """The part in the upper left corner of zeros."""
    whole = part.new_zeros(shape)
    whole[: part.shape[0], : part.shape[1]] = part
    return whole
