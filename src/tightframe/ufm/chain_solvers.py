"""`solve_deep` and `explore_deep`: to the best point of a chain that is found."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution, Trace
from tightframe.core.threads import on_few_threads
from tightframe.optimize.smooth import lbfgs
from tightframe.ufm.chain_solution import described
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures

# L-BFGS begun anew where a kink of ReLU has spoilt its memory: at most this often, while the objective still falls.
_RESTARTS = 20


@on_few_threads
def solve_deep(
    problem: DeepUnconstrainedFeatures,
    *,
    seed: int = 0,
    starts: int = 1,
    start: DeepPoint | None = None,
    tolerance: float = 1e-9,
    max_iterations: int = 5_000,
    collapse: bool = True,
) -> Solution:
    r"""Minimise a chain by L-BFGS from one or several random starts, and say what is known of the best point.

    For given weights the features of all samples of a class minimise one and the same function, so that the minimum
    over one column per class is the minimum over all columns: that is what is searched, in factors of equal decay. For
    a convex loss without activation no critical point is lost either.

    Args:
        problem: The model.
        seed: Seed of the first start; the next one is that of the second.
        starts: Random starts; the best point is kept, and a certified one ends the search.
        start: A start of your own (with `collapse` its class means), in place of random ones.
        tolerance: Gap at which the certificate holds.
        max_iterations: At most this many L-BFGS steps per start.
        collapse: Search over one column per class; False for a column per sample, to see features collapse.

    Returns:
        Solution with W1, ..., WM, H1 (d_1, n), a trace of "objective" along the best start, and the certificate of
        `certify_deep`, if there is one. Its status is "converged" where the certificate holds, or where no minimum is
        known and the gradient is zero up to rounding (the message says which), "stalled" at other critical points.

    Raises:
        InputError: A start that does not fit; a number of starts or steps below one; a tolerance not above zero.

    Example:
        >>> problem = DeepUnconstrainedFeatures(classes=4, widths=(20, 20), per_class=50, decays=(5e-3, 2.5e-3, 1e-5))
        >>> solution = solve_deep(problem, seed=0)
        >>> solution.certificate.holds, solution.W1.shape, solution.H1.shape
        (True, torch.Size([20, 20]), torch.Size([20, 200]))
    """
    check_count(starts, "starts")
    check_count(max_iterations, "max_iterations")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-9.")
    coordinates = _Coordinates(problem, collapse)
    if start is not None:
        begins = [problem.point(start.weights, start.H)]
    else:
        begins = (coordinates.start(seed + i) for i in range(starts))
    best = None
    for begin in begins:
        found = _search(problem, coordinates, begin, tolerance, max_iterations)
        if best is None or found.objective < best.objective:
            best = found
        if best.certificate is not None and best.certificate.holds:
            break
    return best


@on_few_threads
def explore_deep(
    problem: DeepUnconstrainedFeatures,
    start: DeepPoint,
    *,
    rounds: int = 10,
    noise: float = 0.3,
    seed: int = 0,
    max_iterations: int = 600,
) -> Solution:
    """Leave local minima: disturb the best point, descend again, and keep what is lower, round after round.

    Args:
        problem: The model.
        start: Where to begin, with a column per sample or per class.
        rounds: How often to disturb it.
        noise: Standard deviation of the disturbance, relative to the entries of every factor.
        seed: Seed of the disturbances.
        max_iterations: L-BFGS steps per round.

    Returns:
        Solution as of `solve_deep`; its trace has the "objective" of the best point after every round.
    """
    check_count(rounds, "rounds")
    if not 0 < noise < math.inf:
        raise InputError("noise above zero", got=repr(noise), remedy="Use 0.3.")
    draws, trace = generator(seed), Trace()
    best = solve_deep(problem, start=start, max_iterations=max_iterations)
    trace.record(0, {"objective": best.objective})
    for taken in range(1, rounds + 1):
        point = problem.point_of(best)
        begin = disturbed(DeepPoint(point.weights, class_means(problem, point.H)), noise, draws=draws)
        found = solve_deep(problem, start=begin, max_iterations=max_iterations)
        best = found if found.objective < best.objective else best
        trace.record(taken, {"objective": best.objective})
    return replace(best, trace=trace)


class _Coordinates:
    """One vector for a point with a column per class, or per sample, scaled so that all factors have the same decay."""

    def __init__(self, problem: DeepUnconstrainedFeatures, collapse: bool) -> None:
        self.problem = problem
        self.multiplicity = problem.columns(torch.empty(0, problem.classes if collapse else problem.samples))[0]
        mean = math.exp(sum(map(math.log, problem.decays)) / problem.factors)
        self.scales = [math.sqrt(mean / decay) for decay in problem.decays[:-1]]
        self.scales.append((mean / problem.decays[-1] / self.multiplicity).sqrt())
        self.shapes = [*problem.shapes[:-1], (problem.widths[-1], len(self.multiplicity))]

    def start(self, seed: int) -> DeepPoint:
        """Normal entries such that all factors have the same norm here, and logits are of the order of one."""
        rank, factors = min(self.problem.classes, *self.problem.widths), self.problem.factors
        # Balanced factors of unit logits have K singular values n^(1/2L) here. ReLU halves the variance that passes.
        level = (self.problem.samples / self.problem.classes) ** (1 / (2 * factors))
        level *= 1.0 if self.problem.linear else 2 ** ((self.problem.layers - 1) / (2 * factors))
        draws = generator(seed)
        parts = (torch.randn(shape, dtype=torch.float64, generator=draws) for shape in self.shapes)
        return self.point(torch.cat([(part * level * math.sqrt(rank / part.numel())).flatten() for part in parts]))

    def vector(self, point: DeepPoint) -> Tensor:
        """Coordinates of a point: at the class means of its features where there is a column per class."""
        H = point.H
        if H.shape[1] != len(self.multiplicity):
            collapse = len(self.multiplicity) == self.problem.classes
            H = class_means(self.problem, H) if collapse else H[:, self.problem.labels]
        factors = (*point.weights, H)
        return torch.cat([(factor / scale).flatten() for factor, scale in zip(factors, self.scales, strict=True)])

    def point(self, vector: Tensor) -> DeepPoint:
        """The point at a vector."""
        parts = torch.split(vector, [math.prod(shape) for shape in self.shapes])
        *weights, H = (part.view(s) * r for part, s, r in zip(parts, self.shapes, self.scales, strict=True))
        return DeepPoint(tuple(weights), H)

    def value(self, vector: Tensor) -> tuple[float, Tensor]:
        """Objective and gradient."""
        value, gradient = self.problem.gradient(self.point(vector))
        slopes = [(part * scale).flatten() for part, scale in zip(gradient.factors, self.scales, strict=True)]
        return float(value), torch.cat(slopes)


def class_means(problem: DeepUnconstrainedFeatures, H: Tensor) -> Tensor:
    """Means of the columns of every class (d, k); columns that are one per class stay as they are."""
    if H.shape[1] == problem.classes:
        return H
    counts = torch.tensor(problem.counts, dtype=torch.float64)
    return H.new_zeros(len(H), problem.classes).index_add_(1, problem.labels, H) / counts


def disturbed(point: DeepPoint, noise: float, *, draws: torch.Generator) -> DeepPoint:
    """The point with normal noise added, its standard deviation relative to the entries of every factor."""
    *weights, H = (
        factor + noise * factor.square().mean().sqrt() * torch.randn(factor.shape, dtype=torch.float64, generator=draws)
        for factor in point.factors
    )
    return DeepPoint(tuple(weights), H)


def _search(
    problem: DeepUnconstrainedFeatures,
    coordinates: _Coordinates,
    begin: DeepPoint,
    tolerance: float,
    budget: int,
) -> Solution:
    """L-BFGS from one start, begun anew while that helps."""
    vector, trace, taken, values = coordinates.vector(begin), Trace(), 0, [math.inf]
    values.append(coordinates.value(vector)[0])
    trace.record(0, {"objective": values[-1]})

    def look(step: int, at: Tensor) -> bool:
        if step % 25 == 0:
            trace.record(taken + step, {"objective": coordinates.value(at)[0]})
        return False

    for _ in range(_RESTARTS):
        vector, more = lbfgs(coordinates.value, vector, max_iterations=max(1, budget - taken), stop=look)
        taken += more
        values.append(coordinates.value(vector)[0])
        if taken >= budget or not values[-1] < values[-2] * (1 - 1e-12):
            break
    trace.record(taken, {"objective": values[-1]})
    point = coordinates.point(vector)
    if point.H.shape[1] != problem.samples:
        point = DeepPoint(point.weights, point.H[:, problem.labels])
    return described(problem, point, trace, tolerance, f"{taken} steps; raise max_iterations", spent=taken >= budget)
