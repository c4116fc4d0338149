"""`solve_deep` and `descend_deep`: to the best point found of a chain, and along gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.optimize.smooth import lbfgs
from tightframe.ufm.chains import certify_deep
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures

Observer = Callable[[int, DeepPoint], Mapping[str, float]]

# A gradient this far below the decay times the point counts as zero.
_CRITICAL = 1e-7
# L-BFGS begun anew where a kink of ReLU has spoilt its memory: at most this often, while the objective still falls.
_RESTARTS = 20
_PER_DECADE = 25
_LARGEST = 1e100


def solve_deep(
    problem: DeepUnconstrainedFeatures,
    *,
    seed: int = 0,
    starts: int = 1,
    start: DeepPoint | None = None,
    tolerance: float = 1e-9,
    max_iterations: int = 5_000,
) -> Solution:
    r"""Minimise a chain by L-BFGS from one or several random starts, and say what is known of the best point.

    For given weights the features of all samples of a class minimise one and the same function, so that a minimum of the
    objective over one column per class is its minimum over all columns: that is what is searched, in factors of equal
    decay. For a convex loss without activation no critical point is lost either.

    Args:
        problem: The model.
        seed: Seed of the first start; the next one is that of the second.
        starts: Random starts; the best point is kept, and a certified one ends the search.
        start: A start of your own (its class means), in place of random ones.
        tolerance: Gap at which the certificate holds.
        max_iterations: At most this many L-BFGS steps per start.

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
    coordinates = _Coordinates(problem)
    if start is not None:
        begins = [problem.point(start.weights, start.H)]
    else:
        begins = (_moderate_start(problem, seed + i) for i in range(starts))
    best = None
    for begin in begins:
        found = _search(problem, coordinates, begin, tolerance, max_iterations)
        if best is None or found.objective < best.objective:
            best = found
        if best.certificate is not None and best.certificate.holds:
            break
    return best


def descend_deep(
    problem: DeepUnconstrainedFeatures,
    *,
    step: float = 0.1,
    steps: int = 10_000,
    seed: int = 0,
    start: DeepPoint | None = None,
    every: int | None = None,
    observe: Observer | None = None,
    tolerance: float = 1e-9,
) -> Solution:
    r"""Plain gradient descent on weights and on the features of every sample, as a network is trained.

    .. math:: W_m \leftarrow W_m - \eta \nabla_{W_m} f, \qquad H_1 \leftarrow H_1 - \eta \nabla_{H_1} f

    Args:
        problem: The model.
        step: eta, above zero.
        steps: How many.
        seed: Seed of the start, normal entries of standard deviation 0.1.
        start: A start of your own.
        every: Steps between two looks; None for looks equally spaced in the logarithm.
        observe: Called with the step and the point at every look; what it returns is added to the trace.
        tolerance: Gap at which the certificate holds.

    Returns:
        Solution with W1, ..., WM, H1, and a trace of "objective" and what `observe` adds. Its status is "converged" where
        the certificate holds, "diverged" where values left the numbers (the point is the last sound one), else "budget
        spent".

    Raises:
        InputError: A start that does not fit, a step not above zero, fewer than one step.

    Reference: [tirer2022extended], section 6.
    """
    if not 0 < step < math.inf:
        raise InputError("a step above zero", got=repr(step), remedy="Use 0.1.")
    check_count(steps, "steps")
    point = problem.start(seed=seed, scale=0.1) if start is None else problem.point(start.weights, start.H)
    factors, trace, sound = [factor.clone() for factor in point.factors], Trace(), None
    times = {0, *_times(steps, every)}
    for taken in range(steps + 1):
        value, gradient = problem.gradient(point := DeepPoint(tuple(factors[:-1]), factors[-1]))
        if taken in times:
            if not float(value) < _LARGEST:
                break
            sound = DeepPoint(tuple(W.clone() for W in point.weights), point.H.clone())
            seen = observe(taken, sound) if observe is not None else {}
            trace.record(taken, {"objective": float(value), **seen})
        for factor, slope in zip(factors, gradient.factors, strict=True):
            factor.sub_(slope, alpha=step)
    else:
        return _described(problem, sound, trace, tolerance, f"{steps} steps; raise steps, or step")
    if sound is None:
        raise InputError("a start with a finite objective", got="one beyond 1e100", remedy="Start nearer to zero.")
    where = f"the values overflow after step {trace['step'][-1]}, the last one seen, whose point this is"
    status = Status("diverged", f"{where}; make step smaller")
    return Solution(status, trace["objective"][-1], _named(problem, sound), trace, certify_deep(problem, sound))


class _Coordinates:
    """One vector for a point with a column per class, scaled so that all factors have the same decay."""

    def __init__(self, problem: DeepUnconstrainedFeatures) -> None:
        self.problem = problem
        counts = torch.tensor(problem.counts, dtype=torch.float64)
        mean = math.exp(sum(map(math.log, problem.decays)) / problem.factors)
        self.scales = [math.sqrt(mean / decay) for decay in problem.decays[:-1]]
        self.scales.append((mean / problem.decays[-1] / counts).sqrt())
        self.shapes = [*problem.shapes[:-1], (problem.widths[-1], problem.classes)]

    def vector(self, point: DeepPoint) -> Tensor:
        """Coordinates of a point, at the class means of its features."""
        counts = torch.tensor(self.problem.counts, dtype=torch.float64)
        H = point.H
        if H.shape[1] != self.problem.classes or self.problem.samples == self.problem.classes:
            H = H.new_zeros(len(H), len(counts)).index_add_(1, self.problem.labels, H) / counts
        return torch.cat(
            [(factor / scale).flatten() for factor, scale in zip((*point.weights, H), self.scales, strict=True)]
        )

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


def _moderate_start(problem: DeepUnconstrainedFeatures, seed: int) -> DeepPoint:
    """Normal entries such that all factors have equal shares of the decay term and logits are of the order of one."""
    sizes = [math.prod(shape) for shape in (*problem.shapes[:-1], (problem.widths[-1], problem.classes))]
    rank = min(problem.classes, *problem.widths)
    decays = [*problem.decays[:-1], problem.decays[-1] * problem.samples / problem.classes]
    q = math.prod(decays) ** (1 / problem.factors)
    # ReLU halves the variance of what passes.
    gain = 1.0 if problem.linear else 2 ** ((problem.layers - 1) / (2 * problem.factors))
    return problem.start(
        seed=seed, scale=[gain * math.sqrt(q * rank / decay / size) for decay, size in zip(decays, sizes, strict=True)]
    )


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
    means = coordinates.point(vector)
    point = DeepPoint(means.weights, means.H[:, problem.labels])
    return _described(problem, point, trace, tolerance, f"{taken} steps; raise max_iterations", spent=taken >= budget)


def _described(
    problem: DeepUnconstrainedFeatures,
    point: DeepPoint,
    trace: Trace,
    tolerance: float,
    budget: str,
    *,
    spent: bool = True,
) -> Solution:
    """The solution at a point, with an honest status."""
    certificate = certify_deep(problem, point, tolerance=tolerance)
    status = _status(problem, point, certificate, budget, spent)
    return Solution(status, problem.objective(point), _named(problem, point), trace, certificate)


def _status(
    problem: DeepUnconstrainedFeatures, point: DeepPoint, certificate: Certificate | None, budget: str, spent: bool
) -> Status:
    exact = certificate is not None and certificate.kind == "closed form"
    gap = f"the gap is {certificate.gap:.2e}" if exact else "no minimum is known for this chain"
    if exact and certificate.holds:
        return Status("converged", f"{gap}: globally optimal, by the closed form")
    slope = _relative_gradient(problem, point)
    if slope > _CRITICAL:
        if spent:
            return Status("budget spent", f"{gap}, and the relative gradient {slope:.1e}, after {budget}")
        return Status("stalled", f"{gap}, and no step falls at a relative gradient of {slope:.1e}; try other seeds")
    if exact:
        return Status("stalled", f"critical, but {gap}: a saddle or a local minimum; try other seeds, or raise starts")
    return Status("converged", f"a critical point, relative gradient {slope:.1e}; {gap}: raise starts to look for better")


def _relative_gradient(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> float:
    """The gradient over the gradient of the decay term, in factors of equal decay."""
    gradient = problem.gradient(point)[1]
    over, under = 0.0, 0.0
    for decay, slope, factor in zip(problem.decays, gradient.factors, point.factors, strict=True):
        over += float(slope.square().sum()) / decay
        under += decay * float(factor.square().sum())
    return math.sqrt(over / under) if under else 0.0


def _named(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> dict[str, Tensor]:
    weights = {f"W{problem.layers - i}": W for i, W in enumerate(point.weights)}
    return dict(reversed(weights.items())) | {"H1": point.H}


def _times(steps: int, every: int | None) -> list[int]:
    """Steps at which to look, the last one always."""
    if every is not None:
        check_count(every, "every")
        return sorted({*range(every, steps, every), steps})
    count = math.ceil(math.log10(steps) * _PER_DECADE)
    return sorted({round(steps ** (i / count)) for i in range(count)} | {steps}) if count else [steps]
