"""Networks trained by cross-entropy or rate reduction, or constructed by it, and the subspaces of their features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tightframe.core.rng import generator, preserved_rng
from tightframe.data.labelled.source import ImageData, load
from tightframe.geometry.subspaces import class_subspaces, entropy_rank, principal_angles, subspace_distances
from tightframe.nn.networks import build
from tightframe.nn.rate.coding import rate_reduction
from tightframe.nn.rate.nearest_subspace import NearestSubspaceClassifier
from tightframe.nn.rate.rate_optimum import maximal_rate_reduction
from tightframe.nn.rate.rate_reduction import MCR2Loss
from tightframe.nn.rate.redunet import ReduNet
from tightframe.nn.rate.redunet_shift import ShiftInvariantReduNet
from tightframe.runs.record import Cell as Value

Row = dict[str, Value]
NAMES = {"ce": "cross-entropy", "mcr2": "MCR2"}
# Of each class this many samples are shown, and this many times d/K singular values.
_SHOWN, _VALUES = 6, 4
# The subspace of a class holds this share of its energy, for which up to 19 even directions are all needed, while the
# noise of the other directions stays below the rest.
_ENERGY = 0.95


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the same for both losses.

    Args:
        data: Data set, as `tightframe.data.labelled.source.load` names it.
        limit: Training samples, or None for all.
        model: "mlp" or a ResNet, without its classifier: its outputs are the features.
        width: Of the network.
        depth: Hidden layers of an MLP.
        epochs: Number of them.
        batch: Samples of a step.
        optimizer: "adam", or "sgd" with momentum 0.9 and weight decay 5e-4.
        lr: Step size, divided by ten at the `milestones`.
        milestones: Epochs.
        scale: Factor of the unit features before the classifier of cross-entropy.
        watched: Epochs at which the rates are recorded, evenly spread.
    """

    data: str = "digits"
    limit: int | None = None
    model: str = "mlp"
    width: int | None = 512
    depth: int = 2
    epochs: int = 150
    batch: int = 500
    optimizer: str = "adam"
    lr: float = 1e-3
    milestones: tuple[int, ...] = ()
    scale: float = 10.0
    watched: int = 15


@dataclass(frozen=True)
class Cell:
    """One network to train: by "ce" or "mcr2", with features of dimension d, rates at precision eps2."""

    recipe: Recipe
    loss: str
    features: int
    eps2: float
    seed: int


@dataclass(frozen=True)
class Trained:
    """What a trained network leaves: a row of measures, and rows for the pictures."""

    row: Row
    rates: list[Row]
    spectra: list[Row]
    cosines: list[Row]


@dataclass(frozen=True, eq=False)
class _Set:
    """Images and labels of a training or test set on the device of the run."""

    images: Tensor
    labels: Tensor


def train(cell: Cell) -> Trained:
    """Train a network, watch the rate reduction of its training features, and measure their subspaces."""
    data, device = load(cell.recipe.data, limit=cell.recipe.limit), _device()
    classes, recipe = len(data.classes), cell.recipe
    fit, held_out = (_Set(some.images.to(device), some.labels.to(device)) for some in (data.train, data.test))
    with preserved_rng([device]):
        torch.manual_seed(cell.seed)
        model = build(recipe.model, shape=data.shape, classes=cell.features, width=recipe.width, depth=recipe.depth)
        head = nn.Linear(cell.features, classes)
    model, head = model.to(device), head.to(device)
    criterion = MCR2Loss(eps2=cell.eps2) if cell.loss == "mcr2" else partial(_cross_entropy, head, recipe.scale)
    optimizer = _optimizer(recipe, [*model.parameters(), *(head.parameters() if cell.loss == "ce" else [])])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.milestones))
    counts = torch.bincount(fit.labels, minlength=classes).tolist()
    draw, bound = generator(cell.seed), maximal_rate_reduction(cell.features, classes, eps2=cell.eps2, counts=counts)
    every, rates = max(1, recipe.epochs // recipe.watched), []
    for epoch in range(recipe.epochs + 1):
        if epoch % every == 0 or epoch == recipe.epochs:
            rates.append(_rates(cell, epoch, _features(model, fit.images), fit.labels) | {"optimum": bound})
        if epoch < recipe.epochs:
            for batch in torch.randperm(len(fit.labels), generator=draw).split(recipe.batch):
                chosen = batch.to(device)
                optimizer.zero_grad()
                criterion(functional.normalize(model(fit.images[chosen])), fit.labels[chosen]).backward()
                optimizer.step()
            schedule.step()
    features, test = (_features(model, some.images) for some in (fit, held_out))
    row = _measures(features, fit.labels, test, held_out.labels) | {
        "rate reduction": rates[-1]["rate reduction"],
        "optimum": bound,
        "share of optimum": rates[-1]["rate reduction"] / bound,
    }
    if cell.loss == "ce":
        row["classifier accuracy"] = _share(head(recipe.scale * test).argmax(1), held_out.labels)
    spectra, cosines = _spectra(cell, features, fit.labels), _cosines(cell, features, fit.labels)
    return Trained(_named(cell) | row, rates, spectra, cosines)


@dataclass(frozen=True)
class White:
    """A ReduNet to construct: of vectors, or of images with `channels` random convolutions."""

    data: str
    limit: int | None
    layers: int
    channels: int = 0


def construct(cell: White) -> list[Row]:
    """Rates over the layers of a ReduNet, its accuracy, and how many labels change when test images are shifted."""
    data = load(cell.data, limit=cell.limit)
    fit, test = (_intensities(data, some.images) for some in (data.train, data.test))
    moved = torch.roll(test, (1, 2), dims=(2, 3))
    known, truth = data.train.labels.numpy(), data.test.labels.numpy()
    of_pixels = NearestSubspaceClassifier().fit(fit.flatten(1), known).predict(test.flatten(1))
    if cell.channels:
        model, name = ShiftInvariantReduNet(cell.layers, channels=cell.channels), "shift-invariant"
    else:
        model, name = ReduNet(cell.layers), "vectors"
        fit, test, moved = (some.flatten(1) for some in (fit, test, moved))
    model.fit(fit, known)
    before, after = (model.predict(some) for some in (test, moved))
    shares = {
        "accuracy": float((before == truth).mean()),
        "accuracy, shifted": float((after == truth).mean()),
        "labels that a shift changes": float((before != after).mean()),
        "accuracy of the nearest subspace of pixels": float((of_pixels == truth).mean()),
    }
    # Rates per position become those of all shifts.
    positions = test[0, 0].numel() if cell.channels else 1
    kinds = ("R, all features", "R_c, class by class", "rate reduction")
    return [
        {"network": name, "layer": layer, "rate": kind, "nats": float(value) * positions} | shares
        for layer, values in enumerate(model.rates_)
        for kind, value in zip(kinds, values, strict=True)
    ]


def _intensities(data: ImageData, images: Tensor) -> Tensor:
    """Images before they were standardised, 0 where nothing is; float64."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (data.mean, data.std))
    return images.double() * std + mean


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _cross_entropy(head: nn.Module, scale: float, features: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(head(scale * features), labels)


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr)
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, weight_decay=5e-4)


@torch.no_grad()
def _features(model: nn.Module, images: Tensor) -> Tensor:
    """Unit features of all images, with batch normalisation as in use."""
    model.eval()
    features = torch.cat([model(batch) for batch in images.split(1000)])
    model.train()
    return functional.normalize(features)


def _rates(cell: Cell, epoch: int, features: Tensor, labels: Tensor) -> Row:
    rates = rate_reduction(features, labels, eps2=cell.eps2, dtype=torch.float64)
    return _named(cell) | {"epoch": epoch, "rate reduction": float(rates.delta)}


@torch.no_grad()
def _measures(features: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> Row:
    classes = int(labels.max()) + 1
    spaces = class_subspaces(features, labels, energy=_ENERGY)
    angles = [principal_angles(a.basis, b.basis) for a, b in combinations(spaces, 2)]
    means = torch.stack([features[labels == k].mean(0) for k in range(classes)])
    return {
        "d/K": features.shape[1] / classes,
        "rank of a class": math.fsum(entropy_rank(features[labels == k]) for k in range(classes)) / classes,
        "smallest dimension": min(space.rank for space in spaces),
        "largest dimension": max(space.rank for space in spaces),
        "dimensions in all": sum(space.rank for space in spaces),
        "smallest angle": math.degrees(min(float(some[0]) for some in angles)),
        "mean squared cosine": float(torch.cat(angles).cos().square().mean()),
        "nearest subspace accuracy": _share(subspace_distances(test, spaces).argmin(1), truth),
        "nearest mean accuracy": _share(torch.cdist(test, means).argmin(1), truth),
    }


def _spectra(cell: Cell, features: Tensor, labels: Tensor) -> list[Row]:
    """Singular values of every class over the root of its size, and what d/K equal ones would be."""
    classes = int(labels.max()) + 1
    size = features.shape[1] / classes
    rows = []
    for k, space in enumerate(class_subspaces(features, labels, rank=1)):
        values = (space.singular_values / space.samples**0.5)[: math.ceil(_VALUES * size)].tolist()
        for place, value in enumerate(values, start=1):
            predicted = size**-0.5 if place <= round(size) else 0.0
            rows.append(_named(cell) | {"class": str(k), "place": place, "value": value, "equal values": predicted})
    return rows


def _cosines(cell: Cell, features: Tensor, labels: Tensor) -> list[Row]:
    """Cosines between the first samples of every class, sorted by class."""
    classes = int(labels.max()) + 1
    some = torch.cat([features[labels == k][:_SHOWN] for k in range(classes)])
    square = (some @ some.T).tolist()
    return [
        _named(cell) | {"sample": i, "other sample": j, "cosine": value}
        for i, line in enumerate(square)
        for j, value in enumerate(line)
    ]


def _named(cell: Cell) -> Row:
    return {"loss": NAMES[cell.loss], "d": cell.features, "eps2": cell.eps2, "seed": cell.seed}


def _share(found: Tensor, truth: Tensor) -> float:
    return float((found == truth).double().mean())
