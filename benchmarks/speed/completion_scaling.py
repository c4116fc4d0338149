"""Matrix completion at scale: seconds and memory of an epoch, by observed entries, columns and layers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median

import numpy as np
import scipy.sparse
import torch
from benchmarks.measuring import Report, arguments, in_fresh_process, peak, reset_peak

from tightframe.core.rng import generator
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.path import ObservedDescent, largest_step, spectral_network

# Rows, columns, observed entries, columns of the factors, layers; then which of the last three grows, and by what.
BASE, TINY = (20_000, 10_000, 250_000, 10, 3), (600, 400, 20_000, 4, 3)
GROWTH = (("observations", 2), ("columns", 3), ("layers", 4))
FACTORS = (1, 2, 4)
LARGE, LESS_LARGE = (100_000, 20_000, 10_000_000, 20), (1000, 500, 50_000, 5)
REPEATS = 3


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--large", action="store_true", help="only 100,000 x 20,000 with ten million entries")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.large:
        report = Report("Completion at scale", "python -m benchmarks.speed.completion_scaling --large")
        large(report, options.quick)
        report.finish("completion_large", options)
        return
    report = Report("Growth of an epoch of completion", "python -m benchmarks.speed.completion_scaling")
    growth(report, options.quick)
    report.finish("completion_scaling", options)


def growth(report: Report, quick: bool) -> None:
    """A table of every cell, and one of fitted exponents."""
    base = TINY if quick else BASE
    report.say(
        f"A step of descent and a sweep of least squares, {base[0]:,} x {base[1]:,}, float32: CPU milliseconds (median "
        f"of {REPEATS}) and peak memory of the first one beyond what was resident, each line in a fresh process."
    )
    cells = {base: _measured_cell(base, quick)}
    for _, place in GROWTH:
        for factor in FACTORS[1:]:
            cell = (*base[:place], base[place] * factor, *base[place + 1 :])
            cells[cell] = _measured_cell(cell, quick)
    names = ["step, ms", "sweep, ms", "step, MiB", "sweep, MiB"]
    report.table(["observations", "columns", "layers", *names], [(*cell[2:], *found) for cell, found in cells.items()])
    rows = []
    for name, place in GROWTH:
        some = [(cell[place], found) for cell, found in cells.items() if _apart(cell, base) <= {place}]
        rows.append((name, *(_exponent([(size, found[at]) for size, found in some]) for at in range(4))))
    report.say("Exponents of that growth, by least squares on logarithms.")
    report.table(["in", *names], rows)


def large(report: Report, quick: bool) -> None:
    """An epoch at full size, beside that of implicit, which minimises another loss at the same cost per entry."""
    size = LESS_LARGE if quick else LARGE
    report.say(
        f"{size[0]:,} x {size[1]:,}, {size[2]:,} observations, {size[3]} columns, float32, one thread, a fresh process "
        "for each package. implicit's ALS weighs all entries and takes a few conjugate gradient steps per row where "
        "ours solves exactly; its loss is another one, so times of an epoch are compared and nothing else."
    )
    rows = in_fresh_process(_large_epoch, *size)
    try:
        import_module("implicit")
    except ImportError:
        report.say("implicit is not installed (`pip install implicit`): its lines are missing.")
    else:
        rows += in_fresh_process(_implicit_epoch, *size)
    report.table(["what", "seconds", "peak memory beyond the data, MiB"], rows)


def scattered(m: int, n: int, count: int, rank: int = 20) -> Observations:
    """Entries of a matrix of low rank at random places, single precision."""
    draws = generator(0)
    keys = torch.unique(torch.randint(m * n, (count,), generator=draws))
    rows, columns = keys // n, keys % n
    A, B = (torch.randn(size, rank, generator=draws) for size in (m, n))
    values = torch.cat([(A[i] * B[j]).sum(1) for i, j in zip(rows.split(1 << 18), columns.split(1 << 18), strict=True)])
    return Observations(rows, columns, values, (m, n))


def _measured_cell(cell: tuple[int, ...], quick: bool) -> tuple[float, ...]:
    return _epoch(*cell) if quick else in_fresh_process(_epoch, *cell)


def _epoch(m: int, n: int, count: int, width: int, depth: int) -> tuple[float, float, float, float]:
    """Milliseconds of a step and of a sweep, then MiB."""
    torch.set_num_threads(1)
    found = scattered(m, n, count)
    network, top = spectral_network(found, width, depth=depth)
    descent = ObservedDescent(found, network, step=0.1 * largest_step(found, top, depth))
    factors = descent.factors()
    works = (descent.move, lambda: alternating_least_squares(found, *factors, max_sweeps=1))
    milliseconds, memory = [], []
    for work in works:
        before, times = reset_peak(), []
        work()
        memory.append((peak() - before) / 2**20)
        for _ in range(REPEATS):
            begun = time.process_time()
            work()
            times.append(1000 * (time.process_time() - begun))
        milliseconds.append(median(times))
    return (*milliseconds, *memory)


def _apart(cell: tuple[int, ...], base: tuple[int, ...]) -> set[int]:
    return {place for place, (one, other) in enumerate(zip(cell, base, strict=True)) if one != other}


def _exponent(points: list[tuple[float, float]]) -> float:
    x, y = (np.log([max(point[at], 1e-3) for point in points]) for at in (0, 1))
    return float(np.polyfit(x, y, 1)[0]) if math.isfinite(y.sum()) else math.nan


def _large_epoch(m: int, n: int, count: int, rank: int) -> list[tuple[str, float, float]]:
    torch.set_num_threads(1)
    found = scattered(m, n, count, rank)
    rows = [_measured("first look: order by column", lambda: found.transposed.row_counts)]
    kept: dict[str, ObservedDescent] = {}

    def start() -> None:
        network, top = spectral_network(found, rank)
        kept["descent"] = ObservedDescent(found, network, step=0.1 * largest_step(found, top, 3))

    rows.append(_measured("spectral start", start))
    rows.append(_measured("step of descent", kept["descent"].move))
    rows.append(_measured("sweep", lambda: alternating_least_squares(found, *kept["descent"].factors(), max_sweeps=1)))
    return rows


def _implicit_epoch(m: int, n: int, count: int, rank: int) -> list[tuple[str, float, float]]:
    found = scattered(m, n, count, rank)
    # Its values are confidences, which are positive.
    values = (found.values.abs().numpy(), (found.rows.numpy(), found.columns.numpy()))
    table = scipy.sparse.csr_matrix(values, shape=(m, n))
    model = import_module("implicit.cpu.als").AlternatingLeastSquares
    rows = []
    for sweeps in (1, 3):
        fit = model(factors=rank, iterations=sweeps, num_threads=1, random_state=0)
        name = f"implicit: fit of {sweeps} sweep{'s' * (sweeps > 1)}"
        rows.append(_measured(name, lambda fit=fit: fit.fit(table, show_progress=False)))
    return [*rows, ("implicit: sweep, from the difference", (rows[1][1] - rows[0][1]) / 2, rows[1][2])]


def _measured(name: str, work: Callable[[], object]) -> tuple[str, float, float]:
    before, begun = reset_peak(), time.perf_counter()
    work()
    return name, time.perf_counter() - begun, (peak() - before) / 2**20


if __name__ == "__main__":
    main()
