"""The diagram of recovery: methods recover what they should, and claims compare cells as stated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightframe.experiments import catalog
from tightframe.experiments.deeplinear import completion_phases
from tightframe.experiments.deeplinear.completion_methods import DEEP, NUCLEAR, OURS, OVER, TOLD, Case, methods, recover
from tightframe.experiments.deeplinear.completion_phases import Config
from tightframe.experiments.deeplinear.completion_runs import Matrix
from tightframe.report import page
from tightframe.runs.record import Record

TINY = Config(
    size=24, ranks=(1, 2), shares=(0.25, 0.6), seeds=(0,), deep_steps=1000, nuclear_steps=300, reference_seeds=(100,)
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("completion-phases").run(config=TINY)


def test_the_record_survives_its_file_and_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 3
    assert {claim.id.split(".")[0] for claim in record.claims} == {"P8"}
    assert len(record.tables["completions"]["method"]) == 2 * 2 * 5
    assert len(record.tables["diagram"]["method"]) == 2 * 2 * 5


def test_what_the_estimator_recovers_at_the_reference_is_counted(record):
    success = record.tables["d = 100, r = 5"]
    assert success["share"] == [0.25, 0.4]
    assert success["reference"] == [1.0, 1.0]
    claims = {claim.id: claim for claim in record.claims}
    assert claims["P8.success.p=0.25"].observed == success["recovered"][0] == 1.0


@pytest.mark.parametrize("method", [OURS, DEEP, TOLD, NUCLEAR])
def test_every_method_recovers_an_easy_matrix(method):
    row = recover(Case(Matrix(40, 1, 0.6, "factors", 1), method, 3000, 1000))
    assert row["recovered"]
    assert row["error"] < 1e-3
    assert row["freedom per entry"] == pytest.approx(79 / (0.6 * 1600), rel=0.1)


def test_least_squares_of_twice_the_rank_does_not():
    assert not recover(Case(Matrix(40, 2, 0.3, "factors", 1), OVER, 100, 100))["recovered"]


def test_a_budget_too_small_is_told_by_the_error():
    case = Case(Matrix(40, 1, 0.6, "factors", 1), DEEP, 20, 3)
    assert not recover(case)["recovered"]
    assert not recover(replace(case, method=NUCLEAR))["recovered"]


def rows(**recovered):
    names = {"ours": OURS, "deep": DEEP, "told": TOLD, "over": OVER, "nuclear": NUCLEAR}
    defaults = dict.fromkeys(names, (0, 0)) | recovered
    return [
        {"method": names[name], "rank": 2, "share": share, "seed": 0, "recovered": bool(value)}
        | {"freedom per entry": 0.5, "CPU (s)": 0.1, "error": 1.0 - value}
        for name, values in defaults.items()
        for share, value in zip((0.2, 0.4), values, strict=True)
    ]


@pytest.mark.parametrize(
    ("recovered", "expected"),
    [
        ({"ours": (1, 1), "told": (0, 1), "deep": (0, 1), "nuclear": (0, 1)}, ["passed"] * 4),
        ({"ours": (0, 1), "told": (1, 1), "deep": (0, 1), "nuclear": (0, 0)}, ["failed", "passed", "passed", "failed"]),
        ({"ours": (1, 0), "nuclear": (0, 1)}, ["passed", "passed", "failed", "failed"]),
        ({"nuclear": (1, 1)}, ["passed", "failed", "failed", "failed"]),
    ],
)
def test_verdicts_follow_from_cells(recovered, expected):
    found = rows(**recovered)
    claims = completion_phases._diagram_claims(found, completion_phases._cells(found))
    order = ("told", "nuclear", "descent", "everywhere")
    assert [claim.id for claim in claims] == [f"P8.recovers.{name}" for name in order]
    assert [claim.verdict for claim in claims] == expected


def test_the_bar_of_the_reference_is_exact():
    success = [{"share": 0.15, "recovered": 0.75, "reference": 0.8, "matrices": 20}]
    success.append(success[0] | {"recovered": 0.8})
    success.append(success[0] | {"share": 0.17, "reference": None})
    assert [claim.verdict for claim in completion_phases._reference_claims(success)] == ["failed", "passed"]


def test_every_method_has_a_cell_in_the_presets():
    assert set(methods()) == {OURS, DEEP, TOLD, OVER, NUCLEAR}
    for config in completion_phases.PRESETS.values():
        assert max(config.ranks) < config.size
        assert set(config.reference_shares) <= set(completion_phases._REFERENCE)
