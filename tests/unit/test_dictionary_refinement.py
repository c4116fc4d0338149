"""Refinement against the truth, and sparse codes against coordinate descent written here."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.linear.coding import coded_refinement, debiased_codes, lasso_codes
from tightframe.dictionary.linear.precondition import second_moment, whitening
from tightframe.dictionary.linear.recovery import recovery
from tightframe.dictionary.linear.refinement import (
    _threshold_schedule,
    code_noise,
    projected_thresholding,
    thresholded_power,
)
from tightframe.geometry.frames import haar_columns, unit_norm_tight_frame


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def whitened(samples, size, density, *, seed=0):
    """Whitened samples, and the unit directions whose codes are exactly sparse."""
    codes = sparse_codes((samples, size), density, seed=seed)
    rows = codes @ normal(size, size, seed=seed + 1)
    z = whitening(second_moment(rows)).rows(rows)
    exact = torch.linalg.lstsq(z, codes).solution.T
    return z, exact / exact.norm(dim=1, keepdim=True)


def test_noise_around_zero_is_told_in_spite_of_large_codes():
    codes = sparse_codes((40_000, 2), 0.05) * 10 + 0.3 * normal(40_000, 2, seed=1)
    # A median of about 1000 of them has a relative error of about 4 %; the 5 % of large codes raise it by 7 %.
    assert torch.allclose(code_noise(codes), torch.tensor([0.32, 0.32]).double(), rtol=0.12)


@pytest.mark.parametrize(("size", "samples", "density"), [(10, 300, 0.2), (20, 2000, 0.1), (30, 600, 0.3)])
def test_directions_become_exact_from_a_tenth_away(size, samples, density):
    rows, exact = whitened(samples, size, density)
    start = exact + 0.15 * normal(size, size, seed=5) / size**0.5
    found = thresholded_power(rows, start)
    assert found.status.converged
    assert recovery(found.Q, exact).worst < 1e-8
    assert found.noise.max() < 1e-8
    assert torch.allclose(found.density, torch.full((size,), density).double(), atol=0.1)


def test_exact_directions_are_fixed_points_that_are_not_orthogonal():
    rows, exact = whitened(400, 10, 0.2)
    assert (exact @ exact.T - torch.eye(10).double()).abs().max() > 0.02
    # The threshold begins high, so that the first steps leave them; the last change is below 1e-10.
    assert recovery(thresholded_power(rows, exact).Q, exact).worst < 1e-9


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_a_mixture_of_two_directions_is_left_for_the_sparser_one(share):
    rows, exact = whitened(2500, 10, 0.1)
    mixture = exact[3] + share * exact[5]
    start = torch.cat([exact[:3], mixture[None] / mixture.norm(), exact[4:]])
    # Below the codes of both, any mixture is a fixed point, with about twice their share of codes.
    stuck = _threshold_schedule(rows, start, 1e-10, 100, 1e-8)
    assert stuck.status.converged
    assert float(stuck.density[3]) > 1.5 * float(stuck.density.median())
    assert float((stuck.Q[3] - exact[3]).norm()) > 0.1
    found = thresholded_power(rows, start, beginning=1e-8)
    assert found.status.converged
    assert torch.allclose(found.Q, exact, atol=1e-9)
    assert torch.allclose(found.moduli, (rows @ exact.T).abs().mean(0), atol=1e-9)
    assert found.objective == pytest.approx(float(found.moduli.mean()))
    steps = found.trace["step"]
    assert steps == list(range(1, len(steps) + 1))


def test_the_finish_in_float32_reaches_its_rounding():
    rows, exact = whitened(2000, 10, 0.2)
    found = thresholded_power(rows.float(), exact.float() + 0.02)
    assert found.Q.dtype == torch.float32
    assert found.status.converged
    assert recovery(found.Q, exact).worst < 1e-4


def test_noise_keeps_the_threshold_up_and_the_error_at_what_it_leaves():
    frame = haar_columns(12, 12, seed=0).T
    clean = sparse_codes((5000, 12), 0.1) @ frame
    rows = clean + 0.03 * normal(5000, 12, seed=3)
    white = whitening(second_moment(rows))
    found = thresholded_power(white.rows(rows), haar_columns(12, 12, seed=0).T @ torch.linalg.inv(white.matrix))
    assert found.status.converged
    # Standard error of an atom known but for noise: 0.03 (12 / (0.1 * 5000))^(1/2) = 0.0046; twice for all 12.
    assert recovery(white.atoms(torch.linalg.inv(found.Q).T), frame).worst < 0.01
    assert found.noise.min() > 0.05


def test_codes_too_dense_do_not_pass_for_converged():
    rows, exact = whitened(200, 20, 0.9)
    found = thresholded_power(rows, exact + 0.2 * normal(20, 20), max_iterations=20)
    assert not found.status.converged
    assert "dense" in found.status.message


def test_projected_thresholding_recovers_an_orthogonal_dictionary():
    frame = haar_columns(15, 15, seed=2).T
    rows = sparse_codes((300, 15), 0.2, seed=3) @ frame
    start = haar_columns(15, 15, seed=2).T + 0.03 * normal(15, 15)
    left, _, right = torch.linalg.svd(start)
    found = projected_thresholding(rows, left @ right, tolerance=1e-9, max_iterations=200)
    assert torch.allclose(found.Q @ found.Q.T, torch.eye(15).double(), atol=1e-12)
    assert recovery(found.Q, frame).worst < 0.5 * recovery(left @ right, frame).worst


def coordinate_descent(row, atoms, penalty, sweeps=2000):
    """The Lasso one coordinate at a time."""
    code, residual = torch.zeros(len(atoms), dtype=torch.float64), row.clone()
    for _ in range(sweeps):
        for k, atom in enumerate(atoms):
            square = atom @ atom
            along = atom @ residual + square * code[k]
            new = along.sign() * (along.abs() - penalty).clamp(min=0) / square
            residual += (code[k] - new) * atom
            code[k] = new
    return code


def test_lasso_codes_are_those_of_coordinate_descent():
    rows, atoms = normal(3, 4), normal(7, 4, seed=1)
    found = lasso_codes(rows, atoms, 0.3, tolerance=1e-12, max_iterations=20_000)
    for row, code in zip(rows, found, strict=True):
        assert torch.allclose(code, coordinate_descent(row, atoms, 0.3, sweeps=400), atol=1e-6)


def test_a_penalty_for_each_row_and_the_condition_of_optimality():
    rows, atoms = normal(5, 6), normal(9, 6, seed=1)
    penalty = torch.tensor([[0.1], [0.2], [0.5], [1.0], [2.0]], dtype=torch.float64)
    codes = lasso_codes(rows, atoms, penalty, tolerance=1e-13, max_iterations=20_000)
    slopes = (rows - codes @ atoms) @ atoms.T
    assert bool((slopes.abs() <= penalty + 1e-6).all())
    active = codes.abs() > 1e-6
    expected = (penalty * codes.sign())[active]
    assert torch.allclose(slopes[active], expected, atol=1e-6)


def test_debiased_codes_are_least_squares_on_the_support():
    rows, atoms = normal(6, 8), normal(12, 8, seed=1)
    codes = sparse_codes((6, 12), 0.3, seed=2)
    codes[3] = 0
    found = debiased_codes(rows, atoms, codes, iterations=30)
    for row, before, code in zip(rows, codes, found, strict=True):
        support = before != 0
        assert not code[~support].any()
        if support.any():
            expected = torch.linalg.lstsq(atoms[support].T, row[:, None]).solution[:, 0]
            assert torch.allclose(code[support], expected, atol=1e-8)


def test_an_overcomplete_dictionary_becomes_nearly_exact_where_sparse_coding_works():
    atoms = unit_norm_tight_frame(24, 16)
    rows = sparse_codes((3000, 24), 0.08, seed=2) @ atoms
    start = atoms + 0.1 * normal(24, 16, seed=4) / 4
    found = coded_refinement(rows, start, tolerance=1e-8, max_iterations=60)
    assert found.status.converged
    assert recovery(start, atoms).worst > 0.09
    # A thousandth of the error at the start; rows that a wrong support explains exactly leave about 1e-5.
    assert recovery(found.atoms, atoms).worst < 1e-4


def test_sparse_coding_does_not_amplify_the_noise_of_an_ill_conditioned_dictionary():
    atoms = normal(20, 20, seed=1)
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    assert torch.linalg.cond(atoms) > 30
    rows = sparse_codes((6000, 20), 0.1, seed=2) @ atoms + 0.05 * normal(6000, 20, seed=3)
    start = atoms + 0.1 * normal(20, 20, seed=4) / 20**0.5
    found = coded_refinement(rows, start)
    assert found.status.converged
    assert found.noise == pytest.approx(0.05, rel=0.2)
    # Standard error 0.05 (20 / 600)^(1/2) = 0.009 for known codes; three times that for estimated ones.
    assert recovery(found.atoms, atoms).worst < 0.03
    given = coded_refinement(rows, start, noise=0.05)
    assert recovery(given.atoms, atoms).worst < 0.03


def test_bad_input_is_refused():
    rows, atoms = normal(5, 3), normal(4, 3)
    with pytest.raises(InputError, match="penalty"):
        lasso_codes(rows, atoms, 0.0)
    with pytest.raises(InputError, match="shapes"):
        lasso_codes(rows, normal(4, 2), 1.0)
    with pytest.raises(InputError, match="noise"):
        coded_refinement(rows, atoms, noise=-1.0)
    with pytest.raises(InputError, match="zero"):
        coded_refinement(torch.zeros(5, 3), atoms.float())
    with pytest.raises(InputError, match="tolerance"):
        thresholded_power(rows, torch.eye(3).double(), tolerance=0)
    with pytest.raises(InputError, match="shapes"):
        thresholded_power(rows, torch.eye(2).double())
    with pytest.raises(InputError, match="max_iterations"):
        projected_thresholding(rows, torch.eye(3).double(), max_iterations=0)
    assert not lasso_codes(rows, torch.zeros(4, 3).double(), 1.0).any()
