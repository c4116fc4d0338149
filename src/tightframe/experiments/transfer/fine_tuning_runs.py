"""Runs of the fine-tuning experiment: layers and step sizes chosen on held-out samples, then every method and size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from tightframe.collapse.monitor import measure
from tightframe.core.errors import DegenerateError
from tightframe.data.labelled.images import ImageData, stratified_split
from tightframe.experiments.transfer.image_tasks import ImageTask, read_task
from tightframe.experiments.transfer.pretraining import Checkpoint, Recipe, pretrained
from tightframe.experiments.transfer.starting_points import ready
from tightframe.runs.record import Cell
from tightframe.trials.layer_choice import rank_layers
from tightframe.trials.prepared import Prepare, PreparedImages, few_shots
from tightframe.trials.shard import Shard
from tightframe.trials.transfer import Method, TransferConfig, transfer
from tightframe.trials.transfer_config import PLACED

Row = dict[str, Cell]
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Case:
    """A pretrained network and where it goes.

    Args:
        name: What it is called.
        start: How it is pretrained (the last network of the recipe), or the name of a public one.
        target: The task.
        layer: Path of the layer that "layer" and "scl" tune; "auto" for the block of each one's best short probe.
    """

    name: str
    start: Recipe | str
    target: ImageTask
    layer: str = "auto"


@dataclass(frozen=True)
class Config:
    """What is tuned, by which methods, on how many samples.

    Args:
        cases: Networks and targets.
        shots: Training samples of every class, ascending; sizes that the data do not have are left out.
        methods: By name, the step sizes of which held-out samples choose, as many for every method that takes steps.
        chosen_at: Samples of every class, a fifth of them held out, with which layers and step sizes are chosen, once
            for all sizes: layers as `rank_layers` does, step sizes by the mean over `choice_seeds`.
        probe_steps: Steps of each short tuning by which layers are compared.
        epochs: Of fine-tuning.
        steps: Least number of steps: with few samples there are more epochs.
        batch_size: Samples per step.
        rank: Of the adapters of "lora".
        seeds: Of the samples drawn, the new head and the order of samples; choices are made with `choice_seeds`.
        choice_seeds: None of `seeds`; layers are chosen with the first.
    """

    cases: tuple[Case, ...]
    shots: tuple[int, ...] = (5, 20, 100)
    methods: tuple[tuple[Method, tuple[float, ...]], ...] = (
        ("linear", ()),
        ("layer", (1e-3, 3e-3, 1e-2)),
        ("scl", (1e-3, 3e-3, 1e-2)),
        ("full", (3e-4, 1e-3, 3e-3)),
        ("lora", (1e-3, 3e-3, 1e-2)),
    )
    chosen_at: int = 20
    probe_steps: int = 100
    epochs: int = 15
    steps: int = 100
    batch_size: int = 32
    rank: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    choice_seeds: tuple[int, ...] = (100, 101)


@dataclass(frozen=True)
class Work:
    """One fine-tuning, with all that a process needs for it.

    Args:
        config: The experiment's.
        case: Which network and target.
        origin: The pretrained network.
        method: How it is tuned.
        lr: First step size; None for "linear".
        layer: The tuned layer, or None.
        shots: Samples of every class.
        seed: Of the draw, the head and the order.
        root: Folder of the data sets.
        by_layer: Measure the collapse of every layer before and after.
    """

    config: Config
    case: Case
    origin: Checkpoint | str
    method: Method
    lr: float | None
    layer: str | None
    shots: int
    seed: int
    root: Path | None = None
    by_layer: bool = False


@dataclass(frozen=True)
class Start:
    """The pretrained network of a case (a public one by name), and how many samples the scarcest class has."""

    origin: Checkpoint | str
    available: int


def started(item: tuple[Case, Path | None, Path | None]) -> Start:
    """The last network of a case's recipe, kept in and read from a folder."""
    case, kept, root = item
    data = read_task(case.target, root)
    available = int(torch.bincount(data.train.labels, minlength=len(data.classes)).min())
    recipe = case.start
    return Start(pretrained(recipe, root=root, kept=kept)[-1] if isinstance(recipe, Recipe) else recipe, available)


def ranked(work: Work) -> tuple[str, list[Row]]:
    """The best layer of a network, and all of them, by short tunings by the method and at the step size of `work`."""
    data = few_shots(read_task(work.case.target, work.root), work.shots, seed=work.seed)
    network, prepare = ready(work.origin, data, seed=work.seed)
    settings = _settings(work.config, work.method, len(data.train), work.lr, "auto", work.seed)
    choice = rank_layers(network, data, settings, prepare=prepare)
    return choice.chosen, choice.to_rows()


def held_out(work: Work) -> float:
    """Accuracy on a fifth of the training samples, held out, averaged over the seeds of choices; diverged, -1."""
    found = []
    for seed in work.config.choice_seeds:
        data = few_shots(read_task(work.case.target, work.root), work.shots, seed=seed)
        kept, held = stratified_split(data.train.labels, held_out=_HELD_OUT, seed=seed)
        judged = replace(data, train=data.train.take(kept), test=data.train.take(held))
        result = _transferred(replace(work, seed=seed), judged)
        found.append(-1.0 if result is None else float(result[0]["test accuracy"]))
    return fmean(found)


def tuned(work: Work) -> tuple[Row, list[Row]]:
    """What a method reached, and the collapse of every layer before and after where that is asked for.

    A run that diverged has no numbers.
    """
    data = few_shots(read_task(work.case.target, work.root), work.shots, seed=work.seed)
    about: Row = {
        "case": work.case.name,
        "shots": work.shots,
        "method": work.method,
        "seed": work.seed,
        "step size": work.lr,
        "layer": work.layer,
    }
    found = _transferred(work, data)
    if found is None:
        return about, []
    row, before, after, prepare = found
    layers = []
    if work.by_layer:
        layers = _layer_rows(work, before, "before", data, prepare) if work.method == "linear" else []
        layers += _layer_rows(work, after, work.method, data, prepare)
    return about | row, layers


def _transferred(work: Work, data: ImageData) -> tuple[Row, nn.Module, nn.Module, Prepare | None] | None:
    network, prepare = ready(work.origin, data, seed=work.seed)
    settings = _settings(work.config, work.method, len(data.train), work.lr, work.layer, work.seed)
    try:
        found = transfer(network, data, settings, prepare=prepare)
    except DegenerateError:
        return None
    row: Row = {
        "test accuracy": found.test_accuracy,
        "training accuracy": found.train_accuracy,
        "gap": found.train_accuracy - found.test_accuracy,
        "NC1 before": found.nc1(start=True),
        "NC1": found.nc1(),
        "NC1, test": found.nc1("test"),
        "trained": found.share.trainable,
        "share": found.share.share,
    }
    return row, network, found.tuning.merged(), prepare


def _settings(
    config: Config, method: Method, samples: int, lr: float | None, layer: str | None, seed: int
) -> TransferConfig:
    steps = math.ceil(samples / config.batch_size)
    return TransferConfig(
        method=method,
        layer=layer if method in PLACED else None,
        epochs=max(config.epochs, math.ceil(config.steps / steps)),
        lr=lr,
        batch_size=config.batch_size,
        rank=config.rank,
        held_out=_HELD_OUT,
        probe_steps=config.probe_steps,
        observations=2,
        seed=seed,
    )


def _layer_rows(work: Work, model: nn.Module, when: str, data: ImageData, prepare: Prepare | None) -> Sequence[Row]:
    rows = []
    for split, dataset in (("train", data.train), ("test", data.test)):
        summary = measure(model, Shard(PreparedImages(dataset, prepare)), layers="auto", decisions=False)
        for depth, (name, layer) in enumerate(summary.layers.items()):
            found = layer.measurements.get("NC1")
            value = None if found is None else found.value
            place = {"case": work.case.name, "method": when, "split": split, "depth": depth, "layer": name}
            rows.append(place | {"NC1": value})
    return rows
