from __future__ import annotations

import itertools

import numpy as np
import pytest

from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.recorded.calcium import calcium_trace
from tightframe.dictionary.detection import Counts, binned_correlation, match_boxes, match_points


def largest_matching(fits):
    """By trying every assignment."""
    rows, columns = fits.shape
    if rows > columns:
        return largest_matching(fits.T)
    return max(
        sum(fits[row, column] for row, column in enumerate(order))
        for order in itertools.permutations(range(columns), rows)
    )


def test_the_shares_follow_from_the_counts():
    counts = Counts(hits=6, misses=2, extras=3)
    assert counts.precision == pytest.approx(6 / 9)
    assert counts.recall == pytest.approx(6 / 8)
    assert counts.f1 == pytest.approx(2 / (9 / 6 + 8 / 6))
    assert counts.accuracy == pytest.approx(6 / 11)
    assert counts + Counts(1, 1, 1) == Counts(7, 3, 4)
    nothing = Counts(0, 0, 0)
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.accuracy) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(10))
def test_points_are_matched_to_boxes_as_well_as_possible(seed):
    random = np.random.default_rng(seed)
    points = random.uniform(0, 10, (6, 2))
    boxes = np.concatenate((random.uniform(0, 7, (5, 2)), random.uniform(1, 5, (5, 2))), axis=1)
    fits = np.array(
        [[top <= y <= top + tall and left <= x <= left + wide for top, left, tall, wide in boxes] for y, x in points]
    )
    hits = largest_matching(fits)
    assert match_points(points, boxes) == Counts(hits, 5 - hits, 6 - hits)


def test_rows_come_before_columns():
    box = [[2.0, 10.0, 3.0, 20.0]]
    assert match_points([[4.0, 25.0]], box).hits == 1
    assert match_points([[25.0, 4.0]], box).hits == 0
    assert match_points([[2.0, 30.0]], box).hits == 1
    assert match_points([[1.999, 30.0]], box).hits == 0


@pytest.mark.parametrize("seed", range(10))
def test_boxes_are_matched_by_their_overlap(seed):
    random = np.random.default_rng(seed)

    def some(count):
        return np.concatenate((random.integers(0, 6, (count, 2)), random.integers(2, 7, (count, 2))), axis=1)

    def pixels(box):
        top, left, tall, wide = box
        return {(y, x) for y in range(top, top + tall) for x in range(left, left + wide)}

    found, boxes = some(5), some(6)
    for overlap in (0.2, 0.5, 1.0):
        fits = np.array(
            [[len(pixels(a) & pixels(b)) >= overlap * len(pixels(a) | pixels(b)) for b in boxes] for a in found]
        )
        hits = largest_matching(fits)
        assert match_boxes(found, boxes, overlap=overlap) == Counts(hits, 6 - hits, 5 - hits)


def test_nothing_found_and_nothing_there():
    box = [[0.0, 0.0, 1.0, 1.0]]
    assert match_points([], box) == Counts(0, 1, 0)
    assert match_points([[0.0, 0.0]], []) == Counts(0, 0, 1)
    assert match_boxes([], []) == Counts(0, 0, 0)
    assert match_boxes(box, np.empty((0, 4))) == Counts(0, 0, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: match_points([[1.0, 2.0, 3.0]], [[0.0, 0.0, 1.0, 1.0]]),
        lambda: match_points([[np.nan, 2.0]], [[0.0, 0.0, 1.0, 1.0]]),
        lambda: match_points([[1.0, 2.0]], [[0.0, 0.0, 0.0, 1.0]]),
        lambda: match_boxes([[0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0, 1.0]]),
        lambda: match_boxes([[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0, 1.0]], overlap=0.0),
    ],
)
def test_what_are_no_places_is_refused(call):
    with pytest.raises(InputError):
        call()


def test_the_correlation_is_that_of_the_bins():
    random = np.random.default_rng(0)
    truth = random.poisson(0.1, 1003).astype(float)
    found = truth + random.standard_normal(1003)
    bins = [[sum(series[start : start + 4]) for start in range(0, 1000, 4)] for series in (found, truth)]
    assert binned_correlation(found, truth, rate=100.0) == pytest.approx(np.corrcoef(bins)[0, 1], abs=1e-12)
    thirds = [[sum(series[start : start + 3]) for start in range(0, 1002, 3)] for series in (found, truth)]
    assert binned_correlation(found, truth, rate=30.0, bins=10.0) == pytest.approx(np.corrcoef(thirds)[0, 1], abs=1e-12)


def test_the_correlation_does_not_change_with_scale_and_offset():
    trace = calcium_trace(3000, seed=3)
    score = binned_correlation(trace.fluorescence, trace.spikes, rate=30.0, bins=10.0)
    again = binned_correlation(5 + 100 * trace.fluorescence, trace.spikes, rate=30.0, bins=10.0)
    assert again == pytest.approx(score, abs=1e-10)
    assert binned_correlation(-trace.spikes, trace.spikes, rate=30.0, bins=10.0) == pytest.approx(-1)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e6])
def test_a_constant_is_degenerate(level):
    wave = np.arange(100.0)
    with pytest.raises(DegenerateError, match="found"):
        binned_correlation(np.full(100, level), wave, rate=100.0)
    with pytest.raises(DegenerateError, match="truth"):
        binned_correlation(wave, np.full(100, level), rate=100.0)


@pytest.mark.parametrize(
    ("found", "options"),
    [
        (np.arange(99.0), {}),
        (np.full(100, np.nan), {}),
        (np.ones((100, 1)), {}),
        (np.arange(100.0), {"rate": 30.0}),
        (np.arange(100.0), {"bins": 0.0}),
        (np.arange(100.0), {"bins": 1.0, "rate": 60.0}),
    ],
)
def test_series_that_cannot_be_compared_are_refused(found, options):
    with pytest.raises(InputError):
        binned_correlation(found, np.arange(100.0), **{"rate": 100.0, **options})
