"""Options of the job that sorts spikes: a plain frozen dataclass, read without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class SortOptions:
    """Sort the spikes of an extracellular recording: which neurons fired when, overlapping spikes included.

    Args:
        recording: raw, bin or dat (interleaved samples), npy, npz, mat or csv; also gzipped.
        out: Directory for the spikes, the templates, the record and the report.
        rate: Samples per second; may be left out where an npz or mat file holds it.
        units: How many neurons, or auto.
        channels: Channels of a raw file (default 1), or the axis that counts channels in other files.
        dtype: Type of raw samples, as in int16, >i2 or float32.
        key: Name of the array in npz and mat files.
        milliseconds: Length of a waveform.
        low: Hz, above which spikes are looked for.
        high: Hz, below which peaks are detected to begin with.
        threshold: Noise levels above which a peak is detected to begin with.
        learn_seconds: Seconds from the middle of the recording on which waveforms are learned.
        seed: Of the first clustering.
        quiet: Show no progress.
    """

    recording: Annotated[Path, tyro.conf.Positional]
    out: Path
    rate: float | None = None
    units: int | Literal["auto"] = "auto"
    channels: int | None = None
    dtype: str = "int16"
    key: str | None = None
    milliseconds: float = 3.0
    low: float = 300.0
    high: float = 6000.0
    threshold: float = 4.0
    learn_seconds: float = 60.0
    seed: int = 0
    quiet: bool = False
