"""How far the block that `--layer auto` chooses is from the best one, by accuracy on test samples."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from benchmarks.measuring import Report, arguments
from torch import nn
from torch.nn.functional import cross_entropy

from tightframe.experiments.transfer.image_tasks import ImageTask, read_task
from tightframe.nn.networks import build
from tightframe.training.batches import epoch_batches
from tightframe.trials.layer_choice import LayerScore, rank_layers
from tightframe.trials.transfer import TransferConfig, few_shots, transfer

SOURCE, TARGET = tuple(range(5)), tuple(range(5, 10))


@dataclass(frozen=True)
class Sizes:
    """Width of the network, epochs of its training, steps of each short probe and of the tuning, and seeds."""

    width: int = 8
    epochs: int = 8
    probe_steps: int = 100
    steps: int = 200
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Split:
    """One draw of training samples: what the probes said of every block, and what tuning it gives on the test set."""

    shots: int
    seed: int
    chosen: str
    probes: tuple[LayerScore, ...]
    tested: dict[str, float]

    def regret(self, layer: str) -> float:
        """Test accuracy of the best block less that of `layer`."""
        return max(self.tested.values()) - self.tested[layer]

    def rules(self) -> dict[str, float]:
        """Regret of the choice, and of rules that tune nothing first."""
        defined = [probe for probe in self.probes if None not in (probe.nc1, probe.h_score)]
        named = {
            "auto": self.chosen,
            "last block": self.probes[-1].layer,
            "smallest NC1": min(defined, key=lambda probe: probe.nc1).layer,
            "largest H-score": max(defined, key=lambda probe: probe.h_score).layer,
        }
        blind = fmean(self.regret(layer) for layer in self.tested)
        return {rule: self.regret(layer) for rule, layer in named.items()} | {"any block": blind}


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    sizes, shots = Sizes(), (20,)
    if options.quick:
        sizes, shots = Sizes(width=2, epochs=1, probe_steps=2, steps=2, seeds=(0,)), (3,)
    network = start(sizes)
    splits = [split(network, sizes, n, seed) for n in shots for seed in sizes.seeds]
    written(splits, sizes).finish("layer_choice", options)


def start(sizes: Sizes) -> nn.Module:
    """A ResNet18 trained on the digits 0-4."""
    task = read_task(ImageTask("digits", SOURCE))
    data = task.train
    torch.manual_seed(0)
    network = build("resnet18", shape=task.shape, classes=len(SOURCE), width=sizes.width)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for epoch in range(sizes.epochs):
        for batch in epoch_batches(len(data), 64, seed=0, epoch=epoch):
            images, labels = data.gather(batch)
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network.eval()


def split(network: nn.Module, sizes: Sizes, shots: int, seed: int) -> Split:
    """Choose a block on `shots` samples of each of the digits 5-9, and tune every block on the same samples."""
    data = few_shots(read_task(ImageTask("digits", TARGET)), shots, seed=seed)
    choice = rank_layers(network, data, config(sizes, seed))
    layers = [probe.layer for probe in choice.scores]
    tested = {layer: transfer(network, data, config(sizes, seed, layer)).test_accuracy for layer in layers}
    return Split(shots, seed, choice.chosen, choice.scores, tested)


def config(sizes: Sizes, seed: int, layer: str = "auto") -> TransferConfig:
    """How a block is probed and tuned: so few samples are one batch, and an epoch is a step."""
    steps = {"epochs": sizes.steps, "probe_steps": sizes.probe_steps}
    return TransferConfig(method="scl", layer=layer, observations=2, seed=seed, **steps)


def written(splits: list[Split], sizes: Sizes) -> Report:
    """Every split, and the mean regret of every rule."""
    report = Report("Which block --layer auto chooses", "python -m benchmarks.accuracy.layer_choice")
    report.say(
        f"A ResNet18 of width {sizes.width}, trained on the digits 0-4 for {sizes.epochs} epochs, goes to the digits "
        "5-9 (8 x 8) by skip-connection tuning. Each split draws other training samples, so many of every class. Auto "
        f"tunes every block for {sizes.probe_steps} steps on up to five divisions of them; then every block is tuned "
        f"for {sizes.steps} steps on all of them. Regret: test accuracy of the best block less that of the chosen one, "
        "in points. The best of several accuracies on the same test samples is above what that block reaches on "
        "others, so regrets are too large rather than too small. Any block: the mean over all of them."
    )
    report.table(
        ["shots", "split", "chosen", "accuracy (%)", "best", "its accuracy (%)", "regret"], list(map(_row, splits))
    )
    groups = {n: [one for one in splits if one.shots == n] for n in sorted({one.shots for one in splits})}
    rules = list(splits[0].rules())
    report.table(
        ["shots", *(f"regret of {rule}" for rule in rules), "largest of auto"],
        [
            (n, *(fmean(_points(one, rule) for one in group) for rule in rules), max(_points(o, "auto") for o in group))
            for n, group in groups.items()
        ],
    )
    return report


def _row(one: Split) -> tuple[object, ...]:
    best = max(one.tested, key=one.tested.__getitem__)
    accuracy = 100 * one.tested[one.chosen], best, 100 * one.tested[best]
    return one.shots, str(one.seed), one.chosen, *accuracy, _points(one, "auto")


def _points(one: Split, rule: str) -> float:
    return 100 * one.rules()[rule]


if __name__ == "__main__":
    main()
