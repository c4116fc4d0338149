"""Runs of the comparison of normalised and plain features: a network watched at every epoch, on few samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from tightframe.collapse.variability import nc1
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator, preserved_rng
from tightframe.data.labelled.images import ArrayDataset, balanced_indices
from tightframe.data.labelled.source import load
from tightframe.features.moments import ClassMoments
from tightframe.nn.heads.normalized import NormalizedHead
from tightframe.nn.networks import build
from tightframe.runs.record import Cell
from tightframe.training.config import TrainConfig
from tightframe.training.fabric import connect
from tightframe.training.loop import fit
from tightframe.trials.shard import Shard
from tightframe.trials.trial import observed_epochs

Row = dict[str, Cell]

SPHERES, WEIGHTS, LAST = "spheres", "linear, all weights decay", "linear, last layer decays"
ARMS = (SPHERES, WEIGHTS, LAST)
# Epochs at which samples that are not trained on are read.
_TESTED = 16


@dataclass(frozen=True)
class Config:
    """What is trained, on what, with which step sizes and settings.

    Args:
        data: Data set.
        turns: Quarter turns that make classes of their own, 1 (none), 2 or 4: K is this many times the data's classes.
        per_class: Training samples of a class, drawn by the seed.
        held_out: Samples of the data's test set to read; every other one selects, the rest is the test set.
        model: Network.
        width: Its width.
        depth: Hidden layers of an MLP.
        epochs: Of every run; the step size is constant.
        batch_size: Samples per step.
        rates: Step sizes, tried by every arm.
        temperatures: Of the spheres, whose only loss is cross-entropy.
        weight_decays: Of all weights under a linear classifier, as many.
        last_decays: Of a linear classifier and the features it reads, as many.
        variability: Targets of NC1 of the unit features on the training set.
        accuracy: Target of the training accuracy.
        seeds: Samples, starts and orders of samples, shared by the arms.
    """

    data: str = "digits"
    turns: int = 1
    per_class: int = 20
    held_out: int | None = None
    model: str = "mlp-bn"
    width: int = 128
    depth: int = 3
    epochs: int = 30
    batch_size: int = 100
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    temperatures: tuple[float, ...] = (1.0, 10.0)
    weight_decays: tuple[float, ...] = (5e-4, 5e-3)
    last_decays: tuple[float, ...] = (5e-3, 5e-2)
    variability: tuple[float, ...] = (0.1, 0.01)
    accuracy: float = 0.99
    seeds: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        counts = [len(self.settings(arm)) for arm in ARMS]
        if len(set(counts)) > 1 or not counts[0]:
            raise InputError(
                "as many temperatures as decays of either kind, so that every arm is tuned alike",
                got=", ".join(f"{count} ({arm})" for arm, count in zip(ARMS, counts, strict=True)),
                remedy="Give equally many of each.",
            )

    def settings(self, arm: str) -> tuple[float, ...]:
        """Temperatures of the spheres, decays of the others."""
        return {SPHERES: self.temperatures, WEIGHTS: self.weight_decays, LAST: self.last_decays}[arm]


@dataclass(frozen=True)
class Sets:
    """Training samples, samples to select by, test samples, and the number of classes."""

    train: ArrayDataset
    selection: ArrayDataset
    test: ArrayDataset
    classes: int


@lru_cache(maxsize=4)  # Reading some sets takes as long as a run on so few of their samples.
def task(config: Config, seed: int, root: Path | None) -> Sets:
    """Few samples of many classes: a class of the data, turned by a number of quarter turns. No image occurs twice.

    Raises:
        InputError: The data hold fewer samples of a class, or are not read into memory.
    """
    data = load(config.data, root=root)
    if not isinstance(data.train, ArrayDataset):
        raise InputError("a data set held in memory", got=config.data, remedy="Use digits, fashion-mnist or cifar10.")
    classes = len(data.classes) * config.turns
    wanted = classes * config.per_class
    drawn = torch.randperm(len(data.train), generator=generator(seed))
    train = data.train.take(drawn)
    train = train.take(balanced_indices(train.labels, wanted))
    least = int(torch.bincount(train.labels, minlength=len(data.classes)).min())
    if least < config.turns * config.per_class:
        raise InputError(
            f"{config.turns * config.per_class} training samples of every class of {config.data}",
            got=f"{least} of one",
            remedy="Lower per_class or turns.",
        )
    test = data.test if config.held_out is None else data.test.take(balanced_indices(data.test.labels, config.held_out))
    test = turned(test, config.turns)
    by_class = test.labels.argsort(stable=True)
    return Sets(turned(train, config.turns), test.take(by_class[::2]), test.take(by_class[1::2]), classes)


def turned(data: ArrayDataset, turns: int) -> ArrayDataset:
    """The images of every class in turn by 0, 1, ..., turns - 1 quarter turns; label turns * class + turn."""
    if turns == 1:
        return data
    place = torch.empty_like(data.labels)
    for label in data.labels.unique():
        own = data.labels == label
        place[own] = torch.arange(int(own.sum())) % turns
    images = data.images.clone()
    for turn in range(1, turns):
        images[place == turn] = torch.rot90(data.images[place == turn], turn, dims=(2, 3))
    return ArrayDataset(images, turns * data.labels + place)


def watched(item: tuple[Config, str, float, float, int, Path | None]) -> list[Row]:
    """One run: what it reached by epoch, 0 before training. It ends early where training diverged."""
    config, arm, setting, rate, seed, root = item
    sets, seldom = task(config, seed, root), observed_epochs(config.epochs, _TESTED)
    rows: list[Row] = []

    def look(epoch: int, model: nn.Module) -> list:
        rows.append({"epoch": epoch} | _looked(model, sets, held_out=epoch in seldom))
        return []

    try:
        fit(
            initial(config, arm, setting, sets, seed),
            sets.train,
            config=_train(config, arm, setting, rate, seed),
            fabric=connect(),
            on_epoch=look,
        )
    except DegenerateError:
        # A run that left the numbers reaches nothing, and is counted so.
        return rows
    return rows


def initial(config: Config, arm: str, setting: float, sets: Sets, seed: int) -> nn.Module:
    """The network before training; all arms have the same hidden layers."""
    shape = tuple(sets.train.images.shape[1:])
    with preserved_rng():
        torch.manual_seed(seed)
        model = build(config.model, shape=shape, classes=sets.classes, width=config.width, depth=config.depth)
        if arm == SPHERES:
            model.classifier = NormalizedHead(model.classifier.in_features, sets.classes, temperature=setting)
    return model


def _train(config: Config, arm: str, setting: float, rate: float, seed: int) -> TrainConfig:
    decay = {
        SPHERES: {"weight_decay": 0.0},
        WEIGHTS: {"weight_decay": setting},
        LAST: {"weight_decay": setting, "feature_decay": setting, "decay": "last"},
    }
    return TrainConfig(epochs=config.epochs, lr=rate, batch_size=config.batch_size, seed=seed, **decay[arm])


@torch.no_grad()
def _looked(model: nn.Module, sets: Sets, *, held_out: bool) -> Row:
    """NC1 of the unit features and of the features as they are, and accuracies, in evaluation mode."""
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    own, unit = ClassMoments(sets.classes), ClassMoments(sets.classes)
    shares: Row = {"test samples": len(sets.test)} if held_out else {}
    others = {"selection": sets.selection, "test": sets.test} if held_out else {}
    for name, data in {"training": sets.train, **others}.items():
        right = torch.zeros((), dtype=torch.int64, device=device)
        for images, labels in Shard(data):
            features, labels = model.forward_features(images.to(device)), labels.to(device)
            if not bool(torch.isfinite(features).all()):
                raise DegenerateError("features that are finite", got="others", remedy="Lower the step size.")
            right += (model.classifier(features).argmax(1) == labels).sum()
            if name == "training":
                own.update(features, labels)
                unit.update(functional.normalize(features, dim=1), labels)
        shares[f"{name} accuracy"] = int(right) / len(data)
    model.train(mode)
    return {"NC1": _variability(unit), "NC1, lengths kept": _variability(own)} | shares


def _variability(moments: ClassMoments) -> float | None:
    try:
        return nc1(moments)
    except DegenerateError:
        return None  # Class means that coincide, as at the start of a network that has not spread them yet.


def reached(values: Sequence[float | None], *, most: float | None = None, least: float | None = None) -> int | None:
    """The epoch from which on every value is at most `most`, or at least `least`; None where the last one is not."""
    since = None
    for epoch in range(len(values) - 1, -1, -1):
        value = values[epoch]
        if value is None or (most is not None and value > most) or (least is not None and value < least):
            break
        since = epoch
    return since
