"""Runs of the label-noise experiment: settings tried on noisy validation labels, and the chosen ones trained afresh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tightframe.experiments.labels.detection import confident_learning
from tightframe.runs.record import Cell
from tightframe.runs.series import curves
from tightframe.training.config import TrainConfig
from tightframe.trials.trial import TrialConfig, run_trial

Row = Mapping[str, Cell]
# (loss, weight decay)
Setting = tuple[str, float]

# Cross-entropy by itself, with decays as they are used on clean labels and with stronger ones.
CE = tuple((loss, decay) for loss in ("ce", "ls:smoothing=0.1") for decay in (1e-2, 3e-2, 1e-1))
CE_MILD = tuple((loss, decay) for loss in ("ce", "ls:smoothing=0.1") for decay in (1e-3, 1e-2, 3e-2))
GCE = tuple((f"gce:q={q}", decay) for q in (0.5, 0.7, 0.9) for decay in (1e-3, 1e-2))
ELR = tuple((f"elr:momentum={m},strength={s}", 1e-3) for m in (0.7, 0.9) for s in (3, 7, 15))
SOP = tuple((f"sop:rate={rate}", 1e-3) for rate in (0.03, 0.1, 0.3, 1, 3, 10))
SOP_PLUS = tuple((f"sop+:rate={rate}", 1e-3) for rate in (0.03, 0.1, 0.3, 1, 3, 10))


@dataclass(frozen=True)
class Config:
    """What is compared.

    Args:
        data: Data set; "digits" is split anew by every seed.
        model: Network.
        width: Its width.
        depth: Hidden layers of an MLP.
        limit: Training samples; None for all.
        epochs: Of every run.
        lr: First step size; it falls as a cosine.
        batch_size: Samples per step.
        augment: Random transforms.
        observations: Epochs at which a network is measured, see `TrialConfig`.
        noises: Noise put on the training labels.
        methods: By name, the settings among which noisy validation accuracy chooses; as many for every method.
        selection_seeds: Seeds that settings are chosen with, a fifth of the noisy samples held out.
        seeds: Fresh seeds that the chosen setting is trained with, on all noisy samples.
    """

    data: str = "digits"
    model: str = "mlp-bn"
    width: int = 512
    depth: int = 2
    limit: int | None = None
    epochs: int = 150
    lr: float = 0.02
    batch_size: int = 128
    augment: str = "noise:0.15"
    observations: int = 12
    noises: tuple[str, ...] = ("symmetric:0.4",)
    methods: tuple[tuple[str, tuple[Setting, ...]], ...] = (("CE", CE), ("ELR", ELR), ("SOP", SOP))
    selection_seeds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (10, 11)


def searched_once(item: tuple[Config, str, Setting, int, Path | None]) -> Row:
    """One setting trained with a fifth of the noisy samples held out."""
    config, noise, setting, seed, root = item
    trial = run_trial(_trial(config, noise, setting, seed, validation=0.2), data_root=root)
    held, test = (curves(trial.rows, split)["accuracy"] for split in ("validation", "test"))
    best = max(held, key=lambda epoch: (held[epoch], epoch))
    return {
        "noise": noise,
        "loss": setting[0],
        "weight decay": setting[1],
        "seed": seed,
        "noisy validation, last epoch": held[config.epochs],
        "test, last epoch": test[config.epochs],
        "selected epoch": best,
        "test, selected epoch": test[best],
    }


def trained(item: tuple[Config, str, str, Setting, int, Path | None]) -> tuple[Row, list[Row]]:
    """The chosen setting trained on all noisy samples: what it reached, and its accuracy by epoch."""
    config, noise, method, setting, seed, root = item
    trial = run_trial(_trial(config, noise, setting, seed), data_root=root)
    cell = {"noise": noise, "method": method, "seed": seed}
    test, train = (curves(trial.rows, split)["accuracy"] for split in ("test", "train"))
    row = cell | {
        "test, last epoch": test[config.epochs],
        "test, best test epoch": max(test.values()),
        "train, given labels": train[config.epochs],
    }
    if trial.labels is not None:
        row |= trial.labels.numbers()
    drawn = [
        cell | {"split": split, "epoch": epoch, "accuracy": value}
        for split, curve in (("test", test), ("train, given labels", train))
        for epoch, value in curve.items()
    ]
    return row, drawn if seed == config.seeds[0] else []


def confident(item: tuple[Config, str, int, Path | None]) -> Row:
    """Wrong labels found by cleanlab's confident learning on the samples and labels of one run."""
    config, noise, seed, root = item
    found = confident_learning(_trial(config, noise, ("ce", 0.0), seed), root)
    return {"noise": noise, "method": "confident learning (cleanlab)", "seed": seed} | found


def _trial(config: Config, noise: str, setting: Setting, seed: int, *, validation: float = 0.0) -> TrialConfig:
    loss, decay = setting
    return TrialConfig(
        data=f"digits:{seed}" if config.data == "digits" else config.data,
        model=config.model,
        width=config.width,
        depth=config.depth,
        limit=config.limit,
        layers="classifier",
        noise=noise,
        validation=validation,
        observations=config.observations,
        train=TrainConfig(
            epochs=config.epochs,
            lr=config.lr,
            schedule="cosine",
            batch_size=config.batch_size,
            weight_decay=decay,
            seed=seed,
            loss=loss,
            augment=config.augment,
        ),
    )
