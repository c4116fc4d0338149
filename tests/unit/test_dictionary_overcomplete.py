"""Overcomplete dictionaries: contractions against the dense tensor, and all atoms of known frames."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.linear.cumulant import FourthCumulant, alternating_least_squares
from tightframe.dictionary.linear.overcomplete import all_columns, distinct, one_column
from tightframe.dictionary.linear.recovery import nearest_atom_gaps, recovery
from tightframe.geometry.frames import unit_norm_tight_frame


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def unit(*shape, seed=0):
    draw = normal(*shape, seed=seed)
    return draw / draw.norm(dim=1, keepdim=True)


def dense_cumulant(rows):
    """All entries of the fourth cumulant about zero."""
    fourth = torch.einsum("ja,jb,jc,jd->abcd", rows, rows, rows, rows) / len(rows)
    moment = rows.T @ rows / len(rows)
    pairs = torch.einsum("ab,cd->abcd", moment, moment)
    return fourth - pairs - pairs.permute(0, 2, 1, 3) - pairs.permute(0, 3, 2, 1)


def frame_data(d, m, samples, density=0.1, *, seed=0):
    atoms = unit_norm_tight_frame(m, d, seed=seed)
    rows = sparse_codes((samples, m), density, seed=seed) @ atoms
    return rows / (density * m / d) ** 0.5, atoms


def test_contractions_are_those_of_the_dense_tensor_less_the_atoms():
    rows, q = normal(30, 3), normal(4, 3, seed=1)
    atoms, weights = unit(2, 3, seed=2), torch.tensor([0.5, 1.5], dtype=torch.float64)
    tensor = dense_cumulant(rows) - torch.einsum("k,ka,kb,kc,kd->abcd", weights, atoms, atoms, atoms, atoms)
    expected = torch.einsum("abcd,ia,ib,ic->id", tensor, q, q, q)
    cumulant = FourthCumulant(rows).without(atoms, weights)
    assert torch.allclose(cumulant.contract(q), expected, atol=1e-12)
    assert torch.allclose(cumulant.value(q), (expected * q).sum(1), atol=1e-12)
    moves = normal(4, 3, seed=5)
    derivative = 3 * torch.einsum("abcd,ia,ib,ic->id", tensor, q, q, moves)
    assert torch.allclose(cumulant.derivative(q, moves), derivative, atol=1e-12)


def test_the_cumulant_of_gaussian_rows_vanishes_with_their_number():
    values = FourthCumulant(normal(200_000, 3)).value(unit(20, 3))
    # Standard deviation of a kurtosis: (24 / n)^(1/2) = 0.011.
    assert values.abs().max() < 0.05


def test_least_squares_take_out_the_bias_of_neighbours():
    class Exact(FourthCumulant):
        """The cumulant of infinitely many samples."""

        def contract(self, directions):
            return (directions @ self.rows.T).pow(3) @ self.rows

    atoms = unit_norm_tight_frame(14, 7)
    exact = Exact(atoms)
    start = atoms + 0.05 * normal(14, 7)
    start = start / start.norm(dim=1, keepdim=True)
    found, weights = alternating_least_squares(exact, start, iterations=60)
    # The ridge of a thousandth leaves that much.
    assert recovery(found, atoms).worst < 2e-3
    assert torch.allclose(weights, torch.ones(14).double(), atol=2e-3)
    maxima = one_column(exact, atoms, tolerance=1e-9).Q
    assert recovery(maxima, atoms).worst > 5 * recovery(found, atoms).worst


@pytest.mark.parametrize("method", ["power", "rgd", "trust-region"])
def test_every_start_ends_near_an_atom(method):
    rows, atoms = frame_data(12, 18, 20_000)
    found = one_column(rows, normal(30, 12, seed=3), method=method, tolerance=1e-3)
    assert found.status.converged
    gaps = nearest_atom_gaps(found.Q, atoms)
    assert (gaps < 0.05).double().mean() > 0.9


@pytest.mark.parametrize(("d", "m", "seed"), [(16, 32, 1), (24, 60, 0)])
def test_all_atoms_are_found_although_repeated_trials_alone_miss_some(d, m, seed):
    rows, atoms = frame_data(d, m, 30_000, seed=seed)
    found = all_columns(rows, m, seed=seed)
    assert found.status.converged
    assert recovery(found.Q, atoms).cosines.min() > 0.95
    assert found.Q.shape == (m, d)
    assert 0 < float(found.coverage) < 1
    # As many trials as all rounds took, without deflation.
    trials = int(sum(found.trace["trials"]))
    alone = one_column(rows, normal(trials, d, seed=seed)).Q
    assert (nearest_atom_gaps(atoms, alone) >= 0.05).any()


def test_the_number_of_atoms_is_found_when_it_is_not_given():
    rows, atoms = frame_data(12, 18, 30_000, seed=2)
    found = all_columns(rows)
    assert len(found.Q) == 18
    assert recovery(found.Q, atoms).worst < 0.1
    assert "without another" in found.status.message


def test_more_atoms_than_there_are_stall_and_say_so():
    rows, _ = frame_data(10, 12, 20_000)
    found = all_columns(rows, 15)
    assert found.status.outcome == "stalled"
    assert len(found.Q) < 15
    assert "15 were asked for" in found.status.message


def test_distinct_rows_against_a_search_by_hand():
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-0.99, 0.14106736], [0.0, 1.0], [0.6, 0.8]])
    kept, sizes = distinct(rows, cosine=0.9)
    assert kept.tolist() == [0, 1, 3]
    assert sizes.tolist() == [2, 2, 1]


def test_bad_input_is_refused():
    rows, _ = frame_data(6, 8, 500)
    with pytest.raises(InputError, match="method"):
        one_column(rows, normal(2, 6), method="newton")
    with pytest.raises(InputError, match="count"):
        all_columns(rows, 0)
    with pytest.raises(InputError, match="both"):
        FourthCumulant(rows, normal(2, 6))
    with pytest.raises(InputError, match="directions"):
        alternating_least_squares(FourthCumulant(rows), normal(6))
    with pytest.raises(DegenerateError, match="tails"):
        all_columns(torch.rand(5000, 4, dtype=torch.float64, generator=generator(0)) - 0.5, 4)
