"""What each caveat of the bilinear Lasso is worth: runs without it over runs with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import geometric_mean

from tightframe.experiments.dictionary.variant_runs import ALL_PASS, LOW_PASS, Row

CLASSES: dict[str, tuple[str, ...]] = {"all-pass": ALL_PASS, "low-pass": LOW_PASS}
"""Kinds of kernels by class."""
CAVEATS = {
    "momentum": ("plain", "inertial", "speed"),
    "homotopy": ("inertial", "inertial homotopy", "speed"),
    "momentum and homotopy": ("plain", "inertial homotopy", "speed"),
    "reweighting": ("inertial homotopy", "all", "error"),
    "all": ("plain", "all", "error"),
    "lift": ("all, no lift", "all", "error"),
}
"""The variant without a caveat, the one with it, and whether it is to save iterations or to lower the error."""


def effects_of(runs: Sequence[Row], budget: int) -> list[Row]:
    """One row for each caveat and class of kernels: geometric means, over signals, of without over with."""
    rows = []
    for (caveat, (without, with_it, purpose)), (name, kernels) in product(CAVEATS.items(), CLASSES.items()):
        pairs = _pairs(runs, kernels, without, with_it)
        row: Row = {"caveat": caveat, "kernels": name, "without": without, "with": with_it, "signals": len(pairs)}
        row["ratio of errors"] = geometric_mean([first["error"] / second["error"] for first, second in pairs])
        if purpose == "speed":
            ratios = [ratio for first, second in pairs if (ratio := _speed(first, second, budget)) is not None]
            row["ratio of steps"] = geometric_mean(ratios) if ratios else None
            clocks = [
                first["seconds to target"] / max(second["seconds to target"], 1e-9)
                for first, second in pairs
                if first["seconds to target"] is not None and second["seconds to target"] is not None
            ]
            row["ratio of seconds"] = geometric_mean(clocks) if clocks else None
            row["without, never there"] = sum(first["steps to target"] is None for first, _ in pairs)
            row["with, never there"] = sum(second["steps to target"] is None for _, second in pairs)
        rows.append(row)
    return rows


def _pairs(runs: Sequence[Row], kernels: Sequence[str], without: str, with_it: str) -> list[tuple[Row, Row]]:
    by_place = {(row["kernel"], row["seed"], row["variant"]): row for row in runs}
    places = dict.fromkeys((row["kernel"], row["seed"]) for row in runs if row["kernel"] in kernels)
    return [(by_place[*place, without], by_place[*place, with_it]) for place in places]


def _speed(without: Row, with_it: Row, budget: int) -> float | None:
    """Ratio of steps to the target; a run that never gets there counts with the budget, two such with nothing."""
    first, second = (row["steps to target"] for row in (without, with_it))
    if first is None and second is None:
        return None
    return max(budget if first is None else first, 1) / max(budget if second is None else second, 1)


def ratios_of(effects: Sequence[Row], caveat: str) -> tuple[float | None, float | None]:
    """What a caveat is worth for low-pass and for all-pass kernels, in its own currency."""
    column = "ratio of steps" if CAVEATS[caveat][2] == "speed" else "ratio of errors"
    return value_of(effects, caveat, "low-pass", column), value_of(effects, caveat, "all-pass", column)


def value_of(effects: Sequence[Row], caveat: str, kernels: str, column: str) -> float | None:
    """One entry of the table of effects."""
    return next(row[column] for row in effects if (row["caveat"], row["kernels"]) == (caveat, kernels))
