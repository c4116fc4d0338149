"""Denoising against the formula on every patch, what it gains, how it scales; fidelity against its definition."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.dictionary.images.bases import cosine_basis
from tightframe.dictionary.images.fidelity import psnr, ssim
from tightframe.dictionary.images.restoration import denoise

SIGMA = 25.0
QUICK = {"samples": 3000, "steps": 8}


@pytest.fixture(scope="module")
def colour():
    pixels = load_sample_image("china.jpg")[120:216, 300:396]
    return torch.from_numpy(pixels.astype(np.float64)).movedim(-1, 0).contiguous()


@pytest.fixture(scope="module")
def truth(colour):
    return colour.mean(dim=0)


@pytest.fixture(scope="module")
def noisy(truth):
    return truth + SIGMA * torch.randn(truth.shape, generator=generator(0), dtype=torch.float64)


def patch_by_patch(noisy, sigma, size, bases, pilot):
    """The second pass of the docstring, one patch at a time; the first one where there is no pilot."""
    total, cover = np.zeros(noisy.shape), np.zeros(noisy.shape)
    for top in range(noisy.shape[0] - size + 1):
        for left in range(noisy.shape[1] - size + 1):
            place = (slice(top, top + size), slice(left, left + size))
            patch = noisy[place].reshape(-1)
            codes = bases @ (patch - patch.mean())
            if pilot is None:
                gains = (np.abs(codes[0]) > 2.6 * sigma).astype(float)
                basis = bases[0]
                index = 0
            else:
                clean = pilot[place].reshape(-1)
                powers = (bases @ (clean - clean.mean())) ** 2
                index = (powers / (powers + sigma**2)).sum(axis=1).argmin()
                gains, basis = powers[index] / (powers[index] + sigma**2), bases[index]
            weight = 1 / (1 + (gains**2).sum())
            total[place] += weight * (patch.mean() + (gains * codes[index]) @ basis).reshape(size, size)
            cover[place] += weight
    return total / cover


@pytest.mark.parametrize("dictionary", ["dct", "learned"])
def test_both_passes_are_the_formula(noisy, dictionary):
    part = noisy[:30, :26]
    restored = denoise(part, noise=SIGMA, patch_size=5, bases=3, dictionary=dictionary, **QUICK)
    bases = restored.bases.flatten(2).numpy()
    if dictionary == "dct":
        assert bases.shape == (1, 25, 25)
        assert bases[0] == pytest.approx(cosine_basis(1, 5).numpy(), abs=1e-6)
        first = patch_by_patch(part.numpy(), SIGMA, 5, bases, None)
        assert restored.pilot.numpy() == pytest.approx(first, abs=0.02)
    second = patch_by_patch(part.numpy(), SIGMA, 5, bases, restored.pilot.numpy())
    assert restored.image.numpy() == pytest.approx(second, abs=0.02)


def test_a_learned_dictionary_beats_the_fixed_one_and_the_second_pass_the_first(truth, noisy):
    fixed = denoise(noisy, noise=SIGMA, dictionary="dct")
    learned = denoise(noisy, noise=SIGMA)
    assert psnr(learned.image, truth) > psnr(fixed.image, truth) + 0.1
    assert psnr(learned.image, truth) > psnr(learned.pilot, truth)
    assert psnr(fixed.image, truth) > psnr(fixed.pilot, truth) > psnr(noisy, truth) + 3


def test_bases_are_orthonormal_and_learning_is_traced(noisy):
    restored = denoise(noisy, noise=SIGMA, bases=2, patch_size=6, **QUICK)
    assert restored.bases.shape == (2, 36, 1, 6, 6)
    flat = restored.bases.flatten(2)
    assert torch.allclose(flat @ flat.mT, torch.eye(36, dtype=flat.dtype).expand(2, 36, 36), atol=1e-5)
    values = restored.solution.trace["objective"]
    # Sums over 3,000 float32 rows.
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(values))


def test_the_noise_is_estimated(truth, noisy):
    restored = denoise(noisy, **QUICK)
    # This crop is fine texture, some of which counts as noise.
    assert restored.noise == pytest.approx(SIGMA, rel=0.15)
    assert psnr(restored.image, truth) > psnr(noisy, truth) + 3


def test_units_do_not_matter(noisy):
    one = denoise(noisy, noise=SIGMA, **QUICK).image
    # A power of two changes no digit of the computation.
    assert torch.equal(denoise(4 * noisy, noise=4 * SIGMA, **QUICK).image, 4 * one)


def test_colour_helps(colour):
    noisy = colour + SIGMA * torch.randn(colour.shape, generator=generator(1), dtype=torch.float64)
    together = denoise(noisy, noise=SIGMA, patch_size=6, **QUICK)
    assert together.bases.shape == (4, 108, 3, 6, 6)
    apart = torch.stack([denoise(channel, noise=SIGMA, patch_size=6, **QUICK).image for channel in noisy])
    assert psnr(together.image, colour) > psnr(apart, colour) + 0.5


def test_the_kind_of_the_image_is_kept(noisy):
    expected = denoise(noisy, noise=SIGMA, **QUICK)
    array = denoise(noisy.numpy(), noise=SIGMA, **QUICK)
    assert isinstance(array.image, np.ndarray)
    assert array.image.dtype == np.float64
    assert np.array_equal(array.image, expected.image.numpy())
    single = denoise(noisy.float(), noise=SIGMA, **QUICK)
    assert single.image.dtype == single.bases.dtype == torch.float32
    whole = denoise(noisy.clamp(0, 255).byte().numpy(), **QUICK)
    assert whole.image.dtype == np.float32
    one_channel = denoise(noisy[None], noise=SIGMA, **QUICK)
    assert one_channel.image.shape == (1, *noisy.shape)


def test_the_seed_decides(noisy):
    first, second = (denoise(noisy, noise=SIGMA, seed=3, **QUICK).image for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, denoise(noisy, noise=SIGMA, seed=4, **QUICK).image)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"image": torch.full((32, 32), math.nan)}, InputError, "finite values"),
        ({"image": torch.zeros(32)}, InputError, "signals of shape"),
        ({"image": torch.zeros(6, 32, 32)[:, :7]}, InputError, "channels come before height and width"),
        ({"noise": 0.0}, InputError, "a positive noise level"),
        ({"noise": math.inf}, InputError, "a positive noise level"),
        ({"noise": None, "image": torch.full((32, 32), 7.0)}, DegenerateError, "as of a constant image"),
        ({"dictionary": "wavelet"}, InputError, "a dictionary"),
        ({"bases": 0}, InputError, "bases is an integer of at least 1"),
        ({"patch_size": 0}, InputError, "patch_size is an integer of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, words):
    given = {"image": torch.randn(32, 32), "noise": 1.0} | QUICK | change
    with pytest.raises(error, match=words):
        denoise(given.pop("image"), **given)


def test_a_constant_image_of_known_noise_stays(recwarn):
    restored = denoise(np.full((20, 20), 7.0), noise=1.0, **QUICK)
    assert restored.image == pytest.approx(np.full((20, 20), 7.0), abs=1e-5)


def test_psnr_is_the_definition(truth, noisy):
    error = np.mean((truth.numpy() - noisy.numpy()) ** 2)
    assert psnr(noisy, truth) == pytest.approx(10 * np.log10(255**2 / error), rel=1e-12)
    assert psnr(noisy / 255, truth / 255, data_range=1.0) == pytest.approx(psnr(noisy, truth))
    assert psnr(truth, truth) == math.inf


def test_ssim_is_the_definition():
    x = torch.rand(12, 13, generator=generator(6), dtype=torch.float64)
    y = x + 0.1 * torch.randn(12, 13, generator=generator(7), dtype=torch.float64)
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for top in range(2):
        for left in range(3):
            a, b = (v[top : top + 11, left : left + 11].numpy() for v in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            top_part = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
            values.append(top_part / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    assert ssim(x, y, data_range=1.0) == pytest.approx(np.mean(values), rel=1e-10)
    assert ssim(torch.stack([x, x]), torch.stack([y, x]), data_range=1.0) == pytest.approx((np.mean(values) + 1) / 2)
    assert ssim(x, x) == pytest.approx(1.0)


def test_ssim_agrees_with_scikit_image(truth, noisy):
    metrics = pytest.importorskip("skimage.metrics")
    options = {"data_range": 255, "gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5}
    assert ssim(noisy, truth) == pytest.approx(metrics.structural_similarity(noisy.numpy(), truth.numpy(), **options))


@pytest.mark.parametrize(
    ("first", "second", "options", "words"),
    [
        (torch.zeros(12, 12), torch.zeros(12, 11), {}, "two images of one shape"),
        (torch.full((12, 12), math.nan), torch.zeros(12, 12), {}, "finite images"),
        (torch.zeros(12, 12), torch.ones(12, 12), {"data_range": 0.0}, "a positive data_range"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(first, second, options, words):
    for compare in (psnr, ssim):
        with pytest.raises(InputError, match=words):
            compare(first, second, **options)


def test_images_smaller_than_the_window_have_no_ssim():
    with pytest.raises(InputError, match="at least 11 x 11"):
        ssim(torch.zeros(10, 30), torch.zeros(10, 30))
