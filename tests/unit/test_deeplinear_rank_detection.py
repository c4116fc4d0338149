"""Ranks to try, entries put aside to check one, and what counts as agreement."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.rng import generator
from tightframe.deeplinear import recipe
from tightframe.deeplinear.observations import observe
from tightframe.deeplinear.path import balanced, leading_components
from tightframe.deeplinear.rank_detection import agrees, candidate_ranks, part_for_check
from tightframe.deeplinear.recipe import Recipe, complete_low_rank

DOUBLE = torch.float64


def low_rank(m, n, rank, share, seed=0):
    draws = generator(seed)
    A, B = (torch.randn(size, rank, dtype=DOUBLE, generator=draws) for size in (m, n))
    return A, B, torch.rand(m, n, generator=draws) < share


def part(matrix, mask):
    return observe(torch.where(mask, matrix, torch.nan))


def noise(m, n, share):
    draws = generator(3)
    matrix = torch.randn(m, n, dtype=DOUBLE, generator=draws)
    return part(matrix, torch.rand(m, n, generator=draws) < share)


def test_candidates_fall_by_ratio_and_spare_what_the_entries_cannot_bear():
    values = torch.tensor([100.0, 50.0, 48.0, 6.0, 5.0, 1.0])
    found = part(torch.ones(30, 30, dtype=DOUBLE), torch.rand(30, 30, generator=generator(0)) < 0.5)
    ratios = [100 / 50, 50 / 48, 48 / 6, 6 / 5, 5 / 1]
    ranked = sorted(range(1, 6), key=lambda rank: -ratios[rank - 1])
    some = candidate_ranks(values, found, limit=5)
    assert [gap.rank for gap in some] == ranked[:3] == [3, 5, 1]
    assert [gap.ratio for gap in some] == pytest.approx([ratios[rank - 1] for rank in ranked[:3]])
    assert [gap.rank for gap in candidate_ranks(values, found, limit=2)] == [1, 2]
    # 5 (60 - 5) degrees of freedom are more than 95 % of 280 entries; those of 1, 3 and 4 are not.
    fewer = found.subset(torch.arange(len(found)) < 280)
    assert [gap.rank for gap in candidate_ranks(values, fewer, limit=5)] == [3, 1, 4]
    # The first stays, whatever its freedom; a value below a hundredth of the first is none.
    tiny = found.subset(torch.arange(len(found)) < 20)
    assert [gap.rank for gap in candidate_ranks(values, tiny, limit=5)] == [3]
    assert [gap.rank for gap in candidate_ranks(torch.tensor([100.0, 0.5, 1e-4]), found, limit=2)] == [1]
    lone = candidate_ranks(values[:1], found, limit=1)
    assert (lone[0].rank, lone[0].ratio) == (1, math.inf)


@pytest.mark.parametrize(("count", "amount"), [(10, 1), (40, 4), (200, 5), (600, 12), (5600, 100)])
def test_entries_put_aside_are_few_and_from_rich_rows_and_columns(count, amount):
    matrix = torch.randn(80, 80, dtype=DOUBLE, generator=generator(1))
    places = torch.zeros(6400, dtype=torch.bool)
    places[torch.randperm(6400, generator=generator(2))[:count]] = True
    found = part(matrix, places.view(80, 80))
    train, held = part_for_check(found, seed=0)
    assert (len(train), len(held)) == (count - amount, amount)
    whole = {(i, j): x for i, j, x in zip(found.rows.tolist(), found.columns.tolist(), found.values, strict=True)}
    parts = [set(zip(one.rows.tolist(), one.columns.tolist(), strict=True)) for one in (train, held)]
    assert parts[0] | parts[1] == whole.keys()
    assert not parts[0] & parts[1]
    assert all(whole[i, j] == x for i, j, x in zip(held.rows.tolist(), held.columns.tolist(), held.values, strict=True))
    for counts, index, all_index in (
        (found.row_counts, held.rows, found.rows),
        (found.column_counts, held.columns, found.columns),
    ):
        assert bool((counts[index] >= counts[all_index].median()).all())


def test_the_only_entry_that_is_not_zero_is_not_put_aside():
    for place in range(36):
        matrix = torch.zeros(36, dtype=DOUBLE)
        matrix[place] = 2.0
        train, held = part_for_check(observe(matrix.view(6, 6)), seed=0)
        assert bool(train.values.any())
        assert len(train) + len(held) == 36


def test_the_true_factors_agree_and_others_do_not():
    A, B, mask = low_rank(60, 50, 3, 0.4)
    train, held = part_for_check(part(A @ B.T, mask), seed=0)
    assert agrees(A, B, train, held, tolerance=1e-8)
    worse = A + 0.1 * torch.randn(A.shape, dtype=DOUBLE, generator=generator(4))
    assert not agrees(worse, B, train, held, tolerance=1e-8)
    # A user who calls a residual of a tenth exact is taken at his word.
    assert agrees(worse, B, train, held, tolerance=0.1)


def test_a_tenth_of_the_entries_may_miss_but_no_more():
    A, B, mask = low_rank(60, 50, 3, 0.4)
    train, held = part_for_check(part(A @ B.T, mask), seed=0)
    for missed in range(len(held)):
        values = held.values + (torch.arange(len(held)) < missed).to(DOUBLE)
        assert agrees(A, B, train, held.with_values(values), tolerance=1e-8) == (missed <= 0.1 * len(held))


def test_rows_that_leave_their_factor_open_do_not_count():
    A, B, mask = low_rank(20, 20, 2, 0.6)
    mask[:4] = False
    mask[:4, 0] = True
    whole = part(A @ B.T, mask)
    poor = whole.rows < 4
    A = torch.cat([torch.zeros_like(A[:4]), A[4:]])
    rich = (~poor).nonzero().squeeze(1)
    train, held = whole.subset(rich[::2]), whole.subset(torch.cat([poor.nonzero().squeeze(1), rich[1::10]]))
    assert agrees(A, B, train, held, tolerance=1e-8)
    # Where nothing else is held out, nothing speaks for the fit.
    assert not agrees(A, B, train, whole.subset(poor), tolerance=1e-8)


def test_a_fit_with_more_freedom_than_entries_is_not_called_exact():
    """Rank 10 fits any 240 entries of 20 x 40; those put aside tell."""
    found = noise(20, 40, 0.3)
    start = [balanced(*leading_components(found, 10), 10)]
    blind, method = recipe._by_gap(found, found, None, Recipe(), start)
    assert method == "exact rank"
    assert blind.trace["residual"][-1] <= 1e-8
    seen, method = recipe._by_gap(found, *part_for_check(found, seed=0), Recipe(), start)
    assert not method
    assert seen.trace["residual"][-1] <= 1e-8


def test_a_check_costs_no_entry():
    """The last sweep takes all: the factors fit those put aside as well as the others."""
    A, B, mask = low_rank(60, 50, 3, 0.3, seed=7)
    found = part(A @ B.T, mask)
    done = complete_low_rank(found, Recipe(seed=5))
    _, held = part_for_check(found, seed=5)
    assert done.method == "exact rank"
    errors = held.entries(done.A, done.B) - held.values
    assert float(errors.norm() / held.values.norm()) < 1e-7
    assert float((done.A @ done.B.T - A @ B.T).norm() / (A @ B.T).norm()) < 1e-6


def test_hopeless_ranks_are_left_early():
    """Full-rank noise: no more than forty sweeps of the five hundred that were allowed."""
    found = noise(60, 60, 0.7)
    start = [balanced(*leading_components(found, 10), 10)]
    fit, method = recipe._by_gap(found, *part_for_check(found, seed=0), Recipe(), start)
    assert not method
    assert fit.trace["step"][-1] <= 40
    # Without a check it is the result, and goes on until it has settled.
    settled, method = recipe._by_gap(found, found, None, Recipe(), start)
    assert method == "rank at the gap"
    assert settled.trace["step"][-1] > fit.trace["step"][-1]
    assert "settled" in settled.status.message
