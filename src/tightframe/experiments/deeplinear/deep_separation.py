"""P3 and P4: by how much classes separate from layer to layer, and what scale and kind of the start change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tightframe.core.errors import InputError
from tightframe.deeplinear.network import Init
from tightframe.experiments.catalog import entry
from tightframe.experiments.deeplinear.separation_panels import pictures
from tightframe.experiments.deeplinear.separation_runs import FITTED, Chain, Kind, Row, separate
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Cell, Claim, Relation, table_of

_LECTURE = "L6, progressive separation; theorem of Wang et al. 2023"
_DYNAMICS = "L6, scale and kind of initialisation, linear and ReLU networks"
_BEYOND = "beyond the sources: the law eps^2 n^(-1/L) of docs/deep_linear.md"
# R^2 from which log D counts as a straight line, and the factor within which other starts separate alike.
_STRAIGHT, _ALIKE = 0.9, 2.0
# Of the power of epsilon by which a layer separates, fitted over scales at which terms of order epsilon^2 matter.
_POWER, _POWER_SLACK = 2.0, 0.1


@dataclass(frozen=True)
class Config:
    """What is trained.

    Args:
        classes: K.
        per_class: n; inputs are K n orthonormal vectors.
        linear: (L, scales, steps) of the linear networks with orthogonal starts; the first also serves other starts
            and ReLU.
        inits: The other starts.
        relu: Starts of the ReLU networks.
        relu_steps: Steps of these.
        step: As a share of 2 / ||Hessian|| at the minimum. Layers are balanced up to terms of this order.
        seed: Of inputs and starts.
    """

    classes: int = 3
    per_class: int = 8
    linear: tuple[tuple[int, tuple[float, ...], int], ...] = ((4, (0.5, 0.25, 0.125), 4000), (3, (0.1,), 3000))
    inits: tuple[Init, ...] = ("normal", "uniform")
    relu: tuple[Init, ...] = ("orthogonal", "normal", "uniform")
    relu_steps: int = 6000
    step: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.linear or min(depth for depth, _, _ in self.linear) < 3 or self.per_class < 2:
            raise InputError(
                "networks of at least 3 layers, and at least 2 samples in every class",
                got=f"{self.linear} and {self.per_class} samples",
                remedy="A line needs three layers, and variability two samples.",
            )


_PUBLISHED = {"classes": 5, "per_class": 10}
PRESETS = {
    "smoke": Config(),
    "quick": Config(
        **_PUBLISHED,
        linear=((4, (0.5, 0.25, 0.125), 6000), (3, (0.2, 0.1, 0.05), 6000), (8, (0.5,), 6000)),
        relu_steps=10_000,
    ),
    "paper": Config(
        **_PUBLISHED,
        linear=(
            (4, (0.5, 0.35, 0.25, 0.18, 0.125), 20_000),
            (3, (0.2, 0.1, 0.05), 10_000),
            (6, (0.5, 0.35), 40_000),
            (8, (0.5,), 20_000),
            (10, (0.5,), 60_000),
        ),
        relu_steps=60_000,
        step=0.05,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Linear networks of every depth and scale, then other starts, then ReLU."""
    found = sweep(separate, _chains(config))
    rows = [row for row, _, _ in found]
    ratios = [
        {"L": row["L"], "eps": row["eps"], "D_{l+1}/D_l": row[column], "of": name}
        for row in rows
        if row["network"] == "linear, orthogonal"
        for name, column in (
            ("measured, largest", "largest ratio"),
            ("measured, smallest", "smallest ratio"),
            ("law eps^2 n^(-1/L)", "law"),
            ("bound of the lecture", "lecture"),
        )
    ]
    tables = {
        "networks": table_of(rows),
        "ratios": table_of(ratios),
        "layers": table_of([line for _, layers, _ in found for line in layers]),
        "training": table_of([line for _, _, course in found for line in course]),
    }
    exact = [row for row in rows if row["network"] == "linear, orthogonal"]
    claims = [*_bounds(exact), *_trade(rows, config), *_starts(rows, config), *_nonlinear(rows)]
    return Findings(tuple(claims), _answer(exact), tables, pictures(config.linear[0][0]))


def _chains(config: Config) -> list[Chain]:
    first = config.linear[0]
    planned: list[tuple[Kind, Init, int, float, int]] = [
        ("linear", "orthogonal", depth, scale, steps) for depth, scales, steps in config.linear for scale in scales
    ]
    planned += [("linear", init, first[0], scale, first[2]) for init in config.inits for scale in first[1]]
    planned += [("ReLU", init, first[0], scale, config.relu_steps) for init in config.relu for scale in first[1]]
    return [
        Chain(kind, init, config.classes, config.per_class, depth, scale, config.step, steps, config.seed)
        for kind, init, depth, scale, steps in planned
    ]


def _bounds(rows: Sequence[Row]) -> list[Claim]:
    """P3, network by network: the bound, the law, and what both assume."""
    claims = []
    for row in rows:
        where = f"L={row['L']},eps={row['eps']:g}"
        measured = f"ratios from {row['smallest ratio']:.4g} to {row['largest ratio']:.4g}; loss {row['loss']:.0e}"
        empty = "; at least 1, so that it says nothing" if row["lecture"] >= 1 else ""
        outside = max(row["largest ratio"] / row["law"] - 1, 1 - row["smallest ratio"] / row["floor"])
        claims += [
            _claim(
                f"P3.bound.{where}",
                f"D_(l+1)/D_l <= 2 (sqrt K + 1) eps^2: the largest ratio, {where}",
                (row["lecture"], _of_fitted(row, row["largest ratio"])),
                measured + empty,
            ),
            _claim(
                f"P3.law.{where}",
                "The ratios lie between (d - 2K)/(d - K) eps^2 n^(-1/L) and eps^2 n^(-1/L) up to terms of order eps^2: "
                f"relative distance from there, {where}",
                (row["eps"] ** 2, _of_fitted(row, max(0.0, outside))),
                f"{measured}; between {row['floor']:.4g} and {row['law']:.4g}",
                source=_BEYOND,
            ),
            _claim(
                f"P3.assumptions.{where}",
                f"Zero loss, whitened inputs, balanced layers, d - 2K singular values at eps: violated, {where}",
                (0, row["violations"]),
                f"violated: {row['violated']}; {row['singular values at eps']} of {row['d - 2K']} singular values",
            ),
        ]
    return claims


def _trade(rows: Sequence[Row], config: Config) -> list[Claim]:
    """P4: a smaller start separates more per layer, and takes longer."""
    claims = []
    for kind in ("linear", "ReLU"):
        mine = _of(rows, f"{kind}, orthogonal", config.linear[0][0])
        fitted = [row for row in mine if row["fitted after"] is not None and row["per layer"] is not None]
        enough = len(fitted) == len(mine) and len(mine) > 1
        series = {name: [row[name] for row in fitted] for name in ("fitted after", "per layer", "eps")}
        listed = {name: ", ".join(f"{value:.3g}" for value in values) for name, values in series.items()}
        note = f"eps {listed['eps']}: {{}}" if enough else "needs two scales at which the data are fitted"
        power = _slope(series["eps"], series["per layer"]) if enough else None
        claims += [
            _claim(
                f"P4.speed.{kind}",
                f"A smaller start trains more slowly: neighbouring scales for which it does not, {kind}",
                (0, sum(b <= a for a, b in pairwise(series["fitted after"])) if enough else None),
                note.format(f"{FITTED:.0%} of the loss after {listed['fitted after']} steps"),
                source=_DYNAMICS,
            ),
            _claim(
                f"P4.decay.{kind}",
                f"A smaller start separates more per layer: neighbouring scales for which it does not, {kind}",
                (0, sum(b >= a for a, b in pairwise(series["per layer"])) if enough else None),
                note.format(f"a factor {listed['per layer']} per layer"),
                source=_DYNAMICS,
            ),
            Claim(
                id=f"P4.power.{kind}",
                statement=f"The factor per layer falls with the square of eps: its power of eps, {kind}",
                source=_BEYOND,
                expected=_POWER,
                observed=power,
                relation="==",
                tolerance=_POWER_SLACK,
                note=note.format(f"a factor {listed['per layer']} per layer"),
            ),
        ]
    return claims


def _starts(rows: Sequence[Row], config: Config) -> list[Claim]:
    """P4: other starts of the same size separate alike."""
    depth, claims = config.linear[0][0], []
    orthogonal = {row["eps"]: row for row in _of(rows, "linear, orthogonal", depth)}
    for init in config.inits:
        mine = _of(rows, f"linear, {init}", depth)
        usable = [row for row in mine if row["per layer"] is not None and row["loss left"] <= FITTED]
        enough = len(usable) == len(mine)
        factors = [row["per layer"] / orthogonal[row["eps"]]["per layer"] for row in usable]
        note = f"L = {depth}, {len(mine)} scales" if enough else "needs data that are fitted at every scale"
        claims += [
            _claim(
                f"P4.{init}.factor",
                f"A {init} start separates as an orthogonal one: factor between them per layer, at least 1",
                (_ALIKE, max(max(factor, 1 / factor) for factor in factors) if enough else None),
                f"{note}; {', '.join(f'{factor:.2f}' for factor in factors)}",
                source=_DYNAMICS,
            ),
            _claim(
                f"P4.{init}.line",
                f"log D falls about linearly from a {init} start: least R^2",
                (_STRAIGHT, min(row["R^2"] for row in usable) if enough else None),
                note,
                source=_DYNAMICS,
                relation=">=",
            ),
        ]
    return claims


def _nonlinear(rows: Sequence[Row]) -> list[Claim]:
    """P4: ReLU networks, each start at each scale."""
    claims = []
    for row in rows:
        if not row["network"].startswith("ReLU"):
            continue
        where = f"{row['network'].removeprefix('ReLU, ')},eps={row['eps']:g}"
        factor = "none" if row["per layer"] is None else f"{row['per layer']:.3g}"
        note = f"a factor {factor} per layer, linear networks {row['law']:.3g}; {row['loss left']:.1e} of the loss left"
        claims.append(
            _claim(
                f"P4.relu.{where}",
                f"log D of a ReLU network falls about linearly: R^2, 0 where it does not fall, {where}",
                (_STRAIGHT, _of_fitted(row, row["R^2"])),
                note,
                source=_DYNAMICS,
                relation=">=",
            )
        )
    return claims


def _claim(
    name: str,
    statement: str,
    judged: tuple[float, float | None],
    note: str,
    *,
    source: str = _LECTURE,
    relation: Relation = "<=",
) -> Claim:
    """`judged` is what is expected, and what was observed."""
    expected, observed = judged
    return Claim(
        id=name, statement=statement, source=source, expected=expected, observed=observed, relation=relation, note=note
    )


def _of(rows: Sequence[Row], network: str, depth: int) -> list[Row]:
    """The networks of this kind and depth, from the largest start to the smallest."""
    mine = [row for row in rows if row["network"] == network and row["L"] == depth]
    return sorted(mine, key=lambda row: -row["eps"])


def _of_fitted(row: Row, value: Cell) -> Cell:
    return value if row["loss left"] <= FITTED else None


def _slope(scales: Sequence[float], factors: Sequence[float]) -> float:
    """Of the least-squares line of log factor over log scale."""
    x, y = [math.log(value) for value in scales], [math.log(value) for value in factors]
    mean = sum(x) / len(x)
    return sum((a - mean) * b for a, b in zip(x, y, strict=True)) / sum((a - mean) ** 2 for a in x)


def _answer(rows: Sequence[Row]) -> str:
    kept = [row for row in rows if row["loss left"] <= FITTED]
    if not kept:
        return "No network fitted its data."
    slack = [row["lecture"] / row["largest ratio"] for row in kept]
    empty = sum(row["lecture"] >= 1 for row in kept)
    below = [1 - row["largest ratio"] / row["law"] for row in kept]
    return (
        f"In {len(kept)} linear networks D falls from layer to layer by eps^2 n^(-1/L), of which the largest ratio is "
        f"between {min(below):.1%} and {max(below):.1%} short; the bound of the lecture is {min(slack):.0f} to "
        f"{max(slack):.0f} times that, and is 1 or more for {empty} of them."
    )


EXPERIMENT = Study(entry("deep-separation"), PRESETS, investigate)
