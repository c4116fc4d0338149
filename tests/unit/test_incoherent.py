"""Frames of more than d + 1 vectors: unit rows, no closer than promised, the closed forms exact."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.geometry.coherence import (
    coherence,
    cosine_bound,
    cosines,
    frame_potential,
    largest_cosine,
    welch_bound,
)
from tightframe.geometry.frames import ideal_gram
from tightframe.geometry.incoherent import construction, incoherent_frame, orthogonal_simplices


def quadratic_residue(value: int, q: int) -> int:
    """Euler's criterion: 0, 1 or -1."""
    power = pow(value % q, (q - 1) // 2, q)
    return -1 if power == q - 1 else power


@pytest.mark.parametrize(("features", "q"), [(3, 5), (7, 13), (9, 17), (31, 61)])
def test_a_whole_conference_frame_is_equiangular_and_tight(features, q):
    frame = incoherent_frame(q + 1, features, seed=2)
    assert construction(q + 1, features) == "conference"
    gram = frame @ frame.T
    # An independent conference matrix, entry by entry; the order of the points of the line is infinity, 0, 1, ...
    conference = torch.tensor(
        [[0.0 if i == j else 1.0 if i < 0 or j < 0 else quadratic_residue(i - j, q) for j in range(-1, q)]
         for i in range(-1, q)],
        dtype=torch.float64,
    )  # fmt: skip
    assert torch.allclose(conference @ conference.T, q * torch.eye(q + 1, dtype=torch.float64))
    torch.testing.assert_close(gram, torch.eye(q + 1, dtype=torch.float64) + conference / q**0.5, atol=1e-11, rtol=0)
    assert coherence(frame) == pytest.approx(welch_bound(q + 1, features), abs=1e-11)


def test_imagenet_sized():
    frame = incoherent_frame(1000, 512, seed=0)
    assert construction(1000, 512) == "conference"
    assert frame.shape == (1000, 512)
    assert coherence(frame) == pytest.approx(1021**-0.5, abs=1e-10)
    assert round(1021**-0.5, 4) == 0.0313
    assert coherence(frame) < 1.015 * welch_bound(1000, 512)


def test_orthogonal_simplices_where_a_search_is_too_long():
    assert construction(1002, 1000) == "orthogonal simplices"
    frame = incoherent_frame(1002, 1000, seed=1)
    # Two simplices of 501 vectors.
    assert coherence(frame) == pytest.approx(1 / 500, abs=1e-12)
    # The least that the largest signed cosine of more than d + 1 vectors can be.
    assert largest_cosine(frame) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("classes", "features"), [(4, 2), (7, 5), (9, 5), (10, 5), (22, 20)])
def test_orthogonal_simplices(classes, features):
    frame = orthogonal_simplices(classes, features, seed=3)
    gram = frame @ frame.T
    torch.testing.assert_close(gram.diagonal(), torch.ones(classes, dtype=torch.float64), atol=1e-12, rtol=0)
    assert largest_cosine(frame) == pytest.approx(cosine_bound(classes, features), abs=1e-12) == 0
    groups = {tuple(torch.nonzero(row.abs() > 1e-9).flatten().tolist()) for row in gram}
    sizes = sorted(len(group) for group in groups)
    assert len(sizes) == classes - features
    assert sum(sizes) == classes
    assert sizes[-1] - sizes[0] <= 1
    for group in groups:
        inside = gram[list(group)][:, list(group)]
        torch.testing.assert_close(inside, ideal_gram(len(group)), atol=1e-12, rtol=0)


def test_which_criterion_serves_cross_entropy():
    """Unit features times 6, free otherwise: the least cross-entropy of both frames, by descent on the spheres."""
    least = []
    for frame in (orthogonal_simplices(14, 7), incoherent_frame(14, 7)):
        features = frame.clone().requires_grad_()
        optimiser = torch.optim.Adam([features], lr=0.02)
        for _ in range(150):
            optimiser.zero_grad()
            logits = 6 * torch.nn.functional.normalize(features) @ frame.T
            loss = torch.nn.functional.cross_entropy(logits, torch.arange(14))
            loss.backward()
            optimiser.step()
        least.append(float(loss.detach()))
    assert least == pytest.approx([0.0293, 0.0747], abs=2e-4)


@pytest.mark.parametrize(("classes", "features"), [(8, 5), (16, 6), (30, 10), (100, 20), (5, 2), (60, 50)])
def test_every_frame_beats_random_directions_and_obeys_the_welch_bound(classes, features):
    frame = incoherent_frame(classes, features, seed=4)
    torch.testing.assert_close(frame.norm(dim=1), torch.ones(classes, dtype=torch.float64), atol=1e-12, rtol=0)
    least = coherence(frame)
    assert least >= welch_bound(classes, features) - 1e-12
    generator = torch.Generator().manual_seed(0)
    random = [coherence(torch.randn(classes, features, generator=generator)) for _ in range(20)]
    assert least < min(random)


def test_the_search_finds_the_sixteen_equiangular_lines():
    """Sixteen lines in six dimensions can be equiangular at 1/3, the Welch bound; the search comes close."""
    assert construction(16, 6) == "numerical"
    assert coherence(incoherent_frame(16, 6)) < 1.02 / 3


def test_five_lines_in_the_plane_are_evenly_spaced():
    """Lines in the plane: the best are multiples of 36 degrees apart, cos 36 = 0.80902 against a bound of 0.61237."""
    assert coherence(incoherent_frame(5, 2)) == pytest.approx(0.809017, abs=2e-3)


def test_very_many_vectors_are_a_nearly_tight_random_frame():
    assert construction(4200, 40) == "random"
    frame = incoherent_frame(4200, 40, seed=1)
    assert coherence(frame) < 1 - 1e-3
    # Rows of orthonormal columns have squared lengths d/K up to sqrt(2/d): scaled to one the potential hardly grows.
    assert frame_potential(frame) < 1.1 * 4200**2 / 40


@pytest.mark.parametrize(("classes", "features"), [(6, 3), (30, 10), (4200, 8)])
def test_a_seed_rotates_and_nothing_else(classes, features):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = incoherent_frame(classes, features, seed=5)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(incoherent_frame(classes, features, seed=5), first)
    other = incoherent_frame(classes, features, seed=6)
    assert not torch.allclose(other, first)
    if construction(classes, features) != "random":
        torch.testing.assert_close(cosines(other), cosines(first), atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("classes", "features", "message"),
    [
        (10, 9, r"more than d \+ 1 = 10 vectors.*simplex_etf"),
        (4, 1, "features is an integer of at least 2"),
        (1, 8, "more than d"),
    ],
)
def test_frames_it_refuses(classes, features, message):
    with pytest.raises(InputError, match=message):
        incoherent_frame(classes, features)


@pytest.mark.parametrize("classes", [6, 11])
def test_orthogonal_simplices_it_refuses(classes):
    with pytest.raises(InputError, match=r"from d \+ 2 = 7 to 2d = 10 vectors"):
        orthogonal_simplices(classes, 5)
