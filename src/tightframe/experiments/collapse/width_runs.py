"""Networks of several widths trained on labels drawn at random, or on the right ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tightframe.core.errors import InputError
from tightframe.experiments.measured import SIGNS, Row, epochs_of, values
from tightframe.runs.record import Cell
from tightframe.training.config import TrainConfig
from tightframe.trials.trial import Trial, TrialConfig, run_trial

RANDOM, RIGHT = "random", "right"
# So few samples collapse under ten times the sources' weight decay.
_TRAIN = TrainConfig(epochs=80, lr=0.1, weight_decay=5e-3, schedule="cosine")


@dataclass(frozen=True)
class Config:
    """What is trained.

    Args:
        data: Data sets whose training labels are drawn at random; of "gaussian:..." the inputs are random too.
        limit: Training samples of each; None for all.
        model: Network.
        depth: Hidden layers of an MLP.
        widths: Widths of the network, ascending: every hidden layer of an MLP, the stem of a ResNet. Features of fewer
            than K - 1 dimensions could not form a simplex whatever they fit.
        seeds: Of the labels, the weights and the order of samples.
        compared: Data sets on which the widest network is trained with the right labels too.
        train: How every network is trained; the seed in it is not used.
        observations: Epochs at which a network is measured.
    """

    data: tuple[str, ...] = ("digits", "gaussian:10x1347")
    limit: int | None = None
    model: str = "mlp-bn"
    depth: int = 3
    widths: tuple[int, ...] = (10, 16, 32, 128)
    seeds: tuple[int, ...] = (0, 1)
    compared: tuple[str, ...] = ("digits",)
    train: TrainConfig = _TRAIN
    observations: int = 8

    def __post_init__(self) -> None:
        ascending = len(self.widths) > 1 and all(a < b for a, b in pairwise(self.widths))
        if not ascending or not self.data or not self.seeds or not set(self.compared) <= set(self.data):
            raise InputError(
                "data sets, seeds, and two or more ascending widths; what is compared is among the data sets",
                got=f"data={self.data}, widths={self.widths}, seeds={self.seeds}, compared={self.compared}",
                remedy='Use data=("digits",), widths=(8, 64, 512), seeds=(0,), compared=(), for example.',
            )


# Configuration, data set, labels, width, seed, folder of the data sets.
Item = tuple[Config, str, str, int, int, Path | None]


def trained(item: Item) -> tuple[Row, list[Row]]:
    """One network: what it reached, and, for the first seed, how."""
    config, data, labels, width, seed, root = item
    trial = run_trial(_trial(config, data, labels, width, seed), data_root=root)
    cell = {"data": data, "labels": labels, "width": width, "seed": seed}
    last = trial.last.epoch
    before, after, test = values(trial, 0, "train"), values(trial, last, "train"), values(trial, last, "test")
    row: dict[str, Cell] = cell | {
        "parameters": sum(p.numel() for p in trial.model.parameters()),
        "samples": trial.last.train.last.samples,
        "training error": 1 - after["accuracy"],
        "test accuracy": test["accuracy"],
    }
    for metric in SIGNS:
        row |= {f"{metric} before": before.get(metric), metric: after.get(metric)}
    return row, _curve(trial, cell) if seed == config.seeds[0] else []


def _trial(config: Config, data: str, labels: str, width: int, seed: int) -> TrialConfig:
    return TrialConfig(
        data=data,
        model=config.model,
        width=width,
        depth=config.depth,
        limit=config.limit,
        layers="classifier",
        noise="random" if labels == RANDOM else "none",
        observations=config.observations,
        train=replace(config.train, seed=seed),
    )


def _curve(trial: Trial, cell: Row) -> list[Row]:
    rows = []
    for epoch in epochs_of(trial):
        now = values(trial, epoch, "train")
        rows.append(cell | {"epoch": epoch, "training error": 1 - now["accuracy"], "NC1": now.get("NC1")})
    return rows
