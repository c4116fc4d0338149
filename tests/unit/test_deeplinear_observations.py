"""Observed entries: reading, and products against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.observations import gathered, observe
from tightframe.deeplinear.path import (
    ObservedDescent,
    descend_observed,
    largest_step,
    leading_components,
    spectral_network,
    thin_svd,
)
from tightframe.deeplinear.rank_detection import SpectralGap, bearable_rank, spectral_gap
from tightframe.deeplinear.side_terms import averages, side_terms

# Sums of a few hundred products of numbers of order one.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def drawn(m, n, share, seed=0):
    """A dense matrix of normal numbers and the mask of its observed entries."""
    draws = generator(seed)
    matrix = torch.randn(m, n, dtype=torch.float64, generator=draws)
    return matrix, torch.rand(m, n, generator=draws) < share


def observed_part(matrix, mask):
    return observe(torch.where(mask, matrix, torch.nan))


def low_rank(m, n, rank, share, seed=0):
    draws = generator(seed)
    A, B = (torch.randn(size, rank, dtype=torch.float64, generator=draws) for size in (m, n))
    return A @ B.T, torch.rand(m, n, generator=draws) < share


def unseen_error(fit, matrix, mask):
    return float(((fit.A @ fit.B.T - matrix)[~mask]).norm() / matrix[~mask].norm())


def test_every_kind_of_input_is_read_alike():
    matrix, mask = drawn(7, 5, 0.5)
    rows, columns = mask.nonzero(as_tuple=True)
    values = matrix[mask]
    order = torch.randperm(len(values), generator=generator(3))
    triple = (rows[order], columns[order], values[order])
    stored = scipy.sparse.coo_array((triple[2].numpy(), (triple[0].numpy(), triple[1].numpy())), shape=(7, 5))
    kinds = {
        "dense": torch.where(mask, matrix, torch.nan),
        "array": torch.where(mask, matrix, torch.nan).numpy(),
        "triple": triple,
        "lists": tuple(part.tolist() for part in triple),
        "csr": stored.tocsr(),
        "sparse tensor": torch.sparse_coo_tensor(torch.stack(triple[:2]), triple[2], (7, 5), check_invariants=True),
    }
    for name, kind in kinds.items():
        found = observe(kind, shape=(7, 5) if isinstance(kind, tuple) else None)
        assert found.shape == (7, 5), name
        assert torch.equal(found.rows, rows), name
        assert torch.equal(found.columns, columns), name
        assert torch.equal(found.values, values), name


def test_stored_zeros_are_observations():
    stored = scipy.sparse.coo_array((np.array([0.0, 2.0]), (np.array([0, 1]), np.array([1, 0]))), shape=(2, 2))
    assert observe(stored).values.tolist() == [0.0, 2.0]


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_products_are_those_of_dense_matrices(share):
    """A share below and above the one from which blocks are multiplied whole."""
    matrix, mask = drawn(60, 80, share)
    found = observed_part(matrix, mask)
    draws = generator(1)
    left, right = (torch.randn(size, 4, dtype=torch.float64, generator=draws) for size in (60, 80))
    torch.testing.assert_close(found.entries(left, right), (left @ right.T)[mask], **CLOSE)
    torch.testing.assert_close(gathered(left, right, found.rows, found.columns), (left @ right.T)[mask], **CLOSE)
    dense = torch.where(mask, matrix, 0)
    torch.testing.assert_close(found.times(found.values, right), dense @ right, **CLOSE)
    torch.testing.assert_close(found.times_transposed(found.values, left), dense.T @ left, **CLOSE)
    torch.testing.assert_close(found.sums(right, 10, 30), mask[10:30].double() @ right, **CLOSE)
    assert torch.equal(found.transposed.values, matrix.T[mask.T])
    assert torch.equal(found.row_counts, mask.sum(1))
    assert torch.equal(found.column_counts, mask.sum(0))


def test_other_values_do_not_keep_old_ones():
    matrix, mask = drawn(6, 4, 0.6)
    found = observed_part(matrix, mask)
    found.transposed, found.by_column  # noqa: B018  cached before the copy is made
    doubled = found.with_values(2 * found.values)
    assert torch.equal(doubled.transposed.values, 2 * found.transposed.values)


def test_a_split_parts_the_entries():
    found = observed_part(*drawn(20, 30, 0.4))
    train, held = found.split(0.25, seed=5)
    assert len(held) == round(0.25 * len(found))
    assert len(train) + len(held) == len(found)
    places = {(int(i), int(j)) for part in (train, held) for i, j in zip(part.rows, part.columns, strict=True)}
    assert len(places) == len(found)
    assert torch.equal(found.split(0.25, seed=5)[1].values, held.values)
    assert not torch.equal(found.split(0.25, seed=6)[1].rows, held.rows)


def test_duplicates_are_refused_or_averaged():
    triple = ([0, 0, 1], [1, 1, 0], [1.0, 3.0, 5.0])
    with pytest.raises(InputError, match="1 of 3 more than once"):
        observe(triple)
    assert observe(triple, duplicates="mean").values.tolist() == [2.0, 5.0]


@pytest.mark.parametrize(
    ("given", "options", "text"),
    [
        (([0], [0], [float("nan")]), {}, "finite values"),
        (([0], [0, 1], [1.0]), {}, "one length"),
        (([0.5], [0], [1.0]), {}, "integer rows"),
        (([], [], []), {}, "integer rows|at least one"),
        (([-1], [0], [1.0]), {}, "within the shape"),
        (([3], [0], [1.0]), {"shape": (2, 2)}, "within the shape"),
        (np.full((2, 2), np.nan), {}, "at least one observed"),
        (np.zeros(3), {}, "a sparse matrix"),
        ((["a"], [0], [1.0]), {}, "numbers"),
        (([0], [0], [1.0]), {"duplicates": "sum"}, "duplicates"),
    ],
)
def test_bad_input_is_refused(given, options, text):
    with pytest.raises(InputError, match=text):
        observe(given, **options)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_a_step_is_one_of_automatic_differentiation(depth):
    """All layers move at once by their gradients, the outer ones gamma times as far."""
    matrix, mask = low_rank(12, 9, 2, 0.5)
    found = observed_part(matrix, mask)
    network, _ = spectral_network(found, 4, depth=depth, scale=0.5, gamma=3.0)
    step = 1e-3
    expected = [weight.clone().requires_grad_(True) for weight in network.weights]
    product = expected[0]
    for weight in expected[1:]:
        product = weight @ product
    (0.5 * ((product - matrix)[mask]).square().sum()).backward()
    rates = [3.0, *[1.0] * (depth - 2), 3.0]
    moved = [weight.detach() - step * rate * weight.grad for weight, rate in zip(expected, rates, strict=True)]
    descent = ObservedDescent(found, network, step=step)
    descent.move()
    for own, other in zip([descent.right.T, *descent.inner, descent.left], moved, strict=True):
        torch.testing.assert_close(own, other, **CLOSE)


def test_momentum_is_the_heavy_ball():
    """Two steps: the second adds mu times the first gradient to its own."""
    found = observed_part(*low_rank(10, 8, 2, 0.6))
    network, _ = spectral_network(found, 3, scale=0.5)
    plain, heavy = (ObservedDescent(found, network, step=1e-3, momentum=mu) for mu in (0.0, 0.5))
    start = heavy.left.clone()
    plain.move(), heavy.move()
    torch.testing.assert_close(plain.left, heavy.left, **CLOSE)
    first = start - plain.left
    before = heavy.left.clone()
    plain.move(), heavy.move()
    torch.testing.assert_close(before - heavy.left, (before - plain.left) + 0.5 * first, **CLOSE)


def test_leading_components_are_those_of_a_decomposition():
    matrix, mask = low_rank(50, 40, 3, 1.1)
    U, S, V = leading_components(observed_part(matrix, mask), 3)
    torch.testing.assert_close(S, torch.linalg.svdvals(matrix)[:3], rtol=1e-10, atol=0)
    torch.testing.assert_close(U * S @ V.T, matrix, rtol=1e-9, atol=1e-9)


def test_a_step_beyond_stability_ends_with_the_bound():
    matrix, mask = low_rank(40, 30, 2, 0.5)
    found = observed_part(matrix, mask)
    network, top = spectral_network(found, 4)
    bound = largest_step(found, top, 3)
    wild = descend_observed(found, network, top, step=20 * bound)
    assert wild.status.outcome == "diverged"
    assert f"2/||Hessian|| = {bound:.3g}" in wild.status.message
    assert bool(torch.isfinite(wild.A).all() and torch.isfinite(wild.B).all())
    calm = descend_observed(found, network, top)
    assert calm.status.converged
    assert calm.trace["residual"][-1] <= 0.05


def test_gamma_zero_warns_and_stalls():
    matrix, mask = low_rank(60, 60, 3, 0.4)
    found = observed_part(matrix, mask)
    with pytest.warns(UserWarning, match="gamma = 0"):
        network, top = spectral_network(found, 6, gamma=0.0)
    fixed = descend_observed(found, network, top, max_steps=300)
    moving = descend_observed(found, *spectral_network(found, 6), max_steps=300)
    assert fixed.trace["residual"][-1] > 0.3 > 0.05 >= moving.trace["residual"][-1]


def test_least_squares_reach_the_matrix_and_its_stationary_point():
    matrix, mask = low_rank(60, 50, 3, 0.4)
    found = observed_part(matrix, mask)
    U, S, V = leading_components(found, 3)
    fit = alternating_least_squares(found, U * S, V)
    assert fit.status.converged
    assert unseen_error(fit, matrix, mask) < 1e-6
    assert fit.trace["residual"][-1] <= 1e-8


def test_a_row_is_fitted_as_by_lstsq():
    matrix, mask = drawn(8, 12, 0.7)
    found = observed_part(matrix, mask)
    right = torch.randn(12, 2, dtype=torch.float64, generator=generator(2))
    fit = alternating_least_squares(found, torch.ones(8, 2).double(), right, ridge=0.3, max_sweeps=1)
    for row in range(8):
        seen = right[mask[row]]
        # Normal equations of one row, written out.
        expected = torch.linalg.solve(seen.T @ seen + 0.3 * torch.eye(2).double(), seen.T @ matrix[row, mask[row]])
        # The ridge grows by a hundred roundings of the mean diagonal.
        torch.testing.assert_close(fit.A[row], expected, rtol=1e-8, atol=1e-8)


def test_a_ridge_gives_the_nuclear_norm_solution():
    """On a fully observed matrix soft-thresholding of the singular values is the closed form."""
    matrix, _ = drawn(15, 10, 1.0)
    found = observe(matrix)
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    ridge = float(S[3])
    start = generator(4)
    left, right = (torch.randn(size, 10, dtype=torch.float64, generator=start) for size in (15, 10))
    fit = alternating_least_squares(found, left, right, ridge=ridge, tolerance=0.0, progress=1e-14, max_sweeps=3000)
    shrunk = (U * (S - ridge).clamp_min(0)) @ Vh
    # The value at which two singular values meet the threshold is reached sublinearly.
    torch.testing.assert_close(fit.A @ fit.B.T, shrunk, rtol=0, atol=1e-3)
    value = 0.5 * (shrunk - matrix).square().sum() + ridge * (S - ridge).clamp_min(0).sum()
    assert fit.objective == pytest.approx(float(value), rel=1e-6)


def test_acceleration_takes_fewer_sweeps():
    matrix, mask = low_rank(60, 60, 3, 0.22, seed=1)
    found = observed_part(matrix, mask)
    components = leading_components(found, 3)
    start = (components[0] * components[1], components[2])
    plain, fast = (
        alternating_least_squares(found, *start, acceleration=beta, progress=0.0, max_sweeps=2000)
        for beta in (0.0, 0.8)
    )
    assert plain.status.converged
    assert fast.status.converged
    assert len(fast.trace) < 0.7 * len(plain.trace)


def test_thin_decomposition():
    draws = generator(0)
    left, right = (torch.randn(size, 3, dtype=torch.float64, generator=draws) for size in (9, 7))
    U, S, V = thin_svd(left, right)
    torch.testing.assert_close(U * S @ V.T, left @ right.T, **CLOSE)
    torch.testing.assert_close(S, torch.linalg.svdvals(left @ right.T)[:3], **CLOSE)


def test_the_gap_is_the_largest_ratio_above_the_floor():
    values = torch.tensor([10.0, 8.0, 0.05, 0.04, 1e-4])
    assert spectral_gap(values) == SpectralGap(2, pytest.approx(160.0, rel=1e-4))
    assert spectral_gap(values, limit=1) == SpectralGap(1, 1.25)
    assert spectral_gap(values, floor=0.0) == SpectralGap(4, pytest.approx(400.0, rel=1e-4))
    assert spectral_gap(torch.tensor([1.0, 0.0])).ratio == float("inf")
    for wrong in (torch.ones(1), torch.tensor([1.0, 2.0]), torch.zeros(3)):
        with pytest.raises(InputError):
            spectral_gap(wrong)


def test_bearable_rank_counts_degrees_of_freedom():
    for shape, count in (((50, 30), 400), ((30, 50), 900), ((20, 20), 10)):
        rank = bearable_rank(shape, count)
        assert rank == 1 or rank * (sum(shape) - rank) <= count
        assert (rank + 1) * (sum(shape) - rank - 1) > count or rank == 32


def test_side_terms_solve_their_normal_equations():
    matrix, mask = drawn(12, 9, 0.6)
    found = observed_part(matrix, mask)
    terms = side_terms(found, damping=1.0)
    rest = torch.where(mask, matrix - terms.mean - terms.rows[:, None] - terms.columns, 0)
    # Gradient in c is zero after the last half-round; that in b up to the rate of the rounds.
    torch.testing.assert_close(rest.sum(0), terms.columns, rtol=0, atol=1e-12)
    torch.testing.assert_close(rest.sum(1), terms.rows, rtol=0, atol=1e-3)


def test_averages_of_rows_and_columns():
    found = observe(([0, 0, 1], [0, 1, 1], [1.0, 3.0, 8.0]), shape=(3, 3))
    terms = averages(found)
    assert float(terms.mean) == 4.0
    assert terms.rows.tolist() == [-2.0, 4.0, 0.0]
    assert terms.columns.tolist() == [-3.0, 1.5, 0.0]


@pytest.mark.parametrize(("m", "n", "rank", "share"), [(30, 20, 2, 0.6), (200, 200, 5, 0.15)])
def test_single_precision_stays_and_is_used_to_its_end(m, n, rank, share):
    """Sixteen roundings of float32 are reached, though what keeps the normal equations definite is a hundred."""
    matrix, mask = low_rank(m, n, rank, share)
    found = observe(torch.where(mask, matrix, torch.nan).float())
    U, S, V = leading_components(found, rank)
    fit = alternating_least_squares(found, U * S, V)
    assert fit.A.dtype == torch.float32
    assert fit.status.converged
    assert fit.trace["residual"][-1] <= 16 * torch.finfo(torch.float32).eps
    assert unseen_error(fit, matrix, mask) < 1e-5


def test_a_row_is_fitted_as_by_lstsq_in_single_precision():
    """Without a ridge, to the condition of the normal equations; a ridge of a hundred roundings would be seen."""
    matrix, mask = drawn(40, 30, 0.9)
    found = observed_part(matrix.float(), mask)
    right = torch.randn(30, 3, generator=generator(2)) * torch.tensor([1.0, 0.3, 0.1])
    fit = alternating_least_squares(found, torch.ones(40, 3), right, max_sweeps=1)
    for row in range(40):
        expected = torch.linalg.lstsq(right[mask[row]].double(), matrix[row, mask[row]].double()).solution
        # Conditions of the normal equations are near 100: 1e-5 are those times a rounding; unrefined it is 2e-3.
        torch.testing.assert_close(fit.A[row].double(), expected, rtol=0.0, atol=5e-5 * float(expected.norm()))
