from __future__ import annotations

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.data.recorded.firing import firing_times

LIMITS = (1.0, 201.0)


def test_units_fire_at_their_rates_and_never_during_the_dead_time():
    spikes = firing_times([50.0, 5.0, 0.0], LIMITS, refractory=4e-3, seed=1)
    assert spikes.labels == (0, 1)
    assert spikes.times.min() >= LIMITS[0]
    assert spikes.times.max() < LIMITS[1]
    for unit, rate in ((0, 50.0), (1, 5.0)):
        # The count of a process with dead time varies less than Poisson's sqrt(n); four of those are allowed.
        expected = 200 * rate
        assert abs(len(spikes.of(unit)) - expected) < 4 * np.sqrt(expected)
        assert np.diff(spikes.of(unit)).min() >= 4e-3


def test_intervals_beyond_the_dead_time_are_exponential():
    times = firing_times([50.0], LIMITS, refractory=4e-3, seed=2).of(0)
    rest = np.diff(times) - 4e-3
    mean = 1 / 50 - 4e-3
    # Kolmogorov-Smirnov distance from the exponential law; 1.95 / sqrt(n) is passed once in a thousand seeds.
    ordered = np.sort(rest)
    law = 1 - np.exp(-ordered / mean)
    distance = np.abs(law - np.arange(1, len(rest) + 1) / len(rest)).max()
    assert distance < 1.95 / np.sqrt(len(rest))


def test_two_units_are_independent():
    spikes = firing_times([40.0, 40.0], LIMITS, seed=3)
    # A stationary process of rate 40 with a dead time of 2 ms, intervals 2 ms + Exp(23 ms), leaves a window of 3 ms
    # empty with probability 40 times the integral of P(interval > x) over x > 3 ms.
    expected = 1 - 40 * 0.023 * np.exp(-0.001 / 0.023)
    assert spikes.overlapping().mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / len(spikes)))


@pytest.mark.parametrize("share", [0.0, 0.14, 0.5])
def test_the_wanted_share_overlaps(share):
    spikes = firing_times([20.0, 10.0, 5.0], LIMITS, overlaps=share, seed=4)
    # To the nearest pair, that is 2 of some 7000 spikes.
    assert spikes.overlapping().mean() == pytest.approx(share, abs=1e-3)
    assert len(spikes) == pytest.approx(35 * 200, rel=0.1)
    assert min(np.diff(spikes.of(unit)).min() for unit in spikes.labels) >= 2e-3
    assert spikes.times.min() >= LIMITS[0]
    assert spikes.times.max() <= LIMITS[1]


def test_a_seed_decides_everything():
    first, second, other = (firing_times([20.0, 10.0], LIMITS, overlaps=0.2, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.times, second.times)
    np.testing.assert_array_equal(first.units, second.units)
    assert len(first) != len(other) or (first.times != other.times).any()


def test_silence_is_possible():
    assert len(firing_times([0.0, 0.0], LIMITS, overlaps=0.0)) == 0
    assert len(firing_times([0.0, 0.0], LIMITS, overlaps=0.5)) == 0


@pytest.mark.parametrize(
    ("rates", "options", "match"),
    [
        ([-1.0], {}, "rates"),
        ([], {}, "rates"),
        ([np.nan], {}, "rates"),
        ([500.0], {}, "below 1 / refractory"),
        ([1.0], {"refractory": -1.0}, "refractory"),
        ([1.0], {"overlaps": 0.1}, "two units"),
        ([1.0, 1.0], {"overlaps": 1.0}, "share"),
    ],
)
def test_impossible_trains_are_refused(rates, options, match):
    with pytest.raises(InputError, match=match):
        firing_times(rates, LIMITS, **options)


def test_limits_ascend():
    with pytest.raises(InputError, match="limits"):
        firing_times([1.0], (1.0, 1.0))
