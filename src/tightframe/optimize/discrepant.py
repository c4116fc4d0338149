"""Sparse over-parameterisation on linear measurements: gradient descent with discrepant step sizes, and its limits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Outcome, Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.optimize.sparse_corruption import check_above_zero, check_measurements, gram_plus_diagonal

Matrix = Float[Tensor, "m d"]
Vector = Float[Tensor, " m"]

# The square of the scale must be a number.
_LEAST_SCALE = 1e-150
# Between looks at the residual, each of which waits for the device.
_EVERY = 50


def implicit_weight(ratio: float, *, scale: float) -> float:
    r"""The weight of the l1 norm that gradient descent on u, v acts as.

    .. math:: \lambda = \frac{\log(1/a)}{2\alpha}

    where a is `scale` and alpha is `ratio`, as derived at `descend_discrepant`. The ratio alone does not fix it: at a
    given ratio a smaller start weighs corruption more, without bound, and lambda = 1/alpha for a = e^-2 only.

    Args:
        ratio: alpha, the step size of u and v over that of theta.
        scale: a, the size at which u and v start, below 1.

    Raises:
        InputError: A ratio that is not above zero, a scale outside (0, 1).

    Example:
        >>> round(implicit_weight(2.0, scale=math.exp(-2)), 6)
        0.5

    Reference: [you2020robust], theorem 1.
    """
    check_above_zero(ratio=ratio)
    _check_scale(scale)
    return -math.log(scale) / (2 * ratio)


def ratio_of_weight(weight: float, *, scale: float) -> float:
    """The ratio alpha = log(1/scale) / (2 weight), the inverse of `implicit_weight`.

    Args:
        weight: lambda, above zero.
        scale: a in (0, 1).

    Raises:
        InputError: A weight that is not above zero, a scale outside (0, 1).

    Example:
        >>> round(ratio_of_weight(0.5, scale=math.exp(-2)), 6)
        2.0
    """
    check_above_zero(weight=weight)
    _check_scale(scale)
    return -math.log(scale) / (2 * weight)


def descend_discrepant(
    J: Matrix,
    y: Vector,
    *,
    ratio: float,
    scale: float,
    step_share: float = 0.1,
    tolerance: float = 1e-8,
    max_steps: int = 100_000,
) -> Solution:
    r"""Gradient descent on measurements with an over-parameterised sparse rest, step by step.

    .. math:: g = \tfrac12 \|J\theta + u \odot u - v \odot v - y\|_2^2, \qquad
        \theta \leftarrow \theta - \mu \nabla_\theta g, \quad
        (u, v) \leftarrow (u, v) - \alpha\mu \nabla_{(u, v)}\, g

    from theta = 0 and u = v = a. J is `J` (m, d), y is `y` (m,), alpha is `ratio`, a is `scale`, and mu is `step_share`
    times 1 / (|J|^2 + 4 alpha max|y|), about the largest step without overshooting. s = u^2 - v^2.

    What it converges to. With r the residual and nu = - mu (sum of r so far), theta = J^T nu holds exactly, as every
    gradient is J^T r. Since u is multiplied by 1 - 2 alpha mu r, small steps give u = a exp(2 alpha nu) and
    v = a exp(-2 alpha nu), so s = 2 a^2 sinh(4 alpha nu) and, at r = 0,

    .. math:: y = J J^\top \nu + 2a^2 \sinh(4\alpha\nu),
        \qquad \nu_i = \frac{\mathrm{sign}(s_i)}{4\alpha}\,\mathrm{arsinh}\frac{|s_i|}{2a^2}
        \approx \lambda\,\mathrm{sign}(s_i) \Big(1 + \frac{\log|s_i|}{2\log(1/a)}\Big),
        \qquad \lambda = \frac{\log(1/a)}{2\alpha}.

    As a tends to 0 with lambda held, that becomes the optimality condition of min |theta|^2/2 + lambda |s|_1 subject to
    y = J theta + s: nu_i = lambda sign(s_i) where s_i is not zero, and |nu_i| <= lambda elsewhere, where
    s_i is about a^(2 (1 - |nu_i| / lambda)). So alpha must grow as log(1/a). The rest log|s_i| / (2 log(1/a)) goes to
    zero so slowly that the distance to the convex solution does, in general, as 1 / log(1/a); only where theta and s do
    not depend on lambda, as under exact recovery, is it a power of a. `flow_limit` solves the first equation.

    Args:
        J: Measurements by row (m, d).
        y: Their values (m,).
        ratio: alpha, above zero; see `ratio_of_weight`.
        scale: a in (0, 1).
        step_share: In (0, 1]; the limit differs from that of infinitely small steps in proportion to it.
        tolerance: Largest modulus of the residual at which to stop, as a share of that of y.
        max_steps: At most this many steps. Rows of s that stay near zero converge at rates that vanish with a.

    Returns:
        Solution with the variables "theta" (d,), "s", "u" and "v" (m,) in float64, g as objective and the trace of
        "residual" (largest modulus), without a certificate.

    Raises:
        InputError: A matrix and a vector that do not fit, NaN or inf, parameters out of range, y = 0.

    Example:
        >>> J = torch.ones(5, 1, dtype=torch.float64)
        >>> y = torch.tensor([1.0, 1.0, 9.0, 1.0, 1.0])
        >>> found = descend_discrepant(J, y, ratio=ratio_of_weight(10.0, scale=1e-6), scale=1e-6)
        >>> found.status.converged, round(float(found.theta), 4), round(float(found.s[2]), 4)
        (True, 1.0, 8.0)

    Reference: [liu2022robust] and [qu2022lecture4], the linear model; [you2020robust], theorem 1, for the limit.
    """
    J, y = check_measurements(J, y)
    check_above_zero(ratio=ratio, step_share=step_share, tolerance=tolerance)
    _check_scale(scale)
    check_count(max_steps, "max_steps")
    largest = float(y.abs().max())
    if step_share > 1 or largest == 0:
        raise InputError(
            "a step_share of at most 1 and measurements that are not all zero",
            got=f"step_share {step_share:g}, max|y| {largest:g}",
            remedy="Use 0.1. Measurements of zero have the solution theta = 0, s = 0.",
        )
    step = step_share / float(torch.linalg.matrix_norm(J, 2).square() + 4 * ratio * largest)
    theta, u = torch.zeros_like(J[0]), torch.full_like(y, scale)
    v, back, trace = u.clone(), J.T.contiguous(), Trace()
    outcome, number = "budget spent", 0
    while True:
        residual = torch.addmv(y, J, theta, beta=-1).addcmul_(u, u).addcmul_(v, v, value=-1)
        if number % _EVERY == 0 or number == max_steps:
            size = float(residual.abs().max())
            trace.record(number, {"residual": size})
            if not math.isfinite(size) or size <= tolerance * largest:
                outcome = "converged" if math.isfinite(size) else "diverged"
                break
        if number == max_steps:
            break
        theta.addmv_(back, residual, alpha=-step)
        residual *= 2 * ratio * step
        u.addcmul_(u, residual, value=-1)
        v.addcmul_(v, residual)
        number += 1
    point = {"theta": theta, "s": u.square() - v.square(), "u": u, "v": v}
    status = _status(outcome, size, tolerance * largest, number)
    return Solution(status, 0.5 * float(residual.square().sum()), point, trace)


def flow_limit(
    J: Matrix, y: Vector, *, ratio: float, scale: float, tolerance: float = 1e-12, max_iterations: int = 2000
) -> Solution:
    r"""Where the same descent ends with infinitely small steps, found without following it.

    .. math:: y = J J^\top \nu + 2a^2 \sinh(4\alpha\nu), \qquad \theta = J^\top \nu, \quad s = 2a^2 \sinh(4\alpha\nu)

    with J, y, alpha = `ratio` and a = `scale` of `descend_discrepant`. The equation is the optimality condition of a
    strictly convex function of nu, so its solution is unique. Newton's steps are shortened by log(1 + e) / e with
    e = 4 alpha max|step|, which makes every one a descent, however small a is. With fewer columns than rows, entries of
    s below rounding leave nu undetermined: the budget may then be spent at a theta and s that are accurate.

    Args:
        J: Measurements by row (m, d).
        y: Their values (m,).
        ratio: alpha, above zero.
        scale: a, at least 1e-150 and below 1.
        tolerance: Largest modulus of the equation's defect at which to stop, as a share of that of y.
        max_iterations: At most this many steps.

    Returns:
        Solution with the variables "theta" (d,), "s" and "nu" (m,) in float64, the defect as objective and its trace
        ("defect"), without a certificate.

    Raises:
        InputError: A matrix and a vector that do not fit, NaN or inf, parameters out of range.

    Reference: [woodworth2020kernel], theorem 1, for the limit; [sun2019generalized] for the length of steps.
    """
    J, y = check_measurements(J, y)
    check_above_zero(ratio=ratio, tolerance=tolerance)
    _check_scale(scale)
    check_count(max_iterations, "max_iterations")
    nu, trace, twice, outcome = torch.zeros_like(y), Trace(), 2 * math.log(scale), "budget spent"
    allowed = tolerance * float(y.abs().max())
    for number in range(max_iterations + 1):
        # a^2 sinh and a^2 cosh through exponents that do not overflow where their product with a^2 does not.
        up, down = torch.exp(4 * ratio * nu + twice), torch.exp(-4 * ratio * nu + twice)
        theta, s = J.T @ nu, up - down
        defect = J @ theta + s - y
        size = float(defect.abs().max())
        trace.record(number, {"defect": size})
        if not math.isfinite(size) or size <= allowed:
            outcome = "converged" if math.isfinite(size) else "diverged"
            break
        move = gram_plus_diagonal(J, 4 * ratio * (up + down))(defect)
        length = 4 * ratio * float(move.abs().max())
        nu = nu - math.log1p(length) / length * move
    status = _status(outcome, size, allowed, number)
    return Solution(status, size, {"theta": theta, "s": s, "nu": nu}, trace)


def _check_scale(scale: float) -> None:
    if not _LEAST_SCALE <= scale < 1:
        raise InputError(
            f"a scale from {_LEAST_SCALE:g} to below 1",
            got=repr(scale),
            remedy="Use 1e-6; larger starts do not favour sparsity, and the square of smaller ones is no number.",
        )


def _status(outcome: Outcome, size: float, allowed: float, steps: int) -> Status:
    found = f"the residual is {size:.2e} (asked was {allowed:.1e}) after {steps} steps"
    advice = {
        "converged": found,
        "budget spent": f"{found}; allow more steps, or raise the tolerance",
        "diverged": f"{found}, and values left the numbers; use a smaller step_share or ratio",
    }
    return Status(outcome, advice[outcome])
