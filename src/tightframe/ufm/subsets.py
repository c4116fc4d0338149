"""Points of low rank in deep ReLU chains: classes as subsets of few vertices."""

from __future__ import annotations

import math
from itertools import combinations, islice

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Float
from tightframe.ufm.chains import collapsed_value
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError


def subset_point(problem: DeepUnconstrainedFeatures, *, size: int = 2) -> DeepPoint:
    r"""A point whose features pass through v < K dimensions and still fit all K classes.

    .. math:: H_1 \propto B, \quad W_1 = \dots = W_{M-2} \propto I_v, \quad
        (W_{M-1})_{k} \propto \mathbf 1_{S_k} - \tfrac{m-1}{m}\mathbf 1, \quad W_M \propto I_K

    where
        class k is a subset S_k of m = `size` out of v vertices, v the fewest with K subsets, and B (v, K) has the
        indicators of the subsets as columns. Before the last activation the logits are |S_k cap S_j| - (m - 1): one where
        j = k, zero or less elsewhere, so that ReLU leaves the identity.

    Subsets of one vertex give the collapsed point. Pairs (the edges of a graph) have rank v of about sqrt(2K). The scales
    of the factors are the best ones, in closed form: see `subset_value`. It is a start for `solve_deep`, which improves it.

    Args:
        problem: A chain of squared error with ReLU, three factors or more and equal classes.
        size: Vertices per class, at least 1.

    Raises:
        InputError: Another kind of chain, widths below v or (the deepest) below K.

    Reference: [sukenik2024neural], for pairs.
    """
    vertices = _checked(problem, size)
    value, product = _value(problem, size, vertices)
    shares = [c * decay for c, decay in zip(_square_norms(problem, size, vertices), _decays(problem), strict=True)]
    # lambda_l s_l^2 c_l is the same for every factor, and the s_l multiply to the scale of the logits.
    level = (product * math.sqrt(math.prod(shares))) ** (1 / problem.factors)
    scales = [level / math.sqrt(share) for share in shares]
    parts = _unit_factors(problem, size, vertices)
    *weights, means = (_placed(part, shape) * s for part, shape, s in zip(parts, _shapes(problem), scales, strict=True))
    return DeepPoint(tuple(weights), means[:, problem.labels])


def subset_value(problem: DeepUnconstrainedFeatures, *, size: int = 2) -> float:
    r"""Objective of `subset_point`.

    .. math:: \min_{a \ge 0}\; \tfrac12 (a-1)^2 + \tfrac L2 \Big(n \prod_l \lambda_l c_l\Big)^{1/L} a^{2/L}, \qquad
        c = \big(K,\; K\,[\tfrac1m + (v-m)\tfrac{(m-1)^2}{m^2}],\; v, \dots, v,\; mK\big)

    with c_l the squared norms of the factors of scale one. The collapsed point has c = (K, ..., K): whichever product is
    smaller has the smaller objective, whatever the decays. `cost_ratio` is the quotient.
    """
    return _value(problem, size, _checked(problem, size))[0]


def cost_ratio(classes: int, factors: int, *, size: int = 2) -> float:
    r"""prod_l c_l of the subsets over that of the collapsed point, K^L: below 1, low rank is the better of the two.

    For pairs this is (v/2) (v/K)^{L-3}, with v the fewest vertices that have K pairs.

    Example:
        >>> [round(cost_ratio(6, factors), 3) for factors in (3, 4, 5)]
        [2.0, 1.333, 0.889]
    """
    check_count(classes, "classes", least=2)
    check_count(factors, "factors", least=3)
    check_count(size, "size")
    norms = _norms(classes, factors, size, fewest_vertices(classes, size=size))
    return math.prod(norm / classes for norm in norms)


def fewest_vertices(classes: int, *, size: int = 2) -> int:
    """The least v with C(v, size) >= K."""
    vertices = size
    while math.comb(vertices, size) < classes:
        vertices += 1
    return vertices


def _checked(problem: DeepUnconstrainedFeatures, size: int) -> int:
    check_count(size, "size")
    plain = isinstance(problem.loss, SquaredError) and problem.loss.scale == 1
    if problem.linear or not (plain and problem.balanced):
        raise InputError(
            "squared error, ReLU, two layers or more and equal classes",
            got=f"{problem.loss.name}, {problem.activation}, {problem.layers} layers, counts {problem.counts[:4]}...",
            remedy='Build the chain with loss="mse", activation="relu" and two widths or more.',
        )
    vertices = fewest_vertices(problem.classes, size=size)
    if problem.widths[0] < problem.classes or min(problem.widths) < vertices:
        raise InputError(
            f"widths of at least {vertices}, the deepest at least {problem.classes}",
            got=str(problem.widths),
            remedy="Widen the chain.",
        )
    return vertices


def _norms(classes: int, factors: int, size: int, vertices: int) -> list[float]:
    row = 1 / size + (vertices - size) * ((size - 1) / size) ** 2
    return [classes, classes * row, *[vertices] * (factors - 3), size * classes]


def _square_norms(problem: DeepUnconstrainedFeatures, size: int, vertices: int) -> list[float]:
    return _norms(problem.classes, problem.factors, size, vertices)


def _decays(problem: DeepUnconstrainedFeatures) -> list[float]:
    """Decays of the factors with one column per class."""
    return [*problem.decays[:-1], problem.decays[-1] * problem.counts[0]]


def _value(problem: DeepUnconstrainedFeatures, size: int, vertices: int) -> tuple[float, float]:
    return collapsed_value(problem, math.prod(_square_norms(problem, size, vertices)))


def _unit_factors(problem: DeepUnconstrainedFeatures, size: int, vertices: int) -> list[Tensor]:
    classes, layers = problem.classes, problem.layers
    indicators = torch.zeros(vertices, classes, dtype=torch.float64)
    for k, subset in enumerate(islice(combinations(range(vertices), size), classes)):
        indicators[list(subset), k] = 1
    eye = torch.eye(vertices, dtype=torch.float64)
    compare = indicators.T - (size - 1) / size
    return [torch.eye(classes, dtype=torch.float64), compare, *[eye] * (layers - 2), indicators]


def _shapes(problem: DeepUnconstrainedFeatures) -> list[tuple[int, int]]:
    return [*problem.shapes[:-1], (problem.widths[-1], problem.classes)]


def _placed(part: Float[Tensor, "a b"], shape: tuple[int, int]) -> Tensor:
    """The part in the upper left corner of zeros."""
    whole = part.new_zeros(shape)
    whole[: part.shape[0], : part.shape[1]] = part
    return whole
