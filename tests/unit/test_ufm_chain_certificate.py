"""Bounds on chains: below every point, tight where they are proven to be."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.ufm.chain_certificate import certify_deep, norm_bound, nuclear_norms
from tightframe.ufm.chain_solvers import solve_deep
from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError


def chain(factors=3, **changes):
    usual = {"classes": 4, "widths": (8,) * (factors - 1), "per_class": 3, "decays": (2e-3,) * factors}
    return DeepUnconstrainedFeatures(**usual | changes)


@pytest.mark.parametrize("activation", ["identity", "relu"])
@pytest.mark.parametrize("loss", ["mse", "ce", "ls"])
@pytest.mark.parametrize("factors", [2, 3, 5])
def test_the_bound_is_below_what_is_found(activation, loss, factors):
    problem = chain(factors, activation=activation, loss=loss)
    lowest = min(solve_deep(problem, seed=seed, max_iterations=100).objective for seed in range(3))
    points = [problem.start(seed=seed, scale=0.5) for seed in range(20)]
    lowest = min(lowest, *(problem.objective(point) for point in points))
    bound = norm_bound(problem)
    assert 0 < bound <= lowest + 1e-14
    for point in points[:3]:
        certificate = certify_deep(problem, point)
        assert certificate.gap >= problem.objective(point) - lowest - 1e-14
        assert certificate.kind == ("closed form" if deep_optimum(problem).known else "norm bound")


@pytest.mark.parametrize("loss", ["mse", "ce", "ls"])
def test_two_factors_reach_the_norm_bound(loss):
    problem = chain(2, loss=loss)
    assert norm_bound(problem) == pytest.approx(deep_optimum(problem).value, rel=1e-12)


def test_the_bound_holds_for_the_nuclear_norm_of_any_product():
    """What it rests on: |W_M H_M|_* is at most the product of the Frobenius norms, with ReLU too."""
    for seed in range(50):
        problem = chain(4, activation="relu", per_class=1)
        point = problem.start(seed=seed)
        nuclear = torch.linalg.matrix_norm(point.weights[0] @ problem.levels(point)[-1], "nuc")
        product = torch.stack([torch.linalg.matrix_norm(factor) for factor in point.factors]).prod()
        assert nuclear <= product


def test_a_minimum_in_closed_form_is_certified_and_a_point_beside_it_is_not():
    problem = chain(3)
    best = deep_optimum(problem).point()
    held = certify_deep(problem, best)
    assert held.holds
    assert abs(held.gap) < 1e-15
    assert held.evidence["gradient norm"] < 1e-14
    beside = DeepPoint(best.weights, 1.1 * best.H)
    missed = certify_deep(problem, beside)
    assert not missed.holds
    assert missed.gap == pytest.approx(problem.objective(beside) - problem.objective(best), rel=1e-9)


def test_relu_reports_the_nuclear_norms_and_the_collapsed_value():
    problem = chain(3, activation="relu")
    certificate = certify_deep(problem, deep_optimum(problem).point())
    evidence = certificate.evidence
    assert not certificate.holds
    assert evidence["nuclear norm before"] == pytest.approx(evidence["nuclear norm after"], rel=1e-13)
    assert evidence["value"] == pytest.approx(evidence["collapsed"], rel=1e-13)
    random = problem.start(seed=1)
    before = random.weights[1] @ random.H
    norms = nuclear_norms(problem, random)
    assert norms["nuclear norm before"] == pytest.approx(float(torch.linalg.svdvals(before).sum()))
    assert norms["nuclear norm after"] == pytest.approx(float(torch.linalg.svdvals(before.relu()).sum()))


@pytest.mark.parametrize(
    "problem",
    [chain(3, loss="focal"), chain(3, loss="ce", per_class=(1, 2, 3, 4)), chain(3, loss=SquaredError(scale=2.0))],
)
def test_without_a_bound_there_is_no_certificate(problem):
    assert norm_bound(problem) is None
    assert certify_deep(problem, problem.start()) is None


def test_one_layer_has_no_activation_to_compare():
    problem = chain(2, activation="relu")
    with pytest.raises(InputError, match="two layers"):
        nuclear_norms(problem, problem.start())
