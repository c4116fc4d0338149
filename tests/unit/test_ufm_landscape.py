"""Derivatives beside autograd on the model itself, curvatures beside the whole Hessian, and the kinds of points."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ufm import UnconstrainedFeatures, optimum, solve
from tightframe.ufm.critical_points import symmetric_point
from tightframe.ufm.landscape import Landscape, classify
from tightframe.ufm.model import Point
from tightframe.ufm.normal_form import NormalForm

LOSSES = ("ce", "ls", "focal", "mse")
BIASES = ("none", "free", 0.02)
UNEVEN = (3, 1, 2)


def small(**changes) -> UnconstrainedFeatures:
    given = {"classes": 3, "features": 4, "per_class": 2, "weight_decay": (3e-2, 1e-2)}
    return UnconstrainedFeatures(**given | changes)


def objective(problem: UnconstrainedFeatures, W: Tensor, H: Tensor, b: Tensor) -> Tensor:
    """The model written out with the losses of torch."""
    logits = (W @ H + b[:, None]).T
    name = {"cross-entropy": "ce", "label smoothing 0.1": "ls", "focal 2": "focal"}.get(problem.loss.name, "mse")
    y = problem.labels
    if name == "mse":
        data = 0.5 * (logits - functional.one_hot(y, problem.classes)).square().sum(1).mean()
    elif name == "focal":
        log = torch.log_softmax(logits, 1).gather(1, y[:, None])[:, 0]
        data = (-((1 - log.exp()) ** 2) * log).mean()
    else:
        data = functional.cross_entropy(logits, y, label_smoothing=0.1 if name == "ls" else 0.0)
    lW, lH = problem.weight_decay
    decay = problem.bias_decay if problem.bias != "none" else 0.0
    return data + lW / 2 * W.square().sum() + lH / 2 * H.square().sum() + decay / 2 * b.square().sum()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("counts", [2, UNEVEN])
def test_products_and_directions_are_those_of_autograd(loss: str, bias, counts) -> None:
    problem = small(loss=loss, bias=bias, per_class=counts)
    at, along = problem.start(seed=1), torch.randn(200, dtype=torch.float64, generator=generator(2))
    landscape = Landscape(NormalForm.of_point(problem, at))
    x = landscape.vector
    v = along[: len(x)]
    move = landscape.direction(v)
    leaves = [part.clone().requires_grad_() for part in (at.W, at.H, at.b)]
    moves = [move.W, move.H, move.b]
    value = objective(problem, *leaves)
    slopes = torch.autograd.grad(value, leaves, create_graph=True)
    slope = sum((a * m).sum() for a, m in zip(slopes, moves, strict=True))
    bends = torch.autograd.grad(slope, leaves)
    bend = sum((a * m).sum() for a, m in zip(bends, moves, strict=True))
    found, gradient = landscape.value(x)
    # Sums of a few hundred products of order 1 to 10: rounding of about 1e-14.
    assert found == pytest.approx(float(value.detach()), abs=1e-13)
    assert float(gradient @ v) == pytest.approx(float(slope.detach()), abs=1e-11)
    assert float(landscape.product(x, v) @ v) == pytest.approx(float(bend), abs=1e-11)
    assert torch.equal(landscape.gradient(x), gradient)
    # The size counts b only where there is one.
    assert len(x) == 3 * 4 + 4 * problem.samples + (0 if bias == "none" else 3)


@pytest.mark.parametrize("which", ["smallest", "largest"])
def test_extreme_curvatures_are_those_of_the_whole_hessian(which: str) -> None:
    problem = small(loss="ls", bias="free")
    landscape = Landscape(NormalForm.of_point(problem, problem.start(seed=3)))
    x = landscape.vector
    hessian = torch.stack([landscape.product(x, e) for e in torch.eye(len(x), dtype=torch.float64)])
    expected = torch.linalg.eigvalsh(hessian)
    found = landscape.extreme(count=4, which=which)
    torch.testing.assert_close(found.values, expected[:4] if which == "smallest" else expected.flip(0)[:4])


def whole_hessian(problem: UnconstrainedFeatures, point: Point) -> Tensor:
    """With one column per sample, whether or not they coincide."""
    form = NormalForm.of_point(problem, problem.point(point.W, point.H, point.b))
    ratio = (problem.weight_decay[0] / problem.weight_decay[1]) ** 0.25
    labels = problem.labels
    ones = torch.ones(len(labels), dtype=torch.float64)
    landscape = Landscape(NormalForm(problem, ones, labels, form.A, point.H / ratio, point.b))
    x = landscape.vector
    return torch.stack([landscape.product(x, e) for e in torch.eye(len(x), dtype=torch.float64)])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("counts", [2, UNEVEN])
def test_the_smallest_eigenvalue_is_that_of_all_columns(loss: str, bias, counts) -> None:
    problem = small(loss=loss, bias=bias, per_class=counts)
    for point in (
        symmetric_point(problem, rank=0).point,
        symmetric_point(problem, rank=1).point,
        solve(problem, seed=0).variables,
        problem.start(seed=5),
    ):
        point = Point(**point) if not isinstance(point, Point) else point
        expected = torch.linalg.eigvalsh(whole_hessian(problem, point))
        assert classify(problem, point).smallest == pytest.approx(float(expected[0]), abs=1e-12 * float(expected[-1]))


def test_one_column_for_a_class_loses_no_curvature_of_a_loss_that_is_not_convex() -> None:
    # Focal loss bends down where p is small: here spreading the samples of a class lowers the objective.
    problem = UnconstrainedFeatures(classes=2, features=1, per_class=3, loss="focal", weight_decay=(1e-3, 1e-3))
    point = Point(*(torch.tensor(part).double() for part in ([[4.0], [-4.0]], [[-0.75] * 3 + [0.75] * 3], [0.0, 0.0])))
    values, vectors = torch.linalg.eigh(whole_hessian(problem, point))
    spread = vectors[2:5] - vectors[2:5].mean(0)  # of the three samples of class 0
    assert float(values[spread.norm(dim=0) > 0.5].min()) < -0.1
    assert classify(problem, point).smallest == pytest.approx(float(values[0]), abs=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("features", [2, 3, 6])
def test_closed_forms_are_global(loss: str, bias, features: int) -> None:
    problem = small(loss=loss, bias=bias, features=features, per_class=5, weight_decay=(5e-3, 1e-3))
    best = optimum(problem)
    if (loss, bias, features) == ("mse", 0.02, 2):  # the only one of these without a closed form
        assert not best.known
        return
    found = classify(problem, best.point())
    assert found.kind == "global"
    assert found.direction is None
    # Second order: no direction bends down, up to rounding of a Hessian of norm below 10.
    assert found.smallest > -1e-13
    assert found.value == pytest.approx(best.value, abs=1e-13)


def test_a_random_point_is_not_critical_and_its_way_down_is_the_gradient() -> None:
    problem = small()
    found = classify(problem, problem.start(seed=0))
    assert found.kind == "not critical"
    assert found.direction.kind == "gradient"
    assert found.gradient_norm > 1e-3


def test_a_local_minimum_below_the_dimension_of_the_simplex_is_other() -> None:
    # K = 4 in the plane: a square, which second derivatives cannot tell from a minimum, and no bound reaches.
    problem = UnconstrainedFeatures(classes=4, features=2, per_class=10, weight_decay=(5e-3, 5e-4))
    solution = solve(problem, seed=0)
    found = classify(problem, Point(solution.W, solution.H, solution.b))
    assert found.kind == "other"
    assert found.smallest > -1e-12
    assert found.excess > 1e-4
    assert found.certificate.gap > 1e-3
    assert found.direction is None


def test_a_saddle_whose_classifier_has_no_null_space_is_left_along_an_eigenvector() -> None:
    # Squared error in d = 3 < K with unequal classes: keeping the wrong singular vector leaves W of full rank.
    problem = UnconstrainedFeatures(
        classes=4, features=3, per_class=(20, 10, 10, 5), loss="mse", weight_decay=(5e-3, 5e-4)
    )
    found = symmetric_point(problem, groups=[(1, 2)])
    assert int(torch.linalg.matrix_rank(found.point.W)) == 3
    assert found.kind == "strict saddle"
    way = found.direction
    assert way.kind == "negative curvature"
    assert way.predicted is None
    assert abs(way.slope) < 1e-12
    step = 1e-3
    moved = problem.objective(found.point.W + step * way.W, found.point.H + step * way.H, found.point.b + step * way.b)
    # Fourth-order terms are about step^2 of the decrease.
    assert (moved - found.value) / (step**2 / 2) == pytest.approx(way.curvature, rel=1e-4)
    # A unit eigenvector: its curvature is the eigenvalue.
    assert way.curvature == pytest.approx(found.smallest, rel=1e-10)


def test_the_same_point_with_noise_below_the_tolerance_keeps_its_kind() -> None:
    problem = small(per_class=5, weight_decay=(5e-3, 1e-3))
    found = symmetric_point(problem, rank=1)
    noise = torch.randn(found.point.H.shape, dtype=torch.float64, generator=generator(0))
    moved = classify(problem, Point(found.point.W, found.point.H + 1e-10 * noise, found.point.b))
    assert (moved.kind, moved.smallest) == ("strict saddle", pytest.approx(found.smallest, rel=1e-6))


def test_bad_input() -> None:
    problem = small()
    start = problem.start()
    with pytest.raises(InputError, match="W has shape"):
        classify(problem, Point(start.W.T, start.H, start.b))
    with pytest.raises(InputError, match="finite"):
        classify(problem, Point(start.W * float("nan"), start.H, start.b))
