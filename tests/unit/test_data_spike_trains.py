from __future__ import annotations

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.data.recorded.spike_trains import spike_recording
from tightframe.data.recorded.waveforms import analytic_templates

RATE = 24_000.0


def composed(truth, *, smooth):
    """The noiseless recording, spike by spike: the shift of a template by a sinc sum where it falls between samples."""
    values = np.zeros_like(truth.recording.values)
    _, channels, length = truth.templates.shape
    for time, unit, gain in zip(truth.spikes.times, truth.spikes.units, truth.amplitudes, strict=True):
        wave = truth.templates[unit]
        peak = np.abs(wave).max(axis=0).argmax()
        start = time * truth.recording.rate - peak
        whole = int(np.rint(start))
        if smooth:
            at = np.arange(-1, length + 1) - (start - whole)
            kernel = np.sinc(at[:, None] - np.arange(length))
        else:
            kernel = np.eye(length + 2, length, k=-1)
        for channel in range(channels):
            values[channel, whole - 1 : whole + length + 1] += gain * kernel @ wave[channel]
    return values


@pytest.mark.parametrize("channels", [1, 4])
def test_spikes_on_samples_are_copies_of_the_templates(channels):
    templates = analytic_templates(3, RATE, channels=channels)
    truth = spike_recording(
        templates, RATE, seconds=2.0, firing_rates=[30.0, 20.0, 10.0], noise=0.0, jitter=False, drift=0.3, seed=1
    )
    samples = truth.spikes.times * RATE
    np.testing.assert_allclose(samples, np.rint(samples), atol=1e-6)
    np.testing.assert_allclose(truth.recording.values, composed(truth, smooth=False), atol=1e-12)
    assert len(truth.spikes) > 60


def test_spikes_between_samples_are_band_limited_shifts():
    templates = analytic_templates(2, RATE, channels=2)
    truth = spike_recording(templates, RATE, seconds=2.0, firing_rates=20.0, noise=0.0, seed=2)
    fractions = truth.spikes.times * RATE % 1
    assert fractions.std() > 0.2
    # The periodic shift and the sinc sum differ by what the templates have at half the rate and at their ends: 1e-3.
    np.testing.assert_allclose(truth.recording.values, composed(truth, smooth=True), atol=2e-3)


def test_the_largest_modulus_lies_at_the_stated_time():
    templates = analytic_templates(1, RATE)
    truth = spike_recording(templates, RATE, seconds=5.0, firing_rates=5.0, noise=0.0, jitter=False, seed=3)
    places = np.rint(truth.spikes.times * RATE).astype(int)
    alone = (np.diff(places, prepend=-1000) > 100) & (np.diff(places, append=10**9) > 100)
    assert alone.sum() > 5
    for place in places[alone]:
        window = np.abs(truth.recording.values[0, place - 20 : place + 21])
        assert window.argmax() == 20


def test_the_noise_has_the_stated_law():
    templates = np.zeros((1, 3, 8))
    templates[0, 0, 4] = 1.0
    truth = spike_recording(
        templates, 1000.0, seconds=300.0, firing_rates=0.0, noise=2.0, correlation=0.6, shared=0.25, seed=4
    )
    values = truth.recording.values
    # Effective samples: 300,000 (1 - rho) / (1 + rho) = 75,000, so that 1.5 % are about four standard errors.
    np.testing.assert_allclose(np.cov(values), 4 * (0.75 * np.eye(3) + 0.25), atol=4 * 0.03)
    for step in (1, 2, 3):
        ahead = (values[:, step:] * values[:, :-step]).mean(axis=1) / 4
        np.testing.assert_allclose(ahead, 0.6**step, atol=0.03)
    # Stationary from the start on: the first samples of many recordings have the variance of all.
    firsts = [
        spike_recording(templates, 1e3, seconds=0.1, firing_rates=0.0, correlation=0.9, seed=s) for s in range(300)
    ]
    spread = np.concatenate([truth.recording.values[:, 0] for truth in firsts]).std()
    assert spread == pytest.approx(0.1, rel=4 / np.sqrt(2 * 900))


def test_amplitudes_drift_slowly_within_the_stated_range():
    truth = spike_recording(analytic_templates(2, RATE), RATE, seconds=10.0, firing_rates=40.0, drift=0.25, seed=5)
    assert truth.amplitudes.min() == pytest.approx(0.75, abs=0.01)
    assert truth.amplitudes.max() == pytest.approx(1.25, abs=0.01)
    own = truth.amplitudes[truth.spikes.units == 0]
    times = truth.spikes.of(0)
    # The slope of a sine of that amplitude and one period in ten seconds.
    assert (np.abs(np.diff(own)) <= 0.25 * 2 * np.pi / 10 * np.diff(times) + 1e-12).all()
    still = spike_recording(analytic_templates(2, RATE), RATE, seconds=1.0, seed=5)
    np.testing.assert_array_equal(still.amplitudes, 1.0)


def test_overlaps_are_passed_on_and_templates_lie_inside():
    truth = spike_recording(
        analytic_templates(3, RATE), RATE, seconds=20.0, firing_rates=20.0, overlaps=0.3, noise=0.0, seed=6
    )
    assert truth.spikes.overlapping().mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(truth.recording.values[:, [0, -1]], 0.0)


def test_a_seed_decides_everything():
    templates = analytic_templates(2, RATE)
    one, same, other = (spike_recording(templates, RATE, seconds=1.0, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.recording.values, same.recording.values)
    assert (one.recording.values != other.recording.values).any()


@pytest.mark.parametrize(
    ("templates", "options", "match"),
    [
        (np.zeros(5), {}, "templates"),
        ([[0.0, np.nan, 0.0]], {}, "finite templates"),
        (np.eye(3), {"firing_rates": [1.0, 2.0]}, "each of 3 units"),
        (np.eye(3), {"noise": -0.1}, "noise"),
        (np.eye(3), {"correlation": 1.0}, "correlation"),
        (np.eye(3), {"shared": -0.1}, "shared"),
        (np.eye(3), {"drift": 1.0}, "drift"),
        (np.eye(3), {"seconds": 1e-5}, "seconds"),
        (np.eye(3), {"seconds": float("inf")}, "duration"),
        (np.eye(3), {"overlaps": 1.5}, "overlaps"),
        (np.eye(3), {"firing_rates": 600.0}, "refractory"),
    ],
)
def test_impossible_recordings_are_refused(templates, options, match):
    with pytest.raises(InputError, match=match):
        spike_recording(templates, RATE, **options)


def test_the_rate_is_positive():
    with pytest.raises(InputError, match="rate"):
        spike_recording(np.eye(3), 0.0)
