"""First-order rules against torch.optim."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.optimize.first_order import Adam, Momentum

ROUNDING = 1e-12


def path(move, steps: int = 50) -> torch.Tensor:
    """Points on the way down a quadratic with a rotated, ill-conditioned Hessian."""
    draws = generator(3)
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=draws)).Q
    hessian = basis @ torch.diag(torch.logspace(-3, 0, 6).double()) @ basis.T
    point = torch.randn(6, dtype=torch.float64, generator=draws)
    visited = []
    for _ in range(steps):
        move(point, hessian @ point)
        visited.append(point.clone())
    return torch.stack(visited)


def moved_by(make):
    """The same interface around an optimiser of torch."""
    optimiser = None

    def move(point, gradient):
        nonlocal optimiser
        optimiser = make([point]) if optimiser is None else optimiser
        point.grad = gradient
        optimiser.step()

    return move


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_that_of_torch(momentum):
    theirs = path(moved_by(lambda points: torch.optim.SGD(points, lr=0.7, momentum=momentum)))
    torch.testing.assert_close(path(Momentum(0.7, momentum).move), theirs, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
def test_adam_is_that_of_torch(betas):
    theirs = path(moved_by(lambda points: torch.optim.Adam(points, lr=0.05, betas=betas, eps=1e-4)))
    ours = path(Adam(0.05, betas=betas, epsilon=1e-4).move)
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


def test_adam_begins_with_a_step_of_its_length_whatever_the_scale():
    point = torch.zeros(2, dtype=torch.float64)
    Adam(0.25, epsilon=1e-300).move(point, torch.tensor([1e-150, -1e150], dtype=torch.float64))
    # m/(1-b1) over the root of v/(1-b2), each rounded a few times.
    assert point.tolist() == pytest.approx([-0.25, 0.25], rel=1e-14)


@pytest.mark.parametrize("rule", [Momentum, Adam])
@pytest.mark.parametrize("step", [0.0, -0.1, math.nan, math.inf])
def test_a_step_is_above_zero(rule, step):
    with pytest.raises(InputError, match="a step above zero"):
        rule(step)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_momentum_is_below_one(momentum):
    with pytest.raises(InputError, match=r"momentum in \[0, 1\)"):
        Momentum(0.1, momentum)


@pytest.mark.parametrize("wrong", [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"epsilon": 0.0}])
def test_betas_and_epsilon_are_in_range(wrong):
    with pytest.raises(InputError, match="betas in"):
        Adam(0.1, **wrong)
