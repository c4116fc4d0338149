"""Powers of projections made large on spheres and over orthogonal matrices: fixed points and gradient ascent."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.solution import Outcome, Solution, Status, Trace
from tightframe.core.typing import Float

Rows = Float[Tensor, "n d"]
Directions = Float[Tensor, "p d"]
Gradient = Callable[[Directions], Directions]

# Projections held at once, so that memory grows with neither the rows nor the directions.
_PROJECTIONS = 2**24
# Armijo's share of the first-order gain, and by what a step grows and shrinks.
_GAIN, _GROW, _SHRINK, _HALVINGS = 1e-3, 2.0, 0.5, 40


def power_gradient(rows: Rows, directions: Directions, *, order: int = 4) -> Directions:
    r"""The gradient, up to the factor `order`, of the mean power of the projections on each direction.

    .. math:: g_i = \frac1n \sum_j |z_j^\top q_i|^{r - 2} (z_j^\top q_i)\, z_j, \qquad
        \langle g_i, q_i\rangle = \frac1n \sum_j |z_j^\top q_i|^r

    where
        z_j (d,) are the rows of `rows` (n, d), q_i those of `directions` (p, d), and r is `order`.

    Args:
        rows: (n, d).
        directions: (p, d), of the same dtype and device.
        order: r, 3 or 4.

    Returns:
        (p, d).

    Raises:
        InputError: Another order.

    Example:
        >>> power_gradient(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.eye(2)).tolist()
        [[8.0, 0.0], [0.0, 0.5]]
    """
    if order not in (3, 4):
        raise InputError("order 3 or 4", got=repr(order), remedy="Use 3: it needs fewer samples.")
    total = torch.zeros_like(directions)
    for block in rows.split(max(1, _PROJECTIONS // max(1, len(directions)))):
        projections = block @ directions.T
        weights = projections * projections.abs() if order == 3 else projections.pow(3)
        total.addmm_(weights.T, block)
    return total / len(rows)


def polar_factor(matrix: Directions) -> Directions:
    r"""The nearest matrix with orthonormal rows: U V^T of the thin decomposition U S V^T; (p, d) with p <= d.

    Reference: [schonemann1966procrustes].
    """
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


def matching_stretching_projection(
    rows: Rows,
    start: Directions,
    *,
    order: int = 3,
    tolerance: float = 1e-3,
    max_iterations: int = 500,
) -> Solution:
    r"""Orthonormal directions with large powers of the projections, by matching, stretching and projection.

    .. math:: \max_{Q Q^\top = I} \frac1n \sum_{ij} |z_j^\top q_i|^r, \qquad
        Q \leftarrow U V^\top, \quad \left(g_1, \dots, g_p\right)^\top = U S V^\top

    with the g_i of `power_gradient`. The objective is convex, so that it rises at every step. With r = 3 fewer samples
    are enough than with r = 4, and what it finds is nearer to the sparse directions; the theory is for r = 4.

    Args:
        rows: z, whitened (n, d).
        start: Q (p, d) with orthonormal rows, p <= d, of the same dtype and device.
        order: r, 3 or 4.
        tolerance: Length of the longest change among the directions at which to stop; an even longer tail is common:
            a pair of directions may turn for long about a saddle.
        max_iterations: Steps at most.

    Returns:
        Solution with Q, the objective, and a trace of "objective", "change" and "seconds". The change is read back
        from the device at every step.

    Raises:
        InputError: Shapes that do not fit, another order, a tolerance or number of steps that is not above zero.

    Example:
        >>> rows = torch.eye(3, dtype=torch.float64).repeat(4, 1)
        >>> start = polar_factor(torch.tensor([[3.0, 1, 0], [0, 2, 1], [1, 0, 1]], dtype=torch.float64))
        >>> found = matching_stretching_projection(rows, start, tolerance=1e-9)
        >>> found.status.converged, round(found.Q.abs().max(dim=1).values.sum().item(), 9)
        (True, 3.0)

    Reference: [zhai2020complete], algorithm 1; [shen2020complete], for r = 3.
    """
    _check(rows, start, tolerance, max_iterations)
    trace, begun, Q = Trace(), time.perf_counter(), start
    for step in range(1, max_iterations + 1):
        slopes = power_gradient(rows, Q, order=order)
        moved = polar_factor(slopes)
        value, change = (float(number) for number in torch.stack([(slopes * Q).sum(), _longest(moved - Q)]).tolist())
        Q = moved
        trace.record(step, {"objective": value, "change": change, "seconds": time.perf_counter() - begun})
        if not change > tolerance:
            break
    return Solution(_status(change, tolerance, step, max_iterations), value, {"Q": Q}, trace)


def orthogonal_ascent(
    rows: Rows,
    start: Directions,
    *,
    order: int = 3,
    tolerance: float = 1e-3,
    max_iterations: int = 500,
) -> Solution:
    r"""The same maximum by Riemannian gradient ascent, each step as long as the objective allows.

    .. math:: Q \leftarrow \mathrm{polar}\left(Q + \tau\,\big(G - \tfrac12 (G Q^\top + Q G^\top) Q\big)\right)

    where G is the gradient of the objective. tau doubles before every step and is halved until the objective rises by
    a thousandth of what the gradient promises. `matching_stretching_projection` is the limit tau -> infinity.

    Arguments, result and errors are those of `matching_stretching_projection`.

    Reference: [zhai2020complete], section 3; [absil2008optimization], section 4.1, for gradient steps on manifolds.
    """
    _check(rows, start, tolerance, max_iterations)
    trace, begun, Q, length = Trace(), time.perf_counter(), start, 1.0
    slopes = power_gradient(rows, Q, order=order)
    value = float((slopes * Q).sum())
    for step in range(1, max_iterations + 1):
        across = slopes @ Q.T
        tangent = order * (slopes - 0.5 * (across + across.T) @ Q)
        square, length = float(tangent.square().sum()), length * _GROW
        for _ in range(_HALVINGS):
            moved = polar_factor(Q + length * tangent)
            slopes_there = power_gradient(rows, moved, order=order)
            value_there = float((slopes_there * moved).sum())
            if value_there >= value + _GAIN * length * square:
                break
            length *= _SHRINK
        change = float(_longest(moved - Q))
        if value_there >= value:
            Q, slopes, value = moved, slopes_there, value_there
        trace.record(step, {"objective": value, "change": change, "seconds": time.perf_counter() - begun})
        if not change > tolerance:
            break
    return Solution(_status(change, tolerance, step, max_iterations), value, {"Q": Q}, trace)


def sphere_power(
    gradient: Gradient, start: Directions, *, tolerance: float = 1e-2, max_iterations: int = 100
) -> Solution:
    r"""Fixed points of the normalised gradient, many directions at once and each on its own.

    .. math:: q_i \leftarrow \frac{g(q_i)}{\|g(q_i)\|}

    gradient ascent on the sphere with infinite steps. A direction that no longer changes is left out of later steps.
    Signs may alternate where the gradient points backwards; a change is measured up to sign.

    Args:
        gradient: g, from unit directions (any number, d) to as many vectors, each from its direction alone.
        start: Where to begin (p, d); normalised first.
        tolerance: Change of a direction at which it stops.
        max_iterations: Steps at most.

    Returns:
        Solution with Q (p, d), `settled` (p,) of bool, the sum of <g(q), q> of the last step as its objective, and a
        trace of "moving" and "seconds".

    Raises:
        InputError: A start that is no matrix, a tolerance or number of steps that is not above zero.

    Example:
        >>> found = sphere_power(lambda q: q.pow(3), torch.tensor([[0.8, 0.6], [0.1, -0.9]]), tolerance=1e-6)
        >>> found.Q.abs().round().tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Reference: [qu2020geometric], section 3; [hyvarinen1999fast], for the fixed point.
    """
    _check(start, start, tolerance, max_iterations, orthonormal=False)
    trace, begun, Q = Trace(), time.perf_counter(), unit_rows(start)
    values, moving = Q.new_zeros(len(Q)), torch.arange(len(Q), device=Q.device)
    for step in range(1, max_iterations + 1):
        before = Q[moving]
        slopes = gradient(before)
        moved = unit_rows(slopes)
        Q[moving], values[moving] = moved, (slopes * before).sum(1)
        cosines = (moved * before).sum(1, keepdim=True)
        moving = moving[torch.linalg.vector_norm(moved - cosines.sign() * before, dim=1) > tolerance]
        trace.record(step, {"moving": float(len(moving)), "seconds": time.perf_counter() - begun})
        if not len(moving):
            break
    settled = torch.ones(len(Q), dtype=torch.bool, device=Q.device)
    settled[moving] = False
    found = f"{len(Q) - len(moving)} of {len(Q)} directions settled to {tolerance:.1e} within {step} steps"
    outcome: Outcome = "budget spent" if len(moving) else "converged"
    status = Status(outcome, found + ("; raise max_iterations" if len(moving) else ""))
    return Solution(status, float(values.sum()), {"Q": Q, "settled": settled}, trace)


def sphere_ascent(
    gradient: Gradient, start: Directions, *, tolerance: float = 1e-2, max_iterations: int = 200
) -> Solution:
    r"""Riemannian gradient ascent of a quartic form, many directions at once, each with a step of its own.

    .. math:: q_i \leftarrow \frac{q_i + \tau_i\, t_i}{\|q_i + \tau_i\, t_i\|}, \qquad t_i = g_i - (g_i^\top q_i)\,q_i

    The value is <g(q), q>, as for a form of degree 4 with gradient 4 g. A step that lowers it is taken back and halved;
    one that raises it is doubled for the next, up to half the step that leads to g / |g|.

    Arguments, result and errors are those of `sphere_power`.

    Reference: [qu2020geometric], section 3; [absil2008optimization], section 4.1.
    """
    _check(start, start, tolerance, max_iterations, orthonormal=False)
    trace, begun, Q = Trace(), time.perf_counter(), unit_rows(start)
    slopes = gradient(Q)
    values = (slopes * Q).sum(1)
    lengths, settled = 1 / values.abs().clamp_min(1e-3), torch.zeros(len(Q), dtype=torch.bool, device=Q.device)
    for step in range(1, max_iterations + 1):
        tangents = slopes - values[:, None] * Q
        moved = unit_rows(Q + lengths[:, None] * tangents)
        slopes_there = gradient(moved)
        values_there = (slopes_there * moved).sum(1)
        # At a maximum the values differ by rounding alone. A step of 1 / <g, q> is that of `sphere_power`.
        rises = (values_there >= values - 10 * torch.finfo(Q.dtype).eps * values.abs())[:, None]
        Q, slopes = torch.where(rises, moved, Q), torch.where(rises, slopes_there, slopes)
        values = torch.where(rises[:, 0], values_there, values)
        lengths = lengths * torch.where(rises[:, 0], _GROW, _SHRINK)
        lengths = lengths.minimum(0.5 / values.abs().clamp_min(1e-3))
        # The change that a step of infinite length would make: that of a finite one is small where the step is, too.
        ahead = unit_rows(slopes)
        along = ahead - (ahead * Q).sum(1, keepdim=True) * Q
        settled = torch.linalg.vector_norm(along, dim=1) <= tolerance
        left = len(Q) - int(settled.sum())
        trace.record(step, {"moving": float(left), "seconds": time.perf_counter() - begun})
        if not left:
            break
    found = f"{len(Q) - left} of {len(Q)} directions settled to {tolerance:.1e} within {step} steps"
    status = Status("budget spent" if left else "converged", found + ("; raise max_iterations" if left else ""))
    return Solution(status, float(values.sum()), {"Q": Q, "settled": settled}, trace)


def _longest(rows: Directions) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1).amax()


def _status(change: float, tolerance: float, step: int, budget: int) -> Status:
    found = f"the directions changed by {change:.2e} at most, asked was {tolerance:.1e}"
    if change <= tolerance:
        return Status("converged", f"{found}, after {step} steps")
    if not change < float("inf"):
        return Status("diverged", f"{found}; whiten the rows first")
    return Status("budget spent", f"{found}, after {budget} steps; raise max_iterations")


def _check(rows: Rows, start: Directions, tolerance: float, budget: int, *, orthonormal: bool = True) -> None:
    check_count(budget, "max_iterations")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-3.")
    if rows.ndim != 2 or start.ndim != 2 or not rows.numel() or rows.shape[1] != start.shape[1]:
        raise InputError(
            "rows (n, d) and directions (p, d)",
            got=f"shapes {tuple(rows.shape)} and {tuple(start.shape)}",
            remedy="Pass one sample and one direction per row.",
        )
    if not orthonormal:
        return
    if len(start) > start.shape[1]:
        got = f"{len(start)} directions in {start.shape[1]} dimensions"
        raise InputError("at most d orthonormal directions", got=got, remedy="Use sphere_power for more than d.")
    excess = (start @ start.T - torch.eye(len(start), dtype=start.dtype, device=start.device)).abs().amax()
    if not float(excess) < 1e-3:
        raise InputError(
            "orthonormal directions to start from",
            got=f"a Gram matrix off by {float(excess):.1e}",
            remedy="Use polar_factor.",
        )
