"""Smooth minimisation: limited-memory BFGS, and Newton steps on the gradient for the last digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, minres
from torch import Tensor

from tightframe.core.typing import Float

Vector = Float[Tensor, " n"]
ValueAndGradient = Callable[[Vector], tuple[float, Vector]]
Product = Callable[[Vector, Vector], Vector]


def lbfgs(
    function: ValueAndGradient,
    start: Vector,
    *,
    max_iterations: int,
    gradient_tolerance: float = 0.0,
    memory: int = 20,
    stop: Callable[[int, Vector], bool] | None = None,
) -> tuple[Vector, int]:
    """Minimise a smooth function by L-BFGS (SciPy's, with its line search), in float64.

    Args:
        function: Value and gradient at a vector.
        start: Where to begin.
        max_iterations: At most this many steps.
        gradient_tolerance: Stop where no entry of the gradient is larger.
        memory: Pairs kept.
        stop: Called with the number of steps and the vector after each step; stops where it returns True.

    Returns:
        The last point and the number of steps. Where no step improves any more (rounding of the value) it ends as well.
    """
    device, steps = start.device, 0

    def numbers(point: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        value, gradient = function(torch.from_numpy(point).to(device))
        return value, gradient.cpu().numpy()

    last = start.cpu().numpy()

    def after(intermediate_result) -> None:
        nonlocal steps, last
        steps, last = steps + 1, intermediate_result.x.copy()
        if stop is not None and stop(steps, torch.from_numpy(last).to(device)):
            raise StopIteration

    options = {
        "maxiter": max_iterations,
        "maxfun": 20 * max_iterations + 20,
        "maxcor": memory,
        "ftol": 0.0,
        "gtol": gradient_tolerance,
        "maxls": 40,
    }
    minimize(numbers, last, jac=True, method="L-BFGS-B", callback=after, options=options)
    return torch.from_numpy(last).to(device), steps


def newton_steps(
    gradient: Callable[[Vector], Vector],
    product: Product,
    start: Vector,
    *,
    max_steps: int = 10,
    tolerance: float = 1e-14,
    inner: int = 400,
) -> Vector:
    r"""Drive a small gradient to zero by Newton steps, solved by MINRES; a Hessian singular along symmetries is fine.

    .. math:: x \leftarrow x - \nabla^2 f(x)^{+} \nabla f(x)

    A step is kept only where it shortens the gradient, so that the point never gets worse by that measure. Critical
    points of every kind attract: begin near the one that is wanted.

    Args:
        gradient: Gradient at a vector.
        product: Hessian at a vector (first) times a direction (second).
        start: Where to begin.
        max_steps: At most this many.
        tolerance: Stop where the norm of the gradient is at most this.
        inner: At most this many products per step.
    """
    point, slope = start, gradient(start)
    size = float(torch.linalg.vector_norm(slope))
    for _ in range(max_steps):
        if size <= tolerance:
            break
        step = _minres(lambda vector, at=point: product(at, vector), -slope, inner)
        moved = point + step
        slope_there = gradient(moved)
        size_there = float(torch.linalg.vector_norm(slope_there))
        if not size_there < size:
            break
        point, slope, size = moved, slope_there, size_there
    return point


def _minres(product: Callable[[Vector], Vector], right: Vector, iterations: int) -> Vector:
    device = right.device

    def numbers(vector: numpy.ndarray) -> numpy.ndarray:
        return product(torch.from_numpy(numpy.ascontiguousarray(vector)).to(device)).cpu().numpy()

    operator = LinearOperator((len(right), len(right)), matvec=numbers, dtype=numpy.float64)
    solved, _ = minres(operator, right.cpu().numpy(), rtol=1e-10, maxiter=iterations)
    return torch.from_numpy(solved).to(device)
