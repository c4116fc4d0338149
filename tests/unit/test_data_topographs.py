from __future__ import annotations

import json
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.pictured.topographs import (
    defect_kernels,
    labelled_topographs,
    measured_density,
    ring_kernels,
    simulated_densities,
    unit_kernels,
)

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)
ENTRY = {"size_px": [30, 20], "scan_nm": [15, 10], "bias_V": -1.4, "boxes": [[3, 5, 4, 6, "SBT"], [25, 1, 9, 2, "LDP"]]}


def folder_of(path, **changes):
    path.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path / "a.png")
    (path / "annotations.json").write_text(json.dumps({"a.png": {**ENTRY, **changes}, "absent.png": ENTRY}))
    return path


def test_boxes_become_rows_and_columns(tmp_path):
    (found,) = labelled_topographs(folder_of(tmp_path))
    np.testing.assert_array_equal(found.image, PIXELS)
    # left, top, width, height in the file; top, left, height, width here.
    np.testing.assert_array_equal(found.boxes, [[5, 3, 6, 4], [1, 25, 2, 9]])
    assert (found.kinds, found.nanometres, found.volts, found.name) == (("SBT", "LDP"), (10.0, 15.0), -1.4, "a.png")


def test_the_root_is_looked_into(tmp_path, monkeypatch):
    folder_of(tmp_path / "stm" / "wse2")
    assert len(labelled_topographs(root=tmp_path)) == 1
    monkeypatch.setenv("TIGHTFRAME_DATA", str(tmp_path))
    assert len(labelled_topographs()) == 1
    monkeypatch.delenv("TIGHTFRAME_DATA")
    with pytest.raises(InputError, match="TIGHTFRAME_DATA"):
        labelled_topographs()
    with pytest.raises(InputError, match="not a directory"):
        labelled_topographs(root=tmp_path / "nowhere")


def test_an_image_without_defects_has_no_boxes(tmp_path):
    (found,) = labelled_topographs(folder_of(tmp_path, boxes=[]))
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size_px": [20, 30]}, "as annotated"),
        ({"boxes": [[3, 5, 0, 6, "SBT"]]}, "boxes inside"),
        ({"boxes": [[-1, 5, 2, 6, "SBT"]]}, "boxes inside"),
        ({"boxes": [[30, 5, 2, 6, "SBT"]]}, "boxes inside"),
        ({"boxes": 3}, "annotations with size_px"),
        ({"bias_V": None}, "annotations with size_px"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tmp_path, changes, match):
    with pytest.raises(InputError, match=match):
        labelled_topographs(folder_of(tmp_path, **changes))


def test_missing_and_damaged_annotations_are_refused(tmp_path):
    with pytest.raises(InputError, match="FileNotFoundError"):
        labelled_topographs(tmp_path)
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(InputError, match="JSONDecodeError"):
        labelled_topographs(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps({"absent.png": ENTRY}))
    with pytest.raises(InputError, match="none of its 1 entries"):
        labelled_topographs(tmp_path)


def test_densities_come_by_energy(tmp_path):
    values = RANDOM.standard_normal((4, 5, 3))
    savemat(tmp_path / "file.mat", {"LDoS_sim": values})
    densities = simulated_densities(tmp_path / "file.mat")
    assert densities.shape == (3, 4, 5)
    np.testing.assert_array_equal(densities[1], values[:, :, 1])
    savemat(tmp_path / "file.mat", {"LDoS_sim": values[0]})
    with pytest.raises(InputError, match="energies"):
        simulated_densities(tmp_path / "file.mat")


def test_kernels_are_cropped_resized_patterns_of_unit_norm():
    axis = np.arange(49) - 24.0
    wide = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 6.0**2))
    kernels = defect_kernels(np.stack([wide, -3 * wide]), 32)
    np.testing.assert_allclose((kernels**2).sum(axis=(1, 2)), 1, rtol=1e-12)
    np.testing.assert_allclose(kernels[0], -kernels[1], atol=1e-6)
    # The same Gaussian on the coarser grid: pixel centres lie at (i + 1/2) 49 / 32 - 1/2.
    there = (np.arange(32) + 0.5) * 49 / 32 - 0.5 - 24
    expected = np.exp(-(there[:, None] ** 2 + there**2) / (2 * 6.0**2))
    # Smoothing before it shrinks widens the pattern a little.
    assert (kernels[0] * expected).sum() / np.linalg.norm(expected) > 0.999
    same = defect_kernels(wide[None], 29, margin=10)
    np.testing.assert_allclose(same[0], unit_kernels(wide[None, 10:39, 10:39])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("densities", "options"),
    [(np.ones((3, 3)), {}), (np.ones((1, 8, 8)), {"margin": 4}), (np.full((1, 8, 8), np.nan), {})],
)
def test_patterns_that_make_no_kernel_are_refused(densities, options):
    with pytest.raises(InputError, match="patterns"):
        defect_kernels(densities, 4, **options)


def test_a_pattern_of_zeros_is_degenerate():
    with pytest.raises(DegenerateError, match="zeros"):
        defect_kernels(np.zeros((1, 8, 8)), 4)


def test_ring_kernels_are_the_formula():
    kernels = ring_kernels(3, 24)
    np.testing.assert_allclose((kernels**2).sum(axis=(1, 2)), 1, rtol=1e-12)
    for k, kernel in enumerate(kernels):
        row, column = 7, 15
        y, x = row - 11.5, column - 11.5
        r, phi = np.hypot(x, y), np.arctan2(y, x)
        q = 2 * np.pi * (1 + k / 2) / 12
        value = np.cos(q * r + np.pi * k) * (1 + np.cos(2 * (k + 1) * phi) / 2) * np.exp(-(r**2) / (2 * 3**2))
        other = kernel[11, 11]
        r0 = np.hypot(0.5, 0.5)
        centre = np.cos(q * r0 + np.pi * k) * (1 + np.cos(2 * (k + 1) * np.pi * 5 / 4) / 2) * np.exp(-(r0**2) / 18)
        assert kernel[row, column] / other == pytest.approx(value / centre)
    flat = kernels.reshape(3, -1)
    assert np.abs(flat @ flat.T - np.eye(3)).max() < 0.7
    for wrong in ((0, 24), (2, 4)):
        with pytest.raises(InputError):
            ring_kernels(*wrong)


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
def test_the_shared_topographs_have_the_stated_defects():
    found = labelled_topographs()
    assert len(found) == 12
    assert sum(len(one.boxes) for one in found) == 512
    assert Counter(kind for one in found for kind in one.kinds).most_common(1)[0][0] == "SBT"
    assert all(one.image.shape in ((512, 512), (1024, 1024)) for one in found)
    # Most marked defects differ from their surroundings: boxes vary more around the mean of their image.
    inside, outside = [], []
    for one in found:
        mask = np.zeros(one.image.shape, dtype=bool)
        for top, left, tall, wide in one.boxes.astype(int):
            mask[top : top + tall, left : left + wide] = True
        deviation = np.abs(one.image - np.median(one.image))
        inside.append(deviation[mask].mean())
        outside.append(deviation[~mask].mean())
    assert np.mean(np.array(inside) > np.array(outside)) > 0.8


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
def test_the_shared_densities_have_the_stated_shapes():
    densities = simulated_densities()
    assert densities.shape == (25, 49, 49)
    assert defect_kernels(densities[[17, 24]]).shape == (2, 32, 32)
    assert measured_density().shape == (128, 128)
