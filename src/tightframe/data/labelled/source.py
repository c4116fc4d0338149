"""One door to every data set: `load("digits")`, `load("folder:PATH")`, `load("hf:NAME")`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset, ImageData, balanced_indices
from tightframe.data.location import root_folder

__all__ = ["SPECS", "ArrayDataset", "ImageData", "load"]

SPECS = (
    "digits",
    "digits:SEED",
    "gaussian:CLASSESxSAMPLES",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "textures",
    "textures:SEED",
    "folder:PATH",
    "hf:NAME",
)

_WANTED = {
    "mnist": "mnist/ (or MNIST/raw/) with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped or not",
    "fashion-mnist": "fashion_mnist/ (or FashionMNIST/raw/) with train-images-idx3-ubyte, "
    "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped or not",
    "cifar10": "cifar-10-batches-bin/, cifar-10-batches-py/, or cifar10/cifar10_train_jpeg.npz and "
    "cifar10/cifar10_test_jpeg.npz",
    "textures": "images/ with the test images of image restoration",
}


def load(spec: str, *, root: Path | None = None, limit: int | None = None, size: int | None = None) -> ImageData:
    """Read the data set that `spec` names.

    Args:
        spec: "digits" (bundled, needs no files; "digits:3" splits them with another seed), "gaussian:10x1000" (random
            inputs without meaning: classes, samples; with ":3x32x32" of that shape), "mnist", "fashion-mnist",
            "cifar10", "textures" (crops of test images of image restoration; "textures:3" cuts them with another
            seed), "folder:PATH" or the PATH of a directory alone (a folder of images per class, under train/ and
            test/ or undivided) or "hf:NAME" (a Hugging Face data set by name, or a directory written by its
            `save_to_disk`).
        root: Folder that holds the files of the named sets; TIGHTFRAME_DATA in the environment when absent.
        limit: Keep this many training samples, the first of each class in turn; the test set stays whole.
        size: Height and width in pixels to which "folder:" and "hf:" images are resized; by default they
            must all be of one size.

    Returns:
        Training and test samples as float32 images (C, H, W), standardised per channel by the `mean` and
        `std` returned with them, and labels 0..K-1.

    Raises:
        InputError: The name is unknown, or a file is missing, truncated or of another kind.
        UnsafeFileError: A pickled CIFAR-10 file holds something other than arrays and plain containers.
        MissingDependencyError: "hf:" without the package `datasets`.

    >>> load("digits", limit=100).shape
    (1, 8, 8)
    """
    kind, _, place = spec.partition(":")
    known = place != "" if kind in ("folder", "hf", "gaussian") else spec in _WANTED or _is_seeded(kind, place)
    if not known and Path(spec).is_dir():
        return load(f"folder:{spec}", root=root, limit=limit, size=size)
    if not known:
        raise InputError(f"a data set, one of {', '.join(SPECS)}", got=repr(spec), remedy="Choose one of these.")
    if size is not None and kind not in ("folder", "hf"):
        raise InputError(
            "`size` goes with folder: and hf: data; the other sets have one size",
            got=f"size={size} for {spec!r}",
            remedy="Leave `size` out.",
        )
    data = _read(kind, place, root=root, size=size)
    if limit is None or limit >= len(data.train):
        return data
    return replace(data, train=data.train.take(balanced_indices(data.train.labels, limit)))


def _read(kind: str, place: str, *, root: Path | None, size: int | None) -> ImageData:
    # Each reader is imported when it is asked for: they bring scikit-learn, Pillow or `datasets`.
    if kind == "digits":
        from tightframe.data.labelled.digits import digits

        return digits(seed=int(place or 0))
    if kind == "gaussian":
        from tightframe.data.labelled.synthetic import named

        return named(place)
    if kind == "cifar10":
        from tightframe.data.labelled.cifar import cifar10

        return cifar10(_root(kind, root))
    if kind == "textures":
        from tightframe.data.labelled.textures import textures

        return textures(_root(kind, root), seed=int(place or 0))
    if kind == "folder":
        from tightframe.data.labelled.folders import image_folder

        return image_folder(Path(place), size=size)
    if kind == "hf":
        from tightframe.data.labelled.huggingface import hugging_face

        return hugging_face(place, size=size)
    from tightframe.data.labelled.idx import mnist

    return mnist(_root(kind, root), kind)


def _is_seeded(kind: str, place: str) -> bool:
    return kind in ("digits", "textures") and (place == "" or place.isdecimal())


def _root(kind: str, root: Path | None) -> Path:
    return root_folder(f"the files of {kind}", root, contents=f"the folder that contains {_WANTED[kind]}")
