"""`solve`: certified minima for every model, and a status that says so only where it is so."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.ufm.certificate import certify
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.solvers import solve

LOSSES = ["ce", "ls", "focal", "mse", SquaredError(4.0, 2.0), CrossEntropy(0.5), Focal(0.5)]
BIASES = ["none", "free", 0.07]


def problem(loss="ce", bias="none", *, classes=4, features=6, per_class=5, decay=(2e-2, 5e-3)):
    return UnconstrainedFeatures(
        classes=classes, features=features, per_class=per_class, loss=loss, weight_decay=decay, bias=bias
    )


def assert_honest(model, solution):
    """What is returned is what the point says of itself."""
    point = solution.W, solution.H, solution.b
    again = certify(model, *point, tolerance=solution.certificate.tolerance)
    assert solution.objective == pytest.approx(model.objective(*point), rel=1e-14)
    assert solution.certificate.evidence["value"] == solution.objective
    assert solution.certificate.gap == pytest.approx(again.gap, abs=1e-14, rel=1e-9)
    assert solution.status.converged == solution.certificate.holds == again.holds
    assert ("direction" in solution.certificate.evidence) == (not again.holds)
    gaps = solution.trace["gap"]
    assert min(gaps) >= -1e-13
    assert solution.trace["step"] == sorted(solution.trace["step"])
    assert solution.trace["step"][0] == 0


@pytest.mark.parametrize("features", [3, 4, 9])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_closed_form_is_found_and_certified(loss, bias, features):
    model = problem(loss, bias, features=features)
    known = optimum(model)
    if not known.known:
        return
    solution = solve(model, seed=features)
    assert_honest(model, solution)
    assert solution.status.outcome == "converged"
    assert 0 <= solution.objective - known.value + 1e-14 <= 1e-9 + 1e-14
    assert (solution.W.shape, solution.H.shape, solution.b.shape) == ((4, features), (features, 20), (4,))
    # Within 1e-9 of a minimum where f grows at least as lambda |x|^2.
    found = solution.W @ solution.H[:, ::5]
    if known.unique:
        assert torch.allclose(found, known.logits, atol=2e-3)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_unequal_classes_are_certified_without_a_closed_form(loss, bias):
    model = problem(loss, bias, per_class=(1, 7, 3, 3))
    values = []
    for seed in range(2):
        solution = solve(model, seed=seed)
        assert_honest(model, solution)
        assert solution.status.outcome == "converged"
        values.append(solution.objective)
    assert values[0] == pytest.approx(values[1], abs=1e-9)
    if optimum(model).known:
        assert values[0] == pytest.approx(optimum(model).value, abs=1e-9)


@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_features_of_a_class_come_together(loss):
    # Each has its own column in the focal model, which is not convex.
    model = problem(loss, "free", per_class=(2, 7, 3, 3))
    H = solve(model, seed=1, tolerance=1e-12).H
    for k in range(4):
        columns = H[:, model.labels == k]
        assert float((columns - columns.mean(1, keepdim=True)).abs().max()) < 1e-5


@pytest.mark.parametrize("max_iterations", [1, 2, 7])
@pytest.mark.parametrize("loss", ["ce", "focal", "mse"])
def test_a_spent_budget_is_admitted(loss, max_iterations):
    model = problem(loss, "free")
    solution = solve(model, max_iterations=max_iterations)
    assert_honest(model, solution)
    assert solution.status.outcome == "budget spent"
    assert solution.status.message.endswith(f"after {max_iterations} steps; raise max_iterations")
    assert f"{solution.certificate.gap:.2e}" in solution.status.message
    assert solution.certificate.gap > 1e-9
    assert solution.certificate.evidence["direction"].kind == "gradient"
    assert max(solution.trace["step"]) == max_iterations


def test_a_looser_tolerance_stops_earlier():
    model = problem("ce", classes=10, features=12, decay=(1e-3, 1e-3))
    loose, tight = solve(model, tolerance=1e-2), solve(model, tolerance=1e-11)
    assert loose.status.converged
    assert tight.status.converged
    assert 1e-9 < loose.certificate.gap <= 1e-2
    assert tight.certificate.gap <= 1e-11
    assert max(loose.trace["step"]) < max(tight.trace["step"])


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", ["ce", "ls", "focal", "mse"])
def test_saddles_are_left(loss, bias):
    model = problem(loss, bias)
    best = optimum(model)
    zero = Point(torch.zeros(4, 6), torch.zeros(6, 20), best.bias)
    # The same on one axis only, a subspace that gradients do not leave.
    axis = dataclasses.replace(model, features=1)
    flat = solve(axis, seed=0, max_iterations=300)
    low = Point(torch.cat([flat.W, torch.zeros(4, 5)], dim=1), torch.cat([flat.H, torch.zeros(5, 20)]), flat.b)
    for start in (zero, low):
        solution = solve(model, start=start)
        assert_honest(model, solution)
        assert solution.status.converged
        assert solution.objective == pytest.approx(best.value, abs=1e-9)


def test_fewer_dimensions_than_the_frame_needs():
    # Squared error has a closed form; the others stop at a critical point and say that they cannot know.
    solution = solve(problem("mse", features=2))
    assert solution.status.converged
    assert solution.certificate.kind == "closed form"
    for loss in ("ce", "focal"):
        model = problem(loss, features=2)
        solution = solve(model)
        assert_honest(model, solution)
        assert solution.status.outcome == "stalled"
        assert "d = 2 below K = 4" in solution.status.message
        assert solution.certificate.evidence["gradient norm"] < 1e-6
        assert solution.certificate.evidence["direction"] is None


@pytest.mark.parametrize("loss", ["ce", "ls", "focal", "mse"])
def test_decay_above_the_threshold_ends_at_zero(loss):
    solution = solve(problem(loss, "free", decay=(1.0, 1.0)))
    assert solution.status.converged
    assert float(solution.W.abs().max()) < 1e-4
    assert float(solution.H.abs().max()) < 1e-4


def test_where_focal_loss_has_no_certificate_none_is_claimed():
    # t (K - 1) = 1.05: the best bound of any plane is below every point.
    model = problem("focal", classes=10, features=10, per_class=1, decay=(1.05 / 9, 1.05 / 9))
    solution = solve(model)
    assert_honest(model, solution)
    assert solution.status.outcome == "stalled"
    assert solution.objective < model.objective(0 * solution.W, 0 * solution.H) - 1e-3


@pytest.mark.parametrize(("classes", "features", "per_class"), [(2, 1, 1), (2, 5, 3), (3, 2, 1), (30, 40, 2)])
def test_small_and_larger_sizes(classes, features, per_class):
    model = problem("ce", "free", classes=classes, features=features, per_class=per_class, decay=(1e-3, 1e-3))
    solution = solve(model)
    assert solution.status.converged
    assert solution.objective == pytest.approx(optimum(model).value, abs=1e-9)


def test_a_seed_fixes_the_solution_and_the_global_state_is_left_alone():
    model = problem("ce", 0.1)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one = solve(model, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(solve(model, seed=3).W, one.W)
    assert not torch.allclose(solve(model, seed=4).W, one.W)
    start = model.start(seed=3)
    before = [getattr(start, name).clone() for name in "WHb"]
    assert torch.equal(solve(model, start=start).W, one.W)
    assert all(torch.equal(getattr(start, name), old) for name, old in zip("WHb", before, strict=True))


def test_what_is_observed_enters_the_trace():
    model, seen = problem("ce", "free"), []

    def observe(step, point):
        seen.append(step)
        assert (point.W.shape, point.H.shape, point.b.shape) == ((4, 6), (6, 20), (4,))
        return {"norm": float(point.W.norm()), "objective again": model.objective(point.W, point.H, point.b)}

    solution = solve(model, observe=observe)
    trace = solution.trace
    assert seen == trace["step"]
    assert trace.names == ("step", "objective", "gap", "norm", "objective again")
    assert trace["objective again"] == pytest.approx(trace["objective"], rel=1e-14)
    assert trace["norm"][-1] == pytest.approx(float(solution.W.norm()), rel=1e-14)
    assert trace["objective"][-1] == solution.objective
    # Descent throughout, from the class means of the start on.
    start = model.start(seed=0)
    assert trace["objective"][0] < model.objective(start.W, start.H, start.b)
    # The Newton steps look at the gradient: the objective may rise by its rounding.
    assert all(after <= before * (1 + 1e-15) for before, after in pairwise(trace["objective"]))


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e3])
def test_starts_of_every_size(scale):
    model = problem("ce", "free")
    solution = solve(model, start=model.start(scale=scale))
    assert solution.status.converged
    assert solution.objective == pytest.approx(optimum(model).value, abs=1e-9)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_a_start_beyond_the_numbers_is_not_a_success(loss):
    model = problem(loss)
    solution = solve(model, start=model.start(scale=1e300), max_iterations=50)
    assert not solution.status.converged
    assert solution.status.outcome == "diverged"
    assert "start nearer to zero" in solution.status.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": Point(torch.full((4, 6), math.nan), torch.ones(6, 20), torch.zeros(4))}, "W is finite; got NaN"),
        ({"start": Point(torch.ones(4, 5), torch.ones(5, 20), torch.zeros(4))}, r"W has shape \(4, 6\)"),
        ({"start": Point(torch.ones(4, 6), torch.ones(6, 20), torch.ones(4))}, "no bias in this problem"),
        ({"tolerance": 0.0}, "a tolerance above zero; got 0.0"),
        ({"tolerance": -1e-9}, "a tolerance above zero"),
        ({"tolerance": math.nan}, "a tolerance above zero; got nan"),
        ({"max_iterations": 0}, "max_iterations is an integer of at least 1; got 0"),
        ({"max_iterations": 10.5}, "max_iterations is an integer"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        solve(problem(), **options)
