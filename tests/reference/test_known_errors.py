"""Cases in which published tools return wrong numbers or crash; each is asked for the right value here.

The float64 definition is the judge. S-numbers are those of the list of errors this project keeps.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tightframe.collapse.conventions as conventions
from definitions import TwoPass, etf_target, gaussian_classes, gram_error, nearest
from tightframe.collapse.decision import disagreement, nearest_class
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs
from tightframe.collapse.simplex import distance_floor, feature_distance
from tightframe.collapse.variability import nc1, trace_ratio
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments


def moments_of(features, labels, *, classes=None, batch=None, **options):
    moments = ClassMoments(classes or int(labels.max()) + 1, **options)
    step = batch or len(labels)
    for start in range(0, len(labels), step):
        moments.update(features[start : start + step], labels[start : start + step])
    return moments


def test_s1_a_last_batch_of_one_sample():
    features, labels = gaussian_classes([13] * 5, 8, seed=1, dtype=torch.float32)
    assert len(labels) % 16 == 1
    assert nc1(moments_of(features, labels, batch=16)) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-6)


def test_s2_classifier_weights_that_require_gradients():
    features, labels = gaussian_classes([10] * 5, 8, seed=2, dtype=torch.float32)
    layer = torch.nn.Linear(8, 5)
    decided = layer(features).argmax(1)
    assert 0 <= disagreement(features.requires_grad_(), decided, CentredMeans(moments_of(features, labels))) <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_s2b_s16_half_precision_features(dtype):
    features, labels = gaussian_classes([200] * 5, 8, seed=3, dtype=dtype)
    reference = TwoPass(features, labels)
    moments = moments_of(features, labels, batch=64)
    assert nc1(moments) == pytest.approx(reference.nc1(), rel=1e-6)
    assert np.abs(moments.mean.numpy() - reference.mean).max() < 1e-6
    assert nearest_class(features, CentredMeans(moments)).tolist() == (
        nearest(features.double().numpy(), reference.mean).tolist()
    )


@pytest.mark.parametrize("classes", [65, 129])
def test_s5_class_numbers_one_above_a_multiple_of_the_tile(classes):
    features, labels = gaussian_classes([4] * classes, 6, seed=4)
    found = class_pairs(CentredMeans(moments_of(features, labels)))
    assert found.cdnv == pytest.approx(TwoPass(features, labels).cdnv(), rel=1e-9)


def test_s6_float64_input_is_not_rounded_to_float32():
    features, labels = gaussian_classes([10] * 5, 6, seed=5)
    found = class_pairs(CentredMeans(moments_of(features, labels))).cdnv
    assert found == pytest.approx(TwoPass(features, labels).cdnv(), rel=1e-13)


def test_s7_a_class_without_samples():
    features, labels = gaussian_classes([30] * 5, 8, seed=6, offset=1.0)
    moments, reference = moments_of(features, labels, classes=6), TwoPass(features, labels)
    with pytest.raises(InputError, match="class 5"):
        nc1(moments)
    means = CentredMeans(moments, absent="drop")
    assert nc1(moments, absent="drop") == pytest.approx(reference.nc1(), rel=1e-11)
    rows = reference.centred()
    assert feature_distance(means) == pytest.approx(gram_error(rows @ rows.T, etf_target(5)), rel=1e-11)
    assert class_pairs(means).cdnv == pytest.approx(reference.cdnv(), rel=1e-11)


def test_s8_the_bias_of_the_classifier_decides_too():
    # W = the centred means, b = -|c|^2/2 - W mu_G decides like the nearest centre; without b it does not.
    features, labels = gaussian_classes([100] * 8, 6, seed=7, spread=0.05, offset=0.0)
    features = features * torch.linspace(0.2, 3, 6, dtype=torch.float64) + 4.0
    means = CentredMeans(moments_of(features, labels))
    weight = means.all
    bias = -means.norms.square() / 2 - weight @ means.origin
    assert disagreement(features, (features @ weight.T + bias).argmax(1), means) == 0
    assert disagreement(features, (features @ weight.T).argmax(1), means) > 0.3


@pytest.mark.parametrize(("offset", "spread"), [(1e3, 1e-2), (1e4, 0.1), (1e5, 1.0)])
def test_s9_offsets_of_a_hundred_thousand_standard_deviations(offset, spread):
    features, labels = gaussian_classes([200] * 5, 8, seed=8, spread=spread, offset=offset, dtype=torch.float32)
    assert nc1(moments_of(features, labels, batch=100)) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_s10_nearest_centres_at_offset_1000_and_separation_005(dtype):
    draw = torch.Generator().manual_seed(9)
    labels = torch.arange(2000) % 10
    centres = torch.randn(10, 16, dtype=torch.float64, generator=draw)
    centres = 1000 + 0.05 * centres / centres.norm(dim=1, keepdim=True)
    noise = 1e-3 * torch.randn(2000, 16, dtype=torch.float64, generator=draw)
    features = (centres[labels] + noise).to(dtype)
    reference = TwoPass(features, labels)
    found = nearest_class(features, CentredMeans(moments_of(features, labels)))
    assert found.tolist() == nearest(features.double().numpy() - 1000, reference.mean - 1000).tolist()
    assert found.equal(labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_s12_anisotropic_class_means(dtype):
    # Spectrum 1 .. 1e-4 of the class means: a float32 pseudo-inverse cuts the small ones off.
    draw = torch.Generator().manual_seed(10)
    classes, dimension = 100, 128
    turn = torch.linalg.qr(torch.randn(dimension, dimension, dtype=torch.float64, generator=draw)).Q
    means = torch.randn(classes, dimension, dtype=torch.float64, generator=draw)
    means = means * torch.logspace(0, -4, dimension, dtype=torch.float64) @ turn
    labels = torch.arange(20 * classes) % classes
    noise = torch.randn(len(labels), dimension, dtype=torch.float64, generator=draw)
    noise = noise * torch.logspace(-1, -5, dimension, dtype=torch.float64) @ turn
    features = (means[labels] + noise).to(dtype)
    reference = TwoPass(features, labels)
    rows = reference.centred() / math.sqrt(classes)
    _, singular, right = np.linalg.svd(rows, full_matrices=False)
    projected = right[:-1] / singular[:-1, None]
    expected = np.trace(projected @ reference.within() @ projected.T) / classes
    assert nc1(moments_of(features, labels, batch=256)) == pytest.approx(
        expected, rel=1e-9 if dtype == torch.float64 else 1e-4
    )


def test_s17_ignored_labels_leave_no_trace():
    features, labels = gaussian_classes([40] * 5, 8, seed=11)
    marked = labels.clone()
    marked[::4] = -100
    kept = marked != -100
    moments, reference = moments_of(features, marked, classes=5, batch=30), TwoPass(features[kept], labels[kept])
    assert moments.total == int(kept.sum())
    assert nc1(moments) == pytest.approx(reference.nc1(), rel=1e-11)
    assert trace_ratio(moments) == pytest.approx(reference.trace_ratio(), rel=1e-12)


def test_s18_s19_counts_are_64_bit_and_sums_are_float64():
    statistics = torch.full((2,), 2**40), torch.eye(2, dtype=torch.float64)
    moments = ClassMoments.from_statistics(*statistics, within=torch.ones(2).double(), scatter=torch.eye(2).double())
    moments.update(torch.eye(2), torch.arange(2))
    assert moments.count.tolist() == [2**40 + 1] * 2
    ones = torch.ones(1 << 16, 1)
    stream = ClassMoments(2, "trace")
    for _ in range(300):  # 1.97e7 samples: a float32 sum of ones stops at 2^24
        stream.update(ones, torch.zeros(1 << 16, dtype=torch.int64))
    assert int(stream.count[0]) == 300 << 16
    assert float(stream.mean[0]) == 1


def test_s23_the_riesz_kernel_that_underflows_is_not_offered():
    assert not any("riesz" in (c.metric + c.name + c.formula).lower() for c in conventions.OTHERS.values())


def test_s24_the_global_mean_of_imbalanced_classes_is_the_sample_mean():
    features, labels = gaussian_classes([500, 20, 20, 20, 5], 8, seed=12)
    means = CentredMeans(moments_of(features, labels))
    assert torch.allclose(means.origin, features.mean(0), rtol=0, atol=1e-13)
    alike = CentredMeans(moments_of(features, labels), centre="class")
    assert float((means.origin - alike.origin).norm()) > 0.3 * float(alike.origin.norm())


@pytest.mark.parametrize("seed", range(5))
def test_s25_two_equal_class_means(seed):
    features, labels = gaussian_classes([20] * 5, 8, seed=seed)
    features[labels == 4] = features[labels == 2]
    moments = moments_of(features, labels)
    with pytest.raises(DegenerateError, match="coincide"):
        class_pairs(CentredMeans(moments))
    with pytest.raises(DegenerateError, match="coincide"):
        nc1(moments)
    assert trace_ratio(moments) == pytest.approx(TwoPass(features, labels).trace_ratio(), rel=1e-12)


@pytest.mark.parametrize(("classes", "dimension"), [(9, 8), (10, 8), (40, 8)])
@pytest.mark.parametrize("name", ["weighted", "zhu", "anchor"])
def test_as_many_classes_as_dimensions_or_more(classes, dimension, name):
    features, labels = gaussian_classes([15] * classes, dimension, seed=13)
    assert nc1(moments_of(features, labels), name) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-10)


@pytest.mark.parametrize("seed", range(10))
def test_nc1_of_float32_features_is_never_negative(seed):
    features, labels = gaussian_classes([50] * 10, 64, seed=seed, spread=0.1, dtype=torch.float32)
    assert nc1(moments_of(features, labels)) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-6)
    collapsed = moments_of(torch.randn(10, 64)[labels], labels)
    assert 0 <= nc1(collapsed) < 1e-12


def test_nc1_of_float32_features_at_the_sizes_of_a_network():
    # numpy.linalg.pinv of the float32 S_B returns 3383250 in place of 0.0016 here.
    features, labels = gaussian_classes([300] * 10, 512, seed=14, spread=0.3, dtype=torch.float32)
    expected = TwoPass(features, labels).nc1()
    assert 1e-3 < expected < 3e-3
    assert nc1(moments_of(features, labels, batch=128)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("classes", "dimension"), [(5000, 128), (3000, 64)])
def test_nc2_of_many_classes_does_not_fall_below_the_floor(classes, dimension):
    features = torch.randn(classes, dimension, generator=torch.Generator().manual_seed(15))
    moments = moments_of(features, torch.arange(classes), mode="trace")
    found = feature_distance(CentredMeans(moments))
    rows = features.double() - features.double().mean(0)
    # |G|^2 = |C^T C|^2 in float64, and <G, T> = tr(G)/sqrt(K-1) for centred rows.
    inner = float(rows.square().sum()) / math.sqrt(classes - 1)
    expected = math.sqrt(2 - 2 * inner / float(torch.linalg.matrix_norm(rows.T @ rows)))
    assert found == pytest.approx(expected, rel=1e-9)
    assert found > distance_floor(classes, dimension)


def test_labels_beyond_the_classes_are_not_silently_dropped():
    with pytest.raises(InputError, match=r"\[0, 5\); got values from 0 to 5"):
        moments_of(torch.randn(6, 3), torch.arange(6), classes=5)
