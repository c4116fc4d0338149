"""`descend_normalized`: gradient descent on the product of spheres, and what it passes through."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.threads import on_few_threads
from tightframe.optimize.first_order import observed_steps
from tightframe.ufm.dynamics import collapse_metrics
from tightframe.ufm.model import Point
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm
from tightframe.ufm.normalized_landscape import certify_normalized

Observer = Callable[[int, Point], Mapping[str, float]]


@on_few_threads
def descend_normalized(
    problem: NormalizedFeatures,
    *,
    step: float = 1.0,
    steps: int = 1000,
    seed: int = 0,
    start: Point | None = None,
    every: int | None = None,
    observe: Observer | None = None,
    tolerance: float = 1e-9,
) -> Solution:
    r"""Gradient descent on the spheres: a step along the tangent, then every row and column divided by its norm.

    .. math:: w_k \leftarrow \frac{w_k - \eta \operatorname{grad}_{w_k} f}{\|w_k - \eta \operatorname{grad}_{w_k} f\|},
        \qquad h_i \leftarrow \frac{h_i - \eta \operatorname{grad}_{h_i} f}{\|h_i - \eta \operatorname{grad}_{h_i} f\|}

    where
        eta is `step`. `solve_normalized` reaches the minimum in far fewer steps: this is for what happens on the way,
        beside `descend` for the model with weight decay.

    Args:
        problem: The model.
        step: Learning rate, above zero.
        steps: How many; all of them are taken.
        seed: Seed of the start, uniform on the spheres.
        start: A start of your own, with unit rows of W and unit columns of H.
        every: Steps between two looks; None for looks spread evenly over the decades, 25 in each.
        observe: Called with the step and the point at every look; what it returns is traced too.
        tolerance: Gap up to which the certificate holds.

    Returns:
        Solution with W (k, d), H (d, n), a trace of "objective", of the metrics of `collapse_metrics` and of what
        `observe` adds, and the certificate of the last point. Its status is "converged" where that holds, else "budget
        spent": on spheres nothing diverges, and a step that is too long shows as an objective above that of the start.

    Raises:
        InputError: A step or number of steps that is not above zero, a start that does not fit, or with NaN.

    Example:
        >>> problem = NormalizedFeatures(classes=3, features=4, per_class=5, temperature=2.0)
        >>> solution = descend_normalized(problem, step=2.0, steps=400)
        >>> solution.status.converged, solution.trace["NC1"][-1] < 1e-6
        (True, True)

    Reference: [yaras2022neural], section 3; [boumal2023introduction].
    """
    if not 0 < step < math.inf:
        raise InputError("a step above zero", got=repr(step), remedy="Use 1.0.")
    check_count(steps, "steps")
    start = problem.start(seed=seed) if start is None else problem.point(start.W, start.H)
    form, trace, labels = SphereForm(problem, start.W, start.H), Trace(), problem.labels
    times = {0, *observed_steps(steps, every)}
    for taken in range(steps + 1):
        if taken in times:
            seen = observe(taken, form.point) if observe is not None else {}
            trace.record(taken, {"objective": float(form.value), **collapse_metrics(form.point, labels), **seen})
        if taken < steps:
            in_W, in_H = form.gradient
            form = form.moved(-step * in_W, -step * in_H)
    certificate = certify_normalized(form, tolerance=tolerance)
    gap = f"the gap is {certificate.gap:.2e} after {steps} steps"
    if certificate.holds:
        status = Status("converged", f"{gap}: globally optimal, certified")
    else:
        risen = float(form.value) > trace["objective"][0]
        cure = "the objective is above that of the start: make step smaller" if risen else "raise steps, or step"
        status = Status("budget spent", f"{gap}, asked was {tolerance:.1e}; {cure}")
    return Solution(status, float(form.value), {"W": form.W, "H": form.H}, trace, certificate)
