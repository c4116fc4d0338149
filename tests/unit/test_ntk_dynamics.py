"""Linear dynamics against integration step by step, and against matrix exponentials."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.ntk.dynamics import LinearDynamics, lanczos_errors
from tightframe.ntk.finite import compare_with_kernel, gradient_descent, relu_network
from tightframe.ntk.kernel import relu_ntk
from tightframe.ntk.operator import KernelOperator
from tightframe.ntk.recursion import Architecture


@pytest.fixture
def problem():
    source = generator(0)
    points = torch.nn.functional.normalize(torch.randn(40, 3, generator=source, dtype=torch.float64))
    return points, torch.randn(40, generator=source, dtype=torch.float64)


def test_errors_are_the_matrix_exponential(problem):
    points, zeta = problem
    kernel = relu_ntk(points, depth=3)
    times = [0.0, 0.3, 2.0, 50.0]
    weights = torch.rand(40, generator=generator(1), dtype=torch.float64) / 20 + 1e-3
    for mass in (None, weights):
        measure = torch.full((40,), 1 / 40, dtype=torch.float64) if mass is None else mass
        expected = torch.stack([torch.linalg.matrix_exp(-t * kernel * measure) @ zeta for t in times])
        dynamics = LinearDynamics(kernel, weights=mass)
        torch.testing.assert_close(dynamics.errors(zeta, times), expected, rtol=1e-9, atol=1e-11)
        norms = (expected.square() * measure).sum(1).sqrt()
        torch.testing.assert_close(dynamics.norms(zeta, times), norms, rtol=1e-9, atol=1e-11)


def test_steps_are_those_of_gradient_descent(problem):
    points, zeta = problem
    kernel = relu_ntk(points, depth=2)
    dynamics = LinearDynamics(kernel)
    step = 1.7 / float(dynamics.rates[-1])
    expected, errors = [zeta], zeta
    for _ in range(7):
        errors = errors - step * kernel @ errors / 40
        expected.append(errors)
    found = dynamics.after_steps(zeta, step, [0, 1, 7])
    torch.testing.assert_close(found, torch.stack([expected[0], expected[1], expected[7]]), rtol=1e-10, atol=1e-11)
    with pytest.raises(InputError, match="a step in"):
        dynamics.after_steps(zeta, 2.1 / float(dynamics.rates[-1]), [1])


def test_lanczos_is_the_exponential(problem):
    points, zeta = problem
    times = [0.0, 0.5, 5.0, 100.0]
    exact = LinearDynamics(relu_ntk(points, depth=5)).errors(zeta, times)
    operator = KernelOperator(points, Architecture(5), weights=torch.full((40,), 1 / 40, dtype=torch.float64))
    found = lanczos_errors(operator, zeta, times, tolerance=1e-10)
    assert float((found - exact).norm(dim=1).max()) < 1e-9 * float(zeta.norm())
    # An eigenvector ends it at once; zero stays zero.
    matrix = relu_ntk(points, depth=5) / 40
    values, vectors = torch.linalg.eigh(matrix)
    torch.testing.assert_close(
        lanczos_errors(matrix, vectors[:, -1], [3.0])[0],
        vectors[:, -1] * torch.exp(-3 * values[-1]),
        rtol=0,
        atol=1e-12,
    )
    assert float(lanczos_errors(matrix, torch.zeros(40), [3.0]).abs().max()) == 0
    with pytest.raises(DegenerateError, match="Lanczos"):
        lanczos_errors(torch.diag(torch.logspace(0, 5, 200).double()), torch.ones(200).double(), [1.0], max_products=6)


def test_descent_is_that_of_the_loss():
    model = relu_network(3, width=8, depth=2, seed=1)
    twin = relu_network(3, width=8, depth=2, seed=1)
    points = torch.randn(6, 3, generator=generator(2), dtype=torch.float64)
    targets = torch.ones(6, dtype=torch.float64)
    found = gradient_descent(model, points, targets, step=1e-3, records=[0, 3])
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (0.5 * (twin(points)[:, 0] - targets).square().mean()).backward()
        optimizer.step()
    torch.testing.assert_close(found[1], (twin(points)[:, 0] - targets).detach(), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(found[0], found[1])


def test_bad_input(problem):
    points, zeta = problem
    kernel = relu_ntk(points, depth=2)
    for bad, message in (
        (kernel[:5], "kernel \\(n, n\\)"),
        (kernel + torch.triu(kernel), "symmetric"),
        (-kernel, "positive semidefinite"),
        (kernel * math.nan, "finite"),
    ):
        with pytest.raises(InputError, match=message):
            LinearDynamics(bad)
    dynamics = LinearDynamics(kernel)
    with pytest.raises(InputError, match="times"):
        dynamics.errors(zeta, [-1.0])
    with pytest.raises(InputError, match="vector"):
        dynamics.errors(zeta[:3], [1.0])
    with pytest.raises(InputError, match="weights above 0"):
        LinearDynamics(kernel, weights=torch.zeros(40))
    model = relu_network(3, width=4, depth=1)
    with pytest.raises(InputError, match="begin with 0"):
        compare_with_kernel(model, points, zeta, depth=1, width=4, step=1e-3, records=[1])
    with pytest.raises(InputError, match="increasing"):
        gradient_descent(model, points, zeta, step=1e-3, records=[2, 1])
    with pytest.raises(InputError, match="step"):
        gradient_descent(model, points, zeta, step=0.0, records=[1])
    with pytest.raises(DegenerateError, match="finite"):
        gradient_descent(model, points, zeta, step=1e9, records=[0, 30])


def test_the_limit_of_infinite_time_keeps_what_the_kernel_does_not_see(problem):
    points, zeta = problem
    # Rank three of forty: what is left is the part orthogonal to the range.
    kernel = points @ points.T
    basis = torch.linalg.qr(points).Q
    left = zeta - basis @ (basis.T @ zeta)
    dynamics = LinearDynamics(kernel)
    found = dynamics.errors(zeta, [0.0, math.inf])
    torch.testing.assert_close(found, torch.stack((zeta, left)), rtol=1e-10, atol=1e-12)
    norm = dynamics.norms(zeta, [math.inf])[0]
    assert math.isclose(float(norm), float(left.square().mean().sqrt()), rel_tol=1e-10)
    assert float(LinearDynamics(relu_ntk(points, depth=3)).errors(zeta, [math.inf]).abs().max()) == 0
    nothing = LinearDynamics(torch.zeros(40, 40, dtype=torch.float64)).errors(zeta, [math.inf])[0]
    torch.testing.assert_close(nothing, zeta, rtol=1e-14, atol=0)
    with pytest.raises(InputError, match="finite numbers"):
        lanczos_errors(kernel, zeta, [math.inf])
    with pytest.raises(InputError, match="at least 0"):
        dynamics.errors(zeta, [math.nan])


def test_lanczos_takes_single_precision_and_names_bad_input(problem):
    points, zeta = problem
    kernel = relu_ntk(points.float(), depth=3) / 40
    found = lanczos_errors(kernel, zeta.float(), [2.0])
    exact = LinearDynamics(40 * kernel).errors(zeta.float(), [2.0])
    assert found.dtype == torch.float64
    # Rates of the two forms differ by the rounding of kernel times 40 in float32, 1e-7 of them.
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)
    for bad, start, message in (
        (kernel, zeta * math.nan, "finite vector"),
        (kernel, zeta[:3], "vector \\(40,\\)"),
        (kernel, zeta[:, None], "tensor \\(n,\\)"),
        (kernel.numpy(), zeta, "from_numpy"),
        (torch.triu(kernel), zeta, "symmetric"),
    ):
        with pytest.raises(InputError, match=message):
            lanczos_errors(bad, start, [1.0])


def test_tasks_of_gradient_descent_fit_together(problem):
    points, zeta = problem
    model = relu_network(3, width=4, depth=1)
    for inputs, targets, message in (
        (points, zeta[:, None], "targets are a tensor \\(40,\\)"),
        (points, zeta[:3], "targets are a tensor"),
        (points.float(), zeta, "precision of the weights"),
        (points, zeta * math.nan, "finite points and targets"),
    ):
        with pytest.raises(InputError, match=message):
            gradient_descent(model, inputs, targets, step=1e-3, records=[0, 1])
    frozen = relu_network(3, width=4, depth=1).requires_grad_(False)
    with pytest.raises(InputError, match="trainable"):
        gradient_descent(frozen, points, zeta, step=1e-3, records=[0, 1])
    for depth, width in ((2, 4), (1, 8)):
        with pytest.raises(InputError, match="a network of depth"):
            compare_with_kernel(model, points, zeta, depth=depth, width=width, step=1e-3, records=[0, 1])
    steps = np.array([0, 2])
    found = compare_with_kernel(model, points, zeta, depth=1, width=4, step=1e-3, records=steps)
    assert found.measured.shape == (2,)
