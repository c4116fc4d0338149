"""What each change of a point gains, against the same change made by general-purpose minimisers."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar

from tightframe.core.errors import InputError
from tightframe.ufm.certificate import certify
from tightframe.ufm.excess import decompose
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.solvers import solve

LOSSES = {"ce": "ce", "ls": CrossEntropy(0.1), "focal": Focal(2.0), "mse": "mse", "rescaled": SquaredError(4.0, 2.0)}
CLASSES = {"balanced": 5, "unequal": (7, 3, 5, 4)}
BIASES = ("none", "free", 0.3)
CASES = list(product(LOSSES, CLASSES, BIASES))


def place(loss, classes, bias, *, features=6):
    """A problem and a point such as a network gives: spread around class means, and the classifier not aligned."""
    problem = UnconstrainedFeatures(
        classes=4,
        features=features,
        per_class=CLASSES[classes],
        loss=LOSSES[loss],
        weight_decay=(0.02, 0.004),
        bias=bias,
    )
    draws = torch.Generator().manual_seed(11)
    W, means = (torch.randn(4, features, generator=draws, dtype=torch.float64) for _ in range(2))
    H = (W + 0.5 * means).T[:, problem.labels] + 0.4 * torch.randn(
        features, problem.samples, generator=draws, dtype=torch.float64
    )
    b = torch.randn(4, generator=draws, dtype=torch.float64)
    return problem, W, H, 0 * b if bias == "none" else b


def class_means(problem, H):
    return torch.stack([H[:, problem.labels == k].mean(1) for k in range(problem.classes)], 1)[:, problem.labels]


def best(function, low, high):
    """The minimum of a function of one number, from a grid and a refinement around its lowest point."""
    grid = np.linspace(low, high, 400)
    at = int(np.argmin([function(x) for x in grid]))
    bracket = (grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)])
    return minimize_scalar(function, bounds=bracket, method="bounded", options={"xatol": 1e-10}).fun


def by_search(problem, W, H, b):
    """The objective after every change alone, found without any formula for it."""
    low_w, low_h = problem.weight_decay
    decay = 0.0 if problem.bias == "none" else problem.bias_decay
    data = problem.objective(W, H, b) - 0.5 * (
        low_w * W.square().sum() + low_h * H.square().sum() + decay * b.square().sum()
    )
    nuclear = (low_w * low_h) ** 0.5 * torch.linalg.matrix_norm(W @ H, "nuc")
    found = {
        "class means": problem.objective(W, class_means(problem, H), b),
        "sizes": best(lambda s: problem.objective(np.exp(s) * W, H / np.exp(s), b), -4, 4),
        "alignment": float(data + nuclear + 0.5 * decay * b.square().sum()),
        "scale": best(lambda c: problem.objective(c**0.5 * W, c**0.5 * H, b), 0, 30),
    }
    if problem.bias != "none":
        found["bias"] = minimize(
            lambda bias: problem.objective(W, H, torch.from_numpy(bias)), b.numpy(), method="BFGS", tol=1e-9
        ).fun
    return found


@pytest.mark.parametrize(("loss", "classes", "bias"), CASES)
def test_every_change_alone_is_the_best_of_its_kind(loss, classes, bias):
    problem, *point = place(loss, classes, bias)
    changes = {change.name: change.alone for change in decompose(problem, *point, solve=False).changes}
    # The searches find their minima up to 1e-10 in the variable, so up to its square times the curvature in the value;
    # BFGS with differences of values stops at gradients near 1e-7.
    assert changes == pytest.approx(by_search(problem, *point), rel=1e-9)


@pytest.mark.parametrize(("loss", "classes", "bias"), CASES)
def test_the_objective_falls_with_every_change_and_stays_above_every_bound(loss, classes, bias):
    problem, *point = place(loss, classes, bias)
    excess = decompose(problem, *point)
    values = [excess.value, *(change.together for change in excess.changes)]
    assert excess.value == pytest.approx(problem.objective(*point), rel=1e-14)
    assert all(after <= before for before, after in pairwise(values))
    lone = decompose(problem, *point, solve=False)
    # The changed point is nearer to the minimum, and a better witness of it.
    assert lone.bound > certify(problem, *point).evidence["bound"]
    if excess.minimum is not None:
        assert excess.minimum.value <= values[-1] + 1e-12
        # Nothing is below a bound: not the minimum that was found, with a bound of its own.
        assert lone.bound <= excess.minimum.value + 1e-12
        assert excess.minimum.bound <= excess.minimum.value <= excess.minimum.bound + 1e-8
        assert excess.gap >= excess.value - excess.minimum.value - 1e-12
    # A loss that is not convex may leave more than its dual, and then no minimum is claimed.
    assert excess.minimum is not None or loss == "focal"


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_at_the_minimum_nothing_is_left_to_gain(loss, bias):
    problem = place(loss, "balanced", bias)[0]
    known = optimum(problem)
    point = known.point(seed=4)
    excess = decompose(problem, point.W, point.H, point.b)
    assert excess.certificate.holds
    assert (excess.minimum.source, excess.minimum.frame) == ("closed form", known.frame)
    assert excess.gap == pytest.approx(0, abs=1e-12)
    assert [change.together for change in excess.changes] == pytest.approx(
        [known.value] * len(excess.changes), rel=1e-12
    )
    # Near the minimum an error e of the value is one of about sqrt(e) of the logits.
    assert excess.distance == pytest.approx(0, abs=1e-6)
    assert excess.cosine == pytest.approx(1, abs=1e-12)
    # Slopes on the range of the logits equal the decay, none is above it.
    rank = int((torch.linalg.svdvals(excess.logits) > 1e-6).sum())
    assert rank >= 3
    assert excess.slopes[:rank].tolist() == pytest.approx([problem.nuclear_decay] * rank, rel=1e-6)


def closing(excess, name):
    """Share of the excess that a change closes, made after those before it."""
    values = [excess.value, *(change.together for change in excess.changes)]
    at = [change.name for change in excess.changes].index(name)
    return (values[at] - values[at + 1]) / (excess.value - excess.minimum.value)


def test_each_change_closes_what_it_is_for():
    problem, _, H, _ = place("ce", "balanced", "none")
    least = optimum(problem).point()
    assert closing(decompose(problem, 2 * least.W, 2 * least.H), "scale") == pytest.approx(1, abs=1e-9)
    assert closing(decompose(problem, 3 * least.W, least.H / 3), "sizes") == pytest.approx(1, abs=1e-9)
    spread = H - class_means(problem, H)
    assert closing(decompose(problem, least.W, least.H + spread), "class means") == pytest.approx(1, abs=1e-9)
    # A part of the classifier that no feature sees, with the sizes of W and H kept equal in the units of the decays.
    unseen = torch.linalg.svd(least.W).Vh[3:4]
    lengths = torch.tensor([[1.0], [-0.5], [2.0], [0.3]], dtype=torch.float64)
    found = decompose(problem, least.W + lengths @ unseen, least.H)
    assert closing(found, "sizes") + closing(found, "alignment") == pytest.approx(1, abs=1e-9)
    assert closing(found, "alignment") > 0.1
    problem = place("ce", "balanced", 0.3)[0]
    biased = decompose(problem, least.W, least.H, torch.tensor([1.0, -2.0, 0.5, 0.5], dtype=torch.float64))
    assert closing(biased, "bias") == pytest.approx(1, abs=1e-9)


def test_a_change_that_raises_a_loss_that_is_not_convex_is_not_made():
    """Focal loss is concave where the true class is unlikely: there its mean is below its value at the mean."""
    problem = UnconstrainedFeatures(classes=2, features=1, per_class=2, loss="focal", weight_decay=(1e-6, 1e-6))
    W = torch.tensor([[0.5], [-0.5]], dtype=torch.float64)
    H = torch.tensor([[-8.0, -3.0, 8.0, 3.0]], dtype=torch.float64)
    first = (excess := decompose(problem, W, H)).changes[0]
    assert first.alone > excess.value + 1e-3
    assert first.together == excess.value


def test_zero_is_a_point_like_others():
    """A saddle: no change of what is zero helps, the bias aside."""
    problem, W, H, b = place("ce", "unequal", "free")
    excess = decompose(problem, 0 * W, 0 * H, 0 * b)
    shares = torch.tensor(problem.counts, dtype=torch.float64) / problem.samples
    assert excess.changes[-1].together == pytest.approx(float(-(shares * shares.log()).sum()), rel=1e-12)
    assert excess.minimum.source == "solved"
    assert (excess.distance, excess.cosine) == (pytest.approx(1, abs=1e-12), None)
    # A factor that no logit feels is set to zero with the other.
    assert decompose(problem, W, 0 * H, 0 * b).changes[1].together == pytest.approx(excess.value, rel=1e-12)


def test_decay_that_leaves_only_zero():
    problem = UnconstrainedFeatures(classes=3, features=4, per_class=9, weight_decay=(0.5, 0.5))
    assert optimum(problem).frame == "zero"
    draw = problem.start(seed=0)
    excess = decompose(problem, draw.W, draw.H)
    assert excess.changes[-1].together == pytest.approx(excess.minimum.value, abs=1e-12)
    assert excess.changes[-1].name == "scale"
    assert (excess.distance, excess.cosine) == (None, None)


def test_fewer_dimensions_than_the_frame_needs():
    problem, W, H, _ = place("mse", "balanced", "none", features=2)
    excess = decompose(problem, W, H)
    assert (excess.minimum.frame, excess.certificate.kind) == ("projection", "closed form")
    # Any two of four equal directions: the logits have no one place to be.
    assert (excess.distance, excess.cosine) == (None, None)
    assert all(change.together >= excess.minimum.value - 1e-12 for change in excess.changes)
    problem, W, H, _ = place("ce", "balanced", "none", features=2)
    unknown = decompose(problem, W, H)
    assert unknown.minimum is None
    assert unknown.gap == unknown.value - unknown.bound


@pytest.mark.parametrize(("loss", "bias"), [("ce", "free"), ("mse", 0.3), ("ls", "none")])
def test_solving_agrees_with_a_random_start_and_with_the_closed_form(loss, bias):
    problem, *point = place(loss, "unequal", bias)
    found = decompose(problem, *point).minimum
    other = solve(problem, seed=3)
    assert found.value == pytest.approx(other.objective, abs=2e-9)
    means = class_means(problem, other.H)[:, torch.tensor(problem.counts).cumsum(0) - 1]
    # An error 1e-9 of the value leaves about its root in the logits.
    assert torch.allclose(found.logits, other.W @ means, atol=1e-3)
    assert torch.allclose(found.bias - found.bias.mean(), other.b - other.b.mean(), atol=1e-3)


def test_the_slopes_are_those_of_the_certificate():
    problem, *point = place("ce", "unequal", 0.3)
    excess = decompose(problem, *point, solve=False)
    assert excess.minimum is None
    assert float(excess.slopes[0]) == pytest.approx(excess.certificate.evidence["spectral norm"], rel=1e-12)
    assert len(excess.slopes) == 4


def test_columns_in_another_order_and_points_that_do_not_fit():
    problem, W, H, b = place("ce", "unequal", "free")
    order = torch.randperm(problem.samples, generator=torch.Generator().manual_seed(0))
    shuffled = decompose(problem, W, H[:, order], b, labels=problem.labels[order], solve=False)
    # Sums in another order.
    assert shuffled.value == pytest.approx(problem.objective(W, H, b), rel=1e-13)
    with pytest.raises(InputError, match="W has shape"):
        decompose(problem, W.T, H, b)
    with pytest.raises(InputError, match="W is finite"):
        decompose(problem, W.masked_fill(W > 1, torch.nan), H, b)
