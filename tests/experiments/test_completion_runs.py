"""Descents that stop on observed entries, against descent written out, and the matrices they are run on."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.compression import compress
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion
from tightframe.experiments.deeplinear.completion_runs import Effort, Matrix, bounded, descend, thinned


def test_matrices_have_their_rank_and_norm():
    for kind, top in (("truncated", 2 * math.sqrt(120)), ("factors", 120)):
        problem = Matrix(120, 3, 0.3, kind, seed=2).drawn()
        values = torch.linalg.svdvals(problem.matrix)
        assert int((values > 1e-9).sum()) == 3
        # Leading singular values of Gaussians of this size are within a third of their limit.
        assert problem.top == pytest.approx(top, rel=1 / 3)
        assert float(problem.mask.double().mean()) == pytest.approx(0.3, abs=0.02)
        assert len(problem.observations) == int(problem.mask.sum())


def test_errors_are_relative_and_apart():
    problem = Matrix(20, 2, 0.5).drawn()
    seen = torch.where(problem.mask, problem.matrix, 0.0)
    assert (problem.residual(seen), problem.error(seen)) == (0.0, 1.0)
    hidden = problem.matrix - seen
    assert (problem.residual(hidden), problem.error(hidden)) == (1.0, 0.0)


@pytest.mark.parametrize("gamma", [None, 0.1])
def test_a_descent_is_gradient_descent_with_the_stated_step(gamma):
    problem = Matrix(15, 2, 0.6).drawn()
    objective = Completion(problem.matrix, problem.mask)
    network = DeepLinearNetwork([15] * 4, scale=0.5)
    if gamma is not None:
        network = compress(objective, depth=3, rank=2, scale=0.5, gamma=gamma, network=network)
    found = descend(network, problem, Effort(tolerance=0.0, max_steps=10, every=5, momentum=0.5))
    weights = [weight.clone().requires_grad_() for weight in network.weights]
    seen = torch.where(problem.mask, problem.matrix, 0.0)
    top = float(torch.linalg.matrix_norm(seen, 2)) / float(problem.mask.double().mean())
    step = 0.25 * 2 / (3 * float(problem.mask.double().mean()) * top ** (4 / 3))
    outer = {0, len(weights) - 1} if gamma is not None else set()
    speeds = [torch.zeros_like(weight) for weight in weights]
    for number in range(1, 11):
        product = torch.linalg.multi_dot(weights[::-1])
        loss = 0.5 * (product - problem.matrix)[problem.mask].square().sum()
        for index, slope in enumerate(torch.autograd.grad(loss, weights)):
            speeds[index] = 0.5 * speeds[index] + slope
            rate = gamma if index in outer else 1.0
            weights[index] = (weights[index] - rate * step * speeds[index]).detach().requires_grad_()
        if number % 5 == 0:
            product = torch.linalg.multi_dot(weights[::-1]).detach()
            row = found.path[number // 5 - 1]
            assert row["steps"] == number
            assert row["error"] == pytest.approx(problem.error(product), rel=1e-9)
            assert row["residual"] == pytest.approx(problem.residual(product), rel=1e-9)
    assert (found.steps, found.error) == (10, found.path[-1]["error"])


def test_it_ends_at_the_tolerance_and_tells_divergence():
    problem = Matrix(20, 1, 0.8).drawn()
    network = DeepLinearNetwork([20] * 3, scale=0.3)
    found = descend(network, problem, Effort(tolerance=1e-3, max_steps=5000))
    assert found.residual <= 1e-3 < found.path[-2]["residual"]
    assert found.first("residual", 0.1)["steps"] <= found.steps
    assert found.first("residual", 1e-9) is None
    wild = descend(network, problem, Effort(step=50.0))
    assert wild.error == wild.residual == math.inf
    assert (bounded(wild.error), bounded(math.nan), bounded(0.5)) == (1e6, 1e6, 0.5)


def test_thinned_paths_end_where_paths_end():
    path = tuple({"steps": number} for number in range(1000))
    kept = thinned(path, 50)
    assert kept[-1] == path[-1]
    assert kept[0] == path[0]
    assert len(kept) == 51
    assert thinned((), 5) == []


def test_other_matrices_are_refused():
    for matrix in (Matrix(10, 10, 0.5), Matrix(10, 2, 0.5, "square")):
        with pytest.raises(InputError, match="a kind among"):
            matrix.drawn()
