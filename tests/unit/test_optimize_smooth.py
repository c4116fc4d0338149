"""L-BFGS and Newton steps on functions whose minima are known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tightframe.core.rng import generator
from tightframe.optimize.smooth import lbfgs, newton_steps


def quadratic(size=20, condition=1e4, seed=0):
    """Value, gradient and Hessian product of 1/2 (x - c)^T A (x - c), and c."""
    draws = generator(seed)
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=draws)).Q
    matrix = basis * torch.logspace(0, torch.log10(torch.tensor(condition)).item(), size, dtype=torch.float64) @ basis.T
    centre = torch.randn(size, dtype=torch.float64, generator=draws)

    def value(x):
        return float(0.5 * (x - centre) @ matrix @ (x - centre)), matrix @ (x - centre)

    return value, lambda x, v: matrix @ v, centre


def rosenbrock(x):
    inner = x[1:] - x[:-1] ** 2
    value = float((100 * inner**2 + (1 - x[:-1]) ** 2).sum())
    gradient = torch.zeros_like(x)
    gradient[:-1] = -400 * x[:-1] * inner - 2 * (1 - x[:-1])
    gradient[1:] += 200 * inner
    return value, gradient


def test_lbfgs_finds_minima():
    value, _, centre = quadratic()
    found, steps = lbfgs(value, torch.zeros(20, dtype=torch.float64), max_iterations=2000)
    # Rounding of a value near zero stops it: 1/2 lambda_min |x - c|^2 within 1e-16 of the values on the way.
    assert torch.allclose(found, centre, atol=1e-7)
    assert 0 < steps <= 2000
    found, _ = lbfgs(rosenbrock, torch.full((8,), -0.5, dtype=torch.float64), max_iterations=2000)
    assert rosenbrock(found)[0] == pytest.approx(0, abs=1e-15) or rosenbrock(found)[0] == pytest.approx(3.98, abs=0.1)


def test_lbfgs_keeps_to_its_budget_and_never_rises():
    start = torch.full((8,), -0.5, dtype=torch.float64)
    values = [rosenbrock(start)[0]]
    for budget in (1, 2, 5, 20):
        found, steps = lbfgs(rosenbrock, start, max_iterations=budget)
        assert steps == budget
        values.append(rosenbrock(found)[0])
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]
    assert torch.equal(start, torch.full((8,), -0.5, dtype=torch.float64))


def test_lbfgs_tells_every_step_and_stops_when_told():
    seen = []

    def stop(step, vector):
        seen.append((step, vector.clone()))
        return step == 7

    found, steps = lbfgs(rosenbrock, torch.zeros(6, dtype=torch.float64), max_iterations=100, every=1, stop=stop)
    assert steps == 7
    assert [step for step, _ in seen] == list(range(1, 8))
    assert torch.equal(seen[-1][1], found)


def test_lbfgs_stops_at_the_gradient_asked_for():
    value, _, _ = quadratic()
    start = torch.zeros(20, dtype=torch.float64)
    found, steps = lbfgs(value, start, max_iterations=2000, gradient_tolerance=1e-2)
    assert 1e-9 < float(value(found)[1].abs().max()) <= 1e-2
    assert steps < lbfgs(value, start, max_iterations=2000, gradient_tolerance=1e-6)[1]


def test_lbfgs_stays_where_the_gradient_is_zero():
    value, _, centre = quadratic()
    found, steps = lbfgs(value, centre, max_iterations=50)
    assert steps == 0
    assert torch.equal(found, centre)


def test_newton_solves_a_quadratic_in_one_step():
    value, product, centre = quadratic(condition=100.0)
    counted = []
    found = newton_steps(
        lambda x: value(x)[1],
        lambda x, v: (counted.append(1), product(x, v))[1],
        centre + 1,
        max_steps=1,
    )
    # MINRES to a relative residual of 1e-10.
    assert torch.allclose(found, centre, atol=1e-7)
    assert len(counted) <= 60


def test_newton_doubles_the_digits():
    # The sum of e^x - x: an error e becomes e^2/2.
    sizes = []
    point = torch.linspace(-0.5, 0.7, 5, dtype=torch.float64)
    for steps in range(4):
        found = newton_steps(
            lambda x: torch.exp(x) - 1, lambda x, v: torch.exp(x) * v, point, max_steps=steps, tolerance=0.0
        )
        sizes.append(float(found.norm()))
    for before, after in pairwise(sizes):
        assert after <= 0.6 * before**2 + 1e-14


def test_newton_passes_over_flat_directions():
    # 1/4 (|x|^2 - 1)^2 has a sphere of minima: the Hessian is singular along it.
    def gradient(x):
        return (x @ x - 1) * x

    def product(x, v):
        return (x @ x - 1) * v + 2 * (x @ v) * x

    start = torch.tensor([0.9, 0.3, -0.2], dtype=torch.float64)
    found = newton_steps(gradient, product, start)
    assert float(found @ found) == pytest.approx(1, abs=1e-13)
    # Straight outward: nothing moves along the sphere.
    assert torch.allclose(found / found.norm(), start / start.norm(), atol=1e-9)


@pytest.mark.parametrize("kind", ["indefinite", "maximum"])
def test_newton_goes_to_the_nearest_critical_point_of_any_kind(kind):
    signs = torch.tensor([1.0, -2.0, 3.0] if kind == "indefinite" else [-1.0, -2.0, -3.0], dtype=torch.float64)
    found = newton_steps(lambda x: signs * x, lambda x, v: signs * v, torch.ones(3, dtype=torch.float64))
    assert float(found.norm()) < 1e-9


def test_newton_never_lengthens_the_gradient():
    # arctan: full steps overshoot and diverge from |x| > 1.39.
    start = torch.tensor([3.0], dtype=torch.float64)
    found = newton_steps(torch.atan, lambda x, v: v / (1 + x * x), start)
    assert float(torch.atan(found).abs()) <= float(torch.atan(start).abs())
    assert torch.equal(found, start)
    near = newton_steps(torch.atan, lambda x, v: v / (1 + x * x), torch.tensor([1.0], dtype=torch.float64))
    assert float(near.abs()) < 1e-12


def test_newton_leaves_a_critical_point_alone():
    calls = []
    found = newton_steps(lambda x: 0 * x, lambda x, v: calls.append(1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(found, torch.ones(3, dtype=torch.float64))
    assert not calls
