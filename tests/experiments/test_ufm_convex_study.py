"""The comparison of the two programs as an experiment: its claims follow from what is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.ufm import ufm_convex
from tightframe.experiments.ufm.programs import Cell, bisect_decay, compare, follow, spectrum
from tightframe.report import page
from tightframe.runs.record import Record

TINY = ufm_convex.Config(
    classes=3,
    features=4,
    largest=8,
    ratios=(1.0, 8.0),
    losses=("ce", "mse"),
    biases=("none", "free"),
    majority=12,
    minorities=(12, 3, 1),
    decays=(2e-2, 5e-2),
    bisected=(2,),
    precision=1e-2,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("ufm-convex").run(config=TINY)


def test_every_claim_holds_and_belongs_to_the_entry(record):
    assert {claim.id.split(".")[0] for claim in record.claims} == {"N3"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 5 + 3 * 2
    assert [claim.id for claim in record.claims if claim.verdict != "passed"] == []
    assert record.answer.startswith("Yes")


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 5


def test_the_tables_hold_every_model(record):
    rows = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    assert rows["agreement"] == 2 * 2 * 2
    assert rows["thresholds"] == 2 * 2
    assert rows["merging"] == 2 * 2 * 3
    assert rows["singular values"] == 2 * 3 * 3
    assert rows["logits"] % 16 == 0
    assert 0.0 in record.tables["merging"]["law"]
    assert max(record.tables["merging"]["law"]) > 0.1


def test_without_balanced_classes_that_claim_is_not_run():
    claims = ufm_convex._agreement_claims([compare(Cell("ce", "none", (8, 2), (1e-2, 1e-2), 2))])
    assert {claim.id: claim.verdict for claim in claims} == {
        "N3.objective.equal": "not run",
        "N3.objective.unequal": "passed",
        "N3.logits.equal": "not run",
        "N3.logits.unequal": "passed",
        "N3.factors": "passed",
    }


@pytest.mark.parametrize(
    ("column", "by", "broken"),
    [
        ("objective difference", 2e-8, "N3.objective.unequal"),
        ("logits difference", 2e-8, "N3.logits.unequal"),
        ("lost in factoring", 2e-8, "N3.factors"),
    ],
)
def test_a_difference_fails_the_claim(column, by, broken):
    row = compare(Cell("mse", 0.1, (8, 2), (1e-2, 1e-2), 2))
    claims = ufm_convex._agreement_claims([row | {column: row[column] + by}])
    assert [claim.id for claim in claims if claim.verdict == "failed"] == [broken]


def test_another_threshold_fails_the_claims():
    cell = Cell("ce", "none", (12, 12, 3, 3), (2e-2, 2e-2), 4, small=2, precision=1e-2)
    threshold, row = bisect_decay(cell), follow(cell)
    wrong = (threshold | {"relative difference": 0.02}, row | {"law": 0.0})
    claims = ufm_convex._merging_claims([wrong[0]], [wrong[1]], replace(TINY, losses=("ce",)))
    assert [claim.verdict for claim in claims] == ["failed"] * 3
    claims = ufm_convex._merging_claims([threshold], [row], replace(TINY, losses=("ce",)))
    assert [claim.verdict for claim in claims] == ["passed"] * 3


def test_singular_values_are_told_apart_by_classes():
    cell = Cell("mse", "none", (16, 16, 16, 4, 4), (1e-2, 1e-2), 5, small=2)
    # Without a bias the squared error thresholds diag(sqrt n_k) at N sqrt(lambda_W lambda_H) = 0.56.
    values = [row["singular value"] for row in spectrum(cell)]
    assert values == pytest.approx([4 - 0.56, 2 - 0.56, 4 - 0.56], abs=1e-9)


def test_groups_of_one_class_and_too_few_features_are_refused():
    for change in ({"groups": ((2, 1),)}, {"features": 3}):
        with pytest.raises(InputError, match="two or more large and small classes"):
            replace(TINY, **change)


def test_every_preset_can_be_planned():
    for config in ufm_convex.PRESETS.values():
        assert ufm_convex._comparisons(config)
        assert all(cell.problem.features >= cell.problem.classes for cell in ufm_convex._followed(config))
