"""When simulated units fire: Poisson processes with a dead time, and a wanted share of overlapping spikes."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from tightframe.core.errors import InputError
from tightframe.data.recorded.spikes import Spikes

# Seconds within which spikes of two units count as overlapping.
WINDOW = 1.5e-3
_TRIES = 20


def firing_times(
    rates: Sequence[float],
    limits: tuple[float, float],
    *,
    refractory: float = 2e-3,
    overlaps: float | None = None,
    seed: int | np.random.Generator = 0,
) -> Spikes:
    """Independent units, each a Poisson process with a dead time after every spike.

    Args:
        rates: Mean spikes per second of every unit.
        limits: First and last possible time, in seconds.
        refractory: Seconds in which a unit does not fire again.
        overlaps: Share of spikes within 1.5 ms of another unit's, in [0, 1): overlaps of chance are removed, then
            partners are put beside spikes drawn at random; rates hold only about. None leaves overlaps to chance.
        seed: A seed or a generator.

    Returns:
        Units 0, 1, ... in the order of `rates`.

    Raises:
        InputError: A rate that is negative or above 1 / refractory, limits that do not ascend, a share outside
            [0, 1), or one for a single unit.
    """
    rates = np.asarray(rates, dtype=np.float64)
    _check(rates, limits, refractory, overlaps)
    source = np.random.default_rng(seed)
    # A partner beside a share s / (2 - s) of the spikes makes a share s of all overlap; the rest fires so much less.
    thinned = rates if overlaps is None else rates * (1 - overlaps / 2)
    trains = [_train(rate, limits, refractory, source) for rate in thinned]
    lengths = [len(train) for train in trains]
    spikes = Spikes(np.concatenate(trains), np.repeat(np.arange(len(rates)), lengths))
    if overlaps is None:
        return spikes
    return _partnered(_apart(spikes), overlaps, rates, limits, refractory, source)


def _train(rate: float, limits: tuple[float, float], refractory: float, source: np.random.Generator) -> np.ndarray:
    length = limits[1] - limits[0]
    if rate == 0:
        return np.empty(0)
    # Six standard deviations more than the expected number, so that hardly ever a second draw is needed.
    size = math.ceil(length * rate + 6 * math.sqrt(length * rate)) + 10
    mean = 1 / rate - refractory
    # The first interval has no dead time before it: the process need not have begun with a spike.
    times = np.cumsum(refractory + source.exponential(mean, size)) - source.uniform(0, refractory)
    while times[-1] < length:
        times = np.append(times, times[-1] + np.cumsum(refractory + source.exponential(mean, size)))
    return limits[0] + times[times < length]


def _apart(spikes: Spikes) -> Spikes:
    """Without the later one of every two spikes of different units that overlap."""
    kept = np.ones(len(spikes), dtype=bool)
    last = 0
    for index in range(1, len(spikes)):
        near = spikes.times[index] - spikes.times[last] <= WINDOW
        kept[index] = not near or spikes.units[index] == spikes.units[last]
        last = index if kept[index] else last
    return Spikes(spikes.times[kept], spikes.units[kept])


def _partnered(
    spikes: Spikes,
    share: float,
    rates: np.ndarray,
    limits: tuple[float, float],
    refractory: float,
    source: np.random.Generator,
) -> Spikes:
    """With spikes of other units put beside so many that the share overlaps."""
    wanted = round(share / (2 - share) * len(spikes))
    hosts = source.permutation(len(spikes))
    everything = spikes.times.tolist()
    trains = [spikes.of(unit).tolist() for unit in range(len(rates))]
    times, units = [], []
    for host in hosts:
        if len(times) == wanted:
            break
        chances = np.where(np.arange(len(rates)) == spikes.units[host], 0.0, rates)
        if not chances.sum():
            continue
        for _ in range(_TRIES):
            unit = int(source.choice(len(rates), p=chances / chances.sum()))
            time = float(spikes.times[host] + source.uniform(-WINDOW, WINDOW))
            # The host alone is near: a third spike would raise the share beyond what is wanted.
            alone = _near(everything, time, WINDOW) == 1 and limits[0] <= time <= limits[1]
            if alone and not _near(trains[unit], time, refractory):
                insort(everything, time)
                insort(trains[unit], time)
                times.append(time)
                units.append(unit)
                break
    return Spikes(
        np.concatenate((spikes.times, times)), np.concatenate((spikes.units, np.array(units, dtype=np.int64)))
    )


def _near(ascending: list[float], time: float, window: float) -> int:
    return bisect_left(ascending, time + window) - bisect_left(ascending, time - window)


def _check(rates: np.ndarray, limits: tuple[float, float], refractory: float, overlaps: float | None) -> None:
    if not (math.isfinite(refractory) and refractory >= 0):
        raise InputError("a refractory time of at least 0 s", got=repr(refractory), remedy="Use 2e-3.")
    if rates.ndim != 1 or not len(rates) or not np.isfinite(rates).all() or rates.min() < 0:
        raise InputError("rates of at least 0, one per unit", got=str(rates.tolist()), remedy="Use [10.0, 5.0].")
    if rates.max() * refractory >= 1:
        raise InputError(
            f"rates below 1 / refractory = {1 / refractory:g} per second",
            got=f"{rates.max():g}",
            remedy="Lower the rate or the refractory time.",
        )
    if not limits[0] < limits[1]:
        raise InputError("ascending limits", got=repr(limits), remedy="Lengthen the recording.")
    if overlaps is not None and not 0 <= overlaps < 1:
        raise InputError("a share of overlaps in [0, 1)", got=repr(overlaps), remedy="Use 0.15, or None.")
    if overlaps and len(rates) < 2:
        raise InputError("two units for spikes to overlap", got="one", remedy="Leave `overlaps` at None.")
