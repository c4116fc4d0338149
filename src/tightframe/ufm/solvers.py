"""`solve`: from a start to a certified global minimum, or to a status that says how far it got."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.threads import threads_for
from tightframe.optimize.smooth import lbfgs, newton_steps
from tightframe.ufm.certificate import certify_form, escaping, negative_curvature
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm

# How often the gap is computed while L-BFGS runs.
_EVERY = 25
# Saddles left behind before giving up: the objective falls with each.
_ESCAPES = 20


def solve(
    problem: UnconstrainedFeatures,
    *,
    seed: int = 0,
    start: Point | None = None,
    tolerance: float = 1e-9,
    max_iterations: int = 20_000,
    collapse: bool = True,
    observe: Callable[[int, Point], dict[str, float]] | None = None,
) -> Solution:
    r"""Minimise the model from a random start and certify what was found.

    L-BFGS on the normal form, then Newton steps for the last digits. Where it comes to a critical point that is not
    optimal, it leaves along the certified direction of negative curvature and goes on. The dual gap is both the
    stopping rule and what is returned.

    Args:
        problem: The model.
        seed: Seed of the start (W, H, b standard normal).
        start: A start of your own, in place of the random one.
        tolerance: Dual gap at which to stop.
        max_iterations: At most this many L-BFGS steps in all.
        collapse: Begin at the class means of the start, with one column per class. For a convex loss all critical
            points are of this kind. For the focal loss the certificate says whether it was enough, and if not the
            solver begins again with one column per sample, as it does at once where this is False.
        observe: Called with the step and the point wherever the gap is computed; what it returns is added to the trace.

    Returns:
        Solution with W (k, d), H (d, n), b (k,), a trace of "objective", "gap" and what `observe` adds, and the
        certificate. Its status is "converged" only where the certificate holds.

    Raises:
        InputError: A start that does not fit the problem, or with NaN; a tolerance or number of iterations below zero.

    Example:
        >>> from tightframe.ufm import UnconstrainedFeatures
        >>> problem = UnconstrainedFeatures(classes=4, features=6, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> solution = solve(problem, seed=0)
        >>> solution.certificate.holds, solution.W.shape, solution.H.shape
        (True, torch.Size([4, 6]), torch.Size([6, 200]))
    """
    check_count(max_iterations, "max_iterations")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-9.")
    start = problem.start(seed=seed) if start is None else problem.point(start.W, start.H, start.b)
    form = NormalForm.of_point(problem, start, collapse=collapse)
    with threads_for(form.multiplications):
        run = _Run(form, tolerance, observe)
        left = run.search(max_iterations)
        if collapse and left > 0 and not run.certificate.holds and not problem.loss.convex:
            run.form = NormalForm.of_point(problem, start)
            left = run.search(left)
        return run.solution(left <= 0, max_iterations)


class _Run:
    """The state of one call: the current form, its certificate and the trace."""

    def __init__(self, form: NormalForm, tolerance: float, observe: Callable | None) -> None:
        self.form, self.tolerance, self.observe = form, tolerance, observe
        self.trace, self.steps = Trace(), 0
        self.certificate = self._look(form)

    def search(self, budget: int) -> int:
        """Descend and leave saddles until the certificate holds or nothing helps; returns what the budget has left."""
        for _ in range(_ESCAPES):
            budget -= self.descend(budget)
            if self.certificate.holds or budget <= 0 or not self.escape():
                break
        return budget

    def descend(self, budget: int) -> int:
        """L-BFGS, then Newton; returns the number of L-BFGS steps."""
        begun = self.steps

        def stop(step: int, vector: Tensor) -> bool:
            self.steps = begun + step
            return self._look(self._at(vector)).holds

        vector, taken = lbfgs(self._value, self._vector(self.form), max_iterations=budget, every=_EVERY, stop=stop)
        self.steps = begun + taken
        self.form = self._at(vector)
        self.certificate = self._look(self.form)
        if not self.certificate.holds and taken < budget:
            self._polish(vector)
        return max(taken, 1)

    def escape(self) -> bool:
        """Step along a direction of negative curvature, as far as the objective falls; False where there is none."""
        if not math.isfinite(self.form.value) or negative_curvature(self.form) is None:
            return False
        parts = escaping(self.form)
        steps = [[length * part for part in parts] for length in 2.0 ** torch.arange(-10, 20)]
        moved = [self.form.moved(*map(torch.add, self._parts(self.form), step)) for step in steps]
        best = min(moved, key=lambda form: float(form.value))
        if not float(best.value) < float(self.form.value):
            return False
        self.form = best
        return True

    def solution(self, spent: bool, budget: int) -> Solution:
        """What is returned."""
        point = self.form.point
        values = {"W": point.W, "H": point.H, "b": point.b}
        certificate = self.certificate
        status = _status(self.form, certificate, spent, budget)
        if not certificate.holds:
            certificate = certify_form(self.form, tolerance=self.tolerance)
        return Solution(status, certificate.evidence["value"], values, self.trace, certificate)

    def _polish(self, vector: Tensor) -> None:
        polished = self._at(newton_steps(lambda v: self._value(v)[1], self._product, vector))
        certificate = certify_form(polished, tolerance=self.tolerance, direction=False)
        if certificate.gap < self.certificate.gap:
            self.form = polished
            self.certificate = self._look(polished)

    def _look(self, form: NormalForm) -> Certificate:
        certificate = certify_form(form, tolerance=self.tolerance, direction=False)
        values = {"objective": certificate.evidence["value"], "gap": certificate.gap}
        self.trace.record(self.steps, values | (self.observe(self.steps, form.point) if self.observe else {}))
        return certificate

    def _parts(self, form: NormalForm) -> list[Tensor]:
        return [form.A, form.B, form.b]

    def _vector(self, form: NormalForm) -> Tensor:
        parts = self._parts(form)[: 2 if form.problem.bias == "none" else 3]
        return torch.cat([part.flatten() for part in parts])

    def _at(self, vector: Tensor) -> NormalForm:
        return self.form.moved(*self._split(vector))

    def _split(self, vector: Tensor) -> list[Tensor]:
        sizes = [self.form.A.numel(), self.form.B.numel()]
        sizes.append(len(vector) - sum(sizes))
        A, B, b = torch.split(vector, sizes)
        return [A.view_as(self.form.A), B.view_as(self.form.B), b if len(b) else torch.zeros_like(self.form.b)]

    def _value(self, vector: Tensor) -> tuple[float, Tensor]:
        value, *gradient = self._at(vector).gradient()
        return float(value), self._joined(gradient)

    def _product(self, vector: Tensor, direction: Tensor) -> Tensor:
        return self._joined(self._at(vector).second(*self._split(direction)))

    def _joined(self, parts) -> Tensor:
        parts = parts[: 2 if self.form.problem.bias == "none" else 3]
        return torch.cat([part.flatten() for part in parts])


def _status(form: NormalForm, certificate: Certificate, spent: bool, budget: int) -> Status:
    gap = f"the gap is {certificate.gap:.2e}, asked was {certificate.tolerance:.1e}"
    if not certificate.gap < float("inf"):
        return Status("diverged", f"{gap}; start nearer to zero (start=problem.start(scale=0.1))")
    if certificate.holds:
        return Status("converged", f"{gap}: globally optimal, certified")
    if spent:
        return Status("budget spent", f"{gap} after {budget} steps; raise max_iterations")
    problem = form.problem
    if problem.features < problem.classes and certificate.evidence["spectral norm"] > problem.nuclear_decay:
        reason = f"with d = {problem.features} below K = {problem.classes} the convex bound need not be reached"
        return Status("stalled", f"critical, but {gap}: {reason}; try other seeds, or raise features")
    return Status("stalled", f"{gap}, and rounding stops the descent; raise tolerance")
