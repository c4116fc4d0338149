"""Epochs of fine-tuning, on images or on what a frozen trunk has made of them, and what is measured between them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from tightframe.collapse.spread import spread_of_rows
from tightframe.collapse.transferability import h_score
from tightframe.collapse.variability import nc1
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.evaluation import devices_of, evaluation
from tightframe.features.layer_inputs import LayerInputs
from tightframe.features.tap import FeatureTap
from tightframe.features.trunk import cached_trunk
from tightframe.nn.tuning.tuning import Tuning
from tightframe.training.batches import read_batches
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit
from tightframe.trials.prepared import PreparedImages, Taken

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Rows = list[dict[str, Any]]
Images = PreparedImages | Taken
_READ = 256


@dataclass(frozen=True)
class Task:
    """What a tuned network is trained and measured on, and where its inputs come from.

    Args:
        tuning: The prepared network.
        module: What maps the inputs to logits: the tuning itself, or the rest of it behind a cached trunk.
        sets: Data sets by split, "train" among them.
        classifier: Path of the head in `module`.
        seconds: Seconds that the cache took.
    """

    tuning: Tuning
    module: nn.Module
    sets: dict[str, Dataset[Any]]
    classifier: str
    seconds: float = 0.0


@dataclass
class Diary:
    """What is recorded on the way: rows of accuracy and loss, and the seconds of every epoch of training.

    Args:
        task: What is measured.
        run: Name in the rows.
        when: Epochs at which accuracy and loss are recorded.
    """

    task: Task
    run: str
    when: Collection[int]
    seconds: list[float] = field(default_factory=list)
    _since: float = 0.0

    def __call__(self, epoch: int, _model: nn.Module) -> Rows:
        """Rows of an epoch that is over."""
        if epoch:
            self.seconds.append(time.perf_counter() - self._since)
        rows = self.rows(epoch) if epoch in self.when else []
        self._since = time.perf_counter()
        return rows

    def rows(self, epoch: int) -> Rows:
        """Accuracy and loss of every split."""
        return [
            row(self.run, epoch, split, "output", metric, value)
            for split, dataset in self.task.sets.items()
            for metric, value in zip(("accuracy", "loss"), judged(self.task.module, dataset), strict=True)
        ]


def row(run: str, epoch: int, split: str, layer: str, metric: str, value: float) -> dict[str, Any]:
    """One row of a Record's series."""
    return {"run": run, "epoch": epoch, "split": split, "layer": layer, "metric": metric, "value": value}


@contextmanager
def task_of(
    tuning: Tuning, sets: dict[str, Images], *, cache: Path | None, cached: bool, scratch: Path | None = None
) -> Iterator[Task]:
    """The task of a tuning; where its trunk is frozen and `cached`, on files that the trunk's outputs are kept in.

    Args:
        tuning: The prepared network, on its device.
        sets: Images by split.
        cache: Folder that keeps the files; None for one that goes with the block.
        cached: Whether there may be files at all.
        scratch: Where a folder that goes with the block is made; None for the system's place.

    Raises:
        InputError: As `cached_trunk`; or the disk is too small for the files.
    """
    if tuning.layer is None or not cached:
        yield Task(tuning, tuning, dict(sets), f"model.{tuning.head_path}")
        return
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    passing = TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) if cache is None else nullcontext(cache)
    with passing as folder:
        place = Path(folder) / tuning.layer
        clock = time.perf_counter()
        found = {split: _trunk(tuning, images, place / split) for split, images in sets.items()}
        seconds = time.perf_counter() - clock
        rest = found["train"].resumed(tuning)
        yield Task(tuning, rest, dict(found), f"model.model.{tuning.head_path}", seconds)


def train(task: Task, config: TrainConfig, fabric: Fabric, diary: Diary, *, workers: int, progress: bool) -> Rows:
    """Train what is trainable, in place; all rows of the way."""
    result = fit(
        task.module,
        task.sets["train"],
        config=config,
        fabric=fabric,
        on_epoch=diary,
        run=diary.run,
        workers=workers,
        progress=progress,
    )
    return list(result.history)


def judged(module: nn.Module, dataset: Dataset[Any]) -> tuple[float, float]:
    """Accuracy and mean cross-entropy in evaluation mode."""
    device = devices_of(module)[0]
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with evaluation(module):
        for images, labels in _batches(dataset):
            logits, labels = module(images.to(device)), labels.to(device)
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack([right.double(), cross_entropy(logits.double(), labels, reduction="sum")])
    accuracy, loss = (sums / len(dataset)).tolist()
    return accuracy, loss


def layer_rows(
    module: nn.Module, dataset: Dataset[Any], layers: str | tuple[str, ...] = "classifier", **options: Any
) -> tuple[dict[str, Tensor], Tensor]:
    """Rows (N, d) of some layers by name, by default the classifier's input, and labels, on the module's device."""
    tap, device = FeatureTap(module, layers, **options), devices_of(module)[0]
    found: dict[str, list[Tensor]] = {}
    labels = []
    for images, classes in _batches(dataset):
        for name, rows in tap(images.to(device)).features.items():
            found.setdefault(name, []).append(rows)
        labels.append(classes.to(device))
    return {name: torch.cat(rows) for name, rows in found.items()}, torch.cat(labels)


def collapse_of(features: Tensor, labels: Tensor) -> tuple[float | None, float | None]:
    """NC1 and H-score of rows (n, d) of the classes that occur; None where undefined, as NC1 is for single samples."""
    present, labels = labels.unique(return_inverse=True)
    if len(present) < 2:
        return None, None
    spread = spread_of_rows(features, labels, classes=len(present)).merged()
    return _defined(lambda: nc1(spread.moments()) if spread.count.max() > 1 else None), _defined(
        lambda: h_score(spread)
    )


def _defined(value: Any) -> float | None:
    try:
        return value()
    except DegenerateError:
        return None


def _batches(dataset: Dataset[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    return read_batches(dataset, torch.arange(len(dataset)).split(_READ))


def _trunk(tuning: Tuning, images: Images, place: Path) -> Any:
    # What is hooked around the tuned layer does not change what enters it.
    _, first, _ = LayerInputs(tuning.model, tuning.layer, devices_of(tuning)[0]).read(images, [0])
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        needed, free = first.numel() * first.element_size() * len(images), shutil.disk_usage(place.parent).free
        if needed > free:
            raise InputError(
                f"{needed / 1e9:.1f} GB of disk for the inputs of {tuning.layer!r}, {len(images)} samples",
                got=f"{free / 1e9:.1f} GB free at {place.parent}",
                remedy="Name another folder for the cache, a later layer, or train without the cache.",
            )
    return cached_trunk(tuning.model, tuning.layer, images, place, batch_size=_READ)
