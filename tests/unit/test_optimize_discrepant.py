"""Descent with discrepant steps: against autograd, an integrated flow, scalar equations and the convex program."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.optimize.discrepant import descend_discrepant, flow_limit, implicit_weight, ratio_of_weight
from tightframe.optimize.sparse_corruption import separate_corruption


def measurements(rows: int, columns: int, corrupted: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    source = generator(seed)
    J = torch.randn(rows, columns, generator=source, dtype=torch.float64) / columns**0.5
    theta = torch.randn(columns, generator=source, dtype=torch.float64)
    s = torch.zeros(rows, dtype=torch.float64)
    s[:corrupted] = 2 * torch.sign(torch.randn(corrupted, generator=source, dtype=torch.float64))
    return J, J @ theta + s, theta, s


def distance(found, other) -> float:
    gap = torch.cat([found.theta - other.theta, found.s - other.s])
    return float(torch.linalg.vector_norm(gap) / torch.linalg.vector_norm(torch.cat([other.theta, other.s])))


@pytest.mark.parametrize("steps", [1, 7])
def test_steps_are_those_of_autograd(steps):
    J, y, _, _ = measurements(6, 4, 2)
    ratio, scale, share = 0.8, 0.3, 0.5
    step = share / (float(torch.linalg.svdvals(J)[0]) ** 2 + 4 * ratio * float(y.abs().max()))
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    u, v = (torch.full((6,), scale, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for _ in range(steps):
        loss = 0.5 * (J @ theta + u * u - v * v - y).square().sum()
        slopes = torch.autograd.grad(loss, (theta, u, v))
        with torch.no_grad():
            for variable, slope, factor in zip((theta, u, v), slopes, (1.0, ratio, ratio), strict=True):
                variable -= factor * step * slope
    found = descend_discrepant(J, y, ratio=ratio, scale=scale, step_share=share, tolerance=1e-15, max_steps=steps)
    for name, expected in (("theta", theta), ("u", u), ("v", v), ("s", u * u - v * v)):
        assert torch.allclose(found.variables[name], expected.detach(), rtol=1e-12, atol=1e-14), name
    expected = 0.5 * float((J @ theta + u * u - v * v - y).detach().square().sum())
    assert found.objective == pytest.approx(expected, rel=1e-12)
    assert found.status.outcome == "budget spent"
    assert found.trace["step"] == [0, steps]


@pytest.mark.parametrize("rows", [5, 8])
def test_the_limit_of_the_flow_is_that_of_the_integrated_equation(rows):
    J, y, _, _ = measurements(rows, 6, 2)
    ratio, scale, count = 0.7, 0.1, 6
    matrix, values = J.numpy(), y.numpy()

    def flow(_, point):
        theta, u, v = point[:count], point[count : count + rows], point[count + rows :]
        residual = matrix @ theta + u * u - v * v - values
        return numpy.concatenate([-matrix.T @ residual, -2 * ratio * u * residual, 2 * ratio * v * residual])

    start = numpy.concatenate([numpy.zeros(count), numpy.full(2 * rows, scale)])
    ended = solve_ivp(flow, (0, 3000), start, method="LSODA", rtol=1e-10, atol=1e-12).y[:, -1]
    found = flow_limit(J, y, ratio=ratio, scale=scale)
    assert found.status.converged
    # Rows of s near zero converge at rates of about 8 alpha a^2 = 0.056: e^-168 is nothing, the tolerances remain.
    assert numpy.abs(found.theta.numpy() - ended[:count]).max() < 1e-6
    s = ended[count : count + rows] ** 2 - ended[count + rows :] ** 2
    assert numpy.abs(found.s.numpy() - s).max() < 1e-6


@pytest.mark.parametrize("scale", [0.5, 1e-3, 1e-30, 1e-150])
def test_one_measurement_solves_a_scalar_equation(scale):
    j, y, ratio = 1.5, 2.0, ratio_of_weight(0.5, scale=scale)

    def defect(nu: float) -> float:
        exponent = 4 * ratio * nu + 2 * math.log(scale)
        return j * j * nu + math.exp(min(exponent, 700)) - math.exp(2 * math.log(scale) - 4 * ratio * nu) - y

    nu = brentq(defect, 0, 1, xtol=1e-15)
    found = flow_limit(torch.tensor([[j]]), torch.tensor([y]), ratio=ratio, scale=scale)
    # The equation is solved to 1e-12 y, and its slope is at least j^2.
    assert float(found.nu) == pytest.approx(nu, abs=1e-11)
    assert float(found.theta) == pytest.approx(j * nu, abs=1e-11)


def test_descent_tends_to_the_flow_in_proportion_to_the_step():
    J, y, _, _ = measurements(10, 20, 2)
    ratio, scale = 1.0, 0.05
    limit = flow_limit(J, y, ratio=ratio, scale=scale)
    gaps = []
    for share in (0.2, 0.1, 0.05):
        found = descend_discrepant(J, y, ratio=ratio, scale=scale, step_share=share)
        assert found.status.converged
        gaps.append(distance(found, limit))
    # First order: halving the step halves the distance, up to terms of second order.
    assert [a / b for a, b in pairwise(gaps)] == pytest.approx([2, 2], rel=0.1)


def test_with_the_weight_held_the_distance_to_the_convex_solution_falls_as_one_over_the_logarithm():
    J, y, _, _ = measurements(20, 40, 3)
    convex = separate_corruption(J, y, weight=0.8, tolerance=1e-14)
    assert 0 < int((convex.s.abs() > 1e-6).sum()) < 20
    products = []
    for scale in (1e-50, 1e-100, 1e-150):
        limit = flow_limit(J, y, ratio=ratio_of_weight(0.8, scale=scale), scale=scale)
        assert limit.status.converged
        products.append(-math.log(scale) * distance(limit, convex))
    # Powers of a are left from rows with |nu_i| just below the weight, and a relative 1 / log(1/a), at most 1/115.
    assert products == pytest.approx([products[-1]] * 3, rel=0.05)
    assert products[-1] > 0.01


def test_with_the_ratio_held_it_does_not_fall():
    J, y, _, _ = measurements(20, 40, 3)
    convex = separate_corruption(J, y, weight=0.8)
    found = [distance(flow_limit(J, y, ratio=1 / 0.8, scale=scale), convex) for scale in (1e-2, 1e-20, 1e-100)]
    assert min(found[1:]) > 0.2


def test_exact_recovery_from_a_tall_matrix():
    J, y, theta, s = measurements(40, 5, 6)
    scale, weight = 1e-6, 5.0
    found = descend_discrepant(J, y, ratio=ratio_of_weight(weight, scale=scale), scale=scale, tolerance=1e-6)
    assert found.status.converged
    # Rows off the support keep a residual of at most 1e-6 max|y|; the rows of J are enough to bound theta by it.
    assert float((found.theta - theta).abs().max()) < 1e-4
    assert float((found.s - s).abs().max()) < 1e-4
    assert torch.equal(found.s, found.u.square() - found.v.square())


def test_rows_without_corruption_keep_a_power_of_the_scale():
    J, y, _, s = measurements(30, 5, 4)
    weight, scale = 5.0, 1e-8
    limit = flow_limit(J, y, ratio=ratio_of_weight(weight, scale=scale), scale=scale)
    power = 2 * (1 - limit.nu.abs()[s == 0] / weight)
    # |s_i| = 2 a^2 sinh(4 alpha |nu_i|) and a^-2 ... = a^(2 - 2 |nu_i| / weight) (1 - a^(4 |nu_i| / weight)).
    expected = scale**power * (1 - scale ** (4 * limit.nu.abs()[s == 0] / weight))
    assert torch.allclose(limit.s.abs()[s == 0], expected, rtol=1e-6, atol=1e-30)
    assert float(power.min()) > 0.1


def test_the_weight_and_the_ratio_are_inverse_to_each_other():
    assert implicit_weight(ratio_of_weight(0.37, scale=1e-5), scale=1e-5) == pytest.approx(0.37, rel=1e-14)
    assert implicit_weight(2.0, scale=1e-8) == pytest.approx(2 * implicit_weight(2.0, scale=1e-4), rel=1e-14)


def test_both_refuse_what_they_cannot_solve():
    J, y = torch.ones(3, 2), torch.ones(3)
    good = {"ratio": 1.0, "scale": 1e-3}
    for bad, message in [
        ({"ratio": 0.0}, "ratio is a number above zero"),
        ({"scale": 1.0}, "scale from"),
        ({"scale": 1e-160}, "scale from"),
        ({"scale": float("nan")}, "scale from"),
        ({"tolerance": 0.0}, "tolerance is a number above zero"),
    ]:
        for solver in (descend_discrepant, flow_limit):
            with pytest.raises(InputError, match=message):
                solver(J, y, **good | bad)
    for bad, message in [({"step_share": 1.5}, "step_share of at most 1"), ({"max_steps": 0}, "max_steps")]:
        with pytest.raises(InputError, match=message):
            descend_discrepant(J, y, **good | bad)
    with pytest.raises(InputError, match="not all zero"):
        descend_discrepant(J, torch.zeros(3), **good)
    with pytest.raises(InputError, match="max_iterations"):
        flow_limit(J, y, **good, max_iterations=0)
    with pytest.raises(InputError, match="scale from"):
        ratio_of_weight(1.0, scale=2.0)
    with pytest.raises(InputError, match="one value for each"):
        flow_limit(J, torch.ones(2), **good)


def test_a_flow_that_is_out_of_budget_says_so():
    J, y, _, _ = measurements(20, 40, 3)
    found = flow_limit(J, y, ratio=20.0, scale=1e-20, max_iterations=2)
    assert found.status.outcome == "budget spent"
    assert len(found.trace) == 3


def test_measurements_of_zero_have_a_flow_that_rests():
    found = flow_limit(torch.ones(3, 2), torch.zeros(3), ratio=1.0, scale=1e-3)
    assert found.status.converged
    assert not found.theta.any()
