"""What trials leave behind, as rows of tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from tightframe.runs.record import Cell
from tightframe.runs.series import curves
from tightframe.trials.trial import Trial

Row = Mapping[str, Cell]
SIGNS = ("NC1", "NC2 features", "NC3")


def values(trial: Trial, epoch: int, split: str) -> dict[str, float]:
    """Every metric of the last features and of the output at an epoch; those that were undefined are absent."""
    return {metric: curve[epoch] for metric, curve in curves(trial.rows, split).items() if epoch in curve}


def epochs_of(trial: Trial) -> list[int]:
    """The epochs at which features were measured, ascending."""
    return sorted({row["epoch"] for row in trial.rows if row["metric"] == "accuracy"})


def average(cells: Sequence[Cell]) -> float | None:
    """Mean of numbers; None where any of them is undefined."""
    return None if None in cells else mean(cells)


def standard_error(numbers: Sequence[float]) -> float:
    """Of the mean of independent numbers; 0 for a single one, which says nothing about it."""
    return stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else 0.0


def number(cell: Cell) -> float:
    """The value; NaN, which no claim passes, where it is undefined."""
    return math.nan if cell is None else float(cell)


def ratio(numerator: Cell, denominator: Cell) -> float | None:
    """The quotient; None where either is undefined or the denominator is zero."""
    return None if numerator is None or not denominator else numerator / denominator
