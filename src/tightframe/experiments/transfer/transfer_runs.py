"""Runs of the transfer experiment: checkpoints scored on other data, and what became of them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tightframe.collapse.transfer import transfer_scores
from tightframe.collapse.transfer_summary import SCORES
from tightframe.core.errors import DegenerateError, TightframeError
from tightframe.data.labelled.images import ImageData
from tightframe.experiments.transfer.image_tasks import ImageTask, read_task
from tightframe.experiments.transfer.pretraining import Checkpoint, Recipe, pretrained
from tightframe.experiments.transfer.starting_points import ready
from tightframe.features.extract import stream
from tightframe.runs.record import Cell
from tightframe.trials.prepared import Prepare, PreparedImages
from tightframe.trials.shard import Shard
from tightframe.trials.transfer import Method, TransferConfig, transfer

Row = dict[str, Cell]
SOURCE = ("source NC1", "source accuracy")


@dataclass(frozen=True)
class Config:
    """What is pretrained, and what it is carried over to.

    Args:
        recipes: How networks are pretrained.
        public: Public networks besides, as `nn.backbone` names them.
        targets: Tasks that every network is scored on and tuned for.
        methods: How it is tuned; "linear" is the best linear probe.
        epochs: Of fine-tuning.
        lr: First step size of it; None for the method's own.
        batch_size: Of fine-tuning.
        decays: Of the linear probe, chosen among on held-out samples.
        least: Networks below which nothing is claimed of a correlation.
        replicates: Of the bootstrap over pretraining runs.
        seed: Of new heads, of the order of samples and of the bootstrap.
    """

    recipes: tuple[Recipe, ...] = ()
    targets: tuple[ImageTask, ...] = ()
    public: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ("linear", "full")
    epochs: int = 10
    lr: float | None = None
    batch_size: int = 64
    decays: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    least: int = 20
    replicates: int = 2000
    seed: int = 0


LOST = "why there is none"


def scored(item: tuple[Config, Recipe | str, Path | None, Path | None]) -> list[Row]:
    """Every network of a recipe (or a public one) on every target: its scores there, and its accuracies.

    A recipe whose training breaks down gives one row, that says so under `LOST`.
    """
    config, origin, kept, root = item
    if isinstance(origin, str):
        starts = [({"run": origin, "epoch": None, "model": origin} | dict.fromkeys(SOURCE), origin)]
    else:
        source = read_task(origin.source, root)
        try:
            starts = _trained(pretrained(origin, root=root, kept=kept), source)
        except TightframeError as error:
            return [{"run": origin.name, "source": source.name, LOST: str(error)}]
    return [about | _on(start, task, config, root) for about, start in starts for task in config.targets]


def outcome(method: str) -> str:
    """Column of a method's test accuracy.

    >>> outcome("linear"), outcome("full")
    ('accuracy, linear probe', 'accuracy, full')
    """
    return f"accuracy, {'linear probe' if method == 'linear' else method}"


def features(model: nn.Module, data: ImageData, *, prepare: Prepare | None = None) -> tuple[Tensor, Tensor]:
    """What the classifier reads of the training samples (n, d), and their labels (n,)."""
    batches = list(stream(model, Shard(PreparedImages(data.train, prepare))))
    rows = torch.cat([batch.features["features"] for batch in batches])
    return rows.cpu(), torch.cat([batch.labels for batch in batches]).cpu()


def _trained(checkpoints: Sequence[Checkpoint], source: ImageData) -> list[tuple[Row, Checkpoint]]:
    """Networks of our own, with what they are on their source."""
    found = []
    for checkpoint in checkpoints:
        network, _ = ready(checkpoint, source)
        scores = transfer_scores(*features(network, source), classes=len(source.classes), probe=False).scores
        name = checkpoint.recipe.name
        about = {"run": name, "epoch": checkpoint.epoch, "model": f"{name}, {checkpoint.epoch} epochs"}
        found.append((about | {SOURCE[0]: scores["NC1"].value, SOURCE[1]: checkpoint.accuracy}, checkpoint))
    return found


def _on(start: Checkpoint | str, task: ImageTask, config: Config, root: Path | None) -> Row:
    data = read_task(task, root)
    network, prepare = ready(start, data, seed=config.seed)
    found = transfer_scores(*features(network, data, prepare=prepare), classes=len(data.classes), seed=config.seed)
    row: Row = {"target": task.name} | {name: found.scores[name].value for name in SCORES}
    for method in config.methods:
        settings = TransferConfig(
            method=method,
            epochs=config.epochs,
            lr=config.lr,
            batch_size=config.batch_size,
            decays=config.decays,
            observations=2,
            seed=config.seed,
        )
        row[outcome(method)] = _accuracy(network, data, settings, prepare)
    return row


def _accuracy(network: nn.Module, data: ImageData, settings: TransferConfig, prepare: Prepare | None) -> float | None:
    """Test accuracy after fine-tuning; None where it diverged."""
    try:
        return transfer(network, data, settings, prepare=prepare).test_accuracy
    except DegenerateError:
        return None
