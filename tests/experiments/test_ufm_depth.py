"""The depth experiment: what it measures of a descent, and that its claims follow."""

from __future__ import annotations

import pytest

from tightframe.experiments.ufm import ufm_depth
from tightframe.report import page
from tightframe.runs.record import Record

SMALL = ufm_depth.Config(
    classes=3, width=20, per_class=4, decay=5e-3, feature_decay=1e-3, levels=(2, 3), step=1.0, steps=700, seeds=1
)
NAMES = ("H1", "H2", "H3")


@pytest.fixture(scope="module")
def record() -> Record:
    return ufm_depth.EXPERIMENT.run(config=SMALL)


def test_every_model_has_its_claims(record):
    ids = [claim.id for claim in record.claims]
    assert len(set(ids)) == len(ids) == 2 * 4 + 2 * 5
    assert all(claim.verdict != "not run" for claim in record.claims)
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts["N13.identity.2.deepest"] == verdicts["N13.identity.2.structure"] == "passed"


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text


def row(step, objective, *values):
    named = {f"{metric} of {name}": v for name, v in zip(NAMES, values, strict=True) for metric in ("NC1", "NC2 OF")}
    return {"step": step, "objective": objective, **named}


def test_levels_are_compared_from_where_the_data_are_fitted():
    rows = [row(0, 1.0, 4.0, 4.0, 4.0), row(10, 0.05, 1.0, 0.5, 0.1), row(20, 0.04, 0.1, 0.2, 1e-4)]
    found = ufm_depth._compared(rows, rows[1:], NAMES)
    assert found["NC1 ratio"] == pytest.approx((0.1 + 1e-3) / 2)
    assert found["ordered"] == 0.5
    assert found["NC2 shallow fall"] == pytest.approx(0.1 / 4)
    assert found["NC2 deep fall"] == pytest.approx(1e-4 / 4)
    # One decade of the free level against three of the deepest.
    assert found["NC1 slope ratio"] == pytest.approx(1 / 3)


def test_a_descent_that_fits_nothing_leaves_claims_not_run():
    rows = [row(0, 1.0, 4.0, 4.0, 4.0), row(10, 0.9, 1.0, 0.5, 0.1)]
    run = ufm_depth._compared(rows, [], NAMES) | {"model": "ReLU, 3 levels", "kind": "relu", "levels": 3}
    verdicts = {claim.id.rsplit(".", 1)[1]: claim.verdict for claim in ufm_depth._claims([run])}
    assert verdicts["variability"] == verdicts["ordered"] == verdicts["slope"] == "not run"
    assert ufm_depth._answer([run]) == "No model fitted its data."
