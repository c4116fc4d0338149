"""N9: rate reduction spreads a class over d/K dimensions, in subspaces at right angles; cross-entropy collapses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from math import fsum

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.levers.rate_training import NAMES, Cell, Recipe, Row, White, construct, train
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "Q21, comparisons to MCR2"
_WHITE = "Chan et al. 2022, named by Q21 as the constructed counterpart"
# How far from d/K the effective rank of a class may lie, relatively: d/K is no integer, and subspaces are not filled
# quite evenly. How far the dimensions of all classes may lie from d, relatively. How large the mean squared cosine of
# principal angles may be: that of random subspaces is 1/K. How far the rank of collapsed classes may lie from 1.
_RANK, _FILL, _COSINE, _COLLAPSED = 0.05, 0.02, 0.01, 0.5


@dataclass(frozen=True)
class Config:
    """What is trained.

    Args:
        recipe: The network and its training, the same for both losses.
        features: Dimensions d, above the number of classes.
        eps2: Squared precisions epsilon^2 of rate reduction.
        seeds: Of weights and batches.
        layers: Layers of the ReduNets beside; none is constructed with 0.
        channels: Random convolutions of the shift-invariant ones; none with 0.
    """

    recipe: Recipe = field(default_factory=Recipe)
    features: tuple[int, ...] = (64,)
    eps2: tuple[float, ...] = (0.5,)
    seeds: tuple[int, ...] = (0,)
    layers: int = 20
    channels: int = 8

    def __post_init__(self) -> None:
        if not (self.features and self.eps2 and self.seeds) or min(self.features) < 2:
            raise InputError(
                "a dimension of at least 2, a precision and a seed",
                got=f"features={self.features}, eps2={self.eps2}, seeds={self.seeds}",
                remedy="Give at least one of each.",
            )


_CIFAR = Recipe(
    data="cifar10",
    model="resnet18",
    width=64,
    epochs=500,
    batch=1000,
    optimizer="sgd",
    lr=0.01,
    milestones=(200, 400),
    watched=50,
)
# Larger dimensions need longer to fill, and smaller steps at the end.
_LONG = Recipe(epochs=300, milestones=(250,), watched=30)
PRESETS = {
    "smoke": Config(),
    "quick": Config(recipe=_LONG, features=(64, 128), eps2=(0.5, 0.1), seeds=(0, 1), layers=50, channels=16),
    "paper": Config(recipe=_CIFAR, features=(128,), seeds=(0, 1, 2), layers=0, channels=0),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Train by both losses, measure the subspaces of the classes, and construct ReduNets beside."""
    trained = sweep(train, _cells(config))
    white = [row for rows in sweep(construct, _white(config)) for row in rows]
    runs = [one.row for one in trained]
    drawn = trained[:2]  # one network of each loss
    tables = {
        "networks": table_of(runs),
        "rates": table_of([row for one in trained if one.row["seed"] == config.seeds[0] for row in one.rates]),
        "spectra": table_of([row for one in drawn for row in one.spectra]),
        "cosines": table_of([row for one in drawn for row in one.cosines]),
    }
    panels = _panels(config)
    if white:
        tables["constructed"] = table_of(white)
        panels = (*panels, _white_panel())
    claims = (*_claims(runs, config), *_white_claims(white))
    return Findings(claims, _answer(runs), tables, panels)


def _cells(config: Config) -> list[Cell]:
    """The first two are of the first dimension, precision and seed, one by each loss."""
    cells = []
    for d, seed in product(config.features, config.seeds):
        cells.append(Cell(config.recipe, "ce", d, config.eps2[0], seed))
        cells += [Cell(config.recipe, "mcr2", d, eps2, seed) for eps2 in config.eps2]
    return cells


def _white(config: Config) -> list[White]:
    if not config.layers:
        return []
    kinds = (0, config.channels) if config.channels else (0,)
    return [White(config.recipe.data, config.recipe.limit, config.layers, channels) for channels in kinds]


def _claims(runs: Sequence[Row], config: Config) -> list[Claim]:
    claims = []
    for d in config.features:
        collapsed = _some(runs, "ce", d)
        for eps2 in config.eps2:
            spread = [row for row in _some(runs, "mcr2", d) if row["eps2"] == eps2]
            claims += _spread_claims(f"d{d}.eps{eps2:g}", spread, collapsed)
        claims.append(
            Claim(
                id=f"N9.collapse.d{d}",
                statement=f"Cross-entropy collapses: effective rank of a class, d = {d}",
                source=_SOURCE,
                expected=1.0,
                observed=_mean(collapsed, "rank of a class"),
                tolerance=_COLLAPSED,
                note=f"exp of the entropy of squared singular values, mean over classes, {_seeds(collapsed)}",
            )
        )
    return claims


def _spread_claims(name: str, spread: Sequence[Row], collapsed: Sequence[Row]) -> list[Claim]:
    size, where = spread[0]["d/K"], name.replace(".eps", ", eps^2 = ").replace("d", "d = ", 1)
    seeds = _seeds(spread)
    return [
        Claim(
            id=f"N9.rank.{name}",
            statement=f"Rate reduction spreads a class over d/K dimensions: effective rank, {where}",
            source=_SOURCE,
            expected=size,
            observed=_mean(spread, "rank of a class"),
            relation="==",
            tolerance=_RANK * size,
            note=f"exp of the entropy of squared singular values, mean over classes and {seeds}",
        ),
        Claim(
            id=f"N9.orthogonal.{name}",
            statement=f"Subspaces of classes are orthogonal: mean squared cosine of principal angles, {where}",
            source=_SOURCE,
            expected=0.0,
            observed=_mean(spread, "mean squared cosine"),
            tolerance=_COSINE,
            note=f"all pairs of classes and {seeds}; the smallest angle is "
            f"{min(row['smallest angle'] for row in spread):.1f} degrees, after cross-entropy "
            f"{min(row['smallest angle'] for row in collapsed):.1f}",
        ),
        Claim(
            id=f"N9.fill.{name}",
            statement=f"The subspaces fill the space together: sum of their dimensions, {where}",
            source=_SOURCE,
            expected=float(spread[0]["d"]),
            observed=_mean(spread, "dimensions in all"),
            relation="==",
            tolerance=_FILL * spread[0]["d"],
            note=f"a class holds 95 % of its energy in {min(row['smallest dimension'] for row in spread)} to "
            f"{max(row['largest dimension'] for row in spread)} dimensions, d/K = {size:g}",
        ),
        Claim(
            id=f"N9.optimum.{name}",
            statement=f"Rate reduction of the training features over its maximum Delta R*, {where}",
            source="Yu et al. 2020, theorem 2.1",
            expected=1.0,
            observed=min(row["share of optimum"] for row in spread),
            relation=">=",
            tolerance=0.01,
            note=f"least over {seeds}; Delta R* = {spread[0]['optimum']:.2f}",
        ),
        Claim(
            id=f"N9.accuracy.{name}",
            statement=f"Spread classes are told apart as well: nearest-subspace accuracy on the test set, {where}",
            source=_SOURCE,
            expected=_mean(collapsed, "classifier accuracy"),
            observed=_mean(spread, "nearest subspace accuracy"),
            relation=">=",
            tolerance=0.01,
            note=f"mean over {seeds}, beside the classifier trained by cross-entropy",
        ),
    ]


def _white_claims(rows: Sequence[Row]) -> list[Claim]:
    claims = []
    for network in dict.fromkeys(row["network"] for row in rows):
        deltas = [row["nats"] for row in rows if (row["network"], row["rate"]) == (network, "rate reduction")]
        claims.append(
            Claim(
                id=f"N9.redunet.{network}",
                statement=f"Every layer of a ReduNet raises the rate reduction: layers that lower it, {network}",
                source=_WHITE,
                expected=0.0,
                observed=float(sum(after < before for before, after in pairwise(deltas))),
                note=f"from {deltas[0]:.3g} to {deltas[-1]:.3g} over {len(deltas) - 1} layers, training set",
            )
        )
    shifted = [row for row in rows if row["network"] == "shift-invariant"][:1]
    if shifted:
        claims.append(
            Claim(
                id="N9.redunet.shifts",
                statement="Labels of the shift-invariant ReduNet that a circular shift of the image changes: share",
                source=_WHITE,
                expected=0.0,
                observed=shifted[0]["labels that a shift changes"],
                note=f"test accuracy {shifted[0]['accuracy']:.3f} before and after",
            )
        )
    return claims


def _answer(runs: Sequence[Row]) -> str:
    first = next(row for row in runs if row["loss"] == NAMES["mcr2"])
    beside = _some(runs, "ce", first["d"])
    return (
        f"With d = {first['d']}, rate reduction gives classes of effective rank {first['rank of a class']:.2f} "
        f"(d/K = {first['d/K']:.1f}) whose subspaces meet at {first['smallest angle']:.1f} degrees or more, and "
        f"{first['share of optimum']:.1%} of the largest possible rate reduction; cross-entropy gives rank "
        f"{_mean(beside, 'rank of a class'):.2f}. Nearest-subspace accuracy on test data "
        f"{first['nearest subspace accuracy']:.3f}, the cross-entropy classifier's "
        f"{_mean(beside, 'classifier accuracy'):.3f}."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    where = f"d = {config.features[0]}, eps^2 = {config.eps2[0]:g}, training set"
    return (
        Panel(
            kind="curves",
            title="Singular values of every class",
            caption=f"Divided by the root of the class size; {where}. Dashes: d/K equal values, as at the maximum of "
            "rate reduction. Collapse is one value and nothing after it.",
            table="spectra",
            x="place",
            y="value",
            color="class",
            facet="loss",
            reference="equal values",
        ),
        Panel(
            kind="matrix",
            title="Samples sorted by class",
            caption=f"Cosines between the first samples of every class; {where}. An even block on the diagonal is a "
            "class in one direction, a mixed one a class in a subspace; nothing elsewhere is right angles.",
            table="cosines",
            x="sample",
            y="other sample",
            value="cosine",
            facet="loss",
        ),
        Panel(
            kind="curves",
            title="Rate reduction over training",
            caption=f"All training features, eps^2 = {config.eps2[0]:g}, first seed. Dashes: the largest value there "
            "is for the dimension.",
            table="rates",
            x="epoch",
            y="rate reduction",
            color="loss",
            facet="d",
            reference="optimum",
            where={"eps2": config.eps2[0]},
        ),
    )


def _white_panel() -> Panel:
    return Panel(
        kind="curves",
        title="Rates over the layers of a ReduNet",
        caption="Constructed from the training set without back propagation; training samples, and with the "
        "shift-invariant network all shifts of their channels.",
        table="constructed",
        x="layer",
        y="nats",
        color="rate",
        facet="network",
    )


def _some(runs: Sequence[Row], loss: str, d: int) -> list[Row]:
    return [row for row in runs if row["loss"] == NAMES[loss] and row["d"] == d]


def _seeds(rows: Sequence[Row]) -> str:
    return f"{len(rows)} seeds" if len(rows) > 1 else "one seed"


def _mean(rows: Sequence[Row], column: str) -> float:
    return fsum(row[column] for row in rows) / len(rows)


EXPERIMENT = Study(entry("rate-reduction"), PRESETS, investigate)
