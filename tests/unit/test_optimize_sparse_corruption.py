"""The convex program of sparse corruption: against SciPy, closed forms and its own certificate."""

from __future__ import annotations

import numpy
import pytest
import torch
from scipy.optimize import linprog, lsq_linear, minimize

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.optimize.sparse_corruption import gram_plus_diagonal, separate_corruption


def measurements(rows: int, columns: int, corrupted: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator(seed)
    J = torch.randn(rows, columns, generator=source, dtype=torch.float64) / columns**0.5
    y = J @ torch.randn(columns, generator=source, dtype=torch.float64)
    y[:corrupted] += 3 * torch.sign(torch.randn(corrupted, generator=source, dtype=torch.float64))
    return J, y


def objective(theta: torch.Tensor, J: torch.Tensor, y: torch.Tensor, weight: float) -> float:
    return float(0.5 * theta.square().sum() + weight * (y - J @ theta).abs().sum())


@pytest.mark.parametrize(("rows", "columns"), [(12, 4), (10, 10), (8, 20), (1, 3), (3, 1)])
@pytest.mark.parametrize("weight", [0.05, 1.0, 20.0])
def test_the_certificate_holds_and_no_neighbour_is_better(rows, columns, weight):
    J, y = measurements(rows, columns, rows // 3)
    found = separate_corruption(J, y, weight=weight)
    assert found.status.converged
    assert found.certificate.holds
    assert found.objective == pytest.approx(objective(found.theta, J, y, weight), rel=1e-12)
    assert float((J @ found.theta + found.s - y).abs().max()) < 1e-12
    assert float(found.nu.abs().max()) <= weight
    steps = torch.randn(200, columns, generator=generator(1), dtype=torch.float64)
    for length in (1e-3, 1e-1, 1.0):
        best = min(objective(found.theta + length * step, J, y, weight) for step in steps)
        assert best > found.objective - found.certificate.gap


@pytest.mark.parametrize("weight", [0.2, 0.7])
def test_a_wide_problem_agrees_with_bounded_least_squares(weight):
    # With y = J b the dual is min |J^T nu - b|^2 in a box, which SciPy solves by another method.
    J, y = measurements(12, 25, 4)
    b = numpy.linalg.lstsq(J.numpy(), y.numpy(), rcond=None)[0]
    other = lsq_linear(J.T.numpy(), b, bounds=(-weight, weight), tol=1e-14, method="bvls")
    found = separate_corruption(J, y, weight=weight, tolerance=1e-14)
    # The nu of a wide J is unique. A gap of 1e-14 leaves an error of about its root.
    assert numpy.abs(found.nu.numpy() - other.x).max() < 1e-6
    assert 0 < int((found.s.abs() > 1e-6).sum()) < 12


def test_a_tall_problem_agrees_with_a_general_solver():
    J, y = measurements(9, 3, 3)
    rows, columns, weight = 9, 3, 0.4
    start = numpy.concatenate([numpy.zeros(columns), numpy.maximum(y.numpy(), 0), numpy.maximum(-y.numpy(), 0)])
    split = numpy.hstack([J.numpy(), numpy.eye(rows), -numpy.eye(rows)])
    other = minimize(
        lambda x: 0.5 * x[:columns] @ x[:columns] + weight * x[columns:].sum(),
        start,
        jac=lambda x: numpy.concatenate([x[:columns], numpy.full(2 * rows, weight)]),
        bounds=[(None, None)] * columns + [(0, None)] * (2 * rows),
        constraints={"type": "eq", "fun": lambda x: split @ x - y.numpy(), "jac": lambda x: split},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = separate_corruption(J, y, weight=weight)
    assert other.success
    assert found.objective == pytest.approx(other.fun, rel=1e-8)
    assert numpy.abs(found.theta.numpy() - other.x[:columns]).max() < 1e-5


@pytest.mark.parametrize("corrupted", [2, 10])
def test_a_large_weight_gives_least_absolute_deviations(corrupted):
    J, y = measurements(20, 5, corrupted, seed=3)
    ones, zeros = numpy.ones(20), numpy.zeros(5)
    split = numpy.hstack([J.numpy(), numpy.eye(20), -numpy.eye(20)])
    bounds = [(None, None)] * 5 + [(0, None)] * 40
    other = linprog(numpy.concatenate([zeros, ones, ones]), A_eq=split, b_eq=y.numpy(), bounds=bounds)
    found = separate_corruption(J, y, weight=1e3, tolerance=1e-14)
    assert float(found.s.abs().sum()) == pytest.approx(other.fun, rel=1e-9)
    assert numpy.abs(found.theta.numpy() - other.x[:5]).max() < 1e-5


def test_the_identity_separates_by_soft_thresholding():
    y = torch.tensor([3.0, -0.5, -2.0, 0.0, 1.0], dtype=torch.float64)
    found = separate_corruption(torch.eye(5), y, weight=1.0, tolerance=1e-14)
    # |theta - y clamped|^2 <= 2 gap, and the gap is at most 1e-14 times an objective of 5.
    assert torch.allclose(found.theta, y.clamp(-1, 1), rtol=0, atol=4e-7)
    assert torch.allclose(found.s, y - y.clamp(-1, 1), rtol=0, atol=4e-7)


def test_scaling_measurements_and_weight_scales_the_solution():
    J, y = measurements(12, 5, 3)
    one = separate_corruption(J, y, weight=0.3, tolerance=1e-14)
    large = separate_corruption(J, 1e6 * y, weight=0.3e6, tolerance=1e-14)
    assert torch.allclose(large.theta, 1e6 * one.theta, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_gap_bounds_the_excess_and_the_distance_of_any_point(steps):
    J, y = measurements(15, 6, 5)
    exact = separate_corruption(J, y, weight=0.5, tolerance=1e-14)
    early = separate_corruption(J, y, weight=0.5, max_iterations=steps)
    excess = early.objective - exact.objective
    assert early.status.outcome == "budget spent"
    assert "raise max_iterations" in early.status.message
    assert 0 < excess <= early.certificate.gap + exact.certificate.gap
    distance = float(torch.linalg.vector_norm(early.theta - exact.theta))
    assert distance <= early.certificate.evidence["distance of theta"] + 1e-6


def test_measurements_of_zero_have_the_solution_zero():
    found = separate_corruption(torch.ones(3, 2), torch.zeros(3), weight=1.0)
    assert found.status.converged
    assert found.objective == 0
    assert not found.theta.any()


def test_an_unreachable_tolerance_stalls_at_rounding():
    J, y = measurements(15, 6, 5)
    found = separate_corruption(J, y, weight=0.5, tolerance=1e-30)
    assert found.status.outcome == "stalled"
    assert found.certificate.gap < 1e-13 * found.objective
    assert not found.certificate.holds


def test_the_trace_reaches_the_gap_in_few_steps():
    J, y = measurements(40, 20, 10)
    found = separate_corruption(J, y, weight=0.5)
    assert found.trace["gap"][-1] == found.certificate.gap
    assert len(found.trace) < 30


@pytest.mark.parametrize("columns", [3, 8, 20])
def test_gram_plus_diagonal_solves_its_system(columns):
    J, b = measurements(8, columns, 0)
    diagonal = torch.logspace(-3, 3, 8, dtype=torch.float64)
    expected = torch.linalg.solve(J @ J.T + torch.diag(diagonal), b)
    assert torch.allclose(gram_plus_diagonal(J, diagonal)(b), expected, rtol=1e-9)


def test_gram_plus_diagonal_survives_any_range_of_sizes():
    # One column: (jj^T + D)^-1 b in closed form by Sherman and Morrison.
    j = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    diagonal = torch.tensor([1e-120, 1.0, 1e120], dtype=torch.float64)
    b = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    # The first row alone fixes j^T x = 1 to 120 digits, so the others give (b_i - j_i) / D_i.
    found = gram_plus_diagonal(j[:, None], diagonal)(b)
    assert torch.allclose(found[1:], (b - j)[1:] / diagonal[1:], rtol=1e-12)
    assert float(j @ found) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("J", "y", "options", "message"),
    [
        (torch.ones(3), torch.ones(3), {}, r"J has shape \(n, d\)"),
        (torch.ones(3, 2), torch.ones(2), {}, "one value for each of the rows"),
        (torch.ones(3, 2), [1.0, 1.0, 1.0], {}, "one value for each of the rows"),
        (torch.ones(3, 2), torch.ones(3, dtype=torch.complex64), {}, "one value for each of the rows"),
        (torch.ones(0, 2), torch.ones(0), {}, "at least one"),
        (torch.ones(3, 2), torch.tensor([1.0, float("nan"), 1.0]), {}, "finite"),
        (torch.full((3, 2), float("inf")), torch.ones(3), {}, "finite"),
        (torch.ones(3, 2), torch.ones(3), {"weight": 0.0}, "weight is a number above zero"),
        (torch.ones(3, 2), torch.ones(3), {"weight": float("nan")}, "weight is a number above zero"),
        (torch.ones(3, 2), torch.ones(3), {"tolerance": -1.0}, "tolerance is a number above zero"),
        (torch.ones(3, 2), torch.ones(3), {"max_iterations": 0}, "max_iterations"),
    ],
)
def test_bad_input_is_refused_in_words(J, y, options, message):
    with pytest.raises(InputError, match=message):
        separate_corruption(J, y, **{"weight": 1.0} | options)
