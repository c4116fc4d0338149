"""NC2 against dense K x K matrices; the identity path; the floor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from definitions import TwoPass, etf_target, gaussian_classes, gram_error
from tightframe.collapse import simplex
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.simplex import classifier_distance, distance_floor, equinorm, feature_distance
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments


def means_of(features, labels, classes=None, **options):
    moments = ClassMoments(classes or int(labels.max()) + 1, "trace")
    moments.update(features, labels)
    return CentredMeans(moments, **options)


def target_of(name, classes):
    return etf_target(classes) if name == "etf" else np.eye(classes) / math.sqrt(classes)


@pytest.mark.parametrize("target", ["etf", "of"])
@pytest.mark.parametrize("centre", ["sample", "class"])
@pytest.mark.parametrize("counts", [[10] * 6, [30, 4, 9, 22, 5, 13]])
@pytest.mark.parametrize("dimension", [3, 5, 17])
@pytest.mark.parametrize("dense", [True, False])
def test_feature_distance_equals_the_dense_definition(monkeypatch, target, centre, counts, dimension, dense):
    if not dense:
        monkeypatch.setattr(simplex, "DENSE", 2)
    features, labels = gaussian_classes(counts, dimension, seed=1, offset=1.0)
    reference = TwoPass(features, labels)
    rows = reference.centred(centre) if target == "etf" else reference.mean
    expected = gram_error(rows @ rows.T, target_of(target, 6))
    assert feature_distance(means_of(features, labels, centre=centre), target) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("centre", [True, False])
def test_classifier_distance_equals_the_dense_definition(monkeypatch, dense, centre):
    if not dense:
        monkeypatch.setattr(simplex, "DENSE", 2)
    weight = torch.randn(7, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    rows = weight.detach().double().numpy()
    rows = rows - rows.mean(0) if centre else rows
    expected = gram_error(rows @ rows.T, etf_target(7))
    assert classifier_distance(weight, centre=centre) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("target", ["etf", "of"])
def test_the_identity_path_walks_over_blocks(monkeypatch, target):
    features, labels = gaussian_classes([4] * 25, 6, seed=3)
    means = means_of(features, labels)
    dense = feature_distance(means, target)
    monkeypatch.setattr(simplex, "DENSE", 2)
    monkeypatch.setattr("tightframe.collapse.means._BLOCK", 42)  # 7 classes to a block
    assert feature_distance(means, target) == pytest.approx(dense, rel=1e-10)


def test_many_classes_never_fall_below_the_floor():
    # Float32 sums over K^2 entries come out below the mathematical minimum here; these do not.
    classes, dimension = 4500, 64
    rows = torch.randn(classes, dimension, generator=torch.Generator().manual_seed(4))
    moments = ClassMoments(classes, "trace")
    moments.update(rows, torch.arange(classes))
    found = feature_distance(CentredMeans(moments))
    centred = rows.double() - rows.double().mean(0)
    gram = (centred @ centred.T).numpy()
    assert found == pytest.approx(gram_error(gram, etf_target(classes)), rel=1e-9)
    assert found > distance_floor(classes, dimension)


@pytest.mark.parametrize(
    ("classes", "dimension", "target", "expected"),
    [
        (10_000, 512, "etf", 1.24396),
        (10, 9, "etf", 0.0),
        (10, 9, "of", math.sqrt(2 - 2 * math.sqrt(0.9))),
        (10, 10, "of", 0.0),
        (5, 1, "etf", 1.0),
        (2, 1, "etf", 0.0),
    ],
)
def test_floor(classes, dimension, target, expected):
    assert distance_floor(classes, dimension, target) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("unbiased", [False, True])
def test_equinorm_is_the_coefficient_of_variation(unbiased):
    norms = torch.tensor([1.0, 2.0, 4.0, 7.0])
    expected = np.std(norms.numpy().astype(float), ddof=int(unbiased)) / 3.5
    assert equinorm(norms, unbiased=unbiased) == pytest.approx(expected, rel=1e-12)
    assert equinorm(torch.full((5,), 3.0)) == 0


def test_what_has_no_direction_is_degenerate():
    with pytest.raises(DegenerateError, match="all equal or all zero"):
        feature_distance(means_of(torch.ones(6, 3), torch.arange(6) % 3))
    with pytest.raises(DegenerateError, match="all equal or all zero"):
        classifier_distance(torch.ones(3, 4), centre=True)
    with pytest.raises(DegenerateError, match="all zero"):
        equinorm(torch.zeros(3))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e200])
def test_what_is_not_finite_or_overflows_is_never_returned_as_nan(value):
    weight = torch.eye(3, dtype=torch.float64)
    weight[0, 0] = value
    with pytest.raises(DegenerateError, match="finite Gram matrix"):
        classifier_distance(weight)
    if value != 1e200:
        with pytest.raises(DegenerateError, match="finite norms"):
            equinorm(weight[0])


def test_a_target_or_a_size_that_does_not_exist():
    means = means_of(torch.eye(3), torch.arange(3))
    with pytest.raises(InputError, match="'etff'"):
        feature_distance(means, "etff")
    with pytest.raises(InputError, match="'OF'"):
        distance_floor(3, 2, "OF")
    with pytest.raises(InputError, match="classes is an integer of at least 2"):
        distance_floor(1, 2)
    with pytest.raises(InputError, match="features is an integer of at least 1"):
        distance_floor(3, 0)
