"""Filling in: what is known stays, what is missing comes back, better with a dictionary of the image's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.dictionary.images.fidelity import psnr
from tightframe.dictionary.images.inpainting import inpaint

QUICK = {"patch_size": 8, "rounds": 1, "samples": 2000, "steps": 5}


@pytest.fixture(scope="module")
def truth():
    return torch.from_numpy(load_sample_image("china.jpg")[120:184, 300:364].mean(axis=2))


@pytest.fixture(scope="module")
def holes(truth):
    return torch.rand(truth.shape, generator=generator(0)) < 0.5


def neighbours(image, holes):
    """Missing pixels as means of the known ones in the window of 3 x 3, or 7 x 7."""
    filled = image.clone()
    for top, left in holes.nonzero().tolist():
        for reach in (1, 3):
            place = (slice(max(0, top - reach), top + reach + 1), slice(max(0, left - reach), left + reach + 1))
            known = image[place][~holes[place]]
            if len(known):
                filled[top, left] = known.mean()
                break
    return filled


def test_missing_pixels_come_back_and_known_ones_stay(truth, holes):
    restored = inpaint(truth.masked_fill(holes, math.nan), holes, rounds=2, samples=5000)
    assert torch.equal(restored.image[~holes], truth[~holes])
    assert psnr(restored.image, truth) > psnr(neighbours(truth, holes), truth) + 0.5
    assert restored.noise == 0.0
    assert restored.bases.shape == (1, 144, 1, 12, 12)


def test_learning_beats_the_fixed_dictionary():
    waves = torch.sin(torch.arange(72.0)[:, None] * 0.9 + torch.arange(72.0) * 1.3)
    stripes = 50 * torch.sign(waves) + torch.arange(72.0)
    holes = torch.rand(72, 72, generator=generator(1)) < 0.6
    fixed = inpaint(stripes, holes, dictionary="dct", patch_size=8, rounds=2)
    learned = inpaint(stripes, holes, patch_size=8, rounds=2)
    assert psnr(learned.image, stripes) > psnr(fixed.image, stripes) + 1
    assert torch.equal(fixed.pilot, learned.pilot)


def test_values_under_the_mask_do_not_matter(truth, holes):
    one = inpaint(truth.masked_fill(holes, math.inf), holes, **QUICK).image
    assert torch.equal(one, inpaint(truth, holes, **QUICK).image)


def test_units_do_not_matter(truth, holes):
    one = inpaint(truth, holes, **QUICK).image
    # A power of two changes no digit of the computation.
    assert torch.equal(inpaint(4 * truth, holes, **QUICK).image, 4 * one)


def test_noise_in_known_pixels_is_removed_too(truth, holes):
    noisy = truth + 20 * torch.randn(truth.shape, generator=generator(2), dtype=torch.float64)
    restored = inpaint(noisy, holes, noise=20.0, **QUICK)
    known = ~holes
    assert psnr(restored.image[known], truth[known]) > psnr(noisy[known], truth[known]) + 1
    assert psnr(restored.image, truth) > psnr(inpaint(noisy, holes, **QUICK).image, truth) + 1


def test_a_hole_larger_than_a_patch_is_filled(truth):
    holes = torch.zeros(64, 64, dtype=torch.bool)
    holes[20:40, 25:45] = True
    filled = inpaint(truth, holes, **QUICK).image
    assert bool(torch.isfinite(filled).all())
    assert (
        float(truth.min()) - 100 < float(filled[holes].min()) <= float(filled[holes].max()) < float(truth.max()) + 100
    )


def test_colour_arrays_and_masks_per_channel(truth, holes):
    colours = np.stack([truth.numpy(), 0.5 * truth.numpy() + 20, 255 - truth.numpy()])
    each = np.random.default_rng(0).random(colours.shape) < 0.5
    restored = inpaint(colours, each, **QUICK)
    assert isinstance(restored.image, np.ndarray)
    assert restored.image.shape == colours.shape
    assert np.array_equal(restored.image[~each], colours[~each])
    # What one channel lacks is in the others.
    alone = inpaint(colours[0], each[0], **QUICK).image
    assert psnr(restored.image[0], colours[0]) > psnr(alone, colours[0])
    shared = inpaint(colours, holes.numpy().astype(int), **QUICK).image
    assert np.array_equal(shared[:, ~holes.numpy()], colours[:, ~holes.numpy()])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mask": torch.ones(32, 32, dtype=torch.bool)}, InputError, "invert the mask"),
        ({"mask": torch.zeros(32, 31, dtype=torch.bool)}, InputError, "a mask of shape"),
        ({"mask": torch.full((32, 32), 0.5)}, InputError, "a mask of True and False"),
        ({"image": torch.full((32, 32), math.nan)}, InputError, "finite values"),
        ({"image": torch.full((32, 32), 3.0)}, DegenerateError, "Fill the holes with that value"),
        ({"patch_size": 33}, InputError, "Use smaller patches"),
        ({"noise": -1.0}, InputError, "a positive noise level"),
        ({"rounds": 0}, InputError, "rounds is an integer of at least 1"),
        ({"dictionary": "curvelet"}, InputError, "a dictionary"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, words):
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[3, 4] = True
    given = {"image": torch.randn(32, 32), "mask": mask} | QUICK | change
    with pytest.raises(error, match=words):
        inpaint(given.pop("image"), given.pop("mask"), **given)
