"""Learned bases: the objective by brute force, its descent, recovery of what was planted."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.fft import dctn

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.dictionary.images.bases import choose_basis, cosine_basis, learn_bases, split_basis


def rotation(d, seed):
    return torch.linalg.qr(torch.randn(d, d, generator=generator(seed), dtype=torch.float64))[0]


def sparse_rows(n, d, seed, share=0.2):
    codes = torch.randn(n, d, generator=generator(seed), dtype=torch.float64)
    return codes * (torch.rand(n, d, generator=generator(seed + 1)) < share)


def test_the_cosine_basis_is_that_of_scipy():
    patch = torch.randn(3, 5, 5, generator=generator(0), dtype=torch.float64)
    expected = dctn(patch.numpy(), norm="ortho").reshape(-1)
    # The basis is kept in float32.
    assert (cosine_basis(3, 5).double() @ patch.flatten()).numpy() == pytest.approx(expected, abs=1e-5)


def objective(rows, bases, threshold):
    """Over bases and supports one by one: what is dropped, squared, plus t^2 per coefficient kept."""
    total = 0.0
    for row in rows.tolist():
        costs = []
        for basis in bases.tolist():
            codes = [sum(a * b for a, b in zip(atom, row, strict=True)) for atom in basis]
            costs.append(sum(min(code * code, threshold**2) for code in codes))
        total += min(costs)
    return total / len(rows)


def test_the_cost_is_the_definition():
    rows = torch.randn(40, 4, generator=generator(1), dtype=torch.float64)
    bases = torch.stack([rotation(4, 2), rotation(4, 3)])
    choice, value = choose_basis(rows, bases, 0.7)
    assert value == pytest.approx(objective(rows, bases, 0.7), rel=1e-12)
    for row, index in zip(rows, choice, strict=True):
        one = objective(row[None], bases[index][None], 0.7)
        assert one == pytest.approx(objective(row[None], bases, 0.7), rel=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_the_objective_never_rises_and_bases_stay_orthonormal(count):
    rows = torch.randn(500, 8, generator=generator(4), dtype=torch.float64) ** 3
    start = torch.stack([rotation(8, seed) for seed in range(count)])
    solution = learn_bases(rows, 1.0, start=start, steps=15, tolerance=0.0)
    values = solution.trace["objective"]
    assert all(after <= before + 1e-12 for before, after in pairwise(values))
    assert values[-1] < values[0]
    assert solution.objective == values[-1] == pytest.approx(objective(rows, solution.bases, 1.0))
    eye = torch.eye(8, dtype=torch.float64).expand(count, 8, 8)
    assert torch.allclose(solution.bases @ solution.bases.mT, eye, atol=1e-12)


def test_a_planted_basis_is_found():
    truth = rotation(10, 5)
    rows = sparse_rows(4000, 10, 6) @ truth
    # A start that is off by an angle of about 0.3 per atom.
    twist = 0.1 * torch.randn(10, 10, generator=generator(7), dtype=torch.float64)
    start = (truth @ torch.linalg.matrix_exp(twist - twist.T))[None]
    coarse = learn_bases(rows, 0.5, start=start, steps=50, tolerance=0.0)
    solution = learn_bases(rows, 0.05, start=coarse.bases, steps=50, tolerance=0.0)
    match = (solution.bases[0] @ truth.T).abs()
    assert bool((match.amax(dim=1) > 1 - 1e-3).all())
    assert len(set(match.argmax(dim=1).tolist())) == 10


def test_a_union_is_told_apart():
    first, second = rotation(8, 8), rotation(8, 9)
    rows = torch.cat([sparse_rows(1500, 8, 10) @ first, sparse_rows(1500, 8, 12) @ second])
    start = torch.stack([first, second]) + 0.02 * torch.randn(2, 8, 8, generator=generator(14), dtype=torch.float64)
    start = torch.linalg.qr(start.mT)[0].mT * torch.sign((torch.linalg.qr(start.mT)[0].mT * start).sum(2, keepdim=True))
    solution = learn_bases(rows, 0.1, start=start, steps=50)
    busy = rows.norm(dim=1) > 0
    truth = torch.arange(2).repeat_interleave(1500)
    # Rows of one coefficient below the threshold cost the same anywhere, and rows of zero length are in no basis.
    assert float((solution.choice == truth)[busy].double().mean()) > 0.95


def test_a_basis_that_nobody_chooses_stays():
    rows = sparse_rows(200, 6, 15).sign()
    lonely = rotation(6, 16)
    solution = learn_bases(rows, 0.05, start=torch.stack([torch.eye(6, dtype=torch.float64), lonely]), steps=1)
    assert not bool((choose_basis(rows, torch.stack([torch.eye(6).double(), lonely]), 0.05)[0] == 1).any())
    assert torch.equal(solution.bases[1], lonely)


def test_split_bases_differ_and_repeat():
    rows = sparse_rows(900, 6, 17) @ rotation(6, 18)
    one = split_basis(rows, torch.eye(6), 3, 0.3, draws=generator(0))
    assert torch.equal(one, split_basis(rows, torch.eye(6), 3, 0.3, draws=generator(0)))
    assert torch.allclose(one @ one.mT, torch.eye(6, dtype=torch.float64).expand(3, 6, 6), atol=1e-12)
    assert not torch.allclose(one[0], one[1], atol=1e-2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 0.0}, "a positive threshold"),
        ({"threshold": math.nan}, "a positive threshold"),
        ({"start": torch.eye(3)[None]}, "Start from cosine_basis"),
        ({"start": torch.eye(4)}, "Start from cosine_basis"),
        ({"steps": 0}, "steps is an integer of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    given = {"threshold": 1.0, "start": torch.eye(4)[None], "steps": 3} | change
    with pytest.raises(InputError, match=words):
        learn_bases(torch.randn(10, 4), given.pop("threshold"), **given)
