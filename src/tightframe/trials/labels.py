"""Training labels of a trial: noise put on them, a share held out for selection, the clean ones kept for judging."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ImageData, balanced_indices, stratified_split
from tightframe.data.labelled.noise import flipped
from tightframe.data.labelled.source import load
from tightframe.data.location import ROOT_VARIABLE


@dataclass(frozen=True)
class LabelledData:
    """Data as a trial trains on them.

    Args:
        data: The data set; the labels of its training part are those trained on.
        clean: Labels (N,) of the training part before noise; equal to its labels where there is none.
        validation: Samples held out of the training part, with noise like it; None where none are.
        noisy: Whether noise was asked for.
    """

    data: ImageData
    clean: Tensor
    validation: Dataset[Any] | None
    noisy: bool

    @property
    def flipped(self) -> Tensor:
        """Which training labels differ from the clean ones (N,), bool."""
        return self.data.train.labels != self.clean

    @property
    def clean_train(self) -> Dataset[Any]:
        """The training samples with their clean labels."""
        return self.data.train.relabelled(self.clean)


def labelled_data(
    spec: str, *, noise: str, validation: float, seed: int, root: Path | None, limit: int | None, size: int | None
) -> LabelledData:
    """Read a data set, put `noise` on its training labels, then hold out a share of the training samples.

    Args:
        spec: Data set, as `data.source.load` names it.
        noise: "none", or as `data.noise.flipped` names it; a file is looked for in `root` too.
        validation: Share of the training samples held out, 0 for none.
        seed: Seed of the noise and of what is held out.
        root: Folder of the data sets.
        limit: Number of training samples, balanced over the right labels; None for all.
        size: Height and width to which images of folders are resized.

    Raises:
        InputError: A share outside [0, 1), or noise that does not fit the data.
    """
    if not 0 <= validation < 1:
        raise InputError("a validation share in [0, 1)", got=f"{validation}", remedy="Use 0.2, or 0 for none.")
    # Labels of a file are those of the whole data set.
    file = noise.startswith("file:")
    data = load(spec, root=root, limit=None if file else limit, size=size)
    clean = data.train.labels
    train = data.train
    if noise != "none":
        place = _placed(noise, root) if file else noise
        noisy = flipped(clean, place, classes=len(data.classes), seed=seed, names=data.classes)
        train = train.relabelled(noisy.labels)
    if file and limit is not None and limit < len(train):
        kept = balanced_indices(clean, limit)
        train, clean = train.take(kept), clean[kept]
    held = None
    if validation > 0:
        kept, out = stratified_split(train.labels, held_out=validation, seed=seed)
        train, held, clean = train.take(kept), train.take(out), clean[kept]
    return LabelledData(replace(data, train=train), clean, held, noise != "none")


def _placed(noise: str, root: Path | None) -> str:
    """The specification with the file found below the data root, where it is not found from here."""
    place = noise.removeprefix("file:")
    name = place if place.endswith(".npz") else place.rpartition(":")[0] or place
    chosen = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if chosen and not Path(name).exists() and (Path(chosen) / name).exists():
        return f"file:{Path(chosen) / place}"
    return noise
