"""Spikes: when which unit fired, written and read as csv, npz and sortings of spikeinterface."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tightframe.core.errors import InputError, missing_package, reason
from tightframe.core.files import replace_file
from tightframe.data.array_files import named_arrays, opened, suffix_of, unknown_kind

_COLUMNS = ("seconds", "unit")


@dataclass(frozen=True, eq=False)
class Spikes:
    """Spike times in ascending order, and the unit that fired each.

    Args:
        times: (n,), in seconds; sorted on construction, the units with them.
        units: (n,), integers, any labels.

    Raises:
        InputError: Not one unit per time, NaN, or units that are no integers.
    """

    times: np.ndarray
    units: np.ndarray

    def __post_init__(self) -> None:
        times, units = np.asarray(self.times, dtype=np.float64), np.asarray(self.units)
        if times.ndim != 1 or units.shape != times.shape:
            raise InputError(
                "times (n,) and one unit for each", got=f"{times.shape} and {units.shape}", remedy="Pass both flat."
            )
        if not np.isfinite(times).all():
            raise InputError("finite times", got="NaN or inf", remedy="Remove these spikes.")
        if len(units) and units.dtype.kind not in "iu":
            raise InputError("units as integers", got=f"type {units.dtype}", remedy="Number the units.")
        order = np.lexsort((units, times))
        object.__setattr__(self, "times", times[order])
        object.__setattr__(self, "units", units[order].astype(np.int64))

    def __len__(self) -> int:
        return len(self.times)

    @property
    def labels(self) -> tuple[int, ...]:
        """The units that fired, ascending."""
        return tuple(np.unique(self.units).tolist())

    def of(self, unit: int) -> np.ndarray:
        """Times of a unit, ascending; none for a unit that never fired."""
        return self.times[self.units == unit]

    def overlapping(self, window: float = 1.5e-3) -> np.ndarray:
        """(n,), whether another unit fires within `window` seconds."""
        if not (math.isfinite(window) and window >= 0):
            raise InputError("a window in seconds, at least 0", got=repr(window), remedy="Use 1.5e-3.")
        all_within = _within(self.times, self.times, window)
        own = np.zeros(len(self), dtype=np.int64)
        for unit in self.labels:
            mine = self.units == unit
            own[mine] = _within(self.times[mine], self.times[mine], window)
        return all_within > own


def _within(points: np.ndarray, times: np.ndarray, window: float) -> np.ndarray:
    """How many of the ascending `times` lie within `window` of each point."""
    return np.searchsorted(times, points + window, side="right") - np.searchsorted(times, points - window)


def write_spikes(path: str | Path, spikes: Spikes) -> Path:
    """Write spikes as .csv (columns seconds, unit) or .npz (arrays seconds, unit), whole or not at all.

    Raises:
        InputError: Another ending, or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        arrays = {"seconds": spikes.times, "unit": spikes.units}
        replace_file(path, lambda partial: np.savez_compressed(partial, **arrays))
    elif path.suffix.lower() == ".csv":
        # Seventeen digits bring back every float64 as it was.
        rows = (f"{time:.17g},{unit}" for time, unit in zip(spikes.times, spikes.units, strict=True))
        text = "\n".join([",".join(_COLUMNS), *rows]) + "\n"
        replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    else:
        raise InputError("a file named .csv or .npz", got=str(path), remedy="Choose one of these endings.")
    return path


def read_spikes(path: str | Path) -> Spikes:
    """Spikes that `write_spikes` wrote, or a csv with columns named seconds and unit.

    Raises:
        InputError: The file is missing, damaged, of another kind, or lacks one of the two.
    """
    path = Path(path)
    kind = suffix_of(path)
    if kind == ".npz":
        found = named_arrays(path)
    elif kind == ".csv":
        found = _columns(path)
    else:
        raise unknown_kind(path, (".csv", ".npz"))
    if missing := [name for name in _COLUMNS if name not in found]:
        raise InputError(
            f"{' and '.join(_COLUMNS)} in {path}", got=", ".join(found) or "neither", remedy=f"Add {missing[0]}."
        )
    try:
        return Spikes(*(found[name] for name in _COLUMNS))
    except InputError as error:
        raise error.about(str(path)) from error


def to_spikeinterface(spikes: Spikes, rate: float) -> Any:
    """The spikes as a `NumpySorting` of spikeinterface, times rounded to samples.

    Args:
        spikes: What fired when.
        rate: Samples per second of the recording.

    Raises:
        MissingDependencyError: Without the package.
        InputError: A rate that is not positive, or spikes before the recording begins.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise InputError("a positive rate", got=repr(rate), remedy="Use 30000.0.")
    if len(spikes) and spikes.times[0] < -0.5 / rate:
        raise InputError("times from 0 on", got=f"{spikes.times[0]:.6g} s", remedy="Remove spikes before the start.")
    try:
        from spikeinterface import NumpySorting
    except ImportError as error:
        raise missing_package("the package `spikeinterface`, for its sortings", "spikes", error) from error
    samples = np.rint(spikes.times * rate).astype(np.int64)
    return NumpySorting.from_samples_and_labels([samples], [spikes.units], sampling_frequency=rate)


def from_sorting(sorting: Any, *, segment: int = 0) -> Spikes:
    """The spikes of a sorting of spikeinterface, or of anything with its methods.

    Args:
        sorting: Has `get_unit_ids`, `get_unit_spike_train` (samples) and `get_sampling_frequency`.
        segment: Which one.

    Returns:
        Units as the sorting numbers them; counted from 0 in its order where its names are no integers.

    Raises:
        InputError: No such object.
    """
    wanted = ("get_unit_ids", "get_unit_spike_train", "get_sampling_frequency")
    if missing := [name for name in wanted if not hasattr(sorting, name)]:
        raise InputError(
            "a sorting of spikeinterface",
            got=f"{type(sorting).__name__}, without {missing[0]}",
            remedy="Read files with read_spikes.",
        )
    names = list(sorting.get_unit_ids())
    numbered = all(isinstance(name, int | np.integer) for name in names)
    trains = [np.asarray(sorting.get_unit_spike_train(unit_id=name, segment_index=segment)) for name in names]
    labels = np.array(names if numbered else range(len(names)), dtype=np.int64)
    lengths = [len(train) for train in trains]
    times = np.concatenate([np.empty(0), *trains]) / float(sorting.get_sampling_frequency())
    return Spikes(times, np.repeat(labels, lengths))


def _columns(path: Path) -> dict[str, np.ndarray]:
    import pandas as pd

    with opened(path) as file:
        try:
            # As text first: not every version of pandas brings back a float64 to the last bit.
            table = pd.read_csv(file, dtype=str)
            found = {str(name).strip(): table[name] for name in table}
            kinds = zip(_COLUMNS, (np.float64, np.int64), strict=True)
            return {name: found[name].to_numpy().astype(kind) for name, kind in kinds if name in found}
        except Exception as error:  # readers of damaged files raise almost anything
            raise InputError(
                f"seconds as numbers and units as integers in {path}", got=reason(error), remedy="Check the file."
            ) from error
