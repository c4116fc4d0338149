"""The extended model: objective, gradient and levels against their definitions; bad input."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures

COUNTS = [(2, 2, 2), (1, 4, 2)]


def model(**changes):
    usual = {"classes": 3, "widths": (5, 4, 6), "per_class": 2, "decays": (0.1, 0.2, 0.3, 0.05)}
    return DeepUnconstrainedFeatures(**usual | changes)


def by_definition(problem, weights, H):
    """Sample by sample, with autograd's own operations."""
    total, column = 0.0, 0
    for k, count in enumerate(problem.counts):
        for _ in range(count):
            h = H[:, column]
            for W in reversed(weights[1:]):
                h = torch.relu(W @ h) if problem.activation == "relu" else W @ h
            z = weights[0] @ h
            total = total + problem.loss.value(z[:, None], torch.tensor([k]))[0] / problem.samples
            column += 1
    for decay, factor in zip(problem.decays, (*weights, H), strict=True):
        total = total + decay / 2 * (factor**2).sum()
    return total


@pytest.mark.parametrize("activation", ["identity", "relu"])
@pytest.mark.parametrize("loss", ["mse", "ce", "ls", "focal"])
@pytest.mark.parametrize("counts", COUNTS)
def test_objective_and_gradient_are_those_of_the_definition(activation, loss, counts):
    problem = model(activation=activation, loss=loss, per_class=counts)
    factors = [factor.requires_grad_() for factor in problem.start(seed=3).factors]
    expected = by_definition(problem, factors[:-1], factors[-1])
    slopes = torch.autograd.grad(expected, factors)
    value, gradient = problem.gradient(DeepPoint(tuple(f.detach() for f in factors[:-1]), factors[-1].detach()))
    # Sums of some tens of terms of order one to ten.
    torch.testing.assert_close(value, expected.detach(), rtol=1e-13, atol=0)
    for found, slope in zip(gradient.factors, slopes, strict=True):
        torch.testing.assert_close(found, slope, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("counts", COUNTS)
def test_a_column_per_class_stands_for_all_its_samples(counts):
    problem = model(activation="relu", per_class=counts)
    means = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = problem.start().weights
    short, long = DeepPoint(weights, means), DeepPoint(weights, means[:, problem.labels])
    assert problem.objective(short) == pytest.approx(problem.objective(long), rel=1e-14)
    few, many = (problem.gradient(point)[1] for point in (short, long))
    torch.testing.assert_close(few.weights, many.weights, rtol=1e-12, atol=1e-14)
    summed = torch.zeros_like(means).index_add_(1, problem.labels, many.H)
    torch.testing.assert_close(few.H, summed, rtol=1e-12, atol=1e-14)


def test_levels_are_the_features_that_every_layer_reads():
    problem = model(activation="relu")
    point = problem.start(seed=2)
    _, W2, W1 = point.weights
    H1, H2, H3 = problem.levels(point)
    torch.testing.assert_close(H1, point.H)
    torch.testing.assert_close(H2, torch.relu(W1 @ H1))
    torch.testing.assert_close(H3, torch.relu(W2 @ H2))


def test_a_single_layer_has_no_activation():
    problem = model(widths=(5,), decays=(0.1, 0.1), activation="relu")
    point = problem.start()
    assert problem.linear
    assert problem.objective(point) == pytest.approx(float(by_definition(problem, point.weights, point.H)))


def test_starts_have_the_scale_of_every_factor_and_repeat():
    problem = model(classes=40, widths=(60, 50, 70))
    scales = (0.1, 1.0, 10.0, 0.5)
    start, again = problem.start(seed=5, scale=scales), problem.start(seed=5, scale=scales)
    for factor, same, scale, shape in zip(start.factors, again.factors, scales, problem.shapes, strict=True):
        assert tuple(factor.shape) == shape
        assert torch.equal(factor, same)
        # 2000 entries or more: the deviation of a standard deviation is below 1/sqrt(4000).
        assert float(factor.std()) == pytest.approx(scale, rel=0.1)
    assert not torch.equal(start.H, problem.start(seed=6, scale=scales).H)


def test_the_point_of_a_solution_has_its_weights_deepest_first():
    problem = model()
    point = problem.start()
    named = {"W1": point.weights[2], "W2": point.weights[1], "W3": point.weights[0], "H1": point.H}
    found = problem.point_of(Solution(Status("converged", ""), 0.0, named, Trace()))
    assert [tuple(f.shape) for f in found.factors] == list(problem.shapes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": 1}, "classes"),
        ({"widths": ()}, "at least one width"),
        ({"widths": 5}, "at least one width"),
        ({"widths": (5, 0, 6)}, r"widths\[1\]"),
        ({"per_class": 0}, "per_class"),
        ({"per_class": (1, 2)}, "3 classes"),
        ({"decays": (0.1, 0.1)}, "decays are 4 numbers"),
        ({"decays": (0.1, 0.2, 0.0, 0.1)}, "decays are 4 numbers"),
        ({"decays": (0.1, 0.2, float("nan"), 0.1)}, "decays are 4 numbers"),
        ({"decays": 0.1}, "decays are 4 numbers"),
        ({"loss": "hinge"}, "a loss of this model"),
        ({"activation": "tanh"}, "activation"),
    ],
)
def test_bad_models_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        model(**changes)


def test_bad_points_are_refused():
    problem = model()
    good = problem.start()
    with pytest.raises(InputError, match="3 weights"):
        problem.point(good.weights[:2], good.H)
    with pytest.raises(InputError, match="W3"):
        problem.point(good.weights[::-1], good.H)
    with pytest.raises(InputError, match="H1 is a tensor"):
        problem.point(good.weights, good.H[:, :4])
    with pytest.raises(InputError, match="H1 is finite"):
        problem.point(good.weights, good.H * float("nan"))
    with pytest.raises(InputError, match="one scale"):
        problem.start(scale=(0.1, 0.2))
    assert problem.point(good.weights, good.H[:, :3].float()).H.dtype == torch.float64
