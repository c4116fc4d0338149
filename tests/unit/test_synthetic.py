"""Random inputs: what they are distributed as, and how they are named."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.data.labelled.source import load
from tightframe.data.labelled.synthetic import gaussian, named


def test_pixels_are_standard_normal_and_independent_of_the_label():
    data = gaussian(5, 4000, shape=(2, 3, 4))
    images, labels = data.train.images, data.train.labels
    assert images.shape == (4000, 2, 3, 4)
    assert images.dtype == torch.float32
    pixels = images.double().flatten(1)
    # The mean of n standard normals has standard deviation 1/sqrt(n), their mean square sqrt(2/n): five of each.
    count = pixels.numel()
    assert abs(pixels.mean()) < 5 / math.sqrt(count)
    assert abs(pixels.square().mean() - 1) < 5 * math.sqrt(2 / count)
    # Covariances off the diagonal, and class means, are means of 4000 and 800 such numbers: five deviations, for the
    # largest of at most 276.
    covariance = pixels.T @ pixels / len(pixels)
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 5 / math.sqrt(4000)
    means = torch.stack([pixels[labels == k].mean(0) for k in range(5)])
    assert means.abs().max() < 5 / math.sqrt(800)


def test_classes_are_as_equal_as_they_can_be():
    data = gaussian(3, 11)
    assert torch.bincount(data.train.labels).tolist() == [4, 4, 3]
    assert torch.bincount(data.test.labels).tolist() == [2, 1, 1]
    assert data.classes == ("0", "1", "2")
    assert len(gaussian(4, 4).test) == 4


def test_the_seed_alone_decides_the_pixels():
    state = torch.get_rng_state()
    first, again, other = gaussian(2, 6), gaussian(2, 6), gaussian(2, 6, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.images, again.test.images)
    assert not torch.equal(first.train.images, other.train.images)
    # Test images are further draws, not the training ones again.
    assert not torch.isin(first.test.images, first.train.images).any()


def test_names_say_sizes_and_shape():
    assert named("10x1347").shape == (1, 8, 8)
    assert len(named("10x30").train) == 30
    data = load("gaussian:4x20:3x16x8", limit=8)
    assert (data.shape, data.name, len(data.train)) == ((3, 16, 8), "gaussian:4x20:3x16x8", 8)
    assert data.train[0][0].shape == (3, 16, 8)
    assert gaussian(4, 20, shape=(3, 16, 8)).name == "gaussian:4x20:3x16x8"
    assert len(data.mean) == len(data.std) == 3


@pytest.mark.parametrize(
    "spec", ["gaussian:10", "gaussian:x5", "gaussian:10x20:8x8", "gaussian:10x20:", "gaussian:ax3"]
)
def test_what_cannot_be_read_is_refused_with_an_example(spec):
    with pytest.raises(InputError, match=r"gaussian:10x1000"):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gaussian:1x20", "classes is an integer of at least 2"),
        ("gaussian:10x9", "samples is an integer of at least 10"),
        ("gaussian:10x20:1x0x8", r"each 1 or more; got \(1, 0, 8\)"),
        ("gaussian:10x20:0x0x0", r"each 1 or more; got \(0, 0, 0\)"),
        ("gaussian:", "a data set, one of"),
    ],
)
def test_sizes_out_of_range_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        load(spec)


def test_a_size_is_for_images_of_files():
    with pytest.raises(InputError, match="Leave `size` out"):
        load("gaussian:2x4", size=8)
