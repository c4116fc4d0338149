"""Optima of chains in closed form, against brute force, the plain model and gradients."""

from __future__ import annotations

import math
from itertools import combinations

import numpy
import pytest
import torch
from scipy.optimize import minimize_scalar

from tightframe.core.errors import InputError
from tightframe.ufm.chains import collapsed_value, deep_optimum
from tightframe.ufm.extended import DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum


def chain(factors=3, *, classes=4, width=6, per_class=5, decay=2e-3, **changes):
    usual = {
        "classes": classes,
        "widths": (width,) * (factors - 1),
        "per_class": per_class,
        "decays": tuple(decay * (1 + i) for i in range(factors)),
    }
    return DeepUnconstrainedFeatures(**usual | changes)


def slope(problem, point):
    return math.sqrt(sum(float(part.square().sum()) for part in problem.gradient(point)[1].factors))


@pytest.mark.parametrize("factors", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("decay", [1e-4, 2e-3, 2e-2, 0.2])
def test_the_value_is_the_least_over_q(factors, decay):
    """collapse.md, section 4: (q^{L/2}/P - 1)^2/2 + LKq/2 on a fine grid, refined."""
    problem = chain(factors, decay=decay)
    found = deep_optimum(problem)
    P = math.sqrt(math.prod(problem.decays) * 5)

    def objective(s):
        return (s - 1) ** 2 / 2 + factors * 4 * (P * s) ** (2 / factors) / 2

    grid = numpy.linspace(1e-3, 1, 2000)
    best = grid[numpy.argmin(objective(grid))]
    least = float(
        minimize_scalar(
            objective, bounds=(max(best - 2e-3, 1e-12), best + 2e-3), method="bounded", options={"xatol": 1e-12}
        ).fun
    )
    assert found.value == pytest.approx(min(least, 0.5), rel=1e-12)
    assert (found.scale > 0) is (least < 0.5) is (found.threshold < 1)


@pytest.mark.parametrize("factors", [2, 3, 4, 6])
@pytest.mark.parametrize("per_class", [5, (1, 5, 9, 5)])
@pytest.mark.parametrize("width", [6, 4, 2])
def test_the_point_attains_the_value_and_is_critical(factors, per_class, width):
    problem = chain(factors, per_class=per_class, width=width)
    found = deep_optimum(problem)
    point = found.point(seed=7)
    assert found.known
    assert problem.objective(point) == pytest.approx(found.value, rel=1e-13)
    assert slope(problem, point) < 1e-14
    torch.testing.assert_close(
        (point.weights[0] @ problem.levels(point)[-1])[:, [0]], found.logits[:, [0]], rtol=1e-12, atol=1e-14
    )
    assert found.frame == {6: "orthogonal frame", 4: "orthogonal frame", 2: "projection"}[width] or per_class != 5


@pytest.mark.parametrize("factors", [2, 3, 4])
def test_a_width_below_the_classes_keeps_the_largest_ones(factors):
    counts = (1, 5, 9, 5)
    problem = chain(factors, per_class=counts, width=2)
    strength = factors / 2 * math.prod(problem.decays) ** (1 / factors)
    shares = []
    for count in counts:
        s = torch.linspace(0, math.sqrt(count), 200001, dtype=torch.float64)
        shares.append(float(((s - math.sqrt(count)) ** 2 / 40 + strength * s ** (2 / factors)).min()))
    kept = [sum(shares[k] if k in pair else counts[k] / 40 for k in range(4)) for pair in combinations(range(4), 2)]
    # The grid misses the minimum by at most (5e-5)^2 / 40.
    assert deep_optimum(problem).value == pytest.approx(min(kept), abs=1e-9)


@pytest.mark.parametrize("factors", [3, 4, 5])
def test_with_relu_the_point_has_the_same_value(factors):
    linear, relu = chain(factors), chain(factors, activation="relu")
    found = deep_optimum(relu)
    assert found.value == deep_optimum(linear).value
    assert not found.known
    point = found.point(seed=1)
    assert relu.objective(point) == pytest.approx(found.value, rel=1e-13)
    # One-sided slopes at the kinks are those of the decay alone, which are zero where the entries are.
    assert slope(relu, point) < 1e-14
    assert all(float(level.min()) >= 0 for level in relu.levels(point))


@pytest.mark.parametrize("factors", [2, 3, 5])
@pytest.mark.parametrize("counts", [3, (8, 3, 2)])
def test_zero_begins_at_the_threshold(factors, counts):
    base = chain(factors, classes=3, per_class=counts)
    for ratio, zero in ((0.999, False), (1.001, True)):
        scale = ratio / deep_optimum(base).threshold
        problem = chain(factors, classes=3, per_class=counts, decays=tuple(scale * d for d in base.decays))
        found = deep_optimum(problem)
        assert found.threshold == pytest.approx(ratio, rel=1e-12)
        assert (found.scale == 0) is zero is (found.frame == "zero")
        at_zero = 0.5
        assert found.value == pytest.approx(at_zero, rel=1e-12) if zero else found.value < at_zero


@pytest.mark.parametrize("loss", ["mse", "ce", "ls", "focal"])
@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_one_layer_is_the_plain_model(loss, activation):
    problem = chain(2, loss=loss, activation=activation, decay=1e-3)
    plain = UnconstrainedFeatures(
        classes=4, features=6, per_class=5, loss=loss, weight_decay=problem.decays, bias="none"
    )
    ours, theirs = deep_optimum(problem), optimum(plain)
    assert ours.known
    assert ours.value == pytest.approx(theirs.value, rel=1e-12)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", ["ce", "ls", "focal"])
@pytest.mark.parametrize("factors", [3, 4])
def test_the_best_simplex_is_critical_but_not_called_global(loss, factors):
    problem = chain(factors, loss=loss, decay=1e-3)
    found = deep_optimum(problem)
    assert not found.known
    assert found.frame == "simplex ETF"
    point = found.point()
    assert problem.objective(point) == pytest.approx(found.value, rel=1e-13)
    assert slope(problem, point) < 1e-13
    assert deep_optimum(chain(factors, loss=loss, decay=10.0)).frame == "zero"


@pytest.mark.parametrize("factors", [2, 3, 6])
@pytest.mark.parametrize("target", [1.0, 3.0])
def test_collapsed_value_is_a_scalar_minimum(factors, target):
    problem = chain(factors, loss=SquaredError(target=target))
    value, scale = collapsed_value(problem, 50.0)
    strength = (50 * 5 * math.prod(problem.decays)) ** (1 / factors)
    scales = torch.linspace(0, target, 400001, dtype=torch.float64)
    values = (scales - target) ** 2 / 2 + factors / 2 * strength * scales ** (2 / factors)
    assert value == pytest.approx(float(values.min()), rel=1e-8)
    assert scale == pytest.approx(float(scales[values.argmin()]), abs=1e-4)
    assert deep_optimum(problem).value == pytest.approx(collapsed_value(problem, 4.0**factors)[0], rel=1e-12)


@pytest.mark.parametrize(
    "problem",
    [
        chain(3, activation="relu", per_class=(5, 4, 3, 2)),
        chain(3, activation="relu", width=3),
        chain(3, activation="relu", loss="ce"),
        chain(3, loss=SquaredError(scale=2.0)),
        chain(3, loss="ce", per_class=(5, 4, 3, 2)),
        chain(3, loss="ce", width=2),
    ],
)
def test_where_none_is_known_it_says_so(problem):
    found = deep_optimum(problem)
    assert not found.known
    assert found.value is None
    assert found.reason
    with pytest.raises(InputError, match="known collapsed point"):
        found.point()


def test_two_classes_with_relu_are_proven():
    assert deep_optimum(chain(5, classes=2, activation="relu")).known
    assert "nuclear norm" in deep_optimum(chain(3, activation="relu")).reason
    assert "low rank" in deep_optimum(chain(4, activation="relu")).reason
