"""ClassMoments against two passes in float64, in any order, precision and number of workers; bad input."""

from __future__ import annotations

import time

import pytest
import torch

from definitions import TwoPass, gaussian_classes
from streams import assert_moments, measured, relative
from tightframe.collapse.variability import nc1
from tightframe.core.errors import InputError
from tightframe.features.moments import ClassMoments


@pytest.fixture(scope="module")
def offset_data():
    """Float32 features with means offset by 10, per within-class std, and their two-pass NC1."""
    data = {}
    for spread in (1.0, 1e-2, 1e-4):
        features, labels = gaussian_classes([400] * 10, 48, seed=1, spread=spread, offset=10.0, dtype=torch.float32)
        data[spread] = features, labels, TwoPass(features, labels)
    return data


def ordered(features, labels, order):
    if order == "sorted":
        index = labels.argsort(stable=True)
    elif order == "reversed":
        index = torch.arange(len(labels)).flip(0)
    else:
        index = torch.arange(len(labels))
    return features[index], labels[index]


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize(("batch", "workers"), [(128, 1), (1024, 1), (128, 2), (1024, 3), (128, 4), (1024, 4)])
@pytest.mark.parametrize("order", ["shuffled", "sorted", "reversed"])
def test_nc1_of_float32_features_is_within_a_millionth_of_two_passes(offset_data, spread, batch, workers, order):
    features, labels, reference = offset_data[spread]
    features, labels = ordered(features, labels, order)
    parts = [ClassMoments(10) for _ in range(workers)]
    for index, start in enumerate(range(0, len(labels), batch)):
        parts[index % workers].update(features[start : start + batch], labels[start : start + batch])
    whole = parts[0]
    for part in parts[1:]:
        whole.merge(part)
    assert nc1(whole) == pytest.approx(reference.nc1(), rel=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 128, 4000])
def test_float64_features_agree_to_twelve_digits(batch):
    features, labels = gaussian_classes([120, 300, 55, 25], 9, seed=2, spread=0.5, offset=3.0)
    assert_moments(measured(features, labels, classes=4, batch=batch), TwoPass(features, labels), 1e-12)


@pytest.mark.parametrize("jump", [1e3, 1e6, 1e9])
def test_a_jump_after_a_single_first_sample_costs_no_digits_in_float64(jump):
    features, labels = gaussian_classes([300] * 3, 6, seed=3)
    # One sample per class, then everything far away: the first sample is part of the data and of its scatter.
    first = torch.tensor([int((labels == k).nonzero()[0]) for k in range(3)])
    rest = torch.tensor([i for i in range(len(labels)) if i not in set(first.tolist())])
    features[rest] += jump
    moments = ClassMoments(3)
    moments.update(features[first], labels[first])
    for index in rest.split(64):
        moments.update(features[index], labels[index])
    reference = TwoPass(features, labels)
    assert_moments(moments, reference, 1e-10)


@pytest.mark.parametrize("batch", [1, 16, 128, 1024])
def test_a_drifting_mean_keeps_float32_accuracy(batch):
    features, labels = gaussian_classes([500] * 4, 12, seed=4, spread=0.1)
    # Each feature drifts on its own path, by thirty times the within-class std, with a jump half way.
    draw = torch.Generator().manual_seed(0)
    path = torch.randn(len(labels), 12, dtype=torch.float64, generator=draw).cumsum(0) * 0.05
    path[len(labels) // 2 :] += 3 * torch.randn(12, dtype=torch.float64, generator=draw)
    features = (features + path).float()
    if batch == 1:
        features, labels = features[:600], labels[:600]
    moments, reference = measured(features, labels, classes=4, batch=batch), TwoPass(features, labels)
    assert_moments(moments, reference, 1e-6)
    assert nc1(moments) == pytest.approx(reference.nc1(), rel=1e-6)


def test_a_far_first_sample_then_tight_clusters_in_float32():
    features, labels = gaussian_classes([400] * 5, 16, seed=5, spread=1e-3, offset=10.0, dtype=torch.float32)
    features[:5] += 100 * torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    labels[:5] = torch.arange(5)
    moments = ClassMoments(5)
    moments.update(features[:5], labels[:5])
    for start in range(5, len(labels), 100):
        moments.update(features[start : start + 100], labels[start : start + 100])
    assert nc1(moments) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_the_subtracted_term_stays_below_thirteen_sixteenths(seed):
    # Jumps at every scale, placed just before and just after the counts at which drift is looked at.
    draw = torch.Generator().manual_seed(seed)
    moments, worst = ClassMoments(2, "trace"), 0.0
    level = torch.zeros(3, dtype=torch.float64)
    for size in [1, 1, 2, 3, 1, 7, 1, 15, 30, 1, 63, 1, 100, 27, 1, 250, 3, 400]:
        if torch.rand((), generator=draw) < 0.7:
            level = level + 10 ** (4 * torch.rand((), generator=draw)) * torch.randn(3, generator=draw).double()
        rows = level + torch.randn(size, 3, dtype=torch.float64, generator=draw)
        moments.update(rows, torch.zeros(size, dtype=torch.int64))
        sums = moments._sums
        subtracted = float((sums.offset[0] ** 2).sum() / sums.count[0])
        if float(sums.square[0]) > 0:
            worst = max(worst, subtracted / float(sums.square[0]))
    assert 0 < worst <= 13 / 16 + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_holds_after_merges_too(seed):
    draw = torch.Generator().manual_seed(seed)
    whole = ClassMoments(2, "trace")
    for size in (1, 1000, 3, 50, 4000):
        part = ClassMoments(2, "trace")
        level = 10 ** (5 * torch.rand((), generator=draw)) * torch.randn(3, generator=draw)
        part.update(level + torch.randn(size, 3, generator=draw), torch.zeros(size, dtype=torch.int64))
        whole.merge(part)
        sums = whole._sums
        # The anchor of a stale mean would leave nearly all of the sum of squares to be subtracted.
        assert float((sums.offset[0] ** 2).sum() / sums.count[0]) <= 13 / 16 * float(sums.square[0])


def test_the_bound_is_nearly_attained_by_the_worst_order():
    # c = 5/8 of the first half is offset, and the other half sits as far out as Cauchy-Schwarz allows.
    moments = ClassMoments(2, "trace")
    half = 1 << 12
    first = torch.zeros(half, 1, dtype=torch.float64)
    mean, energy = (5 / 8) ** 0.5, 1.0
    first[:, 0] = mean + (energy - mean**2) ** 0.5 * torch.tensor([1.0, -1.0]).double().repeat(half // 2)
    moments.update(torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0]))
    moments.update(first * 0.999, torch.zeros(half, dtype=torch.int64))
    later = torch.full((half - 1, 1), 1 / mean, dtype=torch.float64)
    moments.update(later, torch.zeros(half - 1, dtype=torch.int64))
    sums = moments._sums
    share = float((sums.offset[0] ** 2).sum() / sums.count[0] / sums.square[0])
    assert 0.8 < share <= 13 / 16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_float32_result_of_the_rounded_data(dtype):
    features, labels = gaussian_classes([100] * 4, 8, seed=6)
    rounded = features.to(dtype)
    half, single = (
        measured(rounded, labels, classes=4, batch=64),
        measured(rounded.float(), labels, classes=4, batch=64),
    )
    assert torch.equal(half.mean, single.mean)
    assert torch.equal(half.scatter, single.scatter)


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-3])
def test_a_float32_state_keeps_nc1_within_a_ten_thousandth(spread):
    features, labels = gaussian_classes([2000] * 10, 32, seed=7, spread=spread, offset=10.0, dtype=torch.float32)
    moments = measured(features, labels, classes=10, batch=512, dtype=torch.float32)
    assert moments.mean.dtype == moments.scatter.dtype == torch.float32
    # Means are float32 numbers near 10, separations near 1: 10 eps sqrt(d) over a spread of means of 1.
    assert nc1(moments) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-5)


def test_huge_finite_features_do_not_overflow():
    features, labels = gaussian_classes([50] * 4, 8, seed=8, dtype=torch.float32)
    reference = TwoPass(features, labels).nc1()
    for scale in (1e25, 1e37):
        assert nc1(measured(features * scale, labels, classes=4, batch=32)) == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-18, 1e-24, 1e-30])
def test_tiny_features_do_not_underflow(scale):
    features, labels = gaussian_classes([50] * 4, 8, seed=8, dtype=torch.float32)
    reference = TwoPass(features, labels).nc1()
    assert nc1(measured(features * scale, labels, classes=4, batch=32)) == pytest.approx(reference, rel=1e-5)


def test_float64_features_that_would_overflow_are_refused_and_nothing_is_counted():
    moments = ClassMoments(2)
    with pytest.raises(InputError, match="below 1e145"):
        moments.update(torch.tensor([[1e200], [0.0]], dtype=torch.float64), torch.tensor([0, 1]))
    assert moments.total == 0


def test_one_class_per_batch_many_classes_and_a_class_never_seen():
    features, labels = gaussian_classes([3] * 50, 7, seed=9)
    moments = ClassMoments(60)
    for k in range(50):
        moments.update(features[labels == k], labels[labels == k])
    reference = TwoPass(features, labels)
    assert moments.count[50:].tolist() == [0] * 10
    assert moments.mean[50:].abs().max() == 0
    assert relative(moments.mean[:50], reference.mean) < 1e-13
    assert relative(moments.scatter, reference.scatter) < 1e-12


def test_trace_mode_equals_full_mode():
    features, labels = gaussian_classes([40, 80, 20], 33, seed=10, dtype=torch.float32)
    full, trace = (measured(features, labels, classes=3, batch=32, mode=mode) for mode in ("full", "trace"))
    assert torch.equal(full.mean, trace.mean)
    assert torch.equal(full.within, trace.within)
    assert float(full.scatter.trace()) == pytest.approx(float(full.within.sum()), rel=1e-6)


@pytest.mark.parametrize("dimension", [5, 130, 300, 1100])
def test_scatter_is_symmetric_positive_and_its_product_needs_no_scatter(dimension):
    # 130 and 300 cross the strips of 128 rows; 1100 has strips of more than 128 rows.
    features, labels = gaussian_classes([60] * 3, dimension, seed=11, dtype=torch.float32)
    moments = measured(features, labels, classes=3, batch=50)
    scatter = moments.scatter
    assert relative(scatter, scatter.T) < 1e-6  # float32 products in the diagonal blocks
    assert float(torch.linalg.eigvalsh(scatter).min()) > -1e-6 * float(scatter.trace()) / dimension**0.5
    assert relative(scatter, TwoPass(features, labels).scatter) < 1e-6
    columns = torch.randn(dimension, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert relative(moments.scatter_times(columns), scatter @ columns) < 1e-13


def test_fifty_thousand_classes_take_no_loop_over_classes():
    classes, dimension = 50_000, 64
    draw = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (2 * classes,), generator=draw)])
    features = torch.randn(len(labels), dimension, generator=draw) + labels[:, None] % 7
    start = time.process_time()
    moments = measured(features, labels, classes=classes, batch=8192, mode="trace")
    spent = time.process_time() - start
    mean = torch.zeros(classes, dimension, dtype=torch.float64).index_add_(0, labels, features.double())
    mean /= torch.bincount(labels)[:, None]
    within = torch.zeros(classes, dtype=torch.float64)
    within.index_add_(0, labels, (features.double() - mean[labels]).square().sum(1))
    assert relative(moments.mean, mean) < 1e-6
    assert relative(moments.within, within) < 1e-6
    assert spent < 6  # a loop over 50,000 classes in each of 19 batches takes minutes


def test_wide_batches_are_taken_in_blocks(monkeypatch):
    features, labels = gaussian_classes([90] * 3, 10, seed=12)
    whole = measured(features, labels, classes=3)
    monkeypatch.setattr("tightframe.features.anchored.BLOCK", 64)
    assert_moments(measured(features, labels, classes=3), TwoPass(features, labels), 1e-12)
    assert relative(measured(features, labels, classes=3).scatter, whole.scatter) < 1e-12


def test_non_contiguous_features_and_labels():
    features, labels = gaussian_classes([30] * 3, 10, seed=13)
    wide = torch.zeros(10, 180, dtype=torch.float64)
    wide[:, ::2] = features.T
    doubled = torch.stack([labels, labels], dim=1)[:, 0]
    strided = wide.T[::2]
    assert not strided.is_contiguous()
    assert not doubled.is_contiguous()
    assert torch.equal(measured(strided, doubled, classes=3).scatter, measured(features, labels, classes=3).scatter)


@pytest.mark.parametrize("ignored", [-100, 2])
def test_ignored_rows_leave_no_trace_even_if_they_are_not_finite(ignored):
    features, labels = gaussian_classes([30] * 2, 5, seed=14)
    reference = TwoPass(features, labels)
    mixed = torch.cat([features, torch.full((7, 5), torch.nan, dtype=torch.float64)])
    marked = torch.cat([labels, torch.full((7,), ignored)])
    index = torch.randperm(len(marked), generator=torch.Generator().manual_seed(0))
    moments = measured(mixed[index], marked[index], classes=3, batch=16, ignore_index=ignored)
    assert moments.count.tolist() == [30, 30, 0]
    assert relative(moments.scatter, reference.scatter) < 1e-12


def test_a_batch_of_ignored_rows_or_no_rows_counts_nothing():
    moments = ClassMoments(3)
    moments.update(torch.zeros(4, 2), torch.full((4,), -100))
    moments.update(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert moments.total == 0


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_integer_type(kind):
    features, labels = gaussian_classes([10] * 3, 4, seed=15)
    assert torch.equal(
        measured(features, labels.to(kind), classes=3).scatter, measured(features, labels, classes=3).scatter
    )


def test_float64_batches_after_float32_ones_raise_the_precision():
    features, labels = gaussian_classes([60] * 3, 5, seed=16, offset=10.0)
    features[:90] = features[:90].float().double()
    moments = ClassMoments(3)
    moments.update(features[:90].float(), labels[:90])
    moments.update(features[90:], labels[90:])
    assert_moments(moments, TwoPass(features, labels), 1e-7)
