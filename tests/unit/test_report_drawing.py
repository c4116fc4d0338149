"""What a panel draws: rows selected, checked, ordered and thinned, and everything left out said in words."""

from __future__ import annotations

import pytest

from tightframe.core.errors import InputError
from tightframe.report.drawing import MOST_CLASSES, MOST_POINTS, caption, draw
from tightframe.runs.record import Panel, Record, series_table


def record(**tables) -> Record:
    return Record(name="r", title="R", question="?", tables=tables)


def panel(kind="curves", **fields) -> Panel:
    given = {"title": "P", "caption": "About it.", "table": "t", "x": "x", "y": "y"} | fields
    return Panel(kind=kind, **given)


def test_where_keeps_the_rows_that_match_a_value_or_one_of_several():
    table = {"x": [0, 1, 2, 3], "y": [1.0, 2.0, 3.0, 4.0], "metric": ["a", "b", "c", "a"]}
    one = draw(record(t=table), panel(where={"metric": "a"}))
    several = draw(record(t=table), panel(where={"metric": ["b", "c"]}))
    assert [row["x"] for row in one.rows] == [0, 3]
    assert [row["x"] for row in several.rows] == [1, 2]


def test_a_panel_left_without_rows_is_refused_by_name():
    table = {"x": [0], "y": [1.0], "metric": ["a"]}
    with pytest.raises(InputError, match=r"panel 'P' has at least one row.*none among the 1 rows.*'nc9'.*`where`"):
        draw(record(t=table), panel(where={"metric": "nc9"}))
    with pytest.raises(InputError, match="none among the 0 rows of table 'series'"):
        draw(record(), panel(table="series", x="epoch", y="value"))


@pytest.mark.parametrize(("kind", "fields"), [("curves", {}), ("scatter", {}), ("matrix", {"value": "y"})])
def test_words_and_truth_values_are_not_drawn_as_numbers(kind, fields):
    for wrong in ("high", True):
        table = {"x": [0, 1], "y": [0.5, wrong]}
        with pytest.raises(InputError, match=rf"draws numbers from column 'y'; got {wrong!r}"):
            draw(record(t=table), panel(kind, **fields))


def test_values_a_log_scale_cannot_show_are_blanked_and_counted():
    table = {"x": [0, 1, 2, 3], "y": [1.0, 0.0, -2.0, 0.5]}
    drawing = draw(record(t=table), panel(y_scale="log"))
    assert [row["y"] for row in drawing.rows] == [1.0, None, None, 0.5]
    assert drawing.logs == {"y"}
    assert caption(record(t=table), panel(y_scale="log")) == (
        "About it. 2 values at or below zero are not drawn on the log scale."
    )
    assert caption(record(t=table), panel()) == "About it."


def test_one_blanked_value_is_counted_in_the_singular_and_a_log_x_axis_blanks_too():
    table = {"x": [0, 1, 10], "y": [-1.0, 2.0, 3.0]}
    drawing = draw(record(t=table), panel(x_scale="log"))
    assert [row["x"] for row in drawing.rows] == [None, 1, 10]
    assert drawing.notes == ("1 value at or below zero is not drawn on the log scale.",)


def test_a_log_scale_without_a_positive_value_becomes_linear_and_says_so():
    table = {"x": [0, 1], "y": [0.0, 0.0]}
    drawing = draw(record(t=table), panel(y_scale="log"))
    assert drawing.logs == frozenset()
    assert [row["y"] for row in drawing.rows] == [0.0, 0.0]
    assert drawing.notes == ("No y value is above zero, so the y scale is linear.",)


def test_undefined_values_are_counted_once_per_row():
    table = {"x": [0, None, 2], "y": [None, None, 1.0]}
    assert draw(record(t=table), panel()).notes == ("2 values are undefined and not drawn.",)


def test_a_panel_without_a_defined_value_is_refused_by_name():
    with pytest.raises(InputError, match=r"panel 'P' has at least one defined value.*got 2 rows of table 't'"):
        draw(record(t={"x": [0, 1], "y": [None, None]}), panel(y_scale="log"))


def test_names_keep_the_order_of_the_table_and_ordered_numbers_ascend():
    table = {"x": ["z", "a", "m", "z"], "y": [1, 2, 3, 4], "epoch": [100, 9, 50, 9]}
    drawing = draw(record(t=table), panel("layers", color="epoch"))
    assert drawing.orders == {"x": ["z", "a", "m"], "color": ["9", "50", "100"]}
    assert drawing.ordinal_color
    assert not draw(record(t={"x": [0], "y": [1], "label": [3]}), panel("scatter", color="label")).ordinal_color


def test_other_labels_that_vary_start_lines_of_their_own():
    rows = [
        {"run": "a", "epoch": e, "split": s, "layer": layer, "metric": "nc1", "value": 1.0}
        for e in (0, 1)
        for s in ("train", "test")
        for layer in ("first", "second")
    ]
    drawn = draw(
        Record(name="r", title="R", question="?", series=series_table(rows)),
        panel(table="series", x="epoch", y="value", color="metric"),
    )
    assert drawn.titles == {"x": "epoch", "y": "value", "color": "metric", "dash": "split", "line1": "layer"}
    assert drawn.orders["dash"] == ["train", "test"]
    keys = [(row["x"], row["dash"], row["line1"]) for row in drawn.rows]
    assert len(set(keys)) == len(rows)


def test_a_facet_of_bare_numbers_carries_the_name_of_its_column():
    table = {"x": [0, 1], "y": [0, 1], "epoch": [0, 199]}
    assert draw(record(t=table), panel("scatter", facet="epoch")).orders["facet"] == ["epoch 0", "epoch 199"]


def test_a_fit_is_drawn_only_over_layers():
    table = {"x": ["a", "b"], "y": [1.0, 2.0], "fit": [1.1, 1.9]}
    assert draw(record(t=table), panel("layers")).titles["fit"] == "fit"
    assert "fit" not in draw(record(t=table | {"x": [0, 1]}), panel("curves")).titles


def test_a_reference_is_the_fit_of_curves_layers_and_scatters():
    table = {"x": [0, 1], "y": [1.0, 2.0], "theory": [1.1, 1.9], "fit": [5.0, 5.0]}
    for kind in ("curves", "layers", "scatter"):
        drawing = draw(record(t=table), panel(kind, reference="theory"))
        assert drawing.titles["fit"] == "theory"
        assert [row["fit"] for row in drawing.rows] == [1.1, 1.9]
    with pytest.raises(InputError, match="draws numbers from column 'theory'; got 'high'"):
        draw(record(t=table | {"theory": [1.0, "high"]}), panel(reference="theory"))


def test_a_prediction_may_be_finer_than_what_was_measured():
    table = {"x": [0, 1, 2, 3], "y": [1.0, None, 2.0, None], "theory": [1.0, 1.5, 2.0, None]}
    assert draw(record(t=table), panel(reference="theory")).notes == ("1 value is undefined and not drawn.",)
    assert draw(record(t=table), panel()).notes == ("2 values are undefined and not drawn.",)
    only = {"x": [0, 1], "y": [None, None], "theory": [1.0, 2.0]}
    assert len(draw(record(t=only), panel("scatter", reference="theory")).rows) == 2


def test_a_prediction_that_a_log_scale_cannot_show_is_blanked():
    table = {"x": [0, 1], "y": [1.0, 2.0], "theory": [0.0, 2.0]}
    drawing = draw(record(t=table), panel(reference="theory", y_scale="log"))
    assert [row["fit"] for row in drawing.rows] == [None, 2.0]


def test_a_large_matrix_keeps_its_first_rows_and_columns():
    size = MOST_CLASSES + 5
    cells = [(i, j) for i in range(size) for j in range(size)]
    table = {"x": [j for _, j in cells], "y": [i for i, _ in cells], "v": [0.5] * len(cells)}
    drawing = draw(record(t=table), panel("matrix", value="v"))
    assert len(drawing.rows) == MOST_CLASSES**2
    assert drawing.notes == (
        f"The first {MOST_CLASSES} of {size} rows are drawn.",
        f"The first {MOST_CLASSES} of {size} columns are drawn.",
    )


def test_too_many_points_are_thinned_evenly_and_the_last_place_of_a_curve_stays():
    size = 2 * MOST_POINTS + 2
    table = {"x": list(range(size)), "y": [1.0] * size}
    points = draw(record(t=table), panel("scatter"))
    curve = draw(record(t=table), panel("curves"))
    assert [row["x"] for row in points.rows] == list(range(0, size, 3))
    assert points.notes == (f"One in 3 of the {size} points is drawn.",)
    assert {row["x"] for row in curve.rows} == {*range(0, size, 3), size - 1}
    assert curve.notes == (f"One in 3 of the {size} values of x is drawn.",)
    assert draw(record(t={"x": [0] * MOST_POINTS, "y": [0] * MOST_POINTS}), panel("scatter")).notes == ()


def test_drawing_leaves_the_record_as_it_was():
    table = {"x": [0, 1], "y": [0.0, 1.0], "label": [None, "a"]}
    held = record(t=table)
    before = held.to_json()
    draw(held, panel(y_scale="log", color="label"))
    assert held.to_json() == before
