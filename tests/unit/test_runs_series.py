"""Reading a series: rows from columns, curves of the last features and the outputs."""

from __future__ import annotations

from tightframe.runs.record import SERIES_COLUMNS, series_table, table_of
from tightframe.runs.series import curves, rows_of


def row(epoch, split, layer, metric, value):
    return dict(zip(SERIES_COLUMNS, ("", epoch, split, layer, metric, value), strict=True))


ROWS = [
    row(0, "train", "block.0", "NC1", 7.0),
    row(0, "train", "features", "NC1", 5.0),
    row(0, "test", "features", "NC1", 9.0),
    row(0, "test", "output", "accuracy", 0.1),
    row(4, "train", "features", "NC1", None),
    row(4, "test", "output", "accuracy", 0.9),
    row(2, "test", "output", "accuracy", 0.5),
]


def test_rows_are_those_the_columns_were_made_of():
    assert list(rows_of(series_table(ROWS))) == ROWS
    assert list(rows_of(table_of([{"a": 1}, {"b": "x"}]))) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert list(rows_of({})) == []
    assert list(rows_of({"a": []})) == []


def test_curves_hold_the_defined_values_of_one_split_at_the_end_of_the_network():
    assert curves(ROWS, "train") == {"NC1": {0: 5.0}}
    assert curves(ROWS, "test") == {"NC1": {0: 9.0}, "accuracy": {0: 0.1, 4: 0.9, 2: 0.5}}
    # In the order in which they were measured: the last one is the end of training.
    assert list(curves(ROWS, "test")["accuracy"]) == [0, 4, 2]
    assert curves(ROWS, "validation") == {}
