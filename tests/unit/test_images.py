from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset, balanced_indices, normalised, stratified_split


def dataset(n: int = 7) -> ArrayDataset:
    return ArrayDataset(torch.arange(n * 4.0).view(n, 1, 2, 2), torch.arange(n) % 3)


def test_every_way_of_reading_gives_the_same_samples():
    data = dataset()
    images, labels = data.gather([4, 1])
    assert [int(data[i][1]) for i in (4, 1)] == labels.tolist()
    assert torch.equal(images[0], data[4][0])
    loaded = list(DataLoader(data, batch_size=3))
    assert torch.equal(torch.cat([x for x, _ in loaded]), data.images)
    assert torch.equal(torch.cat([y for _, y in loaded]), data.labels)


def test_take_keeps_the_order_asked_for():
    assert dataset().take(torch.tensor([5, 0])).images[:, 0, 0, 0].tolist() == [20, 0]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 2, 2), torch.zeros(3).long()),
        (torch.zeros(3, 1, 2, 2), torch.zeros(2).long()),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, 1).long()),
    ],
)
def test_shapes_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(InputError, match=r"images of shape \(N, C, H, W\)"):
        ArrayDataset(images, labels)


@pytest.mark.parametrize("labels", [torch.tensor([0, -1]), torch.tensor([0.0, 1.0])])
def test_labels_that_are_not_indices_are_refused(labels):
    with pytest.raises(InputError, match="class indices"):
        ArrayDataset(torch.zeros(2, 1, 2, 2), labels)


def test_normalised_is_the_formula():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 2), dtype=np.uint8)
    out = normalised(pixels, (0.3, 0.6), (0.2, 0.5))
    expected = (pixels / 255 - np.array([0.3, 0.6])) / np.array([0.2, 0.5])
    # Three float32 roundings of values of size at most 3.5.
    np.testing.assert_allclose(out.numpy(), expected.transpose(0, 3, 1, 2), atol=2e-6, rtol=0)
    assert out.dtype == torch.float32


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.integers(5, 60))
def test_balanced_indices_take_the_classes_in_turn(labels, limit):
    chosen = balanced_indices(torch.tensor(labels), limit).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(limit, len(labels))
    taken = {c: [i for i in chosen if labels[i] == c] for c in set(labels)}
    for c, indices in taken.items():
        of_class = [i for i, label in enumerate(labels) if label == c]
        assert indices == of_class[: len(indices)]
        if len(indices) < len(of_class):
            assert len(indices) >= max(map(len, taken.values())) - 1


def test_a_limit_below_the_number_of_classes_is_refused():
    with pytest.raises(InputError, match="each of the 3 classes"):
        balanced_indices(torch.tensor([0, 1, 2]), 2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 5))
def test_a_split_is_a_partition_with_every_class_on_both_sides(labels, seed):
    labels = torch.tensor(labels * 2)
    kept, held = stratified_split(labels, held_out=0.25, seed=seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert set(labels[kept].tolist()) == set(labels[held].tolist()) == set(labels.tolist())


def test_a_class_of_one_sample_cannot_be_split():
    with pytest.raises(InputError, match=r"at least two samples of every class.*\{0: 2, 1: 1\}"):
        stratified_split(torch.tensor([0, 0, 1]), held_out=0.5, seed=0)
