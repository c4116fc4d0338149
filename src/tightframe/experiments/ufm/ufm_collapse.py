"""N1: every loss against every bias, from d = K - 1 dimensions on; and what is found in fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.experiments.ufm.regimes import Row, agreement, solve_crowd, solve_regime, worst
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "Q21 and L4, global optimality; theorem 3.1 of Zhu et al. 2021 and of Zhou et al. 2022"
_SQUARED = "TB, theorems 3.1 and 3.2, and the regularised bias between them"
_BEYOND = "beyond the sources, which need d >= K - 1"
# What the ledger asks of objectives and of metrics.
_EXACT, _COLLAPSED = 1e-9, 1e-6


@dataclass(frozen=True)
class Config:
    """What is solved.

    Args:
        losses: By name.
        biases: "none", "free" or a coefficient.
        sizes: (K, d, n) with d from K - 1 upward.
        strengths: Values of K sqrt(n lambda_W lambda_H); zero is optimal from about 1 on.
        crowded: Numbers of classes that are placed in d = 2, ..., K dimensions.
        crowded_losses: Losses of these; squared error has a closed form there.
        crowded_biases: Biases of these.
        crowded_strength: Strength of these.
        starts: Random starts of each of these, of which the lowest counts.
    """

    losses: tuple[str, ...] = ("ce", "ls", "focal", "mse")
    biases: tuple[str | float, ...] = ("none", "free", 0.05)
    sizes: tuple[tuple[int, int, int], ...] = (
        (4, 20, 50),
        (4, 3, 50),
        (10, 9, 10),
        (10, 16, 10),
        (32, 31, 4),
        (32, 64, 4),
    )
    strengths: tuple[float, ...] = (0.02, 0.2)
    crowded: tuple[int, ...] = (6, 10)
    crowded_losses: tuple[str, ...] = ("ce", "ls", "focal")
    crowded_biases: tuple[str, ...] = ("none", "free")
    crowded_strength: float = 1e-2
    starts: int = 6


PRESETS = {
    "smoke": Config(sizes=((4, 6, 5), (4, 3, 5)), strengths=(0.05,), crowded=(6,), crowded_losses=("ce",), starts=2),
    "quick": Config(),
    "paper": Config(
        sizes=((4, 20, 50), (10, 9, 500), (10, 512, 500), (100, 99, 20), (100, 512, 20)),
        strengths=(0.005, 0.02, 0.2),
        crowded=(6, 8, 10, 14),
        starts=20,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every loss with every bias at every size, and then with fewer dimensions than the frame needs."""
    cells = list(product(config.losses, config.biases, config.sizes, config.strengths))
    solved = sweep(solve_regime, cells)
    places = [
        (loss, bias, classes, features, config.crowded_strength, config.starts)
        for loss, bias, classes in product(config.crowded_losses, config.crowded_biases, config.crowded)
        for features in range(2, classes + 1)
    ]
    crowded = sweep(solve_crowd, places)
    rows, few = ([found["row"] for found in results] for results in (solved, crowded))
    first = [found for cell, found in zip(cells, solved, strict=True) if cell[2:] == cells[0][2:]]
    tables = {
        "solutions": table_of(rows),
        "agreement": table_of(agreement(rows)),
        "frames": table_of([line for found in first for line in found["frames"]]),
        "logits": table_of([line for found in first for line in found["logits"]]),
        "few dimensions": table_of(few),
        "in the plane": table_of([line for found in crowded for line in found["plane"]]),
    }
    by_loss = {loss: [row for cell, row in zip(cells, rows, strict=True) if cell[0] == loss] for loss in config.losses}
    claims = [claim for loss, mine in by_loss.items() for claim in _grid_claims(loss, mine)] + _crowded_claims(few)
    return Findings(
        tuple(claims),
        _answer(rows, few),
        tables,
        (*_theory_panels(config.sizes[0][0]), *_crowded_panels(max(config.crowded))),
    )


def _grid_claims(loss: str, rows: Sequence[Row]) -> list[Claim]:
    """Of one loss, over all biases, sizes and strengths of which a closed form is known."""
    rows = [row for row in rows if row["predicted frame"] != "none known"]
    squared = loss == "mse"
    stated = {
        "objective": ("objective less its closed form", worst(rows, "objective error"), _EXACT),
        "gap": ("certified gap", worst(rows, "gap"), _EXACT),
        "frame": (
            "solutions of another frame than the closed form's",
            float(sum(row["found frame"] != row["predicted frame"] for row in rows)),
            0.0,
        ),
        "collapse": ("NC1, NC2 and NC3 of the frame, the largest", worst(rows, "worst metric"), _COLLAPSED),
        "bias": (
            "b less its closed form, the largest entry"
            if squared
            else "b = 0 (free: up to a constant), the largest |b|",
            worst(rows, "bias error" if squared else "bias norm"),
            _COLLAPSED,
        ),
    }
    sizes = ", ".join(map(str, sorted({(row["K"], row["d"]) for row in rows})))
    return [
        Claim(
            id=f"N1.{loss}.{key}",
            statement=f"{rows[0]['loss']}: {what}, whatever the bias",
            source=_SQUARED if squared else _SOURCE,
            expected=0.0,
            observed=observed,
            tolerance=tolerance,
            note=f"{len(rows)} models with a closed form, (K, d) = {sizes}",
        )
        for key, (what, observed, tolerance) in stated.items()
    ]


def _crowded_claims(rows: Sequence[Row]) -> list[Claim]:
    below, enough = ([row for row in rows if (row["d"] < row["K"] - 1) is few] for few in (True, False))
    directed = [row for row in below if row["largest cosine"] is not None]
    even = [row for row in directed if row["bias"] == "none"]
    over = [row | {"over": row["largest cosine"] - row["bound"]} for row in directed]
    plane = [row for row in over if row["d"] == 2 and row["bias"] == "none"]
    half = [row for row in over if 2 * row["d"] == row["K"]]
    petersen = [abs(row["largest cosine"] - 1 / 6) for row in even if (row["K"], row["d"]) == (10, 4)]
    stated = {
        "enough": ("certified gap from d = K - 1 on", worst(enough, "gap"), "<=", 0.0, _EXACT),
        "gap": (
            "least distance of the best point found from the convex bound where d < K - 1",
            min((row["gap"] for row in below), default=None),
            ">=",
            _COLLAPSED,
            0.0,
        ),
        "bound": (
            "largest cosine of classifiers less the least possible",
            min((row["over"] for row in over), default=None),
            ">=",
            0.0,
            _EXACT,
        ),
        "polygon": ("largest cosine less cos(2 pi/K), d = 2, no bias", worst(plane, "over"), "<=", 0.0, _COLLAPSED),
        "orthoplex": ("largest cosine, d = K/2", worst(half, "largest cosine"), "<=", 0.0, _COLLAPSED),
        "Petersen": (
            "largest cosine less 1/6, K = 10, d = 4, no bias: the best spherical code [bachoc2009optimality]",
            max(petersen, default=None),
            "<=",
            0.0,
            _COLLAPSED,
        ),
    }
    return [
        Claim(
            id=f"N1.below.{key}",
            statement=f"Fewer dimensions: {what}",
            source=_SOURCE if key == "enough" else _BEYOND,
            expected=expected,
            observed=observed,
            relation=relation,
            tolerance=tolerance,
            note=f"{len(rows)} models, the lowest of several starts of each"
            if observed is not None
            else "not among K, d",
        )
        for key, (what, observed, relation, expected, tolerance) in stated.items()
    ]


def _answer(rows: Sequence[Row], few: Sequence[Row]) -> str:
    known = [row for row in rows if row["objective error"] is not None]
    spurious = [row for row in few if row["share of starts"] < 1 and row["d"] < row["K"] - 1]
    crowded = sum(row["d"] < row["K"] - 1 for row in few)
    unmatched = sum(row["found frame"] != row["predicted frame"] for row in known)
    verdict = "Yes" if not unmatched else f"Not in {unmatched} cases"
    return (
        f"{verdict}: {len(known)} solutions from random starts have the frame, the bias and, to "
        f"{worst(known, 'objective error'):.0e}, the objective of the closed form, and are certified to "
        f"{worst(known, 'gap'):.0e}. With d < K - 1 the convex bound is not reached, and in {len(spurious)} of "
        f"{crowded} models some starts end higher than others. Without a bias the classes then spread over directions: "
        "regular polygons for d = 2, orthoplexes for d = K/2. A free bias lets some of them stay inside."
    )


def _theory_panels(classes: int) -> tuple[Panel, ...]:
    return (
        Panel(
            kind="matrix",
            title="Digits to which theory and solutions agree",
            caption="-log10 of the worst error over all sizes and strengths: objective and logits against the closed "
            "form, dual gap, largest metric of collapse, and bias.",
            table="agreement",
            x="bias",
            y="loss",
            value="digits",
            facet="quantity",
        ),
        Panel(
            kind="matrix",
            title="Which frame, for every loss and every bias",
            caption="Eigenvalue of W Hbar on the ones over that across them. 0: a simplex ETF. 1: an orthogonal frame. "
            "Only squared error sees the bias.",
            table="frames",
            x="bias",
            y="loss",
            value="m/a",
            facet="of",
        ),
        Panel(
            kind="matrix",
            title=f"Logits of {classes} classes",
            caption="W Hbar as found, over its largest entry. The losses of differences agree in everything but scale.",
            table="logits",
            x="class",
            y="output",
            value="logit",
            facet="model",
        ),
    )


def _crowded_panels(largest: int) -> tuple[Panel, ...]:
    few = {"table": "few dimensions", "x": "d", "color": "loss", "facet": "regime", "where": {"K": largest}}
    return (
        Panel(
            kind="scatter",
            title=f"How near {largest} classifiers come in d dimensions",
            caption="Largest cosine between rows of W. Dashes: what no directions are below (simplex up to d = K - 1, "
            "then Rankin's zero, then disjoint caps). Missing where a class has its row at zero.",
            y="largest cosine",
            reference="bound",
            **few,
        ),
        Panel(
            kind="curves",
            title="What too few dimensions cost",
            caption="Objective of the best point found above the bound of the convex program, which is the minimum "
            "from d = K - 1 on (rounding is drawn as 1e-16).",
            y="gap, at least 1e-16",
            y_scale="log",
            **few,
        ),
        Panel(
            kind="scatter",
            title=f"{largest} classes in the plane",
            caption="Features of the best point found, d = 2, in units of the longest. Without a bias a regular "
            "polygon. A free bias lets some classes stay inside.",
            table="in the plane",
            x="x",
            y="y",
            color="class",
            facet="model",
            where={"K": largest},
        ),
    )


EXPERIMENT = Study(entry("ufm-collapse"), PRESETS, investigate)
