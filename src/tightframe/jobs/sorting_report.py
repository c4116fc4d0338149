"""The record of a sorting: units, their waveforms, the intervals between their spikes, and when they fired."""

from __future__ import annotations

from typing import Any

import numpy as np

from tightframe.data.recorded.recordings import Recording
from tightframe.dictionary.spikes.sorting import Sorting
from tightframe.runs.environment import describe
from tightframe.runs.record import Cell, Panel, Record, table_of

# Milliseconds of the histograms of intervals, and seconds and spikes of the raster at most.
_LONGEST, _BIN = 50.0, 1.0
_RASTER_SECONDS, _RASTER_SPIKES = 5.0, 2000

Row = dict[str, Cell]


def record_of(sorting: Sorting, recording: Recording, config: dict[str, Any], *, exported: bool) -> Record:
    """The record of a sorting; `exported` says whether a sorting of spikeinterface lies beside it."""
    units = list(sorting.quality)
    raster = _raster(sorting)
    tables = {
        "units": table_of(units),
        "templates": table_of(_curves(sorting)),
        "intervals": table_of(_intervals(sorting)),
        "raster": table_of(raster),
        "learning": table_of([dict(row) for row in sorting.trace]),
    }
    return Record(
        name="sort",
        title=f"{recording.name}: spikes",
        question=f"Which neurons fired when in {recording.name}?",
        answer=_answer(sorting, recording, exported),
        config=config,
        environment=describe(),
        tables=tables,
        panels=_panels(sorting, bool(raster)),
    )


def _answer(sorting: Sorting, recording: Recording, exported: bool) -> str:
    worst = max(row["ISI violations"] for row in sorting.quality)
    near = float(sorting.spikes.overlapping().mean()) if len(sorting.spikes) else 0.0
    channels = "1 channel" if recording.channels == 1 else f"{recording.channels} channels"
    units = "1 unit" if len(sorting.templates) == 1 else f"{len(sorting.templates)} units"
    text = (
        f"{units} fired {len(sorting.spikes):,} spikes in {recording.seconds:.1f} s on "
        f"{channels}; {near:.1%} of them within 1.5 ms of another unit's. At most "
        f"{worst:.2%} of the intervals of a unit are below 1.5 ms."
    )
    return text if exported else f"{text} No sorting of spikeinterface was written: the package is not installed."


def _curves(sorting: Sorting) -> list[Row]:
    """Every template on its largest channel."""
    rows: list[Row] = []
    times = (np.arange(sorting.templates.shape[2]) - sorting.before) / sorting.rate * 1000
    for unit, wave in enumerate(sorting.templates):
        channel = int(np.abs(wave).max(axis=1).argmax())
        rows += [
            {"unit": str(unit), "milliseconds": float(at), "amplitude": float(value)}
            for at, value in zip(times, wave[channel], strict=True)
        ]
    return rows


def _intervals(sorting: Sorting) -> list[Row]:
    """Histogram of the intervals between successive spikes of every unit, bins named by their middle."""
    edges = np.arange(0.0, _LONGEST + _BIN, _BIN)
    rows: list[Row] = []
    for unit in range(len(sorting.templates)):
        gaps = 1000 * np.diff(sorting.spikes.of(unit))
        counts, _ = np.histogram(gaps, edges)
        rows += [
            {"unit": str(unit), "interval (ms)": float(edge + _BIN / 2), "count": int(count)}
            for edge, count in zip(edges[:-1], counts, strict=True)
        ]
    return rows


def _raster(sorting: Sorting) -> list[Row]:
    """The spikes of a few seconds from the middle on."""
    middle = 0.5 * sorting.seconds
    first = max(middle - 0.5 * _RASTER_SECONDS, 0.0)
    times, units = sorting.spikes.times, sorting.spikes.units
    shown = np.nonzero((times >= first) & (times < first + _RASTER_SECONDS))[0][:_RASTER_SPIKES]
    return [{"seconds": float(times[i]), "unit": str(units[i]), "gain": float(sorting.gains[i])} for i in shown]


def _panels(sorting: Sorting, raster: bool) -> tuple[Panel, ...]:
    panels = [
        Panel(
            kind="curves",
            title="Waveforms",
            caption="Each unit on the channel where it is largest, in the unit of the recording; 0 ms is the peak.",
            table="templates",
            x="milliseconds",
            y="amplitude",
            color="unit",
        ),
        Panel(
            kind="curves",
            title="Intervals between spikes",
            caption="Counts in bins of 1 ms. A neuron does not fire again within about 1.5 ms.",
            table="intervals",
            x="interval (ms)",
            y="count",
            facet="unit",
        ),
    ]
    if raster:
        panels.append(
            Panel(
                kind="scatter",
                title="Spikes",
                caption="A few seconds from the middle of the recording: when each unit fired, and how large the spike "
                "was beside the unit's waveform.",
                table="raster",
                x="seconds",
                y="gain",
                color="unit",
                facet="unit",
            )
        )
    return tuple(panels)
