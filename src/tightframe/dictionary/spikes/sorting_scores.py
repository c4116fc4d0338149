"""Scores of a spike sorting: units and spikes beside the truth, overlaps apart, and quality without a truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.errors import InputError
from tightframe.data.recorded.spikes import Spikes
from tightframe.dictionary.detection import Counts


@dataclass(frozen=True)
class UnitScore:
    """How a true unit was found.

    Args:
        unit: Its label.
        found: Label of the unit assigned to it, or None where there is none.
        lag: Seconds by which the found times are late.
        counts: Of its spikes.
    """

    unit: int
    found: int | None
    lag: float
    counts: Counts


@dataclass(frozen=True)
class SpikeScores:
    """A sorting beside the truth.

    Args:
        units: One per true unit, ascending.
        spurious: Found units that were assigned to none.
        overall: Over all spikes, those of spurious units being extras.
        overlapping: Over true spikes near one of another unit, and the extras near such a spike.
        isolated: Over the rest; the two add up to `overall`.
    """

    units: tuple[UnitScore, ...]
    spurious: tuple[int, ...]
    overall: Counts
    overlapping: Counts
    isolated: Counts


def match_spikes(
    found: Spikes, truth: Spikes, *, tolerance: float = 4e-4, lag: float = 0.0, window: float = 1.5e-3
) -> SpikeScores:
    """How well a sorting found the true spikes.

    Two spikes match when their times differ by at most `tolerance`; every spike matches at most one, as many as
    possible. Units are assigned one to one so that the sum of their accuracies is the largest possible.

    Args:
        found: The sorting, in any numbering of units.
        truth: What fired.
        tolerance: Seconds.
        lag: Seconds by which the times of a whole unit may be late or early: templates learned without labels have no
            natural zero. Of the shifts in that range, the one with the most coincidences is taken, the smallest among
            equals.
        window: Seconds within which spikes of two true units overlap.

    Returns:
        Scores by unit, and over overlapping and isolated spikes apart.

    Raises:
        InputError: A negative time, or a truth without spikes.
    """
    for name, value in (("tolerance", tolerance), ("lag", lag), ("window", window)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} in seconds, at least 0", got=repr(value), remedy="Use 4e-4.")
    if not len(truth):
        raise InputError("true spikes", got="none", remedy="Score recordings in which something fires.")
    names, others = truth.labels, found.labels
    shifts = np.array([[_lag(found.of(b), truth.of(a), tolerance, lag) for b in others] for a in names])
    shifts = shifts.reshape(len(names), len(others))
    pairs = _assigned(found, truth, shifts, tolerance)
    near = truth.overlapping(window)
    crowded = truth.times[near]
    hit, known = np.zeros(len(truth), dtype=bool), np.zeros(len(found), dtype=bool)
    scores = []
    for row, unit in enumerate(names):
        column = pairs.get(row)
        own = np.nonzero(truth.units == unit)[0]
        if column is None:
            scores.append(UnitScore(unit, None, 0.0, Counts(0, len(own), 0)))
            continue
        theirs = np.nonzero(found.units == others[column])[0]
        shift = float(shifts[row, column])
        a, b = matched(truth.times[own], found.times[theirs] - shift, tolerance)
        hit[own[a]], known[theirs[b]] = True, True
        counts = Counts(len(a), len(own) - len(a), len(theirs) - len(b))
        scores.append(UnitScore(unit, others[column], shift, counts))
    extra = found.times[~known]
    by_crowd = np.searchsorted(crowded, extra + window, side="right") > np.searchsorted(crowded, extra - window)
    overlapping, isolated = (
        Counts(int((hit & part).sum()), int((~hit & part).sum()), int(extras))
        for part, extras in ((near, by_crowd.sum()), (~near, (~by_crowd).sum()))
    )
    taken = {others[column] for column in pairs.values()}
    spurious = tuple(unit for unit in others if unit not in taken)
    return SpikeScores(tuple(scores), spurious, overlapping + isolated, overlapping, isolated)


def matched(first: np.ndarray, second: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pairs of two ascending series within `tolerance`: each in one pair at most, as many as possible.

    On a line, taking the earliest two that fit is optimal.
    """
    # Those with no counterpart at all are left out first, which is most of them where two units differ.
    one, two = (np.nonzero(_close(a, b, tolerance))[0] for a, b in ((first, second), (second, first)))
    left, right = first[one].tolist(), second[two].tolist()
    pairs, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] < right[j] - tolerance:
            i += 1
        elif right[j] < left[i] - tolerance:
            j += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    rows = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return one[rows[:, 0]], two[rows[:, 1]]


def isi_violations(times: ArrayLike, refractory: float = 1.5e-3) -> float:
    """Share of the intervals between successive spikes of one unit that are shorter than `refractory` seconds.

    A neuron does not fire again so soon, so these count spikes of others. With fewer than two spikes it is 0.

    Raises:
        InputError: Times that are not flat and finite, or a negative refractory time.

    Example:
        >>> isi_violations([0.0, 0.001, 0.1, 0.2])
        0.3333333333333333
    """
    series = np.sort(np.asarray(times, dtype=np.float64))
    if series.ndim != 1 or not np.isfinite(series).all():
        raise InputError("finite times (n,)", got=f"shape {series.shape}, or NaN", remedy="Pass those of one unit.")
    if not (math.isfinite(refractory) and refractory >= 0):
        raise InputError("a refractory time of at least 0 s", got=repr(refractory), remedy="Use 1.5e-3.")
    return float((np.diff(series) < refractory).mean()) if len(series) > 1 else 0.0


def template_snr(templates: ArrayLike, noise: ArrayLike) -> np.ndarray:
    """Peak of every template over the noise, on the channel where that is largest.

    Args:
        templates: (units, channels, samples).
        noise: Standard deviation of every channel (channels,), positive.

    Returns:
        (units,), float64.

    Raises:
        InputError: Shapes that do not agree, NaN, or noise that is not positive.
    """
    waves, levels = np.asarray(templates, dtype=np.float64), np.asarray(noise, dtype=np.float64)
    if waves.ndim != 3 or levels.shape != waves.shape[1:2] or not np.isfinite(waves).all():
        raise InputError(
            "finite templates (units, channels, samples) and noise (channels,)",
            got=f"{waves.shape} and {levels.shape}",
            remedy="Use templates[:, None] for one channel.",
        )
    if not (np.isfinite(levels).all() and (levels > 0).all()):
        raise InputError("positive noise", got=str(levels.tolist()), remedy="Estimate it with noise_level.")
    return (np.abs(waves).max(axis=2) / levels).max(axis=1)


def _lag(found: np.ndarray, truth: np.ndarray, tolerance: float, lag: float) -> float:
    """The shift of `found` in [-lag, lag] with the most coincidences with the truth."""
    if lag == 0:
        return 0.0
    reach = lag + tolerance
    starts, stops = np.searchsorted(found, truth - reach), np.searchsorted(found, truth + reach, side="right")
    # Differences of all pairs within reach, laid out flat.
    counts = stops - starts
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
    differences = np.sort(found[places] - np.repeat(truth, counts))
    if not len(differences):
        return 0.0
    # A best window can be moved until it begins at a difference; its own centre is then the median of what it holds.
    ends = np.searchsorted(differences, differences + 2 * tolerance, side="right")
    held = ends - np.arange(len(differences))
    best = np.nonzero(held == held.max())[0]
    centres = np.array([np.median(differences[start : ends[start]]) for start in best])
    return float(np.clip(centres[np.abs(centres).argmin()], -lag, lag))


def _assigned(found: Spikes, truth: Spikes, shifts: np.ndarray, tolerance: float) -> dict[int, int]:
    """Which found unit goes with which true one, by position; none where not a single spike coincides."""
    from scipy.optimize import linear_sum_assignment

    accuracy = np.zeros(shifts.shape)
    for row, unit in enumerate(truth.labels):
        own = truth.of(unit)
        for column, other in enumerate(found.labels):
            theirs = found.of(other) - shifts[row, column]
            common = len(matched(own, theirs, tolerance)[0])
            accuracy[row, column] = common / (len(own) + len(theirs) - common)
    rows, columns = linear_sum_assignment(accuracy, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if accuracy[row, column] > 0}


def _close(first: np.ndarray, second: np.ndarray, tolerance: float) -> np.ndarray:
    # A hair wider than the test that decides, so that rounding never drops a pair that it would take.
    wide = tolerance * (1 + 1e-9) + 1e-12
    return np.searchsorted(second, first + wide, side="right") > np.searchsorted(second, first - wide)
