"""Unconstrained-features models solved by published recipes and by ours: one objective, one certificate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from benchmarks.measuring import Report, arguments
from scipy.optimize import minimize
from torch import Tensor

from tightframe.core.errors import MissingDependencyError
from tightframe.core.rng import generator
from tightframe.ufm import (
    NormalizedFeatures,
    Point,
    UnconstrainedFeatures,
    certify,
    solve,
    solve_convex,
    solve_normalized,
)

GAPS = (1e-6, 1e-8)
# How long a contender may run, in seconds.
PATIENCE = 120.0


@dataclass(frozen=True)
class Run:
    """What a contender reached."""

    value: float
    gap: float
    seconds: float
    reached: tuple[float | None, ...]
    spent: tuple[float, ...]
    gaps: tuple[float, ...]


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    report = Report("Unconstrained features, beside published recipes", "python -m benchmarks.races.ufm_solvers")
    report.say(
        "Published experiments are scripts, so each recipe is restated here, with its model, step and start: gradient "
        "descent with step 0.1 [tirer2022extended]; SGD with momentum 0.9 and step 0.1 on all samples at once (the "
        "synthetic experiment of Fsoft-AIC/Neural-Collapse-in-Deep-Linear-Networks, commit 1869cb1); L-BFGS of SciPy "
        "on all columns with automatic differentiation; the nuclear-norm program in CVXPY with its default solver "
        "(WanliHongC/Neural-Collapse, commit 3f9c65b); trust regions of pymanopt with automatic differentiation. All "
        "in float64 from the same start of standard deviation 0.1. After every stretch of steps the clock stops and "
        f"`certify` gives the gap; a recipe that takes longer than {PATIENCE:g} s is stopped."
    )
    quick = options.quick
    solve(UnconstrainedFeatures(classes=2, features=2))  # what is imported on first use is not timed
    solve_normalized(NormalizedFeatures(classes=2, features=2, per_class=1, temperature=1.0))
    _factored(report, quick)
    _convex(report, quick)
    _normalized(report, quick)
    report.finish("ufm_races", options)


def _factored(report: Report, quick: bool) -> None:
    sizes = (("mse", 4, 20, 50, (5e-3, 5e-5)), ("mse", 4, 64, 100, (5e-4, 5e-4)), ("ce", 10, 16, 50, (5e-4, 5e-4)))
    if not quick:
        sizes = (*sizes, ("ce", 100, 128, 100, (5e-4, 5e-4)))
    rows = []
    for loss, classes, features, per_class, decay in sizes:
        problem = UnconstrainedFeatures(
            classes=classes, features=features, per_class=per_class, loss=loss, weight_decay=decay
        )
        start = problem.start(seed=0, scale=0.1)
        name = f"{problem.loss.name}, K = {classes}, d = {features}, n = {per_class}"
        contenders = {
            "tightframe": _ours(problem, start),
            "L-BFGS, all columns, autograd": _scipy(problem, start),
            "SGD, momentum 0.9": _torch(problem, start, momentum=0.9),
            "gradient descent": _torch(problem, start, momentum=0.0),
        }
        patience = 2.0 if quick else PATIENCE
        for label, stretches in contenders.items():
            run = _race(problem, stretches, patience)
            report.curve(name, label, run.spent, run.gaps, measure="certified gap")
            rows.append((name, label, *_cells(run)))
    report.table(["problem", "solver", "value", "gap", "seconds", *(f"s to gap {gap:g}" for gap in GAPS)], rows)


def _cells(run: Run) -> tuple[object, ...]:
    reached = ["not reached" if seconds is None else seconds for seconds in run.reached]
    return (f"{run.value:.12f}", run.gap, run.seconds, *reached)


def _race(problem: UnconstrainedFeatures, stretches: Iterator[Point], patience: float) -> Run:
    """Time of the stretches alone, and when each gap was reached."""
    spent, reached = 0.0, [None] * len(GAPS)
    times, gaps = [], []
    while True:
        begun = time.perf_counter()
        point = next(stretches, None)
        spent += time.perf_counter() - begun
        if point is None:
            break
        found = certify(problem, point.W, point.H, point.b)
        value, gap = found.evidence["value"], found.gap
        times.append(spent)
        gaps.append(gap)
        reached = [before or (spent if gap <= bar else None) for before, bar in zip(reached, GAPS, strict=True)]
        if spent > patience or gap <= GAPS[-1]:
            break
    return Run(value, gap, spent, tuple(reached), tuple(times), tuple(gaps))


def _ours(problem: UnconstrainedFeatures, start: Point) -> Iterator[Point]:
    for tolerance in GAPS:  # from the same start each time: the times add up, which is to our cost
        found = solve(problem, start=start, tolerance=tolerance)
        yield Point(found.W, found.H, found.b)


def _torch(problem: UnconstrainedFeatures, start: Point, *, momentum: float) -> Iterator[Point]:
    W, H = start.W.clone().requires_grad_(), start.H.clone().requires_grad_()
    optimizer = torch.optim.SGD([W, H], lr=0.1, momentum=momentum)
    objective = _objective(problem)
    while True:
        for _ in range(500):
            optimizer.zero_grad()
            objective(W, H).backward()
            optimizer.step()
        yield Point(W.detach(), H.detach(), start.b)


def _scipy(problem: UnconstrainedFeatures, start: Point) -> Iterator[Point]:
    objective, split = _objective(problem), start.W.numel()

    def numbers(vector):
        flat = torch.from_numpy(vector).requires_grad_()
        value = objective(flat[:split].view_as(start.W), flat[split:].view_as(start.H))
        value.backward()
        return float(value.detach()), flat.grad.numpy()

    vector = torch.cat([start.W.flatten(), start.H.flatten()]).numpy()
    steps = 250
    while True:
        found = minimize(
            numbers, vector, jac=True, method="L-BFGS-B", options={"maxiter": steps, "ftol": 0, "gtol": 1e-12}
        )
        flat = torch.from_numpy(found.x)
        yield Point(flat[:split].view_as(start.W), flat[split:].view_as(start.H), start.b)
        if found.nit < steps:
            return
        vector = found.x


def _objective(problem: UnconstrainedFeatures) -> Callable[[Tensor, Tensor], Tensor]:
    labels, (decay_w, decay_h) = problem.labels, problem.weight_decay
    targets = torch.nn.functional.one_hot(labels, problem.classes).double().T

    def objective(W: Tensor, H: Tensor) -> Tensor:
        logits = W @ H
        if problem.loss.name == "cross-entropy":
            data = torch.nn.functional.cross_entropy(logits.T, labels)
        else:
            data = (logits - targets).square().sum() / (2 * problem.samples)
        return data + decay_w / 2 * W.square().sum() + decay_h / 2 * H.square().sum()

    return objective


def _convex(report: Report, quick: bool) -> None:
    report.say(
        "Cross-entropy with unequal classes and a regularised bias: the convex program. CVXPY's solver stops at its "
        "own default tolerances; its value is that of the objective at the point it returns."
    )
    rows = []
    for classes, counts in ((4, [20, 20, 5, 5]),) if quick else ((4, [200, 200, 20, 20]), (10, [500] * 5 + [50] * 5)):
        problem = UnconstrainedFeatures(
            classes=classes, features=classes, per_class=counts, weight_decay=(1e-3, 1e-3), bias=1e-2
        )
        begun = time.perf_counter()
        ours = solve_convex(problem, tolerance=1e-10)
        rows.append(
            (
                f"K = {classes}, n = {counts[0]} and {counts[-1]}",
                "tightframe, solve_convex",
                ours.objective,
                ours.certificate.gap,
                time.perf_counter() - begun,
            )
        )
        begun = time.perf_counter()
        factored = solve(problem, tolerance=1e-10)
        rows.append(
            (
                rows[-1][0],
                "tightframe, solve",
                factored.objective,
                factored.certificate.gap,
                time.perf_counter() - begun,
            )
        )
        begun = time.perf_counter()
        try:
            value = _cvxpy(problem)
        except MissingDependencyError:
            rows.append((rows[-1][0], "CVXPY", "not installed", "", ""))
            continue
        bound = ours.objective - ours.certificate.gap
        rows.append((rows[-1][0], "CVXPY", value, value - bound, time.perf_counter() - begun))
    for name, label, value, *ended in rows:
        if isinstance(value, float):
            gap, seconds = ended
            report.curve(f"convex program, {name}", label, [seconds], [gap], measure="certified gap")
    report.table(
        ["problem", "solver", "value", "gap", "seconds"],
        [
            (name, label, f"{value:.12f}" if isinstance(value, float) else value, *rest)
            for name, label, value, *rest in rows
        ],
    )


def _cvxpy(problem: UnconstrainedFeatures) -> float:
    try:
        import cvxpy
    except ImportError as error:
        raise MissingDependencyError("cvxpy for this race", got="none", remedy="pip install cvxpy") from error
    import numpy

    counts = numpy.array(problem.counts, dtype=float)
    logits, bias = cvxpy.Variable((problem.classes,) * 2), cvxpy.Variable((problem.classes, 1))
    moved = logits + bias @ numpy.ones((1, problem.classes))
    data = (cvxpy.log_sum_exp(moved, axis=0) - cvxpy.diag(moved)) @ counts / counts.sum()
    nuclear = cvxpy.norm(logits @ numpy.diag(numpy.sqrt(counts)), "nuc")
    penalty = problem.nuclear_decay * nuclear + problem.bias_decay / 2 * cvxpy.sum_squares(bias)
    cvxpy.Problem(cvxpy.Minimize(data + penalty)).solve()
    return float((data + penalty).value)


def _normalized(report: Report, quick: bool) -> None:
    report.say("Features and classifiers on spheres, trust regions from a random start; value above the closed form.")
    rows = []
    for classes, features, per_class in ((4, 8, 2),) if quick else ((4, 8, 10), (10, 16, 20), (30, 40, 20)):
        problem = NormalizedFeatures(classes=classes, features=features, per_class=per_class, temperature=5.0)
        lowest = math.log1p((classes - 1) * math.exp(-5.0 * classes / (classes - 1)))
        name = f"K = {classes}, d = {features}, n = {per_class}, temperature 5"
        begun = time.perf_counter()
        ours = solve_normalized(problem, seed=0)
        rows.append((name, "tightframe", ours.objective - lowest, time.perf_counter() - begun))
        begun = time.perf_counter()
        rows.append((name, "pymanopt, autodiff", _pymanopt(problem) - lowest, time.perf_counter() - begun))
    report.table(["problem", "solver", "above the optimum", "seconds"], rows)


def _pymanopt(problem: NormalizedFeatures) -> float:
    import pymanopt
    from pymanopt.manifolds import Oblique, Product
    from pymanopt.optimizers import TrustRegions

    manifold = Product([Oblique(problem.features, problem.classes), Oblique(problem.features, problem.samples)])
    labels = problem.labels

    @pymanopt.function.pytorch(manifold)
    def cost(W, H):
        return torch.nn.functional.cross_entropy(problem.temperature * (W.T @ H).T, labels)

    draws = generator(0)
    start = [
        torch.nn.functional.normalize(torch.randn(shape, dtype=torch.float64, generator=draws), dim=0).numpy()
        for shape in ((problem.features, problem.classes), (problem.features, problem.samples))
    ]
    optimizer = TrustRegions(verbosity=0, max_time=PATIENCE)
    return float(optimizer.run(pymanopt.Problem(manifold, cost), initial_point=start).cost)


if __name__ == "__main__":
    main()
