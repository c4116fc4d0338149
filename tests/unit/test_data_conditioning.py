from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.recorded.conditioning import band_pass, noise_level, whitening
from tightframe.data.recorded.recordings import Recording

RATE = 30_000.0


def noise(channels=3, count=60_000, seed=0):
    return np.random.default_rng(seed).standard_normal((channels, count))


def tone(hertz, count=30_000):
    return Recording(np.sin(2 * np.pi * hertz * np.arange(count) / RATE)[None], RATE)


def gain(hertz, **options):
    """Amplitude of a tone after the filter, away from the ends."""
    middle = slice(10_000, 20_000)
    filtered = band_pass(tone(hertz), **options).values[0, middle]
    return np.sqrt(2 * (filtered**2).mean())


def butterworth(hertz, low, high, order):
    """Squared gain |H|^2 = 1 / (1 + x^2n) of the analogue band-pass after the bilinear transform's prewarping."""
    warped = [np.tan(np.pi * value / RATE) for value in (hertz, low, high)]
    x = (warped[0] ** 2 - warped[1] * warped[2]) / (warped[0] * (warped[2] - warped[1]))
    return 1 / (1 + x ** (2 * order))


@pytest.mark.parametrize("hertz", [150, 300, 450, 1500, 6000, 9000])
def test_the_gain_is_that_of_the_formula(hertz):
    # Two passes square the gain; tones of whole periods in the window leave rounding and the filter's tail.
    assert gain(hertz) == pytest.approx(butterworth(hertz, 300, 6000, 3), rel=1e-6)
    assert gain(hertz, order=2) == pytest.approx(butterworth(hertz, 300, 6000, 2), rel=1e-6)


def test_there_is_no_delay():
    pulse = np.zeros((1, 4001))
    pulse[0, 2000] = 1.0
    filtered = band_pass(Recording(pulse, RATE)).values[0]
    np.testing.assert_allclose(filtered, filtered[::-1], atol=1e-12)
    assert filtered.argmax() == 2000


def test_a_band_beyond_the_rate_has_no_upper_limit():
    values = noise()
    filtered = band_pass(Recording(values, 10_000.0), high=6000.0).values
    sections = butter(3, 300.0, "highpass", fs=10_000.0, output="sos")
    np.testing.assert_allclose(filtered, sosfiltfilt(sections, values, axis=1), atol=1e-10)


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.37, 0.5])
def test_chunks_give_what_the_whole_gives(seconds):
    values = noise()
    # 1800.1 samples or so: the last chunk is shorter than the padding in one of these.
    filtered = band_pass(Recording(values, RATE), chunk=seconds).values
    sections = butter(3, (300.0, 6000.0), "bandpass", fs=RATE, output="sos")
    np.testing.assert_allclose(filtered, sosfiltfilt(sections, values, axis=1), atol=1e-11)


def test_the_last_chunk_may_be_one_sample():
    values = noise(1, 15_001)
    filtered = band_pass(Recording(values, RATE), chunk=0.5).values
    np.testing.assert_allclose(filtered, band_pass(Recording(values, RATE), chunk=9.0).values, atol=1e-11)


def test_integers_become_float32_and_the_input_stays():
    values = (100 * noise()).astype(np.int16)
    before = values.copy()
    filtered = band_pass(Recording(values, RATE))
    assert filtered.values.dtype == np.float32
    expected = band_pass(Recording(values.astype(np.float64), RATE)).values
    np.testing.assert_allclose(filtered.values, expected, atol=1e-4)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize(
    "options",
    [{"low": 0.0}, {"low": 400.0, "high": 400.0}, {"low": 20_000.0, "high": 30_000.0}, {"order": 0}, {"chunk": 0.0}],
)
def test_an_impossible_band_is_refused(options):
    with pytest.raises(InputError):
        band_pass(Recording(noise(1, 1000), RATE), **options)


def test_short_and_unfinished_recordings_are_refused():
    with pytest.raises(InputError, match="samples"):
        band_pass(Recording(noise(1, 20), RATE))
    values = noise(1, 1000)
    values[0, 500] = np.nan
    for function in (band_pass, noise_level, whitening):
        with pytest.raises(InputError, match="NaN"):
            function(Recording(values, RATE))


def test_the_noise_level_ignores_spikes_and_offsets():
    levels = np.array([1.0, 5.0, 20.0])
    values = levels[:, None] * noise() + 100
    # The median of n moduli varies by 1.17 sigma / sqrt(n): 0.5 % here, of which four are allowed.
    np.testing.assert_allclose(noise_level(Recording(values, RATE)), levels, rtol=0.02)
    values[:, ::50] += 1000 * levels[:, None]
    # Two samples in a hundred raise the median by about 2.5 %; they raise the standard deviation 140 times.
    np.testing.assert_allclose(noise_level(Recording(values, RATE)), levels, rtol=0.05)


def test_long_recordings_are_looked_at_in_blocks():
    # 1.2 million samples, of which the second half is three times as loud: blocks from the start alone would say 1.
    values = noise(1, 1_200_000)
    values[:, 600_000:] *= 3
    expected = np.median(np.abs(values)) / 0.6744897501960817
    assert noise_level(Recording(values, RATE))[0] == pytest.approx(expected, rel=0.02)


def test_a_dead_channel_is_named():
    values = noise()
    values[1] = 7.0
    with pytest.raises(DegenerateError, match="channel 1 constant"):
        noise_level(Recording(values, RATE))


def test_whitened_noise_is_white_and_spikes_do_not_count():
    mixing = np.array([[2.0, 0.0, 0.0], [1.5, 1.0, 0.0], [0.5, 0.3, 10.0]])
    values = mixing @ noise()
    quiet = whitening(Recording(values, RATE), threshold=50.0)
    np.testing.assert_allclose(quiet, quiet.T, atol=1e-12)
    # No sample is that large, so that the covariance of all samples becomes the identity to rounding.
    np.testing.assert_allclose(np.cov(quiet @ values), np.eye(3), atol=1e-10)
    values[:, ::100] += 40.0
    with_spikes = whitening(Recording(values, RATE), threshold=6.0)
    np.testing.assert_allclose(with_spikes, quiet, rtol=0.03, atol=0.003)


def test_dependent_channels_are_refused():
    values = noise()
    values[2] = values[0] - 2 * values[1]
    with pytest.raises(DegenerateError, match="independent"):
        whitening(Recording(values, RATE))
    with pytest.raises(DegenerateError, match="quiet"):
        whitening(Recording(noise(3, 3), RATE))
    with pytest.raises(InputError, match="threshold"):
        whitening(Recording(noise(), RATE), threshold=0.0)
