"""Spike sorting: units, their waveforms and their spikes learned from a recording, overlapping spikes apart."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Trace
from tightframe.data.recorded.conditioning import noise_level
from tightframe.data.recorded.recordings import Recording
from tightframe.data.recorded.spikes import Spikes
from tightframe.dictionary.spikes.sorting_scores import isi_violations, template_snr
from tightframe.dictionary.spikes.spike_atoms import Events
from tightframe.dictionary.spikes.spike_learning import Model, Source, averaged, decode_long, learn
from tightframe.dictionary.spikes.spike_noise import NoiseModel, fit_noise
from tightframe.dictionary.spikes.spike_templates import recentered


@dataclass(frozen=True, eq=False)
class Sorting:
    """What a recording was sorted into.

    Args:
        spikes: Times of the spikes' peaks in seconds, and units 0, 1, ... in the order of falling amplitude.
        gains: (n,), scale of every spike's waveform, about 1.
        templates: (units, channels, samples), in the unit of the recording, above the lower end of the band.
        before: Sample of a template that a spike's time refers to.
        noise: (channels,), standard deviation of the noise.
        rate: Samples per second.
        seconds: Duration of the recording.
        trace: Rounds of learning: units, spikes, and the energy that no spike explains per sample, which is 1 for
            noise alone.
    """

    spikes: Spikes
    gains: np.ndarray
    templates: np.ndarray
    before: int
    noise: np.ndarray
    rate: float
    seconds: float
    trace: Trace

    @property
    def quality(self) -> list[dict[str, float]]:
        """One row per unit: unit, spikes, rate (Hz), SNR, ISI violations, amplitude and the spread of the gains.

        SNR is the peak over the noise of its channel; ISI violations the share of intervals below 1.5 ms.
        """
        ratios = template_snr(self.templates, self.noise) if len(self.templates) else ()
        rows = []
        for unit, ratio in enumerate(ratios):
            mine = self.spikes.units == unit
            rows.append(
                {
                    "unit": unit,
                    "spikes": int(mine.sum()),
                    "rate": float(mine.sum() / self.seconds),
                    "SNR": float(ratio),
                    "ISI violations": isi_violations(self.spikes.times[mine]),
                    "amplitude": float(np.abs(self.templates[unit]).max()),
                    "spread of amplitudes": float(self.gains[mine].std()) if mine.any() else 0.0,
                    "channel": int(np.abs(self.templates[unit]).max(axis=1).argmax()),
                }
            )
        return rows


def sort_spikes(
    recording: Recording,
    *,
    units: int | Literal["auto"] = "auto",
    milliseconds: float = 3.0,
    low: float = 300.0,
    high: float = 6000.0,
    threshold: float = 4.0,
    refractory: float = 1e-3,
    learn_seconds: float = 60.0,
    rounds: int = 8,
    seed: int = 0,
    verbose: bool = False,
) -> Sorting:
    r"""Units, waveforms and spikes of an extracellular recording.

    .. math:: \min_{w, \{(u_i, t_i, g_i)\}}\ \tfrac12 \Big\|z - \sum_i g_i\, w_{u_i}(\cdot - t_i)\Big\|^2
        + \sum_i \Big(\frac{(g_i - \mu_{u_i}(t_i))^2}{2 \tau^2} + \gamma_{u_i}\Big)

    where
        z is the recording above `low` with its noise made white across channels and in time (`fit_noise`), w_u the
        waveform of unit u, and spike i of unit u_i has time t_i, between samples, and scale g_i about mu_u(t), which
        may drift.

    It is convolutional dictionary learning with a price for every activation: waveforms start at the centres of
    clusters of detected peaks; then spikes given waveforms (`decode`, which explains overlapping spikes together) and
    waveforms given spikes take turns, while units are put together, taken apart or dropped by what their spikes look
    like without the others. Waveforms are learned on a part of a long recording; then the whole is decoded in blocks.

    Args:
        recording: What was recorded.
        units: How many, or "auto".
        milliseconds: Length of a waveform, a third of it before the peak.
        low: Hz, above which spikes are looked for.
        high: Hz, below which peaks are detected for the start.
        threshold: Noise levels above which a peak counts for the start.
        refractory: Seconds within which a unit fires once.
        learn_seconds: From the middle of the recording, to learn waveforms on.
        rounds: Of learning, at most.
        seed: Of the clustering.
        verbose: Report rounds to stderr.

    Raises:
        InputError: NaN, a recording shorter than ten waveforms, numbers out of range.
        DegenerateError: Constant channels, or no peak above the threshold.

    Reference: [pillow2013model], section "Binary pursuit", for the objective; [lewicki1998review] for the problem.
    """
    model = Model(
        units=units if units == "auto" else check_count(units, "units"),
        length=round(milliseconds * recording.rate / 1000),
        refractory=max(round(refractory * recording.rate), 1),
        rounds=check_count(rounds, "rounds"),
        seed=seed,
    )
    _check(recording, model, threshold=threshold, learn_seconds=learn_seconds)
    count = recording.values.shape[1]
    half = min(round(learn_seconds * recording.rate), count)
    first = (count - half) // 2
    part = Recording(recording.values[:, first : first + half], recording.rate, recording.name)
    noise = fit_noise(part, low=low, high=high)
    values = noise.filtered(recording, first, first + half)
    learned = learn(noise.whitened(values), noise.detectable(values, recording.rate), threshold, model)
    if verbose:
        for row in learned.trace:
            sys.stderr.write(f"sort: round {row['step']}: {row['units']:.0f} units, {row['spikes']:.0f} spikes\n")
    events = learned.events
    if half < count:
        events = decode_long(_reader(recording, noise), count, learned.atoms, learned.prior)
    waves = averaged(values, learned.events, learned.atoms.units, model.length)
    return _sorting(recording, events, waves, noise_level(Recording(values, recording.rate)), model, learned.trace)


def _reader(recording: Recording, noise: NoiseModel) -> Source:
    return lambda first, last: noise.whitened(noise.filtered(recording, first, last))


def _sorting(
    recording: Recording, events: Events, waves: np.ndarray, noise: np.ndarray, model: Model, trace: Trace
) -> Sorting:
    """Units in the order of falling amplitude, every template's peak at the same sample."""
    size = np.abs(waves).max(axis=1)
    peaks, order = size.argmax(axis=1), np.argsort(-size.max(axis=1), kind="stable")
    rank = np.argsort(order)
    times = (events.starts + peaks[events.units]) / recording.rate
    units = rank[events.units]
    return Sorting(
        spikes=Spikes(times, units),
        gains=events.gains[np.lexsort((units, times))],
        templates=recentered(waves, model.before)[order],
        before=model.before,
        noise=noise,
        rate=recording.rate,
        seconds=recording.seconds,
        trace=trace,
    )


def _check(recording: Recording, model: Model, *, threshold: float, learn_seconds: float) -> None:
    if not (math.isfinite(threshold) and threshold > 0 and learn_seconds > 0):
        raise InputError(
            "a threshold and seconds above zero", got=f"{threshold!r} and {learn_seconds!r}", remedy="Use 4 and 60."
        )
    if model.length < 8:
        raise InputError("waveforms of at least 8 samples", got=f"{model.length}", remedy="Raise milliseconds=.")
    if recording.values.shape[1] < 10 * model.length:
        raise InputError(
            f"at least {10 * model.length} samples, ten waveforms",
            got=f"{recording.values.shape[1]}",
            remedy="Sort a longer recording.",
        )
