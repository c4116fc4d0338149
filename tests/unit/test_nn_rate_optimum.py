"""Bounds of the rate reduction: attained by known features, never exceeded by any, found by ascent."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.rate.coding import rate_reduction
from tightframe.nn.rate.rate_optimum import maximal_rate_reduction, orthogonal_rate_reduction


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def closed_form(d, k, eps2):
    return d / 2 * math.log1p(1 / eps2) - d / (2 * k) * math.log1p(k / eps2)


def in_subspaces(ranks, sizes):
    """Unit rows in orthogonal subspaces of these ranks with equal singular values; sizes are multiples of the ranks."""
    basis = torch.linalg.qr(normal(sum(ranks), sum(ranks))).Q
    parts = basis.split(ranks)
    rows = torch.cat([part.repeat(size // len(part), 1) for part, size in zip(parts, sizes, strict=True)])
    return rows, torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(sizes))


def ascended(d, sizes, eps2, *, steps=200, seed=0):
    """Largest Delta R found by ascent over unit rows."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rows = normal(sum(sizes), d, seed=seed).requires_grad_()
    descent = torch.optim.Adam([rows], lr=0.05)
    for _ in range(steps):
        descent.zero_grad()
        (-rate_reduction(unit(rows), labels, eps2=eps2).delta).backward()
        descent.step()
    return float(rate_reduction(unit(rows.detach()), labels, eps2=eps2).delta)


@pytest.mark.parametrize(("d", "k"), [(6, 3), (12, 4), (10, 10), (4, 1), (60, 10)])
def test_balanced_classes_attain_the_closed_form(d, k):
    bound = maximal_rate_reduction(d, k)
    assert bound == pytest.approx(closed_form(d, k, 0.5), abs=1e-13)
    assert orthogonal_rate_reduction(d, k) == pytest.approx(bound, abs=1e-13)
    rows, labels = in_subspaces([d // k] * k, [2 * (d // k)] * k)
    # Logarithms of 60 eigenvalues, each right to a few ulps.
    assert float(rate_reduction(rows, labels).delta) == pytest.approx(bound, abs=1e-12)


def test_number_of_the_prototype():
    assert maximal_rate_reduction(64, 10, eps2=0.5) == pytest.approx(35.155 - 9.743, abs=2e-3)


@pytest.mark.parametrize(("d", "k"), [(2, 3), (3, 4), (2, 6)])
def test_more_classes_than_features_attain_a_tight_frame(d, k):
    angles = 2 * math.pi / k * torch.arange(k, dtype=torch.float64)
    corners = torch.stack([angles.cos(), angles.sin()], 1)
    tetrahedron = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    frame = corners if d == 2 else unit(tetrahedron)
    found = rate_reduction(frame.repeat(5, 1), torch.arange(k).repeat(5)).delta
    assert float(found) == pytest.approx(maximal_rate_reduction(d, k), abs=1e-13)
    assert float(found) == pytest.approx(d / 2 * math.log(3) - math.log1p(2 * d) / 2, abs=1e-13)


@pytest.mark.parametrize(
    ("d", "sizes", "eps2"),
    [(6, (8, 8, 8), 0.5), (7, (8, 8, 8), 0.5), (6, (20, 6, 3), 0.5), (8, (2, 3, 20), 0.2), (3, (6, 6, 6, 6), 0.5)],
)
def test_ascent_comes_close_and_does_not_pass(d, sizes, eps2):
    bound = maximal_rate_reduction(d, len(sizes), eps2=eps2, counts=sizes)
    best = ascended(d, sizes, eps2)
    # Rounding of the ranks costs up to 2 % here, a local maximum of the ascent the rest.
    assert 0.95 * bound <= best <= bound + 1e-12


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    d=st.integers(1, 9),
    eps2=st.floats(0.02, 20),
    rank=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_no_features_exceed_the_bound(sizes, d, eps2, rank, seed):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    # Low-rank classes come closer to the bound than random rows.
    bases = normal(len(sizes), min(rank, d), d, seed=seed)
    rows = unit(torch.einsum("nr,nrd->nd", normal(len(labels), min(rank, d), seed=seed + 1), bases[labels]))
    found = float(rate_reduction(rows, labels, eps2=eps2, classes=len(sizes)).delta)
    assert found <= maximal_rate_reduction(d, len(sizes), eps2=eps2, counts=sizes) + 1e-12


@pytest.mark.parametrize(
    ("d", "sizes", "eps2"), [(7, (8, 8, 8), 0.5), (9, (20, 6, 2), 0.3), (6, (9, 3), 4.0), (5, (1, 9), 0.5)]
)
def test_orthogonal_ranks_by_trying_all(d, sizes, eps2):
    def value(ranks):
        total = 0.0
        for rank, size in zip(ranks, sizes, strict=True):
            share = size / sum(sizes)
            x = d * share / (eps2 * rank)
            total += rank / 2 * (math.log1p(x) - share * math.log1p(x / share))
        return total

    choices = itertools.product(*(range(1, min(size, d) + 1) for size in sizes))
    best = max(value(ranks) for ranks in choices if sum(ranks) <= d)
    found = orthogonal_rate_reduction(d, len(sizes), eps2=eps2, counts=sizes)
    assert found == pytest.approx(best, abs=1e-13)
    assert found <= maximal_rate_reduction(d, len(sizes), eps2=eps2, counts=sizes) + 1e-13


def test_orthogonal_value_is_that_of_features():
    rows, labels = in_subspaces([2, 3, 1], [4, 6, 2])
    share, x = torch.tensor([4, 6, 2]) / 12, torch.tensor([6 * 4 / 12 / 2, 6 * 6 / 12 / 3, 6 * 2 / 12]) / 0.5
    expected = (torch.tensor([2, 3, 1]) / 2 * (torch.log1p(x) - share * torch.log1p(x / share))).sum()
    assert float(rate_reduction(rows, labels).delta) == pytest.approx(float(expected), rel=1e-6)
    assert float(expected) <= orthogonal_rate_reduction(6, 3, counts=[4, 6, 2]) + 1e-6


def test_unbalanced_bound_is_the_best_price_of_a_dimension():
    """Against scanning real ranks of two classes: the bound is the maximum of a concave function."""
    d, sizes, eps2 = 8, (30, 10), 0.5
    shares = torch.tensor(sizes, dtype=torch.float64) / 40
    rho = torch.linspace(0.01, d - 0.01, 80_001, dtype=torch.float64)

    def gain(share, rank):
        x = d * share / (eps2 * rank)
        return rank / 2 * (torch.log1p(x) - share * torch.log1p(x / share))

    best = float((gain(shares[0], rho) + gain(shares[1], d - rho)).max())
    # The scan is off by its step squared, 1e-8.
    assert maximal_rate_reduction(d, 2, eps2=eps2, counts=sizes) == pytest.approx(best, abs=1e-7)


def test_published_condition_for_full_rank_is_too_weak():
    """K = 10, d = 20, eps2 = 2 satisfies eps2^2 < (n_j/n) d^2/d_j^2 with d_j = 2, yet one dimension a class wins."""
    d, k, eps2 = 20, 10, 2.0
    assert eps2**2 < (1 / k) * d**2 / (d / k) ** 2
    rows, labels = in_subspaces([2] * k, [4] * k)
    full = float(rate_reduction(rows, labels, eps2=eps2).delta)
    single = torch.repeat_interleave(torch.eye(d, dtype=torch.float64)[:k], 4, dim=0)
    less = float(rate_reduction(single, labels, eps2=eps2).delta)
    assert less > full + 1e-3
    assert orthogonal_rate_reduction(d, k, eps2=eps2) == pytest.approx(less, abs=1e-12)
    assert less < maximal_rate_reduction(d, k, eps2=eps2) < closed_form(d, k, eps2) * 1.05


def test_few_samples_span_few_dimensions():
    """Two samples a class in 16 dimensions: orthonormal rows are best, far below the bound for many samples."""
    found = float(rate_reduction(torch.eye(16, dtype=torch.float64)[:4], torch.tensor([0, 0, 1, 1])).delta)
    assert maximal_rate_reduction(16, 2, counts=[2, 2]) == pytest.approx(found, abs=1e-12)
    assert orthogonal_rate_reduction(16, 2, counts=[2, 2]) == pytest.approx(found, abs=1e-12)
    assert maximal_rate_reduction(16, 2, counts=[200, 200]) > 1.2 * found


def test_one_class_and_absent_classes():
    assert maximal_rate_reduction(8, 1) == 0
    assert maximal_rate_reduction(8, 3, counts=[0, 5, 0]) == 0
    counts = dict(counts=[4, 0, 4])
    assert maximal_rate_reduction(8, 3, **counts) == maximal_rate_reduction(8, 2, counts=[4, 4])
    assert orthogonal_rate_reduction(2, 3, **counts) > 0


def test_bad_input():
    with pytest.raises(InputError, match="eps2"):
        maximal_rate_reduction(8, 2, eps2=0)
    with pytest.raises(InputError, match="features"):
        maximal_rate_reduction(0, 2)
    for counts in ([1], [0, 0], [1, 2, 3]):
        with pytest.raises(InputError, match="counts of 2 classes"):
            maximal_rate_reduction(8, 2, counts=counts)
    with pytest.raises(InputError, match="counts"):
        maximal_rate_reduction(8, 2, counts=[3, -1])
    with pytest.raises(InputError, match="at most d = 2 classes"):
        orthogonal_rate_reduction(2, 3)
