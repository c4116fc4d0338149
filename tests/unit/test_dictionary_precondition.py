"""Whitening and preconditioning against their definitions."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.linear.precondition import preconditioner, second_moment, tightness_deviation, whitening
from tightframe.geometry.frames import unit_norm_tight_frame


def mixing(d, m, seed=0):
    draw = torch.randn(m, d, dtype=torch.float64, generator=generator(seed))
    return draw / draw.norm(dim=1, keepdim=True)


def test_whitened_rows_are_uncorrelated_and_directions_lead_back_to_atoms():
    atoms = mixing(6, 6)
    rows = sparse_codes((500, 6), 0.3) @ atoms
    found = whitening(second_moment(rows))
    z = found.rows(rows)
    assert torch.allclose(z.T @ z / 500, torch.eye(6).double(), atol=1e-10)
    assert torch.allclose(found.atoms(found.directions(atoms)), atoms, atol=1e-10)
    assert torch.allclose(found.matrix @ found.inverse.T, torch.eye(6).double(), atol=1e-12)


def test_the_moment_is_float64_whatever_the_rows_and_in_blocks(monkeypatch):
    rows = torch.randn(101, 4, generator=generator(1))
    expected = rows.double().T @ rows.double() / 101
    monkeypatch.setattr("tightframe.dictionary.linear.precondition._BLOCK", 40)
    assert torch.allclose(second_moment(rows), expected, rtol=1e-14, atol=1e-15)


def test_the_largest_directions_are_kept_and_missing_ones_noticed():
    rows = torch.randn(200, 5, dtype=torch.float64, generator=generator(1))
    rows[:, 4] = rows[:, 0]
    found = whitening(second_moment(rows))
    assert found.matrix.shape == (4, 5)
    fewer = whitening(second_moment(rows), rank=2)
    left, _, right = torch.linalg.svd(rows, full_matrices=False)
    # The same two directions up to sign, scaled to variance one.
    assert torch.allclose(fewer.rows(rows).abs(), left[:, :2].abs() * 200**0.5, atol=1e-8)
    assert torch.allclose(fewer.inverse @ right[2:].T, torch.zeros(2, 3).double(), atol=1e-8)
    with pytest.raises(DegenerateError, match="a span of 4"):
        whitening(second_moment(rows), rank=5)
    with pytest.raises(InputError, match="at most d"):
        whitening(second_moment(rows), rank=6)
    with pytest.raises(DegenerateError, match="all zero"):
        whitening(torch.zeros(3, 3, dtype=torch.float64))


def test_the_preconditioner_is_the_inverse_root_of_its_definition():
    rows = sparse_codes((300, 5), 0.4) @ mixing(5, 5)
    values, axes = torch.linalg.eigh(rows.T @ rows / (300 * 0.4))
    expected = axes @ torch.diag(values**-0.5) @ axes.T
    assert torch.allclose(preconditioner(rows, density=0.4), expected, atol=1e-9 * float(expected.abs().max()))


def test_preconditioning_makes_a_general_dictionary_tight_up_to_the_error_of_the_sample():
    atoms = mixing(8, 20, seed=3)
    assert tightness_deviation(atoms) > 0.8
    deviations = []
    for samples in (2000, 32_000):
        rows = sparse_codes((samples, 20), 0.2, seed=samples) @ atoms
        deviations.append(tightness_deviation(atoms @ preconditioner(rows, density=0.2)))
    # Sixteen times the samples, a quarter of the deviation; within a factor of two for chance.
    assert deviations[1] < 0.1
    assert 2 < deviations[0] / deviations[1] < 8
    scaled = atoms @ preconditioner(rows, density=0.2)
    assert torch.allclose(scaled.T @ scaled, torch.eye(8).double(), atol=0.1)


def test_shrinkage_by_the_noise_takes_its_bias_out():
    atoms = torch.eye(6, dtype=torch.float64) + 0.3 * mixing(6, 6, seed=2)
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    rows = sparse_codes((50_000, 6), 0.2, seed=1) @ atoms
    noisy = rows + 0.2 * torch.randn(rows.shape, dtype=torch.float64, generator=generator(4))
    with_shrinkage = tightness_deviation(atoms @ preconditioner(noisy, density=0.2, noise=0.2))
    without = tightness_deviation(atoms @ preconditioner(noisy, density=0.2))
    assert with_shrinkage < 0.5 * without


def test_shrinkage_beyond_the_smallest_eigenvalue_stays_finite_and_positive():
    rows = torch.randn(500, 4, dtype=torch.float64, generator=generator(1))
    found = preconditioner(rows, noise=5.0)
    assert bool((torch.linalg.eigvalsh(found) > 0).all())


def test_deviation_from_tightness():
    assert tightness_deviation(3 * unit_norm_tight_frame(7, 3)) < 1e-9
    assert tightness_deviation(torch.eye(3)[:2]) == pytest.approx(1.0)
    assert tightness_deviation(torch.diag(torch.tensor([1.0, 2.0]))) == pytest.approx(0.6)


def test_bad_input_is_refused():
    rows = torch.randn(10, 3, generator=generator(1))
    with pytest.raises(InputError, match="density"):
        preconditioner(rows, density=0)
    with pytest.raises(InputError, match="noise"):
        preconditioner(rows, noise=-1)
    with pytest.raises(InputError, match="finite"):
        preconditioner(torch.full((10, 3), float("nan")))
    with pytest.raises(DegenerateError, match="span"):
        preconditioner(torch.ones(10, 3))
    with pytest.raises(DegenerateError, match="zero"):
        tightness_deviation(torch.zeros(3, 3))
