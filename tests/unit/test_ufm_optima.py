"""What an `Optimum` says: when a closed form is known, which frame, and points that attain it."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.ufm.loss import Loss
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum


def problem(loss="ce", *, classes=4, features=5, per_class=50, decay=(5e-3, 5e-5), bias="none"):
    return UnconstrainedFeatures(
        classes=classes, features=features, per_class=per_class, loss=loss, weight_decay=decay, bias=bias
    )


@pytest.mark.parametrize("bias", ["none", "free", 0.01, 5.0])
@pytest.mark.parametrize("loss", ["ce", "ls", "focal"])
def test_losses_of_differences_collapse_onto_the_simplex_without_bias(loss, bias):
    found = optimum(problem(loss, features=3, bias=bias))
    assert found.known
    assert (found.frame, found.unique) == ("simplex ETF", True)
    assert not found.bias.any()
    expected = found.scale * (torch.eye(4, dtype=torch.float64) - 0.25)
    assert torch.allclose(found.logits, expected, rtol=1e-15)
    assert 0 < found.threshold < 1


@pytest.mark.parametrize(
    ("bias", "features", "frame"),
    [
        ("none", 4, "orthogonal frame"),
        ("free", 4, "simplex ETF"),
        ("free", 3, "simplex ETF"),
        (0.01, 3, "simplex ETF"),  # up to c/(1-c) = 0.0143
        (0.02, 4, "between"),
        (100.0, 4, "between"),
    ],
)
def test_the_frame_of_squared_error_depends_on_the_bias(bias, features, frame):
    found = optimum(problem("mse", features=features, bias=bias))
    assert found.known
    assert found.frame == frame
    c = 4 * (50 * 5e-3 * 5e-5) ** 0.5
    assert found.threshold == pytest.approx(c, rel=1e-14)
    assert found.scale == pytest.approx(1 - c, rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"loss": "ce", "per_class": (50, 50, 50, 5)}, "unequal classes"),
        ({"loss": "focal", "per_class": (1, 2, 1, 1)}, "unequal classes"),
        ({"loss": "mse", "per_class": (50, 50, 50, 5), "bias": 0.1}, "unequal classes"),
        ({"loss": SquaredError(5.0), "per_class": (50, 50, 50, 5)}, "unequal classes"),
        ({"loss": "ce", "features": 2}, "d = 2: the frame needs d = 3"),
        ({"loss": "ls", "features": 1}, "d = 1: the frame needs d = 3"),
        ({"loss": "mse", "features": 3, "bias": 1.0}, "d = 3: the frame needs d = 4"),
        ({"loss": SquaredError(5.0), "features": 3}, "d = 3: the frame needs d = 4"),
        ({"loss": "focal", "classes": 10, "features": 10, "per_class": 1, "decay": (0.12, 0.12)}, "= 1.08 >= 1"),
    ],
)
def test_where_no_closed_form_is_known(arguments, reason):
    found = optimum(problem(**arguments))
    assert not found.known
    assert reason in found.reason
    assert (found.value, found.logits, found.frame, found.unique) == (None, None, None, False)
    with pytest.raises(InputError, match=r"a model with a known optimum; got no closed form.*solve\(problem\)"):
        found.point()


def test_a_loss_of_ones_own_has_no_closed_form():
    class Shifted(CrossEntropy):
        """A subclass of a covered loss is covered."""

    class Own(Loss):
        name = "own"
        value = gradient = curvature = total_curvature = conjugate = lambda *_: None
        smoothness = 1.0

    assert optimum(problem(Shifted())).known
    found = optimum(problem(Own()))
    assert not found.known
    assert "no closed form is known for own" in found.reason


@pytest.mark.parametrize(
    ("loss", "bias", "features"),
    [("ce", "free", 3), ("ls", 0.1, 3), ("focal", "none", 7), ("mse", "none", 4), ("mse", "free", 3), ("mse", 0.1, 9)],
)
def test_points_attain_the_value_and_are_balanced_and_collapsed(loss, bias, features):
    model = problem(loss, features=features, bias=bias, per_class=3)
    found = optimum(model)
    for seed in range(3):
        point = found.point(seed=seed)
        assert (point.W.shape, point.H.shape, point.b.shape) == ((4, features), (features, 12), (4,))
        assert model.objective(point.W, point.H, point.b) == pytest.approx(found.value, rel=1e-13)
        means = point.H[:, ::3]
        assert torch.equal(point.H, means.repeat_interleave(3, dim=1))
        assert torch.allclose(point.W @ means, found.logits, atol=1e-12)
        lam_w, lam_h = model.weight_decay
        assert torch.allclose(lam_w * point.W.T @ point.W, lam_h * point.H @ point.H.T, atol=1e-15)
    assert torch.equal(found.point(seed=1).W, found.point(seed=1).W)
    assert not torch.allclose(found.point(seed=1).W, found.point(seed=2).W)


@pytest.mark.parametrize("loss", ["ce", "ls", "focal", "mse"])
def test_zero_is_a_frame_too(loss):
    found = optimum(problem(loss, decay=(1.0, 1.0)))
    assert (found.frame, found.scale) == ("zero", 0.0)
    assert found.threshold > 1
    point = found.point()
    assert not point.W.any()
    assert not point.H.any()
    assert problem(loss, decay=(1.0, 1.0)).objective(point.W, point.H, point.b) == pytest.approx(found.value)


def test_fewer_dimensions_than_the_frame_keep_a_part_of_it():
    full, cut = (optimum(problem("mse", features=d)) for d in (4, 2))
    assert (full.frame, full.unique) == ("orthogonal frame", True)
    assert (cut.frame, cut.unique) == ("projection", False)
    c = 4 * (50 * 5e-3 * 5e-5) ** 0.5
    # Two of four targets are reached up to c, two not at all.
    assert cut.value == pytest.approx(2 / 4 * (c**2 / 2 + c * (1 - c)) + 2 / 4 * 0.5, rel=1e-13)
    assert torch.linalg.matrix_rank(cut.logits) == 2
    # Unequal counts leave no choice of the part.
    assert optimum(problem("mse", features=2, per_class=(50, 40, 30, 20))).unique
    assert not optimum(problem("mse", features=2, per_class=(50, 40, 40, 20))).unique


@pytest.mark.parametrize(("counts", "zero"), [((50, 40, 30, 20), 0), ((50, 50, 50, 1), 1), ((40, 40, 1, 1), 2)])
def test_small_classes_are_given_up_first(counts, zero):
    # Class k survives where sqrt(n_k) > N sqrt(lambda_W lambda_H).
    decay = 1.5 / sum(counts)
    found = optimum(problem("mse", per_class=counts, decay=(decay, decay)))
    norms = found.logits.diagonal()
    assert int((norms == 0).sum()) == zero
    assert found.frame == "general orthogonal frame"
    assert torch.allclose(found.logits, torch.diag(norms), atol=1e-14)


@pytest.mark.parametrize("classes", [2, 6, 7, 30])
def test_focal_loss_says_where_its_theory_ends(classes):
    # psi'(-log(K-1)) passes -1 between K = 6 and K = 7 for gamma = 2.
    steep = -float(Focal().slope(-torch.log(torch.tensor(classes - 1.0, dtype=torch.float64))))
    assert (steep > 1) == (classes >= 7)
    for slope in (0.999, 1.001, 2.0):
        t = slope / (classes - 1)
        found = optimum(problem("focal", classes=classes, features=classes, per_class=1, decay=(t, t)))
        assert found.known == (slope < 1 or classes < 7)
        if found.known:
            assert (found.frame == "zero") == (slope >= steep)


def test_optima_travel_between_processes():
    found = optimum(problem())
    again = pickle.loads(pickle.dumps(found))
    assert again.value == found.value
    assert torch.equal(again.point().W, found.point().W)
    assert dataclasses.replace(found, value=1.0) != found
