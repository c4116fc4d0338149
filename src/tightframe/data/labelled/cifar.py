"""CIFAR-10 in the three layouts it is kept in; its pickles are read without executing them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tightframe.core.errors import InputError, UnsafeFileError, reason
from tightframe.data.array_files import named_arrays
from tightframe.data.labelled.images import ArrayDataset, ImageData, normalised

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Mean and standard deviation of the training pixels per channel, in units of 0..1.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_PIXELS = 3 * 32 * 32
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

Part = tuple[np.ndarray, np.ndarray]  # images (N, 32, 32, 3) of bytes, labels (N,)


def cifar10(root: Path) -> ImageData:
    """Read CIFAR-10 from under `root` (or `root/cifar10`): the first of these layouts that is there.

    1. `cifar-10-batches-bin/`: the official binary version.
    2. `cifar-10-batches-py/`: the official python version; only arrays and plain containers are unpickled.
    3. `cifar10_train_jpeg.npz` and `cifar10_test_jpeg.npz`: JPEG images with a common header; arrays `header`,
       `payload`, `length` and `label`, image i being the header and its `length[i]` bytes of the payload.

    Returns:
        Images of shape (3, 32, 32), standardised per channel by the usual constants.

    Raises:
        InputError: No layout is there (the places looked at are listed), or a file is damaged.
        UnsafeFileError: A pickle holds something other than arrays and plain containers.
    """
    layouts: tuple[tuple[str, str, str, Callable[[Path], Part]], ...] = (
        ("cifar-10-batches-bin", "{}.bin", "test_batch", _read_binary),
        ("cifar-10-batches-py", "{}", "test_batch", _read_pickle),
        (".", "cifar10_{}_jpeg.npz", "test", _read_jpegs),
    )
    for base in (root, root / "cifar10"):
        for folder, pattern, test, read in layouts:
            train = _BATCHES if test == "test_batch" else ("train",)
            files = [base / folder / pattern.format(name) for name in (*train, test)]
            if files[0].is_file():
                *parts, held_out = [_read_checked(read, file) for file in files]
                return _assembled(parts, held_out)
    raise InputError(
        "the files of CIFAR-10",
        got=f"none in {root} or {root / 'cifar10'}",
        remedy="Put cifar-10-batches-bin/, cifar-10-batches-py/ or cifar10_train_jpeg.npz and "
        "cifar10_test_jpeg.npz there.",
    )


def _assembled(parts: list[Part], held_out: Part) -> ImageData:
    together = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    train, test = (
        ArrayDataset(normalised(images, MEAN, STD), torch.from_numpy(labels.astype(np.int64)))
        for images, labels in (together, held_out)
    )
    return ImageData(train, test, CLASSES, (3, 32, 32), "cifar10", MEAN, STD)


def _read_checked(read: Callable[[Path], Part], path: Path) -> Part:
    try:
        images, labels = read(path)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if images.shape[1:] != (32, 32, 3) or len(images) != len(labels) or len(labels) == 0:
        raise _damaged(path, f"images of shape {images.shape} and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise _damaged(path, f"labels from {labels.min()} to {labels.max()}")
    return images, labels


def _read_binary(path: Path) -> Part:
    """Records of one label byte and the planes red, green, blue."""
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if len(data) % (1 + _PIXELS):
        raise _damaged(path, f"{len(data)} bytes, not a multiple of {1 + _PIXELS}")
    records = data.reshape(-1, 1 + _PIXELS)
    return _from_planes(records[:, 1:]), records[:, 0]


def _read_pickle(path: Path) -> Part:
    try:
        content = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        found = {_text(key): value for key, value in content.items()}
        pixels, labels = np.asarray(found["data"]), np.asarray(found["labels"])
    except UnsafeFileError as error:
        raise UnsafeFileError(error.expected, got=f"{path}: {error.got}", remedy=error.remedy) from error
    except Exception as error:  # a damaged pickle raises almost anything
        raise _damaged(path, f"{type(error).__name__}: {reason(error)}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS or labels.dtype.kind not in "iu":
        raise _damaged(path, f"data of type {pixels.dtype} and shape {pixels.shape}, labels of type {labels.dtype}")
    return _from_planes(pixels), labels


def _read_jpegs(path: Path) -> Part:
    try:
        arrays = named_arrays(path)
        header, payload, length, label = (arrays[name].ravel() for name in ("header", "payload", "length", "label"))
    except KeyError as error:
        raise _damaged(path, f"no array {error}") from error
    if any(part.dtype.kind not in "iu" for part in (length, label)):
        raise _damaged(path, f"lengths of type {length.dtype} and labels of type {label.dtype}")
    ends = np.cumsum(length.astype(np.int64))
    if len(length) == 0 or len(length) != len(label) or ends[-1] != len(payload):
        raise _damaged(path, f"{len(length)} lengths, {len(label)} labels, {len(payload)} bytes of images")
    images = np.empty((len(length), 32, 32, 3), dtype=np.uint8)
    start = header.tobytes()
    for index, (end, size) in enumerate(zip(ends, length.astype(np.int64), strict=True)):
        images[index] = _decoded(start + payload[end - size : end].tobytes(), path, index)
    return images, label


def _decoded(data: bytes, path: Path, index: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, f"image {index}: {error}") from error
    if pixels.shape != (32, 32, 3):
        raise _damaged(path, f"image {index} of shape {pixels.shape}")
    return pixels


class _PlainUnpickler(pickle.Unpickler):
    """Admits numpy arrays and plain containers; every other name in the file is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        from numpy._core.multiarray import _reconstruct

        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin_bytes,
        }
        if (module, name) not in admitted:
            raise UnsafeFileError(
                "a pickle of arrays and plain containers only",
                got=f"the name {module}.{name}, which is none of these and might execute code",
                remedy="Use the binary version of CIFAR-10 from a source you trust.",
            )
        return admitted[module, name]


def _latin_bytes(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes this way under the old protocols; no other codec is needed.
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"codec {encoding}")
    return text.encode("latin-1")


def _from_planes(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _text(key: bytes | str) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else key


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"a whole file of CIFAR-10 at {path}", got=why, remedy="The file is damaged or another one: copy it again."
    )
