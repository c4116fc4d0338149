"""NC3 in the published forms against dense matrices and loops over classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from definitions import TwoPass, etf_target, gaussian_classes, gram_error
from tightframe.collapse import duality
from tightframe.collapse.duality import class_cosines, class_products, duality_distance, duality_gram
from tightframe.collapse.means import CentredMeans
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments


def setting(counts=(10, 4, 17, 8, 30), dimension=6, seed=1, **options):
    features, labels = gaussian_classes(list(counts), dimension, seed=seed, offset=1.0)
    moments = ClassMoments(len(counts), "trace")
    moments.update(features, labels)
    draw = torch.Generator().manual_seed(seed + 100)
    weight = torch.randn(len(counts), dimension, dtype=torch.float64, generator=draw)
    return CentredMeans(moments, **options), weight, TwoPass(features, labels)


@pytest.mark.parametrize("target", ["etf", "of"])
@pytest.mark.parametrize("dimension", [2, 4, 11])
@pytest.mark.parametrize("dense", [True, False])
def test_duality_gram_equals_the_dense_definition(monkeypatch, target, dimension, dense):
    if not dense:
        monkeypatch.setattr(duality, "DENSE", 2)
        monkeypatch.setattr("tightframe.collapse.means._BLOCK", 2 * dimension)
    means, weight, reference = setting(dimension=dimension)
    rows = reference.centred() if target == "etf" else reference.mean
    ideal = etf_target(5) if target == "etf" else np.eye(5) / math.sqrt(5)
    expected = gram_error(weight.numpy() @ rows.T, ideal)
    assert duality_gram(means, weight, target) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("centre", ["sample", "class"])
@pytest.mark.parametrize("block", [1 << 24, 12])
def test_duality_distance_equals_the_dense_definition(monkeypatch, centred, centre, block):
    monkeypatch.setattr("tightframe.collapse.means._BLOCK", block)
    means, weight, reference = setting(centre=centre)
    rows, w = reference.centred(centre) if centred else reference.mean, weight.numpy()
    expected = np.linalg.norm(w / np.linalg.norm(w) - rows / np.linalg.norm(rows))
    assert duality_distance(means, weight, centred=centred) == pytest.approx(expected, rel=1e-12)


def test_cosines_and_products_class_by_class():
    means, weight, reference = setting()
    for k, (w, c) in enumerate(zip(weight.numpy(), reference.centred(), strict=True)):
        assert float(class_products(means, weight)[k]) == pytest.approx(w @ c, rel=1e-11)
        expected = w @ c / np.linalg.norm(w) / np.linalg.norm(c)
        assert float(class_cosines(means, weight)[k]) == pytest.approx(expected, rel=1e-11)


def test_a_classifier_equal_to_the_centred_means_is_dual():
    means, _, _ = setting()
    assert duality_distance(means, 3 * means.all) < 1e-15
    assert torch.allclose(class_cosines(means, means.all), torch.ones(5, dtype=torch.float64), rtol=1e-14)
    assert duality_distance(means, -means.all) == pytest.approx(2, rel=1e-14)


def test_single_precision_weights_with_a_graph_are_taken():
    means, weight, _ = setting()
    parameter = weight.float().requires_grad_()
    for value in (duality_gram(means, parameter), duality_distance(means, parameter)):
        assert isinstance(value, float)
    assert not class_cosines(means, parameter).requires_grad
    assert class_products(means, parameter).dtype == torch.float64


@pytest.mark.parametrize("measure", [duality_gram, duality_distance, class_cosines, class_products])
def test_a_classifier_that_does_not_fit_is_refused(measure):
    means, weight, _ = setting()
    for wrong in (torch.cat([weight, weight]), weight[:4], weight[:, :3]):
        with pytest.raises(InputError, match=r"\(classes, features\) = \(5, 6\)"):
            measure(means, wrong)
    broken = weight.clone()
    broken[2, 1] = torch.nan
    with pytest.raises(InputError, match="classifier is finite"):
        measure(means, broken)


@pytest.mark.parametrize("measure", [duality_gram, duality_distance, class_cosines])
def test_a_classifier_of_zeros_is_degenerate(measure):
    means, weight, _ = setting()
    with pytest.raises(DegenerateError, match="zero"):
        measure(means, torch.zeros_like(weight))


def test_a_target_that_does_not_exist():
    means, weight, _ = setting()
    with pytest.raises(InputError, match='"etf" or "of"'):
        duality_gram(means, weight, "frame")
