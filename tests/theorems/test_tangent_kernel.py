"""What the theory says of depth, width and certificates: limits, bounds and monotone trends on curves."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.rng import generator
from tightframe.data.curves import SampledCurve, coaxial_circles, torus_knot, wavy_circle
from tightframe.ntk.certificates import certificate
from tightframe.ntk.dynamics import LinearDynamics
from tightframe.ntk.empirical import empirical_ntk
from tightframe.ntk.finite import compare_with_kernel, relu_network
from tightframe.ntk.kernel import relu_nngp, relu_ntk
from tightframe.ntk.recursion import kernel_of_angle


def joined(curves):
    points = torch.cat([each.points for each in curves])
    mass = torch.cat([each.weights for each in curves])
    return points, mass / mass.sum()


def deviation(width, depth, seeds):
    points, _ = joined([each.uniform(12) for each in coaxial_circles(0.4)])
    expected = relu_ntk(points, depth=depth) + relu_nngp(points, depth=depth) * 2 / width
    worst = []
    for seed in seeds:
        model = relu_network(3, width=width, depth=depth, seed=seed)
        worst.append(float((empirical_ntk(model, points).values / (width / 2) - expected).abs().max()) / depth)
    return sorted(worst)[len(worst) // 2]


def test_width_concentrates_the_kernel_about_its_formula():
    """Deviations of the order of (L / n)^(1/2); the reference measures about 3.5 times that at its largest."""
    narrow, wide = deviation(32, 3, range(5)), deviation(512, 3, range(5))
    assert wide < 3.5 * math.sqrt(3 / 512)
    # Sixteen times the width: a quarter of the deviation, within the scatter of medians of five.
    assert 0.1 < wide / narrow < 0.5
    assert deviation(128, 10, range(3)) > deviation(128, 2, range(3))


def test_kernel_decays_with_angle_and_faster_with_depth():
    angles = torch.linspace(0, math.pi / 2, 200, dtype=torch.float64)
    # Without its constant part, near a quarter, as a share of its value at zero.
    shapes = []
    for depth in (5, 25, 125, 625):
        values = kernel_of_angle(angles, depth) / depth
        assert bool((values[1:120] < values[:119]).all())
        shapes.append(values)
    half = [int((shape < 0.6).nonzero()[0]) for shape in shapes]
    assert half == sorted(half, reverse=True)
    assert half[0] > 10 * half[-1]
    # The limit of the kernel over depth away from zero is a quarter.
    assert abs(float(shapes[-1][-1]) - 0.25) < 0.01


@pytest.mark.parametrize("apart", [0.8, 0.2, 0.05])
def test_deeper_networks_admit_smaller_certificates(apart):
    curves = [each.uniform(200) for each in coaxial_circles(apart)]
    norms = [certificate(curves, depth).norm for depth in (1, 2, 5, 10, 25, 50, 125, 250)]
    assert norms == sorted(norms, reverse=True)


def test_closer_curves_need_larger_certificates_and_depth_closes_the_gap():
    def ratio(depth):
        near, far = (certificate([each.uniform(300) for each in coaxial_circles(a)], depth).norm for a in (0.1, 0.4))
        return near / far

    assert ratio(1) > 10
    assert ratio(125) < 2


def test_depth_removes_the_cost_of_curvature():
    def ratio(depth):
        waved, plain = (
            certificate([wavy_circle(height, 0.15, waves).uniform(240) for height in (0.3, 0.7)], depth).norm
            for waves in (12, 0)
        )
        return waved / plain

    assert ratio(10) > 3
    assert ratio(125) < 2


@pytest.mark.parametrize("depth", [1, 8, 60])
@pytest.mark.parametrize("name", ["circles", "knots", "random points"])
def test_certificate_bounds_the_error_at_every_time(name, depth):
    curves = {
        "circles": [each.uniform(80) for each in coaxial_circles(0.3)],
        "knots": [torus_knot(2, 3, angle=angle).uniform(90) for angle in (0.6, 0.9)],
        "random points": [each.sample(70, seed=index) for index, each in enumerate(coaxial_circles(0.3))],
    }[name]
    found = certificate(curves, depth)
    points, mass = joined(curves)
    times = torch.logspace(-3, 4, 60).tolist()
    errors = LinearDynamics(relu_ntk(points, depth=depth), weights=mass).norms(found.solution.zeta, times)
    bounds = torch.tensor([found.bound(time) for time in times], dtype=torch.float64)
    assert bool((errors <= bounds * (1 + 1e-9)).all())
    # Somewhere it is not far off: a bound of another order would be of no use.
    assert float((errors / bounds).max()) > 0.9


def test_bound_is_attained_by_one_eigenvector():
    curves = [each.uniform(40) for each in coaxial_circles(0.3)]
    points, mass = joined(curves)
    roots = mass.sqrt()
    values, vectors = torch.linalg.eigh(roots[:, None] * relu_ntk(points, depth=5) * roots)
    zeta = vectors[:, -3] / roots
    rate = float(values[-3])
    found = certificate(curves, 5, zeta=zeta)
    assert math.isclose(found.norm, 1 / rate, rel_tol=1e-8)
    # At t = 1 / lambda the error is 1 / e, and so is the bound.
    assert math.isclose(found.bound(1 / rate), math.exp(-1), rel_tol=1e-7)


def test_residuals_belong_to_the_bound():
    """An early stop leaves a small g whose own bound is broken, and a residual that mends it."""
    curves = [each.sample(60, seed=index) for index, each in enumerate(coaxial_circles(0.2))]
    zeta = torch.randn(120, generator=generator(5), dtype=torch.float64)
    found = certificate(curves, 2, zeta=zeta, method="conjugate gradients", max_iterations=2)
    points, mass = joined(curves)
    times = torch.logspace(-2, 4, 40, dtype=torch.float64)
    errors = LinearDynamics(relu_ntk(points, depth=2), weights=mass).norms(zeta, times.tolist())
    assert bool((errors > found.norm / (math.e * times)).any())
    bounds = torch.tensor([found.bound(time) for time in times.tolist()], dtype=torch.float64)
    assert bool((errors <= bounds * (1 + 1e-9)).all())


def test_a_wide_network_follows_its_linear_systems():
    width, depth = 512, 3
    points, _ = joined([each.uniform(15) for each in coaxial_circles(0.5)])
    targets = torch.ones(30, dtype=torch.float64)
    targets[15:] = -1
    model = relu_network(3, width=width, depth=depth, seed=1)
    step = 0.5 / (width / 2 * float(LinearDynamics(relu_ntk(points, depth=depth)).rates[-1]))
    found = compare_with_kernel(model, points, targets, depth=depth, width=width, step=step, records=[0, 1, 10, 60])
    assert float(found.measured[-1]) < 0.5 * float(found.measured[0])
    # Both deviate as the kernel moves and as the width leaves it from its limit, by shares of the order n^(-1/2) of
    # the initial error, 0.044; a kernel wrong by a factor of two would be off by about 0.2.
    assert float((found.measured - found.empirical).abs().max() / found.measured[0]) < 0.044
    assert float((found.measured - found.infinite).abs().max() / found.measured[0]) < 2 * 0.044
    assert found.drift < 0.3
    wider = relu_network(3, width=1024, depth=depth, seed=1)
    again = compare_with_kernel(wider, points, targets, depth=depth, width=1024, step=step / 2, records=[0, 60])
    assert again.drift < found.drift


def test_samples_of_a_curve_converge_to_its_certificate():
    coarse, fine, finest = (
        certificate([each.uniform(n) for each in coaxial_circles(0.2)], 25).norm for n in (25, 100, 400)
    )
    assert abs(fine / finest - 1) < 0.02
    assert abs(coarse / finest - 1) > 2 * abs(fine / finest - 1)


def test_orders_of_points_do_not_matter():
    curves = [each.uniform(30) for each in coaxial_circles(0.3)]
    turned = [SampledCurve(each.points.flip(0), each.weights, True) for each in curves]
    assert math.isclose(certificate(curves, 7).norm, certificate(turned, 7).norm, rel_tol=1e-9)
