"""The model and its normal form: the direct formula, its derivatives by autograd, and every kind of bad input."""

from __future__ import annotations

import dataclasses
import math
import pickle

import pytest
import torch
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm

LOSSES = ["ce", "ls", "focal", "mse", SquaredError(5.0, 2.0)]
BIASES = ["none", "free", 0.03]
COUNTS = [3, (1, 2, 5, 3)]

every_problem = pytest.mark.parametrize(
    "problem",
    [
        UnconstrainedFeatures(classes=4, features=5, per_class=counts, loss=loss, weight_decay=(5e-2, 2e-3), bias=bias)
        for loss in LOSSES
        for bias in BIASES
        for counts in COUNTS
    ],
    ids=lambda p: f"{p.loss.name}-{p.bias}-{'equal' if p.balanced else 'unequal'}",
)


def mean_loss(problem, logits, labels):
    """The data term written out, with nothing of the library's losses."""
    loss = problem.loss
    if isinstance(loss, CrossEntropy):
        return functional.cross_entropy(logits.T, labels, label_smoothing=loss.smoothing)
    if isinstance(loss, Focal):
        log_share = functional.log_softmax(logits, dim=0)[labels, torch.arange(len(labels))]
        return -((1 - log_share.exp()) ** loss.gamma * log_share).mean()
    wanted = loss.target * functional.one_hot(labels, problem.classes).T.double()
    weights = 1 + (loss.scale - 1) * (wanted > 0)
    return 0.5 * (weights * (logits - wanted).square()).sum() / len(labels)


def objective(problem, W, H, b, labels=None):
    labels = problem.labels if labels is None else labels
    decay_b = 0.0 if isinstance(problem.bias, str) else problem.bias
    decays = zip((*problem.weight_decay, decay_b), (W, H, b), strict=True)
    return mean_loss(problem, W @ H + b[:, None], labels) + sum(0.5 * lam * x.square().sum() for lam, x in decays)


def of_form(form, A, B, b):
    """The objective as a function of the variables of the normal form."""
    problem = form.problem
    ratio = (problem.weight_decay[0] / problem.weight_decay[1]) ** 0.25
    H = ratio * B / form.multiplicity.sqrt()
    H = H if H.shape[1] == problem.samples and not form.collapsed else H[:, problem.labels]
    return objective(problem, A / ratio, H, b)


def class_means(problem, H):
    return torch.stack([H[:, problem.labels == k].mean(1) for k in range(problem.classes)], dim=1)


def forms(problem, seed=0):
    """A spread-out point and a collapsed one."""
    spread = problem.start(seed=seed)
    collapsed = Point(spread.W, class_means(problem, spread.H)[:, problem.labels], spread.b)
    return [NormalForm.of_point(problem, point) for point in (spread, collapsed)]


@every_problem
def test_the_value_is_the_formula(problem):
    for seed in range(3):
        point = problem.start(seed=seed)
        expected = float(objective(problem, point.W, point.H, point.b))
        assert problem.objective(point.W, point.H, point.b) == pytest.approx(expected, rel=1e-13)
    for form in forms(problem):
        point = form.point
        expected = float(objective(problem, point.W, point.H, point.b))
        assert float(form.value) == pytest.approx(expected, rel=1e-13)
        assert float(form.data_value(form.logits) + form.penalty) == pytest.approx(expected, rel=1e-13)


@every_problem
def test_the_gradient_is_autograds(problem):
    for form in forms(problem):
        variables = [x.clone().requires_grad_(True) for x in (form.A, form.B, form.b)]
        expected = torch.autograd.grad(of_form(form, *variables), variables)
        value, *gradient = form.gradient()
        assert float(value) == pytest.approx(of_form(form, *variables).item(), rel=1e-13)
        for name, one, two in zip("ABb", gradient, expected, strict=True):
            two = torch.zeros_like(two) if name == "b" and problem.bias == "none" else two
            assert torch.allclose(one, two, rtol=1e-11, atol=1e-14), name


@every_problem
def test_second_derivatives_are_autograds(problem):
    draws = generator(5)
    for form in forms(problem):
        direction = [torch.randn(x.shape, dtype=torch.float64, generator=draws) for x in (form.A, form.B, form.b)]
        if problem.bias == "none":
            direction[2] = torch.zeros_like(direction[2])
        variables = [x.clone().requires_grad_(True) for x in (form.A, form.B, form.b)]
        first = torch.autograd.grad(of_form(form, *variables), variables, create_graph=True)
        along = sum((a * b).sum() for a, b in zip(first, direction, strict=True))
        expected = list(torch.autograd.grad(along, variables))
        if problem.bias == "none":
            expected[2] = torch.zeros_like(expected[2])
        found = form.second(*direction)
        for name, one, two in zip("ABb", found, expected, strict=True):
            assert torch.allclose(one, two, rtol=1e-10, atol=1e-13), name
        curvature = sum(float((a * b).sum()) for a, b in zip(expected, direction, strict=True))
        assert form.curvature_along(*direction) == pytest.approx(curvature, rel=1e-10)


@pytest.mark.parametrize("bias", ["none", "free", 0.1])
def test_a_direction_in_an_absent_bias_counts_for_nothing(bias):
    problem = UnconstrainedFeatures(classes=3, features=2, bias=bias)
    form = NormalForm.of_point(problem, problem.start())
    zeros, ones = (torch.zeros_like(form.A), torch.zeros_like(form.B)), torch.arange(3).double()
    assert (form.curvature_along(*zeros, ones) == 0) == (bias == "none")
    assert (float(form.second(*zeros, ones)[2].norm()) == 0) == (bias == "none")
    assert (float(form.gradient()[3].norm()) == 0) == (bias == "none")


@every_problem
def test_a_point_survives_the_normal_form(problem):
    for form in forms(problem):
        again = NormalForm.of_point(problem, form.point)
        for one, two in zip((form.A, form.B, form.b), (again.A, again.B, again.b), strict=True):
            assert torch.allclose(one, two, rtol=1e-14, atol=0)
    start = problem.start(seed=3)
    back = NormalForm.of_point(problem, start).point
    for name in "WHb":
        assert torch.allclose(getattr(back, name), getattr(start, name), rtol=1e-14, atol=0)


@every_problem
def test_one_column_per_class_only_where_features_are_exactly_equal(problem):
    spread, collapsed = forms(problem)
    assert collapsed.B.shape == (5, 4)
    assert collapsed.multiplicity.tolist() == list(problem.counts)
    assert spread.B.shape == (5, problem.samples)
    point = collapsed.point
    nudged = point.H.clone()
    nudged[0, -1] += 1e-14
    assert NormalForm.of_point(problem, Point(point.W, nudged, point.b)).B.shape == (5, problem.samples)


@every_problem
def test_collapsing_takes_class_means_and_lowers_convex_objectives(problem):
    start = problem.start(seed=2)
    form = NormalForm.of_point(problem, start, collapse=True)
    means = class_means(problem, start.H)
    assert torch.allclose(form.point.H, means[:, problem.labels], rtol=1e-13, atol=1e-15)
    if problem.loss.convex:
        # Jensen, with the decay of the features strictly convex.
        assert float(form.value) < problem.objective(start.W, start.H, start.b)


@every_problem
def test_at_a_collapsed_point_both_forms_have_one_gradient(problem):
    collapsed = forms(problem)[1]
    ratio = (problem.weight_decay[0] / problem.weight_decay[1]) ** 0.25
    point, ones = collapsed.point, torch.ones(problem.samples, dtype=torch.float64)
    full = NormalForm(problem, ones, problem.labels, ratio * point.W, point.H / ratio, point.b)
    _, A, B, b = collapsed.gradient()
    _, A_full, B_full, b_full = full.gradient()
    assert torch.allclose(A, A_full, rtol=1e-11, atol=1e-14)
    assert torch.allclose(b, b_full, rtol=1e-11, atol=1e-14)
    assert torch.allclose((B / collapsed.multiplicity.sqrt())[:, problem.labels], B_full, rtol=1e-11, atol=1e-14)
    if problem.loss.convex:
        # Directions within the classes, which the collapsed form leaves out, bend upward at least as the decay does.
        draws = generator(0)
        for _ in range(5):
            noise = torch.randn(full.B.shape, dtype=torch.float64, generator=draws)
            noise -= class_means(problem, noise)[:, problem.labels]
            bend = full.curvature_along(torch.zeros_like(full.A), noise, torch.zeros_like(full.b))
            assert bend >= problem.nuclear_decay * float(noise.square().sum()) * (1 - 1e-12)
            across = full.second(torch.zeros_like(full.A), noise, torch.zeros_like(full.b))
            # Nor do they interact with what the collapsed form keeps.
            assert float(across[0].abs().max()) < 1e-13
            assert float(across[2].abs().max()) < 1e-13


@every_problem
def test_another_bias_at_the_same_factors(problem):
    if problem.bias == "none":
        return
    form = forms(problem)[0]
    b = torch.arange(4).double()
    one, two = form.with_bias(b), form.moved(form.A, form.B, b)
    assert float(one.value) == pytest.approx(float(two.value), rel=1e-14)
    assert torch.allclose(one.logits, two.logits, rtol=1e-13)
    assert torch.allclose(one.bias_gradient, two.bias_gradient, rtol=1e-11, atol=1e-15)
    assert torch.equal(form.b, forms(problem)[0].b)


def test_labels_in_any_order():
    problem = UnconstrainedFeatures(classes=3, features=4, per_class=(2, 5, 3), weight_decay=(1e-2, 1e-2), bias=0.1)
    order = torch.randperm(10, generator=generator(1))
    start, labels = problem.start(), problem.labels
    point = problem.point(start.W, start.H[:, order], start.b, labels=labels[order])
    # Within a class the order of arrival is kept.
    assert float(objective(problem, point.W, point.H, point.b)) == pytest.approx(
        float(objective(problem, start.W, start.H[:, order], start.b, labels[order])), rel=1e-13
    )
    for k in range(3):
        assert torch.equal(point.H[:, labels == k], start.H[:, order][:, labels[order] == k])
    assert torch.equal(problem.point(start.W, start.H, start.b, labels=labels.int()).H, start.H)


def test_what_a_problem_says_of_itself():
    problem = UnconstrainedFeatures(classes=3, features=2, per_class=[4, 4, 1], weight_decay=(4e-2, 1e-2), bias="free")
    assert (problem.samples, problem.balanced, problem.counts) == (9, False, (4, 4, 1))
    assert problem.labels.tolist() == [0] * 4 + [1] * 4 + [2]
    assert problem.nuclear_decay == pytest.approx(0.02)
    assert [dataclasses.replace(problem, bias=b).bias_decay for b in ("none", "free", 0.5)] == [math.inf, 0.0, 0.5]
    equal = UnconstrainedFeatures(classes=3, features=2, per_class=4)
    assert equal.balanced
    assert equal == UnconstrainedFeatures(classes=3, features=2, per_class=4, loss=CrossEntropy())
    assert hash(problem) == hash(dataclasses.replace(problem))
    assert pickle.loads(pickle.dumps(problem)) == problem
    assert dataclasses.replace(problem, per_class=2).counts == (2, 2, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.classes = 4


def test_starts_are_seeded_normal_and_leave_the_global_state_alone():
    problem = UnconstrainedFeatures(classes=20, features=30, per_class=20, bias="free")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    start = problem.start(seed=4, scale=0.5)
    assert torch.equal(torch.rand(3), expected)
    for name in "WHb":
        value = getattr(start, name)
        assert torch.equal(value, getattr(problem.start(seed=4, scale=0.5), name))
        assert not torch.equal(value, getattr(problem.start(seed=5, scale=0.5), name))
    # Standard deviation of a sample standard deviation: s/sqrt(2 m).
    assert float(start.H.std()) == pytest.approx(0.5, abs=4 * 0.5 / (2 * start.H.numel()) ** 0.5)
    assert not dataclasses.replace(problem, bias="none").start().b.any()


def test_points_are_brought_to_float64_and_cut_from_autograd():
    problem = UnconstrainedFeatures(classes=3, features=2, per_class=2, bias="free")
    W, H, b = torch.ones(3, 2, requires_grad=True), torch.ones(2, 6).half(), torch.ones(3)
    point = problem.point(W, H, b)
    assert {x.dtype for x in (point.W, point.H, point.b)} == {torch.float64}
    assert not point.W.requires_grad
    assert not problem.point(W, H).b.any()


def test_nothing_is_written_into_a_point():
    problem = UnconstrainedFeatures(classes=3, features=2, per_class=2, weight_decay=(1e-2, 1e-2), bias=0.1)
    start = problem.start()
    before = [getattr(start, name).clone() for name in "WHb"]
    form = NormalForm.of_point(problem, start)
    form.gradient()
    form.second(form.A, form.B, form.b)
    form.curvature_along(form.A, form.B, form.b)
    assert all(torch.equal(getattr(start, name), old) for name, old in zip("WHb", before, strict=True))


GOOD = {"classes": 3, "features": 2, "per_class": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "classes is an integer of at least 2; got 1"),
        ({"classes": 2.5}, "classes is an integer"),
        ({"features": 0}, "features is an integer of at least 1; got 0"),
        ({"features": -3}, "got -3"),
        ({"per_class": 0}, r"per_class\[0\] is an integer of at least 1; got 0"),
        ({"per_class": [2, 0, 1]}, r"per_class\[1\] is an integer of at least 1; got 0"),
        ({"per_class": [2, -1, 1]}, r"per_class\[1\].*got -1"),
        ({"per_class": [2, 2]}, "one for each of 3 classes; got 2 numbers"),
        ({"per_class": 2.0}, r"per_class\[0\] is an integer of at least 1; got 2.0"),
        ({"per_class": True}, "got True"),
        ({"per_class": None}, "got None"),
        ({"weight_decay": (-1e-3, 1e-3)}, r"both above zero; got \(-0.001, 0.001\)"),
        ({"weight_decay": (1e-3, 0.0)}, "both above zero"),
        ({"weight_decay": (1e-3, math.nan)}, "both above zero"),
        ({"weight_decay": (math.inf, 1e-3)}, "both above zero"),
        ({"weight_decay": 1e-3}, "both above zero; got 0.001"),
        ({"weight_decay": (1e-3,)}, "both above zero"),
        ({"bias": "some"}, "got 'some'"),
        ({"bias": -1.0}, "coefficient above zero; got -1.0"),
        ({"bias": 0.0}, '"free" for a coefficient of 0'),
        ({"bias": math.nan}, "got nan"),
        ({"bias": math.inf}, "got inf"),
        ({"bias": True}, "got True"),
        ({"bias": None}, "got None"),
        ({"loss": "l2"}, "a loss of this model; got 'l2'"),
    ],
)
def test_bad_problems(changes, message):
    with pytest.raises(InputError, match=message):
        UnconstrainedFeatures(**(GOOD | changes))


W, H, B = torch.ones(3, 2), torch.ones(2, 6), torch.ones(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((W.T, H, B), r"W has shape \(3, 2\); got \(2, 3\)"),
        ((W, H[:, :5], B), r"H has shape \(2, 6\); got \(2, 5\)"),
        ((W, H.T, B), r"H has shape"),
        ((W, H, B[:2]), r"b has shape \(3,\); got \(2,\)"),
        ((W, H, torch.tensor(1.0)), r"b has shape \(3,\); got \(\)"),
        ((W, H * math.nan, B), "H is finite; got NaN"),
        ((W * math.inf, H, B), "W is finite; got inf"),
        ((W.long(), H, B), "W is a floating-point tensor; got dtype torch.int64"),
        ((W, H.tolist(), B), "H is a floating-point tensor; got list"),
        ((W, H + 0j, B), "got dtype torch.complex64"),
    ],
)
def test_bad_points(arguments, message):
    problem = UnconstrainedFeatures(**GOOD, bias="free")
    with pytest.raises(InputError, match=message):
        problem.point(*arguments)
    with pytest.raises(InputError, match=message):
        problem.objective(*arguments)


def test_a_bias_where_there_is_none():
    with pytest.raises(InputError, match=r'no bias in this problem; got a bias.*bias="free"'):
        UnconstrainedFeatures(**GOOD).point(W, H, B)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 0, 1, 1, 2]), r"shape \(n,\) = \(6,\)"),
        (torch.tensor([0, 0, 0, 1, 2, 2]), r"counts \[2, 2, 2\]; got labels with counts \[3, 1, 2\].*bincount"),
        (torch.tensor([0, 0, 1, 1, 2, 3]), r"\[0, 3\); got values from 0 to 3"),
        (torch.tensor([0, 0, 1, 1, 2, -1]), "values from -1 to 2"),
        (torch.tensor([0, 0, 1, 1, 2, 2.5]), "integer tensor"),
        ([0, 0, 1, 1, 2, 2], "got list"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(InputError, match=message):
        UnconstrainedFeatures(**GOOD).point(W, H, labels=labels)
