"""Subspaces of classes against eigenvectors and least squares, angles and ranks against definition and closed form."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.geometry.subspaces import (
    class_subspaces,
    entropy_rank,
    principal_angles,
    stable_rank,
    subspace_distances,
)


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=generator(seed), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(5, 9), st.integers(0, 99))
def test_angles_are_those_of_scipy(a, b, d, seed):
    first, second = normal(a, d, seed=seed), normal(b, d, seed=seed + 1000)
    expected = np.sort(scipy.linalg.subspace_angles(first.T.numpy(), second.T.numpy()))
    angles = principal_angles(first, second)
    assert angles.dtype == torch.float64
    # SciPy takes small angles from their cosines where others are large, and returns 4e-8 for 0: the root of rounding.
    assert angles.tolist() == pytest.approx(expected.tolist(), abs=1e-7)
    shared = max(0, a + b - d)
    assert float(angles[:shared].sum()) < 1e-13


def test_angles_that_were_built_in_are_found_however_small():
    # Planes (e1, e3), (e2, e4) turned by known angles: small ones are lost where the cosine alone is taken.
    wanted = torch.tensor([1e-12, 1e-7, 0.3, 1.5], dtype=torch.float64)
    first, second = torch.zeros(4, 8, dtype=torch.float64), torch.zeros(4, 8, dtype=torch.float64)
    for i, angle in enumerate(wanted):
        first[i, i] = 1
        second[i, i], second[i, i + 4] = angle.cos(), angle.sin()
    turn = torch.linalg.qr(normal(8, 8)).Q
    mixed = (normal(4, 4, seed=1) @ first @ turn, normal(4, 4, seed=2) @ second @ turn)
    # Rounding of the products, times the condition numbers of the two mixings (below 50), is at most 1e-13.
    assert float((principal_angles(*mixed) - wanted).abs().max()) < 1e-13
    exact = principal_angles(first, second)
    assert float((exact / wanted - 1).abs().max()) < 1e-12


def test_angles_of_equal_orthogonal_and_nested_spans():
    space = normal(3, 10)
    assert float(principal_angles(space, normal(3, 3, seed=1) @ space).max()) < 1e-13
    assert float(principal_angles(space, space[:1]).max()) < 1e-14
    eye = torch.eye(5, dtype=torch.float64)
    assert principal_angles(eye[:2], eye[2:]).tolist() == pytest.approx([np.pi / 2] * 2, abs=1e-15)
    # A third vector in the span of the other two adds no angle.
    assert len(principal_angles(torch.cat([eye[:2], eye[:1] + eye[1:2]]), eye)) == 2


@pytest.mark.parametrize("centre", [False, True])
def test_bases_are_the_leading_eigenvectors_of_the_scatter(centre):
    features, labels = normal(40, 6), torch.arange(40) % 3
    for k, space in enumerate(class_subspaces(features, labels, rank=2, centre=centre)):
        rows = features[labels == k].numpy()
        mean = rows.mean(0) if centre else np.zeros(6)
        values, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean))
        projector = vectors[:, -2:] @ vectors[:, -2:].T
        assert np.allclose((space.basis.T @ space.basis).numpy(), projector, atol=1e-12)
        assert np.allclose(space.singular_values.square().numpy(), values[::-1], rtol=1e-11)
        assert np.allclose(space.mean.numpy(), mean, atol=1e-15)
        assert (space.rank, space.samples) == (2, len(rows))


def test_energy_takes_the_least_number_of_directions():
    # Squared singular values 16, 9, 4, 1: shares 0.533, 0.833, 0.967, 1.
    features = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    labels = torch.zeros(4, dtype=torch.long)
    for energy, rank in ((0.5, 1), (0.6, 2), (0.84, 3), (0.97, 4), (1.0, 4)):
        assert class_subspaces(features, labels, energy=energy)[0].rank == rank


def test_a_class_has_no_direction_it_does_not_reach():
    low = normal(20, 2) @ normal(2, 7, seed=1)
    for dtype in (torch.float64, torch.float32):
        assert class_subspaces(low.to(dtype), torch.zeros(20, dtype=torch.long), rank=5)[0].rank == 2
    few = class_subspaces(normal(3, 7), torch.tensor([0, 1, 1]), rank=4)
    assert [space.rank for space in few] == [1, 2]
    lonely = class_subspaces(normal(3, 7) + 5, torch.tensor([0, 1, 1]), rank=4, centre=True)
    assert [space.rank for space in lonely] == [0, 1]
    same = class_subspaces(torch.full((4, 3), 0.1), torch.zeros(4, dtype=torch.long), energy=0.9, centre=True)
    assert same[0].rank == 0


def test_distances_are_those_of_least_squares():
    features, labels, new = normal(30, 5), torch.arange(30) % 2, normal(9, 5, seed=4)
    for centre in (False, True):
        spaces = class_subspaces(features, labels, rank=2, centre=centre)
        found = subspace_distances(new, spaces)
        for k, space in enumerate(spaces):
            for i, row in enumerate((new - space.mean).numpy()):
                solution = np.linalg.lstsq(space.basis.T.numpy(), row, rcond=None)
                assert float(found[i, k]) == pytest.approx(solution[1][0] ** 0.5, abs=1e-12)
    # Samples of the subspace itself are at distance 0 to rounding, not to its root.
    inside = class_subspaces(features[:2], torch.zeros(2, dtype=torch.long), rank=2)
    assert float(subspace_distances(features[:2] * 1e3, inside).max()) < 1e-11


def test_ranks_in_closed_form():
    flat = torch.zeros(12, 9)
    flat[torch.arange(12), torch.arange(12) % 4] = 3.0
    assert entropy_rank(flat) == pytest.approx(4, abs=1e-12)
    assert stable_rank(flat) == pytest.approx(4, abs=1e-12)
    # Squared singular values 9 and 1: shares 0.9 and 0.1.
    uneven = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert entropy_rank(uneven) == pytest.approx(0.9**-0.9 * 0.1**-0.1, abs=1e-12)
    assert stable_rank(uneven) == pytest.approx(10 / 9, abs=1e-12)
    assert entropy_rank(uneven * 1e200) == pytest.approx(entropy_rank(uneven), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_ranks_are_ordered(n, d, seed):
    features = normal(n, d, seed=seed)
    assert 1 - 1e-12 <= stable_rank(features) <= entropy_rank(features) + 1e-12 <= min(n, d) + 2e-12


LABELS = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: class_subspaces(normal(4, 3), LABELS), InputError, "either rank= or energy="),
        (lambda: class_subspaces(normal(4, 3), LABELS, rank=1, energy=0.5), InputError, "either rank= or energy="),
        (lambda: class_subspaces(normal(4, 3), LABELS, rank=0), InputError, "rank is an integer of at least 1"),
        (lambda: class_subspaces(normal(4, 3), LABELS, energy=1.5), InputError, "energy is a share"),
        (lambda: class_subspaces(normal(4, 3), LABELS * 2, rank=1), InputError, "none of class 1"),
        (lambda: class_subspaces(normal(4, 3), LABELS - 1, rank=1), InputError, r"labels lie in \[0, 4\)"),
        (lambda: class_subspaces(normal(0, 3), LABELS[:0], rank=1), InputError, "no samples at all"),
        (lambda: class_subspaces(normal(4, 3).log(), LABELS, rank=1), InputError, "NaN or inf"),
        (lambda: subspace_distances(normal(4, 3), ()), InputError, "subspaces of none"),
        (
            lambda: subspace_distances(normal(4, 2), class_subspaces(normal(4, 3), LABELS, rank=1)),
            InputError,
            "d = 2, subspaces of d = 3",
        ),
        (lambda: principal_angles(normal(2, 3), normal(2, 4)), InputError, "3 and 4"),
        (
            lambda: principal_angles(normal(2, 3), normal(2, 3).log()),
            InputError,
            "the second set of vectors are finite",
        ),
        (lambda: principal_angles(torch.zeros(2, 3), normal(2, 3)), DegenerateError, "first set of vectors spans"),
        (lambda: entropy_rank(torch.zeros(2, 3)), DegenerateError, "differ from zero"),
        (lambda: stable_rank(torch.zeros(2, 3)), DegenerateError, "differ from zero"),
        (lambda: principal_angles(normal(2, 3), normal(2, 3).to("meta")), InputError, "one device"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
