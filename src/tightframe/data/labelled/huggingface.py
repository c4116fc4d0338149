"""Image classification sets of the Hugging Face hub, or saved by `save_to_disk`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tightframe.core.errors import AmbiguityError, InputError, missing_package
from tightframe.data.labelled.decoding import decoded_data
from tightframe.data.labelled.images import ImageData

if TYPE_CHECKING:
    from PIL.Image import Image

_TEST_NAMES = ("test", "validation", "valid", "val")


def hugging_face(name: str, *, size: int | None = None, seed: int = 0) -> ImageData:
    """Read the data set `name` of the hub, or the directory `name` written by `save_to_disk`.

    The one image column and the one class column are found by their types. The splits used are "train" and the
    first of "test", "validation", "valid", "val"; without one of these a fifth of every class is held out. Images
    are decoded when they are read and standardised as in `image_folder`.

    Args:
        name: Name on the hub, or a local directory.
        size: Height and width that images are stretched to; by default all must have the size of the first.
        seed: Seed of the split.

    Raises:
        MissingDependencyError: The package `datasets` is not installed.
        InputError: The set cannot be had, has no images or no class labels, or its test set is unlabelled.
        AmbiguityError: Several columns are images or class labels.
    """
    splits = _splits(name)
    source = splits["train"]
    image, label = _columns(source)
    labels, classes = _labels(source, label, None)
    test_name = next((key for key in _TEST_NAMES if key in splits), None)
    test = None
    if test_name is not None:
        other = splits[test_name]
        if not {image, label} <= set(other.column_names):
            raise InputError(
                f"the columns {image!r} and {label!r} in the split {test_name!r}",
                got=", ".join(other.column_names),
                remedy="Give every split the same columns.",
            )
        test = (_Column(other, image), _labels(other, label, classes)[0])
    train = (_Column(source, image), labels)
    return decoded_data(train, test, classes=classes, name=name, size=size, seed=seed)


@dataclass(frozen=True)
class _Column:
    """The images of one split by position."""

    split: Any
    column: str

    def open(self, place: int) -> Image:
        return self.split[place][self.column]

    def name(self, place: int) -> str:
        return f"row {place}, column {self.column!r}"


def _splits(name: str) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise missing_package("the package `datasets`, for hf: data", "hf", error) from error
    try:
        found = datasets.load_from_disk(name) if Path(name).is_dir() else datasets.load_dataset(name)
    except Exception as error:  # the hub's client raises errors of many packages
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InputError(
            "a data set of the Hugging Face hub, or a directory written by `save_to_disk`",
            got=f"{name!r}: {reason}",
            remedy="Check the name, the network and, for gated sets, your login.",
        ) from error
    splits = dict(found) if isinstance(found, dict) else {"train": found}
    if "train" not in splits or len(splits["train"]) == 0:
        raise InputError(
            "a split called 'train' with samples", got=", ".join(splits) or "none", remedy="Rename the splits."
        )
    return splits


def _columns(split: Any) -> tuple[str, str]:
    """Names of the image column and of the label column, by type."""
    import datasets

    features = split.features
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    # Sets without class names keep labels as plain integers.
    labels = labels or [key for key, kind in features.items() if getattr(kind, "dtype", "").startswith("int")]
    for what, found in (("image", images), ("class label", labels)):
        if len(found) != 1:
            raise (AmbiguityError if found else InputError)(
                f"one {what} column",
                got=f"{', '.join(found) or 'none'} among {', '.join(f'{k}: {v}' for k, v in features.items())}",
                remedy="Keep one by `remove_columns`, save the set with `save_to_disk`, and name that directory.",
            )
    return images[0], labels[0]


def _labels(split: Any, column: str, classes: tuple[str, ...] | None) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Labels 0..K-1 of a split and the class names; `classes` are those of the training split."""
    values = torch.tensor(split.with_format(None)[column][:], dtype=torch.int64)
    if classes is None:
        names = getattr(split.features[column], "names", None)
        classes = tuple(names) if names else tuple(str(k) for k in range(int(values.max()) + 1))
    if len(values) and (int(values.min()) < 0 or int(values.max()) >= len(classes)):
        raise InputError(
            f"labels from 0 to {len(classes) - 1} in column {column!r}",
            got=f"{int(values.min())} to {int(values.max())}",
            remedy="Remove the split, if its labels are withheld, or number the classes from 0.",
        )
    return values, classes
