"""MNIST and Fashion-MNIST in the idx format, gzipped or not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from tightframe.core.errors import InputError
from tightframe.data.array_files import opened
from tightframe.data.labelled.images import ArrayDataset, ImageData, normalised

_UNSIGNED_BYTES = 8
_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Folders looked into, class names, and mean and standard deviation of the training pixels in units of 0..1.
_SETS = {
    "mnist": (("mnist", "MNIST/raw", "MNIST"), _DIGITS, 0.1307, 0.3081),
    "fashion-mnist": (
        ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
        _CLOTHES,
        0.2860,
        0.3530,
    ),
}


def mnist(root: Path, name: str = "mnist") -> ImageData:
    """Read "mnist" or "fashion-mnist" from the folder of that name under `root`.

    Args:
        root: Folder that holds `mnist/`, `MNIST/raw/`, `fashion_mnist/` or `FashionMNIST/raw/`.
        name: Which of the two.

    Returns:
        60,000 training and 10,000 test images of shape (1, 28, 28), standardised by the usual constants.

    Raises:
        InputError: A file is missing (the places looked at are listed), truncated, or not what its name says.
    """
    folders, classes, mean, std = _SETS[name]
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images_file = _find(root, folders, f"{prefix}-images", "idx3-ubyte")
        labels_file = _find(root, folders, f"{prefix}-labels", "idx1-ubyte")
        images, labels = read_idx(images_file, dimensions=3), read_idx(labels_file, dimensions=1)
        if len(images) != len(labels) or labels.max(initial=0) >= len(classes):
            raise InputError(
                f"{labels_file} labels the images of {images_file} with 0..{len(classes) - 1}",
                got=f"{len(images)} images, {len(labels)} labels, largest {labels.max(initial=0)}",
                remedy="Put the files of one data set together.",
            )
        parts[part] = ArrayDataset(
            normalised(images[..., None], (mean,), (std,)), torch.from_numpy(labels.astype(np.int64))
        )
    shape = tuple(parts["train"].images.shape[1:])
    if tuple(parts["test"].images.shape[1:]) != shape:
        raise InputError(
            "training and test images of one size",
            got=f"{shape} and {tuple(parts['test'].images.shape[1:])}",
            remedy="Put the files of one data set together.",
        )
    return ImageData(**parts, classes=classes, shape=shape, name=name, mean=(mean,), std=(std,))


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """An array of unsigned bytes from an idx file.

    The format: two zero bytes, the type (8: unsigned bytes), the number of dimensions, each length as a big-endian
    32-bit integer, then the bytes.

    Args:
        path: The file; gzipped when its first bytes say so.
        dimensions: How many dimensions are expected.

    Raises:
        InputError: The file cannot be read, is of another kind, or is longer or shorter than its header says.
    """
    try:
        with opened(Path(path)) as file:
            data = file.read()
    except InputError as error:
        raise InputError(f"a readable idx file at {path}", got=error.got, remedy="Copy it again.") from error
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)):
        raise InputError(
            f"an idx file of unsigned bytes in {dimensions} dimensions at {path}",
            got=f"a file of {len(data)} bytes that begins with {data[:4].hex(' ') or 'nothing'}",
            remedy="Check that the file is the one its name says.",
        )
    shape = tuple(int(length) for length in np.frombuffer(data[4:start], dtype=">u4"))
    if len(data) - start != math.prod(shape):
        raise InputError(
            f"{math.prod(shape)} bytes for shape {shape} in {path}",
            got=f"{len(data) - start}",
            remedy="The file is damaged or cut off: copy it again.",
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _find(root: Path, folders: tuple[str, ...], stem: str, kind: str) -> Path:
    names = [f"{stem}-{kind}", f"{stem}-{kind}.gz", f"{stem}.{kind}", f"{stem}.{kind}.gz"]
    for folder in folders:
        for name in names:
            if (root / folder / name).is_file():
                return root / folder / name
    raise InputError(
        f"the file {names[0]} or {names[1]}",
        got=f"none in {', '.join(str(root / folder) for folder in folders)}",
        remedy="Put the four idx files into one of these folders.",
    )
