from __future__ import annotations

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.data.pictured.superpositions import superposition
from tightframe.data.pictured.topographs import ring_kernels

KERNELS = ring_kernels(2, 8)


def test_the_image_is_the_sum_of_circular_convolutions():
    truth = superposition(KERNELS, (20, 26), density=0.02, values="gaussian", noise=0.0, bias=1.5, seed=1)
    assert (truth.maps != 0).sum() > 10
    padded = np.zeros((2, 20, 26))
    padded[:, :8, :8] = KERNELS
    expected = np.fft.irfft2((np.fft.rfft2(padded) * np.fft.rfft2(truth.maps)).sum(axis=0), s=(20, 26)) + 1.5
    np.testing.assert_allclose(truth.image, expected, atol=1e-12)
    np.testing.assert_array_equal(truth.image, truth.clean)


def test_noise_and_streaks_have_the_stated_sizes():
    truth = superposition(KERNELS, (256, 256), noise=0.05, streaks=0.2, seed=2)
    rest = truth.image - truth.clean
    rows = rest.mean(axis=1)
    # Standard errors: 1 / sqrt(2 n) of each, over 65,536 pixels and 256 rows.
    assert (rest - rows[:, None]).std() == pytest.approx(0.05, rel=4 / np.sqrt(2 * 65_536))
    assert rows.std() == pytest.approx(0.2, rel=4 / np.sqrt(2 * 256))
    assert truth.bias == truth.clean.flat[0] or (truth.maps != 0).any()


def test_the_bias_is_drawn_or_given():
    drawn = {superposition(KERNELS, (16, 16), density=0.0, noise=0.0, seed=seed).bias for seed in range(5)}
    assert len(drawn) == 5
    truth = superposition(KERNELS, (16, 16), density=0.0, noise=0.0, bias=-2.0)
    np.testing.assert_array_equal(truth.image, -2.0)
    assert truth.boxes().shape == (0, 4)


def test_the_density_is_per_kernel_and_pixel():
    truth = superposition(KERNELS, (256, 256), density=3e-3, seed=3)
    expected = 256 * 256 * 3e-3
    for kernel in truth.maps:
        assert abs((kernel != 0).sum() - expected) < 4 * np.sqrt(expected)
        assert set(np.unique(kernel)) == {0.0, 1.0}


def test_boxes_hold_what_was_put_there():
    truth = superposition(KERNELS, (40, 40), density=5e-3, values="gaussian", noise=0.0, bias=0.0, seed=4)
    boxes = truth.boxes()
    assert len(boxes) == (truth.maps != 0).sum()
    covered = np.zeros((40, 40), dtype=bool)
    for top, left, tall, wide in boxes.astype(int):
        covered[np.ix_(np.arange(top, top + tall) % 40, np.arange(left, left + wide) % 40)] = True
    np.testing.assert_array_equal(truth.image[~covered], 0.0)


def test_a_seed_decides_everything():
    one, same, other = (superposition(KERNELS, (32, 32), seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.image, same.image)
    assert (one.image != other.image).any()


@pytest.mark.parametrize(
    ("kernels", "options", "match"),
    [
        (KERNELS[0], {}, "kernels"),
        (KERNELS * np.nan, {}, "finite"),
        (KERNELS, {"shape": (7, 30)}, "at least as large"),
        (KERNELS, {"noise": -1.0}, "noise"),
        (KERNELS, {"streaks": float("nan")}, "streaks"),
        (KERNELS, {"density": 1.5}, "density"),
        (KERNELS, {"values": "cauchy"}, "values"),
    ],
)
def test_impossible_images_are_refused(kernels, options, match):
    with pytest.raises(InputError, match=match):
        superposition(kernels, **{"shape": (32, 32), **options})
