"""`PreparedImages`: images of a data set as a network knows them; `few_shots`: a few of every class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError, TightframeError
from tightframe.core.rng import generator
from tightframe.data.labelled.images import ImageData

Prepare = Callable[[Tensor], Tensor]


class PreparedImages(Dataset[Any]):
    """The samples of a data set, their images prepared a batch at a time when they are read.

    Args:
        dataset: Pairs (image, class index); `labels` (N,) and `gather(indices)` are used where it has them.
        prepare: Turns images (B, C, H, W) of the data into images as the network knows them; None leaves them.

    >>> from tightframe.data.labelled.images import ArrayDataset
    >>> halves = PreparedImages(ArrayDataset(torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 1])), lambda x: x / 2)
    >>> float(halves[0][0].mean()), halves.labels.tolist(), len(halves.take(torch.tensor([2])))
    (0.5, [0, 1, 1], 1)
    """

    def __init__(self, dataset: Dataset[Any], prepare: Prepare | None = None) -> None:
        self.dataset: Dataset[Any] = dataset
        self.prepare: Prepare | None = prepare
        self.labels: Tensor = _labels(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.dataset[index]
        return self._prepared(image[None])[0], torch.as_tensor(label)

    def gather(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, ...) and labels (B,) at `indices`."""
        indices = torch.as_tensor(indices)
        gather = getattr(self.dataset, "gather", None)
        if gather is not None:
            images, labels = gather(indices)
        else:
            images = torch.stack([self.dataset[place][0] for place in indices.tolist()])
            labels = self.labels[indices]
        return self._prepared(images), labels

    def take(self, indices: Tensor) -> Taken:
        """The samples at `indices`, in that order."""
        return Taken(self, indices)

    def _prepared(self, images: Tensor) -> Tensor:
        return images if self.prepare is None else self.prepare(images)


class Taken(Dataset[Any]):
    """Some samples of a data set that has `labels` and `gather`, in the order of `indices`."""

    def __init__(self, dataset: Any, indices: Tensor) -> None:
        self.dataset: Any = dataset
        self.indices: Tensor = indices
        self.labels: Tensor = dataset.labels[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.dataset[int(self.indices[index])]

    def gather(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, ...) and labels (B,) at `indices`."""
        return self.dataset.gather(self.indices[torch.as_tensor(indices)])


def few_shots(data: ImageData, shots: int, *, seed: int = 0) -> ImageData:
    """The data with `shots` training samples of every class, drawn by `seed`; the test set stays whole.

    Args:
        data: Images whose training set has `labels` and `take`.
        shots: Samples of every class.
        seed: Seed of the draw.

    Raises:
        InputError: A class has fewer samples.
    """
    check_count(shots, "shots")
    labels = _labels(data.train)
    counts = torch.bincount(labels, minlength=len(data.classes))
    if int(counts.min()) < shots:
        scarce = int(counts.argmin())
        raise InputError(
            f"{shots} training samples of every class",
            got=f"{int(counts[scarce])} of class {data.classes[scarce]!r}",
            remedy="Ask for fewer samples per class.",
        )
    # Ranks of a random order within each class: the first `shots` of each are kept, in the order of the data.
    order = torch.randperm(len(labels), generator=generator(seed))
    order = order[labels[order].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(labels)) - starts[labels[order]]
    return replace(data, train=data.train.take(order[rank < shots].sort().values))


@contextmanager
def reading(data: ImageData, *, name: str = "the network", shape: tuple[int, int, int] | None = None) -> Iterator[None]:
    """What a network says of images that it does not read, said in words.

    Args:
        data: Whose images are shown to it in the block.
        name: What the network is called.
        shape: (C, H, W) that it wants, where that is known.

    Raises:
        InputError: The block fails.
    """
    try:
        yield
    except TightframeError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        wanted = f"images {shape}" if shape else "the images it is given"
        raise InputError(
            f"{name} reads {wanted}",
            got=f"images {data.shape} of {data.name}: {(str(error).splitlines() or [type(error).__name__])[0]}",
            remedy="Use --size for folder: and hf: data, or a model for images of this size and number of channels.",
        ) from error


def _labels(dataset: Dataset[Any]) -> Tensor:
    stored = getattr(dataset, "labels", None)
    if isinstance(stored, Tensor):
        return stored.cpu()
    return torch.tensor([int(dataset[place][1]) for place in range(len(dataset))])
