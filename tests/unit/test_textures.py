"""Crops of test images: none is both trained and tested on, in part or whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tightframe.core.errors import InputError
from tightframe.data.labelled.source import load
from tightframe.data.labelled.textures import CLASSES, crops_of, textures
from tightframe.data.pictured import reference_images
from tightframe.data.pictured.reference_images import NAMES


def numbered(height: int, width: int) -> np.ndarray:
    """An image of which every pixel is its own number."""
    return np.arange(height * width, dtype=np.float64).reshape(height, width)


@pytest.fixture
def root(tmp_path) -> Path:
    """Images of one shade each, in place of the real ones."""
    (tmp_path / "images").mkdir()
    for place, file in enumerate(reference_images._FILES.values()):
        size = (140, 150, 3) if file.startswith("chelsea") else (140, 150)
        pixels = np.full(size, 10 * place, dtype=np.uint8)
        # Colours that differ, since images of equal channels are read as grey.
        if len(size) == 3:
            pixels[..., 0] = 250
        Image.fromarray(pixels).save(tmp_path / "images" / file)
    return tmp_path


@pytest.mark.parametrize("shape", [(128, 128), (131, 260), (300, 451)])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_pixel_is_on_both_sides(shape, seed):
    image = numbered(*shape)
    train, test = crops_of(image, np.random.default_rng(seed))
    assert train.shape == (400, 32, 32)
    assert test.shape == (100, 32, 32)
    assert not set(train.ravel()) & set(test.ravel())


def test_crops_are_pieces_of_the_image():
    image = numbered(200, 170)
    for crop in np.concatenate(crops_of(image, np.random.default_rng(2))):
        y, x = divmod(int(crop[0, 0]), 170)
        assert np.array_equal(crop, image[y : y + 32, x : x + 32])


def test_one_area_of_every_row_and_column_is_for_testing():
    """Of 4 x 4 areas of 50 x 60 pixels; a crop is within one, and the areas take turns."""
    image = numbered(200, 240)
    train, test = crops_of(image, np.random.default_rng(3))
    seen = []
    for crops in (train, test):
        corners = np.stack(np.divmod(crops[:, 0, 0].astype(int), 240), axis=1)
        ends = np.stack(np.divmod(crops[:, -1, -1].astype(int), 240), axis=1)
        assert np.array_equal(corners // (50, 60), ends // (50, 60))
        seen.append(np.unique(corners // (50, 60), axis=0, return_counts=True))
    (kept, counts), (held, turns) = seen
    assert len(kept) == 12
    assert sorted(held[:, 0]) == sorted(held[:, 1]) == [0, 1, 2, 3]
    assert not {tuple(area) for area in kept} & {tuple(area) for area in held}
    assert set(turns) == {25}
    assert set(counts) <= {33, 34}


def test_small_images_are_refused():
    with pytest.raises(InputError, match=r"at least 128 x 128 pixels; got one of 127 x 400"):
        crops_of(np.zeros((127, 400)), np.random.default_rng(0))


def test_classes_are_images_of_different_scenes(root):
    assert set(NAMES) - set(CLASSES) == {"camera"}
    data = textures(root)
    assert data.classes == CLASSES
    assert data.shape == (1, 32, 32)
    assert torch.bincount(data.train.labels).tolist() == [400] * 10
    assert torch.bincount(data.test.labels).tolist() == [100] * 10
    # Every image has one shade, so that each crop is of the shade of its class, colours by their luma.
    shades = {name: 10.0 * place for place, name in enumerate(reference_images._FILES)}
    shades["chelsea"] = 0.299 * 250 + 0.701 * shades["chelsea"]
    wanted = torch.tensor([shades[name] for name in CLASSES])[data.test.labels] / 255
    found = data.test.images * data.std[0] + data.mean[0]
    # Shades of order one in single precision, standardised there and back.
    assert torch.allclose(found, wanted.float().view(-1, 1, 1, 1).expand_as(found), atol=1e-5)
    assert float(data.train.images.double().mean()) == pytest.approx(0, abs=1e-5)
    assert float(data.train.images.double().std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_seed_is_part_of_the_name(root):
    assert load("textures", root=root).name == "textures"
    assert load("textures:4", root=root).name == "textures:4"
    with pytest.raises(InputError, match="a data set, one of"):
        load("textures:fine", root=root)


def test_a_missing_file_is_named(root):
    (root / "images" / "barbara.png").unlink(missing_ok=True)
    (root / "images" / "set12_09.png").unlink()
    with pytest.raises(InputError, match=r"the file images/set12_09.png"):
        textures(root)


@pytest.mark.data
def test_the_images_can_be_told_apart():
    if not os.environ.get("TIGHTFRAME_DATA"):
        pytest.skip("needs TIGHTFRAME_DATA")
    data = textures(seed=1)
    again = textures(seed=1)
    assert torch.equal(data.train.images, again.train.images)
    assert not torch.equal(data.train.images, textures(seed=2).train.images)

    def described(images: torch.Tensor) -> torch.Tensor:
        """Mean, spread and mean steps along both axes: enough to beat chance four times."""
        down, right = images.diff(dim=2).abs().mean((1, 2, 3)), images.diff(dim=3).abs().mean((1, 2, 3))
        return torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3)), down, right], dim=1)

    fit, test = described(data.train.images), described(data.test.images)
    nearest = torch.cdist(test, fit).argmin(1)
    assert float((data.train.labels[nearest] == data.test.labels).double().mean()) > 0.4
