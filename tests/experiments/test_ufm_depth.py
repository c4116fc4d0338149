"""The experiment on depth: what it measures, and claims that follow from the numbers in both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightframe.core.errors import InputError
from tightframe.experiments import ufm_depth
from tightframe.experiments.study import Sweep
from tightframe.report import page
from tightframe.runs.record import Record

SMALL = ufm_depth.Config(classes=3, width=6, per_class=4, levels=(2, 3), scale=0.3, step=0.3, steps=600, seeds=1)


@pytest.fixture(scope="module")
def record() -> Record:
    return ufm_depth.EXPERIMENT.run(config=SMALL)


def runs(kind: str, **changes: float | None) -> list[dict]:
    """One run of two levels for which every claim about its kind holds."""
    row = {"kind": kind, "levels": 2, "model": f"{kind}, 2 levels", "seed": 0, "NC2 deep fall": 0.01}
    if kind == "identity":
        row |= {"NC1 ratio": 0.5, "NC1 slope ratio": 0.9, "NC2 shallow fall": 0.02, "ordered": 0.5}
    else:
        row |= {"NC1 ratio": 0.01, "NC1 slope ratio": 0.3, "NC2 shallow fall": 0.9, "ordered": 1.0}
    return [row | changes]


def verdicts(rows: list[dict]) -> dict[str, str]:
    return {claim.id.split(".")[-1]: claim.verdict for claim in ufm_depth._claims(rows)}


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert len({claim.id for claim in record.claims}) == len(record.claims)
    assert all(claim.observed is not None for claim in record.claims)
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text


def test_claims_are_those_of_the_table(record):
    table = record.tables["runs"]
    observed = {claim.id: claim.observed for claim in record.claims}
    for kind, levels, fall in zip(table["kind"], table["levels"], table["NC2 shallow fall"], strict=True):
        assert observed[f"N13.{kind}.{levels}.structure"] == fall


def test_every_level_is_in_the_profile(record):
    assert len(record.tables["profiles"]["level"]) == 2 * 2 * (2 + 3)
    assert set(record.tables["profiles"]["level"]) == {"H1", "H2", "H3"}


@pytest.mark.parametrize("kind", ["identity", "relu"])
def test_all_claims_can_hold(kind):
    assert set(verdicts(runs(kind)).values()) == {"passed"}


@pytest.mark.parametrize(
    ("kind", "changes", "fails"),
    [
        ("identity", {"NC1 ratio": 0.01}, "variability"),
        ("identity", {"NC1 slope ratio": 0.3}, "slope"),
        ("identity", {"NC2 shallow fall": 0.9}, "structure"),
        ("relu", {"NC1 ratio": 0.9}, "variability"),
        ("relu", {"NC1 slope ratio": 0.9}, "slope"),
        ("relu", {"NC2 shallow fall": 0.02}, "structure"),
        ("relu", {"NC2 deep fall": 0.9}, "deepest"),
        ("relu", {"ordered": 0.5}, "ordered"),
    ],
)
def test_a_claim_fails_where_its_number_does(kind, changes, fails):
    assert {key for key, verdict in verdicts(runs(kind, **changes)).items() if verdict != "passed"} == {fails}


def test_what_was_not_fitted_is_not_claimed():
    missing = dict.fromkeys(("NC1 ratio", "NC1 slope ratio", "ordered"))
    told = verdicts(runs("relu", **missing))
    assert {key for key, verdict in told.items() if verdict == "not run"} == {"variability", "slope", "ordered"}


def test_a_diverging_descent_is_refused():
    with pytest.raises(InputError, match="Make the step smaller"):
        ufm_depth.investigate(replace(SMALL, step=1e4, scale=2.0), Sweep())
