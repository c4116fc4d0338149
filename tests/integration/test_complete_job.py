"""`tightframe complete`: a table of entries in; predictions, a record and a report out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from door import refused
from tightframe.cli.main import main
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.runs.record import Record


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    matrix = draws.normal(size=(60, 2)) @ draws.normal(size=(2, 40)) + 3
    rows, columns = np.nonzero(draws.random(matrix.shape) < 0.6)
    table = pd.DataFrame({"user": [f"u{row:02}" for row in rows], "item": columns, "rating": matrix[rows, columns]})
    table.to_csv("ratings.csv", index=False)
    table.to_parquet("ratings.parquet", index=False)
    return matrix, rows, columns


def test_new_places_are_predicted_and_reported(here, tmp_path, capsys):
    matrix, rows, columns = here
    main(["complete", "ratings.csv", "--out", "run", "--top", "3", "--folds", "3", "--quiet"])
    found = pd.read_csv("run/predictions.csv")
    assert list(found) == ["row", "column", "predicted"]
    assert len(found) == 60 * 3
    at = found["row"].str[1:].astype(int).to_numpy(), found["column"].to_numpy()
    assert np.allclose(found["predicted"], matrix[at], atol=1e-4)
    assert not set(zip(*at, strict=True)) & set(zip(rows, columns, strict=True))
    record = Record.from_json((tmp_path / "run" / "record.json").read_text())
    folds = pd.DataFrame(record.tables["folds"])
    assert folds["entries"].sum() == 2 * len(rows)
    assert set(folds["fold"]) == {1, 2, 3}
    completed, averages = (folds[folds["prediction"] == name]["RMSE"] for name in ("completed", "averages"))
    assert completed.median() < 0.01 * averages.median()
    assert {panel.table for panel in record.panels} == {"spectrum", "convergence", "folds"}
    assert record.answer in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists()
    assert str(tmp_path) not in (tmp_path / "run" / "record.json").read_text()


def test_given_pairs_are_predicted_with_intervals(here):
    matrix, rows, columns = here
    pd.DataFrame({"item": [3, 3, 0], "user": ["u07", "u21", "u00"]}).to_csv("pairs.csv", index=False)
    names = ["--row", "user", "--column", "item", "--pairs", "pairs.csv"]
    main(["complete", "ratings.parquet", "--out", "run", "--folds", "0", "--coverage", "0.9", "--quiet", *names])
    found = pd.read_csv("run/predictions.csv")
    assert found["row"].tolist() == ["u07", "u21", "u00"]
    assert found["column"].tolist() == [3, 3, 0]
    model = DeepMatrixCompletion(biases=True, calibrate=True).fit((rows, columns, matrix[rows, columns]))
    assert np.allclose(found["predicted"], model.predict([7, 21, 0], [3, 3, 0]), rtol=1e-12)
    assert np.allclose(found["low"], model.predict_interval([7, 21, 0], [3, 3, 0])[0], rtol=1e-12)
    assert (found["low"] <= found["predicted"]).all()
    assert (found["predicted"] <= found["high"]).all()


def test_names_of_ratings_and_pairs_are_compared_as_text(here):
    """Names that begin with zeros, and numbers in one table that are text in the other."""
    matrix, rows, columns = here
    names = {"user": [f"{row:03}" for row in rows], "item": [f"{column:03}" for column in columns]}
    pd.DataFrame(names | {"rating": matrix[rows, columns]}).to_csv("ratings.csv", index=False)
    pd.DataFrame({"user": ["007", "021"], "item": ["003", "000"]}).to_csv("pairs.csv", index=False)
    main(["complete", "ratings.csv", "--out", "run", "--folds", "0", "--pairs", "pairs.csv", "--quiet"])
    found = pd.read_csv("run/predictions.csv", dtype=str)
    assert found["row"].tolist() == ["007", "021"]
    assert np.allclose(found["predicted"].astype(float), matrix[[7, 21], [3, 0]], atol=1e-4)
    pd.DataFrame({"user": ["u07", "u21"], "item": ["3", "0"]}).to_parquet("pairs.parquet", index=False)
    main(["complete", "ratings.parquet", "--out", "again", "--folds", "0", "--pairs", "pairs.parquet", "--quiet"])
    assert pd.read_csv("again/predictions.csv")["column"].tolist() == [3, 0]


def test_input_that_does_not_fit_is_refused(here, capsys):
    run = ["complete", "ratings.csv", "--out", "run", "--quiet"]
    assert "0 or at least 2 folds" in refused(capsys, *run, "--folds", "1")
    assert "a column of ratings.csv" in refused(capsys, *run, "--value", "stars")
    assert "a readable table" in refused(capsys, "complete", "none.csv", "--out", "run")
    assert "smaller dimension" in refused(capsys, *run, "--rank", "41")
    pd.DataFrame({"user": ["u99"], "item": [1]}).to_csv("pairs.csv", index=False)
    run[3] = "unwritten"
    assert "rows that the ratings have" in refused(capsys, *run, "--pairs", "pairs.csv")
    assert "a coverage in [0, 1)" in refused(capsys, *run, "--pairs", "pairs.csv", "--coverage", "1.5")
    assert "pairs to give intervals for" in refused(capsys, *run, "--coverage", "0.9")
    assert "top is an integer of at least 1" in refused(capsys, *run, "--top", "0")
    # All of that before anything is fitted or written.
    assert not Path("unwritten").exists()
    text = Path("ratings.csv").read_text()
    Path("ratings.csv").write_text(text + text.splitlines()[1] + "\n")
    assert "more than once" in refused(capsys, *run)
