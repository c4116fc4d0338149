"""Theorem 3.2 of Zhu et al.: critical points that are not global are strict saddles, with this curvature."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tightframe.core.rng import generator
from tightframe.ufm import UnconstrainedFeatures, solve
from tightframe.ufm.critical_points import newton_point, symmetric_point
from tightframe.ufm.landscape import CriticalPoint, Landscape, classify
from tightframe.ufm.model import Point
from tightframe.ufm.normal_form import NormalForm

CONVEX, LOSSES, BIASES = ("ce", "ls", "mse"), ("ce", "ls", "focal", "mse"), ("none", "free", 0.02)
BUILT = ({"rank": 0}, {"rank": 1}, {"rank": 2}, {"groups": [(1, 2)]}, {"rank": 1, "groups": [(1, 2)]})


def model(**changes) -> UnconstrainedFeatures:
    given = {"classes": 4, "features": 6, "per_class": 5, "weight_decay": (5e-3, 1e-3)}
    return UnconstrainedFeatures(**given | changes)


@cache
def built_point(loss: str, bias: str | float, counts: int | tuple[int, ...], index: int) -> CriticalPoint:
    return symmetric_point(model(loss=loss, bias=bias, per_class=counts), **BUILT[index])


def moved(found: CriticalPoint, step: float) -> Point:
    way, at = found.direction, found.point
    return Point(at.W + step * way.W, at.H + step * way.H, at.b + step * way.b)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("counts", [5, (20, 5, 5, 2)])
@pytest.mark.parametrize("built", range(len(BUILT)))
def test_the_curvature_along_the_certified_direction(loss: str, bias, counts, built: int) -> None:
    found = built_point(loss, bias, counts, built)
    way = found.direction
    assert way.predicted == pytest.approx(-2 * found.excess, rel=1e-12)
    # Both are sums of numbers up to 1 with an excess above 1e-3: thirteen digits less three.
    assert way.curvature == pytest.approx(way.predicted, rel=1e-10)


@pytest.mark.parametrize("loss", CONVEX)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("counts", [5, (20, 5, 5, 2)])
@pytest.mark.parametrize("built", range(len(BUILT)))
def test_no_direction_bends_further_down(loss: str, bias, counts, built: int) -> None:
    # <v, H v> = (data, convex) + 2 <G, dA dB> + lambda |v|^2 >= -(|G| - lambda) |v|^2, attained there.
    found = built_point(loss, bias, counts, built)
    assert found.smallest == pytest.approx(-found.excess, rel=1e-10)


@pytest.mark.parametrize("loss", CONVEX)
@pytest.mark.parametrize("features", [2, 3, 6])
def test_the_bound_on_the_smallest_eigenvalue_holds_at_any_point(loss: str, features: int) -> None:
    problem = model(loss=loss, features=features)
    for seed in range(5):
        landscape = Landscape(NormalForm.of_point(problem, problem.start(seed=seed)))
        norm = float(torch.linalg.matrix_norm(landscape.form.G, 2))
        assert float(landscape.extreme().values[0]) >= problem.nuclear_decay - norm - 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", BIASES)
def test_the_decrease_along_the_direction_lies_in_the_bracket_of_the_proof(loss: str, bias) -> None:
    # AB moves by -t^2 u v^T exactly: f falls by e t^2, less at most t^4 L/(2N) for a loss with Hessian up to L.
    problem = model(loss=loss, bias=bias)
    for built in range(len(BUILT)):
        found = built_point(loss, bias, 5, built)
        for step in (1e-3, 1e-2, 0.1, 0.5, 2.0):
            point = moved(found, step)
            fall = found.value - problem.objective(point.W, point.H, point.b)
            most = step**4 * problem.loss.smoothness / (2 * problem.samples)
            rest = found.excess * step**2 - fall
            assert -most * (not problem.loss.convex) - 1e-14 <= rest <= most + 1e-14


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("features", [3, 4, 5])
def test_from_a_saddle_the_direction_leads_to_a_certified_minimum(loss: str, features: int) -> None:
    problem = model(loss=loss, features=features)
    for built in BUILT[:3]:
        found = symmetric_point(problem, **built)
        solution = solve(problem, start=moved(found, 0.1))
        assert solution.certificate.holds
        assert solution.objective < found.value


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("features", [3, 4, 5])
@pytest.mark.parametrize("counts", [2, (6, 3, 2, 1)])
def test_newton_from_random_starts_finds_global_minima_and_strict_saddles_only(
    loss: str, features: int, counts
) -> None:
    problem = model(loss=loss, features=features, per_class=counts, weight_decay=(5e-3, 5e-3))
    found = [newton_point(problem, start=problem.start(seed=seed, scale=1 + seed % 3)) for seed in range(4)]
    assert "other" not in {point.kind for point in found}
    # The others end at minima of the norm of the gradient above zero, and say so.
    assert sum(point.kind != "not critical" for point in found) >= 1


def test_the_kind_does_not_depend_on_a_rotation_of_the_features() -> None:
    problem = model()
    found = symmetric_point(problem, rank=2)
    Q = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator(0))).Q
    turned = classify(problem, Point(found.point.W @ Q.T, Q @ found.point.H, found.point.b))
    assert turned.kind == found.kind
    assert turned.smallest == pytest.approx(found.smallest, rel=1e-9)
    assert turned.value == pytest.approx(found.value, rel=1e-13)
