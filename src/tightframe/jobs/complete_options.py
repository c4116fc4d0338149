"""Options of the job that completes matrices: a plain frozen dataclass, read without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class CompleteOptions:
    """Complete a matrix, such as one of ratings, from some of its entries.

    Args:
        ratings: .csv, .tsv or .parquet with one entry per line: row, column, value.
        out: Directory for predictions.csv, the record and the report.
        row: Name of the column that says which row (default: the first).
        column: Name of the column that says which column (default: the second).
        value: Name of the column with the value (default: the third).
        pairs: Table of the same kind whose places are predicted; without it the best new columns of every row are.
        top: How many columns per row, where no pairs are given.
        rank: Largest rank (default: what the number of entries can bear).
        depth: Layers of the deep network.
        biases: Fit mean, row and column effects first.
        folds: Folds of the cross-validation; 0 for none.
        validation: Share held out to choose a fit where no rank fits exactly.
        coverage: Share of entries that the intervals of predicted `pairs` should hold; 0 for no intervals.
        duplicates: Entries given more than once: error, or mean.
        seed: Of folds and starts.
        accelerator: auto, cpu, cuda or mps.
        quiet: Show no progress.
    """

    ratings: Annotated[Path, tyro.conf.Positional]
    out: Path
    row: str | None = None
    column: str | None = None
    value: str | None = None
    pairs: Path | None = None
    top: int = 10
    rank: int | None = None
    depth: int = 3
    biases: bool = True
    folds: int = 5
    validation: float = 0.1
    coverage: float = 0.0
    duplicates: Literal["error", "mean"] = "error"
    seed: int = 0
    accelerator: str = "auto"
    quiet: bool = False
