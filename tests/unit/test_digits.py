from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from tightframe.data.labelled.digits import digits


def test_sizes_shapes_and_types():
    data = digits()
    assert (len(data.train), len(data.test)) == (1347, 450)
    assert data.shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    image, label = data.train[0]
    assert image.shape == (1, 8, 8)
    assert image.dtype == torch.float32
    assert label.dtype == torch.int64


def test_split_is_a_partition_of_the_bundled_images():
    data = digits(seed=1)
    images = torch.cat([data.train.images, data.test.images]) * data.std[0] + data.mean[0]
    labels = torch.cat([data.train.labels, data.test.labels])
    bundle = load_digits()
    ours = np.column_stack([labels.numpy(), (images * 16).round().flatten(1).numpy()])
    theirs = np.column_stack([bundle.target, bundle.data])
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


def test_training_images_are_standardised_and_test_images_use_the_same_scale():
    data = digits()
    # float32 rounding of n = 86,208 standardised values: the mean of rounding errors is far below 1e-6.
    assert abs(data.train.images.double().mean()) < 1e-6
    assert abs(data.train.images.double().std(correction=0) - 1) < 1e-6
    assert 0 < abs(data.test.images.double().mean()) < 0.05


def test_split_keeps_class_shares():
    data = digits()
    train, test = (torch.bincount(part.labels, minlength=10) for part in (data.train, data.test))
    assert (test - (train + test) * (450 / 1797)).abs().max() < 1


def test_seed_decides_the_split_and_global_state_does_not():
    torch.manual_seed(0)
    first = digits(seed=5)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again, other = digits(seed=5), digits(seed=6)
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.test.images, other.test.images)
    assert torch.equal(before, torch.get_rng_state())


def test_the_number_after_the_name_is_the_seed_of_the_split():
    from tightframe.data.labelled.source import load

    assert torch.equal(load("digits:3").train.images, digits(seed=3).train.images)
    assert not torch.equal(load("digits:3").train.labels, load("digits").train.labels)
    assert load("digits:3").name == "digits:3"
