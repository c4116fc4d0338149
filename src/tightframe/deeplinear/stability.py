"""Up to which step size gradient descent on a deep linear network stays at its minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.deeplinear.objective import Objective, as_objective


def stable_step(
    X: Tensor | Objective, Y: Tensor | None = None, *, depth: int, momentum: float = 0.0, weight_decay: float = 0.0
) -> float:
    r"""The step size 2 / ||Hessian|| above which a balanced minimum repels gradient descent.

    .. math:: \eta_{\max} = \frac{2(1+\mu)}{\|\nabla^2\|}, \qquad
        \|\nabla^2\| = L\, \sigma_1^{2-2/L}\, \|X\|^2 + \lambda

    where
        L is `depth`, mu is `momentum`, lambda is `weight_decay`, and sigma_1 is the largest singular value of the
        minimiser W.

    In a balanced factorisation of W the map from weights to product stretches a direction by at most
    sum_l sigma_1^{2(l-1)/L} sigma_1^{2(L-l)/L} = L sigma_1^{2-2/L}, attained by rank-one moves along the top singular
    vectors, and this is the flattest of all factorisations: every minimum is unstable above this step. The formula is
    exact without decay for whitened inputs or a whole matrix, an upper bound on the Hessian (so a sufficient
    step) for other inputs, and an estimate where only some entries are observed: ||X||^2 then stands for their share.

    Args:
        X: Inputs (d_x, n); or the matrix Phi alone; or an objective alone.
        Y: Outputs (d_y, n).
        depth: L.
        momentum: mu in [0, 1) of the heavy ball.
        weight_decay: lambda, at least 0.

    Returns:
        The step; inf where the minimiser is zero and nothing decays.

    Raises:
        InputError: A depth below 1, a momentum outside [0, 1), a decay below zero, data that do not fit.

    Example:
        >>> round(stable_step(torch.tensor([[8.0]]), depth=3), 6)
        0.041667

    Reference: [mulayoff2020unique] for the flattest minimum; [polyak1964some] for the heavy ball.
    """
    objective = as_objective(X, Y)
    check_count(depth, "depth")
    check_descent(momentum=momentum, weight_decay=weight_decay)
    top = float(torch.linalg.matrix_norm(objective.minimizer(), 2))
    sharpness = depth * top ** (2 - 2 / depth) * objective.curvature + weight_decay
    return 2 * (1 + momentum) / sharpness if sharpness > 0 else float("inf")


def check_descent(*, momentum: float, weight_decay: float) -> None:
    """A momentum in [0, 1) and a decay of at least zero.

    Raises:
        InputError: Something else.
    """
    if not 0 <= momentum < 1:
        raise InputError("momentum in [0, 1)", got=repr(momentum), remedy="Use 0, or 0.9.")
    if not 0 <= weight_decay < float("inf"):
        raise InputError("a weight_decay of at least zero", got=repr(weight_decay), remedy="Use 0, or 1e-3.")
