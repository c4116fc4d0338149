"""Extracellular recordings: voltages of channels over time, from raw, npy, npz, mat, csv and spikeinterface."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tightframe.core.checks import check_count
from tightframe.core.errors import AmbiguityError, InputError, reason
from tightframe.data.array_files import ARRAY_SUFFIXES, named_arrays, opened, read_array, suffix_of, unknown_kind
from tightframe.data.location import data_file

RAW_SUFFIXES = (".raw", ".bin", ".dat")
_RATES = ("rate", "fs", "sample_rate", "sampling_rate", "sampling_frequency")


@dataclass(frozen=True, eq=False)
class Recording:
    """Voltages of one or more channels, sampled at equal steps.

    Args:
        values: (channels, time), real numbers in the unit of the file; may be memory-mapped and is never changed.
        rate: Samples per second.
        name: What reports call it.

    Raises:
        InputError: Another shape, an empty array, values that are no real numbers, or a rate that is not positive.
    """

    values: np.ndarray
    rate: float
    name: str = "recording"

    def __post_init__(self) -> None:
        if not isinstance(self.values, np.ndarray) or self.values.ndim != 2 or not self.values.size:
            got = f"shape {self.values.shape}" if isinstance(self.values, np.ndarray) else type(self.values).__name__
            raise InputError("values of shape (channels, time)", got=got, remedy="Use values[None] for one channel.")
        if self.values.dtype.kind not in "iuf":
            raise InputError("real numbers", got=f"type {self.values.dtype}", remedy="Convert the values.")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise InputError("a positive rate in samples per second", got=repr(self.rate), remedy="Use 30000.")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.values.shape[0]

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.values.shape[1] / self.rate

    def excerpt(self, start: float, stop: float) -> Recording:
        """The part from `start` to `stop` seconds, without a copy; its times count from `start`."""
        if not 0 <= start < stop <= self.seconds:
            raise InputError(
                f"0 <= start < stop <= {self.seconds:g} seconds", got=f"{start} to {stop}", remedy="Name a part of it."
            )
        part = slice(round(start * self.rate), round(stop * self.rate))
        return Recording(self.values[:, part], self.rate, self.name)


def read_recording(
    path: str | Path,
    rate: float | None = None,
    *,
    channels: int | None = None,
    dtype: str = "int16",
    key: str | None = None,
) -> Recording:
    """A recording from a file.

    Args:
        path: .raw, .bin or .dat (interleaved: all channels of the first sample, then of the second), .npy, .npz, .mat
            or .csv, or one of these followed by .gz. Raw and .npy files are memory-mapped, compressed ones are not.
        rate: Samples per second; may be left out where an .npz or .mat holds it under one of the names rate, fs,
            sample_rate, sampling_rate or sampling_frequency.
        channels: Number of channels; 1 by default in raw files. In the others the axis of this length counts
            channels, and without it the shorter one does.
        dtype: Type of raw samples, byte order included: "int16", ">i2", "float32".
        key: Name of the array in .npz and .mat, where there are several.

    Raises:
        InputError: The file is missing, damaged or of another kind, bytes that are no whole number of samples of all
            channels, no axis of `channels`, or no rate. AmbiguityError: several arrays and no key.
            UnsafeFileError: a pickle.
    """
    path = Path(path)
    if channels is not None:
        check_count(channels, "channels")
    kind = suffix_of(path)
    if kind in RAW_SUFFIXES:
        if key is not None:
            raise InputError("`key` goes with .npz and .mat files", got=f"key={key!r}", remedy="Leave it out.")
        values = _raw(path, channels or 1, dtype)
    elif kind in ARRAY_SUFFIXES:
        values = _by_channel(read_array(path, key=key), channels, path)
        rate = _stored_rate(path) if rate is None and kind in (".npz", ".mat") else rate
    else:
        raise unknown_kind(path, (*RAW_SUFFIXES, *ARRAY_SUFFIXES))
    if rate is None:
        raise InputError(
            "the sampling rate", got=f"none, and {path} holds none", remedy="Set rate= (--rate) in samples per second."
        )
    return Recording(values, float(rate), path.name)


def locust_recording(*, root: str | Path | None = None) -> Recording:
    """A tetrode in the antennal lobe of a locust, 28.8 s: `spikes/locust_trial_01.raw` below the root, gzipped or not.

    Rate, channels and type are those of `locust_info.json` beside it. There are no labels.

    Args:
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: A file is missing, damaged, or of another form.
    """
    path = data_file("spikes/locust_info.json", root=root)
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        rate, channels, dtype = float(info["sample_rate"]), int(info["shape"][1]), str(info["dtype"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise InputError(
            f"sample_rate, shape and dtype in {path}",
            got=f"{type(error).__name__}: {reason(error)}",
            remedy="Copy it again.",
        ) from error
    raw = data_file("spikes/locust_trial_01.raw", root=root)
    try:
        return read_recording(raw, rate, channels=channels, dtype=dtype)
    except InputError as error:
        raise error.about(str(path)) from error


def from_spikeinterface(recording: Any, *, segment: int | None = None) -> Recording:
    """A recording of spikeinterface, or anything with its methods.

    Args:
        recording: Has `get_num_segments`, `get_traces` of shape (time, channels) and `get_sampling_frequency`.
        segment: Which one; needed where there are several.

    Raises:
        InputError: No such object, or no such segment. AmbiguityError: several segments and none named.
    """
    wanted = ("get_num_segments", "get_traces", "get_sampling_frequency")
    if missing := [name for name in wanted if not hasattr(recording, name)]:
        raise InputError(
            "a recording of spikeinterface",
            got=f"{type(recording).__name__}, without {missing[0]}",
            remedy="Read files with read_recording.",
        )
    count = recording.get_num_segments()
    if segment is None and count != 1:
        raise AmbiguityError("one segment", got=f"{count} segments", remedy="Set segment= to one of them, from 0.")
    if segment is not None and not 0 <= segment < count:
        raise InputError(f"a segment below {count}", got=repr(segment), remedy="Count the segments from 0.")
    traces = np.asarray(recording.get_traces(segment_index=segment or 0))
    return Recording(traces.T, float(recording.get_sampling_frequency()), type(recording).__name__)


def _raw(path: Path, channels: int, dtype: str) -> np.ndarray:
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise InputError("a type of samples", got=repr(dtype), remedy="Use int16, uint16 or float32.") from error
    if kind.kind not in "iuf":
        raise InputError("real samples", got=f"dtype={dtype!r}", remedy="Use int16, uint16 or float32.")
    with opened(path) as file:
        packed = isinstance(file, io.BytesIO)
        content = file.read() if packed else b""
    size = len(content) if packed else path.stat().st_size
    frame = channels * kind.itemsize
    if size % frame:
        fitting = [count for count in range(1, 513) if size % (count * kind.itemsize) == 0]
        shown = ", ".join(map(str, fitting[:12])) or "none"
        raise InputError(
            f"a multiple of {frame} bytes, {channels} channels of {kind}, in {path}",
            got=f"{size} bytes, {size % frame} too many",
            remedy=f"Set channels= (--channels); counts that fit: {shown}. Or set dtype=, or copy the file again.",
        )
    flat = np.frombuffer(content, dtype=kind) if packed else np.memmap(path, dtype=kind, mode="r")
    return flat.reshape(-1, channels).T


def _by_channel(array: np.ndarray, channels: int | None, path: Path) -> np.ndarray:
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise InputError(
            f"channels and times, two axes, in {path}", got=f"shape {array.shape}", remedy="Join the other axes."
        )
    if channels is not None and channels not in array.shape:
        raise InputError(f"an axis of {channels} channels in {path}", got=f"shape {array.shape}", remedy="Check both.")
    first = array.shape[0] == channels if channels is not None else array.shape[0] <= array.shape[1]
    return array if first else array.T


def _stored_rate(path: Path) -> float | None:
    scalars = {name.lower(): array for name, array in named_arrays(path).items() if array.size == 1}
    return next((float(scalars[name].item()) for name in _RATES if name in scalars), None)
