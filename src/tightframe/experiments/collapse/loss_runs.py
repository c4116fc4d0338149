"""Runs of the comparison of losses: one network measured before and after training, and how far losses are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from tightframe.runs.record import Cell
from tightframe.training.config import TrainConfig
from tightframe.trials.trial import TrialConfig, run_trial

Row = dict[str, Cell]

# Signs of collapse: their metrics, and what is left of each after training, over before, in a network that collapses.
SIGNS = {"NC1": ("NC1", 0.1), "NC2": ("NC2 features", 0.5), "NC3": ("NC3", 0.5)}
# The source's: label smoothing spreads alpha over all K classes, squared error is averaged over them.
_LOSSES = (
    ("CE", "ce"),
    ("focal", "focal:gamma=3"),
    ("label smoothing", "ls:smoothing=0.05"),
    ("MSE", "mse:scale=1,target=15"),
)


@dataclass(frozen=True)
class Config:
    """What is trained: every loss at every width and length, the rest alike.

    Args:
        data: Data set; "digits" is split anew by every seed.
        model: Network.
        depth: Hidden layers of an MLP.
        limit: Training samples; None for all.
        losses: Names, and what `trials.levers.build_loss` reads; at least two.
        widths: Of the network, ascending.
        epochs: Lengths of training, ascending; the step size is divided by ten after 3/7 and 5/7 of each.
        lr: First step size.
        weight_decay: Of all weights.
        batch_size: Samples per step.
        seeds: Starts and orders of samples, shared by the losses.
    """

    data: str = "digits"
    model: str = "mlp-bn"
    depth: int = 2
    limit: int | None = None
    losses: tuple[tuple[str, str], ...] = _LOSSES
    widths: tuple[int, ...] = (16, 64, 256)
    epochs: tuple[int, ...] = (6, 40)
    lr: float = 0.2
    weight_decay: float = 1e-2
    batch_size: int = 256
    seeds: tuple[int, ...] = (0, 1)


@dataclass(frozen=True)
class Run:
    """A trained network: its loss, width, epochs and seed, what was measured, and its cosines between class means."""

    loss: str
    width: int
    epochs: int
    seed: int
    row: Row
    cosines: Tensor


def trained(item: tuple[Config, str, int, int, int, Path | None]) -> Run:
    """One network, measured before and after training."""
    config, loss, width, epochs, seed, root = item
    trial = run_trial(_trial(config, loss, width, epochs, seed), data_root=root)
    before, after = trial.first, trial.last
    row: Row = {"loss": loss, "width": width, "epochs": epochs, "training": _length(epochs), "seed": seed}
    row |= {"test accuracy": after.test["accuracy"], "test samples": after.test.last.samples}
    row["training accuracy"] = after.train["accuracy"]
    for sign, (metric, _) in SIGNS.items():
        row[sign] = after.train[metric]
        row[f"{sign} before"] = before.train[metric]
    return Run(loss, width, epochs, seed, row, after.cosines)


def distance(one: Run, other: Run) -> float:
    """| C/|C| - C'/|C'| | of the cosines between centred class means: NC2, with another network for the simplex."""
    units = [run.cosines / torch.linalg.matrix_norm(run.cosines) for run in (one, other)]
    return float(torch.linalg.matrix_norm(units[0] - units[1]))


def spread(config: Config, runs: Sequence[Run]) -> Row:
    """How far the losses are apart at one width and length, and how far chance alone takes them."""
    by_loss = {loss: {run.seed: run for run in runs if run.loss == loss} for loss, _ in config.losses}
    accuracy = torch.tensor(
        [[by_loss[loss][seed].row["test accuracy"] for seed in config.seeds] for loss in by_loss], dtype=torch.float64
    )
    averages = accuracy.mean(1)
    samples = runs[0].row["test samples"] * (len(config.seeds) if config.data == "digits" else 1)
    # Losses at different seeds, so that a common start brings none of them closer than the seeds of one loss.
    across = [
        distance(by_loss[a][i], by_loss[b][j])
        for a, b in combinations(by_loss, 2)
        for i, j in permutations(config.seeds, 2)
    ]
    within = [distance(own[i], own[j]) for own in by_loss.values() for i, j in combinations(config.seeds, 2)]
    paired = [
        distance(by_loss[a][seed], by_loss[b][seed]) for a, b in combinations(by_loss, 2) for seed in config.seeds
    ]
    lowest, highest = _range_of_variability(by_loss)
    return {
        "width": runs[0].width,
        "epochs": runs[0].epochs,
        "training": _length(runs[0].epochs),
        "test accuracy, mean": float(accuracy.mean()),
        "range of test accuracies": float(averages.max() - averages.min()),
        "range by chance": chance_range(accuracy, samples),
        "distance between losses, same start": mean(paired),
        "distance between losses": mean(across) if across else None,
        "distance between seeds": mean(within) if within else None,
        "lowest NC1": lowest,
        "highest NC1": highest,
    }


def chance_range(accuracy: Tensor, samples: int) -> float:
    r"""What the range of the means of equally good losses stays below in 95 of 100 cases.

    .. math:: q \sqrt{\frac{p(1-p)}{n} + \frac{s^2}{S}}

    with q the 95 % point of the studentised range of L values, p the mean accuracy, n `samples`, and s^2 the variance
    of `accuracy` (L, S) over seeds once what a seed does to all losses is taken out. Where every seed draws other test
    samples, they also move the accuracies over seeds, so that the bound is on the wide side; that s^2 is estimated from
    few seeds makes it uncertain.
    """
    from scipy.stats import studentized_range

    losses, seeds = accuracy.shape
    average = float(accuracy.mean())
    residual = accuracy - accuracy.mean(1, keepdim=True) - accuracy.mean(0, keepdim=True) + average
    chance = float(residual.square().sum()) / ((losses - 1) * (seeds - 1)) if seeds > 1 else 0.0
    point = float(studentized_range.ppf(0.95, losses, float("inf")))
    return point * (average * (1 - average) / samples + chance / seeds) ** 0.5


def _trial(config: Config, loss: str, width: int, epochs: int, seed: int) -> TrialConfig:
    return TrialConfig(
        data=f"digits:{seed}" if config.data == "digits" else config.data,
        model=config.model,
        width=width,
        depth=config.depth,
        limit=config.limit,
        layers="classifier",
        observations=2,
        train=TrainConfig(
            epochs=epochs,
            lr=config.lr,
            weight_decay=config.weight_decay,
            batch_size=config.batch_size,
            milestones=(round(3 * epochs / 7), round(5 * epochs / 7)),
            seed=seed,
            loss=dict(config.losses)[loss],
        ),
    )


def _length(epochs: int) -> str:
    return f"{epochs} epochs"


def _range_of_variability(by_loss: dict[str, dict[int, Run]]) -> tuple[float, float]:
    values = [mean(run.row["NC1"] for run in own.values()) for own in by_loss.values()]
    return min(values), max(values)
