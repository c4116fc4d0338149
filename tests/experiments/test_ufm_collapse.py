"""Every loss against every bias: what is measured, and that each claim can fail."""

from __future__ import annotations

import math

import pytest

from tightframe.experiments import catalog
from tightframe.experiments.ufm import ufm_collapse
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

TINY = ufm_collapse.Config(
    sizes=((4, 4, 2), (4, 3, 2)), strengths=(0.05,), crowded=(4,), crowded_losses=("ce",), starts=2
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("ufm-collapse").run(config=TINY)


def test_every_claim_holds_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert {claim.id.split(".")[0] for claim in record.claims} == {"N1"}
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts.pop("N1.below.Petersen") == "not run"
    assert set(verdicts.values()) == {"passed"}
    assert len(verdicts) == 4 * 5 + 5
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 6


def test_the_table_has_every_loss_against_every_bias(record):
    table = record.tables["solutions"]
    rows = list(rows_of(table))
    assert len(rows) == 4 * 3 * 2
    frames = {(row["loss"], row["bias"], row["d"]): (row["predicted frame"], row["found frame"]) for row in rows}
    assert len(frames) == 24
    for (loss, bias, features), (predicted, found) in frames.items():
        expected = "simplex ETF"
        if loss == "squared error" and bias != "free":
            # c = 0.05 < 1: a coefficient of 0.05 lies below c/(1-c), and is still a simplex.
            expected = "simplex ETF" if bias == "0.05" else "orthogonal frame" if features == 4 else "projection"
        assert (predicted, found) == (expected, expected), (loss, bias, features)
    assert {row["status"] for row in rows} == {"converged"}


def test_fewer_dimensions(record):
    table = record.tables["few dimensions"]
    rows = list(rows_of(table))
    assert [(row["bias"], row["d"]) for row in rows] == [(bias, d) for bias in ("none", "free") for d in (2, 3, 4)]
    for row in rows:
        assert (row["gap"] < 1e-9) == (row["d"] >= 3)
        assert row["largest cosine"] == pytest.approx(0 if row["d"] == 2 else -1 / 3, abs=1e-6)
    plane = record.tables["in the plane"]
    corners = list(zip(plane["x"], plane["y"], strict=True))
    assert plane["model"] == ["cross-entropy, bias none"] * 4 + ["cross-entropy, bias free"] * 4
    for square in (corners[:4], corners[4:]):
        assert square[0] == pytest.approx((1, 0), abs=1e-4)
        assert [math.hypot(*corner) for corner in square] == pytest.approx([1.0] * 4, abs=1e-4)


SOLVED = {
    "loss": "cross-entropy",
    "bias": "none",
    "K": 4,
    "d": 4,
    "predicted frame": "simplex ETF",
    "found frame": "simplex ETF",
    "objective error": 0.0,
    "gap": 0.0,
    "worst metric": 0.0,
    "bias norm": 0.0,
    "bias error": 0.0,
}


@pytest.mark.parametrize(
    ("column", "value", "claim"),
    [
        ("objective error", 1e-8, "N1.ce.objective"),
        ("gap", 1e-8, "N1.ce.gap"),
        ("found frame", "between", "N1.ce.frame"),
        ("worst metric", 1e-5, "N1.ce.collapse"),
        ("bias norm", 1e-5, "N1.ce.bias"),
    ],
)
def test_a_solution_that_is_off_fails_its_claim(column, value, claim):
    claims = ufm_collapse._grid_claims("ce", [SOLVED, SOLVED | {column: value}])
    assert [c.id for c in claims if c.verdict == "failed"] == [claim]


CROWDED = {"bias": "none", "K": 10, "d": 5, "gap": 0.1, "largest cosine": 0.0, "bound": 0.0}


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"gap": 0.0}, ["N1.below.gap"]),
        ({"d": 9, "gap": 1e-3, "largest cosine": -1 / 9, "bound": -1 / 9}, ["N1.below.enough"]),
        ({"d": 6, "largest cosine": -0.01}, ["N1.below.bound"]),
        ({"largest cosine": 0.01}, ["N1.below.orthoplex"]),
        ({"d": 2, "largest cosine": 0.82, "bound": 0.81}, ["N1.below.polygon"]),
        ({"d": 4, "largest cosine": 0.2}, ["N1.below.Petersen"]),
        ({"d": 4, "largest cosine": None}, []),
    ],
)
def test_a_crowd_that_is_off_fails_its_claim(changes, failed):
    claims = ufm_collapse._crowded_claims([CROWDED, CROWDED | changes])
    assert [c.id for c in claims if c.verdict == "failed"] == failed
