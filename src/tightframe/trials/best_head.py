"""The best linear head on a network's features, written into the network: an end, or where training starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tightframe.core.errors import InputError
from tightframe.nn.tuning.probe import linear_probe
from tightframe.nn.tuning.tuning import Tuning
from tightframe.trials.transfer_config import TransferConfig
from tightframe.trials.tuned_epochs import Diary, Images, Rows, Task, collapse_of, layer_rows, row


def solve_head(tuning: Tuning, features: Tensor, labels: Tensor, config: TransferConfig, classes: int) -> float:
    """Give the head the optimum of `nn.linear_probe` on what it reads; returns the weight decay.

    Args:
        tuning: The prepared network.
        features: What its head reads (n, d).
        labels: Class indices (n,).
        config: Decays, and the share held out to choose among several.
        classes: K.

    Raises:
        InputError: A head without a bias, or as `linear_probe`.
    """
    head = tuning.head
    if getattr(head, "bias", None) is None:
        raise InputError(
            "a head with a bias, which the best linear probe has",
            got=f"{tuning.head_path} without one",
            remedy="Give the network an nn.Linear with a bias, or fine-tune it by another method.",
        )
    several = len(config.decays) > 1
    solution = linear_probe(
        features,
        labels,
        decay=config.decays if several else config.decays[0],
        validation=config.held_out if several else None,
        classes=classes,
        seed=config.seed,
    )
    # Features that are padded with zeros have no weights in the optimum; the head's own would only be noise.
    with torch.no_grad():
        head.weight.copy_(solution.W)
        head.bias.copy_(solution.b)
    return float(solution.decay)


def start_head(task: Task, config: TransferConfig, classes: int) -> None:
    """Start a task from the best head on what it reads before training."""
    found, labels = layer_rows(task.module, task.sets["train"], classifier=task.classifier, tokens=config.tokens)
    solve_head(task.tuning, found["features"], labels, config, classes)


def solved(
    tuning: Tuning, sets: dict[str, Images], config: TransferConfig, *, classes: int
) -> tuple[Rows, float, float]:
    """The best head on fixed features: rows before and after, seconds of the solve, and the decay."""
    path = f"model.{tuning.head_path}"
    found = {split: layer_rows(tuning, images, classifier=path, tokens=config.tokens) for split, images in sets.items()}
    features = {split: (rows["features"], labels) for split, (rows, labels) in found.items()}
    head = tuning.head
    heads = [Task(head, head, {split: _Rows(*pair)}, "") for split, pair in features.items()]
    rows = [entry for task in heads for entry in Diary(task, "linear", ()).rows(0)]
    clock = time.perf_counter()
    decay = solve_head(tuning, *features["train"], config, classes)
    seconds = time.perf_counter() - clock
    tuning.eval()
    rows += [entry for task in heads for entry in Diary(task, "linear", ()).rows(1)]
    for split, (h, labels) in features.items():
        values = zip(("NC1", "H-score"), collapse_of(h, labels), strict=True)
        rows += [
            row("linear", epoch, split, "features", metric, value)
            for metric, value in values
            if value is not None
            for epoch in (0, 1)
        ]
    return rows, seconds, decay


class _Rows(Dataset[Any]):
    """Features (N, d) and labels (N,) held in memory."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.features[chosen], self.labels[chosen]
