"""`solve_normalized`: from a start on the spheres to a certified minimum, or to a status that says how far it got."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.threads import on_few_threads
from tightframe.optimize.riemannian import Method, minimize_on_spheres
from tightframe.ufm.certificate import Direction
from tightframe.ufm.model import Point
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm
from tightframe.ufm.normalized_landscape import certify_normalized, smallest_curvature, way_down

# Saddles left behind before giving up: the objective falls with each.
_ESCAPES = 20

Observer = Callable[[int, Point], Mapping[str, float]]


@on_few_threads
def solve_normalized(
    problem: NormalizedFeatures,
    *,
    seed: int = 0,
    start: Point | None = None,
    method: Method = "trust-regions",
    tolerance: float = 1e-9,
    gradient_tolerance: float = 1e-10,
    max_iterations: int = 1000,
    observe: Observer | None = None,
) -> Solution:
    r"""Minimise the model on spheres from a random start, and certify what was found.

    .. math:: \min_{W \in \mathrm{OB}(d, K)^\top,\; H \in \mathrm{OB}(d, N)} \tfrac1N \sum_i l(\tau W h_i, y_i)

    Riemannian trust regions or conjugate gradients until the gradient vanishes; where that is at a saddle, the method
    leaves along the certified direction of negative curvature and goes on. At high temperatures the loss is flat far
    from collapse: there the gap is within any tolerance before the features form a frame.

    Args:
        problem: The model.
        seed: Seed of the start (uniform on the spheres).
        start: A start of your own, in place of the random one.
        method: "trust-regions" or "conjugate-gradients".
        tolerance: Gap up to which the certificate holds.
        gradient_tolerance: Norm of the gradient on the spheres at which the descent stops.
        max_iterations: At most this many steps in all.
        observe: Called with the step and the point after each step; what it returns is added to the trace.

    Returns:
        Solution with W (k, d), H (d, n), a trace of "objective", "gradient norm" and what `observe` adds, and the
        certificate: kind "closed form" where the minimum is known, else "dual gap"; evidence "gradient norm", "smallest
        eigenvalue" of the Hessian on the spheres and, unless it holds, "direction". Its status is "converged" only
        where the certificate holds.

    Raises:
        InputError: A start that does not fit the problem, or with NaN; a tolerance or number of steps that is not above
            zero; an unknown method.

    Example:
        >>> problem = NormalizedFeatures(classes=4, features=8, per_class=3, temperature=5.0)
        >>> solution = solve_normalized(problem, seed=0)
        >>> solution.certificate.holds, round(solution.objective, 10)
        (True, 0.0038106317)

    Reference: [yaras2022neural], section 3.
    """
    check_count(max_iterations, "max_iterations")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-9.")
    start = problem.start(seed=seed) if start is None else problem.point(start.W, start.H)
    run = _Run(problem, start, observe)
    left, status = max_iterations, None
    for _ in range(_ESCAPES):
        status = run.descend(method, gradient_tolerance, left)
        left = max_iterations - run.steps
        certificate = certify_normalized(run.form, tolerance=tolerance)
        if certificate.holds or left <= 0 or status.outcome == "diverged" or not run.escape():
            break
    return run.solution(certificate, status, max_iterations)


class _Run:
    """The state of one call: the current point and the trace."""

    def __init__(self, problem: NormalizedFeatures, start: Point, observe: Observer | None) -> None:
        self.problem, self.form, self.observe = problem, SphereForm(problem, start.W, start.H), observe
        self.trace, self.steps = Trace(), 0

    def descend(self, method: Method, gradient_tolerance: float, budget: int) -> Status:
        """Until the gradient vanishes, or for another reason, which is returned."""
        begun = self.steps
        found = minimize_on_spheres(
            lambda rows, H: float(self._at(rows, H).value),
            lambda rows, H: _columns(*self._at(rows, H).euclidean),
            lambda rows, H, towards, dH: _columns(*self._at(rows, H).euclidean_second(towards.T, dH)),
            {"W": self.form.W.T.contiguous(), "H": self.form.H},
            method=method,
            gradient_tolerance=gradient_tolerance,
            max_iterations=budget,
            observe=lambda step, rows, H: self._seen(begun + step, self._at(rows, H)),
        )
        for row in found.trace:
            self.steps = begun + int(row["step"])
            self.trace.record(self.steps, {name: value for name, value in row.items() if name != "step"})
        self.form = SphereForm(self.problem, found.W.T.contiguous(), found.H)
        self.steps += found.status.outcome == "budget spent"
        return found.status

    def escape(self) -> bool:
        """Step along a direction of negative curvature, as far as f falls; False where there is none."""
        found = way_down(self.form)
        if found is None or found[1].kind != "negative curvature":
            return False
        direction, best = found[1], self.form
        for sign in (1.0, -1.0):
            length = 1e-3
            while length < 1e3:
                moved = self.form.moved(sign * length * direction.W, sign * length * direction.H)
                if not float(moved.value) < float(best.value):
                    break
                best, length = moved, 2 * length
        left, self.form = best is not self.form, best
        return left

    def solution(self, certificate: Certificate, status: Status, budget: int) -> Solution:
        """What is returned."""
        evidence = dict(certificate.evidence) | {"smallest eigenvalue": smallest_curvature(self.form)}
        direction = None
        if not certificate.holds:
            found = way_down(self.form)
            evidence["direction"] = direction = found and found[1]
        certificate = replace(certificate, evidence=evidence)
        variables = {"W": self.form.W, "H": self.form.H}
        told = _status(certificate, status, direction, budget)
        return Solution(told, float(self.form.value), variables, self.trace, certificate)

    def _at(self, rows: Tensor, H: Tensor) -> SphereForm:
        # One point is asked for again and again, by the same tensors.
        if self.form.H is not H:
            self.form = SphereForm(self.problem, rows.T, H)
        return self.form

    def _seen(self, step: int, form: SphereForm) -> Mapping[str, float]:
        return self.observe(step, form.point) if self.observe else {}


def _columns(in_W: Tensor, in_H: Tensor) -> list[Tensor]:
    return [in_W.T, in_H]


def _status(certificate: Certificate, status: Status, direction: Direction | None, budget: int) -> Status:
    gap = f"the gap is {certificate.gap:.2e}, asked was {certificate.tolerance:.1e}"
    if status.outcome == "diverged":
        return status
    if certificate.holds:
        return Status("converged", f"{gap}: globally optimal, certified")
    if status.outcome == "budget spent":
        return Status("budget spent", f"{gap} after {budget} steps; raise max_iterations")
    if direction is not None and direction.kind == "negative curvature":
        return Status("stalled", f"{gap}, at a saddle; start at another seed")
    if direction is None:
        reason = "a local minimum, or a bound that is not reached in so few dimensions"
        return Status("stalled", f"critical, but {gap}: {reason}; try other seeds, or raise features")
    return Status("stalled", f"{gap}, and rounding stops the descent; raise tolerance")
