"""Labelled images: the data sets every reader returns, and the arithmetic they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tightframe.core.errors import InputError


@dataclass(frozen=True)
class ImageData:
    """A training set and a test set of images with the same classes and the same shape.

    Args:
        train: Training samples `(image, label)`; image float32 (C, H, W), label 0..K-1.
        test: Test samples of the same form.
        classes: Names of the K classes; the label is the position.
        shape: (C, H, W).
        name: What was asked for, for example "digits".
        mean: Per-channel mean that was subtracted (images in units of 0..1).
        std: Per-channel standard deviation that was divided by, in the same units.
    """

    train: Dataset[Any]
    test: Dataset[Any]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    name: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class ArrayDataset(Dataset[Any]):
    """Images held in memory as one tensor.

    Args:
        images: (N, C, H, W), float32.
        labels: (N,), int64, 0..K-1.

    Raises:
        InputError: Shapes do not match or a label is negative.

    >>> data = ArrayDataset(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 0]))
    >>> len(data), data[1][1]
    (3, tensor(1))
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
            raise InputError(
                "images of shape (N, C, H, W) and labels of shape (N,)",
                got=f"images {tuple(images.shape)}, labels {tuple(labels.shape)}",
                remedy="Give one label for every image, and grey images a channel axis of length 1.",
            )
        if labels.is_floating_point() or (len(labels) and int(labels.min()) < 0):
            raise InputError(
                "labels are class indices 0..K-1",
                got=f"dtype {labels.dtype}, smallest {labels.min().item() if len(labels) else 'none'}",
                remedy="Number the classes from 0.",
            )
        self.images: Tensor = images
        self.labels: Tensor = labels.long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Samples of a batch as torch's loaders ask for them: one gather, then views."""
        images, labels = self.gather(indices)
        return list(zip(images, labels, strict=True))

    def gather(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B,) at `indices`, without a collate step."""
        chosen = torch.as_tensor(indices)
        return self.images[chosen], self.labels[chosen]

    def take(self, indices: Tensor) -> ArrayDataset:
        """The data set of the samples at `indices`, in that order."""
        return ArrayDataset(self.images[indices], self.labels[indices])

    def relabelled(self, labels: Tensor) -> ArrayDataset:
        """The same images with other labels (N,)."""
        return ArrayDataset(self.images, labels)


def normalised(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    r"""Bytes 0..255 of shape (N, H, W, C) as standardised float32 images (N, C, H, W).

    $$x = (p / 255 - \mu_c) / \sigma_c$$

    where p is `pixels`, and mu_c, sigma_c are `mean` and `std` of channel c in units of 0..1.
    """
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")).div_(255)
    centre, scale = (torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (mean, std))
    return images.sub_(centre).div_(scale)


def balanced_indices(labels: Tensor, limit: int) -> Tensor:
    """Indices, ascending, of the first `limit` samples taken from the classes in turn.

    Class counts differ by at most one unless a class runs out. The choice is deterministic.

    Args:
        labels: (N,), int64.
        limit: Number of samples wanted; all of them when the data set is smaller.

    Raises:
        InputError: `limit` is smaller than the number of classes present.

    >>> balanced_indices(torch.tensor([0, 0, 0, 1, 1]), 4).tolist()
    [0, 1, 3, 4]
    """
    present, counts = torch.unique(labels, return_counts=True)
    if limit < len(present):
        raise InputError(
            f"a limit of at least one sample for each of the {len(present)} classes",
            got=f"limit={limit}",
            remedy=f"Ask for {len(present)} samples or more.",
        )
    by_class = torch.argsort(labels, stable=True)
    starts = torch.cumsum(counts, 0) - counts
    turn = torch.arange(len(labels)) - torch.repeat_interleave(starts, counts)
    # Stable sort by turn keeps the classes in order within a turn.
    order = by_class[torch.argsort(turn, stable=True)]
    return order[:limit].sort().values


def stratified_split(labels: Tensor, *, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split indices into a larger and a held-out part with the class shares of the whole.

    Args:
        labels: (N,), int64.
        held_out: Share of the samples held out, in (0, 1).
        seed: Seed of the shuffle.

    Returns:
        Ascending indices of the kept and of the held-out samples.

    Raises:
        InputError: A class has a single sample, which cannot be on both sides.
    """
    classes, counts = torch.unique(labels, return_counts=True)
    if len(counts) == 0 or int(counts.min()) < 2:
        raise InputError(
            "at least two samples of every class, one for each side of a split",
            got=f"class sizes {dict(zip(classes.tolist(), counts.tolist(), strict=True))}",
            remedy="Add samples, or give the test set separately.",
        )
    random = torch.Generator().manual_seed(seed)
    test = []
    for label, count in zip(classes.tolist(), _shares(counts, held_out), strict=True):
        members = torch.nonzero(labels == label).flatten()
        test.append(members[torch.randperm(len(members), generator=random)[:count]])
    outside = torch.zeros(len(labels), dtype=torch.bool)
    outside[torch.cat(test)] = True
    return torch.nonzero(~outside).flatten(), torch.nonzero(outside).flatten()


def _shares(counts: Tensor, held_out: float) -> list[int]:
    """Held-out samples of each class: largest remainders, so that the total is round(N held_out)."""
    exact = counts.double() * held_out
    shares = exact.floor().long()
    left = round(float(exact.sum())) - int(shares.sum())
    shares[torch.argsort(exact - shares, descending=True, stable=True)[:left]] += 1
    return torch.minimum(shares.clamp(min=1), counts - 1).tolist()
