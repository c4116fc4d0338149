"""`tightframe sweep`: every combination, resumable, side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightframe.cli.main import main
from tightframe.core.errors import InputError
from tightframe.jobs import sweep as sweeps
from tightframe.jobs.options import SweepOptions
from tightframe.report import page
from tightframe.runs.record import Record


def options(out, *vary: str, **more) -> SweepOptions:
    small = {"limit": 200, "epochs": 2, "width": 16, "depth": 1, "observations": 3, "layers": "classifier"}
    return SweepOptions(out=out, vary=vary, quiet=True, **small | more)


def test_every_combination_is_planned_in_its_own_directory(tmp_path):
    runs = sweeps.planned(options(tmp_path, "loss=ce", "loss=focal:gamma=3", "seed=0", "seed=1", "feature-dim=none"))
    assert list(runs) == [
        "loss ce, seed 0, feature_dim none",
        "loss ce, seed 1, feature_dim none",
        "loss focal:gamma=3, seed 0, feature_dim none",
        "loss focal:gamma=3, seed 1, feature_dim none",
    ]
    assert [run.seed for run in runs.values()] == [0, 1, 0, 1]
    assert len({run.out for run in runs.values()}) == 4
    milestones = sweeps.planned(options(tmp_path, "milestones=3,5", "lr=0.1", "head=etf"))
    (run,) = milestones.values()
    assert (run.milestones, run.lr, run.head) == ((3, 5), 0.1, "etf")


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ((), "something that varies"),
        (("loss",), "NAME=VALUE"),
        (("colour=red",), "NAME=VALUE"),
        (("out=here",), "NAME=VALUE"),
        (("seed=x",), "fits the option: int"),
        (("head=round",), "linear or etf"),
    ],
)
def test_what_cannot_vary_is_refused(tmp_path, vary, words):
    with pytest.raises(InputError, match=words):
        sweeps.sweep(options(tmp_path / "out", *vary))
    assert not (tmp_path / "out").exists()


def test_runs_stand_side_by_side_and_are_not_run_again(tmp_path, monkeypatch):
    asked = options(tmp_path / "s", "loss=ce", "loss=sop:rate=3", noise="symmetric:0.4", validation=0.2)
    record, records = sweeps.sweep(asked)
    table = record.tables["comparison"]
    assert table["loss"] == ["ce", "sop:rate=3"]
    assert [record.title for record in records] == ["loss ce", "loss sop:rate=3"]
    for column in ("test accuracy, last epoch", "test accuracy, selected epoch", "noise AUC"):
        assert all(0 <= value <= 1 for value in table[column]), column
    assert set(record.series["run"]) == {"loss ce", "loss sop:rate=3"}
    assert Record.from_json(record.to_json()) == record
    images = records[1].tables["most suspicious labels, train"]["image"]
    assert images[0].startswith("data:image/png;base64,")
    assert '<img class="thumbnail" src="data:image/png;base64,' in page.render([record, *records])
    monkeypatch.setattr("tightframe.jobs.train.run_trial", None)
    again, _ = sweeps.sweep(replace(asked, resume=True))
    assert again.tables == record.tables


def test_runs_at_the_same_time_give_the_same_numbers(tmp_path):
    one, _ = sweeps.sweep(options(tmp_path / "one", "seed=0", "seed=1"))
    two, _ = sweeps.sweep(options(tmp_path / "two", "seed=0", "seed=1", processes=2))
    same = "test accuracy, last epoch"
    assert one.tables["comparison"][same] == two.tables["comparison"][same]


@pytest.mark.parametrize("lever", ["head=etf", "head=normalized", "head=aligned", "loss=mse", "loss=mcr2", "loss=ls"])
def test_every_lever_trains_from_the_command_line(tmp_path, lever, capsys):
    out = tmp_path / "run"
    small = ["--limit", "200", "--epochs", "2", "--width", "16", "--depth", "1", "--observations", "3", "--quiet"]
    main(["sweep", "--out", str(out), "--vary", lever, "feature-dim=10", *small])
    assert lever.split("=")[1] in capsys.readouterr().out
    assert (out / "report.html").exists()
