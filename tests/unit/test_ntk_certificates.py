"""Certificates by three solvers, against dense solves and the reference's figures, and what depth they ask for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.curves import SampledCurve, circle, coaxial_circles, torus_knot
from tightframe.ntk.certificates import _cholesky_solve, certificate
from tightframe.ntk.circulant import BlockCirculant, circulant_kernel
from tightframe.ntk.depths import recommend
from tightframe.ntk.kernel import relu_ntk

METHODS = ("circulant", "cholesky", "conjugate gradients")


def pair(apart, n=100):
    return [each.uniform(n) for each in coaxial_circles(apart)]


@pytest.mark.parametrize("method", METHODS)
def test_every_solver_solves_the_equation(method):
    curves = pair(0.4)
    points = torch.cat([each.points for each in curves])
    mass = torch.cat([each.weights for each in curves])
    mass = mass / mass.sum()
    found = certificate(curves, 6, method=method, tolerance=1e-10)
    zeta = torch.cat((-torch.ones(100), torch.ones(100))).double()
    kernel = relu_ntk(points, depth=6, exact=True)
    g = torch.linalg.solve(kernel * mass, zeta)
    assert math.isclose(found.norm, float((mass * g * g).sum().sqrt()), rel_tol=1e-8)
    assert float((kernel @ (mass * found.g) - zeta).norm()) < 1e-8
    assert found.solution.status.converged
    assert found.solution.certificate.holds
    assert found.method == method
    assert math.isclose(found.initial, 1.0)


@pytest.mark.parametrize(
    ("apart", "norms"),
    [(0.2, {1: 129, 10: 9.28, 50: 2.00, 250: 0.811}), (0.05, {1: 1700, 10: 73.6, 50: 8.00, 500: 0.98})],
)
def test_norms_of_the_reference(apart, norms):
    for depth, norm in norms.items():
        # The reference weighs both circles alike, here longer ones weigh more; both are rounded to three digits.
        assert math.isclose(certificate(pair(apart, 400), depth).norm, norm, rel_tol=0.01)


def test_conjugate_gradients_say_where_they_end():
    uneven = [each.sample(60, seed=index) for index, each in enumerate(coaxial_circles(0.2))]
    found = certificate(uneven, 2, method="conjugate gradients", max_iterations=3)
    assert found.solution.status.outcome == "budget spent"
    assert not found.solution.certificate.holds
    assert len(found.solution.trace) == 4
    # The residual is that of the product, not of the recurrence, and the bound carries it.
    assert found.bound(1e9) >= found.residual > 1e-8


def test_auto_chooses_and_says():
    assert "rotation" in certificate(pair(0.3), 3).reason
    knots = [torus_knot(2, 3, angle=angle).uniform(60) for angle in (0.5, 0.9)]
    assert certificate(knots, 3).method == "circulant"
    uneven = [each.sample(60, seed=index) for index, each in enumerate(coaxial_circles(0.3))]
    found = certificate(uneven, 10)
    assert found.method == "cholesky"
    assert "120 points" in found.reason
    different = [each.uniform(n) for each, n in zip(coaxial_circles(0.3), (60, 70), strict=True)]
    assert certificate(different, 3).method == "cholesky"


def test_block_circulant_products_solves_and_eigenvalues():
    curves = pair(0.3, 31)
    kernel = relu_ntk(torch.cat([each.points for each in curves]), depth=4)
    matrix = circulant_kernel([each.points for each in curves], 4)
    vector = torch.randn(62, generator=generator(0), dtype=torch.float64)
    torch.testing.assert_close(matrix @ vector, kernel @ vector, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(kernel @ matrix.solve(vector), vector, rtol=0, atol=1e-9)
    values = torch.linalg.eigvalsh(kernel)
    ends = matrix.eigenvalues()
    assert math.isclose(float(ends[0]), float(values[0]), rel_tol=1e-7)
    assert math.isclose(float(ends[-1]), float(values[-1]), rel_tol=1e-10)
    skew = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    full = torch.stack([skew.roll(shift) for shift in range(3)], dim=1)
    once = torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(BlockCirculant(skew[:, None, None]) @ once, full @ once)
    shuffled = curves[0].points[torch.randperm(31, generator=generator(1))]
    assert circulant_kernel([shuffled], 4) is None


def test_recommendation_with_its_evidence():
    curves = pair(0.1, 300)
    found = recommend(curves, depths=[5, 10, 25, 50, 100, 200])
    assert found.depth == 50
    assert math.isclose(found.separation, 0.1)
    assert math.isclose(found.rule, 55)
    assert math.isclose(found.curvature, 1.0, rel_tol=1e-6)
    assert not found.at_end
    assert found.norms == tuple(sorted(found.norms, reverse=True))
    assert max(found.residuals) < 1e-8
    assert "depth 50" in str(found)
    assert recommend(curves, depths=[5, 10]).at_end
    points = torch.cat([each.points for each in curves])
    labels = torch.tensor([0, 1]).repeat_interleave(300)
    cloud = recommend(points, labels, depths=[25, 50, 100])
    # Weights of points are equal, those of curves lengths; the depth is the same.
    assert cloud.depth == 50
    assert cloud.curvature is None
    part = recommend(points, labels, depths=[25], max_points=100)
    assert part.norms[0] < cloud.norms[0] * 1.5
    assert math.isclose(part.separation, 0.1)


def test_recommendation_for_three_classes_sums_over_them():
    circles = [circle(latitude).uniform(80) for latitude in (0.1, 0.4, 0.8)]
    found = recommend(circles, depths=[10])
    squares = 0.0
    for index in range(3):
        zeta = torch.cat([torch.full((80,), -1.0 if k == index else 1.0) for k in range(3)]).double()
        squares += certificate(circles, 10, zeta=zeta).norm ** 2
    assert math.isclose(found.norms[0], math.sqrt(squares), rel_tol=1e-10)


def test_default_depths_reach_what_the_separation_asks_for():
    assert max(recommend(pair(0.02, 1000)).depths) == 550


def test_bad_input():
    curves = pair(0.3, 20)
    off = SampledCurve(2 * curves[1].points, curves[1].weights, True)
    wide = SampledCurve(torch.eye(4).double(), torch.ones(4).double(), False)
    twice = SampledCurve(torch.cat((curves[1].points, curves[1].points[:1])), torch.ones(21).double(), False)
    with pytest.raises(InputError, match="unit sphere"):
        certificate([curves[0], off], 3)
    with pytest.raises(InputError, match="one space"):
        certificate([curves[0], wide], 3)
    with pytest.raises(InputError, match="two curves"):
        certificate(curves[:1], 3)
    with pytest.raises(InputError, match="method"):
        certificate(curves, 3, method="direct")
    with pytest.raises(InputError, match="uniform points"):
        certificate([curves[0], twice_without_last(twice)], 3, method="circulant")
    with pytest.raises(InputError, match="depth"):
        certificate(curves, 0)
    with pytest.raises(InputError, match="vector"):
        certificate(curves, 3, zeta=torch.ones(3))
    for time in (0.0, math.nan):
        with pytest.raises(InputError, match="time"):
            certificate(curves, 3).bound(time)
    assert certificate(curves, 3).bound(math.inf) == certificate(curves, 3).residual
    for bad in ([curves[0], twice], [curves[0], curves[0]]):
        with pytest.raises(DegenerateError, match="differ"):
            certificate(bad, 3)
    singular = torch.ones(3, 3, dtype=torch.float64)
    with pytest.raises(DegenerateError, match="on the diagonal"):
        _cholesky_solve(singular - 1e-9 * torch.eye(3).double(), torch.ones(3).double())
    with pytest.raises(InputError, match="depths to try"):
        recommend(curves, depths=[])
    with pytest.raises(DegenerateError, match="apart"):
        recommend([curves[0], curves[0]])


def twice_without_last(curve):
    order = torch.randperm(20, generator=generator(0))
    return SampledCurve(curve.points[:20][order], curve.weights[:20], False)


@pytest.mark.parametrize("mass", [0.0, -1.0, math.nan])
def test_weights_that_make_no_measure_are_refused(mass):
    curves = pair(0.3, 20)
    weights = curves[0].weights.clone()
    weights[4] = mass
    with pytest.raises(InputError, match="one weight above 0"):
        certificate([SampledCurve(curves[0].points, weights, True), curves[1]], 3)


def test_arrays_are_recommended_the_depth_of_tensors():
    curves = pair(0.3, 60)
    points = torch.cat([each.points for each in curves])
    labels = torch.tensor([0, 1]).repeat_interleave(60)
    found = recommend(points, labels, depths=[5, 15])
    named = recommend(points.numpy(), np.array(["inner", "outer"])[labels.numpy()], depths=[5, 15])
    assert named == found
    with pytest.raises(InputError, match="Sample it"):
        recommend(coaxial_circles(0.3))


def test_the_amount_for_equal_points_is_said_and_is_enough():
    curves = pair(0.3, 60)
    twice = SampledCurve(torch.cat((curves[0].points, curves[0].points[:1])), torch.ones(61).double(), False)
    with pytest.raises(DegenerateError, match="add 5e-13 to the diagonal"):
        certificate([twice, curves[1]], 5)
    points = torch.cat((twice.points, curves[1].points))
    weighted = relu_ntk(points, depth=5) / len(points)
    weighted.diagonal().add_(5e-13)
    assert int(torch.linalg.cholesky_ex(weighted).info) == 0
