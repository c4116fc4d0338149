"""Solvers of chains: they reach what is proven, say what is not, and never end in silence."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.ufm.chain_descent import descend_deep
from tightframe.ufm.chain_solvers import class_means, disturbed, explore_deep, solve_deep
from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures


def chain(factors=3, **changes):
    usual = {"classes": 4, "widths": (8,) * (factors - 1), "per_class": 3, "decays": (5e-3,) * factors}
    return DeepUnconstrainedFeatures(**usual | changes)


@pytest.mark.parametrize("factors", [2, 3, 4, 5])
@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize("per_class", [3, (6, 5, 4, 3)])
def test_linear_squared_error_is_solved_to_a_certificate(factors, collapse, per_class):
    problem = chain(factors, per_class=per_class, decays=tuple(2e-3 / 3**i for i in range(factors)))
    solution = solve_deep(problem, seed=1, starts=5, collapse=collapse)
    assert solution.status.converged
    assert solution.certificate.holds
    assert solution.objective == problem.objective(problem.point_of(solution))
    assert solution.trace["objective"][0] > solution.trace["objective"][-1]
    columns = solution.H1
    spread = columns - class_means(problem, columns)[:, problem.labels]
    # An excess of 1e-9 over a curvature of lambda_H/2 leaves at most sqrt(2e-9/lambda_H).
    assert float(spread.norm()) <= (0 if collapse else (2e-9 / problem.decays[-1]) ** 0.5) + 1e-14


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_more_starts_are_never_worse(activation):
    problem = chain(4, activation=activation, loss="ce")
    one, five = (solve_deep(problem, seed=2, starts=starts, max_iterations=80) for starts in (1, 5))
    assert five.objective <= one.objective
    again = solve_deep(problem, seed=2, starts=5, max_iterations=80)
    assert again.objective == five.objective


def test_a_start_at_the_saddle_of_zero_stays_there_and_says_so():
    problem = chain(3)
    zero = DeepPoint(tuple(torch.zeros_like(W) for W in problem.start().weights), torch.zeros(8, 12))
    solution = solve_deep(problem, start=zero)
    assert solution.status.outcome == "stalled"
    assert "saddle or a local minimum" in solution.status.message
    assert solution.certificate.gap == pytest.approx(0.5 - deep_optimum(problem).value)


def test_a_short_budget_is_named():
    solution = solve_deep(chain(3), max_iterations=3)
    assert solution.status.outcome == "budget spent"
    assert "after 3 steps" in solution.status.message
    assert solution.trace["step"][-1] == 3
    assert solve_deep(chain(3, loss="ce"), max_iterations=25).status.outcome == "budget spent"


def test_where_no_minimum_is_known_the_status_says_so():
    solution = solve_deep(chain(3, loss="ce"), seed=0)
    assert solution.status.converged
    assert "no minimum is known" in solution.status.message
    assert not solution.certificate.holds
    assert solve_deep(chain(3, loss="focal"), seed=0, max_iterations=200).certificate is None


def test_start_of_your_own_is_taken_at_its_class_means():
    problem = chain(3)
    start = problem.start(seed=4, scale=0.3)
    means = class_means(problem, start.H)
    torch.testing.assert_close(means[:, 1], start.H[:, 3:6].mean(1))
    assert class_means(problem, means) is means
    solution = solve_deep(problem, start=start, max_iterations=1)
    assert solution.trace["objective"][0] == pytest.approx(problem.objective(DeepPoint(start.weights, means)))
    own = solve_deep(problem, start=start, max_iterations=1, collapse=False)
    assert own.trace["objective"][0] == pytest.approx(problem.objective(start))
    short = solve_deep(problem, start=DeepPoint(start.weights, means), max_iterations=1, collapse=False)
    assert short.trace["objective"][0] == pytest.approx(solution.trace["objective"][0])


def test_exploring_falls_round_by_round_and_repeats():
    problem = chain(4, loss="ce", classes=6, widths=(6, 6, 6), per_class=1)
    start = problem.start(seed=0, scale=0.3)
    first, again = (explore_deep(problem, start, rounds=4, seed=3, max_iterations=60) for _ in range(2))
    values = first.trace["objective"]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)
    assert values[-1] == first.objective == again.objective
    assert first.objective <= solve_deep(problem, start=start, max_iterations=60).objective


def test_noise_is_relative_to_every_factor():
    problem = chain(3, widths=(80, 90), per_class=20)
    point = problem.start(scale=(1.0, 10.0, 100.0))
    moved = disturbed(point, 0.2, draws=torch.Generator().manual_seed(0))
    for before, after in zip(point.factors, moved.factors, strict=True):
        # 320 entries or more.
        assert float((after - before).std() / before.std()) == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_descent_takes_the_steps_of_its_definition(activation):
    problem = chain(3, activation=activation)
    seen = []
    solution = descend_deep(
        problem, step=0.2, steps=5, seed=6, every=2, observe=lambda step, point: seen.append(step) or {"two": 2.0}
    )
    point = problem.start(seed=6, scale=0.1)
    for _ in range(5):
        slopes = problem.gradient(point)[1].factors
        *weights, H = (a - 0.2 * b for a, b in zip(point.factors, slopes, strict=True))
        point = DeepPoint(tuple(weights), H)
    for found, expected in zip(problem.point_of(solution).factors, point.factors, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-16)
    assert seen == solution.trace["step"] == [0, 2, 4, 5]
    assert solution.trace["two"] == [2.0] * 4
    assert solution.trace["objective"][-1] == solution.objective == pytest.approx(problem.objective(point))
    assert solution.status.outcome == "budget spent"


def test_descent_leaves_its_start_alone_and_converges():
    problem = chain(3, per_class=1, decays=(5e-2,) * 3)
    start = problem.start(seed=0, scale=0.5)
    kept = start.H.clone()
    solution = descend_deep(problem, start=start, step=0.5, steps=4000)
    assert torch.equal(start.H, kept)
    assert solution.status.converged
    assert solution.certificate.holds
    assert solution.trace["step"][:4] == [0, 1, 2, 3]
    assert len(solution.trace) < 100


def test_descent_that_diverges_returns_its_last_sound_point():
    problem = chain(3)
    solution = descend_deep(problem, step=50.0, steps=400, start=problem.start(scale=1.0))
    assert solution.status.outcome == "diverged"
    assert "make step smaller" in solution.status.message
    assert bool(torch.isfinite(solution.W1).all())
    assert solution.objective == solution.trace["objective"][-1]
    with pytest.raises(InputError, match="finite objective"):
        descend_deep(problem, steps=3, start=problem.start(scale=1e40))


def test_bad_input_is_refused():
    problem = chain(3)
    for bad in ({"starts": 0}, {"max_iterations": 0}, {"tolerance": 0.0}, {"tolerance": float("nan")}):
        with pytest.raises(InputError):
            solve_deep(problem, **bad)
    for bad in ({"rounds": 0}, {"noise": 0.0}, {"noise": float("inf")}):
        with pytest.raises(InputError):
            explore_deep(problem, problem.start(), **bad)
    for bad in ({"step": 0.0}, {"step": float("nan")}, {"steps": 0}, {"every": 0}):
        with pytest.raises(InputError):
            descend_deep(problem, **bad)
    with pytest.raises(InputError, match="H1"):
        solve_deep(problem, start=chain(3, per_class=2).start())
