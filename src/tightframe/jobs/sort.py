"""Sort the spikes of a recording, and write spikes, templates, a record and, where it is installed, a sorting."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tightframe.core.errors import MissingDependencyError
from tightframe.data.array_files import write_arrays
from tightframe.data.recorded.recordings import Recording, from_spikeinterface, read_recording
from tightframe.data.recorded.spikes import to_spikeinterface, write_spikes
from tightframe.dictionary.spikes.sorting import Sorting, sort_spikes
from tightframe.jobs.sort_options import SortOptions
from tightframe.jobs.sorting_report import record_of
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory

_PLACES = ("out", "quiet")
# Folder below `out` for the sorting of spikeinterface.
EXPORT = "spikeinterface"


@dataclass(frozen=True, eq=False)
class Sorted:
    """A sorting, and the record of how it was made."""

    sorting: Sorting
    record: Record


def sort_file(options: SortOptions) -> Sorted:
    """Sort the recording that the options name; write the results and their record.

    Raises:
        InputError: A recording that cannot be read, or as for `sort_spikes`.
    """
    recording = read_recording(
        options.recording, options.rate, channels=options.channels, dtype=options.dtype, key=options.key
    )
    return sort_recording(recording, options)


def sort_recording(recording: Recording | Any, options: SortOptions) -> Sorted:
    """As `sort_file`, of a `Recording` or a recording of spikeinterface; options about the file are not used.

    Raises:
        InputError: No recording, or as for `sort_spikes`.
    """
    if not isinstance(recording, Recording):
        recording = from_spikeinterface(recording)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    config = {key: value for key, value in asdict(options).items() if key not in _PLACES}
    config |= {"recording": options.recording.name, "rate": recording.rate}
    with RunDirectory.create(options.out, config=config) as directory:
        sorting = sort_spikes(
            recording,
            units=options.units,
            milliseconds=options.milliseconds,
            low=options.low,
            high=options.high,
            threshold=options.threshold,
            learn_seconds=options.learn_seconds,
            seed=options.seed,
            verbose=not options.quiet,
        )
        exported = _write(options.out, sorting)
        record = record_of(sorting, recording, config, exported=exported)
        record = replace(record, name=options.out.resolve().name, started=started, seconds=time.perf_counter() - clock)
        directory.save_record(record)
    return Sorted(sorting, record)


def _write(out: Path, sorting: Sorting) -> bool:
    """Spikes as csv and npz, templates as npz, and whether a sorting of spikeinterface could be written too."""
    write_spikes(out / "spikes.csv", sorting.spikes)
    times = {"seconds": sorting.spikes.times, "unit": sorting.spikes.units, "gain": sorting.gains, "rate": sorting.rate}
    write_arrays(out / "sorting.npz", times)
    shapes = {"templates": sorting.templates, "peak": sorting.before, "noise": sorting.noise, "rate": sorting.rate}
    write_arrays(out / "templates.npz", shapes)
    try:
        exported = to_spikeinterface(_from_the_start(sorting), sorting.rate)
    except MissingDependencyError:
        return False
    with warnings.catch_warnings():
        # That a sorting made of arrays has no file it came from.
        warnings.simplefilter("ignore", UserWarning)
        exported.save(folder=out / EXPORT)
    return True


def _from_the_start(sorting: Sorting) -> Any:
    """The spikes, those whose peak would lie before the first sample moved to it."""
    return replace(sorting.spikes, times=np.maximum(sorting.spikes.times, 0.0))
