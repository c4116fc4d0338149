"""What every benchmark shares: paired timing, memory of fresh processes, and tables that say where they come from."""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy
import torch

RESULTS = Path(__file__).parent / "results"
# Of one curve that is stored.
MOST_POINTS = 40

Work = Callable[[], object]


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds in all; shows that it runs")
    parser.add_argument("--out", type=Path, help="folder of the table (benchmarks/results; with --quick: none)")
    return parser


def cpu_seconds(work: Work) -> float:
    """CPU seconds of one call, summed over threads; what it returns is dropped outside the timed part."""
    gc.disable()
    start = time.process_time()
    result = work()
    spent = time.process_time() - start
    del result
    gc.enable()
    return spent


def wall_seconds(work: Work) -> float:
    """Seconds on the clock of one call."""
    start = time.perf_counter()
    result = work()
    spent = time.perf_counter() - start
    del result
    return spent


def paired(contenders: dict[str, Work], *, repeats: int, warm: bool = True) -> dict[str, list[float]]:
    """CPU seconds of every contender, `repeats` times, taking turns so that a change of the machine meets all.

    Every second round runs in reverse order. `warm` runs each once before, untimed.
    """
    if warm:
        for work in contenders.values():
            work()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats):
        for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(cpu_seconds(contenders[name]))
    return times


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median of the ratios of the rounds."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Value of function(*args) in a new interpreter, whose peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def reset_peak() -> int:
    """Let the kernel's peak of this process start anew; return the bytes resident now (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Most bytes that were resident at once in this process, since reset_peak if that was called (Linux)."""
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


class Report:
    """A result file: title, command, machine, versions, then tables and remarks in the order they are added."""

    def __init__(self, title: str, command: str, *, threads: str = "1 thread") -> None:
        self._parts = [f"# {title}", f"Command: `{command}`", "\n".join(_machine(threads))]
        self._curves: list[dict[str, object]] = []

    def say(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers are shown with three digits."""
        lines = [columns, ["---"] * len(columns), *rows]
        self._parts.append("\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines))

    def curve(
        self, problem: str, contender: str, seconds: Sequence[float], values: Sequence[float], *, measure: str
    ) -> None:
        """How far a contender had come after so many seconds, for the page of races; one point where only its end is.

        Points that are not numbers or come before a thousandth of the time are left out, and of a long curve all but
        `MOST_POINTS`, evenly in the logarithm.
        """
        pairs = [(float(spent), float(value)) for spent, value in zip(seconds, values, strict=True)]
        points = [pair for pair in pairs if pair[0] > 1e-3 * pairs[-1][0] and math.isfinite(pair[1])]
        kept = sorted({round((len(points) ** (at / MOST_POINTS)) - 1) for at in range(MOST_POINTS + 1)})
        if points:
            spent, found = zip(*(points[at] for at in kept if at < len(points)), strict=True)
            names = {"problem": problem, "contender": contender, "measure": measure}
            self._curves.append({**names, "seconds": list(spent), "values": list(found)})

    def finish(self, name: str, options: argparse.Namespace) -> None:
        """Print, and write NAME.md and curves/NAME.json to --out, or to benchmarks/results unless --quick."""
        text = "\n\n".join(self._parts) + "\n"
        print(text)
        folder = options.out or (None if options.quick else RESULTS)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.md").write_text(text)
            if self._curves:
                (folder / "curves").mkdir(exist_ok=True)
                lines = ",\n".join(map(json.dumps, self._curves))
                (folder / "curves" / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _machine(threads: str) -> list[str]:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"- Machine: {_cpu_model()}, {cores} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}; "
        f"{threads}; load average {os.getloadavg()[0]:.1f} at the start",
        f"- Versions: Python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}",
    ]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip() + f" ({torch.backends.cpu.get_cpu_capability()})"
    return platform.processor() or "unknown processor"
