"""Matrix completion of unknown rank, beside least squares, ScaledGD, soft-impute, narrow and wide networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from benchmarks.measuring import Report, arguments, in_fresh_process, peak, reset_peak
from benchmarks.races.completion_rivals import DOUBLE, Fit, deep_network, least_squares, scaled_descent, soft_impute
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.observations import Observations, observe
from tightframe.deeplinear.path import (
    ObservedDescent,
    largest_step,
    spectral_network,
)


@dataclass(frozen=True)
class Problem:
    """A matrix and what is seen of it."""

    matrix: Tensor
    mask: Tensor
    rank: int

    @property
    def given(self) -> Tensor:
        return torch.where(self.mask, self.matrix, torch.nan)

    def error(self, found: Tensor) -> float:
        """Relative error of the entries not seen."""
        return float((found - self.matrix)[~self.mask].norm() / self.matrix[~self.mask].norm())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--large", action="store_true", help="only 100,000 x 20,000 with ten million entries")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.large:
        report = Report("Completion at scale", "python -m benchmarks.races.completion --large")
        _large(report, options.quick)
        report.finish("completion_large", options)
        return
    report = Report("Matrix completion", "python -m benchmarks.races.completion")
    report.say(
        "Gaussian factors, float64. Methods stop on observed entries only; `error` is relative, of entries not seen; "
        "median of the seeds. `ratio`: CPU seconds over those of plain least squares given the true rank."
    )
    _race(report, options.quick)
    _success(report, options.quick)
    _power_law(report, options.quick)
    _growth(report, options.quick)
    report.finish("completion", options)


def _problem(d: int, rank: int, share: float, seed: int) -> Problem:
    draws = generator(seed)
    A, B = (torch.randn(d, rank, dtype=DOUBLE, generator=draws) for _ in range(2))
    return Problem(A @ B.T, torch.rand(d, d, generator=draws) < share, rank)


def _power(d: int, share: float, seed: int) -> Problem:
    draws = generator(seed)
    U, V = (torch.linalg.qr(torch.randn(d, 40, dtype=DOUBLE, generator=draws)).Q for _ in range(2))
    matrix = U * torch.arange(1, 41).to(DOUBLE) ** -1.5 @ V.T
    return Problem(matrix, torch.rand(d, d, generator=draws) < share, 40)


def _ours(rank: int | str) -> Fit:
    def fit(found: Observations) -> Tensor:
        model = DeepMatrixCompletion(rank).fit(found)
        return model.left_ @ model.right_.T

    return fit


def _contenders(problem: Problem, quick: bool) -> dict[str, Fit]:
    rank, d = problem.rank, len(problem.matrix)
    found: dict[str, Fit] = {
        "least squares, true rank": least_squares(rank, 0.0),
        "least squares, true rank, accelerated": least_squares(rank, 0.8),
        "tightframe, rank unknown": _ours("auto"),
        "tightframe, rank at most 2 r": _ours(2 * rank),
        "tightframe, rank at most 4 r": _ours(4 * rank),
        "least squares, 2 r": least_squares(2 * rank, 0.0),
        "ScaledGD, true rank": scaled_descent(rank),
        "ScaledGD, 2 r": scaled_descent(2 * rank),
    }
    if not quick and d <= 200:
        found["soft-impute, held-out threshold"] = soft_impute
        found["narrow network, 2 r"] = lambda given: deep_network(given, 2 * rank)
        found["wide network"] = lambda given: deep_network(given, d)
    return found


def _race(report: Report, quick: bool) -> None:
    sizes = [(60, 2, 0.4)] if quick else [(200, 5, 0.3), (200, 5, 0.12), (100, 10, 0.4), (500, 10, 0.2)]
    rows = []
    for d, rank, share in sizes:
        problems = [_problem(d, rank, share, seed) for seed in range(1 if quick else 3)]
        base = None
        for name, fit in _contenders(problems[0], quick).items():
            errors, seconds = zip(*(_timed(fit, problem) for problem in problems), strict=True)
            base = base or median(seconds)
            label = f"d = {d}, r = {rank}, p = {share}"
            rows.append((label, name, f"{median(errors):.1e}", median(seconds), median(seconds) / base))
    report.table(["problem", "method", "error", "CPU s", "ratio"], rows)


def _timed(fit: Fit, problem: Problem) -> tuple[float, float]:
    found = observe(problem.given)
    begun = time.process_time()
    product = fit(found)
    return problem.error(product), time.process_time() - begun


def _success(report: Report, quick: bool) -> None:
    report.say("Share of seeds with an error below 1e-3, d = 100, r = 5, by share observed.")
    seeds = range(2 if quick else 20)
    shares = (0.3,) if quick else (0.15, 0.2, 0.25, 0.3, 0.4)
    methods = {
        "tightframe, rank unknown": lambda given: _quick_model(given, "auto"),
        "tightframe, rank at most 10": lambda given: _quick_model(given, 10),
        "least squares, true rank": least_squares(5, 0.0),
        "least squares, true rank, accelerated": least_squares(5, 0.8),
        "least squares, rank 10": least_squares(10, 0.0),
    }
    rows = []
    for name, fit in methods.items():
        row: list[object] = [name]
        for share in shares:
            won = sum(_timed(fit, _problem(100, 5, share, 100 + seed))[0] < 1e-3 for seed in seeds)
            row.append(f"{won}/{len(seeds)}")
        rows.append(row)
    report.table(["method", *map(str, shares)], rows)


def _quick_model(found: Observations, rank: int | str) -> Tensor:
    model = DeepMatrixCompletion(rank, validation=0.0).fit(found)
    return model.left_ @ model.right_.T


def _power_law(report: Report, quick: bool) -> None:
    report.say("No gap: singular values i^-1.5, 40 terms, 40 % observed.")
    problem = _power(50 if quick else 200, 0.4, 0)
    methods: dict[str, Fit] = {"tightframe": _ours("auto")}
    for rank in (5,) if quick else (5, 10, 20):
        methods[f"least squares, rank {rank}"] = least_squares(rank, 0.8)
    if not quick:
        methods["soft-impute, held-out threshold"] = soft_impute
        methods["narrow deep network, width 40"] = lambda given: deep_network(given, 40)
    rows = []
    for name, fit in methods.items():
        error, seconds = _timed(fit, problem)
        rows.append((name, f"{error:.3f}", seconds))
    report.table(["method", "error", "CPU s"], rows)


def _growth(report: Report, quick: bool) -> None:
    report.say("Milliseconds of a step of descent and of a sweep, by observations, columns and layers.")
    base = (20_000, 10, 3) if quick else (500_000, 20, 3)
    rows = []
    for count, rank, depth in (base, (2 * base[0], *base[1:]), (base[0], 2 * base[1], base[2]), (*base[:2], 6)):
        found = _scattered(10_000 if not quick else 500, 5000 if not quick else 400, count)
        network, top = spectral_network(found, rank, depth=depth)
        descent = ObservedDescent(found, network, step=0.1 * largest_step(found, top, depth))
        step = _milliseconds(descent.move)
        sweep = _milliseconds(
            lambda: alternating_least_squares(found, *descent.factors(), max_sweeps=1)  # noqa: B023
        )
        rows.append((count, rank, depth, step, sweep))
    report.table(["observations", "columns", "layers", "step, ms", "sweep, ms"], rows)


def _milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        begun = time.process_time()
        work()
        times.append(1000 * (time.process_time() - begun))
    return median(times)


def _scattered(m: int, n: int, count: int, rank: int = 20) -> Observations:
    """Entries of a matrix of low rank at random places, single precision."""
    draws = generator(0)
    keys = torch.unique(torch.randint(m * n, (count,), generator=draws))
    rows, columns = keys // n, keys % n
    A, B = (torch.randn(size, rank, generator=draws) for size in (m, n))
    values = torch.cat([(A[i] * B[j]).sum(1) for i, j in zip(rows.split(1 << 18), columns.split(1 << 18), strict=True)])
    return Observations(rows, columns, values, (m, n))


def _large(report: Report, quick: bool) -> None:
    size = (1000, 500, 50_000, 5) if quick else (100_000, 20_000, 10_000_000, 20)
    report.say(f"{size[0]:,} x {size[1]:,}, {size[2]:,} observations, {size[3]} columns, float32, a fresh process.")
    report.table(["what", "seconds", "peak memory beyond the data, MiB"], in_fresh_process(_large_epoch, *size))


def _large_epoch(m: int, n: int, count: int, rank: int) -> list[tuple[str, float, float]]:
    torch.set_num_threads(1)
    found = _scattered(m, n, count, rank)
    rows = []
    for name, work in (("first look: order by column", lambda: found.transposed.row_counts),):
        rows.append(_measured(name, work))
    kept: dict[str, ObservedDescent] = {}

    def start() -> None:
        network, top = spectral_network(found, rank)
        kept["descent"] = ObservedDescent(found, network, step=0.1 * largest_step(found, top, 3))

    rows.append(_measured("spectral start", start))
    rows.append(_measured("step of descent", kept["descent"].move))
    rows.append(_measured("sweep", lambda: alternating_least_squares(found, *kept["descent"].factors(), max_sweeps=1)))
    return rows


def _measured(name: str, work: Callable[[], object]) -> tuple[str, float, float]:
    before, begun = reset_peak(), time.perf_counter()
    work()
    return name, time.perf_counter() - begun, (peak() - before) / 2**20


if __name__ == "__main__":
    main()
