"""Sparse corruption of linear measurements: the convex program, with a certificate of its solution."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.core.checks import check_count, check_features, check_same_device
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Outcome, Solution, Status, Trace
from tightframe.core.typing import Float

Matrix = Float[Tensor, "m d"]
Vector = Float[Tensor, " m"]

# Share of the way to the boundary of the box that a step may go.
_INSIDE = 0.995
# Steps in a row without a smaller gap after which rounding is taken to be the limit.
_PATIENCE = 5


def separate_corruption(
    J: Matrix, y: Vector, *, weight: float, tolerance: float = 1e-12, max_iterations: int = 100
) -> Solution:
    r"""Split measurements into J theta and a sparse rest by convex optimisation.

    .. math:: \min_{\theta, s}\; \tfrac12 \|\theta\|_2^2 + \lambda \|s\|_1 \quad\text{s.t.}\quad y = J\theta + s,
        \qquad \max_{\|\nu\|_\infty \le \lambda}\; \langle y, \nu\rangle - \tfrac12 \|J^\top \nu\|_2^2

    where J (`J`, (m, d)) holds a measurement per row, y (`y`, (m,)) the values and lambda is `weight`. The second
    program is the dual of the first, and theta = J^T nu. Both solutions theta and s are unique, nu need not be. The
    gap of a point of the box to its own primal point is a sum of non-negative terms, free of cancellation,

    .. math:: \mathrm{gap}(\nu) = \sum_i \big(\lambda |s_i| - s_i \nu_i\big), \qquad s = y - J J^\top \nu,

    and bounds the distance to the solution: |theta - theta_opt|^2 <= 2 gap, as |theta|^2/2 is strongly convex.
    The method is a primal-dual interior point method with predictor and corrector; each of its 10 to 30 steps costs a
    QR decomposition of (m + d, m) numbers. From some weight on the solution minimises |y - J theta|_1 exactly.

    Args:
        J: Measurements by row (m, d).
        y: Their values (m,).
        weight: lambda, above zero.
        tolerance: Gap at which to stop, as a share of the objective.
        max_iterations: At most this many steps.

    Returns:
        Solution with the variables "theta" (d,), "s" (m,) and "nu" (m,) in float64, the trace of "objective" and "gap",
        and a certificate of kind "dual gap" (absolute) whose evidence bounds the "distance of theta".

    Raises:
        InputError: A matrix and a vector that do not fit, NaN or inf, a weight or a tolerance not above zero.

    Example:
        >>> J = torch.ones(5, 1, dtype=torch.float64)
        >>> found = separate_corruption(J, torch.tensor([1.0, 1.0, 9.0, 1.0, 1.0]), weight=10.0)
        >>> found.status.converged, round(float(found.theta), 6), [round(x, 6) + 0.0 for x in found.s.tolist()]
        (True, 1.0, [0.0, 0.0, 8.0, 0.0, 0.0])

    Reference: [liu2022robust] and [qu2022lecture4], the linear model; [mehrotra1992implementation] for the method.
    """
    J, y = check_measurements(J, y)
    check_above_zero(weight=weight, tolerance=tolerance)
    check_count(max_iterations, "max_iterations")
    run, trace = _InteriorPoint(J, y, weight), Trace()
    best, idle, outcome = run.look(), 0, "budget spent"
    trace.record(0, {"objective": best[0], "gap": best[1]})
    for number in range(1, max_iterations + 1):
        if best[1] <= tolerance * best[0] or idle >= _PATIENCE:
            break
        run.advance()
        value, gap, nu = run.look()
        trace.record(number, {"objective": value, "gap": gap})
        # A gap that is no number is never smaller, so that the point before it is kept.
        idle = 0 if gap < best[1] else idle + 1
        best = (value, gap, nu) if gap < best[1] else best
    value, gap, nu = best
    if gap <= tolerance * value:
        outcome = "converged"
    elif idle >= _PATIENCE:
        outcome = "stalled"
    theta = J.T @ nu
    point = {"theta": theta, "s": y - J @ theta, "nu": nu}
    evidence = {"distance of theta": math.sqrt(2 * gap), "objective": value}
    certificate = Certificate("dual gap", gap, tolerance * value, evidence)
    return Solution(_status(outcome, gap, tolerance * value, len(trace) - 1), value, point, trace, certificate)


def gram_plus_diagonal(J: Matrix, diagonal: Vector) -> Callable[[Vector], Vector]:
    r"""A solver of (J J^T + D) x = b for a diagonal D above zero of any range of sizes.

    .. math:: x = D^{-1/2} R^{-1} R^{-\top} D^{-1/2} b, \qquad
        \begin{bmatrix} J^\top D^{-1/2} \\ I \end{bmatrix} = Q R

    The Gram matrix is never formed: its condition number is the square of that of what is decomposed. The rows of
    J^T D^{-1/2} stand on top because they may be larger by many orders, and R then stays accurate.

    Args:
        J: (m, d).
        diagonal: D (m,), above zero.

    Returns:
        The function from b (m,) to x (m,).

    Example:
        >>> solve = gram_plus_diagonal(torch.ones(2, 1), torch.ones(2))
        >>> [round(x, 6) for x in solve(torch.tensor([3.0, 0.0])).tolist()]
        [2.0, -1.0]
    """
    root = diagonal.sqrt()
    identity = torch.eye(len(root), dtype=J.dtype, device=J.device)
    right = torch.linalg.qr(torch.cat([(J / root[:, None]).T, identity]), mode="r")[1]

    def solve(b: Vector) -> Vector:
        inner = torch.linalg.solve_triangular(right.T, (b / root)[:, None], upper=False)
        return torch.linalg.solve_triangular(right, inner, upper=True)[:, 0] / root

    return solve


def check_measurements(J: Matrix, y: Vector) -> tuple[Matrix, Vector]:
    """A finite matrix (m, d) and vector (m,) on one device, in float64.

    Raises:
        InputError: Anything else.
    """
    J = check_features(J, "J").double()
    if not isinstance(y, Tensor) or y.shape != (len(J),) or y.is_complex() or not len(J):
        got = f"shape {tuple(y.shape)} of {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(
            f"y is a real tensor with one value for each of the rows of J, ({len(J)},), at least one",
            got=got,
            remedy="Pass one measurement per row.",
        )
    check_same_device(J, y, "J and y")
    y = y.detach().double()
    if not bool(torch.isfinite(J).all() & torch.isfinite(y).all()):
        raise InputError("J and y are finite", got="NaN or inf", remedy="Look for divergence in whatever made them.")
    return J, y


def check_above_zero(**numbers: float) -> None:
    """Finite numbers above zero, named by their keywords.

    Raises:
        InputError: Another number.
    """
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise InputError(f"{name} is a number above zero", got=repr(number), remedy=f"Pass such a {name}.")


class _InteriorPoint:
    """nu inside the box, with multipliers p of nu <= weight and q of nu >= -weight: y = J J^T nu + p - q."""

    def __init__(self, J: Matrix, y: Vector, weight: float) -> None:
        self.J, self.y, self.weight = J, y, weight
        self.nu = torch.zeros_like(y)
        # Of the size of the measurements, so that the start is near the central path; y = 0 ends before a step.
        shift = y.abs().max()
        self.p, self.q = y.clamp(min=0) + shift, (-y).clamp(min=0) + shift

    def look(self) -> tuple[float, float, Vector]:
        """The primal objective of theta = J^T nu, its gap, and nu."""
        theta = self.J.T @ self.nu
        s = self.y - self.J @ theta
        value = 0.5 * theta.square().sum() + self.weight * s.abs().sum()
        gap = (self.weight * s.abs() - s * self.nu).sum()
        return float(value), float(gap), self.nu

    def advance(self) -> None:
        """A predictor, a corrector, and a step as long as both stay inside."""
        above, below = self.weight - self.nu, self.weight + self.nu
        solve = gram_plus_diagonal(self.J, self.p / above + self.q / below)
        defect = self.y - self.J @ (self.J.T @ self.nu) - self.p + self.q
        mean = (self.p @ above + self.q @ below) / (2 * len(self.nu))

        def direction(of_p: Vector, of_q: Vector) -> tuple[Vector, Vector, Vector]:
            # Newton on p (weight - nu) = .., q (weight + nu) = .. and y = J J^T nu + p - q.
            move = solve(defect - of_p / above + of_q / below)
            return move, (of_p + self.p * move) / above, (of_q - self.q * move) / below

        move, along_p, along_q = direction(-self.p * above, -self.q * below)
        reach = self._reach(move, along_p, along_q)
        left = (self.p + reach * along_p) @ (above - reach * move) + (self.q + reach * along_q) @ (below + reach * move)
        target = (left / (2 * len(self.nu)) / mean) ** 3 * mean
        move, along_p, along_q = direction(
            target - self.p * above + move * along_p, target - self.q * below - move * along_q
        )
        step = min(1.0, _INSIDE * self._reach(move, along_p, along_q))
        self.nu, self.p, self.q = self.nu + step * move, self.p + step * along_p, self.q + step * along_q

    def _reach(self, move: Vector, along_p: Vector, along_q: Vector) -> float:
        """How far every slack and multiplier stays above zero, at most 1 / `_INSIDE`."""
        now = torch.cat([self.weight - self.nu, self.weight + self.nu, self.p, self.q])
        change = torch.cat([-move, move, along_p, along_q])
        return 1 / max(float((-change / now).max()), _INSIDE)


def _status(outcome: Outcome, gap: float, allowed: float, steps: int) -> Status:
    found = f"the gap is {gap:.2e} (asked was {allowed:.1e}) after {steps} steps"
    advice = {
        "converged": found,
        "budget spent": f"{found}; raise max_iterations",
        "stalled": f"{found}, and rounding stops the descent; raise the tolerance",
    }
    return Status(outcome, advice[outcome])
