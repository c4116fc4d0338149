"""Beyond the sources: from how many classes on, and how many factors, points of low rank beat collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.experiments.ufm.chains import SIMPLEX, beside_simplex, simplex_claims
from tightframe.experiments.ufm.pairs import MARGIN, PAIRS, pair_claims, pair_curve, pair_points, relu_chain
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.chain_certificate import norm_bound
from tightframe.ufm.chain_solvers import explore_deep, solve_deep
from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.levels import ranks

_PAPER = "sukenik2024neural"

Row = Mapping[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Config:
    """What is searched.

    Args:
        cells: (factors, classes searched) of ReLU chains with squared error, widths twice the classes.
        starts: Random starts per cell.
        rounds: Disturbances of the best of them that has not collapsed, and of the point of pairs.
        steps: L-BFGS steps per search.
        pictured: (factors, classes) of the cell that is drawn, one of the cells.
        vertices: Largest v of the curves in closed form, at K = v(v-1)/2.
        linear: (factors, classes) of linear chains with cross-entropy.
        linear_starts: Random starts of each of these.
    """

    cells: tuple[tuple[int, tuple[int, ...]], ...] = (
        (3, (2, 4, 6, 8, 10, 12, 13, 14, 15)),
        (4, (2, 4, 5, 6, 7, 8, 10, 12, 15)),
        (5, (2, 3, 4, 5, 6, 8, 10)),
        (6, (2, 3, 4, 6, 8)),
    )
    starts: int = 5
    rounds: int = 6
    steps: int = 500
    pictured: tuple[int, int] = (4, 10)
    vertices: int = 10
    linear: tuple[tuple[int, tuple[int, ...]], ...] = (
        (2, (3, 4, 6, 10, 20)),
        (3, (3, 4, 5, 6, 8, 10, 15, 20)),
        (4, (3, 4, 5, 6, 8, 10, 15, 20)),
        (6, (3, 4, 5, 6, 8, 10, 15, 20)),
    )
    linear_starts: int = 6


PRESETS = {
    "smoke": Config(
        cells=((3, (4,)), (4, (4, 10)), (5, (5,))),
        starts=1,
        rounds=2,
        steps=250,
        linear=((2, (4, 6)), (3, (4, 6)), (4, (4, 6))),
        linear_starts=2,
    ),
    "quick": Config(),
    "paper": Config(
        cells=tuple((factors, (*range(2, 13), 15, 21, 28)) for factors in (3, 4, 5, 6, 7)),
        starts=40,
        rounds=60,
        steps=1500,
        linear=tuple((factors, (*range(3, 13), 15, 20, 30)) for factors in (2, 3, 4, 5, 6, 8)),
        linear_starts=40,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Searches per depth and number of classes, points in closed form, and linear chains with cross-entropy."""
    found = sweep(searched, [(factors, classes, config) for factors, row in config.cells for classes in row])
    cells = [row["cell"] for row in found]
    closed = [row for factors in (3, 4, 5, 6, 8) for row in pair_curve(factors, config.vertices)]
    linear = sweep(beside_simplex, [(f, k, config.linear_starts) for f, row in config.linear for k in row])
    pictured = next(row for row in found if (row["cell"]["L"], row["cell"]["classes"]) == config.pictured)
    crossover = {factors: _crossover(cells, factors) for factors, _ in config.cells}
    tables = {
        "cells": table_of(cells),
        "pairs": table_of(closed),
        "spectra": table_of(pictured["spectra"]),
        "cosines": table_of(pictured["cosines"]),
        "cross-entropy": table_of(linear),
        "crossover": table_of([{"factors": factors, "classes": least} for factors, least in crossover.items()]),
    }
    claims = [*pair_claims(), *_cell_claims(cells, crossover), *simplex_claims(linear)]
    return Findings(tuple(claims), _answer(crossover, linear), tables, tuple(_panels(config)))


def searched(item: tuple[int, int, Config]) -> dict[str, Row | Sequence[Row]]:
    """The best point of a ReLU chain from random starts and from pairs, disturbed again and again."""
    factors, classes, config = item
    problem = relu_chain(factors, classes)
    collapsed = deep_optimum(problem).value
    solutions = [solve_deep(problem, seed=seed, max_iterations=config.steps) for seed in range(config.starts)]
    lower = [found for found in solutions if found.objective < collapsed * (1 - MARGIN)]
    begins = pair_points(problem) + [problem.point_of(min(lower, key=lambda found: found.objective)) for _ in lower[:1]]
    explore = {"rounds": config.rounds, "max_iterations": config.steps}
    explored = [explore_deep(problem, begin, **explore) for begin in begins]
    best = min([*solutions, *explored], key=lambda solution: solution.objective)
    point = problem.point_of(best)
    cell = {
        "L": factors,
        "factors": f"{factors} factors",
        "classes": classes,
        "objective": best.objective,
        "collapsed": collapsed,
        "ratio": best.objective / collapsed,
        "one": 1.0,
        "random starts": min(found.objective for found in solutions) / collapsed,
        "random below collapse": len(lower) / len(solutions),
        "lower bound": norm_bound(problem) / collapsed,
    }
    cell |= {f"rank of {level}": rank for level, rank in ranks(problem, point).items()}
    return {"cell": cell, "spectra": _spectra(problem, point), "cosines": _cosines(problem, point)}


def _spectra(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> list[Row]:
    return [
        {"level": f"H{m}", "index": index, "singular value": float(value)}
        for m, level in enumerate(problem.levels(point), start=1)
        for values in [torch.linalg.svdvals(level)[: problem.classes]]
        for index, value in enumerate(values / values[0], start=1)
    ]


def _cosines(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> list[Row]:
    units = {f"H{m}": torch.nn.functional.normalize(h, dim=0) for m, h in enumerate(problem.levels(point), start=1)}
    return [
        {"level": level, "row": str(i + 1), "column": str(j + 1), "cosine": float(columns[:, i] @ columns[:, j])}
        for level, columns in units.items()
        for i in range(problem.classes)
        for j in range(problem.classes)
    ]


def _crossover(cells: Sequence[Row], factors: int) -> int | None:
    """The fewest classes searched at which collapse is beaten."""
    below = [row["classes"] for row in cells if row["L"] == factors and row["ratio"] < 1 - MARGIN]
    return min(below, default=None)


def _cell_claims(cells: Sequence[Row], crossover: Mapping[int, int | None]) -> list[Claim]:
    proven = [row for row in cells if row["classes"] == 2]
    three = [row for row in cells if row["L"] == 3]
    lowest = {factors: min(row["ratio"] for row in cells if row["L"] == factors) for factors in crossover}
    stated = {
        "binary": ("two classes: lowest objective found over the collapsed one", proven, "sukenik2023deep"),
        "three": ("three factors: lowest objective found over the collapsed one", three, "TB, theorem 4.2"),
    }
    claims = [
        Claim(
            id=f"X1.{key}",
            statement=f"Deep ReLU chains, {what}",
            source=source,
            expected=1.0,
            observed=min((row["ratio"] for row in rows), default=None),
            relation=">=",
            tolerance=1e-9,
            note=f"K = {', '.join(str(row['classes']) for row in rows) or 'none searched'}",
        )
        for key, (what, rows, source) in stated.items()
    ]
    return claims + [
        Claim(
            id=f"X1.low-rank.L{factors}",
            statement=f"{factors} factors: lowest objective found over the collapsed one",
            source=_PAPER,
            expected=1 - MARGIN,
            observed=lowest[factors],
            note=f"collapse is beaten from K = {least} on, of the numbers of classes searched" if least else "",
        )
        for factors, least in crossover.items()
        if factors > 3
    ]


def _answer(crossover: Mapping[int, int | None], linear: Sequence[Row]) -> str:
    per = "; ".join(
        f"{factors} factors: " + (f"from {least} classes on" if least else "no such point found")
        for factors, least in crossover.items()
    )
    beaten = [row["classes"] for row in linear if row["L"] == 3 and row["ratio"] < 1 - MARGIN]
    remark = (
        f" For cross-entropy and three linear factors the simplex is beaten from {min(beaten)} classes on, against "
        "the remark that theorem 4.1 carries over."
        if beaten
        else ""
    )
    return f"Points below the collapsed optimum of ReLU chains, of the numbers of classes searched: {per}.{remark}"


def _panels(config: Config) -> list[Panel]:
    factors, classes = config.pictured
    curves = {"kind": "curves", "x": "classes", "y": "ratio", "color": "factors", "reference": "one"}
    return [
        Panel(
            title="Lowest objective found over the collapsed one",
            caption="Deep ReLU chains with squared error. Below the dashed line collapse is not optimal.",
            table="cells",
            **curves,
        ),
        PAIRS,
        Panel(
            kind="matrix",
            title=f"Class means level by level, {factors} factors and {classes} classes",
            caption="Cosines between class means at the best point found. At a collapsed point each is the identity; "
            "here classes overlap in the low rank of the shallow levels and are told apart only by the last ReLU.",
            table="cosines",
            x="column",
            y="row",
            value="cosine",
            facet="level",
        ),
        Panel(
            kind="curves",
            title=f"Singular values level by level, {factors} factors and {classes} classes",
            caption="Relative to the largest, at the best point found. Collapse has all of them equal.",
            table="spectra",
            x="index",
            y="singular value",
            color="level",
        ),
        SIMPLEX,
    ]


EXPERIMENT = Study(entry("ufm-low-rank"), PRESETS, investigate)
