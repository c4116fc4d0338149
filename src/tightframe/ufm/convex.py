"""The convex program behind the model: one matrix of logits under a nuclear norm, in place of two factors."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Solution
from tightframe.core.threads import threads_for
from tightframe.core.typing import ClassVector, Float
from tightframe.optimize.proximal import accelerated_proximal_gradient, singular_value_threshold
from tightframe.ufm.certificate import best_bias, certify_form
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm
from tightframe.ufm.optima import Optimum

Square = Float[Tensor, "k k"]

# Singular values below this share of the largest are rounding: the proximal operator sets the others to zero exactly.
_RANK = 1e-12
# Norm of the gradient in the bias up to which it is eliminated in every step; the certificate goes further.
_BIAS = 1e-16


def solve_convex(
    problem: UnconstrainedFeatures,
    *,
    tolerance: float = 1e-10,
    subgradient_tolerance: float = math.inf,
    max_iterations: int = 20_000,
) -> Solution:
    r"""Minimise the convex program whose minimum the model with d >= K attains.

    .. math:: \min_{Z, b}\; \sum_k \tfrac{n_k}{N}\, l(Z_k + b, k)
        + \sqrt{\lambda_W \lambda_H}\, \big\|Z\,\mathrm{diag}(\sqrt{n_1}, \dots, \sqrt{n_K})\big\|_*
        + \tfrac{\lambda_b}{2}\|b\|^2

    where
        Z (k, k) holds one column of logits per class, without the bias. It loses nothing: by convexity the samples of a
        class share their logits, and the nuclear norm of Z with column k repeated n_k times is the one above.

    The variable is X = Z diag(sqrt n_k), in which the gradient has the Lipschitz constant L/N, L that of the loss,
    whatever the sizes of the classes, and the bias is eliminated: Newton's method finds the best one for every X.

    No random start and no factors: an independent check of `solve`. Use `solve` for d < K and for losses that are not
    convex.

    Args:
        problem: The model; its d plays no part.
        tolerance: Dual gap at which to stop.
        subgradient_tolerance: Go on until also the norm of a subgradient in X, relative to sqrt(lambda_W lambda_H), is
            at most this; 1e-12 gives about ten digits of Z.
        max_iterations: At most this many proximal steps.

    Returns:
        Solution with Z (k, k), b (k,), of mean zero where nothing determines its mean, the trace of "objective", "gap",
        "subgradient norm" and "step length", and the certificate of kind "dual gap". Its evidence has also the "rank"
        of Z: the model has the same minimum where d is at least that.

    Raises:
        InputError: A loss that is not convex, a tolerance or a number of iterations that is not above zero.

    Example:
        >>> problem = UnconstrainedFeatures(classes=4, features=3, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> found = solve_convex(problem)
        >>> found.status.converged, round(found.objective, 9), found.certificate.evidence["rank"]
        (True, 0.070423262, 3)

    Reference: [zhu2021geometric], appendix, for the program; [hong2023neural], for unequal classes.
    """
    check_count(max_iterations, "max_iterations")
    if not problem.loss.convex:
        raise InputError(
            "a convex loss", got=problem.loss.name, remedy="Use solve(problem), which bounds its gap without convexity."
        )
    if not (tolerance > 0 and subgradient_tolerance > 0):
        got = f"tolerance={tolerance!r}, subgradient_tolerance={subgradient_tolerance!r}"
        raise InputError("tolerances above zero", got=got, remedy="Use 1e-10 for the gap.")
    program = _Program(problem, tolerance)
    with threads_for(problem.classes**3):
        return program.solution(subgradient_tolerance, max_iterations)


def factor(problem: UnconstrainedFeatures, solution: Solution, *, seed: int = 0) -> Point:
    r"""A minimiser of the model from one of the convex program.

    .. math:: W = r^{-1} U \Sigma^{1/2} P^\top, \qquad \bar H = r P \Sigma^{1/2} V^\top \mathrm{diag}(n_k^{-1/2}),
        \qquad Z\,\mathrm{diag}(\sqrt{n_k}) = U \Sigma V^\top, \; r = (\lambda_W/\lambda_H)^{1/4}

    with orthonormal columns P (d, rank), drawn at random: the factors whose decay is the nuclear norm.

    Args:
        problem: The model.
        solution: From `solve_convex`.
        seed: Seed of P.

    Returns:
        W (k, d), H (d, n) and b (k,), with the objective of the solution.

    Raises:
        InputError: A solution of another number of classes, or d below the rank of Z.

    Example:
        >>> problem = UnconstrainedFeatures(classes=3, features=2, per_class=(9, 4, 1), weight_decay=(1e-2, 1e-2))
        >>> found = solve_convex(problem)
        >>> abs(problem.objective(*vars(factor(problem, found)).values()) - found.objective) < 1e-12
        True

    Reference: [zhu2021geometric], lemma A.3.
    """
    Z = solution.Z
    if len(Z) != problem.classes:
        raise InputError(
            f"a solution for {problem.classes} classes", got=f"one for {len(Z)}", remedy="Solve this problem."
        )
    rank = _rank(Z * torch.tensor(problem.counts, dtype=torch.float64).sqrt())
    if rank > problem.features:
        raise InputError(
            f"d of at least {rank}, the rank of Z", got=f"d = {problem.features}", remedy="Use solve(problem)."
        )
    found = Optimum(True, "minimiser of the convex program", logits=Z, bias=solution.b, problem=problem)
    return found.point(seed=seed)


class _Program:
    """The convex program in X, with the best bias for every X."""

    def __init__(self, problem: UnconstrainedFeatures, tolerance: float) -> None:
        # With d = K every X has factors.
        self.problem, self.tolerance = replace(problem, features=problem.classes), tolerance
        self.counts = torch.tensor(problem.counts, dtype=torch.float64)
        self.root = self.counts.sqrt()
        self.classes, self.one = torch.arange(problem.classes), torch.eye(problem.classes, dtype=torch.float64)
        self.bias = torch.zeros(problem.classes, dtype=torch.float64)

    def solution(self, subgradient_tolerance: float, max_iterations: int) -> Solution:
        """Of the program, with Z and b."""
        found = accelerated_proximal_gradient(
            self.smooth,
            self.prox,
            torch.zeros_like(self.one),
            gap=lambda X: self.certificate(X).gap,
            step=self.problem.samples / self.problem.loss.smoothness,
            tolerance=self.tolerance,
            subgradient_tolerance=subgradient_tolerance * self.problem.nuclear_decay,
            max_iterations=max_iterations,
        )
        certificate, bias = self.certificate(found.x), self.balanced(found.x).b
        if self.problem.bias == "free" and self.problem.loss.shift_invariant:
            bias = bias - bias.mean()
        variables = {"Z": found.x / self.root, "b": bias}
        return Solution(found.status, certificate.evidence["value"], variables, found.trace, certificate)

    def smooth(self, X: Square) -> tuple[float, Square]:
        """Mean loss and bias term at the best bias, and the gradient."""
        form = best_bias(self._form(X, self.one, self.bias), tolerance=_BIAS)
        self.bias = form.b
        value = float(form.data_value(form.logits))
        if self.problem.bias != "none":
            value += 0.5 * self.problem.bias_decay * float(form.b.square().sum())
        return value, form.G

    def prox(self, X: Square, step: float) -> tuple[Square, float]:
        """Of the nuclear norm, weighted."""
        decay = self.problem.nuclear_decay
        moved, norm = singular_value_threshold(X, step * decay)
        return moved, decay * norm

    def balanced(self, X: Square) -> NormalForm:
        """Factors of equal norm, whose decay is the nuclear norm. The same X gives the same bias to the last bit."""
        left, values, right = torch.linalg.svd(X)
        return best_bias(self._form(left * values.sqrt(), values.sqrt()[:, None] * right, torch.zeros_like(self.bias)))

    def certificate(self, X: Square) -> Certificate:
        """The dual gap of the model with d = K at the balanced factors, which is that of the convex program at X."""
        found = certify_form(self.balanced(X), tolerance=self.tolerance, direction=False)
        return replace(found, evidence={**found.evidence, "rank": _rank(X)})

    def _form(self, A: Square, B: Square, bias: ClassVector) -> NormalForm:
        return NormalForm(self.problem, self.counts, self.classes, A, B, bias)


def _rank(matrix: Square) -> int:
    values = torch.linalg.svdvals(matrix)
    return int((values > _RANK * max(float(values[0]), 1e-300)).sum())
