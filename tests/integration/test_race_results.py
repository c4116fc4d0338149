"""Results of benchmarks read back, judged by their bars, compared, and gathered into records and a page."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tightframe.runs.record import Record

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "benchmarks" / "results"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def written(folder, name, tables, curves=()):
    """A result file as benchmarks write it, read back."""
    from benchmarks.measuring import Report
    from benchmarks.reading import read_results

    report = Report(f"Title of {name}", f"python -m benchmarks.races.{name}")
    for columns, rows in tables:
        report.say("Words between the tables, with | bars | in them.")
        report.table(columns, rows)
    for problem, contender, seconds, values in curves:
        report.curve(problem, contender, seconds, values, measure="gap")
    report.finish(name, argparse.Namespace(out=folder, quick=True))
    return read_results(folder)[name]


RACE = (
    ["dictionary", "learner", "CPU s", "worst"],
    [
        ("orthogonal, d = 9", "tightframe", 2.0, "1e-12"),
        ("orthogonal, d = 9", "FastICA, cube", 5.0, "2e-2"),
        ("orthogonal, d = 9", "FastICA, logcosh", 4.0, "4e-2"),
        ("Gaussian, d = 9", "tightframe", 3.0, "1e-7"),
        ("Gaussian, d = 9", "FastICA, cube", 1.5, "1e-1"),
        ("Gaussian, d = 9", "SPAMS", "not reached", "1e-1"),
    ],
)


def test_tables_are_read_as_they_were_written(tmp_path):
    found = written(tmp_path, "sample", [(["d", "time"], [(1024, 0.25), (7, "not reached")]), RACE])
    assert found.title == "Title of sample"
    assert found.command == "python -m benchmarks.races.sample"
    assert found.machine
    assert found.versions.startswith("Python ")
    assert found.rows("d", "time") == [{"d": "1,024", "time": "0.25"}, {"d": "7", "time": "not reached"}]
    assert [row["CPU s"] for row in found.rows("CPU s", where={"learner": "FastICA*"})] == ["5", "4", "1.5"]
    assert len(found.rows("CPU s", where={"learner": ("SPAMS", "tightframe"), "dictionary": "Gauss*"})) == 2


def test_a_table_that_is_not_there_is_an_error(tmp_path):
    from benchmarks.reading import MissingTableError

    found = written(tmp_path, "sample", [RACE])
    with pytest.raises(MissingTableError, match=r"sample\.md with the columns CPU s, L"):
        found.rows("CPU s", where={"L": "*"})


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1,024", 1024.0),
        ("-3.5e-07", -3.5e-7),
        ("7 of 10", 0.7),
        ("16/20", 0.8),
        ("0.05%", 0.05),
        ("not reached", math.inf),
        ("", None),
        ("–", None),
        ("not installed", None),
        ("failed: no jax", None),
    ],
)
def test_cells_as_numbers(cell, value):
    from benchmarks.reading import number

    assert number(cell) == value


def test_a_cell_of_words_is_not_a_number():
    from benchmarks.reading import number

    from tightframe.core.errors import InputError

    with pytest.raises(InputError, match="a number in this cell"):
        number("yes")


def test_observers_against_their_definitions(tmp_path):
    from benchmarks.races import observed

    frames = (["frame", "found"], [("d = 32, m = 64", 64), ("d = 64, m = 256", 192)])
    images = (
        ["image", "noise", "method", "PSNR"],
        [
            ("a", 20, "tightframe", "31.5"),
            ("a", 20, "SPAMS, 200", "30.0"),
            ("a", 20, "SPAMS, 1000", "31.75"),
            ("b", 20, "tightframe", "29.0"),
            ("b", 20, "SPAMS, 200", "27.0"),
        ],
    )
    found = written(tmp_path, "sample", [RACE, frames, images])
    ours, rivals = {"learner": "tightframe"}, {"learner": "FastICA*"}
    assert observed.largest("worst", where=ours)(found) == 1e-7
    assert observed.smallest("CPU s", "worst", where=ours)(found) == 1e-12
    # 2 / min(5, 4) and 3 / 1.5; the worst is the larger
    assert observed.quotient("CPU s", of=ours, over=rivals, by=("dictionary",))(found) == 2.0
    assert observed.quotient("CPU s", of=ours, over=rivals, by=("dictionary",), worst=min)(found) == 0.5
    assert observed.quotient("CPU s", of=ours, over={"learner": "SPAMS"}, by=("dictionary",))(found) == 0.0
    assert observed.quotient("CPU s", of=ours, over={"learner": "nobody"})(found) is None
    assert observed.share_found("found", "frame", where={"frame": "d = *"})(found) == 0.75
    beyond = observed.beyond("PSNR", of={"method": "tightframe"}, over={"method": "SPAMS*"}, by=("image", "noise"))
    assert beyond(found) == -0.25
    assert observed.total("found", where={"frame": "d = *"})(found) == 256
    assert observed.marked("learner", "cube")(found) == 2
    assert observed.columns_quotient("CPU s", "worst", where={"dictionary": "Gauss*", **ours})(found) == 3 / 1e-7


def test_a_bar_is_judged_by_the_tables_alone(tmp_path):
    from benchmarks.races.bar import bar, elsewhere
    from benchmarks.races.observed import largest

    results = {"sample": written(tmp_path, "sample", [RACE])}
    error = largest("worst", where={"learner": "tightframe"})
    assert bar("a", "error", "<=", 1e-6, "sample", error).judged(results).verdict == "passed"
    assert bar("a", "error", "<=", 1e-8, "sample", error).judged(results).verdict == "failed"
    assert bar("a", "error", "<=", 1e-6, "other", error).judged(results).verdict == "not run"
    assert elsewhere("a", "error", "<=", 1e-6, "by hand").judged(results).verdict == "not run"
    absent = bar("a", "error", "<=", 1e-6, "sample", largest("no such column")).judged(results)
    assert absent.verdict == "not run"
    assert "was not run" in absent.note


def test_a_figure_from_a_busy_machine_says_so(tmp_path):
    from dataclasses import replace

    from benchmarks.races.bar import bar
    from benchmarks.races.observed import largest

    found = written(tmp_path, "sample", [RACE])
    limit = bar("a", "error", "<=", 1e-6, "sample", largest("worst", where={"learner": "tightframe"}), "worst")
    for load, note in ((1.5, "worst"), (11.25, "worst; measured beside other work, load 11.25")):
        machine = f"Chip, 2 cores; 1 thread; load average {load} at the start"
        assert limit.judged({"sample": replace(found, machine=machine)}).note == note


def test_names_of_bars_are_distinct_and_their_files_known():
    from benchmarks.races.bars import BARS

    bars = [bar for group in BARS.values() for bar in group]
    assert len({bar.id for bar in bars}) == len({bar.statement for bar in bars}) == len(bars) > 70
    assert all((bar.observed is None) == (bar.result == "") for bar in bars)


def test_ratios_are_of_the_others_over_ours(tmp_path):
    from benchmarks.races.ratios import COLUMNS, ratios_of

    found = written(tmp_path, "dictionary_races", [RACE])
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in ratios_of(found)]
    assert [(row["problem"], row["other"], row["ratio"]) for row in rows] == [
        ("orthogonal, d = 9", "FastICA, cube", "2.5"),
        ("orthogonal, d = 9", "FastICA, logcosh", "2"),
        ("Gaussian, d = 9", "FastICA, cube", "0.5"),
        ("Gaussian, d = 9", "SPAMS", "not reached"),
    ]
    assert (rows[0]["other's result"], rows[0]["our result"]) == ("2e-2", "1e-12")


def test_a_long_curve_keeps_its_ends_and_drops_what_is_not_a_number(tmp_path):
    seconds = [0.0, *(0.5 + 0.01 * at for at in range(500)), 6.0]
    values = [9.0, *(1.0 / (1 + at) for at in range(500)), math.nan]
    (curve,) = written(tmp_path, "sample", [RACE], [("p", "c", seconds, values)]).curves
    assert (curve.seconds[0], curve.values[0]) == (0.5, 1.0)
    assert (curve.seconds[-1], curve.values[-1]) == (0.5 + 0.01 * 499, 1 / 500)
    assert 20 <= len(curve.seconds) <= 41
    assert all(math.isfinite(value) for value in curve.values)


def test_records_draw_courses_as_lines_and_ends_as_points(tmp_path):
    from benchmarks.races.gathered import records

    curves = [
        ("small", "tightframe", [0.1, 0.2], [1e-3, 1e-9]),
        ("small", "other", [1.0], [1e-4]),
        ("large", "tightframe", [3.0], [1e-8]),
        ("huge", "tightframe", [30.0], [1e-8]),
    ]
    result = written(tmp_path, "dictionary_races", [RACE], curves)
    record = next(each for each in records({result.name: result}) if each.name == "dictionary-races")
    assert [(panel.kind, panel.title, panel.x_scale, panel.y_scale) for panel in record.panels] == [
        ("curves", "small", "log", "log"),
        ("scatter", "large", "log", "log"),
        ("scatter", "huge", "log", "log"),
    ]
    assert record.tables["figure 1"]["gap"] == [1e-3, 1e-9, 1e-4]
    assert [record.tables[f"figure {at}"]["seconds"] for at in (2, 3)] == [[3.0], [30.0]]
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts["complete.fastica.orthogonal"] == "passed"
    assert verdicts["complete.fastica.gaussian"] == "failed"
    assert verdicts["overcomplete"] == "not run"
    assert Record.from_json(record.to_json()) == record


def gather(results, out):
    command = [sys.executable, "-m", "benchmarks.races", "--gather", "--results", str(results), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_committed_bars_and_ratios_are_those_of_the_committed_tables(tmp_path):
    copied = tmp_path / "results"
    shutil.copytree(COMMITTED, copied)
    for name in ("bars.md", "ratios.md"):
        (copied / name).unlink(missing_ok=True)
    gather(copied, tmp_path / "page")
    for name in ("bars.md", "ratios.md"):
        again = "run `python -m benchmarks.races --gather` and commit what it writes"
        assert (copied / name).read_text() == (COMMITTED / name).read_text(), again
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "Bars without a table" in page
    record = json.loads((tmp_path / "page" / "accuracy" / "record.json").read_text())
    assert [claim["verdict"] for claim in record["claims"]] == ["passed"]


def test_a_race_that_fails_is_named_and_the_rest_is_gathered(tmp_path, monkeypatch, capsys):
    from benchmarks.races import __main__ as command

    monkeypatch.setattr(sys, "argv", ["races", "adapters", "spikes", "--quick", "--out", str(tmp_path)])
    monkeypatch.setattr(command.subprocess, "run", lambda line, **_: argparse.Namespace(returncode="spikes" in line[2]))
    written(tmp_path / "results", "dictionary_races", [RACE])
    assert command.main() == 1
    assert "failed: spikes" in capsys.readouterr().err
    assert "toy sizes" in (tmp_path / "results" / "bars.md").read_text()
    assert (tmp_path / "dictionary-races" / "record.json").is_file()
