"""Coherence by brute force, and bounds that are attained by known configurations and undercut by none."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.geometry.coherence import (
    coherence,
    cosine_bound,
    cosines,
    frame_potential,
    frame_potential_bound,
    largest_cosine,
    welch_bound,
)
from tightframe.geometry.frames import orthogonal_frame, simplex_etf


def normal(vectors, dimension, seed=0):
    return torch.randn(vectors, dimension, dtype=torch.float64, generator=generator(seed))


def polygon(vectors):
    angles = 2 * math.pi / vectors * torch.arange(vectors, dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def orthoplex(dimension):
    axes = orthogonal_frame(dimension, dimension, seed=2)
    return torch.cat([axes, -axes])


def icosahedron():
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    turned = [(c[i % 3], c[(i + 1) % 3], c[(i + 2) % 3]) for c in corners for i in range(3)]
    return torch.tensor(turned, dtype=torch.float64)


@pytest.mark.parametrize(("vectors", "dimension"), [(2, 1), (3, 5), (7, 3), (20, 4)])
def test_by_brute_force(vectors, dimension):
    rows = normal(vectors, dimension) * torch.logspace(-3, 3, vectors, dtype=torch.float64)[:, None]
    plain = rows.tolist()

    def cosine(one, two):
        product = math.fsum(a * b for a, b in zip(one, two, strict=True))
        return product / math.hypot(*one) / math.hypot(*two)

    pairs = [cosine(one, two) for one, two in combinations(plain, 2)]
    assert coherence(rows) == pytest.approx(max(map(abs, pairs)), rel=1e-13)
    assert largest_cosine(rows) == pytest.approx(max(pairs), rel=1e-12)
    assert frame_potential(rows) == pytest.approx(vectors + 2 * sum(c * c for c in pairs), rel=1e-13)
    assert cosines(rows).diagonal().tolist() == pytest.approx([1.0] * vectors, rel=1e-14)


@pytest.mark.parametrize(("vectors", "dimension"), [(2, 1), (4, 3), (4, 9), (10, 9), (33, 40)])
def test_the_simplex_attains_every_bound_it_can(vectors, dimension):
    frame = simplex_etf(vectors, dimension)
    assert largest_cosine(frame) == pytest.approx(cosine_bound(vectors, dimension), rel=1e-12)
    assert cosine_bound(vectors, dimension) == -1 / (vectors - 1)
    # In its own d = K - 1 dimensions it is an equiangular tight frame.
    assert coherence(frame) == pytest.approx(welch_bound(vectors, vectors - 1), rel=1e-12)
    assert frame_potential(frame) == pytest.approx(frame_potential_bound(vectors, vectors - 1), rel=1e-12)


def test_the_icosahedron_is_an_equiangular_tight_frame_of_lines():
    lines = icosahedron()
    assert len(lines) == 12
    half = lines[lines @ torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64) > 0]
    assert half.shape == (6, 3)
    assert coherence(half) == pytest.approx(welch_bound(6, 3), rel=1e-13)
    assert welch_bound(6, 3) == pytest.approx(5**-0.5, rel=1e-15)
    assert frame_potential(half) == pytest.approx(frame_potential_bound(6, 3), rel=1e-13)


@pytest.mark.parametrize("dimension", [2, 3, 8])
def test_the_orthoplex_attains_zero(dimension):
    frame = orthoplex(dimension)
    assert abs(largest_cosine(frame)) < 1e-14
    assert largest_cosine(frame[: dimension + 2]) < 1e-14
    for vectors in range(dimension + 2, 2 * dimension + 1):
        assert cosine_bound(vectors, dimension) <= 1e-15
    assert frame_potential(frame) == pytest.approx(frame_potential_bound(2 * dimension, dimension), rel=1e-13)


@pytest.mark.parametrize("vectors", [3, 4, 5, 6, 17, 100])
def test_polygons_attain_the_bound_on_the_circle(vectors):
    assert cosine_bound(vectors, 2) == pytest.approx(math.cos(2 * math.pi / vectors), abs=1e-14)
    assert largest_cosine(polygon(vectors)) == pytest.approx(cosine_bound(vectors, 2), abs=1e-13)


def test_known_best_packings_respect_the_bound():
    # Twelve points in three dimensions: the icosahedron is best possible, 63.4 degrees.
    assert largest_cosine(icosahedron()) == pytest.approx(5**-0.5, rel=1e-13)
    assert 0 < cosine_bound(12, 3) < 5**-0.5
    # The kissing number of R^3 is 12: thirteen vectors cannot all be 60 degrees apart; caps alone allow 14.
    assert cosine_bound(15, 3) > 0.5
    assert cosine_bound(14, 3) < 0.5


@pytest.mark.parametrize("dimension", [1, 2, 3, 6])
def test_random_vectors_never_undercut_the_bounds(dimension):
    for vectors in (2, dimension + 1, dimension + 2, 2 * dimension + 1, 5 * dimension + 3):
        vectors = max(2, vectors)
        for seed in range(20):
            rows = normal(vectors, dimension, seed)
            assert coherence(rows) >= welch_bound(vectors, dimension) - 1e-12
            assert largest_cosine(rows) >= cosine_bound(vectors, dimension) - 1e-12
            assert frame_potential(rows) >= frame_potential_bound(vectors, dimension) * (1 - 1e-12)
            assert frame_potential(rows) <= vectors**2 * (1 + 1e-12)


@pytest.mark.parametrize(("vectors", "dimension"), [(5, 3), (9, 4), (20, 3)])
def test_descent_does_not_undercut_the_bounds(vectors, dimension):
    # Points pushed apart by a steep repulsion: near-optimal packings, a sharper check than random ones.
    rows = normal(vectors, dimension, 1).requires_grad_(True)
    optimizer = torch.optim.Adam([rows], lr=0.02)
    for step in range(300):
        unit = rows / rows.norm(dim=1, keepdim=True)
        gram = unit @ unit.T - 2 * torch.eye(vectors, dtype=torch.float64)
        loss = torch.logsumexp((5 + step / 3) * gram.flatten(), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = largest_cosine(rows)
    assert found >= cosine_bound(vectors, dimension) - 1e-9
    assert found < largest_cosine(normal(vectors, dimension, 1))
    assert coherence(rows) >= welch_bound(vectors, dimension) - 1e-12


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_bounds_grow_with_the_number_of_vectors_and_fall_with_the_dimension(dimension):
    for bound in (welch_bound, cosine_bound):
        values = [bound(vectors, dimension) for vectors in range(2, 60)]
        assert values == sorted(values)
        assert all(bound(30, d) >= bound(30, d + 1) - 1e-15 for d in range(1, 40))
    assert welch_bound(10, 10) == welch_bound(10, 50) == 0
    assert cosine_bound(3, 1) == welch_bound(3, 1) == 1


def test_size_and_type_do_not_matter():
    rows = normal(6, 3)
    for changed in (1e200 * rows, 1e-200 * rows, rows * torch.tensor([[1e-150], [1.0]] * 3, dtype=torch.float64)):
        assert coherence(changed) == pytest.approx(coherence(rows), rel=1e-13)
    assert coherence(rows.float()) == pytest.approx(coherence(rows), rel=1e-6)
    assert coherence(torch.stack([rows[0], 3 * rows[0]])) == 1
    assert largest_cosine(torch.stack([rows[0], -3 * rows[0]])) == pytest.approx(-1, abs=1e-15)
    assert coherence(rows.requires_grad_(True)) > 0


@pytest.mark.parametrize("measure", [coherence, largest_cosine, frame_potential, cosines])
@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (torch.ones(1, 3), InputError, "at least two vectors; got 1"),
        (torch.ones(3), InputError, r"vectors has shape \(n, d\)"),
        ([[1.0, 2.0]], InputError, "vectors is a torch.Tensor"),
        (torch.ones(2, 3).long(), InputError, "floating-point"),
        (torch.full((2, 2), math.nan), InputError, "vectors are finite"),
        (torch.tensor([[1.0, math.inf], [1.0, 0.0]]), InputError, "vectors are finite"),
        (torch.tensor([[0.0, 0.0], [1.0, 0.0]]), DegenerateError, "1 of length zero"),
    ],
)
def test_bad_vectors(measure, vectors, error, message):
    with pytest.raises(error, match=message):
        measure(vectors)


@pytest.mark.parametrize("bound", [welch_bound, cosine_bound, frame_potential_bound])
@pytest.mark.parametrize(("vectors", "dimension"), [(1, 3), (3, 0), (2.5, 3), (3, True)])
def test_bad_sizes(bound, vectors, dimension):
    with pytest.raises(InputError, match="is an integer of at least"):
        bound(vectors, dimension)
