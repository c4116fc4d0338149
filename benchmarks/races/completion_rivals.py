"""What completion is raced against: least squares, ScaledGD, the nuclear norm, deep networks wide or narrow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.nuclear_norm import least_nuclear_norm, soft_impute, threshold_by_held_out
from tightframe.deeplinear.objective import Completion
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.path import balanced, largest_step, leading_components

DOUBLE = torch.float64
Fit = Callable[[Observations], Tensor]


def least_squares(rank: int, acceleration: float, sweeps: int = 500) -> Fit:
    """Alternating least squares from a spectral start."""

    def fit(found: Observations) -> Tensor:
        start = balanced(*leading_components(found, rank), rank)
        done = alternating_least_squares(found, *start, acceleration=acceleration, progress=1e-5, max_sweeps=sweeps)
        return done.A @ done.B.T

    return fit


def scaled_descent(rank: int, steps: int = 1000) -> Fit:
    """ScaledGD with step 0.6 / p."""

    def fit(found: Observations) -> Tensor:
        A, B = balanced(*leading_components(found, rank), rank)
        step, norm = 0.6 / found.share, float(found.values.norm())
        for _ in range(steps):
            rest = found.entries(A, B) - found.values
            size = float(rest.norm()) / norm
            if not 1e-8 < size < 10:
                break
            left = torch.linalg.solve(B.T @ B, found.times(rest, B), left=False)
            right = torch.linalg.solve(A.T @ A, found.times_transposed(rest, A), left=False)
            A, B = A - step * left, B - step * right
        return A @ B.T

    return fit


def shrunk(found: Observations) -> Tensor:
    """Soft-impute, its threshold by a tenth held out."""
    return soft_impute(found, threshold_by_held_out(found).threshold).X


def exact_norm(found: Observations) -> Tensor:
    """The least nuclear norm with the observed entries."""
    return least_nuclear_norm(found).X


def deep_network(found: Observations, width: int, step_share: float = 0.25, steps: int = 6000) -> Tensor:
    """A deep network of three layers from a scaled orthogonal start of 1e-2, as in the sources."""
    dense, mask = torch.zeros(found.shape, dtype=DOUBLE), torch.zeros(found.shape, dtype=torch.bool)
    dense[found.rows, found.columns], mask[found.rows, found.columns] = found.values, True
    network = DeepLinearNetwork([found.shape[1], width, width, found.shape[0]], scale=1e-2)
    top = float(leading_components(found, 1)[1][0])
    weights = network.weights
    for _ in range(steps // 500):
        step = step_share * largest_step(found, top, 3)
        done = simulate(DeepLinearNetwork.of(weights), Completion(dense, mask), steps=500, step=step, every=500)
        weights = tuple(done.variables[f"W{number}"] for number in (1, 2, 3))
        if done.trace["loss"][-1] <= 0.5 * (1e-7 * float(found.values.norm())) ** 2:
            break
    return weights[2] @ weights[1] @ weights[0]
