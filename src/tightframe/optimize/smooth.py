"""Smooth minimisation: limited-memory BFGS, and Newton steps on the gradient for the last digits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy
import torch
from scipy.sparse.linalg import LinearOperator, minres
from torch import Tensor

from tightframe.core.typing import Float

Vector = Float[Tensor, " n"]
ValueAndGradient = Callable[[Vector], tuple[float, Vector]]
# Norm of the gradient at the start, as torch's L-BFGS sees it.
_MAGNIFIED = 1e14

Product = Callable[[Vector, Vector], Vector]


def lbfgs(
    function: ValueAndGradient,
    start: Vector,
    *,
    max_iterations: int,
    gradient_tolerance: float = 0.0,
    memory: int = 20,
    every: int = 25,
    stop: Callable[[int, Vector], bool] | None = None,
) -> tuple[Vector, int]:
    """Minimise a smooth function by L-BFGS (torch's, with its strong Wolfe line search), in float64.

    Args:
        function: Value and gradient at a vector.
        start: Where to begin.
        max_iterations: At most this many steps.
        gradient_tolerance: Stop where no entry of the gradient is larger.
        memory: Pairs kept.
        every: Steps between two looks at the point.
        stop: Called with the number of steps and the vector at each look; stops where it returns True.

    Returns:
        The last point and the number of steps. Where the value no longer falls from one look to the next, or is no
        longer a number, it ends as well, with the better of the two points.
    """
    point = start.detach().clone().requires_grad_()
    lowest, gradient = function(start)
    size = float(torch.linalg.vector_norm(gradient))
    # torch drops pairs whose inner product is below 1e-10, which near a minimum are all of them: it sees a multiple.
    scale = _MAGNIFIED / size if 0 < size < float("inf") else 1.0
    optimizer = torch.optim.LBFGS(
        [point],
        max_iter=every,
        max_eval=25 * (every + 1),
        history_size=memory,
        tolerance_grad=scale * gradient_tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        value, gradient = function(point.detach())
        point.grad = scale * gradient
        return scale * value

    best, steps = start, 0
    while steps < max_iterations and math.isfinite(lowest):
        optimizer.param_groups[0]["max_iter"] = min(every, max_iterations - steps)
        optimizer.step(closure)
        taken = optimizer.state[point]["n_iter"] - steps
        steps += taken
        value, gradient = function(point.detach())
        if not value < lowest:
            return (point.detach().clone(), steps) if value == lowest else (best, steps)
        best, lowest = point.detach().clone(), value
        if (stop is not None and stop(steps, best)) or float(gradient.abs().max()) <= gradient_tolerance or not taken:
            break
    return best, steps


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
        # Along null directions rounding grows with the products: where a step fails, one from fewer may do.
        for products in (inner, inner // 8):
            moved = point + _minres(lambda vector, at=point: product(at, vector), -slope, products)
            slope_there = gradient(moved)
            size_there = float(torch.linalg.vector_norm(slope_there))
            if size_there < size:
                break
        else:
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
