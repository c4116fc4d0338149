"""The solver on spheres: certified from any start, out of saddles, honest where it stops early."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.geometry.frames import ideal_gram
from tightframe.ufm.losses import CrossEntropy, Focal
from tightframe.ufm.model import Point
from tightframe.ufm.normalized import NormalizedFeatures
from tightframe.ufm.normalized_optima import normalized_optimum
from tightframe.ufm.normalized_saddles import merged_classes, opposite_features, polygon, single_classifier
from tightframe.ufm.normalized_solvers import solve_normalized


def model(classes=4, features=6, temperature=3.0, counts=3, loss="ce"):
    return NormalizedFeatures(classes=classes, features=features, per_class=counts, temperature=temperature, loss=loss)


@pytest.mark.parametrize("method", ["trust-regions", "conjugate-gradients"])
@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(0.05), Focal(1.0)], ids=lambda loss: loss.name)
def test_it_finds_the_simplex_and_certifies_it(method, loss):
    problem = model(loss=loss)
    solution = solve_normalized(problem, seed=1, method=method)
    assert solution.status.converged, solution.status
    assert solution.certificate.kind == "closed form"
    assert solution.certificate.gap <= 1e-9
    assert solution.objective == pytest.approx(problem.objective(solution.W, solution.H), abs=1e-15)
    # A gap of g leaves an error of about sqrt(g) in the cosines.
    assert torch.allclose(solution.W @ solution.W.T, ideal_gram(4), atol=1e-4)
    assert torch.allclose(solution.H, solution.W.T[:, problem.labels], atol=1e-4)
    assert set(solution.certificate.evidence) >= {"gradient norm", "smallest eigenvalue", "dual gap"}
    assert abs(solution.certificate.evidence["smallest eigenvalue"]) < 1e-8


def test_the_trace_is_that_of_the_descent():
    seen = []
    solution = solve_normalized(
        model(), seed=0, observe=lambda step, point: seen.append(point.H.shape) or {"row": float(point.W[0, 0])}
    )
    assert solution.trace.names == ("step", "objective", "gradient norm", "row")
    assert solution.trace["step"] == list(range(len(solution.trace)))
    assert len(seen) == len(solution.trace)
    assert solution.trace["objective"][-1] == pytest.approx(solution.objective, abs=1e-15)
    start = model().start(seed=0)
    assert solution.trace["row"][0] == pytest.approx(float(start.W[0, 0]), abs=1e-15)


@pytest.mark.parametrize(
    "build",
    [
        lambda problem: single_classifier(problem),
        lambda problem: merged_classes(problem, 1),
        lambda problem: merged_classes(problem, 2),
        lambda problem: polygon(problem),
        lambda problem: opposite_features(problem, 3),
    ],
)
@pytest.mark.parametrize("method", ["trust-regions", "conjugate-gradients"])
def test_it_leaves_saddles_where_it_starts_at_one(build, method):
    problem = model(counts=8)
    solution = solve_normalized(problem, start=build(problem), method=method)
    assert solution.status.converged, solution.status
    assert solution.objective == pytest.approx(normalized_optimum(problem).value, abs=1e-9)


def test_the_same_seed_gives_the_same_solution():
    one, two = (solve_normalized(model(), seed=5) for _ in range(2))
    assert torch.equal(one.W, two.W)
    assert not torch.equal(one.W, solve_normalized(model(), seed=6).W)


def test_a_spent_budget_says_so_and_shows_a_way_down():
    solution = solve_normalized(model(), seed=0, max_iterations=2)
    assert solution.status.outcome == "budget spent"
    assert "max_iterations" in solution.status.message
    assert not solution.certificate.holds
    assert solution.certificate.evidence["direction"].kind == "gradient"
    assert solution.certificate.gap > 1e-3


def test_a_local_minimum_is_not_called_a_solution():
    """For K = 3 in the plane, at tau = 15, one start in two ends at a minimum that is not global."""
    problem = model(3, 2, 15.0, 5)
    solutions = [solve_normalized(problem, seed=seed) for seed in range(4)]
    stuck = [solution for solution in solutions if not solution.certificate.holds]
    assert stuck
    for solution in stuck:
        assert solution.status.outcome == "stalled"
        assert "local minimum" in solution.status.message
        assert solution.certificate.evidence["direction"] is None
        assert solution.certificate.evidence["gradient norm"] < 1e-9
        assert solution.certificate.evidence["smallest eigenvalue"] > -1e-10
        assert solution.certificate.gap > 1e-2


def test_too_few_dimensions_leave_a_bound_and_say_so():
    problem = model(6, 3, 2.0, 2)
    solution = solve_normalized(problem, seed=0)
    assert solution.status.outcome == "stalled"
    assert solution.certificate.kind == "dual gap"
    assert solution.certificate.gap > 0
    assert solution.objective > normalized_optimum(problem).bound


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tolerance": 0.0}, "tolerance"),
        ({"gradient_tolerance": -1.0}, "tolerance"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"method": "adam"}, "trust-regions"),
        ({"start": Point(torch.eye(6)[:4], torch.full((6, 12), float("nan")), torch.zeros(4))}, "NaN"),
        ({"start": Point(torch.eye(6)[:4], torch.eye(6), torch.zeros(4))}, "shape"),
    ],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(InputError, match=words):
        solve_normalized(model(), **arguments)
