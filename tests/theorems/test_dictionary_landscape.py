"""What is proved about fourth powers on the sphere, on small dictionaries."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.linear.landscape import expected_fourth_power, power_constants, sphere_critical_points
from tightframe.dictionary.linear.overcomplete import one_column
from tightframe.dictionary.linear.precondition import preconditioner, tightness_deviation
from tightframe.dictionary.linear.recovery import nearest_atom_gaps
from tightframe.geometry.coherence import coherence
from tightframe.geometry.frames import haar_columns, unit_norm_tight_frame
from tightframe.optimize.power import power_gradient, sphere_power


def starts(count, d, seed=0):
    draw = torch.randn(count, d, dtype=torch.float64, generator=generator(seed))
    return draw / draw.norm(dim=1, keepdim=True)


def test_orthogonal_dictionary_every_random_start_finds_a_column():
    frame = haar_columns(20, 20, seed=1).T
    rows = sparse_codes((20_000, 20), 0.1, seed=2) @ frame
    found = sphere_power(lambda q: power_gradient(rows, q), starts(200, 20), tolerance=1e-6)
    # The bias of fourth powers: their estimated gradient is off by about (d E x^8 / n)^(1/2) / E x^4, a few per cent.
    assert nearest_atom_gaps(found.Q, frame).max() < 1e-2


@pytest.mark.parametrize("orthogonal", [True, False])
def test_the_error_of_the_mean_fourth_power_falls_as_one_over_the_root_of_the_samples(orthogonal):
    atoms = haar_columns(8, 8, seed=1).T if orthogonal else unit_norm_tight_frame(12, 8)
    directions = starts(20, 8)
    expected = expected_fourth_power(atoms, directions, 0.2)
    first, second = power_constants(0.2)
    if orthogonal:
        assert torch.allclose(expected, first * (directions @ atoms.T).pow(4).sum(1) + second)
    errors = []
    for samples in (1000, 64_000):
        codes = sparse_codes((8 * samples, len(atoms)), 0.2, seed=samples)
        powers = (codes @ atoms @ directions.T).pow(4).view(8, samples, -1).mean(1)
        errors.append((powers - expected).square().mean().sqrt())
    # Sixty-four times the samples: an eighth of the error.
    assert math.log(errors[0] / errors[1]) / math.log(64) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(("d", "m"), [(8, 8), (10, 15), (16, 24)])
def test_critical_points_are_strict_saddles_or_near_columns(d, m):
    atoms = unit_norm_tight_frame(m, d, seed=1)
    assert coherence(atoms) < 0.75

    class Exact:
        rows = atoms

        @staticmethod
        def contract(q):
            return (q @ atoms.T).pow(3) @ atoms

    minima = sphere_power(Exact.contract, starts(60, d, seed=1), tolerance=1e-9, max_iterations=2000).Q
    found = sphere_critical_points(atoms, torch.cat([starts(150, d), minima]))
    kinds = found.kinds(near=0.15)
    assert "other" not in kinds
    # Both kinds occur, or the test would say nothing.
    assert kinds.count("column") >= 20
    assert kinds.count("strict saddle") >= 20
    assert found.gradients.max() < 1e-9


def test_columns_are_found_in_a_tight_frame_of_more_atoms_than_dimensions():
    atoms = unit_norm_tight_frame(32, 16, seed=3)
    rows = sparse_codes((50_000, 32), 0.1, seed=4) @ atoms
    found = one_column(rows, starts(100, 16))
    assert (nearest_atom_gaps(found.Q, atoms) < 0.05).double().mean() > 0.8


def test_preconditioning_makes_dictionaries_tight_at_the_rate_of_the_sample():
    atoms = starts(18, 10, seed=5)
    deviations = []
    for samples in (1000, 16_000):
        values = [
            tightness_deviation(
                atoms @ preconditioner(sparse_codes((samples, 18), 0.2, seed=seed) @ atoms, density=0.2)
            )
            for seed in range(4)
        ]
        deviations.append(sum(values) / 4)
    assert math.log(deviations[0] / deviations[1]) / math.log(16) == pytest.approx(0.5, abs=0.2)
