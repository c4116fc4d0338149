"""The sweep over pairs of classes against loops over all ordered pairs."""

from __future__ import annotations

import math

import pytest
import torch

from definitions import TwoPass, gaussian_classes, pair_cosines, pair_logs
from tightframe.collapse import pairs
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs, row_pairs
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments


def means_of(features, labels, classes=None, **options):
    moments = ClassMoments(classes or int(labels.max()) + 1, "trace")
    moments.update(features, labels)
    return CentredMeans(moments, **options)


def assert_pairs(found, reference, exponent, tolerance=1e-11):
    rows = reference.centred()
    cosines, logs = pair_cosines(rows), pair_logs(rows)
    ideal = -1 / (reference.classes - 1)
    assert found.cosine_std == pytest.approx(cosines.std(), rel=tolerance)
    assert found.angle_error == pytest.approx(abs(cosines - ideal).mean(), rel=tolerance)
    assert found.log_mean == pytest.approx(logs.mean(), rel=tolerance, abs=tolerance)
    assert found.log_variance == pytest.approx(logs.var(), rel=tolerance)
    assert found.cdnv == pytest.approx(reference.cdnv(exponent), rel=tolerance)


@pytest.mark.parametrize("exponent", [1, 2, 3])
@pytest.mark.parametrize("counts", [[20] * 5, [60, 5, 17, 40, 8], [4] * 12])
@pytest.mark.parametrize("dimension", [3, 8, 40])
def test_every_statistic_equals_the_loop_over_pairs(counts, dimension, exponent):
    features, labels = gaussian_classes(counts, dimension, seed=1, offset=3.0)
    assert_pairs(class_pairs(means_of(features, labels), exponent=exponent), TwoPass(features, labels), exponent)


@pytest.mark.parametrize("tile", [1, 2, 5, 7, 21, 64])
def test_tiles_of_any_size_give_the_same(monkeypatch, tile):
    # 21 classes: whole tiles, a last tile of one class, and everything in one tile.
    features, labels = gaussian_classes([5] * 21, 6, seed=2)
    monkeypatch.setattr(pairs, "_TILE", tile)
    assert_pairs(class_pairs(means_of(features, labels)), TwoPass(features, labels), 1)


@pytest.mark.parametrize("classes", [65, 129, 257, 300])
def test_class_numbers_around_the_tile_size(classes):
    features, labels = gaussian_classes([3] * classes, 5, seed=3)
    assert class_pairs(means_of(features, labels)).cdnv == pytest.approx(TwoPass(features, labels).cdnv(), rel=1e-9)


def test_rows_of_a_classifier_have_angles_but_no_cdnv():
    rows = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    found = row_pairs(rows.float().requires_grad_())
    assert found.cdnv is None
    assert found.cosine_std == pytest.approx(pair_cosines(rows.float().double().numpy()).std(), rel=1e-12)


def test_two_classes_have_one_angle():
    found = row_pairs(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    assert found.cosine_std == 0
    assert found.angle_error == pytest.approx(0, abs=1e-15)
    assert found.log_mean == pytest.approx(-math.log(2), rel=1e-14)
    assert found.log_variance == 0


def test_small_deviations_from_equal_angles_keep_their_digits():
    # A simplex of 4 with one row turned by t: the spread of cosines is of order t, far below the cosines themselves.
    simplex = torch.eye(4, dtype=torch.float64) - 0.25
    for turn in (1e-3, 1e-6, 1e-9):
        rows = simplex.clone()
        rows[0] += turn * torch.tensor([0.0, 1.0, -1.0, 0.0]).double()
        expected = pair_cosines(rows.numpy()).std()
        found = row_pairs(rows)
        assert found.cosine_std == pytest.approx(expected, rel=1e-5)
        # d log(1/|u - v|) / d cos = 1/|u - v|^2 = 1/(2 - 2 cos), which is 3/8 for a simplex of 4.
        assert found.log_variance == pytest.approx((3 / 8 * expected) ** 2, rel=10 * turn + 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(10))
def test_two_equal_class_means_are_degenerate(seed, dtype):
    features, labels = gaussian_classes([20] * 5, 16, seed=seed, dtype=dtype)
    features[labels == 3] = features[labels == 1].flip(0)  # equal means up to the order of summation
    with pytest.raises(DegenerateError, match="two that coincide"):
        class_pairs(means_of(features, labels))


def test_a_class_mean_on_the_global_mean_has_no_direction():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(DegenerateError, match="length zero"):
        row_pairs(rows)


@pytest.mark.parametrize("rows", [torch.ones(3), torch.ones(1, 4), torch.ones(2, 3, 4)])
def test_rows_of_another_shape_are_refused(rows):
    with pytest.raises(InputError, match="k >= 2"):
        row_pairs(rows)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_rows_that_are_not_finite_are_refused(value):
    rows = torch.eye(3)
    rows[1, 2] = value
    with pytest.raises(InputError, match="finite rows"):
        row_pairs(rows)


@pytest.mark.parametrize("exponent", [0, -1, 1.5])
def test_a_bad_exponent_is_refused(exponent):
    features, labels = gaussian_classes([5] * 3, 4, seed=5)
    with pytest.raises(InputError, match="exponent is an integer of at least 1"):
        class_pairs(means_of(features, labels), exponent=exponent)


def test_absent_classes_can_be_dropped():
    features, labels = gaussian_classes([10, 20, 5], 4, seed=6)
    assert_pairs(class_pairs(means_of(features, 3 * labels, 9, absent="drop")), TwoPass(features, labels), 1)
