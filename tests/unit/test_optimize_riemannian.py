"""Descent on spheres against eigenvalues and singular values, and tangent bases against their definition."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy
import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.optimize.riemannian import (
    minimize_on_spheres,
    on_spheres,
    random_columns,
    tangent,
    tangent_coordinates,
    tangent_vectors,
)

METHODS = ["trust-regions", "conjugate-gradients"]


def symmetric(size, *, seed=0):
    draw = torch.randn(size, size, dtype=torch.float64, generator=generator(seed))
    return draw + draw.T


def quotient(matrix):
    """Half the Rayleigh quotients of the columns, summed: value, gradient and Hessian."""
    return (
        lambda X: 0.5 * float((X * (matrix @ X)).sum()),
        lambda X: [matrix @ X],
        lambda X, V: [matrix @ V],
    )


def coupling(matrix):
    """-x^T A y: value, gradient and Hessian."""
    return (
        lambda x, y: -float((x * (matrix @ y)).sum()),
        lambda x, y: [-matrix @ y, -matrix.T @ x],
        lambda x, y, dx, dy: [-matrix @ dy, -matrix.T @ dx],
    )


def test_random_columns_are_unit_seeded_and_uniform():
    columns = random_columns(3, 20_000, seed=4)
    assert columns.dtype == torch.float64
    assert torch.allclose(columns.norm(dim=0), torch.ones(20_000, dtype=torch.float64), atol=1e-15, rtol=0)
    assert torch.equal(columns, random_columns(3, 20_000, seed=4))
    assert not torch.equal(columns, random_columns(3, 20_000, seed=5))
    # x x^T has mean I/3; entries of the sample mean have a standard deviation below 1/sqrt(20000) = 0.007.
    assert torch.allclose(columns @ columns.T / 20_000, torch.eye(3).double() / 3, atol=0.035)


def test_coordinates_are_an_isometry_onto_the_tangent_spaces():
    axes = torch.eye(4, dtype=torch.float64)
    columns = torch.cat([random_columns(4, 6, seed=1), axes, -axes], dim=1)
    for column in columns.T:
        at = column[:, None].expand(-1, 3)
        basis = tangent_vectors(at, torch.eye(3, dtype=torch.float64))
        assert torch.allclose(basis.T @ basis, torch.eye(3).double(), atol=1e-15)
        assert float((column @ basis).abs().max()) < 1e-15
    coordinates = torch.randn(3, 14, dtype=torch.float64, generator=generator(2))
    vectors = tangent_vectors(columns, coordinates)
    assert torch.allclose(tangent_coordinates(columns, vectors), coordinates, atol=1e-15)
    assert torch.allclose(tangent(columns, vectors), vectors, atol=1e-15)


def test_tangent_projects():
    columns, vectors = random_columns(5, 7, seed=0), torch.randn(5, 7, dtype=torch.float64, generator=generator(1))
    once = tangent(columns, vectors)
    assert float((columns * once).sum(0).abs().max()) < 1e-15
    assert torch.allclose(tangent(columns, once), once, atol=1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_eigenvalue_on_every_sphere(method, seed):
    matrix = symmetric(8, seed=seed)
    values, vectors = torch.linalg.eigh(matrix)
    start = {"X": random_columns(8, 3, seed=seed)}
    found = minimize_on_spheres(*quotient(matrix), start, method=method, gradient_tolerance=1e-7)
    assert found.status.converged, found.status
    # The value is above by at most |gradient|^2 / (2 gap of the eigenvalues).
    assert found.objective == pytest.approx(1.5 * float(values[0]), abs=1e-12)
    assert torch.allclose((vectors[:, 0] @ found.X).abs(), torch.ones(3).double(), atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4, 4), (7, 3), (2, 9)])
def test_the_largest_singular_value_on_spheres_of_equal_or_different_dimensions(method, shape):
    matrix = torch.randn(shape, dtype=torch.float64, generator=generator(3))
    start = {"x": random_columns(shape[0], 1, seed=0), "y": random_columns(shape[1], 1, seed=1)}
    found = minimize_on_spheres(*coupling(matrix), start, method=method, gradient_tolerance=1e-7)
    assert found.status.converged, found.status
    assert list(found.variables) == ["x", "y"]
    assert found.x.shape == (shape[0], 1)
    assert found.y.shape == (shape[1], 1)
    assert found.objective == pytest.approx(-float(torch.linalg.matrix_norm(matrix, 2)), abs=1e-12)


def test_trust_regions_end_superlinearly_and_the_trace_falls():
    found = minimize_on_spheres(*quotient(symmetric(20)), {"X": random_columns(20, 4, seed=0)})
    assert found.trace["step"] == list(range(len(found.trace)))
    values, norms = found.trace["objective"], found.trace["gradient norm"]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))
    assert norms[-1] <= 1e-10 < norms[-2]
    assert norms[-1] < norms[-2] ** 1.5


def test_what_is_observed_is_traced():
    seen = []
    found = minimize_on_spheres(
        *quotient(symmetric(4)),
        {"X": random_columns(4, 2, seed=0)},
        observe=lambda step, X: seen.append((step, X.shape)) or {"norm": float(X.norm())},
    )
    assert seen == [(step, (4, 2)) for step in range(len(found.trace))]
    assert found.trace["norm"] == pytest.approx([math.sqrt(2)] * len(found.trace))


def test_a_critical_start_is_returned_at_once():
    saddle = torch.eye(3, dtype=torch.float64)[:, 1:2]
    found = minimize_on_spheres(*quotient(torch.diag(torch.arange(3).double())), {"X": saddle})
    assert found.status.converged
    assert len(found.trace) == 1
    assert torch.equal(found.X, saddle)


def test_a_small_budget_is_spent_and_the_message_names_it():
    found = minimize_on_spheres(*quotient(symmetric(30)), {"X": random_columns(30, 2, seed=0)}, max_iterations=2)
    assert found.status.outcome == "budget spent"
    assert "max_iterations" in found.status.message


@pytest.mark.parametrize("method", METHODS)
def test_a_tolerance_below_rounding_stalls_at_the_minimum(method):
    matrix = symmetric(6)
    found = minimize_on_spheres(
        *quotient(matrix),
        {"X": random_columns(6, 5, seed=0)},
        method=method,
        gradient_tolerance=1e-30,
        max_iterations=5000,
    )
    assert found.status.outcome == "stalled"
    assert "gradient_tolerance" in found.status.message
    assert found.objective == pytest.approx(2.5 * float(torch.linalg.eigvalsh(matrix)[0]), abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_points_the_wrong_way_ends_soon(method):
    calls = []
    value, gradient, product = quotient(symmetric(6))
    found = minimize_on_spheres(
        lambda X: calls.append(1) or value(X),
        lambda X: [-part for part in gradient(X)],
        product,
        {"X": random_columns(6, 2, seed=0)},
        method=method,
        max_iterations=5000,
    )
    assert found.status.outcome == "stalled"
    assert len(calls) < 500


def test_an_objective_that_stops_being_a_number_is_told():
    calls = []

    def value(X):
        calls.append(1)
        return float("nan") if len(calls) > 3 else float(X[0].sum())

    along = torch.zeros(3, 1, dtype=torch.float64)
    along[0] = 1
    start = {"X": random_columns(3, 1, seed=0)}
    found = minimize_on_spheres(value, lambda X: [along], lambda X, V: [torch.zeros_like(V)], start)
    assert found.status.outcome == "diverged"
    assert math.isfinite(found.objective)


def test_it_is_silent_and_leaves_global_randomness_alone(capfd):
    before = numpy.random.get_state()[1].copy()
    minimize_on_spheres(*quotient(symmetric(5)), {"X": random_columns(5, 2, seed=0)})
    assert (numpy.random.get_state()[1] == before).all()
    out, err = capfd.readouterr()
    assert out == err == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": {"X": torch.full((3, 2), 0.5)}}, "unit norm"),
        ({"start": {"X": torch.full((3, 2), float("nan"))}}, "unit norm"),
        ({"start": {"X": torch.ones(3)}}, "(d, n)"),
        ({"start": {"X": "columns"}}, "str"),
        ({"method": "newton"}, "trust-regions"),
        ({"gradient_tolerance": 0.0}, "tolerance"),
        ({"max_iterations": 0}, "max_iterations"),
    ],
)
def test_bad_input_is_named(change, words):
    arguments = {"start": {"X": random_columns(3, 2, seed=0)}} | change
    with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
        minimize_on_spheres(*quotient(symmetric(3)), arguments.pop("start"), **arguments)


def test_columns_that_are_unit_up_to_single_precision_are_made_exact():
    start = {"X": random_columns(4, 3, seed=0).float()}
    found = minimize_on_spheres(*quotient(symmetric(4)), start)
    assert found.X.dtype == torch.float64
    assert torch.allclose(found.X, on_spheres(found.X), atol=1e-15)
