"""The experiment on two levels: it passes where the theorems hold, and fails where its numbers do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightframe.experiments.ufm import chains, ufm_extended
from tightframe.report import page
from tightframe.runs.record import Record

SMALL = ufm_extended.Config(
    classes=3,
    width=20,
    per_class=4,
    decays=(5e-3, 2.5e-3, 1e-3),
    step=1.0,
    steps=800,
    seeds=2,
    thresholds=(0.3, 1.03),
    factors=(2, 3),
    starts=1,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return ufm_extended.EXPERIMENT.run(config=SMALL)


def test_the_theorems_hold_on_a_small_model(record):
    settled = [claim for claim in record.claims if ".descent." not in claim.id]
    assert {claim.id: claim.verdict for claim in settled if claim.verdict != "passed"} == {}
    ids = [claim.id for claim in record.claims]
    assert len(set(ids)) == len(ids) == 3 * 4 + 2 + 4 + 2
    assert {claim.id: claim.verdict for claim in record.claims}["N11.linear.descent.NC2 OF.H1"] == "passed"


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert len(record.panels) == 6
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text


def test_curves_are_thinned_and_end_at_the_last_step():
    found = ufm_extended.descended((replace(SMALL, steps=200, every=1), "relu", (0.1, 0.1, 0.2)))
    steps = sorted({row["step"] for row in found["metrics"]})
    assert len(steps) <= 151
    assert (steps[0], steps[-1]) == (1, 200)
    assert {row["model"] for row in found["metrics"]} == {"ReLU, larger H1"}
    assert {row["level"] for row in found["metrics"]} == {"H1", "H2", "W1 H1"}


def test_a_descent_too_short_fails():
    found = ufm_extended.descended((replace(SMALL, steps=5, every=1), "identity", (0.1, 0.1, 0.1)))
    verdicts = {claim.id: claim.verdict for claim in ufm_extended._descent_claims(found)}
    assert set(verdicts.values()) == {"failed"}


@pytest.mark.parametrize(
    ("column", "shift", "fails"),
    [
        ("objective", 1e-6, {"N11.ReLU.minimum"}),
        ("NC2 OF of H2", 1e-2, {"N11.ReLU.collapse"}),
        ("nuclear norm after", 1.0, {"N11.ReLU.condition"}),
        ("NC2 OF of H1", -1.0, {"N11.ReLU.shallow"}),
    ],
)
def test_claims_about_minima_follow_from_the_numbers(column, shift, fails):
    row = ufm_extended.minimum((SMALL, "relu", 0))
    moved = [row | {column: row[column] + shift}]
    failed = {c.id for c in ufm_extended._minimum_claims(SMALL, "relu", moved) if c.verdict == "failed"}
    assert failed == fails


def test_a_chain_beyond_its_threshold_ends_at_zero_or_at_a_local_minimum():
    rows = chains.thresholded((3, 1.03, 2))
    assert min(row["excess"] for row in rows) == pytest.approx(0.0, abs=1e-12)
    assert {row["predicted"] for row in rows} == {0.0}
    shifted = [row | {"excess": row["excess"] - 1e-6} for row in rows]
    assert {c.id for c in chains.threshold_claims(shifted) if c.verdict == "failed"} == {"N11.chains.minimum"}
