"""Training dynamics of the model: gradients by autograd, steps by torch.optim, honest statuses."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from tightframe.collapse.evaluate import evaluate_layer
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments
from tightframe.optimize.first_order import Momentum
from tightframe.ufm.dynamics import collapse_metrics, descend
from tightframe.ufm.gradient import FreeGradient
from tightframe.ufm.losses import Focal, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.optima import optimum

# Two orders of summation over a few hundred terms of order one.
ROUNDING = 1e-13
LOSSES = ["ce", "ls", "mse", SquaredError(scale=3.0, target=2.0), "focal", Focal(0.5)]
SMALL = UnconstrainedFeatures(classes=3, features=4, per_class=(5, 2, 4), weight_decay=(3e-2, 2e-3))


def with_loss(loss, bias="none", **changes) -> UnconstrainedFeatures:
    settings = {"classes": 3, "features": 4, "per_class": (5, 2, 4), "weight_decay": (3e-2, 2e-3)} | changes
    return UnconstrainedFeatures(loss=loss, bias=bias, **settings)


def objective(problem, W, H, b, batch=None):
    """From the definition: the mean loss over a batch, and the decay of its features, each N/B times."""
    batch = torch.arange(problem.samples) if batch is None else batch
    decay_W, decay_H = problem.weight_decay
    features = H[:, batch]
    data = problem.loss.value(W @ features + b[:, None], problem.labels[batch]).mean()
    decay = 0.5 * decay_W * W.square().sum()
    decay = decay + 0.5 * decay_H * problem.samples / len(batch) * features.square().sum()
    return data + decay + (0.5 * problem.bias_decay * b.square().sum() if problem.bias != "none" else 0.0)


def parameters(problem, seed=0) -> list[nn.Parameter]:
    start = problem.start(seed=seed)
    return [nn.Parameter(value.clone()) for value in (start.W, start.H, start.b)]


@pytest.mark.parametrize("bias", ["none", "free", 0.3])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("batch", [None, [7, 0, 4, 10]])
def test_the_gradient_is_that_of_autograd(loss, bias, batch):
    problem = with_loss(loss, bias)
    values = parameters(problem)
    batch = None if batch is None else torch.tensor(batch)
    objective(problem, *values, batch).backward()
    free = FreeGradient(problem, problem.start(seed=0))
    found = free.everywhere() if batch is None else free.at(batch)
    wanted = torch.cat([value.grad.flatten() for value in (values if bias != "none" else values[:2])])
    torch.testing.assert_close(found, wanted, rtol=ROUNDING, atol=ROUNDING)


def test_the_mean_over_all_batches_is_the_gradient():
    problem = with_loss("ce", 0.3)
    free = FreeGradient(problem, problem.start(seed=0))
    batches = torch.combinations(torch.arange(problem.samples), 3)
    mean = sum(free.at(batch).clone() for batch in batches) / len(batches)
    torch.testing.assert_close(mean, free.everywhere(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", ["none", "free", 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_is_that_of_torch(bias, momentum):
    problem = with_loss("ce", bias)
    values = parameters(problem)
    optimiser = torch.optim.SGD(values if bias != "none" else values[:2], lr=0.5, momentum=momentum)
    for _ in range(40):
        optimiser.zero_grad()
        objective(problem, *values).backward()
        optimiser.step()
    found = descend(problem, step=0.5, steps=40, momentum=momentum, seed=0)
    for name, value in zip("WHb", values, strict=True):
        torch.testing.assert_close(found.variables[name], value.detach(), rtol=1e-12, atol=1e-12)


def test_adam_is_that_of_torch():
    problem = with_loss("mse", "free")
    values = parameters(problem)
    optimiser = torch.optim.Adam(values, lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        objective(problem, *values).backward()
        optimiser.step()
    found = descend(problem, algorithm="adam", step=0.01, steps=40, seed=0)
    for name, value in zip("WHb", values, strict=True):
        torch.testing.assert_close(found.variables[name], value.detach(), rtol=1e-12, atol=1e-12)


def test_sgd_is_that_of_torch_on_the_same_batches():
    problem = with_loss("ce", "free")
    values = parameters(problem, seed=5)
    optimiser = torch.optim.SGD(values, lr=0.2, momentum=0.8)
    draws, taken = generator(6), 0
    for _ in range(4):
        for batch in torch.randperm(11, generator=draws)[:9].split(3):  # two of eleven are left over in each pass
            optimiser.zero_grad()
            objective(problem, *values, batch).backward()
            optimiser.step()
            taken += 1
    found = descend(problem, algorithm="sgd", step=0.2, steps=taken, momentum=0.8, batch_size=3, seed=5)
    for name, value in zip("WHb", values, strict=True):
        torch.testing.assert_close(found.variables[name], value.detach(), rtol=1e-12, atol=1e-12)


def test_columns_outside_of_the_batches_do_not_move():
    start = SMALL.start(seed=1)
    moved = descend(SMALL, algorithm="sgd", step=0.2, steps=1, batch_size=2, start=start).H != start.H
    assert moved.any(0).sum() == 2


def test_samples_of_a_class_move_on_their_own():
    H = descend(SMALL, steps=5).H
    assert not torch.allclose(H[:, 0], H[:, 1], rtol=1e-3)


def test_the_same_seed_gives_the_same_numbers_and_the_start_is_left_alone():
    start = SMALL.start(seed=4)
    copy = Point(start.W.clone(), start.H.clone(), start.b.clone())
    first, again = (
        descend(SMALL, algorithm="sgd", steps=7, batch_size=4, start=start, seed=9, metrics=False) for _ in range(2)
    )
    other = descend(SMALL, algorithm="sgd", steps=7, batch_size=4, start=start, seed=8, metrics=False)
    assert torch.equal(first.H, again.H)
    assert not torch.equal(first.H, other.H)
    assert all(torch.equal(getattr(start, name), getattr(copy, name)) for name in "WHb")


def test_the_trace_holds_objective_gap_and_metrics_at_the_steps_asked_for():
    seen = []
    solution = descend(
        SMALL, steps=10, every=4, seed=2, observe=lambda step, point: seen.append(point) or {"seen": 1.0}
    )
    trace = solution.trace
    assert trace["step"] == [0, 4, 8, 10]
    assert trace["seen"] == [1.0] * 4
    assert trace["objective"] == pytest.approx([SMALL.objective(point.W, point.H) for point in seen], rel=1e-14)
    assert all(gap >= 0 for gap in trace["gap"])
    for name, value in collapse_metrics(seen[2], SMALL.labels).items():
        assert trace[name][2] == value, name
    assert torch.equal(solution.H, seen[-1].H)
    assert solution.objective == trace["objective"][-1]


def test_without_metrics_only_objective_and_gap_are_traced():
    assert descend(SMALL, steps=3, metrics=False).trace.names == ("step", "objective", "gap")


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_observed_steps_spread_over_the_decades(steps):
    observed = descend(SMALL, steps=steps, metrics=False).trace["step"]
    assert observed[0] == 0
    assert observed[-1] == steps
    assert observed == sorted(set(observed))
    assert len(observed) <= 2 + 25 * math.log10(max(steps, 2)) + 1
    assert all(b - a <= 1 + 0.1 * a for a, b in pairwise(observed))


def test_a_converged_run_is_certified_and_has_the_value_of_the_closed_form():
    problem = with_loss("mse", "free", per_class=5, weight_decay=(5e-2, 1e-2))
    solution = descend(problem, step=0.5, steps=5000)
    assert solution.status.converged
    assert solution.certificate.holds
    assert solution.objective - optimum(problem).value <= solution.certificate.gap + 1e-15
    assert solution.trace["NC1"][-1] < 1e-9


def test_a_short_run_says_that_its_budget_is_spent_and_how_far_it_is():
    solution = descend(SMALL, steps=3)
    assert solution.status.outcome == "budget spent"
    assert not solution.status.converged
    assert "raise steps" in str(solution.status)
    assert solution.certificate.gap == solution.trace["gap"][-1] > 1e-9
    assert solution.certificate.evidence["direction"].slope < 0


def test_an_objective_that_rose_is_said_to_have():
    # One step across a valley whose curvature is about |h|^2 / N.
    problem = with_loss("mse", weight_decay=(1e-4, 1e-4))
    solution = descend(problem, step=30.0, steps=1)
    assert solution.status.outcome == "budget spent"
    assert "above that of the start: make step smaller" in solution.status.message


@pytest.mark.parametrize("steps", [40, 2000])
def test_divergence_is_detected_and_the_last_finite_point_returned(steps):
    problem = with_loss("mse", "free")
    solution = descend(problem, step=1e3, steps=steps)
    assert solution.status.outcome == "diverged"
    assert "make step smaller" in solution.status.message
    assert solution.trace["step"][-1] < 40
    assert all(math.isfinite(value) for value in solution.trace["objective"])
    assert all(bool(torch.isfinite(value).all()) for value in solution.variables.values())
    assert solution.objective == pytest.approx(problem.objective(solution.W, solution.H, solution.b), rel=1e-12)
    assert not solution.certificate.holds


def test_divergence_ends_the_run_long_before_the_next_look(monkeypatch):
    taken, move = [], Momentum.move

    def counted(self, *arguments):
        taken.append(1)
        move(self, *arguments)

    monkeypatch.setattr(Momentum, "move", counted)
    solution = descend(with_loss("mse"), step=1e3, steps=10_000, every=10_000)
    assert solution.status.outcome == "diverged"
    assert len(taken) <= 256


def test_a_start_beyond_the_numbers_is_divergence_at_once():
    start = SMALL.start(scale=1e170)
    solution = descend(SMALL, steps=5, start=start)
    assert solution.status.outcome == "diverged"
    assert solution.certificate is None
    assert torch.equal(solution.W, start.W)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"step": 0.0}, "a step above zero"),
        ({"step": -1.0}, "a step above zero"),
        ({"step": math.nan}, "a step above zero"),
        ({"steps": 0}, "steps is an integer"),
        ({"every": 0}, "every is an integer"),
        ({"algorithm": "newton"}, "algorithm is"),
        ({"algorithm": "sgd"}, "a batch_size for SGD"),
        ({"algorithm": "sgd", "batch_size": 12}, "at most N = 11"),
        ({"algorithm": "sgd", "batch_size": 0}, "batch_size is an integer"),
        ({"algorithm": "adam", "batch_size": 99}, "at most N = 11"),
        ({"batch_size": 4}, "no batches in gradient descent"),
        ({"momentum": 1.0}, "momentum in"),
        ({"algorithm": "adam", "momentum": 0.9}, "no momentum with Adam"),
    ],
)
def test_what_cannot_be_run_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        descend(SMALL, **({"steps": 2} | wrong))


def test_a_start_with_nan_or_of_another_shape_is_refused():
    start = SMALL.start()
    broken = start.W.clone()
    broken[0, 0] = math.nan
    with pytest.raises(InputError, match="W is finite"):
        descend(SMALL, steps=2, start=replace(start, W=broken))
    with pytest.raises(InputError, match="H has shape"):
        descend(SMALL, steps=2, start=replace(start, H=start.H[:, 1:]))


def test_collapse_metrics_are_those_of_a_layer():
    point = SMALL.start(seed=3)
    moments = ClassMoments(3)
    moments.update(point.H.T, SMALL.labels)
    layer = evaluate_layer(moments, weight=point.W, bias=point.b)
    found = collapse_metrics(point, SMALL.labels)
    assert {name: measured.value for name, measured in layer.measurements.items()} == {
        name: value for name, value in found.items() if name not in ("NC3 Tirer-Bruna", "NC4")
    }
    means = torch.stack([point.H[:, SMALL.labels == k].mean(1) for k in range(3)])
    brute = point.W / point.W.norm() - means / means.norm()
    assert found["NC3 Tirer-Bruna"] == pytest.approx(float(brute.norm()), rel=1e-13)
    nearest = torch.cdist(point.H.T, means).argmin(1)
    assert found["NC4"] == float(((point.W @ point.H).argmax(0) != nearest).double().mean())
    shifted = collapse_metrics(replace(point, b=torch.tensor([0.0, 0.0, 1e9])), SMALL.labels)
    assert shifted["NC4"] == float((nearest != 2).double().mean())
    assert shifted["bias collapse"] > 1e8


def test_what_is_undefined_at_zero_is_left_out():
    zero = Point(*(torch.zeros(shape, dtype=torch.float64) for shape in ((3, 4), (4, 11), (3,))))
    found = collapse_metrics(zero, SMALL.labels)
    assert "NC1" not in found
    assert "NC3 Tirer-Bruna" not in found
    assert all(math.isfinite(value) for value in found.values())
