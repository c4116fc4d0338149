"""Waveforms and spikes in turns: units are found, refitted, put together, taken apart and dropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tightframe.core.errors import DegenerateError
from tightframe.core.solution import Trace
from tightframe.dictionary.spikes.spike_atoms import PHASES, Atoms, Events, Prior
from tightframe.dictionary.spikes.spike_decoding import decode
from tightframe.dictionary.spikes.spike_templates import detected, first_waves, recentered, refitted
from tightframe.dictionary.spikes.spike_units import Population

# Samples decoded at a time, and spikes that the scale expected before a stretch is worth when it is updated after it.
_STRETCH, _MEMORY = 48_000, 5.0
# Clusters to begin with, and peaks that there must be.
_CLUSTERS, _FEWEST = 12, 12
# Share of a unit's spikes in the company of another above which it is a part of the other, and by what factor another
# is stronger, in energy, that leaves something behind.
_COMPANY, _STRONGER = 0.6, 5.0
_FIRST_SPREAD, _LEAST_SPREAD = 0.15, 0.05
# Median of the modulus of a standard normal variable.
_MEDIAN_MODULUS = 0.6744897501960817

Source = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Model:
    """What is asked for.

    Args:
        units: How many, or "auto".
        length: Samples of a waveform.
        refractory: Samples within which a unit fires once.
        rounds: Of learning, at most.
        seed: Of the clustering.
    """

    units: int | str
    length: int
    refractory: int
    rounds: int
    seed: int

    @property
    def before(self) -> int:
        """Sample of a waveform at which its peak lies."""
        return self.length // 3


@dataclass(frozen=True, eq=False)
class Learned:
    """Waveforms, what is known of their spikes, and the spikes they were learned on.

    Args:
        model: What was asked for.
        atoms: Waveforms for the whitened recording.
        prior: Of their spikes.
        events: In the part they were learned on.
        trace: Of the rounds.
    """

    model: Model
    atoms: Atoms
    prior: Prior
    events: Events
    trace: Trace


def learn(white: np.ndarray, detectable: np.ndarray, threshold: float, model: Model) -> Learned:
    """Units of a whitened signal (channels, time), begun at the peaks of the same signal in the band of spikes.

    Raises:
        DegenerateError: No peak above the threshold, or no unit that recurs.
    """
    peaks = detected(detectable, threshold, model.length // 4)
    if len(peaks) < _FEWEST:
        raise DegenerateError(
            f"at least {_FEWEST} peaks above {threshold:g} noise levels",
            got=f"{len(peaks)}",
            remedy="Lower threshold=.",
        )
    clusters = _CLUSTERS if model.units == "auto" else max(_CLUSTERS, 3 * model.units)
    waves = first_waves(white, peaks, before=model.before, length=model.length, clusters=clusters, seed=model.seed)
    turn, rounds = _Turn(waves, np.full(len(waves), len(peaks) / len(waves)), _FIRST_SPREAD), Trace()
    for number in range(1, model.rounds + 1):
        last = number == model.rounds or (number > 4 and turn.settled)
        atoms = Atoms(recentered(turn.waves, model.before))
        prior = _prior(turn.counts, turn.spread, white.shape[1], model)
        sweeps = 2 if last else int(number > 2)
        events = decode_long(_slices(white), white.shape[1], atoms, prior, sweeps=sweeps)
        rest = white - synthesized(atoms, events, white.shape[1])
        rounds.record(number, {"units": atoms.units, "spikes": len(events), "energy": float(np.square(rest).mean())})
        if last:
            break
        turn = _next(white, rest, atoms, events, prior, model, number)
    return Learned(model, atoms, prior, events, rounds)


@dataclass(frozen=True, eq=False)
class _Turn:
    """Waveforms and counts of their spikes, how much scales vary, and whether the units are those of before."""

    waves: np.ndarray
    counts: np.ndarray
    spread: float
    settled: bool = False


def decode_long(source: Source, count: int, atoms: Atoms, prior: Prior, *, sweeps: int = 2) -> Events:
    """Events of `count` samples that `source(first, last)` reads, stretch by stretch.

    Each stretch is decoded with a margin on both sides, the spikes of the one before being taken out; the scale
    expected of every unit follows what was found so far. Waveforms may begin before the first and end after the last
    sample.
    """
    margin, parts = 2 * atoms.length, [_none()]
    gains = prior.gains.copy()
    for first in range(0, count, _STRETCH):
        last = min(first + _STRETCH, count)
        low, high = first - margin, last + margin
        signal = _padded(source, low, high, count)
        earlier = parts[-1].moved(-low)
        earlier = earlier.select(earlier.places >= 0)
        found = decode(
            signal - atoms.synthesize(earlier, signal.shape[1]), atoms, replace(prior, gains=gains), sweeps=sweeps
        )
        found = found.moved(low)
        kept = found.select(((found.places >= first) | (first == 0)) & ((found.places < last) | (last == count)))
        numbers = np.bincount(kept.units, minlength=atoms.units)
        sums = np.bincount(kept.units, weights=kept.gains, minlength=atoms.units)
        gains = (_MEMORY * gains + sums) / (_MEMORY + numbers)
        parts.append(kept)
    return joined(parts)


def joined(parts: list[Events]) -> Events:
    """Events of several stretches, one after another."""
    return Events(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("places", "units", "phases", "gains"))
    )


def synthesized(atoms: Atoms, events: Events, time: int) -> np.ndarray:
    """(channels, time) of events, which may begin before the first sample and end after the last one."""
    whole = atoms.synthesize(events.moved(atoms.length), time + 2 * atoms.length)
    return whole[:, atoms.length : -atoms.length]


def without_companions(events: Events, atoms: Atoms, time: int) -> Events:
    """Events without the units that are no units: parts of a waveform, or what one leaves behind when it fits badly.

    The former nearly always fire at one distance from another unit, the latter mostly within a waveform's length of a
    much stronger one.
    """
    energy = atoms.energy.reshape(atoms.units, PHASES).mean(axis=1)
    for unit in np.argsort(energy):
        mine = events.places[events.units == unit]
        present = [other for other in np.unique(events.units) if other != unit] if len(mine) else []
        stronger = np.isin(events.units, [other for other in present if energy[other] > _STRONGER * energy[unit]])
        near = np.abs(_nearest(mine, events.places[stronger])) < atoms.length
        chance = 1 - np.exp(-2 * atoms.length * stronger.sum() / time)
        fixed = False
        for other in present:
            theirs = events.places[events.units == other]
            distance = _nearest(mine, theirs)
            often = np.abs(distance - np.median(distance)) <= 2
            fixed |= len(theirs) >= _COMPANY * len(mine) and often.mean() > _COMPANY
        if len(mine) and (fixed or near.mean() - chance > _COMPANY * (1 - chance)):
            events = events.select(events.units != unit)
    return events


def _nearest(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Signed distance of each place to the nearest of others (ascending); very far where there are none."""
    if not len(others):
        return np.full(len(places), 1 << 30)
    after = np.searchsorted(others, places)
    one, two = (others[np.clip(after + step, 0, len(others) - 1)] - places for step in (-1, 0))
    return np.where(np.abs(one) < np.abs(two), one, two)


def averaged(values: np.ndarray, events: Events, units: int, length: int, *, rounds: int = 5) -> np.ndarray:
    """Waveforms (units, channels, length) of known events in another version of the signal, by repeated refits."""
    events = events.select((events.places >= 0) & (events.places <= values.shape[1] - length))
    waves = np.zeros((units, len(values), length))
    for _ in range(rounds):
        atoms = Atoms(waves)
        waves = refitted(values - synthesized(atoms, events, values.shape[1]), atoms, events)
    return waves


def _next(
    white: np.ndarray, rest: np.ndarray, atoms: Atoms, events: Events, prior: Prior, model: Model, number: int
) -> _Turn:
    """Units and waveforms by the spikes of a round."""
    lone = without_companions(events, atoms, white.shape[1])
    if len(lone) < len(events):
        rest = white - synthesized(atoms, lone, white.shape[1])
    found = Population(rest, atoms, lone)
    # First, so that the pieces of a unit that fires rarely are not too few each.
    found.join()
    found.drop_weak()
    found.drop_superpositions(prior)
    if number % 2 == 0:
        found.take_apart()
    if model.units != "auto" and number > 2:
        found.force(model.units)
    labels = found.labels
    if not labels:
        raise DegenerateError("a unit that recurs", got="none", remedy="Lower threshold=, or record longer.")
    waves = np.stack([found.wave(unit) for unit in labels])
    counts = np.array([found.count(unit) for unit in labels], dtype=np.float64)
    return _Turn(
        waves,
        counts,
        _spread(events, atoms, prior.spread),
        settled=len(labels) == atoms.units and len(lone) == len(events),
    )


def _prior(counts: np.ndarray, spread: float, time: int, model: Model) -> Prior:
    cost = np.log(time * PHASES / np.maximum(counts, 1.0))
    return Prior(cost, np.ones(len(counts)), spread, model.refractory)


def _spread(events: Events, atoms: Atoms, spread: float) -> float:
    """How much scales vary beyond what the noise makes of them; `spread` has drawn those found to the mean."""
    found = []
    energy = atoms.energy.reshape(atoms.units, PHASES).mean(axis=1)
    for unit in range(atoms.units):
        gains = events.gains[events.units == unit]
        if len(gains) >= _FEWEST:
            drawn = energy[unit] / (energy[unit] + 1 / spread**2)
            robust = np.median(np.abs(gains - np.median(gains))) / _MEDIAN_MODULUS / drawn
            found.append(max(robust**2 - 1 / energy[unit], 0.0))
    return max(math.sqrt(np.median(found)) if found else 0.0, _LEAST_SPREAD)


def _slices(white: np.ndarray) -> Source:
    return lambda first, last: white[:, first:last]


def _padded(source: Source, low: int, high: int, count: int) -> np.ndarray:
    first, last = max(low, 0), min(high, count)
    return np.pad(source(first, last), ((0, 0), (first - low, high - last)))


def _none() -> Events:
    whole = np.empty(0, dtype=np.int64)
    return Events(whole, whole, whole, np.empty(0))
