"""Critical points of every kind: the method of Levenberg and Marquardt on the equations grad f = 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from scipy.sparse.linalg import LinearOperator, lsmr
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.optimize.curvature import dense_matrix

Vector = Float[Tensor, " n"]

# The damping starts at this share of the largest eigenvalue of the squared Hessian. Where even a step as short as
# damping by _MOST allows does not shorten the gradient, none does.
_FIRST, _LEAST, _MOST = 1e-2, 1e-30, 1e8


def stationary_point(
    gradient: Callable[[Vector], Vector],
    product: Callable[[Vector, Vector], Vector],
    start: Vector,
    *,
    tolerance: float = 1e-13,
    max_steps: int = 200,
    dense_below: int = 400,
) -> Solution:
    r"""Drive the gradient to zero, whether that is at a minimum, a saddle or a maximum.

    .. math:: x \leftarrow x - (\mathcal H^2 + \mu I)^{-1} \mathcal H \nabla f(x), \qquad \mathcal H = \nabla^2 f(x)

    a Newton step damped by mu, which rises until |grad f| falls and falls with every success. Directions in which the
    Hessian is negative are not turned round, as a minimiser would do, so that saddles attract. It can end where
    |grad f| has a minimum other than zero, and the status says so. Steps come from the spectrum of the Hessian or, with
    many variables, from LSMR.

    Args:
        gradient: grad f at a vector.
        product: The Hessian at a vector (first) times a direction (second), from operations that torch.vmap knows
            where n <= `dense_below`.
        start: Where to begin (n,), float64.
        tolerance: Norm of the gradient at which to stop.
        max_steps: Steps tried at most.
        dense_below: Up to this size the Hessian is built.

    Returns:
        Solution with the variable "x" (n,), |grad f| as its objective and the trace of it ("gradient norm"), without
        a certificate.

    Raises:
        InputError: A tolerance or a number of steps that is not above zero.

    Example:
        >>> bend = torch.tensor([1.0, -1.0], dtype=torch.float64)
        >>> found = stationary_point(lambda x: bend * x, lambda x, v: bend * v, torch.ones(2, dtype=torch.float64))
        >>> found.status.converged, bool(found.x.abs().max() < 1e-13)
        (True, True)

    Reference: [marquardt1963algorithm].
    """
    check_count(max_steps, "max_steps")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-13.")
    trace, point, slope = Trace(), start, gradient(start)
    norm = float(torch.linalg.vector_norm(slope))
    trace.record(0, {"gradient norm": norm})
    step_from, share, step = None, _FIRST, 0
    while norm > tolerance and step < max_steps and share <= _MOST:
        step += 1
        if step_from is None:
            damped = _dense if len(start) <= dense_below else _iterative
            step_from = damped(lambda v, at=point: product(at, v), slope)
        moved = point - step_from(share)
        slope_there = gradient(moved)
        norm_there = float(torch.linalg.vector_norm(slope_there))
        if norm_there < norm:
            point, slope, norm, step_from, share = moved, slope_there, norm_there, None, max(share / 10, _LEAST)
            trace.record(step, {"gradient norm": norm})
        else:
            share *= 10
    return Solution(_status(norm, tolerance, step, max_steps), norm, {"x": point}, trace)


def _dense(product: Callable[[Vector], Vector], slope: Vector) -> Callable[[float], Vector]:
    """The step as a function of the damping, from the spectrum."""
    values, vectors = torch.linalg.eigh(dense_matrix(product, len(slope), device=slope.device))
    largest, along = float(values.abs().max()), vectors.T @ slope

    def step(share: float) -> Vector:
        damping = share * largest**2
        # A Hessian that is zero leaves no step.
        weights = values / (values.square() + damping) if damping > 0 else torch.zeros_like(values)
        return vectors @ (weights * along)

    return step


def _iterative(product: Callable[[Vector], Vector], slope: Vector) -> Callable[[float], Vector]:
    """The same from the damped least squares problem min |H s - slope|^2 + mu |s|^2."""
    device = slope.device

    def numbers(vector: numpy.ndarray) -> numpy.ndarray:
        return product(torch.from_numpy(numpy.ascontiguousarray(vector)).to(device)).cpu().numpy()

    operator = LinearOperator((len(slope), len(slope)), matvec=numbers, rmatvec=numbers, dtype=numpy.float64)
    along = product(slope)
    # The gain of the Hessian along the gradient, in place of its norm.
    scale = float(torch.linalg.vector_norm(along) / torch.linalg.vector_norm(slope))

    def step(share: float) -> Vector:
        solved = lsmr(operator, slope.cpu().numpy(), damp=share**0.5 * scale, atol=1e-12, btol=1e-12, conlim=0)
        return torch.from_numpy(solved[0]).to(device)

    return step


def _status(norm: float, tolerance: float, step: int, budget: int) -> Status:
    found = f"the gradient has norm {norm:.2e}, asked was {tolerance:.1e}"
    if norm <= tolerance:
        return Status("converged", f"{found}, after {step} steps")
    if not norm < float("inf"):
        return Status("diverged", f"{found}; start elsewhere")
    if step >= budget:
        return Status("budget spent", f"{found}, after {step} steps; raise max_steps")
    return Status("stalled", f"{found}: no shorter one is near, so start elsewhere, or raise tolerance")
