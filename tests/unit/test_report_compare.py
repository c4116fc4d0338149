"""Two records side by side become one record, with nothing of either changed."""

from __future__ import annotations

import pytest

from tightframe.core.errors import InputError
from tightframe.report import page
from tightframe.report.compare import compare
from tightframe.report.figures import chart
from tightframe.runs.record import Claim, Record, series_table


def record(name, *, factor=1.0, metrics=("nc1", "acc"), layers=("",), runs=("",), **fields) -> Record:
    rows = [
        {"run": run, "epoch": epoch, "split": split, "layer": layer, "metric": metric, "value": value}
        for run in runs
        for epoch in range(3)
        for split in ("train", "test")
        for layer in layers
        for metric, value in (("nc1", factor * 100.0**-epoch), ("acc", 0.5 + 0.1 * epoch), ("own", 1.0))
        if metric in metrics
    ]
    return Record(name=name, title=name, question="?", series=series_table(rows), **fields)


def test_shared_metrics_are_drawn_with_both_runs():
    both = compare(record("a"), record("b", factor=2.0, metrics=("own", "nc1", "acc")))
    assert both.name == "compare"
    assert [panel.title for panel in both.panels] == ["nc1 over training", "acc over training"]
    assert [panel.y_scale for panel in both.panels] == ["log", "linear"]
    assert set(both.series["run"]) == {"a", "b"}
    assert set(both.series["metric"]) == {"nc1", "acc"}
    for panel in both.panels:
        drawn = chart(both, panel).to_dict()
        assert drawn["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["a", "b"]
        assert "strokeDash" in drawn["layer"][0]["encoding"]


def test_last_values_stand_side_by_side_with_their_ratio():
    both = compare(record("a", metrics=("nc1",)), record("b", factor=3.0, metrics=("nc1",)))
    assert both.tables["last values"] == {
        "metric": ["nc1", "nc1"],
        "split": ["train", "test"],
        "a": [1e-4, 1e-4],
        "b": pytest.approx([3e-4, 3e-4]),
        "ratio": pytest.approx([3.0, 3.0]),
    }


def test_a_ratio_to_zero_or_to_nothing_is_left_out():
    zero, other = record("a", factor=0.0, metrics=("nc1",)), record("b", metrics=("nc1",))
    assert compare(zero, other).tables["last values"]["ratio"] == [None, None]
    one_more = record("b", metrics=("nc1",), layers=("", "deep"))
    values = compare(other, one_more).tables["last values"]
    assert values["b (first)"] == [1e-4, 1e-4, None, None]
    assert values["ratio"] == [1.0, 1.0, None, None]


def test_several_layers_are_drawn_at_the_deepest_and_across():
    both = compare(record("a", layers=("one", "two", "three")), record("b", layers=("two", "one")))
    curve, across = both.panels[:2]
    assert curve.where == {"metric": "nc1", "layer": "two"}
    assert across.kind == "layers"
    assert across.where == {"metric": "nc1", "layer": ["one", "two"]}
    assert chart(both, across).to_dict()["layer"][0]["encoding"]["x"]["sort"] == ["one", "two"]


def test_settings_and_environments_that_differ_are_listed():
    both = compare(
        record("a", config={"lr": 0.1, "net": {"width": 8}}, environment={"torch": "2.5", "os": "x"}),
        record("b", config={"lr": 0.1, "net": {"width": 16}, "seed": 1}, environment={"torch": "2.6", "os": "x"}),
    )
    assert both.tables["settings"] == {
        "setting": ["net.width", "seed"],
        "a": ["8", "not set"],
        "b": ["16", "1"],
    }
    assert both.environment == {"torch (a)": "2.5", "torch (b)": "2.6", "os": "x"}


def test_claims_of_both_keep_their_numbers_and_name_their_run():
    claim = Claim(id="N1", statement="s", source="S", expected=1.0, observed=None, note="no GPU")
    other = Claim(id="N1", statement="s", source="S", expected=1.0, observed=2.0)
    both = compare(record("a", claims=[claim]), record("b", claims=[other]))
    assert [(c.id, c.verdict, c.note) for c in both.claims] == [("N1", "not run", "a: no GPU"), ("N1", "failed", "b")]
    assert both.answer == (
        "2 metrics are shared and 0 settings differ. Claims of a: 0 passed, 0 failed, 1 not run; "
        "b: 0 passed, 1 failed, 0 not run."
    )


def test_runs_of_one_name_and_series_of_several_runs_stay_apart():
    same = compare(record("a"), record("a"))
    assert set(same.series["run"]) == {"a (first)", "a (second)"}
    several = compare(record("a", runs=("sgd", "adam")), record("b", runs=("sgd",)))
    assert set(several.series["run"]) == {"a: sgd", "a: adam", "b"}
    values = several.tables["last values"]
    assert dict(zip(values["run"], values["ratio"], strict=True)) == {"sgd": 1.0, "adam": None}


def test_a_run_called_like_a_column_hides_nothing():
    values = compare(record("ratio"), record("metric")).tables["last values"]
    assert list(values) == ["metric", "split", "ratio (first)", "metric (second)", "ratio"]


def test_records_that_share_no_metric_are_refused():
    with pytest.raises(InputError, match="share at least one metric; got nc1 in 'a' and own in 'b'"):
        compare(record("a", metrics=("nc1",)), record("b", metrics=("own",)))
    with pytest.raises(InputError, match="no metric in 'b'"):
        compare(record("a"), record("b", metrics=()))


def test_a_comparison_is_a_record_like_any_other():
    both = compare(record("a"), record("b"))
    assert Record.from_json(both.to_json()) == both
    assert page.render([both]).count('data-state="waiting"') == 2
