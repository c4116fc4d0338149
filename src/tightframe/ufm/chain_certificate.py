"""`certify_deep`: how far a point of a chain can be from the minimum."""

from __future__ import annotations

import math

import torch

from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate
from tightframe.ufm.chains import best_scale, deep_optimum, frame_of
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError


def certify_deep(
    problem: DeepUnconstrainedFeatures, point: DeepPoint, *, tolerance: float = 1e-9
) -> Certificate | None:
    r"""A rigorous bound on f - min f: the closed form where it is proven, else a bound by norms.

    .. math:: f \ge \min_Z\; g(Z) + \tfrac L2 C^{1/L} \|Z\,\mathrm{diag}(\sqrt n)\|_*^{2/L}

    holds for every activation with |sigma(x)| <= |x|, for the nuclear norm of W_M H_M is at most the product of the
    Frobenius norms of all factors. For equal classes and a convex loss the minimum is over multiples of a frame. The
    bound is far from tight: its cost has K^{2/L} in place of K.

    Returns:
        Certificate of kind "closed form" or "norm bound"; None where neither applies (unequal classes or a loss that is
        not convex, and no closed form). Its evidence: "value", "bound", "gradient norm"; with ReLU "nuclear norm
        before" and "nuclear norm after", of W_{M-1} H_{M-1} and of its positive part, whose equality at the global
        minimum is the condition of theorem 4.2, and "collapsed", the value that is the minimum under that condition.

    Reference: [tirer2022extended], appendices C and E.
    """
    known, value = deep_optimum(problem), problem.objective(point)
    if known.known:
        kind, bound = "closed form", known.value
    else:
        kind, bound = "norm bound", norm_bound(problem)
    if bound is None:
        return None
    gradient = problem.gradient(point)[1].factors
    evidence = {
        "value": value,
        "bound": bound,
        "gradient norm": math.sqrt(sum(float(part.square().sum()) for part in gradient)),
    }
    if not problem.linear:
        evidence |= nuclear_norms(problem, point) | ({} if known.value is None else {"collapsed": known.value})
    return Certificate(kind, value - bound, tolerance, evidence)


def nuclear_norms(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> dict[str, float]:
    """Nuclear norms "before" and "after" the activation that makes the features of the classifier."""
    if problem.layers == 1:
        raise InputError("a chain of two layers or more", got="one", remedy="No activation acts in a single layer.")
    before = point.weights[1] @ problem.levels(point)[-2]
    norms = {"before": before, "after": problem.activate(before)}
    return {f"nuclear norm {name}": float(torch.linalg.matrix_norm(value, "nuc")) for name, value in norms.items()}


def norm_bound(problem: DeepUnconstrainedFeatures) -> float | None:
    """The bound of `certify_deep` on the minimum for any activation; None where it is not known in closed form."""
    if not (problem.balanced and problem.loss.convex):
        return None
    if isinstance(problem.loss, SquaredError) and problem.loss.scale != 1:
        return None
    rank, _ = frame_of(problem)
    # A frame of scale a and rank r has nuclear norm r a: its cost is that of one factor chain of rank one.
    return best_scale(problem, cost=lambda scale: (rank * scale) ** (2 / problem.factors))[0]
