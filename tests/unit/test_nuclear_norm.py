"""Completion by the nuclear norm: optimality conditions, brute force, an independent solver, and honest gaps."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.nuclear_norm import least_nuclear_norm, soft_impute, threshold_by_held_out
from tightframe.deeplinear.observations import observe


def low_rank(m, n, rank, share, seed=0, noise=0.0):
    draws = torch.Generator().manual_seed(seed)
    A, B = (torch.randn(size, rank, dtype=torch.float64, generator=draws) for size in (m, n))
    matrix = A @ B.T + noise * torch.randn(m, n, dtype=torch.float64, generator=draws)
    mask = torch.rand(m, n, generator=draws) < share
    return matrix, mask, observe(torch.where(mask, matrix, torch.nan))


def nuclear(matrix):
    return float(torch.linalg.svdvals(matrix).sum())


def test_soft_impute_meets_the_conditions_of_an_optimum():
    matrix, mask, observed = low_rank(14, 11, 3, 0.6, noise=0.1)
    found = soft_impute(observed, 1.5, tolerance=1e-12, max_steps=5000)
    rest = torch.where(mask, matrix - found.X, 0.0)
    # The residual is threshold times a subgradient: spectral norm at most 1, and it pairs with X to the norm. A gap of
    # 1e-12 of the objective at zero leaves about its root in the conditions.
    assert float(torch.linalg.matrix_norm(rest, 2)) == pytest.approx(1.5, rel=1e-5)
    assert float((rest * found.X).sum()) == pytest.approx(1.5 * nuclear(found.X), rel=1e-5)
    assert found.status.converged
    assert found.certificate.holds
    assert found.objective == pytest.approx(0.5 * float(rest.square().sum()) + 1.5 * nuclear(found.X), rel=1e-12)


def test_soft_impute_equals_least_squares_with_a_ridge():
    _, _, observed = low_rank(12, 15, 2, 0.5, noise=0.2, seed=1)
    found = soft_impute(observed, 1.0, tolerance=1e-12, max_steps=5000)
    start = [
        torch.randn(size, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) for size in (12, 15)
    ]
    other = alternating_least_squares(observed, *start, ridge=1.0, tolerance=0.0, progress=1e-14, max_sweeps=4000)
    assert found.objective == pytest.approx(other.objective, rel=1e-7)
    assert torch.allclose(found.X, other.A @ other.B.T, atol=1e-3)


def test_of_a_whole_matrix_soft_impute_thresholds_singular_values():
    matrix, _, observed = low_rank(9, 7, 3, 2.0, noise=0.3)
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    expected = U * (S - 2.0).clamp_min(0) @ Vh
    assert torch.allclose(soft_impute(observed, 2.0, tolerance=1e-13).X, expected, atol=1e-5)


def test_the_gap_bounds_what_is_left_to_gain_at_every_look():
    _, _, observed = low_rank(14, 11, 3, 0.4, noise=0.1, seed=2)
    best = soft_impute(observed, 0.3, tolerance=1e-12, max_steps=5000).objective
    rough = soft_impute(observed, 0.3, tolerance=1e-12, max_steps=30)
    assert not rough.status.converged
    for row in rough.trace:
        assert 0 <= row["objective"] - best <= row["gap"] * (1 + 1e-9)


def test_above_the_spectral_norm_nothing_is_left():
    matrix, mask, observed = low_rank(8, 6, 2, 0.7)
    top = float(torch.linalg.matrix_norm(torch.where(mask, matrix, 0.0), 2))
    assert soft_impute(observed, 1.001 * top).X.abs().max() == 0
    assert soft_impute(observed, 0.9 * top, tolerance=1e-9).X.abs().max() > 0


def test_a_warm_start_ends_at_the_same_point_sooner():
    _, _, observed = low_rank(14, 11, 2, 0.6, noise=0.1)
    near = soft_impute(observed, 1.1, tolerance=1e-10, max_steps=5000).X
    cold, warm = (soft_impute(observed, 1.0, start=start, tolerance=1e-10, max_steps=5000) for start in (None, near))
    assert torch.allclose(cold.X, warm.X, atol=1e-3)
    assert warm.trace["step"][-1] <= cold.trace["step"][-1]


@pytest.mark.parametrize("given", [(2.0, 1.0, 0.5), (1.0, 2.0, 3.0), (0.5, -1.0, 1.0)])
def test_of_one_missing_entry_the_least_norm_is_that_of_a_search(given):
    a, b, c = given
    matrix = torch.tensor([[a, b], [c, math.nan]], dtype=torch.float64)
    found = least_nuclear_norm(observe(matrix), tolerance=1e-9, max_steps=20_000)
    tried = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    every = torch.stack([torch.full_like(tried, value) for value in given] + [tried], dim=1).view(-1, 2, 2)
    norms = torch.linalg.svdvals(every).sum(1)
    assert found.objective == pytest.approx(float(norms.min()), rel=1e-6)
    assert found.objective == pytest.approx(nuclear(found.X), rel=1e-12)


def test_the_exact_program_recovers_and_proves_it():
    matrix, mask, observed = low_rank(40, 30, 2, 0.6)
    found = least_nuclear_norm(observed)
    assert found.status.converged
    assert found.certificate.holds
    assert torch.equal(found.X[mask], matrix[mask])
    assert float((found.X - matrix).norm() / matrix.norm()) < 1e-3
    assert found.objective <= nuclear(matrix) * (1 + 1e-6)


def test_no_other_matrix_with_these_entries_has_a_norm_below_the_bound():
    matrix, mask, observed = low_rank(12, 10, 4, 0.5, seed=4)
    found = least_nuclear_norm(observed, tolerance=1e-7, max_steps=20_000)
    assert found.certificate.holds
    assert float((found.X - matrix)[~mask].norm() / matrix[~mask].norm()) > 0.05  # nothing to recover here
    draws = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 1e-1, 1.0):
        move = torch.where(mask, 0.0, torch.randn(12, 10, dtype=torch.float64, generator=draws))
        assert nuclear(found.X + size * move) >= found.objective - found.certificate.gap
    assert nuclear(matrix) >= found.objective - found.certificate.gap


def test_an_exhausted_budget_is_told_with_its_gap():
    _, _, observed = low_rank(20, 20, 5, 0.3)
    found = least_nuclear_norm(observed, max_steps=3)
    assert found.status.outcome == "budget spent"
    assert not found.certificate.holds
    assert found.certificate.gap > found.certificate.tolerance


def test_the_held_out_threshold_has_the_least_error_of_those_tried():
    _, _, observed = low_rank(20, 16, 2, 0.7, noise=0.5)
    found = threshold_by_held_out(observed, share=0.2, seed=5)
    train, held = observed.split(0.2, seed=5)
    best = min(found.errors, key=found.errors.get)
    assert found.threshold == pytest.approx(best * math.sqrt(len(observed) / len(train)))
    X = soft_impute(train, best, tolerance=1e-8, max_steps=3000).X
    exact = float((X[held.rows, held.columns] - held.values).square().mean().sqrt())
    # Along the path a gap of 1e-4 of the objective at zero is left.
    assert found.errors[best] == pytest.approx(exact, rel=0.05)
    ratios = [b / a for a, b in zip(list(found.errors), list(found.errors)[1:], strict=False)]
    assert ratios == pytest.approx([0.6] * len(ratios))


def test_single_precision_stays_single():
    _, _, observed = low_rank(10, 8, 2, 0.8)
    single = observed.with_values(observed.values.float())
    assert soft_impute(single, 1.0, tolerance=1e-4).X.dtype == torch.float32
    assert least_nuclear_norm(single, tolerance=1e-3).X.dtype == torch.float32


def test_bad_input_is_refused():
    _, _, observed = low_rank(6, 5, 1, 0.8)
    for threshold in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="a threshold above zero"):
            soft_impute(observed, threshold)
    with pytest.raises(InputError, match="a start of"):
        soft_impute(observed, 1.0, start=torch.zeros(5, 6, dtype=torch.float64))
    with pytest.raises(InputError, match="tolerance"):
        soft_impute(observed, 1.0, tolerance=0.0)
    with pytest.raises(InputError, match="a tolerance above zero"):
        least_nuclear_norm(observed, tolerance=math.nan)
    with pytest.raises(InputError, match="max_steps"):
        least_nuclear_norm(observed, max_steps=0)
    zeros = observed.with_values(torch.zeros_like(observed.values))
    for solver in (least_nuclear_norm, threshold_by_held_out, lambda given: soft_impute(given, 1.0)):
        with pytest.raises(DegenerateError, match="not all zero"):
            solver(zeros)
