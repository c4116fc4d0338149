"""`GroupedMoments` and the bootstrap intervals made of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tightframe.collapse.evaluate import evaluate_layer, with_intervals
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments
from tightframe.features.replicates import GroupedMoments

K, D = 5, 8


def gaussian(seed: int, rows: int = 2000, *, order: str = "cyclic") -> tuple[Tensor, Tensor]:
    """Gaussian classes about fixed means: the sampling that the bootstrap is to know about."""
    means = torch.randn(K, D, generator=generator(77), dtype=torch.float64)
    labels = torch.arange(rows) % K
    labels = {"cyclic": labels, "sorted": labels.sort().values}[order]
    return means[labels] + 0.5 * torch.randn(rows, D, generator=generator(seed), dtype=torch.float64), labels


def grouped(features: Tensor, labels: Tensor, *, groups: int = 16, batch: int = 100, **options) -> GroupedMoments:
    moments = GroupedMoments(K, groups=groups, **options)
    for h, y in zip(features.split(batch), labels.split(batch), strict=True):
        moments.update(h, y)
    return moments


def whole(features: Tensor, labels: Tensor, mode: str = "full") -> ClassMoments:
    moments = ClassMoments(K, mode)
    moments.update(features, labels)
    return moments


def assert_same(first: ClassMoments, second: ClassMoments, rtol: float = 1e-12) -> None:
    assert torch.equal(first.count, second.count)
    torch.testing.assert_close(first.mean, second.mean, rtol=rtol, atol=rtol)
    torch.testing.assert_close(first.within, second.within, rtol=rtol, atol=rtol)
    if first.mode == "full":
        torch.testing.assert_close(first.scatter, second.scatter, rtol=rtol, atol=rtol * float(first.scatter.norm()))


@pytest.mark.parametrize("batch", [1, 7, 100, 2000])
@pytest.mark.parametrize("mode", ["full", "trace"])
def test_the_groups_together_are_all_rows(batch, mode):
    features, labels = gaussian(0, 300)
    assert_same(grouped(features, labels, batch=batch, mode=mode).total(), whole(features, labels, mode))


@pytest.mark.parametrize("order", ["cyclic", "sorted"])
@pytest.mark.parametrize("batch", [1, 33, 500])
def test_every_class_is_spread_evenly_in_any_order_of_the_data(order, batch):
    # 16 groups and classes in turn: rows counted without regard to their class would give a group few classes.
    features, labels = gaussian(0, 16 * K * 3, order=order)
    groups = grouped(features, labels, batch=batch).groups
    assert all(group.count.tolist() == [3] * K for group in groups)


def test_classes_of_one_row_fall_into_different_groups():
    moments = GroupedMoments(8, groups=4)
    moments.update(torch.eye(8), torch.arange(8))
    assert [group.total for group in moments.groups] == [2, 2, 2, 2]
    assert not moments.complete


def test_a_resample_that_draws_every_group_once_is_the_total(monkeypatch):
    features, labels = gaussian(1, 300)
    moments = grouped(features, labels)
    monkeypatch.setattr(torch, "randint", lambda high, size, generator: torch.arange(high).flip(0))
    assert_same(moments.resample(generator(0)), whole(features, labels))


@pytest.mark.parametrize("mode", ["full", "trace"])
def test_a_resample_is_the_moments_of_the_repeated_rows(mode):
    features, labels = gaussian(2, 300)
    moments = grouped(features, labels, groups=4, mode=mode)
    drawn = torch.randint(4, (4,), generator=generator(9))
    assert len(set(drawn.tolist())) < 4
    place = torch.stack([(labels[:i] == labels[i]).sum() for i in range(len(labels))])
    share = (place + labels) % 4
    rows = torch.cat([(share == g).nonzero().squeeze(1) for g in drawn.tolist()])
    assert_same(moments.resample(generator(9)), whole(features[rows], labels[rows], mode))


def test_ignored_rows_do_not_unbalance_the_groups():
    features, labels = gaussian(3, 16 * K * 4)
    ignored = torch.full_like(labels, -100)
    mixed = torch.stack([labels, *[ignored] * 15], 1).flatten()
    moments = GroupedMoments(K)
    moments.update(features.repeat_interleave(16, 0), mixed)
    assert all(group.count.tolist() == [4] * K for group in moments.groups)
    assert moments.complete


def test_a_batch_in_error_changes_no_group():
    features, labels = gaussian(4, 200)
    moments = grouped(features, labels)
    broken = features.clone()
    broken[150, 2] = torch.inf
    with pytest.raises(InputError, match="inf in 1 of 200 rows"):
        moments.update(broken, labels)
    with pytest.raises(InputError, match="dimension 8"):
        moments.update(features[:, :3], labels)
    assert_same(moments.total(), whole(features, labels))


def test_fewer_rows_than_groups_cannot_be_resampled():
    moments = GroupedMoments(K, groups=16)
    moments.update(*gaussian(0, 10))
    with pytest.raises(InputError, match="at least 16 rows, one per group; got 10"):
        moments.resample(generator(0))
    with pytest.raises(InputError, match="groups is an integer of at least 2"):
        GroupedMoments(K, groups=1)


def test_intervals_are_reproducible_and_where_they_cannot_be_had_a_note_says_so():
    features, labels = gaussian(0, 400)
    moments = grouped(features, labels)
    layer = evaluate_layer(moments.total())
    first, again = (with_intervals(layer, moments, replicates=20) for _ in range(2))
    assert first == again
    assert first != with_intervals(layer, moments, replicates=20, seed=1)
    low, high = first.measurements["NC1"].interval
    assert low < first["NC1"] < high
    few = torch.cat([torch.arange(390), torch.tensor([390, 395])])  # two rows of class 0 that groups would miss
    keep = few[(labels[few] != 0) | (few >= 390)]
    sparse = grouped(features[keep], labels[keep])
    noted = with_intervals(evaluate_layer(sparse.total()), sparse, replicates=20).measurements["NC1"]
    assert noted.interval is None
    assert noted.note == "no interval: a class is not in all 16 groups"


def test_the_classifier_alone_has_no_interval():
    features, labels = gaussian(0, 400)
    moments = grouped(features, labels)
    head = {"weight": torch.randn(K, D, generator=generator(3)), "bias": torch.zeros(K)}
    layer = with_intervals(evaluate_layer(moments.total(), **head), moments, replicates=10, **head)
    assert layer.measurements["NC2 classifier"].interval is None
    assert layer.measurements["NC3"].interval is not None


@pytest.fixture(scope="module")
def honesty():
    """log NC1 of 200 data sets, and the bootstrap's standard deviation of it in 60 of them."""
    logs, deviations = [], []
    for seed in range(200):
        features, labels = gaussian(1000 + seed)
        moments = GroupedMoments(K) if seed < 60 else None
        if moments is None:
            layer = evaluate_layer(whole(features, labels), only=["NC1"])
        else:
            moments.update(features, labels)
            layer = with_intervals(evaluate_layer(moments.total()), moments, replicates=40)
            low, high = layer.measurements["NC1"].interval
            deviations.append(math.log(high / low) / (2 * 1.96))
        logs.append(math.log(layer["NC1"]))
    return torch.tensor(logs), torch.tensor(deviations)


def test_the_bootstrap_knows_the_spread_over_data_sets(honesty):
    logs, deviations = honesty
    assert float(deviations.median()) == pytest.approx(float(logs.std()), rel=0.35)


def test_intervals_cover_the_mean_at_their_rate(honesty):
    logs, deviations = honesty
    # 60 intervals at a true rate near 93 % (15 degrees of freedom): 85 % is 2.5 standard deviations below.
    covered = (logs[:60] - logs.mean()).abs() < 1.96 * deviations
    assert 0.85 <= float(covered.double().mean()) <= 1.0
