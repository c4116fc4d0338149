"""Patches against loops, the average as the inverse, and filtering in bands against filtering at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.dictionary.images import patches
from tightframe.dictionary.images.patches import (
    filter_patches,
    patch_average,
    patch_rows,
    patch_sums,
    remove_means,
    sample_patches,
)

SIZE = 3


@pytest.fixture
def images():
    return torch.randn(2, 3, 7, 9, generator=generator(0), dtype=torch.float64)


def by_loops(images, size, stride):
    values = images.numpy()
    _, _, height, width = values.shape
    rows = [
        values[:, :, top : top + size, left : left + size].reshape(len(values), -1)
        for top in range(0, height - size + 1, stride)
        for left in range(0, width - size + 1, stride)
    ]
    return np.stack(rows, axis=1)


@pytest.mark.parametrize("stride", [1, 2])
def test_rows_are_the_patches_in_order(images, stride):
    assert np.array_equal(patch_rows(images, SIZE, stride=stride).numpy(), by_loops(images, SIZE, stride))


@pytest.mark.parametrize("stride", [1, 2])
def test_sums_are_the_adjoint(images, stride):
    rows = patch_rows(images, SIZE, stride=stride)
    other = torch.randn(rows.shape, generator=generator(1), dtype=torch.float64)
    back = patch_sums(other, (7, 9), SIZE, stride=stride)
    # 1,000 products of order one in float64.
    assert float((rows * other).sum()) == pytest.approx(float((images * back).sum()), abs=1e-11)


def test_the_average_of_unchanged_patches_is_the_image_whatever_the_weights(images):
    rows = patch_rows(images, SIZE)
    weights = 0.1 + torch.rand(rows.shape[:2], generator=generator(2), dtype=torch.float64)
    average = patch_average(rows, (7, 9), SIZE, weights=weights)
    assert torch.allclose(average, images, atol=1e-13)


def test_the_average_weighs_every_patch_that_covers_a_pixel(images):
    rows = torch.randn(1, 35, SIZE**2, generator=generator(3), dtype=torch.float64)
    weights = 0.1 + torch.rand(1, 35, generator=generator(4), dtype=torch.float64)
    total, cover = np.zeros((7, 9)), np.zeros((7, 9))
    for index in range(35):
        top, left = divmod(index, 7)
        weight = float(weights[0, index])
        total[top : top + SIZE, left : left + SIZE] += weight * rows[0, index].view(SIZE, SIZE).numpy()
        cover[top : top + SIZE, left : left + SIZE] += weight
    average = patch_average(rows, (7, 9), SIZE, weights=weights)[0, 0]
    assert np.allclose(average.numpy(), total / cover, atol=1e-13)


def test_pixels_that_no_patch_reaches_are_zero(images):
    average = patch_average(patch_rows(images, SIZE, stride=3), (7, 9), SIZE, stride=3)
    assert torch.equal(average[..., 6, :], torch.zeros(2, 3, 9, dtype=torch.float64))
    assert torch.allclose(average[..., :6, :], images[..., :6, :])


def test_samples_are_patches_at_the_same_places_of_every_image(images):
    rows = sample_patches(images, SIZE, 50, draws=generator(5))
    every = patch_rows(images, SIZE)
    assert rows.shape == (2, 50, 27)
    places = set()
    for first, second in zip(*rows, strict=True):
        place = int((every[0] == first).all(dim=1).nonzero()[0])
        assert torch.equal(every[1, place], second)
        places.add(place)
    # 50 draws of 35 places reach 27 of them on average, with standard deviation 2.
    assert len(places) > 18


def test_means_are_those_of_the_channels(images):
    rows = patch_rows(images, SIZE)
    centred, means = remove_means(rows, 3)
    assert torch.allclose(centred + means, rows)
    assert torch.allclose(centred.view(2, 35, 3, 9).mean(dim=-1), torch.zeros(2, 35, 3, dtype=torch.float64))
    assert torch.allclose(means[..., 9], rows[..., 9:18].mean(dim=-1))


@pytest.mark.parametrize("stride", [1, 2])
def test_bands_give_what_one_pass_gives(images, monkeypatch, stride):
    def shrink(rows):
        return rows[0].abs() + rows[1], 1 / (1 + rows[0].square().sum(dim=1))

    whole = filter_patches(images, SIZE, shrink, stride=stride)
    monkeypatch.setattr(patches, "_BAND", 1)
    assert torch.allclose(filter_patches(images, SIZE, shrink, stride=stride), whole, atol=1e-13)
    rows, weights = shrink(patch_rows(images, SIZE, stride=stride))
    direct = patch_average(rows[None], (7, 9), SIZE, weights=weights[None], stride=stride)[0]
    assert torch.allclose(whole, direct, atol=1e-13)


@pytest.mark.parametrize(
    ("size", "stride", "shape", "words"),
    [
        (8, 1, (1, 1, 7, 9), "channels come before height and width"),
        (0, 1, (1, 1, 7, 9), "patch_size is an integer of at least 1"),
        (3, 0, (1, 1, 7, 9), "stride is an integer of at least 1"),
        (3, 1, (7, 9), "Add the missing axes"),
    ],
)
def test_what_does_not_fit_is_refused(size, stride, shape, words):
    with pytest.raises(InputError, match=words):
        patch_rows(torch.zeros(shape), size, stride=stride)
