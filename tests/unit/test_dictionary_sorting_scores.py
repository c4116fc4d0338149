from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from tightframe.core.errors import InputError
from tightframe.data.recorded.firing import firing_times
from tightframe.data.recorded.spikes import Spikes, to_spikeinterface
from tightframe.dictionary.detection import Counts
from tightframe.dictionary.spikes.sorting_scores import isi_violations, match_spikes, matched, template_snr

TRUTH = firing_times([20.0, 15.0, 10.0], (0.0, 30.0), overlaps=0.2, seed=1)


def sorted_from(truth, *, lost=0.1, made=50, wrong=20, spread=1e-4, seed=0, numbers=(11, 12, 13)):
    """A sorting with other numbers: some spikes lost, some made up, some given to another unit."""
    random = np.random.default_rng(seed)
    kept = random.random(len(truth)) >= lost
    times, units = truth.times[kept], np.array(numbers)[truth.units[kept]]
    units[random.permutation(len(units))[:wrong]] = random.choice(numbers, wrong)
    times = times + random.uniform(-spread, spread, len(times))
    extra = random.uniform(0, 30, made)
    return Spikes(np.concatenate((times, extra)), np.concatenate((units, random.choice(numbers, made))))


@pytest.mark.parametrize("seed", range(20))
def test_matchings_on_a_line_are_largest(seed):
    random = np.random.default_rng(seed)
    first, second = np.sort(random.uniform(0, 1, 60)), np.sort(random.uniform(0, 1, 50))
    for tolerance in (0.0, 0.003, 0.01, 0.05):
        a, b = matched(first, second, tolerance)
        close = np.abs(first[:, None] - second) <= tolerance
        assert len(a) == (maximum_bipartite_matching(csr_array(close)) >= 0).sum()
        assert len(set(a)) == len(a) == len(set(b))
        assert (np.abs(first[a] - second[b]) <= tolerance + 1e-15).all()


def test_a_perfect_sorting_in_other_numbers_scores_one():
    numbers = np.array([7, -2, 30])
    scores = match_spikes(Spikes(TRUTH.times, numbers[TRUTH.units]), TRUTH)
    assert [(score.unit, score.found) for score in scores.units] == [(0, 7), (1, -2), (2, 30)]
    assert scores.overall == Counts(len(TRUTH), 0, 0)
    assert scores.spurious == ()
    near = TRUTH.overlapping()
    assert scores.overlapping.hits == near.sum()
    assert scores.isolated.hits == (~near).sum()


def test_the_counts_of_a_known_sorting():
    truth = Spikes([0.1, 0.2, 0.3, 0.301, 0.5, 0.6], [0, 0, 0, 1, 1, 1])
    # Unit 5 finds two of unit 0 and makes one up beside the overlap, 6 finds two of unit 1, 9 is made up.
    found = Spikes([0.1002, 0.2, 0.3005, 0.3013, 0.5, 0.8, 0.6], [5, 5, 5, 6, 6, 9, 5])
    scores = match_spikes(found, truth, tolerance=4e-4)
    assert [score.found for score in scores.units] == [5, 6]
    assert [score.counts for score in scores.units] == [Counts(2, 1, 2), Counts(2, 1, 0)]
    assert scores.spurious == (9,)
    assert scores.overall == Counts(4, 2, 3)
    assert scores.overlapping == Counts(1, 1, 1)
    assert scores.isolated == Counts(3, 1, 2)


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_add_up(seed):
    found = sorted_from(TRUTH, seed=seed)
    scores = match_spikes(found, TRUTH)
    total = scores.overall
    assert total == scores.overlapping + scores.isolated
    assert total.hits + total.misses == len(TRUTH)
    assert total.hits + total.extras == len(found)
    assert total.hits == sum(score.counts.hits for score in scores.units)
    # Two in a hundred are mislabelled, one in ten is lost: recall lies near 0.88.
    assert 0.85 < total.recall < 0.91
    assert [score.found for score in scores.units] == [11, 12, 13]


def test_the_assignment_is_the_best_of_all():
    # Unit 0 agrees with both found units, unit 1 only with the first: greed by unit 0 would lose unit 1.
    times = np.arange(20) / 10
    truth = Spikes(np.concatenate((times, times[:9] + 0.05)), np.repeat([0, 1], [20, 9]))
    found = Spikes(np.concatenate((times[:12], times[:9] + 0.05, times[11:])), np.repeat([1, 1, 2], [12, 9, 9]))
    scores = match_spikes(found, truth)
    assert [score.found for score in scores.units] == [2, 1]


def test_a_unit_of_noise_does_not_win_by_its_size():
    times = np.arange(100) / 10
    truth = Spikes(times, np.zeros(100, dtype=int))
    # Unit 1 holds sixty of the hundred among a thousand others, unit 2 forty and nothing else.
    noise = 0.05 + np.arange(1000) / 100
    found = Spikes(np.concatenate((times[:60], noise, times[60:])), np.repeat([1, 2], [1060, 40]))
    scores = match_spikes(found, truth)
    assert [(score.found, score.counts) for score in scores.units] == [(2, Counts(40, 60, 0))]


def test_units_without_a_counterpart_are_missed():
    scores = match_spikes(Spikes([], []), TRUTH)
    assert [score.found for score in scores.units] == [None] * 3
    assert scores.overall == Counts(0, len(TRUTH), 0)
    far = match_spikes(Spikes([100.0], [4]), TRUTH)
    assert far.spurious == (4,)
    assert far.overall == Counts(0, len(TRUTH), 1)


def test_a_constant_lag_of_a_unit_is_found():
    shifts = np.array([8e-4, -5e-4, 0.0])
    random = np.random.default_rng(0)
    late = Spikes(TRUTH.times + shifts[TRUTH.units] + random.uniform(-5e-5, 5e-5, len(TRUTH)), TRUTH.units)
    strict = match_spikes(late, TRUTH, tolerance=2e-4)
    assert strict.overall.recall < 0.5
    free = match_spikes(late, TRUTH, tolerance=2e-4, lag=1e-3)
    np.testing.assert_allclose([score.lag for score in free.units], shifts, atol=1.5e-4)
    assert free.overall == Counts(len(TRUTH), 0, 0)
    bounded = match_spikes(late, TRUTH, tolerance=2e-4, lag=6e-4)
    assert max(abs(score.lag) for score in bounded.units) == 6e-4
    assert bounded.units[1].counts.recall == 1
    # After a shift by 0.6 ms, 0.15 to 0.25 ms are left of 0.8, and half of that is within the tolerance.
    assert bounded.units[0].counts.recall == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(TRUTH.of(0))))


def test_spikeinterface_counts_the_same(monkeypatch):
    comparison = pytest.importorskip("spikeinterface.comparison")
    if importlib.util.find_spec("numba") is None:
        # It compiles its counting loops; they run as they are without.
        plain = types.ModuleType("numba")
        plain.jit = lambda *_, **__: lambda function: function
        monkeypatch.setitem(sys.modules, "numba", plain)
    rate = 30_000.0
    # Times on samples, so that both see the same differences; half a sample keeps rounding out of the tolerance.
    truth = Spikes(np.rint(TRUTH.times * rate) / rate, TRUTH.units)
    found = sorted_from(truth, seed=4)
    found = Spikes(np.rint(found.times * rate) / rate, found.units)
    theirs = comparison.compare_sorter_to_ground_truth(
        to_spikeinterface(truth, rate), to_spikeinterface(found, rate), delta_time=12 / 30, exhaustive_gt=True
    )
    ours = match_spikes(found, truth, tolerance=12.5 / rate)
    table = theirs.count_score
    for score in ours.units:
        row = table.loc[score.unit]
        # Its matching of bursts may be smaller than the largest one.
        assert int(row["tested_id"]) == score.found
        assert int(row["tp"]) == score.counts.hits
        assert int(row["fn"]) == score.counts.misses
        assert int(row["fp"]) == score.counts.extras


@pytest.mark.parametrize("options", [{"tolerance": -1.0}, {"lag": float("nan")}, {"window": -1e-3}])
def test_negative_times_are_refused(options):
    with pytest.raises(InputError, match="at least 0"):
        match_spikes(TRUTH, TRUTH, **options)


def test_a_truth_is_needed():
    with pytest.raises(InputError, match="true spikes"):
        match_spikes(TRUTH, Spikes([], []))


def test_violations_are_short_intervals_in_any_order():
    assert isi_violations([0.2, 0.0, 0.001, 0.1]) == pytest.approx(1 / 3)
    assert isi_violations([0.0, 1.0]) == 0.0
    assert isi_violations([0.5]) == 0.0
    # Two Poisson units in one: with rates r each and no dead time, 1 - exp(-2 r t) of the intervals are short.
    mixed = firing_times([20.0], (0.0, 500.0), refractory=0.0, seed=2).times
    expected = 1 - np.exp(-20 * 1.5e-3)
    assert isi_violations(mixed) == pytest.approx(expected, abs=4 * np.sqrt(expected / len(mixed)))
    assert isi_violations(firing_times([20.0], (0.0, 50.0), seed=2).times) == 0.0
    for times, refractory in (([np.nan, 1.0], 1e-3), ([[0.0]], 1e-3), ([0.0, 1.0], -1.0)):
        with pytest.raises(InputError):
            isi_violations(times, refractory)


def test_the_signal_to_noise_ratio_is_that_of_the_best_channel():
    templates = np.array([[[0.0, -6.0], [4.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(template_snr(templates, [3.0, 1.0]), [4.0, 1 / 3])
    for waves, noise in (
        (templates[0], [1.0, 1.0]),
        (templates, [1.0]),
        (templates, [1.0, 0.0]),
        (templates * np.nan, [1, 1]),
    ):
        with pytest.raises(InputError):
            template_snr(waves, noise)
