"""Proximal operators, and the accelerated proximal gradient method with a duality gap as its stopping rule."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Outcome, Solution, Status, Trace
from tightframe.core.typing import Float

Point = Float[Tensor, "..."]
Smooth = Callable[[Point], tuple[float, Point]]
Prox = Callable[[Point, float], tuple[Point, float]]

# A step grows by this factor where the curvature allows it.
_GROWTH = 1.2
# Below this share of the value the rounding of its differences hides the curvature, and gradients tell it.
_ROUNDING = 1e-9
# Steps without a smaller gap or subgradient after which the method has stalled (and at least half of those taken).
_PATIENCE = 1000


def soft_threshold(values: Point, amount: float) -> tuple[Point, float]:
    r"""Proximal operator of the l1 norm, and the norm of the result.

    .. math:: \arg\min_x\; \tfrac12 \|x - v\|_2^2 + \tau \|x\|_1 = \mathrm{sign}(v)\,\max(|v| - \tau, 0)

    Args:
        values: v, of any shape.
        amount: tau, at least 0.

    Returns:
        The minimiser and its l1 norm.

    Raises:
        InputError: An amount below zero.

    Example:
        >>> soft_threshold(torch.tensor([3.0, -0.5, -2.0]), 1.0)
        (tensor([ 2., -0., -1.]), 3.0)

    Reference: [parikh2014proximal], section 6.5.2.
    """
    _check_amount(amount)
    moved = torch.sign(values) * (values.abs() - amount).clamp(min=0)
    return moved, float(moved.abs().sum())


def singular_value_threshold(matrix: Float[Tensor, "m n"], amount: float) -> tuple[Float[Tensor, "m n"], float]:
    r"""Proximal operator of the nuclear norm, and the norm of the result.

    .. math:: \arg\min_X\; \tfrac12 \|X - V\|_F^2 + \tau \|X\|_* = U\,\max(\Sigma - \tau, 0)\,V^\top,
        \qquad V = U \Sigma V^\top

    Args:
        matrix: V (m, n).
        amount: tau, at least 0.

    Returns:
        The minimiser and its nuclear norm.

    Raises:
        InputError: An amount below zero.

    Example:
        >>> moved, norm = singular_value_threshold(torch.diag(torch.tensor([3.0, 1.0])), 2.0)
        >>> bool(torch.allclose(moved, torch.diag(torch.tensor([1.0, 0.0])))), round(norm, 6)
        (True, 1.0)

    Reference: [cai2010singular], theorem 2.1.
    """
    _check_amount(amount)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = (values - amount).clamp(min=0)
    rank = int((values > 0).sum())
    return (left[:, :rank] * values[:rank]) @ right[:rank], float(values.sum())


def accelerated_proximal_gradient(
    smooth: Smooth,
    prox: Prox,
    start: Point,
    *,
    gap: Callable[[Point], float],
    step: float,
    tolerance: float = 1e-9,
    subgradient_tolerance: float = math.inf,
    max_iterations: int = 10_000,
    every: int = 10,
) -> Solution:
    r"""Minimise g(x) + p(x), g smooth and convex, p convex with a proximal operator: FISTA with adaptive restart.

    .. math:: x_{t+1} = \mathrm{prox}_{s p}\big(y_t - s \nabla g(y_t)\big), \qquad
        y_{t+1} = x_{t+1} + \beta_t\,(x_{t+1} - x_t)

    The step s grows as long as the curvature that is met allows it and is halved where g rises above its quadratic
    model. The momentum beta starts again where it points uphill. Without a smooth part that is convex the gap means
    nothing and the method may not converge.

    Args:
        smooth: Value and gradient of g.
        prox: From (v, s) to prox_{s p}(v) and p there.
        start: Where to begin, of any shape.
        gap: Upper bound on g(x) + p(x) - min (g + p), computed from x.
        step: s to begin with; 1 / L where grad g is known to be L-Lipschitz.
        tolerance: Gap at which to stop.
        subgradient_tolerance: Go on until also the norm of a subgradient of g + p is at most this. The objective has
            converged long before the point has: use this where digits of the point itself are wanted.
        max_iterations: At most this many steps.
        every: The gap is computed at every so many steps.

    Returns:
        Solution with the variable "x", the trace of "objective", "gap", "subgradient norm" and "step length", and a
        certificate of kind "dual gap".

    Raises:
        InputError: A tolerance or a step that is not above zero, no steps allowed, a start whose value is no number.

    Example:
        >>> smooth = lambda x: (0.5 * float((x - 3).square().sum()), x - 3)
        >>> found = accelerated_proximal_gradient(
        ...     smooth, soft_threshold, torch.zeros(1), step=0.5, gap=lambda x: 0.5 * float((x - 2).square().sum()))
        >>> found.status.converged, round(float(found.x), 3)
        (True, 2.0)

    Reference: [beck2009fast], section 4; [odonoghue2015adaptive], section 3.2, for the restart.
    """
    check_count(max_iterations, "max_iterations")
    check_count(every, "every")
    for name, number in (("tolerance", tolerance), ("subgradient_tolerance", subgradient_tolerance), ("step", step)):
        if not number > 0:
            raise InputError(f"{name} above zero", got=repr(number), remedy="Use 1e-9, or 1 / L for the step.")
    run = _Run(smooth, prox, gap, start, step, (tolerance, subgradient_tolerance))
    outcome: Outcome = "budget spent"
    for number in range(1, max_iterations + 1):
        run.advance()
        if number % every == 0 or number == max_iterations or not run.finite:
            ended = run.look(number)
            if ended is not None:
                outcome = ended
                break
    return run.solution(outcome, number)


class _Run:
    """The state of one call."""

    def __init__(
        self, smooth: Smooth, prox: Prox, gap: Callable, start: Point, step: float, tolerances: tuple[float, float]
    ) -> None:
        self.smooth, self.prox, self.gap, self.step = smooth, prox, gap, step
        self.tolerance, self.subgradient_tolerance = tolerances
        self.point, self.ahead, self.used = start, start, step
        self.at_ahead = smooth(start)
        if not math.isfinite(self.at_ahead[0]):
            raise InputError("a start with a finite value", got=repr(self.at_ahead[0]), remedy="Start elsewhere.")
        self.value, self.age, self.subgradient, self.finite = self.at_ahead[0], 1.0, math.inf, True
        self.trace = Trace()
        self.best, self.least, self.shortest, self.last_progress = (start, math.inf, math.inf), math.inf, math.inf, 0

    def advance(self) -> None:
        """One step, with momentum for the next."""
        value, slope = self.at_ahead
        moved, penalty, at_moved, step = self._proximal_step(value, slope)
        self.value = at_moved[0] + penalty
        self.subgradient = float(torch.linalg.vector_norm((self.ahead - moved) / step + at_moved[1] - slope))
        uphill = float(((self.ahead - moved) * (moved - self.point)).sum()) > 0
        # The weights of a constant step: those of a growing one would cap the momentum, as most growth is taken back by
        # the next halving. The restart guards what that leaves unproven.
        age = 1.0 if uphill else 0.5 * (1 + (1 + 4 * self.age**2) ** 0.5)
        if uphill:
            self.ahead, self.at_ahead = moved, at_moved
        else:
            self.ahead = moved + (self.age - 1) / age * (moved - self.point)
            self.at_ahead = self.smooth(self.ahead)
        self.point, self.age, self.step, self.used = moved, age, step * _GROWTH, step
        self.finite = math.isfinite(self.value) and math.isfinite(self.at_ahead[0])

    def look(self, number: int) -> Outcome | None:
        """Record, keep the best point, and say how the run ends if it does."""
        gap = self.gap(self.point) if self.finite else math.nan
        row = {"objective": self.value, "gap": gap, "subgradient norm": self.subgradient, "step length": self.used}
        self.trace.record(number, row)
        if not math.isfinite(gap):
            return "diverged"
        if gap < 0.99 * self.least or self.subgradient < 0.99 * self.shortest:
            self.last_progress = number
        if gap <= max(self.best[1], self.tolerance):
            self.best = (self.point, gap, self.subgradient)
        self.least, self.shortest = min(gap, self.least), min(self.subgradient, self.shortest)
        if gap <= self.tolerance and self.subgradient <= self.subgradient_tolerance:
            return "converged"
        idle = number - self.last_progress
        return "stalled" if idle > max(_PATIENCE, number / 2) else None

    def solution(self, outcome: Outcome, number: int) -> Solution:
        """What is returned."""
        point, gap, subgradient = self.best
        found = f"the gap is {gap:.2e} (asked was {self.tolerance:.1e}), a subgradient {subgradient:.2e}"
        found += f" (asked was {self.subgradient_tolerance:.1e})"
        advice = {
            "converged": f"{found}, after {number} steps",
            "budget spent": f"{found}; raise max_iterations from {number}",
            "stalled": f"{found}, and rounding stops the descent; raise the tolerance",
            "diverged": f"{found}, and values left the numbers at step {number}; begin with a smaller step",
        }
        certificate = Certificate("dual gap", gap, self.tolerance, {"subgradient norm": subgradient})
        value, _ = self.smooth(point)
        objective = value + self.prox(point, 0.0)[1]
        return Solution(Status(outcome, advice[outcome]), objective, {"x": point}, self.trace, certificate)

    def _proximal_step(self, value: float, slope: Point) -> tuple[Point, float, tuple[float, Point], float]:
        step = self.step
        while True:
            moved, penalty = self.prox(self.ahead - step * slope, step)
            at_moved = self.smooth(moved)
            change = moved - self.ahead
            allowed = float(change.square().sum()) / (2 * step)
            if allowed <= _ROUNDING * abs(value):
                rise = 0.5 * float(((at_moved[1] - slope) * change).sum())
            else:
                rise = at_moved[0] - value - float((slope * change).sum())
            # Where nothing moves there is nothing to compare; a value that is no number ends the run in `look`.
            if not rise > allowed * (1 + 1e-12) or step < 1e-300:
                return moved, penalty, at_moved, step
            step /= 2


def _check_amount(amount: float) -> None:
    if not amount >= 0:
        raise InputError("a threshold of at least zero", got=repr(amount), remedy="Use 0 for no shrinkage.")
