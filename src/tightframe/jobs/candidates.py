"""A pretrained network by any of its names, with what its images must look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ImageData
from tightframe.features.evaluation import devices_of
from tightframe.features.tap import FeatureTap
from tightframe.jobs.finetune_options import FinetuneOptions
from tightframe.jobs.options import MeasureOptions, ScoreOptions
from tightframe.jobs.subject import imported_model, network_of
from tightframe.runs.store import RunDirectory
from tightframe.trials.prepared import Prepare, reading
from tightframe.trials.shard import Shard

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Options = ScoreOptions | FinetuneOptions


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


def called(spec: str) -> str:
    """What a network is called: directories by their last part, where they are says nothing of the network."""
    hub = "hf:" if spec.startswith("hf:") else ""
    path = Path(spec.removeprefix(hub))
    return hub + path.resolve().name if path.is_dir() else spec


@dataclass(frozen=True)
class PreparedBatches:
    """Batches whose images are as the model knows them."""

    batches: Shard
    prepare: Prepare

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((self.prepare(images), labels) for images, labels in self.batches)


def check_reads(tap: FeatureTap, found: Candidate, data: ImageData) -> None:
    """Run one image, so that what the network says of its size is said in words.

    Raises:
        InputError: The network does not read it.
    """
    image = found.prepare(data.test[0][0][None]).to(devices_of(tap.model)[0])
    with reading(data, name=found.name, shape=found.shape):
        tap(image)


def candidate(spec: str, data: ImageData, options: Options, fabric: Fabric, *, keep_head: bool = False) -> Candidate:
    """The network that `spec` names, for images of `data`.

    Args:
        spec: A run directory of `tightframe train`, IMPORT.PATH:factory, hf:NAME_OR_PATH or timm:NAME.
        data: What it will be shown.
        options: Where data sets are.
        fabric: A launched Fabric.
        keep_head: Leave a hub's network its own classifier.

    Raises:
        InputError: Nothing of this name, or it does not read images of this size or number of channels.
    """
    if Path(spec).is_dir():
        return _of_run(spec, data, options, fabric)
    if spec.startswith(("hf:", "timm:")):
        return _of_hub(spec, data, options.hub_size, keep_head=keep_head)
    if ":" in spec:
        return Candidate(spec, imported_model(spec), _unchanged)
    raise InputError(
        "a model as a run directory, IMPORT.PATH:factory, hf:NAME or timm:NAME",
        got=repr(spec),
        remedy="Check the path: there is no such directory.",
    )


def _of_run(spec: str, data: ImageData, options: Options, fabric: Fabric) -> Candidate:
    """The network of a run, and images standardised as those that it was trained on."""
    if "model_type" in RunDirectory(Path(spec)).config():
        raise InputError(
            "a run directory of `tightframe train`",
            got=f"{spec}, a directory of transformers' save_pretrained",
            remedy=f"Name it hf:{spec}.",
        )
    source = MeasureOptions(checkpoint=Path(spec), data_root=options.data_root)
    model, trained_on = network_of(source).load(source, fabric)
    if trained_on.shape != data.shape:
        raise InputError(
            f"images {trained_on.shape}, as {spec} was trained on ({trained_on.name})",
            got=f"images {data.shape} of {data.name}",
            remedy="Use --size for folder: and hf: data, or a run on images of this size and number of channels.",
        )
    return Candidate(spec, model, restandardised(data, trained_on), trained_on.shape)


def _of_hub(spec: str, data: ImageData, side: int | None, *, keep_head: bool) -> Candidate:
    """A network of a hub; its classifier, which the features do not depend on, is replaced by one of K classes."""
    from tightframe.nn.backbones.backbones import backbone

    classes = None if keep_head else len(data.classes)
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
