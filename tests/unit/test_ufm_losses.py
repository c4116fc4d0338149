"""Losses against torch's, against their textbook formulas in more digits, and at the ends of the number range."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ufm.loss import one_hot
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError, named_loss


def sample(classes, columns=50, *, scale=5.0, seed=0):
    draws = generator(seed)
    logits = scale * torch.randn(classes, columns, dtype=torch.float64, generator=draws)
    return logits, torch.randint(classes, (columns,), generator=draws)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("scale", [0.1, 5.0, 1e3])
def test_cross_entropy_is_torchs(classes, smoothing, scale):
    logits, targets = sample(classes, scale=scale)
    expected = functional.cross_entropy(logits.T, targets, label_smoothing=smoothing, reduction="none")
    assert torch.allclose(CrossEntropy(smoothing).value(logits, targets), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_its_formula(classes, gamma):
    logits, targets = sample(classes, scale=2.0)
    share = torch.softmax(logits, dim=0).gather(0, targets[None])[0]
    expected = -((1 - share) ** gamma) * share.log()
    assert torch.allclose(Focal(gamma).value(logits, targets), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 5])
def test_focal_without_focus_is_cross_entropy(classes):
    logits, targets = sample(classes, scale=20.0)
    direction, _ = sample(classes, seed=1)
    slopes = 0.7 * CrossEntropy().gradient(logits, targets)
    for method, arguments in [
        ("value", (logits, targets)),
        ("gradient", (logits, targets)),
        ("curvature", (logits, targets, direction)),
        ("conjugate", (slopes, targets)),
    ]:
        one, two = (getattr(loss, method)(*arguments) for loss in (Focal(0.0), CrossEntropy()))
        # The conjugate of the focal loss comes from a root, bracketed to 120/2^80.
        assert torch.allclose(one, two, rtol=1e-11, atol=1e-12), method


@pytest.mark.parametrize(("scale", "target"), [(1.0, 1.0), (5.0, 30.0), (0.3, 0.5)])
def test_squared_error_is_its_formula(scale, target):
    logits, targets = sample(4, 6)
    for i, y in enumerate(targets.tolist()):
        column = logits[:, i].tolist()
        expected = 0.5 * (scale * (column[y] - target) ** 2 + sum(z**2 for j, z in enumerate(column) if j != y))
        value = SquaredError(scale, target).value(logits, targets)[i]
        assert float(value) == pytest.approx(expected, rel=1e-13)
    plain = SquaredError().value(logits, targets).sum()
    assert float(plain) == pytest.approx(float((logits - one_hot(logits, targets)).square().sum()) / 2, rel=1e-13)


@pytest.mark.parametrize("gap", [1e3, 50.0])
def test_values_far_out(gap):
    # Two classes a distance `gap` apart: right, the loss is e^{-gap}; wrong, it is the gap (plus e^{-gap}).
    logits = torch.tensor([[gap, -gap], [0.0, 0.0]], dtype=torch.float64)
    targets = torch.zeros(2, dtype=torch.long)
    right, wrong = CrossEntropy().value(logits, targets).tolist()
    assert 0 <= right <= math.exp(-gap) + 1e-16
    assert wrong == gap
    smooth = CrossEntropy(0.1).value(logits, targets)
    assert smooth.tolist() == pytest.approx([0.05 * gap, 0.95 * gap], rel=1e-14)
    focal = Focal(2.0).value(logits, targets)
    assert float(focal[1]) == pytest.approx(gap, rel=1e-14)
    assert float(focal[0]) == pytest.approx(math.exp(-3 * gap), rel=1e-12)
    assert torch.allclose(Focal(2.0).gradient(logits, targets)[:, 1], torch.tensor([-1.0, 1.0], dtype=torch.float64))


def test_gradient_of_cross_entropy_at_equal_logits_is_exact():
    # 1/4 and 3/4 are floating-point numbers: no rounding may show.
    logits, targets = torch.zeros(4, 4, dtype=torch.float64), torch.arange(4)
    assert torch.equal(CrossEntropy().gradient(logits, targets), 0.25 - torch.eye(4, dtype=torch.float64))
    exact = [[float(Fraction(1, 4) - Fraction(i == j)) * 0.75 for j in range(4)] for i in range(4)]
    assert CrossEntropy(0.25).gradient(logits, targets).tolist() == exact


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_the_margin_of_a_slope(gamma):
    loss = Focal(gamma)
    slope = torch.cat([torch.logspace(-12, -1, 30), torch.linspace(0.1, 0.999, 40)]).double()
    margin = loss.margin_at(slope)
    assert torch.allclose(-loss.slope(margin), slope, rtol=1e-10)
    # The rising part of psi', which is where the tangent lies below psi, at every other margin.
    assert bool((loss.bend(margin) > 0).all())
    grid = torch.linspace(-50, 50, 4001, dtype=torch.float64)
    tangents = loss.of_margin(margin)[:, None] - slope[:, None] * (grid - margin[:, None])
    assert bool((tangents <= loss.of_margin(grid) + 1e-13).all())


def test_losses_by_name():
    assert named_loss("ce") == CrossEntropy(0.0)
    assert named_loss("ls") == CrossEntropy(0.1)
    assert named_loss("focal") == Focal(2.0)
    assert named_loss("mse") == SquaredError(1.0, 1.0)
    assert [named_loss(name).name for name in ("ce", "ls", "focal", "mse")] == [
        "cross-entropy",
        "label smoothing 0.1",
        "focal 2",
        "squared error",
    ]
    assert SquaredError(5, 2).name == "squared error, scale 5, target 2"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CrossEntropy(1.0), r"smoothing in \[0, 1\); got 1.0"),
        (lambda: CrossEntropy(-0.1), r"smoothing in \[0, 1\)"),
        (lambda: CrossEntropy(math.nan), "got nan"),
        (lambda: Focal(-1.0), "gamma of at least 0; got -1.0"),
        (lambda: Focal(math.nan), "got nan"),
        (lambda: Focal(math.inf), "finite gamma.*got inf"),
        (lambda: SquaredError(0.0), "above 0; got scale=0.0"),
        (lambda: SquaredError(1.0, -2.0), "target=-2.0"),
        (lambda: SquaredError(math.inf), "scale=inf"),
        (lambda: SquaredError(1.0, math.nan), "target=nan"),
        (lambda: named_loss("hinge"), "a loss of this model; got 'hinge'.*'focal'"),
        (lambda: named_loss(None), "got None"),
        (lambda: named_loss(["ce"]), r"got \['ce'\]"),
    ],
)
def test_bad_losses(build, message):
    with pytest.raises(InputError, match=message):
        build()
