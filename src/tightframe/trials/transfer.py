"""`transfer`: a pretrained network fine-tuned on images, and what became of its accuracy and its collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ImageData
from tightframe.features.classifier import size_of
from tightframe.features.evaluation import devices_of, evaluation
from tightframe.nn.tuning.fine_tuning import Method
from tightframe.nn.tuning.skip import Tokens
from tightframe.nn.tuning.tuning import TrainableShare, Tuning
from tightframe.trials.best_head import solved, start_head
from tightframe.trials.layer_choice import LayerChoice, fabric_on, prepared_tuning, rank_layers
from tightframe.trials.prepared import Prepare, PreparedImages, few_shots, reading
from tightframe.trials.transfer_config import AUTO, PLACED, TransferConfig
from tightframe.trials.trial import observed_epochs
from tightframe.trials.tuned_epochs import Diary, Images, Rows, Task, collapse_of, layer_rows, row, task_of, train

__all__ = ["LayerChoice", "Method", "TransferConfig", "Transferred", "evaluate", "few_shots", "transfer"]


@dataclass(frozen=True)
class Transferred:
    """A fine-tuned network and what was measured.

    Args:
        config: What was done, with the layer that was tuned.
        tuning: The tuned network, in evaluation mode.
        rows: Series (keys of `runs.record.SERIES_COLUMNS`, the run being the method): accuracy and loss of both splits
            at the observed epochs (layer "output"), NC1 and H-score of the classifier's input before and after (layer
            "features"; left out where undefined), and the training loop's own. The linear probe has epochs 0 and 1.
        share: Trainable and total parameters.
        layers: The candidates for the layer, where it was chosen here.
        epoch_seconds: Seconds of every epoch of training; of the solve, for the linear probe.
        cache_seconds: Seconds in which the frozen trunk was computed and kept.
        decay: Weight decay of the linear probe.
    """

    config: TransferConfig
    tuning: Tuning
    rows: tuple[dict[str, Any], ...]
    share: TrainableShare
    layers: LayerChoice | None
    epoch_seconds: tuple[float, ...]
    cache_seconds: float
    decay: float | None = None

    @property
    def layer(self) -> str | None:
        """Path of the tuned layer."""
        return self.tuning.layer

    @property
    def train_accuracy(self) -> float:
        """Accuracy on the training samples, in the end."""
        return self._last("train", "accuracy")

    @property
    def test_accuracy(self) -> float:
        """Accuracy on the test samples, in the end."""
        return self._last("test", "accuracy")

    def nc1(self, split: str = "train", *, start: bool = False) -> float | None:
        """NC1 of the classifier's input after fine-tuning, or before; None where it is undefined."""
        epochs = [entry["epoch"] for entry in self.rows if entry["metric"] == "accuracy"]
        epoch = min(epochs) if start else max(epochs)
        found = [r for r in self.rows if (r["epoch"], r["split"], r["metric"]) == (epoch, split, "NC1")]
        return found[0]["value"] if found else None

    def _last(self, split: str, metric: str) -> float:
        return [entry for entry in self.rows if (entry["split"], entry["metric"]) == (split, metric)][-1]["value"]


def transfer(
    model: nn.Module,
    data: ImageData,
    config: TransferConfig,
    *,
    prepare: Prepare | None = None,
    layers: Sequence[str] | None = None,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = False,
) -> Transferred:
    """Fine-tune a copy of a pretrained network as `config` says.

    "linear" solves for the best head on the network's features (`nn.linear_probe`); "layer" and "scl" train on what the
    frozen trunk has computed once and left on disk; "full" and "lora" train on the images. Steps fall as a cosine, and
    frozen parts stay in evaluation mode.

    Args:
        model: Maps images to logits (N, K); left as it is.
        data: Images of the task.
        config: What to do.
        prepare: Turns images (B, C, H, W) of the data into images as the network knows them.
        layers: Names or globs of the layers that "auto" chooses among; None for every block.
        cache: Folder that keeps the trunk's outputs, for one network, one data set and any number of layers; None for
            a temporary one.
        device: "cpu", "cuda" (the first one) or "mps".
        workers: Loader processes, for images decoded while they are read.
        progress: Show progress on the error stream.

    Returns:
        Transferred.

    Raises:
        InputError: One class; a class without training samples; one sample of a class where some are held out for a
            choice; a head that is kept and has other classes; images that the network does not read; as `tune`.
        DegenerateError: Training diverged.
    """
    _check_classes(data)
    fabric = fabric_on(device)
    sets: dict[str, Images] = {
        "train": PreparedImages(data.train, prepare),
        "test": PreparedImages(data.test, prepare),
    }
    example = sets["train"].gather([0])[0].to(fabric.device)
    with reading(data), evaluation(model):
        model(example.to(devices_of(model)[0]))
    choice = None
    if config.method in PLACED and config.layer == AUTO:
        choice = rank_layers(
            model, data, config, prepare=prepare, layers=layers, cache=cache, fabric=fabric, progress=progress
        )
    layer = None if config.method not in PLACED else config.layer if choice is None else choice.chosen
    config = replace(config, layer=layer, epochs=config.epochs_for(len(data.train)))
    tuning = prepared_tuning(model, config, len(data.classes), example).to(fabric.device)
    share = tuning.describe()
    if config.method == "linear":
        rows, seconds, decay = solved(tuning, sets, config, classes=len(data.classes))
        return Transferred(config, tuning, tuple(rows), share, None, (seconds,), 0.0, decay)
    with task_of(tuning, sets, cache=cache, cached=config.cached) as task:
        diary = Diary(task, config.method, observed_epochs(config.epochs, config.observations))
        if config.start == "probe":
            start_head(task, config, len(data.classes))
        rows = _collapse(task, config, 0)
        rows += train(task, config.train(config.epochs), fabric, diary, workers=workers, progress=progress)
        tuning.eval()
        rows += _collapse(task, config, config.epochs)
    return Transferred(config, tuning, tuple(rows), share, choice, tuple(diary.seconds), task.seconds)


def evaluate(
    tuning: Tuning,
    data: ImageData,
    *,
    prepare: Prepare | None = None,
    device: torch.device | str = "cpu",
    tokens: Tokens = "class",
) -> Transferred:
    """Measure a network that was fine-tuned before, as `transfer` does after training.

    Args:
        tuning: What `load_delta` returns; moved to the device.
        data: Images of the task.
        prepare: Turns images of the data into images as the network knows them.
        device: "cpu", "cuda" (the first one) or "mps".
        tokens: What the network's sequences are reduced to, where it reads no class token.

    Returns:
        Transferred, with rows of epoch 0 alone.

    Raises:
        InputError: A head of fewer classes than the data have.
    """
    _check_classes(data)
    fabric = fabric_on(device)
    tuning = tuning.to(fabric.device).eval()
    classes, _ = size_of(tuning.head)
    if classes != len(data.classes):
        raise InputError(
            f"a network tuned for {len(data.classes)} classes, as {data.name} has",
            got=f"one for {classes}",
            remedy="Measure it on the data that it was tuned for.",
        )
    config = TransferConfig(method=tuning.method, layer=tuning.layer, tokens=tokens)
    sets = {"train": PreparedImages(data.train, prepare), "test": PreparedImages(data.test, prepare)}
    with task_of(tuning, sets, cache=None, cached=False) as task:
        rows = Diary(task, config.method, ()).rows(0) + _collapse(task, config, 0)
    return Transferred(config, tuning, tuple(rows), tuning.describe(), None, (), 0.0)


def _check_classes(data: ImageData) -> None:
    if len(data.classes) < 2:
        raise InputError("data of at least two classes", got=f"{len(data.classes)}", remedy="Add the others.")
    if not len(data.train) or not len(data.test):
        raise InputError(
            "training and test samples", got=f"{len(data.train)} and {len(data.test)}", remedy="Check the splits."
        )


def _collapse(task: Task, config: TransferConfig, epoch: int) -> Rows:
    """NC1 and H-score of what the classifier reads."""
    rows = []
    for split, dataset in task.sets.items():
        found, labels = layer_rows(task.module, dataset, classifier=task.classifier, tokens=config.tokens)
        values = zip(("NC1", "H-score"), collapse_of(found["features"], labels), strict=True)
        rows += [
            row(config.method, epoch, split, "features", metric, value) for metric, value in values if value is not None
        ]
    return rows
