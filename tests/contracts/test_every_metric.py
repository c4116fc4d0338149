"""What every metric of a layer has to satisfy; one added to `evaluate_layer` is tested here without being named."""

import math

import pytest
import torch

from tightframe.collapse.conventions import OTHERS, VARIABILITY
from tightframe.collapse.evaluate import evaluate_layer
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments
from tightframe.geometry.frames import simplex_etf

K, D, N = 6, 9, 600

# Metrics of uncentred means or of the bias see where the origin is; all others must not.
SEES_ORIGIN = {"NC2 features OF", "NC3 OF", "bias collapse"}
# Metrics of the classifier alone see neither samples nor their scale.
ONE_AT_COLLAPSE = {"uniformity", "effective rank between", "effective rank within"}


def problem(seed=0):
    draws = generator(seed)
    labels = torch.randint(K, (N,), generator=draws)
    labels[:K] = torch.arange(K)
    centres = 3 * torch.randn(K, D, generator=draws, dtype=torch.float64)
    spread = torch.randn(D, D, generator=draws, dtype=torch.float64)
    features = centres[labels] + torch.randn(N, D, generator=draws, dtype=torch.float64) @ spread / 3
    weight = centres + torch.randn(K, D, generator=draws, dtype=torch.float64)
    return features, labels, weight, torch.randn(K, generator=draws, dtype=torch.float64)


def measured(features, labels, weight, bias):
    moments = ClassMoments(K)
    moments.update(features, labels)
    return evaluate_layer(moments, weight=weight, bias=bias).measurements


NAMES = list(measured(*problem()))


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_a_registered_convention_and_a_finite_value(name):
    measurement = measured(*problem())[name]
    formula = measurement.convention
    assert formula in [*OTHERS.values(), *VARIABILITY.values()]
    assert math.isfinite(measurement.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_does_not_see_rotations(name):
    features, labels, weight, bias = problem()
    rotation = torch.linalg.qr(torch.randn(D, D, generator=generator(1), dtype=torch.float64)).Q
    turned = measured(features @ rotation, labels, weight @ rotation, bias)
    assert turned[name].value == pytest.approx(measured(*problem())[name].value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_does_not_see_the_order_of_samples_and_classes(name):
    features, labels, weight, bias = problem()
    samples, classes = (torch.randperm(n, generator=generator(n)) for n in (N, K))
    renamed = torch.empty(K, dtype=torch.int64)
    renamed[classes] = torch.arange(K)
    shuffled = measured(features[samples], renamed[labels[samples]], weight[classes], bias[classes])
    assert shuffled[name].value == pytest.approx(measured(*problem())[name].value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SEES_ORIGIN])
def test_a_metric_does_not_see_the_origin(name):
    features, labels, weight, bias = problem()
    moved = measured(features + 100, labels, weight, bias)
    assert moved[name].value == pytest.approx(measured(*problem())[name].value, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", sorted(SEES_ORIGIN))
def test_the_exceptions_do_see_the_origin(name):
    features, labels, weight, bias = problem()
    moved = measured(features + 100, labels, weight, bias)
    assert moved[name].value != pytest.approx(measured(*problem())[name].value, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bias collapse"])
def test_a_metric_does_not_see_the_scale_of_features(name):
    features, labels, weight, bias = problem()
    scaled = measured(features * 1e3, labels, weight, bias)
    assert scaled[name].value == pytest.approx(measured(*problem())[name].value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ONE_AT_COLLAPSE])
def test_a_metric_is_zero_at_collapse(name):
    frame = simplex_etf(K, D, seed=3)
    labels = torch.arange(10 * K) % K
    value = measured(frame[labels], labels, frame, torch.zeros(K, dtype=torch.float64))[name].value
    if name in ("NC2 features OF", "NC3 OF"):
        # The Gram matrix of a simplex, at its known distance from the identity.
        assert value == pytest.approx(math.sqrt(2 - 2 * math.sqrt((K - 1) / K)), abs=1e-12)
    else:
        assert value == pytest.approx(0, abs=1e-7)
