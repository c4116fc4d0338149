"""A pretrained network by any of its names, with what its images must look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.data.images import ImageData
from tightframe.jobs.options import MeasureOptions, ScoreOptions
from tightframe.jobs.subject import imported_model, network_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Prepare = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Candidate:
    """A pretrained network.

    Args:
        name: What it was named by.
        model: The network, with a linear classifier whose input are its features.
        prepare: Turns images of the data into images as the network knows them.
        shape: (C, H, W) it wants, where that is known.
        classifier: Path of its classifier, where that is known.
    """

    name: str
    model: nn.Module
    prepare: Prepare
    shape: tuple[int, int, int] | None = None
    classifier: str | None = None


def candidate(spec: str, data: ImageData, options: ScoreOptions, fabric: Fabric) -> Candidate:
    """The network that `spec` names, for images of `data`.

    Args:
        spec: A run directory of `tightframe train`, IMPORT.PATH:factory, hf:NAME_OR_PATH or timm:NAME.
        data: What it will be shown.
        options: Where data sets are.
        fabric: A launched Fabric.

    Raises:
        InputError: Nothing of this name, or it does not read images of this size or number of channels.
    """
    if Path(spec).is_dir():
        return _of_run(spec, data, options, fabric)
    if spec.startswith(("hf:", "timm:")):
        return _of_hub(spec, data, options.hub_size)
    if ":" in spec:
        return Candidate(spec, imported_model(spec), _unchanged)
    raise InputError(
        "a model as a run directory, IMPORT.PATH:factory, hf:NAME or timm:NAME",
        got=repr(spec),
        remedy="Check the path: there is no such directory.",
    )


def _of_run(spec: str, data: ImageData, options: ScoreOptions, fabric: Fabric) -> Candidate:
    """The network of a run, and images standardised as those that it was trained on."""
    source = MeasureOptions(checkpoint=Path(spec), data_root=options.data_root)
    model, trained_on = network_of(source).load(source, fabric)
    if trained_on.shape != data.shape:
        raise InputError(
            f"images {trained_on.shape}, as {spec} was trained on ({trained_on.name})",
            got=f"images {data.shape} of {data.name}",
            remedy="Use --size for folder: and hf: data, or a run on images of this size and number of channels.",
        )
    return Candidate(spec, model, restandardised(data, trained_on), trained_on.shape)


def _of_hub(spec: str, data: ImageData, side: int | None) -> Candidate:
    """A network of a hub; its classifier, which the features do not depend on, is replaced by one of K classes."""
    from tightframe.nn.backbones import backbone

    classes = len(data.classes)
    try:
        found = backbone(spec, classes=classes)
    except InputError as error:
        if "size" not in error.expected:
            raise
        if side is None:
            raise InputError(error.expected, got=error.got, remedy="Pass --hub-size 224, for example.") from error
        found = backbone(spec, classes=classes, size=(3, side, side))
    return Candidate(spec, found.model, found.preparation(mean=data.mean, std=data.std), found.size, found.classifier)


def restandardised(given: ImageData, wanted: ImageData) -> Prepare:
    """From the standardisation of one data set to that of another; data that do not say theirs are left as they are."""
    if not (given.mean and wanted.mean) or (given.mean, given.std) == (wanted.mean, wanted.std):
        return _unchanged
    old, new = ((torch.tensor(d.mean).view(-1, 1, 1), torch.tensor(d.std).view(-1, 1, 1)) for d in (given, wanted))
    factor, shift = old[1] / new[1], (old[0] - new[0]) / new[1]
    return lambda images: images * factor + shift


def _unchanged(images: Tensor) -> Tensor:
    return images
