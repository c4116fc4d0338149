"""Matrix completion of unknown rank, beside least squares, ScaledGD, soft-impute, narrow and wide networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from benchmarks.measuring import Report, arguments
from benchmarks.races.completion_rivals import (
    DOUBLE,
    Fit,
    deep_network,
    exact_norm,
    least_squares,
    scaled_descent,
    shrunk,
)
from benchmarks.speed.completion_scaling import growth
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.observations import Observations, observe

SIZES, SMALL = ((200, 5, 0.3), (200, 5, 0.12), (100, 10, 0.4), (500, 10, 0.2)), (60, 2, 0.4)
ERROR = "relative error of entries not seen"
# Runs of their own are stopped after so many sweeps or steps, so that errors can be measured outside the timed part.
BUDGETS = (1, 2, 3, 5, 8, 12, 20, 35, 60, 100, 200, 500)
DEEP_BUDGETS = (500, 1000, 2000, 6000)


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
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    report = Report("Matrix completion", "python -m benchmarks.races.completion")
    report.say(
        "Gaussian factors, float64. Methods stop on observed entries only; `error` is relative, of entries not seen; "
        "median of the seeds. `ratio`: CPU seconds over those of plain least squares given the true rank."
    )
    _race(report, options.quick)
    _courses(report, options.quick)
    _success(report, options.quick)
    _power_law(report, options.quick)
    growth(report, options.quick)
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
        found["soft-impute, held-out threshold"] = shrunk
        found["nuclear norm, exact"] = exact_norm
        found["narrow network, 2 r"] = lambda given: deep_network(given, 2 * rank)
        found["wide network"] = lambda given: deep_network(given, d)
    return found


def _race(report: Report, quick: bool) -> None:
    rows = []
    for d, rank, share in (SMALL,) if quick else SIZES:
        problems = [_problem(d, rank, share, seed) for seed in range(1 if quick else 3)]
        base = None
        for name, fit in _contenders(problems[0], quick).items():
            errors, seconds = zip(*(_timed(fit, problem) for problem in problems), strict=True)
            base = base or median(seconds)
            rows.append(
                (_label(d, rank, share), name, f"{median(errors):.1e}", median(seconds), median(seconds) / base)
            )
    report.table(["problem", "method", "error", "CPU s", "ratio"], rows)


def _label(d: int, rank: int, share: float) -> str:
    return f"d = {d}, r = {rank}, p = {share}"


def _courses(report: Report, quick: bool) -> None:
    """Error against seconds, every point a run of its own from the start.

    Ours has its end only: stopped early, it would go on to other ranks and to held-out entries.
    """
    d, rank, share = SMALL if quick else SIZES[0]
    problem, label = _problem(d, rank, share, 0), _label(d, rank, share)
    for name, most in (("tightframe, rank unknown", "auto"), ("tightframe, rank at most 4 r", 4 * rank)):
        error, seconds = _timed(_ours(most), problem)
        report.curve(label, name, [seconds], [error], measure=ERROR)
    methods: dict[str, Callable[[int], Fit]] = {
        "least squares, true rank": lambda budget: least_squares(rank, 0.0, budget),
        "least squares, 2 r": lambda budget: least_squares(2 * rank, 0.0, budget),
        "ScaledGD, true rank": lambda budget: scaled_descent(rank, budget),
    }
    courses = [(name, method, BUDGETS[:4] if quick else BUDGETS) for name, method in methods.items()]
    if not quick:
        for name, width in (("narrow network, 2 r", 2 * rank), ("wide network", d)):
            courses.append((name, partial(_deep, width), DEEP_BUDGETS))
    for name, method, budgets in courses:
        errors, seconds = zip(*(_timed(method(budget), problem) for budget in budgets), strict=True)
        report.curve(label, name, seconds, errors, measure=ERROR)


def _deep(width: int, steps: int) -> Fit:
    return lambda given: deep_network(given, width, steps=steps)


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
    for share in shares:
        row: list[object] = [share]
        for fit in methods.values():
            won = sum(_timed(fit, _problem(100, 5, share, 100 + seed))[0] < 1e-3 for seed in seeds)
            row.append(f"{won}/{len(seeds)}")
        rows.append(row)
    report.table(["observed", *methods], rows)


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
        methods["soft-impute, held-out threshold"] = shrunk
        methods["narrow deep network, width 40"] = lambda given: deep_network(given, 40)
    rows = []
    for name, fit in methods.items():
        error, seconds = _timed(fit, problem)
        rows.append((name, f"{error:.3f}", seconds))
    report.table(["method", "error", "CPU s"], rows)


if __name__ == "__main__":
    main()
