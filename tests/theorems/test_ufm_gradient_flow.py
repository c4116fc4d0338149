"""What theory says of the way down: how fast the last phase is, where the descent ends, where it is slow."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.ufm.dynamics import descend
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.optima import optimum


def small(**changes) -> UnconstrainedFeatures:
    settings = {"classes": 3, "features": 6, "per_class": 4, "loss": "mse", "weight_decay": (5e-2, 2e-3)} | changes
    return UnconstrainedFeatures(**settings)


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_the_objective_falls_at_twice_the_decay_of_the_features_in_the_end(loss):
    """Features orthogonal to the classifier are invisible to the loss: they shrink by 1 - step lambda_H per step."""
    problem, step = small(loss=loss), 0.3
    solution = descend(problem, step=step, steps=14_000, every=2000, metrics=False)
    excess = [value - optimum(problem).value for value in solution.trace["objective"]]
    rate = math.log(excess[-2] / excess[-1]) / 2000
    # The next slower mode has gone by then; the excess, 1e-10 or so, is known up to 1e-16.
    assert excess[-1] > 1e-13
    assert rate == pytest.approx(-2 * math.log1p(-step * problem.weight_decay[1]), rel=1e-3)


def test_with_a_free_bias_a_shift_of_all_features_falls_slower_still():
    """The bias undoes the shift for the loss and must follow it: 1 - step lambda_H / (1 + w^2/N) per step."""
    problem, step = small(bias="free"), 0.3
    best = optimum(problem).point()
    squared = float(torch.linalg.svdvals(best.W)[0]) ** 2
    shift = 1e-3 * best.W[0]
    start = Point(best.W, best.H + shift[:, None], best.b - best.W @ shift)
    trace = descend(
        problem,
        start=start,
        step=step,
        steps=2000,
        every=1000,
        metrics=False,
        observe=lambda _, point: {"mean": float(point.H.mean(1) @ shift)},
    ).trace
    rate = math.log(trace["mean"][1] / trace["mean"][2]) / 1000
    # To first order in step and shift.
    assert rate == pytest.approx(step * problem.weight_decay[1] / (1 + squared / problem.samples), rel=2e-3)


@pytest.mark.parametrize("bias", [0.2, 1.0, 5.0])
def test_descent_finds_the_frame_between_for_a_regularised_bias(bias):
    problem = small(weight_decay=(2e-2, 5e-3), bias=bias)
    best = optimum(problem)
    assert best.frame == "between"
    solution = descend(problem, step=0.3, steps=8000, metrics=False)
    assert solution.objective - best.value < 1e-8
    torch.testing.assert_close(solution.W @ solution.H[:, ::4], best.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(solution.b, best.bias, atol=1e-4, rtol=0)


def test_close_above_the_edge_the_simplex_is_a_saddle_left_slowly():
    """Along the ones the features grow from zero at the rate step lambda_H ((lambda_b/((1+lambda_b) c))^2 - 1)."""
    problem = small(weight_decay=(0.5, 1e-4), bias=0.08)
    c = 3 * 2 * problem.nuclear_decay
    relative = (0.08 / (1.08 * c)) ** 2 - 1
    exact = optimum(small(weight_decay=(0.5, 1e-4), bias="free")).point()
    ones = torch.ones(3, dtype=torch.float64) / 3
    direction = torch.linalg.svd(exact.W).Vh[-1]  # orthogonal to the simplex
    tiny = 1e-7
    start = Point(exact.W, exact.H + tiny * direction[:, None], ones / 1.08)
    trace = descend(
        problem,
        start=start,
        step=0.1,
        steps=4000,
        every=2000,
        metrics=False,
        observe=lambda _, point: {"mean": float(point.H.mean(1) @ direction)},
    ).trace
    # W and b follow the features at once, for their decay is 800 times that of the features and more.
    assert math.log(trace["mean"][2] / trace["mean"][1]) / 2000 == pytest.approx(0.1 * 1e-4 * relative, rel=0.01)


def test_the_factors_become_balanced():
    """lambda_W W^T W - lambda_H H H^T vanishes at every critical point."""
    problem = small(loss="ce", bias="free", per_class=(2, 5, 3), weight_decay=(2e-2, 5e-3))
    solution = descend(problem, step=0.5, steps=12_000, every=6000, metrics=False)
    difference = (
        problem.weight_decay[0] * solution.W.T @ solution.W - problem.weight_decay[1] * solution.H @ solution.H.T
    )
    assert float(difference.abs().max()) < 1e-7


@pytest.mark.parametrize("algorithm", ["sgd", "adam"])
def test_other_algorithms_reach_the_same_frame(algorithm):
    problem = small(loss="ce", weight_decay=(5e-2, 1e-2))
    settings = {"sgd": {"step": 0.1, "batch_size": 6, "momentum": 0.9}, "adam": {"step": 0.003}}[algorithm]
    solution = descend(problem, algorithm=algorithm, steps=8000, every=4000, seed=1, **settings)
    best = optimum(problem)
    # SGD ends in noise of the order of its step, which here is about a hundredth of the objective.
    near = {"sgd": 3e-2, "adam": 1e-6}[algorithm]
    assert solution.objective - best.value < near * best.value
    assert solution.trace["NC2 features"][-1] < 0.1
    assert solution.trace["gap"][-1] >= solution.objective - best.value - 1e-15
