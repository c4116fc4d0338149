"""A recording made ready for matching waveforms: what is left of the noise is white and of unit variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_toeplitz
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

from tightframe.core.errors import InputError
from tightframe.data.recorded.conditioning import band_pass, noise_level, whitening
from tightframe.data.recorded.recordings import Recording

# Seconds by which a part is filtered beyond its ends, and the samples by which a prediction looks back.
_MARGIN, _ORDER = 0.1, 12
# Noise levels above which a sample belongs to a spike, and samples around it that do as well.
_QUIET, _AROUND = 4.0, 24
# Share of the variance added to every frequency, so that those that a filter removed are not blown up.
_LOADING = 1e-2


@dataclass(frozen=True, eq=False)
class NoiseModel:
    r"""Noise with a covariance across channels and, in every channel, an autoregression in time.

    .. math:: z_c(t) = s_c \sum_{j=0}^{12} h_j\, (W v)_c(t - j)

    where v is the recording in its band, W whitens across channels, h predicts a sample from those before it and
    s brings what is left to unit variance.

    Args:
        low: Hz, lower end of the band.
        high: Hz, upper end, for what is shown and detected; matching uses everything above `low`.
        across: W (channels, channels).
        taps: h (order + 1,), the first being 1.
        scale: s (channels,).
    """

    low: float
    high: float
    across: np.ndarray
    taps: np.ndarray
    scale: np.ndarray

    def filtered(self, recording: Recording, first: int, last: int) -> np.ndarray:
        """Samples `first` to `last` (channels, time) of a recording, without what lies below the band; float64."""
        margin = int(_MARGIN * recording.rate) + _ORDER
        begin, end = max(first - margin, 0), min(last + margin, recording.values.shape[1])
        part = Recording(recording.values[:, begin:end], recording.rate, recording.name)
        values = band_pass(part, low=self.low, high=recording.rate).values.astype(np.float64)
        return values[:, first - begin : last - begin]

    def whitened(self, values: np.ndarray) -> np.ndarray:
        """z of what `filtered` returns."""
        return lfilter(self.taps, [1.0], self.across @ values, axis=1) * self.scale[:, None]

    def detectable(self, values: np.ndarray, rate: float) -> np.ndarray:
        """What `filtered` returns in the narrower band, of unit noise in every channel, to detect peaks in."""
        part = band_pass(Recording(self.across @ values, rate), low=self.low, high=self.high)
        return part.values / noise_level(part)[:, None]


def fit_noise(recording: Recording, *, low: float = 300.0, high: float = 6000.0) -> NoiseModel:
    """The noise of a recording, from the samples in which nothing fires.

    Raises:
        InputError: As for `band_pass`. DegenerateError: Channels that are constant or copies of each other.
    """
    if not low < high:
        raise InputError("a band", got=f"{low} to {high} Hz", remedy="Use 300 to 6000 Hz.")
    part = band_pass(recording, low=low, high=recording.rate)
    level = noise_level(part)
    across = whitening(part) if part.channels > 1 else np.diag(1 / level)
    values = across @ part.values.astype(np.float64)
    loud = maximum_filter1d((np.abs(values) > _QUIET).any(axis=0).astype(np.int8), 2 * _AROUND + 1) > 0
    taps = _prediction(values, ~loud)
    left = Recording(lfilter(taps, [1.0], values, axis=1), recording.rate)
    return NoiseModel(low, high, across, taps, 1 / noise_level(left))


def _prediction(values: np.ndarray, quiet: np.ndarray) -> np.ndarray:
    """Error filter of linear prediction from samples that are quiet; the identity where too few of them are."""
    if quiet.sum() < 100 * _ORDER:
        return np.concatenate(([1.0], np.zeros(_ORDER)))
    masked = values * quiet
    pairs = [quiet[lag:] & quiet[: quiet.size - lag] for lag in range(_ORDER + 1)]
    covariance = np.array(
        [(masked[:, lag:] * masked[:, : quiet.size - lag]).sum() / pair.sum() for lag, pair in enumerate(pairs)]
    )
    column = covariance[:-1].copy()
    column[0] *= 1 + _LOADING
    return np.concatenate(([1.0], -solve_toeplitz(column, covariance[1:])))
