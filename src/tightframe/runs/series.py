"""Reading a series: the rows of a table, and the curves of metrics over the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tightframe.runs.record import Cell, Table

# Where metrics of the classifier's input and of its outputs stand in a series.
_LAST = ("features", "output")


def rows_of(table: Table) -> Iterator[dict[str, Cell]]:
    """Rows from columns, as `runs.record.table_of` took them, in their order.

    >>> list(rows_of({"epoch": [0, 1], "loss": [2.3, None]}))
    [{'epoch': 0, 'loss': 2.3}, {'epoch': 1, 'loss': None}]
    """
    return (dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True))


def curves(rows: Iterable[Mapping[str, Any]], split: str) -> dict[str, dict[int, float]]:
    """Metrics of the last features and of the outputs: by name, the values that are defined, by epoch.

    Args:
        rows: With the keys `runs.record.SERIES_COLUMNS`, of one run.
        split: Part of the data.

    Example:
        >>> row = {"run": "", "epoch": 3, "split": "test", "layer": "output", "metric": "accuracy", "value": 0.5}
        >>> curves([row], "test")
        {'accuracy': {3: 0.5}}
    """
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["split"] == split and row["layer"] in _LAST and row["value"] is not None:
            found.setdefault(row["metric"], {})[row["epoch"]] = row["value"]
    return found
