"""Certificates against dense linear algebra: the dual bound written out, the Hessian built by autograd."""

from __future__ import annotations

import dataclasses
import math

import numpy
import pytest
import torch
from scipy.optimize import minimize

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ufm import certificate as certificate_module
from tightframe.ufm.certificate import best_bias, certify, dual_bound, spectral_norm, top_singular
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm
from tightframe.ufm.optima import optimum
from tightframe.ufm.solvers import solve

LOSSES = ["ce", "ls", "focal", "mse", SquaredError(4.0, 2.0)]
BIASES = ["none", "free", 0.07]


def problem(loss="ce", bias="none", *, classes=4, features=6, per_class=3, decay=(4e-2, 1e-2)):
    return UnconstrainedFeatures(
        classes=classes, features=features, per_class=per_class, loss=loss, weight_decay=decay, bias=bias
    )


def hessian(model, point):
    """Dense Hessian of the objective in (W, H, b), by autograd through the losses."""
    shapes = [x.shape for x in (point.W, point.H, point.b)]
    sizes = [x.numel() for x in (point.W, point.H, point.b)]
    lam_b = 0.0 if isinstance(model.bias, str) else model.bias

    def objective(vector):
        W, H, b = (x.view(s) for x, s in zip(torch.split(vector, sizes), shapes, strict=True))
        b = 0 * b if model.bias == "none" else b
        data = model.loss.value(W @ H + b[:, None], model.labels).mean()
        decays = zip((*model.weight_decay, lam_b), (W, H, b), strict=True)
        return data + sum(0.5 * lam * x.square().sum() for lam, x in decays)

    return torch.autograd.functional.hessian(objective, flat(point))


def flat(point):
    return torch.cat([x.flatten() for x in (point.W, point.H, point.b)])


def padded(model, features):
    """A critical point of the model in `features` dimensions that is a minimum in fewer: the rest is zero."""
    extra = features - model.features
    least = optimum(model).point()
    W = torch.cat([least.W, least.W.new_zeros(model.classes, extra)], dim=1)
    H = torch.cat([least.H, least.H.new_zeros(extra, model.samples)])
    return dataclasses.replace(model, features=features), Point(W, H, least.b)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("counts", [3, (1, 4, 2, 6)])
def test_the_dual_bound_is_its_formula(loss, bias, counts):
    model = problem(loss, bias, per_class=counts)
    for seed, scale in [(0, 0.1), (1, 1.0)]:
        point = model.start(seed=seed, scale=scale)
        Z, labels = point.W @ point.H, model.labels
        b = torch.from_numpy(minimise_bias(model, Z)) if bias != "none" else torch.zeros(4, dtype=torch.float64)
        slopes = model.loss.gradient(Z + b[:, None], labels)
        norm = float(torch.linalg.svdvals(slopes / model.samples)[0])
        shrink = min(1.0, model.nuclear_decay / norm, model.loss.shrink(slopes, labels))
        bound = -float(model.loss.conjugate(shrink * slopes, labels).mean())
        if isinstance(bias, float):
            bound -= float((shrink * slopes.mean(1)).square().sum()) / (2 * bias)
        found = certify(model, point.W, point.H, point.b)
        # The bias found by SciPy is good to about 1e-9, to which the bound is sensitive in first order.
        assert found.evidence["bound"] == pytest.approx(bound, abs=1e-13 if bias == "none" else 1e-7)
        value = model.objective(point.W, point.H, point.b)
        assert found.gap == pytest.approx(value - found.evidence["bound"], abs=1e-14 * (1 + value))
        assert found.evidence["value"] == pytest.approx(value, rel=1e-14)
        if bias == "none":
            assert found.evidence["spectral norm"] == pytest.approx(norm, rel=1e-13)


def minimise_bias(model, Z):
    decay = 0.0 if model.bias == "free" else model.bias

    def value(vector):
        b = torch.from_numpy(vector)
        logits = Z + b[:, None]
        gradient = model.loss.gradient(logits, model.labels).mean(1) + decay * b
        return float(model.loss.value(logits, model.labels).mean() + 0.5 * decay * b @ b), gradient.numpy()

    return minimize(value, numpy.zeros(len(Z)), jac=True, method="BFGS", options={"gtol": 1e-12}).x


@pytest.mark.parametrize("bias", ["free", 0.07, 1e-6, 100.0])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_best_bias(loss, bias):
    model = problem(loss, bias, per_class=(1, 4, 2, 6))
    for scale in (0.1, 1.0):
        form = NormalForm.of_point(model, model.start(seed=2, scale=scale))
        best = best_bias(form)
        assert float(best.bias_gradient.norm()) < 1e-14
        assert best.A is form.A
        assert float(best.value) <= float(form.value)
        found = torch.from_numpy(minimise_bias(model, form.logits - form.b[:, None]))
        assert float(best.value) <= float(form.with_bias(found).value) + 1e-14


@pytest.mark.parametrize("loss", ["ce", "ls", "focal", "mse"])
@pytest.mark.parametrize("bias", ["free", 0.003])
def test_the_bound_holds_whichever_bias_it_is_taken_at(loss, bias, monkeypatch):
    # The minimum without a bias, of unequal classes: there U1 differs from zero, and -g*(U) alone is above the minimum.
    counts = (1, 9, 3, 3)
    without, model = (problem(loss, b, per_class=counts) for b in ("none", bias))
    start, least = solve(without), solve(model)
    assert least.status.converged
    assert start.objective > least.objective + 1e-3
    monkeypatch.setattr(certificate_module, "best_bias", lambda form: form)
    bound = certify(model, start.W, start.H).evidence["bound"]
    assert bound <= least.objective


@pytest.mark.parametrize("scale", [30.0, 300.0])
def test_the_best_bias_at_saturated_logits(scale):
    # Logits of hundreds leave hardly any curvature: the gradient need not vanish, but nothing may get worse.
    for loss in ("ce", "focal"):
        model = problem(loss, "free", per_class=(1, 4, 2, 6))
        form = NormalForm.of_point(model, model.start(seed=2, scale=scale**0.5))
        best = best_bias(form)
        assert float(best.value) <= float(form.value) * (1 + 1e-14)
        assert certify(model, *(getattr(form.point, x) for x in "WHb")).gap >= 0


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_zero_is_a_strict_saddle_left_along_the_certified_direction(loss, bias):
    model = problem(loss, bias)
    zero = torch.zeros(4, 6), torch.zeros(6, 12)
    # At W = H = 0 the best bias of equal classes is constant.
    form = best_bias(NormalForm.of_point(model, model.point(*zero)))
    check_saddle(model, Point(*(x.double() for x in zero), form.b))


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", ["ce", "ls", "mse"])
def test_minima_of_low_rank_are_strict_saddles_with_more_dimensions(loss, bias):
    if loss == "mse" and bias != 0.07:
        model, point = padded(problem(loss, bias, features=2), 6)
    else:
        model = problem(loss, bias)
        point = partly_collapsed(model)
    check_saddle(model, point)


def partly_collapsed(model):
    """A critical point of rank one: all of it on one axis, found there by descent in one dimension."""
    flatland = dataclasses.replace(model, features=1)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    vector = torch.cat([signs, signs, 0 * signs]).numpy()

    def value(x):
        x = torch.from_numpy(x)
        W, H, b = x[:4, None], x[4:8][flatland.labels][None], x[8:] * (model.bias != "none")
        form = NormalForm.of_point(flatland, Point(W, H, b))
        f, in_A, in_B, in_b = form.gradient()
        ratio = (model.weight_decay[0] / model.weight_decay[1]) ** 0.25
        in_H = in_B[0] * torch.tensor(model.counts).sqrt() / ratio
        return float(f), torch.cat([ratio * in_A[:, 0], in_H, in_b]).numpy()

    x = torch.from_numpy(minimize(value, vector, jac=True, method="BFGS", options={"gtol": 1e-13}).x)
    W, H = (torch.zeros(shape, dtype=torch.float64) for shape in ((4, model.features), (model.features, 12)))
    W[:, 0], H[0] = x[:4], x[4:8][flatland.labels]
    return Point(W, H, x[8:] * (model.bias != "none"))


def check_saddle(model, point):
    certificate = certify(model, point.W, point.H, point.b)
    assert not certificate.holds
    assert certificate.kind == "dual gap"
    assert certificate.evidence["gradient norm"] < 1e-9
    direction = certificate.evidence["direction"]
    assert direction.kind == "negative curvature"
    excess = certificate.evidence["spectral norm"] - certificate.evidence["nuclear decay"]
    assert direction.predicted == pytest.approx(-2 * excess, rel=1e-9)
    assert direction.curvature == pytest.approx(direction.predicted, rel=1e-6)
    dense, vector = hessian(model, point), flat(direction)
    assert float(vector @ dense @ vector) == pytest.approx(direction.curvature, rel=1e-9)
    assert abs(direction.slope) < 1e-8
    assert float(torch.linalg.eigvalsh(dense)[0]) <= direction.curvature / float(vector @ vector) * (1 - 1e-9)
    value = certificate.evidence["value"]
    for length in (1e-3, 1e-2):
        moved = model.objective(*(getattr(point, x) + length * getattr(direction, x) for x in "WHb"))
        assert moved - value == pytest.approx(0.5 * direction.curvature * length**2, rel=0.1)


def test_a_point_that_is_not_critical_gets_its_gradient():
    model = problem("ce", 0.1, per_class=(1, 4, 2, 6))
    point = model.start(seed=3)
    direction = certify(model, point.W, point.H, point.b).evidence["direction"]
    assert (direction.kind, direction.predicted) == ("gradient", None)
    step = 1e-6
    ahead, behind = (
        model.objective(*(getattr(point, x) + sign * step * getattr(direction, x) for x in "WHb")) for sign in (1, -1)
    )
    assert direction.slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)
    value = certify(model, point.W, point.H, point.b).evidence["value"]
    assert direction.curvature == pytest.approx((ahead - 2 * value + behind) / step**2, rel=1e-3)
    dense, vector = hessian(model, point), flat(direction)
    assert direction.curvature == pytest.approx(float(vector @ dense @ vector), rel=1e-10)


def test_without_room_there_may_be_no_direction():
    # In one dimension a critical point of full rank has no null space to leave along, and no closed form either.
    model = dataclasses.replace(problem("ce"), features=1)
    point = partly_collapsed(problem("ce"))
    certificate = certify(model, point.W[:, :1], point.H[:1])
    assert not certificate.holds
    assert certificate.evidence["direction"] is None


def test_few_dimensions_use_the_closed_form_where_there_is_one():
    model = problem("mse", features=2)
    known = optimum(model)
    point = known.point(seed=4)
    certificate = certify(model, point.W, point.H)
    assert certificate.kind == "closed form"
    assert abs(certificate.gap) < 1e-14
    assert certificate.evidence["bound"] == known.value
    other = model.start()
    assert certify(model, other.W, other.H).evidence["bound"] == known.value
    # The dual bound alone stays below.
    assert dual_bound(NormalForm.of_point(model, point))[0] < known.value - 0.1


@pytest.mark.parametrize("bias", ["none", 0.1])
def test_columns_come_back_in_the_order_of_the_labels(bias):
    model = problem("ce", bias, per_class=(2, 5, 3, 1))
    order = torch.randperm(11, generator=generator(0))
    labels = model.labels[order]
    start = model.start(seed=1)
    H = start.H[:, order]
    sorted_one = certify(model, start.W, start.H, start.b)
    shuffled = certify(model, start.W, H, start.b, labels=labels)
    assert shuffled.gap == pytest.approx(sorted_one.gap, rel=1e-13)
    one, two = (c.evidence["direction"] for c in (sorted_one, shuffled))
    assert torch.allclose(one.H[:, order], two.H, atol=1e-13)
    assert shuffled.evidence["gradient norm"] == pytest.approx(sorted_one.evidence["gradient norm"], rel=1e-12)
    step = 1e-4 / shuffled.evidence["gradient norm"]
    moved = model.point(start.W + step * two.W, H + step * two.H, start.b + step * two.b, labels=labels)
    fall = model.objective(moved.W, moved.H, moved.b) - shuffled.evidence["value"]
    assert fall == pytest.approx(step * two.slope, rel=1e-2)


@pytest.mark.parametrize("shape", [(1, 1), (4, 9), (9, 4), (30, 30)])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_the_spectral_norm_is_an_upper_bound_and_close(shape, scale):
    for seed in range(10):
        matrix = torch.randn(shape, dtype=torch.float64, generator=generator(seed))
        exact = float(torch.linalg.svdvals(matrix)[0])
        found = spectral_norm(scale * matrix) / scale
        assert found >= exact * (1 - 1e-15)
        assert found == pytest.approx(exact, rel=1e-13)


def test_the_spectral_norm_of_numbers_that_are_none():
    zeros = torch.zeros(3, 4, dtype=torch.float64)
    assert spectral_norm(zeros) == 0
    assert spectral_norm(zeros + math.inf) == math.inf
    assert math.isnan(spectral_norm(zeros * math.nan))


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_the_top_singular_pair(shape):
    matrix = torch.randn(shape, dtype=torch.float64, generator=generator(1))
    left, size, right = top_singular(matrix)
    assert size == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), rel=1e-13)
    assert float(left @ matrix @ right) == pytest.approx(size, rel=1e-13)
    assert [float(left.norm()), float(right.norm())] == pytest.approx([1, 1], rel=1e-13)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("scale", [1e5, 1e100, 1e160, 1e300])
def test_points_far_out_never_hold(loss, bias, scale):
    model = problem(loss, bias)
    point = model.start(scale=scale)
    certificate = certify(model, point.W, point.H, point.b)
    assert not certificate.holds
    assert not certificate.gap < 1


def test_evidence():
    model = problem()
    start = model.start()
    evidence = certify(model, start.W, start.H).evidence
    assert set(evidence) == {"value", "bound", "spectral norm", "nuclear decay", "gradient norm", "direction"}
    assert evidence["nuclear decay"] == pytest.approx(0.02)
    form = NormalForm.of_point(model, start)
    squares = sum(float(x.square().sum()) for x in form.gradient()[1:])
    assert evidence["gradient norm"] == pytest.approx(squares**0.5, rel=1e-13)
    best = optimum(model).point()
    certificate = certify(model, best.W, best.H, tolerance=1e-12)
    assert (certificate.holds, certificate.tolerance) == (True, 1e-12)
    assert "direction" not in certificate.evidence


def test_single_precision_points_are_certified_in_double():
    model = problem()
    best = optimum(model).point()
    certificate = certify(model, best.W.float(), best.H.float())
    # The bound is of first order in the rounding to 24 bits.
    assert 0 <= certificate.gap < 1e-6
    assert certificate.evidence["value"] == pytest.approx(optimum(model).value, abs=1e-12)


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(2.0), Focal(5.0)], ids=str)
def test_an_optimum_perturbed_is_above_by_no_more_than_the_gap(loss):
    model = problem(loss)
    least, best = optimum(model).value, optimum(model).point()
    for size in (1e-6, 1e-4, 1e-2, 0.3):
        step = model.start(seed=7, scale=size)
        certificate = certify(model, best.W + step.W, best.H + step.H)
        excess = certificate.evidence["value"] - least
        assert 0 < excess <= certificate.gap + 1e-14
        # First order in the step: the bound is not vacuous.
        assert certificate.gap < 20 * size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(3, 6), torch.ones(6, 12)), r"W has shape \(4, 6\)"),
        ((torch.ones(4, 6), torch.ones(6, 12) * math.nan), "H is finite; got NaN"),
        ((torch.ones(4, 6), torch.ones(6, 12), torch.ones(4)), "no bias in this problem"),
    ],
)
def test_bad_points(arguments, message):
    with pytest.raises(InputError, match=message):
        certify(problem(), *arguments)
    with pytest.raises(InputError, match="labels"):
        certify(problem(), torch.ones(4, 6), torch.ones(6, 12), labels=torch.zeros(12).long())


@pytest.mark.parametrize("tolerance", [0.0, -1e-9, float("nan")])
def test_a_tolerance_that_nothing_meets_is_refused(tolerance):
    problem = UnconstrainedFeatures(classes=3, features=4, per_class=2)
    point = problem.start(seed=0)
    with pytest.raises(InputError, match="a tolerance above zero"):
        certify(problem, point.W, point.H, tolerance=tolerance)
