"""Extracellular recordings with known spikes: trains of units, their templates, correlated noise and drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.errors import InputError
from tightframe.data.recorded.firing import firing_times
from tightframe.data.recorded.recordings import Recording
from tightframe.data.recorded.spikes import Spikes


@dataclass(frozen=True, eq=False)
class SpikeTruth:
    """A recording of which every spike is known.

    Args:
        recording: What an electrode would have seen.
        spikes: Times of the peaks of the templates, in seconds, and units 0, 1, ...
        amplitudes: (n,), by how much each spike's template was scaled.
        templates: (units, channels, samples), as they went in.
        noise: Standard deviation of the noise.
    """

    recording: Recording
    spikes: Spikes
    amplitudes: np.ndarray
    templates: np.ndarray
    noise: float


def spike_recording(
    templates: ArrayLike,
    rate: float,
    *,
    seconds: float = 20.0,
    firing_rates: float | Sequence[float] = 10.0,
    noise: float = 0.1,
    overlaps: float | None = None,
    correlation: float = 0.0,
    shared: float = 0.0,
    drift: float = 0.0,
    jitter: bool = True,
    refractory: float = 2e-3,
    seed: int = 0,
) -> SpikeTruth:
    r"""Units that fire at random, seen through their templates, in noise.

    .. math:: v_c(t) = \sum_u \sum_i g_u(t_{ui})\, w_{uc}(t - t_{ui}) + \varepsilon_c(t)

    where
        w_u is `templates[u]`, t_ui the times of unit u, a Poisson process with a dead time of `refractory`, the gain
        g_u(t) = 1 + drift sin(2 pi t / seconds + phi_u) with a random phase, and the noise a first-order
        autoregression in time.

    Args:
        templates: (units, samples) or (units, channels, samples), beginning and ending near zero. A unit's time is that
            of the sample at which its modulus is largest over all channels.
        rate: Samples per second.
        seconds: Duration; at least two templates.
        firing_rates: Spikes per second of all units, or of each.
        noise: Standard deviation, in the unit of the templates (`unit_peaks` makes that the peak).
        overlaps: Share of spikes within 1.5 ms of another unit's, in [0, 1); None leaves it to chance.
        correlation: Of the noise at successive samples, in [0, 1).
        shared: Share of the noise's variance that is common to all channels, in [0, 1).
        drift: Largest relative change of the amplitude, in [0, 1).
        jitter: Spikes fall between samples (templates are shifted by band-limited interpolation), or on them.
        refractory: Seconds in which a unit does not fire again.
        seed: Of everything random.

    Returns:
        The recording, float64, with its truth. Every template lies in it as a whole.

    Raises:
        InputError: An argument outside its range, a recording too short for a template, NaN, or units that would have
            to fire during their refractory time.

    Example:
        >>> truth = spike_recording([[0.0, -1.0, 0.5, 0.0]], 1000.0, seconds=1.0, noise=0.0)
        >>> truth.recording.values.shape, truth.spikes.labels
        ((1, 1000), (0,))

    Reference: [quiroga2004unsupervised], on whose simulations this is modelled.
    """
    waves = _checked_templates(templates)
    _check_ranges(noise, correlation=correlation, shared=shared, drift=drift)
    if not (math.isfinite(rate) and rate > 0 and math.isfinite(seconds)):
        raise InputError("a positive rate and a duration", got=f"{rate}, {seconds}", remedy="Use 24000.0 and 20.0.")
    count, length = round(seconds * rate), waves.shape[2]
    # Peaks stay a template and two samples away from either end.
    ends = (length + 2) / rate
    if seconds <= 2 * ends:
        raise InputError(f"more than {2 * ends:g} seconds", got=f"{seconds:g}", remedy="Record longer.")
    source = np.random.default_rng(seed)
    spikes = firing_times(
        _per_unit(firing_rates, len(waves)),
        (ends, seconds - ends),
        refractory=refractory,
        overlaps=overlaps,
        seed=source,
    )
    if not jitter:
        spikes = Spikes(np.rint(spikes.times * rate) / rate, spikes.units)
    phases = source.uniform(0, 2 * np.pi, len(waves))
    gains = 1 + drift * np.sin(2 * np.pi * spikes.times / seconds + phases[spikes.units])
    values = noise * _noise(waves.shape[1], count, correlation, shared, source)
    peaks = np.abs(waves).max(axis=1).argmax(axis=1)
    for unit, wave in enumerate(waves):
        mine = spikes.units == unit
        _add(values, wave, spikes.times[mine] * rate - peaks[unit], gains[mine])
    return SpikeTruth(Recording(values, float(rate), "simulated"), spikes, gains, waves, float(noise))


def _add(values: np.ndarray, wave: np.ndarray, starts: np.ndarray, gains: np.ndarray) -> None:
    """Add the template (channels, samples) at fractional starts, shifted by a phase in the Fourier domain."""
    channels, length = wave.shape
    room = length + 2  # zeros on both sides take up what the shift moves over the ends
    padded = np.pad(wave, ((0, 0), (1, 1)))
    spectrum = np.fft.rfft(padded, axis=1)
    frequencies = np.fft.rfftfreq(room)
    whole = np.rint(starts).astype(np.int64)
    fraction = starts - whole
    places = np.arange(room) - 1
    for first in range(0, len(starts), 4096):
        part = slice(first, first + 4096)
        phase = np.exp(-2j * np.pi * frequencies * fraction[part, None])
        shifted = np.fft.irfft(spectrum * phase[:, None, :], n=room, axis=2) * gains[part, None, None]
        index = whole[part, None] + places
        for channel in range(channels):
            np.add.at(values[channel], index, shifted[:, channel])


def _noise(channels: int, count: int, correlation: float, shared: float, source: np.random.Generator) -> np.ndarray:
    """Noise of unit variance (channels, count)."""
    from scipy.signal import lfilter

    own, common = source.standard_normal((channels, count)), source.standard_normal((1, count))
    white = math.sqrt(1 - shared) * own + math.sqrt(shared) * common
    if not correlation:
        return white
    # Stationary from the first sample on: the innovations' scale is that of a process of unit variance.
    scaled = white * math.sqrt(1 - correlation**2)
    scaled[:, 0] = white[:, 0]
    return lfilter([1.0], [1.0, -correlation], scaled, axis=1)


def _per_unit(rates: float | Sequence[float], units: int) -> np.ndarray:
    values = np.asarray(rates, dtype=np.float64)
    if values.shape not in ((), (units,)):
        raise InputError(
            f"one firing rate, or one for each of {units} units", got=f"shape {values.shape}", remedy="Pass that many."
        )
    return np.broadcast_to(values, (units,))


def _checked_templates(templates: ArrayLike) -> np.ndarray:
    waves = np.array(templates, dtype=np.float64)
    if waves.ndim == 2:
        waves = waves[:, None, :]
    if waves.ndim != 3 or not waves.size:
        raise InputError(
            "templates (units, samples) or (units, channels, samples)", got=f"{waves.shape}", remedy="Reshape them."
        )
    if not np.isfinite(waves).all():
        raise InputError("finite templates", got="NaN or inf", remedy="Look at how they were computed.")
    return waves


def _check_ranges(noise: float, **shares: float) -> None:
    if not (math.isfinite(noise) and noise >= 0):
        raise InputError("noise of at least 0", got=repr(noise), remedy="Use 0.1.")
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise InputError(f"{name} in [0, 1)", got=repr(value), remedy=f"Use {name}=0.3.")
