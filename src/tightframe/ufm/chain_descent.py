"""`descend_deep`: gradient descent on a chain, and what it passes through."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.threads import on_few_threads
from tightframe.optimize.first_order import observed_steps
from tightframe.ufm.chain_certificate import certify_deep
from tightframe.ufm.chain_solution import described, named
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures

Observer = Callable[[int, DeepPoint], Mapping[str, float]]

# An objective above this is on its way out of the numbers.
_LARGEST = 1e100


@on_few_threads
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
        Solution with W1, ..., WM, H1, and a trace of "objective" and what `observe` adds. Its status is "converged"
        where the certificate holds, "diverged" where values left the numbers (the point is the last sound one), else
        "budget spent".

    Raises:
        InputError: A start that does not fit, a step not above zero, fewer than one step.

    Reference: [tirer2022extended], section 6.
    """
    if not 0 < step < math.inf:
        raise InputError("a step above zero", got=repr(step), remedy="Use 0.1.")
    check_count(steps, "steps")
    point = problem.start(seed=seed, scale=0.1) if start is None else problem.point(start.weights, start.H)
    factors, trace, sound = [factor.clone() for factor in point.factors], Trace(), None
    times = {0, *observed_steps(steps, every)}
    for taken in range(steps + 1):
        point = DeepPoint(tuple(factors[:-1]), factors[-1])
        levels = problem.levels(point)
        if taken in times:
            value = float(problem.value(point, levels))
            if not value < _LARGEST:
                break
            sound = DeepPoint(tuple(W.clone() for W in point.weights), point.H.clone())
            seen = observe(taken, sound) if observe is not None else {}
            trace.record(taken, {"objective": value, **seen})
        for factor, slope in zip(factors, problem.slope(point, levels).factors, strict=True):
            factor.sub_(slope, alpha=step)
    else:
        return described(problem, sound, trace, tolerance, f"{steps} steps; raise steps, or step")
    if sound is None:
        raise InputError("a start with a finite objective", got="one beyond 1e100", remedy="Start nearer to zero.")
    where = f"the values overflow after step {trace['step'][-1]}, the last one seen, whose point this is"
    status = Status("diverged", f"{where}; make step smaller")
    return Solution(status, trace["objective"][-1], named(problem, sound), trace, certify_deep(problem, sound))
