"""Choice by held-out entries: weights against a grid, single fits, splits, and the nuclear norm of whole matrices."""

from __future__ import annotations

import itertools
import math
import os
import warnings

import pytest
import torch

from tightframe.core.rng import generator
from tightframe.data.ratings import drug_targets
from tightframe.deeplinear import held_out
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.held_out import choose_by_held_out
from tightframe.deeplinear.nuclear_norm import soft_impute, threshold_path
from tightframe.deeplinear.observations import observe
from tightframe.deeplinear.path import descend_observed, largest_step, spectral_network

DOUBLE = torch.float64


def spread(d=30, seed=0, share=0.6):
    """Singular values without a gap, partly observed."""
    draws = generator(seed)
    U, V = (torch.linalg.qr(torch.randn(d, d, dtype=DOUBLE, generator=draws)).Q for _ in range(2))
    matrix = U * torch.arange(1, d + 1).to(DOUBLE) ** -1.0 @ V.T
    return observe(torch.where(torch.rand(d, d, generator=draws) < share, matrix, torch.nan))


def three(seed=2):
    """Rank 3, of which two fifths are observed."""
    draws = generator(seed)
    A, B = (torch.randn(size, 3, dtype=DOUBLE, generator=draws) for size in (60, 50))
    return observe(torch.where(torch.rand(60, 50, generator=draws) < 0.4, A @ B.T, torch.nan))


def test_weights_minimise_the_error_of_held_out_entries():
    draws = generator(0)
    truth = torch.randn(80, dtype=DOUBLE, generator=draws)
    tables = [truth + size * torch.randn(80, dtype=DOUBLE, generator=draws) for size in (2.0, 0.8, 1.1)]
    weights, error = held_out._decided(tables, truth)
    grid = itertools.product(torch.linspace(0, 1.2, 61).tolist(), repeat=2)
    best = min(float((a * tables[1] + b * tables[2] - truth).square().mean()) for a, b in grid)
    assert weights[0] == 0
    # On a grid of width 0.02 the quadratic is at most 0.01^2 times its curvature above the least.
    assert math.sqrt(best) - 1e-3 <= error <= math.sqrt(best)


def test_a_fit_of_fixed_rank_is_taken_alone_mixed_or_left_out():
    draws = generator(1)
    truth = torch.randn(100, dtype=DOUBLE, generator=draws)
    near, far, other = (truth + s * torch.randn(100, dtype=DOUBLE, generator=draws) for s in (0.1, 3.0, 3.0))
    assert held_out._decided([near, far, other], truth)[0] == [1.0, 0.0, 0.0]
    weights, _ = held_out._decided([far, near, other], truth)
    assert weights[0] == 0
    assert weights[1] > 0.9
    even = [truth + 0.5 * torch.randn(100, dtype=DOUBLE, generator=draws) for _ in range(3)]
    weights, error = held_out._decided(even, truth)
    assert all(weight > 0.1 for weight in weights)
    assert error < 0.8 * min(float((table - truth).square().mean().sqrt()) for table in even)
    # Fits too small by a factor of ten are not blown up by as much: no weight is above two.
    weights, error = held_out._decided([far, 0.1 * truth, 0.1 * other], truth)
    assert weights[1] == pytest.approx(2.0)
    assert error < float(truth.square().mean().sqrt())
    few = [table[:30] for table in (far, other, near)]
    assert held_out._decided(few, truth[:30])[0] == [0.0, 0.0, 1.0]


def test_no_mixture_is_worse_than_its_parts_and_small_data_are_split_again(monkeypatch):
    found = spread(20)
    asked = []
    split = type(found).split

    def counted(self, share, *, seed):
        asked.append(seed)
        return split(self, share, seed=seed)

    monkeypatch.setattr(type(found), "split", counted)
    chosen = choose_by_held_out(found, width=6, limit=3, depth=3, share=0.1, seed=4, steps=100)
    assert asked == [4, 5, 6, 7, 8]
    assert chosen.errors["mixture"] <= min(chosen.errors.values()) + 1e-12
    assert set(chosen.weights) <= set(chosen.errors)
    assert {"rank 1", "rank 2"} <= set(chosen.errors)
    assert [tuple(factor.shape) for factor in chosen.factors] == [(20, chosen.factors[0].shape[1])] * 2


def test_thresholds_fall_and_their_fits_are_those_of_soft_impute():
    found = spread(20)
    path = list(itertools.islice(threshold_path(found), 4))
    for (before, _), (after, _) in itertools.pairwise(path):
        assert after == pytest.approx(0.6 * before)
    matrix = torch.zeros(found.shape, dtype=DOUBLE)
    matrix[found.rows, found.columns] = found.values
    assert path[0][0] == pytest.approx(0.6 * float(torch.linalg.matrix_norm(matrix, 2)))
    for threshold, X in path:
        exact = soft_impute(found, threshold, tolerance=1e-10, max_steps=5000)

        def value(point, threshold=threshold):
            rest = point[found.rows, found.columns] - found.values
            return float(0.5 * rest.square().sum() + threshold * torch.linalg.svdvals(point).sum())

        # The path stops at a gap of 1e-4 of the objective at zero.
        assert value(X) <= value(exact.X) + 1e-4 * 0.5 * float(found.values.square().sum())


@pytest.mark.parametrize("whole", [True, False])
def test_the_nuclear_norm_is_fitted_at_its_threshold(monkeypatch, whole):
    """Thresholding whole matrices and least squares with a ridge minimise the same, where the columns suffice."""
    if not whole:
        monkeypatch.setattr(held_out, "_WHOLE", 0)
    found = spread(20)
    family = held_out._by_norm(found, 20, 0)
    threshold = 0.1
    A, B = family.fitted(found, threshold)
    exact = soft_impute(found, threshold, tolerance=1e-10, max_steps=5000)
    product = A @ B.T
    rest = product[found.rows, found.columns] - found.values
    value = float(0.5 * rest.square().sum() + threshold * torch.linalg.svdvals(product).sum())
    assert value == pytest.approx(exact.objective, rel=1e-3)


def test_a_default_step_that_is_too_large_is_halved():
    """Outer factors at fifteen times the rate; the same step, given by the user, diverges and says so."""
    found = three()
    network, top = spectral_network(found, 6, gamma=15.0)
    safe = descend_observed(found, network, top)
    assert safe.status.converged
    assert safe.trace["residual"][-1] <= 0.05
    # Looks at a loss that has grown are not among those recorded.
    objectives = safe.trace["objective"]
    assert all(after <= 1.1 * min(objectives[: at + 1]) for at, after in enumerate(objectives[1:]))
    given = descend_observed(found, network, top, step=0.25 * largest_step(found, top, 3))
    assert given.status.outcome == "diverged"
    assert "2/||Hessian||" in given.status.message
    left_over = found.entries(given.A, given.B) - found.values
    assert 0.5 * float(left_over.square().sum()) == pytest.approx(min(given.trace["objective"]))


def test_a_step_that_holds_is_left_alone():
    found = three()
    network, top = spectral_network(found, 6)
    chosen = descend_observed(found, network, top)
    given = descend_observed(found, network, top, step=0.25 * largest_step(found, top, 3))
    assert torch.equal(chosen.A, given.A)
    assert chosen.trace["step"] == given.trace["step"]


@pytest.mark.data
def test_drugs_and_targets_are_not_fitted_by_chance():
    root = os.environ.get("TIGHTFRAME_DATA")
    if root is None:
        pytest.skip("TIGHTFRAME_DATA is not set")
    matrix = torch.from_numpy(drug_targets("nr", root=root).matrix)
    hidden = torch.rand(matrix.shape, generator=generator(0)) < 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = DeepMatrixCompletion(biases=True).fit(torch.where(hidden, torch.nan, matrix))
    assert model.method_ != "exact rank"
    error = float((model.complete() - matrix)[hidden].norm())
    assert error < float((matrix[hidden] - matrix[~hidden].mean()).norm())
