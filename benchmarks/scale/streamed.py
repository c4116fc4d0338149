"""Class moments of features too many for memory, streamed from disk, beside reading them and one matrix product."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import Report, arguments, in_fresh_process, peak, reset_peak
from tightframe.collapse.variability import nc1
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments
from tightframe.features.shards import FeatureShards
from tightframe.runs.console import progress, watched

# Images of ImageNet, wide as the last layer of a ResNet50.
ROWS, FEATURES, CLASSES = 1_281_167, 2_048, 1_000
TINY = (4_000, 64, 20)
BLOCK = 4_096
ROUNDS = 2
# Columns of the random matrix by which two scatters are told apart without forming the second.
SKETCH = 8
# What the other passes are a share of.
BARE = "read + GEMM"
# Of the trace or the sketch against two passes in double precision; the products are in single precision.
BAR = 1e-6


@dataclass(frozen=True)
class Pass:
    """What one pass over the shards took, and the moments it left, where it makes any."""

    seconds: float
    cpu: float
    resident: float
    growth: float
    moments: dict[str, Any] | None = None


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of ImageNet (1)")
    parser.add_argument("--folder", type=Path, help="disk to measure: shards are made in it and removed (the system's)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="passes of every kind, taking turns")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stopped)
    rows, d, k = TINY if options.quick else (round(ROWS * options.share), FEATURES, CLASSES)
    _check_room(options.folder, rows * (d * 4 + 8))
    report = Report("Moments streamed from disk", _command(options), threads=_threads(options.threads))
    with TemporaryDirectory(prefix="shards-", dir=options.folder) as folder:
        _measure(report, Path(folder) / "features", (rows, d, k), options)
    report.finish("streamed" if options.share == 1 else "streamed_share", options)


def _measure(report: Report, folder: Path, size: tuple[int, int, int], options: argparse.Namespace) -> None:
    rows, d, k = size
    begun = time.perf_counter()
    apply = _directly if options.quick else in_fresh_process
    apply(_write, folder, *size, options.threads)
    report.say(
        f"{rows:,} rows of {d:,} float32 features in {k:,} classes, {rows * d * 4 / 1e9:.3g} GB in shards of 64 MiB "
        f"(written in {time.perf_counter() - begun:.3g} s, not counted), read in blocks of {BLOCK:,} rows. Every pass "
        f"runs in a fresh process after the shards were dropped from the page cache; medians of {options.rounds} "
        "rounds that take turns. The bare passes add up each block, and form `torch.mm(H.T, H, out=...)` into one "
        "buffer. Memory is the peak resident set, the shard that is mapped included, and what it is beyond "
        "the process at its start."
    )
    passes: dict[str, list[Pass]] = {name: [] for name in _PASSES}
    for turn in range(options.rounds):
        for name in list(_PASSES)[:: 1 if turn % 2 == 0 else -1]:
            passes[name].append(apply(_pass, name, folder, k, options.threads))
    lines = []
    for name, found in passes.items():
        columns = ([getattr(one, field) for one in found] for field in ("seconds", "cpu", "resident", "growth"))
        shares = (
            median(getattr(one, clock) / getattr(bare, clock) for one, bare in zip(found, passes[BARE], strict=True))
            for clock in ("seconds", "cpu")
        )
        lines.append((name, *(float(median(column)) for column in columns), *shares))
    shares = [f"share of {BARE}", "of its CPU s"]
    report.table(["pass", "seconds", "CPU s", "peak, MiB", "beyond the start, MiB", *shares], lines)
    _compare(report, passes["full moments"][0].moments, apply(_two_passes, folder, k, options.threads))


def _directly(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _compare(report: Report, state: dict[str, Any], exact: tuple[Tensor, ...]) -> None:
    """Say how far the moments are from those of two passes in double precision."""
    count, mean, within, image = exact
    moments = ClassMoments(len(count))
    moments.load_state_dict(state)
    ours = moments.scatter_times(_sketch(moments.features))
    errors = (
        ("means", _apart(moments.mean, mean)),
        ("trace of the scatter, class by class", _apart(moments.within, within)),
        (f"scatter times {SKETCH} random columns", _apart(ours, image)),
    )
    report.say(
        f"Against two passes in double precision (means first, then residuals): counts "
        f"{'equal' if torch.equal(moments.count, count) else 'NOT EQUAL'}; largest differences relative to the largest "
        f"entry below, bar {BAR:g}. NC1 = {nc1(moments):.10g}."
    )
    report.table(["moments", "difference", "bar met"], [(*pair, "yes" if pair[1] <= BAR else "NO") for pair in errors])


def _write(folder: Path, rows: int, d: int, k: int, threads: int) -> None:
    """Gaussian clouds about Gaussian means, seeded."""
    torch.set_num_threads(threads)
    draws = generator(0)
    means = torch.randn(k, d, generator=draws).add_(1)
    with FeatureShards.create(folder, features=d) as writer:
        for start in watched(range(0, rows, BLOCK), -(-rows // BLOCK), "writing", enabled=True):
            count = min(BLOCK, rows - start)
            labels = torch.randint(k, (count,), generator=draws)
            writer.append(torch.randn(count, d, generator=draws).add_(means[labels]), labels)


def _pass(name: str, folder: Path, k: int, threads: int) -> Pass:
    torch.set_num_threads(threads)
    shards = FeatureShards.open(folder)
    _uncache(folder)
    before = reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    moments = _PASSES[name](_blocks(shards, name), shards.features, k)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    most = peak()
    state = moments.state_dict() if isinstance(moments, ClassMoments) and moments.mode == "full" else None
    return Pass(*spent, most / 2**20, (most - before) / 2**20, state)


def _read(blocks: Iterator[tuple[Tensor, Tensor]], d: int, k: int) -> float:
    return sum(float(features.sum()) for features, _ in blocks)


def _gemm(blocks: Iterator[tuple[Tensor, Tensor]], d: int, k: int) -> Tensor:
    square = torch.empty(d, d)
    for features, _ in blocks:
        torch.mm(features.T, features, out=square)
    return square


def _full(blocks: Iterator[tuple[Tensor, Tensor]], d: int, k: int) -> ClassMoments:
    return _updated(blocks, ClassMoments(k))


def _trace(blocks: Iterator[tuple[Tensor, Tensor]], d: int, k: int) -> ClassMoments:
    return _updated(blocks, ClassMoments(k, "trace"))


def _updated(blocks: Iterator[tuple[Tensor, Tensor]], moments: ClassMoments) -> ClassMoments:
    for features, labels in blocks:
        moments.update(features, labels)
    return moments


_PASSES = {"read": _read, BARE: _gemm, "full moments": _full, "traces only": _trace}


def _two_passes(folder: Path, k: int, threads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts, means, traces and the scatter times a few columns, from their definitions."""
    torch.set_num_threads(threads)
    shards = FeatureShards.open(folder)
    count, sums = torch.zeros(k, dtype=torch.int64), torch.zeros(k, shards.features, dtype=torch.float64)
    for features, labels in _blocks(shards, "means in double precision"):
        count += torch.bincount(labels, minlength=k)
        sums.index_add_(0, labels, features.double())
    mean, columns = sums / count.clamp(min=1)[:, None], _sketch(shards.features)
    within, image = torch.zeros(k, dtype=torch.float64), torch.zeros_like(columns)
    for features, labels in _blocks(shards, "residuals in double precision"):
        residual = features.double() - mean[labels]
        within.index_add_(0, labels, residual.square().sum(1))
        image.addmm_(residual.T, residual @ columns)
    return count, mean, within, image


def _blocks(shards: FeatureShards, what: str) -> Iterator[tuple[Tensor, Tensor]]:
    # Progress counts rows: a block ends where a shard ends, so the number of blocks is not known before.
    with progress(len(shards), what, enabled=True) as meter:
        for block in shards.blocks(BLOCK):
            yield block
            meter.advance(len(block[1]))


def _sketch(d: int) -> Tensor:
    return torch.randn(d, SKETCH, generator=generator(1), dtype=torch.float64)


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _uncache(folder: Path) -> None:
    """Ask the kernel to forget the files, so that the next reader waits for the disk."""
    for path in folder.glob("shard-*"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _check_room(folder: Path | None, needed: int) -> None:
    free = shutil.disk_usage(folder or gettempdir()).free
    if free < 1.05 * needed:
        raise SystemExit(f"the shards need {needed / 1e9:.3g} GB, but the disk has {free / 1e9:.3g}: use --folder")


def _stopped(*_: object) -> None:
    """Unwind, so that the shards are removed; a pass that runs in a child ends first."""
    for child in multiprocessing.active_children():
        child.terminate()
    raise SystemExit(143)


def _command(options: argparse.Namespace) -> str:
    given = [f"--{name} {getattr(options, name)}" for name in ("share", "threads", "rounds") if _differs(options, name)]
    return " ".join(["python -m benchmarks.scale.streamed", *given])


def _differs(options: argparse.Namespace, name: str) -> bool:
    return getattr(options, name) != {"share": 1.0, "threads": 1, "rounds": ROUNDS}[name]


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


if __name__ == "__main__":
    main()
