"""Rounding on the l1 norm: from a direction near the sparsest one to that direction itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Outcome, Solution, Status, Trace
from tightframe.core.typing import Float

Direction = Float[Tensor, "*shape"]
Linear = Callable[[Tensor], Tensor]

# A step that did not lower the objective is followed by one shorter by this factor.
_SHRINK = 0.85
# Length of the first step, as a share of the distance of the constraint from the origin.
_FIRST = 0.1
# Values below this share of the root mean square count as zeros, by the precision of the data.
_ZERO = {torch.float32: 1e-3, torch.float64: 1e-7}


def l1_rounding(
    apply: Linear, adjoint: Linear, reference: Direction, *, max_iterations: int = 300, tolerance: float | None = None
) -> Solution:
    r"""The direction of least l1 norm in the half-space of a reference: projected subgradient steps.

    .. math:: \min_q\ \|A q\|_1 \quad \text{subject to} \quad \langle r, q \rangle = 1

    where
        A is `apply`, its transpose `adjoint`, and r, of unit norm, the `reference`.

    A q with a minimiser q is sparse exactly, not only up to the bias of the smooth loss that found r: the objective is
    sharp there, and steps whose lengths fall geometrically converge linearly. It needs no linear program and two
    products by A or its transpose in each step.

    Args:
        apply: q to A q, of any shape.
        adjoint: s to A^T s.
        reference: r, not zero; of any scale.
        max_iterations: Steps at most.
        tolerance: Length of a step, relative to |q|, at which to stop; 1e-11 in float64 and 1e-6 in float32 by default.

    Returns:
        Solution with "q" (the best met, with r^T q = 1) and the trace of "objective" and "step length".

    Raises:
        InputError: A reference that is zero or not finite.

    Example:
        >>> A = torch.tensor([[1.0, 0.9], [0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
        >>> start = torch.tensor([1.0, 0.2], dtype=torch.float64)
        >>> found = l1_rounding(lambda q: A @ q, lambda s: A.T @ s, start, max_iterations=1000)
        >>> bool(abs(found.q[1]) < 1e-10), found.status.converged
        (True, True)

    Reference: [qu2019nonconvex], appendix on rounding; [davis2018subgradient], section 4, for the rate.
    """
    check_count(max_iterations, "max_iterations")
    norm = torch.linalg.vector_norm(reference)
    if not (bool(torch.isfinite(norm)) and float(norm) > 0):
        raise InputError("a finite reference that is not zero", got=f"norm {float(norm)}", remedy="Pass another start.")
    r = reference / norm
    tolerance = (1e-6 if r.dtype == torch.float32 else 1e-11) if tolerance is None else tolerance
    point, step, trace = r, _FIRST, Trace()
    values = apply(point)
    level = float(values.abs().sum())
    best, lowest, outcome = point, level, "budget spent"
    for number in range(1, max_iterations + 1):
        slope = adjoint(values.sign())
        slope = slope - r * (r * slope).sum()
        length = torch.linalg.vector_norm(slope)
        point = point - (step / length.clamp(min=torch.finfo(r.dtype).tiny)) * slope
        point = point + r * (1 - (r * point).sum())
        values = apply(point)
        before, level = level, float(values.abs().sum())
        trace.record(number, {"objective": level, "step length": step})
        if level < lowest:
            best, lowest = point, level
        if level >= before:
            step *= _SHRINK
        if step <= tolerance:
            outcome = "converged"
            break
    return Solution(_status(outcome, step), lowest, {"q": best}, trace)


def l1_certificate(
    apply: Linear, adjoint: Linear, reference: Direction, q: Direction, *, max_iterations: int = 100
) -> Certificate:
    r"""How far |A q|_1 is above its minimum over <r, q> = 1, from signs that a dual point must have.

    .. math:: \|A q\|_1 - \min_{\langle r, u \rangle = 1} \|A u\|_1 \le \|A q\|_1 - \frac{\nu}{\max(1, \|s\|_\infty)},
        \qquad A^\top s = \nu r, \quad \nu = \|A q\|_1

    The dual point s has the signs of A q where that is not zero, and on the zeros the values of least norm that satisfy
    the equation, found by conjugate gradients. Where A q has too few zeros no such s exists and the bound is trivial.

    Args:
        apply: q to A q.
        adjoint: s to A^T s.
        reference: r, of any scale.
        q: A point; it is scaled to <r, q> = 1 with r of unit norm.
        max_iterations: Of conjugate gradients.

    Returns:
        Certificate of kind "dual gap", relative to |A q|_1, with "zeros" (their share) and "largest dual entry".

    Reference: [rockafellar1970convex], section 31.
    """
    r = reference / torch.linalg.vector_norm(reference)
    q = q / (r * q).sum()
    values = apply(q)
    size = values.square().mean().sqrt()
    zero = values.abs() <= _ZERO[values.dtype] * size
    level = values.abs().sum()
    signs = torch.where(zero, 0.0, values.sign())
    wanted = level * r - adjoint(signs)
    # The map below has q in its null space, where rounding errors would grow without bound.
    multiplier = _conjugate_gradients(lambda u: adjoint(zero * apply(u)), wanted, q, max_iterations)
    dual = signs + zero * apply(multiplier)
    # What the equation still lacks is paid for: <q*, defect> <= |q*| |defect|, with |q*| unknown, so it must be small.
    defect = float(torch.linalg.vector_norm(adjoint(dual) - level * r) / level.clamp(min=torch.finfo(q.dtype).tiny))
    largest = float(dual.abs().amax())
    exact = defect <= _ZERO[values.dtype]
    gap = 1 - 1 / max(1.0, largest) if exact else 1.0
    evidence = {"zeros": float(zero.double().mean()), "largest dual entry": largest, "defect": defect}
    return Certificate("dual gap", gap, 1e-6, evidence)


def _conjugate_gradients(normal: Linear, wanted: Tensor, null: Tensor, iterations: int) -> Tensor:
    """Solution of normal(u) = wanted for a positive semidefinite map that sends `null` to zero."""
    null = null / torch.linalg.vector_norm(null)
    found, residual = torch.zeros_like(wanted), wanted - null * (null * wanted).sum()
    direction, energy = residual, residual.square().sum()
    smallest = energy * (10 * torch.finfo(wanted.dtype).eps) ** 1.6
    for _ in range(iterations):
        if not float(energy) > float(smallest):
            break
        image = normal(direction)
        image = image - null * (null * image).sum()
        curvature = (direction * image).sum()
        if not float(curvature) > 0:
            break
        length = energy / curvature
        found, residual = found + length * direction, residual - length * image
        before, energy = energy, residual.square().sum()
        direction = residual + (energy / before) * direction
    return found


def _status(outcome: Outcome, step: float) -> Status:
    if outcome == "converged":
        return Status(outcome, f"steps fell to length {step:.1e}")
    return Status(outcome, f"steps still of length {step:.1e}; raise max_iterations")
