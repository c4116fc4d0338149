"""How seconds and memory of class moments, and of the metrics from them, grow with samples, dimensions and classes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.measuring import RESULTS, Report, arguments, in_fresh_process, peak, reset_peak
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.simplex import equinorm, feature_distance
from tightframe.collapse.variability import nc1, trace_ratio
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments, Mode
from tightframe.report.figures import save
from tightframe.runs.console import watched
from tightframe.runs.record import Panel, Record, table_of

BLOCK = 2_048
REPEATS = 3
MEASURED = ("update, s", "metrics, s", "memory, MiB")


@dataclass(frozen=True)
class Size:
    """Samples, dimensions, classes."""

    n: int
    d: int
    k: int


BASE, TINY = Size(16_384, 512, 1_000), Size(600, 16, 20)
FACTORS = {"n": (1, 2, 4, 8), "d": (1, 2, 4, 8), "k": (1, 2, 4, 8)}


def main() -> None:
    options = arguments(__doc__).parse_args()
    base = TINY if options.quick else BASE
    report = Report("Growth of a measurement", "python -m benchmarks.scale.growth")
    report.say(
        f"From n = {base.n:,} samples of d = {base.d:,} float32 features in K = {base.k:,} classes, one of the three "
        f"grows at a time. CPU seconds of all updates, in blocks of {BLOCK:,} rows, and of the metrics from their "
        f'moments (NC1, NC2, D and equinorm; mode "trace" has no NC1): medians of {REPEATS}, each size and mode in a '
        "fresh process. Memory is what the first update and its metrics need beyond the data at their peak; the "
        "formula beside it is that of the state alone: anchors, sums and the scatter."
    )
    found = cache(partial(_found, quick=options.quick))
    cells = [
        (mode, axis, factor, replace(base, **{axis: getattr(base, axis) * factor}))
        for mode in ("full", "trace")
        for axis, factors in FACTORS.items()
        for factor in (factors[:2] if options.quick else factors)
    ]
    rows = [
        {"mode": mode, "grows": axis, "factor": factor, **vars(size), **found(mode, size)}
        for mode, axis, factor, size in watched(cells, len(cells), "sizes", enabled=True)
    ]
    columns = ["mode", "n", "d", "K", *MEASURED, "state, MiB"]
    lines = [tuple(row[name.lower() if name == "K" else name] for name in columns) for row in rows]
    report.table(columns, list(dict.fromkeys(lines)))
    report.say(
        "Exponents of growth, by least squares on logarithms over each of these ranges. Asked of an ideal: time of the "
        'updates n d^2 in mode "full" and n d in mode "trace", memory K d + d^2 and K d.'
    )
    report.table(["mode", "in", *MEASURED], _exponents(rows))
    folder = options.out or (None if options.quick else RESULTS)
    if folder:
        names = ", ".join(f"`pictures/{name}`" for name in _pictures(rows, folder))
        report.say(f"The curves, on logarithmic axes, are beside this file: {names}.")
    report.finish("growth", options)


def _found(mode: Mode, size: Size, *, quick: bool) -> dict[str, float]:
    seconds = _cell(mode, size) if quick else in_fresh_process(_cell, mode, size)
    # float32 anchors, float64 sums; per class a square and two counts of eight bytes.
    state = size.k * (size.d * (4 + 8) + 3 * 8) + (8 * size.d**2 if mode == "full" else 0)
    return dict(zip(MEASURED, seconds, strict=True)) | {"state, MiB": state / 2**20}


def _cell(mode: Mode, size: Size) -> tuple[float, float, float]:
    """Seconds of the updates and of the metrics, and MiB."""
    torch.set_num_threads(1)
    _measured(mode, TINY)  # what the libraries set aside at their first call is not ours
    return _measured(mode, size)


def _measured(mode: Mode, size: Size) -> tuple[float, float, float]:
    draws = generator(0)
    features = torch.randn(size.n, size.d, generator=draws)
    labels = torch.arange(size.n) % size.k
    before = reset_peak()
    times, memory = [], 0.0
    for _ in range(REPEATS):
        begun = time.process_time()
        moments = ClassMoments(size.k, mode)
        for start in range(0, size.n, BLOCK):
            moments.update(features[start : start + BLOCK], labels[start : start + BLOCK])
        updated = time.process_time()
        _metrics(moments)
        times.append((updated - begun, time.process_time() - updated))
        memory = memory or (peak() - before) / 2**20
    update, metrics = (median(column) for column in zip(*times, strict=True))
    return update, metrics, memory


def _metrics(moments: ClassMoments) -> list[float]:
    means = CentredMeans(moments)
    found = [trace_ratio(moments), feature_distance(means), equinorm(means.norms)]
    return [*found, nc1(moments)] if moments.mode == "full" else found


def _exponents(rows: list[dict]) -> list[tuple]:
    """One line per mode and axis."""
    lines = []
    for mode in ("full", "trace"):
        for axis in FACTORS:
            some = [row for row in rows if (row["mode"], row["grows"]) == (mode, axis)]
            sizes = np.log([row[axis] for row in some])
            # Toy sizes may take nothing that can be measured.
            columns = (np.log([max(row[name], 1e-6) for row in some]) for name in MEASURED)
            lines.append((mode, axis.upper() if axis == "k" else axis, *(_slope(sizes, column) for column in columns)))
    return lines


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(x, y, 1)[0])


def _pictures(rows: list[dict], folder: Path) -> list[str]:
    """Write one picture per measured column; return the names of the files."""
    names = {"n": "samples n", "d": "dimensions d", "k": "classes K"}
    table = [row | {"grows": names[row["grows"]]} for row in rows]
    record = Record(
        name="growth",
        title="Growth of a measurement",
        question="How do seconds and memory grow?",
        tables={"growth": table_of(table)},
        panels=tuple(
            Panel(
                kind="curves",
                title=name.split(",")[0].capitalize(),
                caption=f"{name} against the factor by which one of the three sizes grew.",
                table="growth",
                x="factor",
                y=name,
                color="mode",
                facet="grows",
                x_scale="log",
                y_scale="log",
            )
            for name in MEASURED
        ),
    )
    written = save(record, folder / "pictures")
    for path in written:
        if path.suffix == ".pdf":
            path.unlink()
    return [path.name for path in written if path.suffix == ".svg"]


if __name__ == "__main__":
    main()
