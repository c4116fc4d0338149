from __future__ import annotations

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.data.pictured.levelling import levelled
from tightframe.data.pictured.superpositions import superposition
from tightframe.data.pictured.topographs import ring_kernels

IMAGE = np.random.default_rng(0).standard_normal((9, 14))


def test_the_plane_is_that_of_least_squares():
    rows, columns = np.indices(IMAGE.shape)
    design = np.stack([np.ones(IMAGE.size), rows.ravel(), columns.ravel()], axis=1)
    fitted = design @ np.linalg.lstsq(design, IMAGE.ravel(), rcond=None)[0]
    expected = IMAGE - fitted.reshape(IMAGE.shape)
    np.testing.assert_allclose(levelled(IMAGE, rows=False), expected - np.median(expected), atol=1e-12)
    expected -= np.median(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(levelled(IMAGE), expected, atol=1e-12)


def test_tilt_and_jumps_change_nothing():
    random = np.random.default_rng(1)
    tilted = IMAGE + 3 * np.arange(14) - 2 * np.arange(9)[:, None] + 7
    np.testing.assert_allclose(levelled(tilted), levelled(IMAGE), atol=1e-12)
    jumped = tilted + 10 * random.standard_normal((9, 1))
    np.testing.assert_allclose(levelled(jumped, plane=False), levelled(tilted, plane=False), atol=1e-12)


def test_sparse_defects_survive():
    truth = superposition(ring_kernels(1, 8), (64, 64), density=1e-3, noise=0.0, streaks=0.5, bias=4.0, seed=1)
    flat = truth.clean - truth.bias
    restored = levelled(truth.image, plane=False)
    # Rows that a defect does not fill have a median of exactly zero without noise.
    np.testing.assert_allclose(restored, flat, atol=1e-12)


def test_the_input_stays():
    before = IMAGE.copy()
    levelled(IMAGE)
    np.testing.assert_array_equal(IMAGE, before)


@pytest.mark.parametrize("image", [IMAGE[0], IMAGE[:1], IMAGE[..., None], np.full((3, 3), np.nan)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InputError):
        levelled(image)
