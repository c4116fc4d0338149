"""Textures: crops of the test images of image restoration, to be told apart by the image that they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset, ImageData, normalised
from tightframe.data.pictured.reference_images import NAMES, reference_image

# Two of the images are of one scene, in different sizes.
CLASSES = tuple(name for name in NAMES if name != "camera")
SIDE, TRAIN_CROPS, TEST_CROPS = 32, 400, 100

# Every image is divided into so many rows and columns of areas.
_AREAS = 4
# ITU-R BT.601: what a grey image takes of red, green and blue.
_LUMA = np.array([0.299, 0.587, 0.114])


def textures(root: str | Path | None = None, *, seed: int = 0) -> ImageData:
    """Grey crops of 32 x 32 pixels of ten images: 400 of each to train on, 100 to test on.

    Every image is divided into 4 x 4 areas. One area of every row and every column is for testing, and a crop lies
    within one area, so that no pixel is both trained and tested on. Crops of one area may overlap: they are fewer
    independent samples than their number.

    Args:
        root: Folder of the data sets, with `images/`; TIGHTFRAME_DATA in the environment when absent.
        seed: Of the areas for testing and of the places of the crops.

    Returns:
        Images of shape (1, 32, 32), standardised by the training pixels, and the number of the image in `CLASSES`.

    Raises:
        InputError: A file that is missing or damaged, or an image too small for its areas to hold a crop.

    Source: the images of `reference_image`.
    """
    random = np.random.default_rng(seed)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in CLASSES:
        for part, crops in zip(parts, crops_of(_grey(reference_image(name, root=root)), random), strict=True):
            part.append(crops)
    train, test = (np.concatenate(part)[..., None] for part in parts)
    mean, std = (float(value) for value in (train.mean() / 255, train.std() / 255))
    labels = torch.arange(len(CLASSES))
    return ImageData(
        train=ArrayDataset(normalised(train, (mean,), (std,)), labels.repeat_interleave(TRAIN_CROPS)),
        test=ArrayDataset(normalised(test, (mean,), (std,)), labels.repeat_interleave(TEST_CROPS)),
        classes=CLASSES,
        shape=(1, SIDE, SIDE),
        name="textures" if seed == 0 else f"textures:{seed}",
        mean=(mean,),
        std=(std,),
    )


def crops_of(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, 32, 32) of an image (height, width): of the areas for training, and of those for testing.

    Args:
        image: Grey values.
        random: What areas and places are drawn from.

    Raises:
        InputError: Areas that are smaller than a crop.

    >>> train, test = crops_of(np.zeros((128, 130)), np.random.default_rng(0))
    >>> train.shape, test.shape
    ((400, 32, 32), (100, 32, 32))
    """
    # What is left of the division belongs to no area.
    height, width = (size // _AREAS for size in image.shape)
    if min(height, width) < SIDE:
        raise InputError(
            f"images of at least {_AREAS * SIDE} x {_AREAS * SIDE} pixels",
            got=f"one of {image.shape[0]} x {image.shape[1]}",
            remedy="Use the original files.",
        )
    held = np.zeros((_AREAS, _AREAS), dtype=bool)
    held[np.arange(_AREAS), random.permutation(_AREAS)] = True
    found = []
    for areas, count in ((np.argwhere(~held), TRAIN_CROPS), (np.argwhere(held), TEST_CROPS)):
        # The areas in turn, each as often as the others but for one.
        corner = areas[np.arange(count) % len(areas)] * (height, width)
        corner = corner + random.integers(0, (height - SIDE + 1, width - SIDE + 1), (count, 2))
        found.append(np.stack([image[y : y + SIDE, x : x + SIDE] for y, x in corner]))
    return found[0], found[1]


def _grey(image: np.ndarray) -> np.ndarray:
    return image @ _LUMA if image.ndim == 3 else image
