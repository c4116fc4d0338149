"""`ImageTask`: some classes of a data set, in grey or colour, at one size, for pretraining or to transfer to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset, ImageData, balanced_indices
from tightframe.data.labelled.source import load
from tightframe.trials.shard import Shard

# ITU-R BT.601: what a grey image takes of red, green and blue.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ImageTask:
    """Images of some classes of a data set.

    Args:
        data: Data set, as `data.source.load` names it.
        classes: Labels that are kept, numbered anew in this order; empty for all.
        limit: Training samples, as many of every class as there are; None for all.
        tested: Test samples, likewise.
        grey: Whether colours are averaged to grey.
        side: Height and width that images are resized to; None leaves them.
    """

    data: str = "digits"
    classes: tuple[int, ...] = ()
    limit: int | None = None
    tested: int | None = None
    grey: bool = False
    side: int | None = None

    @property
    def name(self) -> str:
        """What it is called in tables: "cifar10 5-9, grey"."""
        shown = "" if not self.classes else f" {_shown(self.classes)}"
        return f"{self.data}{shown}{', grey' if self.grey else ''}"


# Reading CIFAR-10 takes ten times as long as a forward pass of a small network over it.
@lru_cache(maxsize=8)
def read_task(task: ImageTask, root: Path | None = None) -> ImageData:
    """The images of a task, labels 0..K-1; in grey they are standardised by the training pixels.

    Raises:
        InputError: A class that the data do not have or that is named twice, fewer than two classes, a limit below
            the number of classes, or as `data.source.load`.

    >>> data = read_task(ImageTask("digits", (7, 2), limit=10))
    >>> data.classes, len(data.train), sorted(data.train.labels.tolist())
    (('7', '2'), 10, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    """
    # Images of folders may be of any size; they are resized while they are read.
    sized = task.data.startswith(("folder:", "hf:"))
    whole = load(task.data, root=root, size=task.side if sized else None)
    kept = task.classes or tuple(range(len(whole.classes)))
    if len(set(kept)) < max(2, len(kept)) or not set(kept) <= set(range(len(whole.classes))):
        raise InputError(
            f"two or more different classes of {task.data}, 0..{len(whole.classes) - 1}",
            got=repr(kept),
            remedy="Name each class once by its label.",
        )
    parts = [_part(whole.train, kept, task.limit), _part(whole.test, kept, task.tested)]
    data = replace(whole, train=parts[0], test=parts[1], classes=tuple(whole.classes[k] for k in kept), name=task.name)
    data = _in_grey(data) if task.grey and data.shape[0] == 3 else data
    return data if task.side is None or data.shape[1:] == (task.side, task.side) else _resized(data, task.side)


def _part(dataset: Dataset, classes: tuple[int, ...], limit: int | None) -> Dataset:
    numbers = torch.full((max(int(dataset.labels.max()), *classes) + 1,), -1)
    numbers[list(classes)] = torch.arange(len(classes))
    labels = numbers[dataset.labels]
    chosen = torch.nonzero(labels >= 0).flatten()
    if limit is not None and limit < len(chosen):
        chosen = chosen[balanced_indices(labels[chosen], limit)]
    return dataset.take(chosen).relabelled(labels[chosen])


def _in_grey(data: ImageData) -> ImageData:
    weights, centre, scale = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (_LUMA, data.mean or (0.0,) * 3, data.std or (1.0,) * 3)
    )
    grey = {
        name: ((_images(part) * scale + centre) * weights).sum(1, keepdim=True) for name, part in _parts(data).items()
    }
    mean, std = float(grey["train"].mean()), float(grey["train"].std(correction=0))
    grey = {name: (images - mean) / std for name, images in grey.items()}
    return replace(_with_images(data, grey), mean=(mean,), std=(std,))


def _resized(data: ImageData, side: int) -> ImageData:
    options = {"size": (side, side), "mode": "bilinear", "antialias": True}
    return _with_images(
        data, {name: functional.interpolate(_images(part), **options) for name, part in _parts(data).items()}
    )


def _parts(data: ImageData) -> dict[str, Dataset]:
    return {"train": data.train, "test": data.test}


def _with_images(data: ImageData, images: dict[str, Tensor]) -> ImageData:
    parts = {name: ArrayDataset(images[name], part.labels) for name, part in _parts(data).items()}
    return replace(data, shape=tuple(images["train"].shape[1:]), **parts)


def _images(dataset: Dataset) -> Tensor:
    """All images (N, C, H, W), in memory."""
    return torch.cat([images for images, _ in Shard(dataset)])


def _shown(classes: tuple[int, ...]) -> str:
    run = classes == tuple(range(classes[0], classes[-1] + 1)) and len(classes) > 2
    return f"{classes[0]}-{classes[-1]}" if run else ",".join(map(str, classes))
