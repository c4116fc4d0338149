"""NC4 against one argmin per sample, at any offset; bias collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from definitions import TwoPass, gaussian_classes, nearest
from tightframe.collapse import decision
from tightframe.collapse.decision import bias_collapse, disagreement, nearest_class
from tightframe.collapse.means import CentredMeans
from tightframe.core.errors import InputError
from tightframe.features.moments import ClassMoments


def means_of(features, labels, classes=None, **options):
    moments = ClassMoments(classes or int(labels.max()) + 1, "trace")
    moments.update(features, labels)
    return CentredMeans(moments, **options)


@pytest.mark.parametrize("counts", [[30] * 6, [40, 5, 12, 70, 9, 3]])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_nearest_class_is_the_argmin_of_distances(counts, offset):
    features, labels = gaussian_classes(counts, 7, seed=1, spread=2.0, offset=offset)
    reference = TwoPass(features, labels)
    shift = reference.mean[0]
    expected = nearest(features.numpy() - shift, reference.mean - shift)
    found = nearest_class(features, means_of(features, labels))
    assert found.dtype == torch.int64
    assert found.tolist() == expected.tolist()
    assert torch.cdist(features - features[0], torch.from_numpy(reference.mean) - features[0]).argmin(1).equal(found)


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (7, 2), (40, 5)])
def test_blocks_of_samples_and_classes(monkeypatch, rows, classes):
    features, labels = gaussian_classes([8] * 11, 4, seed=2, spread=2.0)
    means = means_of(features, labels)
    whole = nearest_class(features, means)
    monkeypatch.setattr(decision, "_BLOCK", 11 * rows)
    monkeypatch.setattr("tightframe.collapse.means._BLOCK", 4 * classes)
    assert nearest_class(features, means).equal(whole)


def test_ties_go_to_the_lowest_class():
    means = means_of(torch.tensor([[1.0], [-1.0], [3.0]]), torch.tensor([0, 1, 2]))
    assert nearest_class(torch.tensor([[0.0], [2.0]]), means).tolist() == [0, 0]


def test_dropped_classes_keep_the_numbers_of_the_others():
    features, labels = gaussian_classes([30] * 3, 5, seed=3, spread=0.01)
    numbers = torch.tensor([2, 5, 6])[labels]
    means = means_of(features, numbers, 9, absent="drop")
    assert nearest_class(features, means).equal(numbers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_of_every_precision(dtype):
    features, labels = gaussian_classes([20] * 4, 6, seed=4, dtype=dtype)
    expected = nearest(features.double().numpy(), TwoPass(features, labels).mean)
    assert nearest_class(features, means_of(features, labels)).tolist() == expected.tolist()


def test_disagreement_is_a_share_of_rows():
    features, labels = gaussian_classes([25] * 4, 6, seed=5, spread=0.01)
    means = means_of(features, labels)
    decided = labels.clone()
    decided[:7] = (decided[:7] + 1) % 4
    assert disagreement(features, labels, means) == 0
    assert disagreement(features, decided, means) == pytest.approx(0.07)


@pytest.mark.parametrize("predicted", [torch.zeros(3, dtype=torch.int64), torch.zeros(8, 4)])
def test_decisions_that_do_not_match_the_rows_are_refused(predicted):
    features, labels = gaussian_classes([2] * 4, 6, seed=6)
    with pytest.raises(InputError, match=r"one decision per row.*8 rows"):
        disagreement(features, predicted, means_of(features, labels))


def test_no_rows_have_no_share():
    features, labels = gaussian_classes([2] * 4, 6, seed=6)
    with pytest.raises(InputError, match="at least one row; got 0 rows"):
        disagreement(features[:0], labels[:0], means_of(features, labels))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused(value):
    features, labels = gaussian_classes([5] * 4, 6, seed=7)
    spoiled = features.clone()
    spoiled[3, 2] = value
    with pytest.raises(InputError, match="features are finite"):
        nearest_class(spoiled, means_of(features, labels))


def test_features_of_another_layer_are_refused():
    features, labels = gaussian_classes([5] * 4, 6, seed=8)
    with pytest.raises(InputError, match="dimension 6, as the class means; got dimension 5"):
        nearest_class(features[:, :5], means_of(features, labels))
    with pytest.raises(InputError, match="floating-point"):
        nearest_class(features.long(), means_of(features, labels))


def test_bias_collapse_is_the_norm_of_the_logits_at_the_global_mean():
    features, labels = gaussian_classes([5, 9, 2], 6, seed=9, offset=2.0)
    draw = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 6, generator=draw), torch.randn(3, generator=draw)
    expected = np.linalg.norm(bias.double().numpy() + weight.double().numpy() @ features.mean(0).numpy())
    means = means_of(features, labels)
    assert bias_collapse(means, weight, bias) == pytest.approx(expected, rel=1e-12)
    assert bias_collapse(means, weight, -weight.double() @ means.origin) < 1e-12
    with pytest.raises(InputError, match="bias has shape"):
        bias_collapse(means, weight, bias[:2])
    with pytest.raises(InputError, match="classifier is finite"):
        bias_collapse(means, weight, torch.full((3,), torch.nan))
