"""Epochs of fine-tuning with the frozen trunk cached on disk, beside recomputing it and beside linear probes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from benchmarks.measuring import Report, Work, arguments, cpu_seconds, paired, ratio
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from tightframe.core.rng import generator
from tightframe.data.labelled.images import ArrayDataset
from tightframe.features.trunk import TrunkFeatures, cached_trunk
from tightframe.nn.networks import resnet18
from tightframe.nn.tuning.fine_tuning import tune
from tightframe.nn.tuning.tuning import Tuning
from tightframe.training.batches import epoch_batches

BAR = 1.3
LAYERS = ("layer2.0", "layer3.0", "layer4.0", "layer4.1")
CLASSES = 10


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    samples, size, width, repeats, layers = 192, 32, 32, 3, LAYERS
    if options.quick:
        samples, size, width, repeats, layers = 16, 8, 4, 1, LAYERS[1:3]
    report = Report("Epochs of fine-tuning with a cached trunk", "python -m benchmarks.speed.tuning")
    report.say(
        f"CPU seconds of an epoch over {samples} images of 3 x {size} x {size} in batches of 64, CIFAR ResNet18 (width "
        f"{width}), {CLASSES} classes, SGD. A linear probe runs the whole network forward; a cached one reads its "
        "features from disk and is a matrix product. The caches are memory-mapped, float32, in the page cache of the "
        f"system. Medians of {repeats} rounds that take turns; ratios are medians of theirs. Bar: SCL with a cached "
        f"trunk takes at most {BAR} linear-probe epochs."
    )
    draws = generator(0)
    images = torch.randn(samples, 3, size, size, generator=draws)
    data = ArrayDataset(images, torch.randint(CLASSES, (samples,), generator=draws))
    torch.manual_seed(0)
    network = resnet18(3, CLASSES, width=width)
    with tempfile.TemporaryDirectory() as folder:
        rows = _epochs(network, data, Path(folder), layers, repeats=repeats)
    columns = ["layer", "method", "trained", "epoch (s)", "with cache (s)", "speed-up", "/ probe", "/ cached probe"]
    report.table([*columns, "bar met", "cache (MB)", "to make it (s)"], rows)
    report.finish("tuning", options)


def _epochs(
    network: nn.Module, data: ArrayDataset, folder: Path, layers: tuple[str, ...], *, repeats: int
) -> list[tuple[object, ...]]:
    work: dict[str, Work] = {}
    made: dict[str, tuple[TrunkFeatures, float]] = {}
    tunings: dict[str, Tuning] = {}
    for method, layer in [("linear", None), *((method, layer) for layer in layers for method in ("layer", "scl"))]:
        name = f"{method} {layer}"
        tuned = tune(_copy(network), method, layer=layer, classes=CLASSES)
        place = layer or tuned.head_path
        if place not in made:
            seconds = cpu_seconds(lambda m=tuned.model, p=place: cached_trunk(m, p, data, folder / p, batch_size=64))
            made[place] = cached_trunk(tuned.model, place, data, folder / place), seconds
        cache, tunings[name] = made[place][0], tuned
        work[name] = _epoch(tuned, tuned, data)
        work[f"{name} cached"] = _epoch(cache.resumed(tuned), tuned, cache)
    times = paired(work, repeats=repeats)
    probe, cached_probe = times["linear None"], times["linear None cached"]
    rows = []
    for name, tuned in tunings.items():
        whole, cached = times[name], times[f"{name} cached"]
        cache, seconds = made[tuned.layer or tuned.head_path]
        beside = ratio(cached, probe)
        met = "" if tuned.method != "scl" else "yes" if beside <= BAR else "NO"
        where = (tuned.layer or tuned.head_path, tuned.method, f"{tuned.describe().share:.2%}")
        spent = (median(whole), median(cached), ratio(whole, cached), beside, ratio(cached, cached_probe))
        rows.append((*where, *spent, met, cache.nbytes / 2**20, seconds))
    return rows


def _copy(network: nn.Module) -> nn.Module:
    made = resnet18(3, CLASSES, width=network.conv1.out_channels)
    made.load_state_dict(network.state_dict())
    return made


def _epoch(module: nn.Module, tuned: Tuning, data: Dataset) -> Callable[[], None]:
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)

    def epoch() -> None:
        module.train()
        for batch in epoch_batches(len(data), 64, seed=0, epoch=0):
            x, y = data.gather(batch)
            optimizer.zero_grad()
            cross_entropy(module(x), y).backward()
            optimizer.step()

    return epoch


if __name__ == "__main__":
    main()
