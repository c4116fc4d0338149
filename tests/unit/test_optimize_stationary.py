"""Newton's method on the gradient: it must reach critical points of every kind, and say where it did not."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from itertools import product as product_of

import pytest
import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.optimize.stationary import stationary_point


def gradient(x: Tensor) -> Tensor:
    """Of u^4/4 - u^2/2 + v^4 - v^2 + u^2 v^2/10: a maximum at 0, four saddles on the axes, four minima between them."""
    u, v = x
    return torch.stack([u**3 - u + u * v**2 / 5, 4 * v**3 - 2 * v + u**2 * v / 5])


def hessian(x: Tensor) -> Tensor:
    u, v = x
    mixed = 2 * u * v / 5
    return torch.stack([3 * u**2 - 1 + v**2 / 5, mixed, mixed, 12 * v**2 - 2 + u**2 / 5]).view(2, 2)


def product(x: Tensor, v: Tensor) -> Tensor:
    return hessian(x) @ v


def signs(x: Tensor) -> tuple[int, ...]:
    return tuple(torch.linalg.eigvalsh(hessian(x)).sign().int().tolist())


def test_the_hessian_of_this_test() -> None:
    x = torch.tensor([0.3, -0.8], dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.functional.jacobian(gradient, x), hessian(x))


@pytest.mark.parametrize("dense_below", [0, 2])
def test_critical_points_of_every_kind_are_found(dense_below: int) -> None:
    kinds = Counter()
    for u, v in product_of((-1.3, -0.45, 0.2, 1.1), repeat=2):
        solution = stationary_point(gradient, product, torch.tensor([u, v]).double(), dense_below=dense_below)
        assert solution.status.converged
        assert float(torch.linalg.vector_norm(gradient(solution.x))) <= 1e-13
        kinds[signs(solution.x)] += 1
    assert set(kinds) == {(-1, -1), (-1, 1), (1, 1)}


@pytest.mark.parametrize("dense_below", [0, 2])
def test_the_norm_of_the_gradient_falls_at_every_step_and_is_the_objective(dense_below: int) -> None:
    start = torch.tensor([0.6, 1.4], dtype=torch.float64)
    solution = stationary_point(gradient, product, start, dense_below=dense_below)
    norms = solution.trace["gradient norm"]
    assert all(later < earlier for earlier, later in pairwise(norms))
    assert norms[0] == float(torch.linalg.vector_norm(gradient(start)))
    assert norms[-1] == solution.objective == float(torch.linalg.vector_norm(gradient(solution.x)))
    assert solution.certificate is None
    # Undamped steps at the end: the digits double, where a fixed damping would gain a constant number of them.
    assert norms[-2] < 1e-4
    assert norms[-1] < norms[-2] ** 1.5


def test_steps_of_both_kinds_agree() -> None:
    start = torch.tensor([0.9, 0.2], dtype=torch.float64)
    dense, iterative = (stationary_point(gradient, product, start, dense_below=size) for size in (2, 0))
    # A saddle with the Hessian far from singular: both end within rounding of it.
    torch.testing.assert_close(dense.x, iterative.x, rtol=0, atol=1e-12)
    assert signs(dense.x) == (-1, 1)


def test_a_hessian_singular_along_a_circle_is_no_obstacle() -> None:
    def moved(x: Tensor, v: Tensor) -> Tensor:
        return (x.square().sum() - 1) * v + 2 * x * (x @ v)

    start = torch.tensor([2.0, 1.0, -0.5], dtype=torch.float64)
    solution = stationary_point(lambda x: (x.square().sum() - 1) * x, moved, start)
    assert solution.status.converged
    assert float(torch.linalg.vector_norm(solution.x)) == pytest.approx(1, abs=1e-12)
    # It moves along the radius only.
    torch.testing.assert_close(solution.x, start / torch.linalg.vector_norm(start), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dense_below", [0, 1])
def test_a_gradient_that_is_nowhere_zero_is_said(dense_below: int) -> None:
    # f = x + x^3/3 has gradient 1 + x^2, least at 0 where the Hessian is zero.
    solution = stationary_point(
        lambda x: 1 + x.square(), lambda x, v: 2 * x * v, torch.full((1,), 2.0).double(), dense_below=dense_below
    )
    assert not solution.status.converged
    assert solution.status.outcome in ("stalled", "budget spent")
    assert solution.objective == pytest.approx(1, abs=1e-6)
    flat = stationary_point(lambda x: torch.ones_like(x), lambda x, v: 0 * v, torch.zeros(1).double())
    assert flat.status.outcome == "stalled"


def test_a_spent_budget_and_a_start_outside_of_the_numbers_are_said() -> None:
    start = torch.tensor([2.0, 2.0], dtype=torch.float64)
    solution = stationary_point(gradient, product, start, max_steps=1)
    assert solution.status.outcome == "budget spent"
    assert "max_steps" in solution.status.message
    assert len(solution.trace) == 2
    assert stationary_point(gradient, product, start * math.nan).status.outcome == "diverged"


@pytest.mark.parametrize("arguments", [{"tolerance": 0.0}, {"tolerance": -1.0}, {"max_steps": 0}])
def test_bad_input(arguments: dict) -> None:
    with pytest.raises(InputError):
        stationary_point(gradient, product, torch.zeros(2).double(), **arguments)
