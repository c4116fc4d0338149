"""Global minima of unconstrained features: published numbers, an independent minimiser, and dual certificates."""

from __future__ import annotations

import math
from itertools import product

import numpy
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional

from tightframe.collapse.decision import disagreement
from tightframe.collapse.duality import class_cosines, duality_distance, duality_gram
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.simplex import classifier_distance, feature_distance
from tightframe.collapse.variability import nc1
from tightframe.features.moments import ClassMoments
from tightframe.ufm.certificate import certify
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum

# The example of the reference: t = sqrt(n lambda_W lambda_H) = 0.0035355339, c = K t = 0.0141421356.
T, C = 0.005 / 2**0.5, 0.02 / 2**0.5


def problem(loss, bias="none", *, classes=4, features=20, per_class=50, decay=(5e-3, 5e-5)):
    return UnconstrainedFeatures(
        classes=classes, features=features, per_class=per_class, loss=loss, weight_decay=decay, bias=bias
    )


def with_strength(loss, t, bias="none", *, classes=4, features=6, per_class=5):
    """A model with t = sqrt(n lambda_W lambda_H)."""
    lam = t / per_class**0.5
    return problem(loss, bias, classes=classes, features=features, per_class=per_class, decay=(3 * lam, lam / 3))


@pytest.mark.parametrize(
    ("bias", "minimum"),
    [
        ("free", 0.0105316015),
        (0.02, 0.0127921356),
        (0.05, 0.0135421356),
        (0.2, 0.0139171356),
        (1.0, 0.0140171356),
        ("none", 0.0140421356),
    ],
)
def test_squared_error_has_the_minima_of_the_reference(bias, minimum):
    # Ten decimals; that of the free bias was found by descent and is 2e-10 below (K-1)/K (c^2/2 + c (1-c)).
    assert optimum(problem("mse", bias)).value == pytest.approx(minimum, abs=3e-10 if bias == "free" else 5e-11)


def test_squared_error_without_and_with_a_free_bias_differ_by_one_direction_of_k():
    orthogonal, simplex = (optimum(problem("mse", bias)).value for bias in ("none", "free"))
    assert orthogonal == pytest.approx(C**2 / 2 + C * (1 - C), rel=1e-14)
    assert simplex == pytest.approx(3 / 4 * orthogonal, rel=1e-13)


def test_cross_entropy_has_the_minimum_of_the_reference():
    found = optimum(problem("ce"))
    assert found.scale == pytest.approx(5.634227704, abs=5e-10)
    assert found.value == pytest.approx(0.070423262, abs=5e-10)
    assert found.scale == pytest.approx(math.log(1 / T - 3), rel=1e-13)


@pytest.mark.parametrize("decay", [1e-3, C / (1 - C) * 0.999, C / (1 - C) * 1.001, 0.05, 1.0, 50.0])
def test_squared_error_with_a_regularised_bias(decay):
    # Reference, section 3: the sum and its complement decouple, and the sum is thresholded against the bias.
    K, found = 4, optimum(problem("mse", decay))
    m = max(0.0, 1 - C * (1 + 1 / decay))
    b = (1 - m) / (K * (1 + decay))
    identity, ones = torch.eye(K, dtype=torch.float64), torch.full((K, K), 1 / K, dtype=torch.float64)
    assert torch.allclose(found.logits, (1 - C) * (identity - ones) + m * ones, atol=1e-14)
    assert torch.allclose(found.bias, torch.full((K,), b, dtype=torch.float64), atol=1e-14)
    assert (found.frame == "simplex ETF") == (m == 0) == (decay <= C / (1 - C))
    expected = ((K - 1) * C**2 + (m + K * b - 1) ** 2) / (2 * K)
    expected += C / K * ((K - 1) * (1 - C) + m) + decay * K * b**2 / 2
    assert found.value == pytest.approx(expected, rel=1e-13)
    point, norm = found.point(), (50 * 5e-5 / 5e-3) ** -0.5 * ((1 - C) * (K - 1) + m) / K
    assert point.H.square().sum(0).tolist() == pytest.approx([norm] * 200, rel=1e-12)


@pytest.mark.parametrize(("bias", "share"), [("none", 1.0), ("free", 0.75)])
def test_norms_of_features_and_duality_with_squared_error(bias, share):
    point, ratio = optimum(problem("mse", bias)).point(), (50 * 5e-5 / 5e-3) ** 0.5
    assert point.H.square().sum(0).tolist() == pytest.approx([(1 - C) / ratio * share] * 200, rel=1e-12)
    assert torch.allclose(point.W, ratio * point.H[:, ::50].T, atol=1e-13)
    assert point.b.tolist() == pytest.approx([0.25 if bias == "free" else 0.0] * 4, abs=1e-14)


def smooth_entropy(K, a, alpha):
    """Cross-entropy of logits a (e_y - 1/K) smoothed by alpha, written out."""
    share = math.exp(a) / (math.exp(a) + K - 1)
    wrong = (1 - share) / (K - 1)
    q = 1 - alpha + alpha / K
    return -q * math.log(share) - (1 - q) * math.log(wrong)


def focal(K, a, gamma):
    share = math.exp(a) / (math.exp(a) + K - 1)
    return -((1 - share) ** gamma) * math.log(share)


@pytest.mark.parametrize(("loss", "formula"), [
    (CrossEntropy(0.0), lambda K, a: smooth_entropy(K, a, 0.0)),
    (CrossEntropy(0.1), lambda K, a: smooth_entropy(K, a, 0.1)),
    (CrossEntropy(0.7), lambda K, a: smooth_entropy(K, a, 0.7)),
    (Focal(0.5), lambda K, a: focal(K, a, 0.5)),
    (Focal(2.0), lambda K, a: focal(K, a, 2.0)),
    (Focal(4.0), lambda K, a: focal(K, a, 4.0)),
], ids=lambda v: getattr(v, "name", ""))  # fmt: skip
@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("t", [1e-4, 5e-3, 0.08])
def test_the_scale_minimises_the_scalar_problem(loss, formula, classes, t):
    found = optimum(with_strength(loss, t, classes=classes, features=classes))
    grid = numpy.linspace(0, 25, 100_001)
    values = [formula(classes, a) + t * (classes - 1) * a for a in grid[:: 1000 if t < 1e-3 else 500]]
    coarse = grid[:: 1000 if t < 1e-3 else 500][int(numpy.argmin(values))]
    fine = numpy.linspace(max(0.0, coarse - 0.25), coarse + 0.25, 5001)
    best = min((formula(classes, a) + t * (classes - 1) * a, a) for a in fine)
    assert found.value == pytest.approx(best[0], abs=1e-8)  # 0.0001 steps, curvature at most 1
    assert found.value <= best[0] + 1e-14
    assert found.scale == pytest.approx(best[1], abs=2e-3)


def minimised(model, seed=0):
    """Minimum of the objective by SciPy over W, H (every column) and b, with torch's own losses."""
    K, d, N = model.classes, model.features, model.samples
    labels, (lam_w, lam_h) = model.labels, model.weight_decay
    decay_b = 0.0 if model.bias in ("none", "free") else model.bias
    loss, wanted = model.loss, functional.one_hot(labels, K).T.double()

    def value(vector):
        x = torch.from_numpy(vector).requires_grad_(True)
        W, H, b = x[: K * d].view(K, d), x[K * d : K * d + d * N].view(d, N), x[K * d + d * N :]
        logits = W @ H + (0 * b if model.bias == "none" else b)[:, None]
        if isinstance(loss, CrossEntropy):
            data = functional.cross_entropy(logits.T, labels, label_smoothing=loss.smoothing)
        elif isinstance(loss, Focal):
            logs = functional.log_softmax(logits, 0)[labels, torch.arange(N)]
            data = -((1 - logs.exp()) ** loss.gamma * logs).mean()
        else:
            weights = 1 + (loss.scale - 1) * wanted
            data = 0.5 * (weights * (logits - loss.target * wanted).square()).sum() / N
        f = data + 0.5 * (lam_w * W.square().sum() + lam_h * H.square().sum() + decay_b * b.square().sum())
        f.backward()
        return f.item(), x.grad.numpy()

    start = numpy.random.default_rng(seed).normal(size=K * d + d * N + K)
    options = {"maxiter": 20_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 1e-9}
    return float(minimize(value, start, jac=True, method="L-BFGS-B", options=options).fun)


@pytest.mark.parametrize("bias", ["none", "free", 0.05])
@pytest.mark.parametrize("loss", ["ce", "ls", "focal", "mse", SquaredError(5.0, 3.0), SquaredError(0.3, 2.0)], ids=str)
@pytest.mark.parametrize("t", [0.02, 0.15])
def test_an_independent_minimiser_arrives_at_the_closed_form(loss, bias, t):
    model = with_strength(loss, t, bias, classes=4, features=5, per_class=3)
    # The minimiser stops at a gradient of 1e-9, which leaves 1e-18/lambda.
    assert optimum(model).value == pytest.approx(minimised(model), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("bias", ["none", "free"])
@pytest.mark.parametrize(("features", "counts"), [(2, 3), (3, (1, 2, 4, 6)), (6, (1, 2, 4, 6)), (2, (3, 3, 3, 1))])
def test_squared_error_with_unequal_classes_or_few_dimensions(bias, features, counts):
    for decay in (0.01, 0.12):
        model = problem("mse", bias, features=features, per_class=counts, decay=(decay, decay / 2))
        found, best = optimum(model), min(minimised(model, seed) for seed in range(3))
        assert found.value == pytest.approx(best, rel=1e-9, abs=1e-10)
        point = found.point()
        assert model.objective(point.W, point.H, point.b) == pytest.approx(found.value, rel=1e-12)


EVERY = [
    pytest.param(loss, bias, id=f"{loss}-{bias}")
    for loss in ("ce", "ls", "focal", "mse", CrossEntropy(0.5), Focal(0.5), Focal(5.0), SquaredError(5.0, 3.0))
    for bias in ("none", "free", 0.002, 0.3, 50.0)
]


@pytest.mark.parametrize(("loss", "bias"), EVERY)
def test_the_closed_form_is_certified_global(loss, bias):
    for (K, d, n), t in product([(2, 1, 1), (3, 7, 2), (10, 9, 3), (10, 30, 7)], [1e-5, 1e-3, 0.05, 0.11, 0.4, 1.5]):
        model = with_strength(loss, t, bias, classes=K, features=d, per_class=n)
        found = optimum(model)
        if not found.known or found.frame == "projection":
            continue
        point = found.point()
        certificate = certify(model, point.W, point.H, point.b)
        assert certificate.kind == "dual gap"
        # Rounding of values of order 1; a free bias multiplies it by |Z| < f/sqrt(lambda_W lambda_H), here 1e5 at most.
        assert -1e-13 <= certificate.gap <= (1e-10 if bias == "free" else 2e-12), (K, d, n, t)
        assert certificate.evidence["value"] == pytest.approx(found.value, abs=1e-12)
        assert certificate.evidence["gradient norm"] < 1e-13


@pytest.mark.parametrize("bias", ["none", "free", 0.1])
@pytest.mark.parametrize("loss", ["ce", "ls", "focal"])
@pytest.mark.parametrize("features", [9, 25])
def test_global_solutions_of_losses_of_differences_are_collapsed(loss, bias, features):
    model = with_strength(loss, 1e-3, bias, classes=10, features=features, per_class=4)
    point = optimum(model).point(seed=1)
    moments = ClassMoments(10)
    moments.update(point.H.T, model.labels)
    means = CentredMeans(moments)
    assert nc1(moments) < 1e-25
    for value in (
        feature_distance(means),
        classifier_distance(point.W),
        duality_gram(means, point.W),
        duality_distance(means, point.W),
        float((class_cosines(means, point.W) - 1).abs().max()),
        float(point.b.norm()),
    ):
        assert value < 1e-12
    assert disagreement(point.H.T, (point.W @ point.H).argmax(0), means) == 0


def thresholds():
    """For each loss the strength t at which the minimiser becomes zero, from the slope of the loss at zero logits."""
    for K in (2, 4, 6):
        yield K, "ce", "none", 1 / K
        yield K, "ce", "free", 1 / K
        yield K, CrossEntropy(0.3), "none", 0.7 / K
        yield K, "mse", "none", 1 / K
        yield K, "mse", "free", 1 / K
        yield K, "mse", 0.1, 1 / K
        share, gamma = 1 / K, 2
        slope = (1 - share) ** gamma * (gamma * share * math.log(K) + (1 - share))
        yield K, "focal", "none", slope / (K - 1)


@pytest.mark.parametrize(("classes", "loss", "bias", "limit"), list(thresholds()))
def test_too_much_decay_gives_zero_and_slightly_less_does_not(classes, loss, bias, limit):
    below, above = (
        optimum(with_strength(loss, t, bias, classes=classes, features=classes)) for t in (limit * 0.999, limit * 1.001)
    )
    assert below.threshold == pytest.approx(0.999, rel=1e-9)
    assert above.threshold == pytest.approx(1.001, rel=1e-9)
    assert above.frame == "zero"
    assert below.frame != "zero"
    zero = above.value
    assert below.value < zero
    point = below.point()
    model = below.problem
    assert model.objective(point.W, point.H, point.b) < model.objective(0 * point.W, 0 * point.H, point.b)


@pytest.mark.parametrize(("scale", "bias"), list(product([0.2, 1.0, 7.0], ["none", "free", 0.2])))
def test_the_threshold_of_rescaled_squared_error(scale, bias):
    loss = SquaredError(scale, 2.0)
    limit = 1 / optimum(with_strength(loss, 1.0, bias)).threshold
    inside, outside = (optimum(with_strength(loss, limit * factor, bias)) for factor in (0.9999, 1.0001))
    assert inside.frame != "zero"
    assert outside.frame == "zero"


def test_where_no_closed_form_of_focal_loss_is_known_there_is_something_below_zero():
    # K = 10, t (K-1) = 1.05 > 1: zero is a critical point, and a small simplex is already below it.
    model = problem("focal", classes=10, features=10, per_class=1, decay=(1.05 / 9, 1.05 / 9))
    assert not optimum(model).known
    zero = torch.zeros(10, 10)
    certificate = certify(model, zero, zero)
    assert not certificate.holds
    assert certificate.evidence["direction"].kind == "negative curvature"
    assert certificate.evidence["direction"].curvature < -0.01
    small = 0.5 * (torch.eye(10) - 0.1)
    assert model.objective(small, small) < certificate.evidence["value"] - 1e-4
