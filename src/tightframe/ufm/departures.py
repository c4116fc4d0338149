"""Leaving a saddle: what a step along its way down gains, beside what the proof of strictness promises."""

from __future__ import annotations

from dataclasses import dataclass

from tightframe.core.errors import InputError
from tightframe.ufm.landscape import CriticalPoint
from tightframe.ufm.model import Point, UnconstrainedFeatures

# Share of the predicted decrease that the proof leaves open at the step that is taken where none is given.
_OPEN = 0.01


@dataclass(frozen=True)
class Departure:
    """A step away from a saddle.

    Args:
        step: Its length t.
        point: Where it leads.
        decrease: Objective at the saddle less that at the point.
        predicted: (|G| - lambda) t^2.
        slack: How far `decrease` can be from `predicted`.
    """

    step: float
    point: Point
    decrease: float
    predicted: float
    slack: float


def leave(problem: UnconstrainedFeatures, saddle: CriticalPoint, *, step: float | None = None) -> Departure:
    r"""Step along the certified direction of negative curvature.

    .. math:: 0 \le e\,t^2 - \big(f(x) - f(x + t v)\big) \le \frac{L\,t^4}{2N}, \quad e = \|G\| - \lambda

    for a convex loss with Hessian up to L: with a in the null space of W and at a critical point also orthogonal to all
    features, the product WH moves by -t^2 u v^T exactly. For a loss that is not convex the left side is -L t^4/(2N).

    Args:
        problem: The model.
        saddle: A strict saddle whose direction is that of the theorem.
        step: t > 0; where not given, the length at which the right side is 1 % of e t^2.

    Raises:
        InputError: The point has no certified direction (it is no strict saddle, or W has no null vector); t <= 0.

    Example:
        >>> from tightframe.ufm import UnconstrainedFeatures
        >>> from tightframe.ufm.critical_points import symmetric_point
        >>> problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> left = leave(problem, symmetric_point(problem, rank=1))
        >>> 0.99 * left.predicted <= left.decrease <= left.predicted
        True

    Reference: [zhu2021geometric], proof of theorem 3.2.
    """
    way, curving = saddle.direction, problem.loss.smoothness / (2 * problem.samples)
    if not saddle.certified:
        raise InputError(
            "a strict saddle where W has a null vector",
            got=f"a point of kind {saddle.kind!r}" + (" without one" if saddle.kind == "strict saddle" else ""),
            remedy="Raise features above the rank of W; solve(problem, start=...) leaves saddles of every kind.",
        )
    step = (_OPEN * saddle.excess / curving) ** 0.5 if step is None else step
    if not step > 0:
        raise InputError("a step above zero", got=repr(step), remedy="Leave it out for one where the bound is sharp.")
    at = saddle.point
    point = Point(at.W + step * way.W, at.H + step * way.H, at.b + step * way.b)
    decrease = saddle.value - problem.objective(point.W, point.H, point.b)
    return Departure(step, point, decrease, saddle.excess * step**2, curving * step**4)
