"""`CollapseSummary`: how it reads, and what it gives to programs."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from tightframe.collapse.conventions import convention
from tightframe.collapse.separation import fit_separation
from tightframe.collapse.summary import CollapseSummary, LayerCollapse, Measurement
from tightframe.core.errors import InputError

NC1, D, NC2 = convention("NC1", "weighted"), convention("D", "weighted"), convention("NC2", "etf")


def layer(name: str, value: float, **extra: Measurement) -> LayerCollapse:
    measurements = {
        "NC1": Measurement(value, NC1),
        "D": Measurement(2 * value, D),
        "NC2 features": Measurement(0.5, NC2, floor=0.25),
    }
    return LayerCollapse(name, 3, 8, 60, measurements | extra)


def summary(layers: int = 1, **options) -> CollapseSummary:
    named = {f"block{i}": layer(f"block{i}", 10.0**-i) for i in range(layers - 1)}
    named["features"] = layer("features", 1e-5, VCI=Measurement(None, convention("VCI", "xu-liu"), note="class means"))
    decisions = {"accuracy": Measurement(0.875, convention("accuracy", "top-1"))}
    fit = fit_separation([2 * 10.0**-i for i in range(layers)]) if layers > 2 else None
    return CollapseSummary(named, decisions, fit, **({"split": "test"} | options))


def columns_begin(line: str) -> list[int]:
    return [i for i in range(2, len(line)) if line[i] != " " and line[i - 2 : i] == "  "]


def test_one_layer_reads_as_one_aligned_table():
    text = str(summary())
    heading, table = text.split("\n\n")
    assert heading == "Neural collapse on test: K = 3 classes, d = 8, N = 60 samples"
    head, rule, *rows = table.splitlines()
    assert head.split() == ["metric", "value", "floor", "formula"]
    assert set(rule) == {"-"}
    assert len(rule) == max(len(line) for line in [head, *rows])
    assert [row.split("  ")[0] for row in rows] == ["NC1", "D", "NC2 features", "VCI", "accuracy"]
    formula = head.index("formula")
    assert all(row[formula - 2 : formula] == "  " and row[formula] != " " for row in rows)
    assert "1e-05" in rows[0]
    assert "0.25" in rows[2]
    assert "undefined" in rows[3]
    assert rows[3].endswith("(class means)")


def test_several_layers_have_a_table_and_the_line_of_separation():
    text = str(summary(4))
    heading, layers, line, metrics = text.split("\n\n")
    assert heading.startswith("Neural collapse on test")
    head, _, *rows = layers.splitlines()
    assert head.split() == ["layer", "d", "NC1", "D", "CDNV", "NC2", "features", "NC4", "effective", "rank", "within"]
    assert [row.split()[0] for row in rows] == ["block0", "block1", "block2", "features"]
    end = head.index("NC1") + 3
    assert [row[:end].split()[-1] for row in rows] == ["1", "0.1", "0.01", "1e-05"]
    assert line == "log D over depth: a factor 0.1 per layer, R^2 = 1.000 (4 layers)"
    assert "accuracy" in metrics
    assert "log D" not in str(summary(2))


def test_without_a_name_of_the_data_and_with_intervals():
    text = str(summary(split=""))
    assert text.startswith("Neural collapse: K = 3")
    with_interval = layer("features", 1e-5, CDNV=Measurement(0.5, D, interval=(0.4, 0.625)))
    table = str(CollapseSummary({"features": with_interval}))
    assert "95 % interval" in table
    assert "[0.4, 0.625]" in table


def test_html_escapes_every_text():
    named = {name: layer(name, 0.1) for name in ("<script>alert(1)</script>", "a&b")}
    html = CollapseSummary(named, split="<i>")._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "a&amp;b" in html
    assert html.count("<table>") == html.count("</table>") == 2
    noted = layer("x", 0.1, VCI=Measurement(None, NC1, note="<b>"))
    assert "<b>" not in CollapseSummary({"x": noted})._repr_html_()


def test_values_by_name():
    several = summary(3)
    assert several["NC1"] == 1e-5
    assert several["accuracy"] == 0.875
    assert several.layers["block1"]["D"] == 0.2
    assert several.last.layer == "features"


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(InputError, match=r"'nc1' of layer 'features'; got no such metric\. Use one of NC1, D, NC2"):
        summary()["nc1"]
    with pytest.raises(InputError, match=r"got none: class means\. Use one of NC1, D, NC2 features\."):
        summary()["VCI"]


def test_plain_numbers_for_programs():
    plain = summary(3).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["split"] == "test"
    assert plain["accuracy"] == 0.875
    assert plain["layers"]["block0"] == {"NC1": 1.0, "D": 2.0, "NC2 features": 0.5}
    assert plain["layers"]["features"]["VCI"] is None
    assert plain["separation"]["decay ratio"] == pytest.approx(0.1)
    assert "separation" not in summary().to_dict()


def test_rows_hold_what_has_a_value():
    rows = summary(2).rows(run="a", epoch=7)
    assert len(rows) == 3 + 3 + 1
    assert rows[0] == {"run": "a", "epoch": 7, "split": "test", "layer": "block0", "metric": "NC1", "value": 1.0}
    assert rows[-1]["layer"] == "output"
    assert "VCI" not in {row["metric"] for row in rows}


@pytest.mark.parametrize("thing", [summary(), summary().last, summary().last.measurements["NC1"]])
def test_nothing_can_be_changed(thing):
    with pytest.raises(FrozenInstanceError):
        thing.value = thing.layer = thing.split = 0
