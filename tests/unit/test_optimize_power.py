"""Fixed points of powers against closed forms, brute force and automatic differentiation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.geometry.frames import haar_columns
from tightframe.optimize.power import (
    matching_stretching_projection,
    orthogonal_ascent,
    polar_factor,
    power_gradient,
    sphere_ascent,
    sphere_power,
)

CLIMBS = [matching_stretching_projection, orthogonal_ascent]


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize("order", [3, 4])
def test_the_gradient_is_that_of_the_mean_power(order):
    rows, directions = normal(50, 4), normal(3, 4, seed=1).requires_grad_()
    value = (rows @ directions.T).abs().pow(order).mean(0).sum()
    (expected,) = torch.autograd.grad(value, directions)
    found = power_gradient(rows, directions.detach(), order=order)
    assert torch.allclose(order * found, expected, rtol=1e-12, atol=1e-12)


def test_blocks_of_rows_do_not_change_the_gradient(monkeypatch):
    rows, directions = normal(50, 4), normal(3, 4, seed=1)
    whole = power_gradient(rows, directions)
    monkeypatch.setattr("tightframe.optimize.power._PROJECTIONS", 20)
    assert torch.allclose(power_gradient(rows, directions), whole, rtol=1e-13, atol=1e-13)


def test_the_polar_factor_is_the_nearest_orthonormal_matrix():
    matrix = normal(3, 5)
    found = polar_factor(matrix)
    assert torch.allclose(found @ found.T, torch.eye(3).double(), atol=1e-14)
    distance = (found - matrix).norm()
    for seed in range(50):
        other = haar_columns(5, 3, seed=seed).T
        assert (other - matrix).norm() > distance
        # Near ones too, where a wrong factor would lose.
        near = polar_factor(found + 0.01 * normal(3, 5, seed=seed))
        assert (near - matrix).norm() >= distance - 1e-12


@pytest.mark.parametrize("climb", CLIMBS)
@pytest.mark.parametrize("order", [3, 4])
def test_a_climb_finds_the_axes_of_sparse_codes_and_never_falls(climb, order):
    codes = sparse_codes((4000, 8), 0.1, seed=3)
    turn = haar_columns(8, 8, seed=4)
    found = climb(codes @ turn, haar_columns(8, 8, seed=5).T, order=order)
    assert found.status.converged
    objectives = found.trace["objective"]
    assert all(later >= earlier * (1 - 1e-12) for earlier, later in pairwise(objectives))
    assert torch.allclose(found.Q @ found.Q.T, torch.eye(8).double(), atol=1e-12)
    # The bias of 4000 samples is a few per cent: every row is near one axis, and each axis is hit once.
    cosines = (found.Q @ turn.T).abs()
    assert (cosines.amax(1) > 0.99).all()
    assert sorted(cosines.argmax(1).tolist()) == list(range(8))
    value = (codes @ turn @ found.Q.T).abs().pow(order).mean(0).sum()
    if climb is orthogonal_ascent:
        assert abs(found.objective - value) < 1e-9 * value


def test_fewer_directions_than_dimensions_are_possible():
    codes = sparse_codes((4000, 6), 0.1, seed=3)
    found = matching_stretching_projection(codes, haar_columns(6, 2, seed=1).T)
    assert found.Q.shape == (2, 6)
    assert (found.Q.abs().amax(1) > 0.99).all()


@pytest.mark.parametrize("climb", [sphere_power, sphere_ascent])
def test_directions_on_the_sphere_reach_maxima_of_a_quartic_form_each_on_its_own(climb):
    weights = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)

    def gradient(q):
        return weights * q.pow(3)

    start = normal(40, 3, seed=2)
    found = climb(gradient, start, tolerance=1e-8)
    assert found.status.converged
    assert bool(found.settled.all())
    # Maxima of sum w q^4 on the sphere are the axes, and no others.
    assert torch.allclose(found.Q.abs().amax(1), torch.ones(40).double(), atol=1e-7)
    alone = climb(gradient, start[7:8], tolerance=1e-8)
    assert torch.allclose(alone.Q[0], found.Q[7], atol=1e-7)


def test_the_power_iteration_ends_in_the_basin_that_a_closed_form_predicts():
    # With g(q) = q^3 entries go to the power 3^t before they are normalised: the largest wins.
    start = unit_rows(normal(200, 5, seed=6))
    found = sphere_power(lambda q: q.pow(3), start, tolerance=1e-9)
    assert torch.equal(found.Q.abs().argmax(1), start.abs().argmax(1))


def test_budgets_that_are_spent_are_said_and_the_unsettled_named():
    # Entries near each other separate slowly: the first start needs more than two steps.
    start = torch.tensor([[1.0, 0.999], [1.0, 0.0]], dtype=torch.float64)
    found = sphere_power(lambda q: q.pow(3), start, tolerance=1e-6, max_iterations=2)
    assert found.status.outcome == "budget spent"
    assert found.settled.tolist() == [False, True]
    assert "max_iterations" in found.status.message
    codes = sparse_codes((500, 5), 0.2)
    climbed = matching_stretching_projection(codes, haar_columns(5, 5, seed=1).T, tolerance=1e-12, max_iterations=1)
    assert climbed.status.outcome == "budget spent"


@pytest.mark.parametrize("climb", CLIMBS)
def test_bad_input_is_refused(climb):
    rows, start = normal(10, 3), torch.eye(3, dtype=torch.float64)
    with pytest.raises(InputError, match="tolerance"):
        climb(rows, start, tolerance=0)
    with pytest.raises(InputError, match="max_iterations"):
        climb(rows, start, max_iterations=0)
    with pytest.raises(InputError, match="orthonormal"):
        climb(rows, 2 * start)
    with pytest.raises(InputError, match="at most d"):
        climb(rows, normal(4, 3))
    with pytest.raises(InputError, match="shapes"):
        climb(rows, torch.eye(2, dtype=torch.float64))
    with pytest.raises(InputError, match="order"):
        climb(rows, start, order=5)
    with pytest.raises(InputError, match="tolerance"):
        sphere_power(lambda q: q, start, tolerance=-1)
