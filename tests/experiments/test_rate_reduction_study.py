"""Rate reduction against cross-entropy as an experiment: its claims follow from what is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.levers import rate_reduction, rate_training
from tightframe.report import page
from tightframe.runs.record import Record

# Too short for the claims on networks to hold: they are judged by made-up rows below.
TINY = rate_reduction.Config(
    recipe=rate_training.Recipe(limit=300, width=32, epochs=3, batch=100, watched=3),
    features=(24,),
    eps2=(0.5, 0.1),
    layers=3,
    channels=2,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("rate-reduction").run(config=TINY)


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 4


def test_every_claim_belongs_to_the_entry_and_is_judged(record):
    names = [claim.id for claim in record.claims]
    assert len(set(names)) == len(names) == 5 * 2 + 1 + 3
    assert {name.split(".")[0] for name in names} == {"N9"}
    assert "not run" not in {claim.verdict for claim in record.claims}
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    # Three epochs do not reach the optimum, and shifts change no label whatever the training.
    assert verdicts["N9.optimum.d24.eps0.5"] == "failed"
    assert verdicts["N9.redunet.shifts"] == "passed"


def test_the_tables_hold_every_network(record):
    rows = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    assert rows["networks"] == 3
    assert rows["rates"] == 3 * 4
    assert rows["cosines"] == 2 * (10 * 6) ** 2
    assert rows["constructed"] == 2 * 4 * 3
    assert rows["spectra"] == 2 * 10 * 10
    shares = record.tables["networks"]["share of optimum"]
    assert all(0 < share < 1 for share in shares)


def test_training_is_repeated_by_its_seed_and_leaves_the_global_state_alone():
    cell = rate_training.Cell(TINY.recipe, "mcr2", 24, 0.5, 0)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = rate_training.train(cell)
    assert torch.equal(torch.rand(2), expected)
    assert rate_training.train(cell) == first
    assert rate_training.train(replace(cell, seed=1)).row != first.row


def ideal(loss: str, **changes) -> dict:
    """A network as the theory has it: orthogonal subspaces of d/K dimensions, or one direction per class."""
    spread = loss == "mcr2"
    row = {"loss": rate_training.NAMES[loss], "d": 64, "eps2": 0.5, "seed": 0, "d/K": 6.4}
    row |= {"rank of a class": 6.4 if spread else 1.0, "smallest angle": 90.0 if spread else 60.0}
    row |= {"mean squared cosine": 0.0 if spread else 0.4, "dimensions in all": 64 if spread else 10}
    row |= {"smallest dimension": 6 if spread else 1, "largest dimension": 7 if spread else 1}
    row |= {"nearest subspace accuracy": 0.98, "share of optimum": 1.0 if spread else 0.3, "optimum": 25.4}
    return row | {"classifier accuracy": None if spread else 0.98} | changes


@pytest.mark.parametrize(
    ("loss", "changes", "broken"),
    [
        ("mcr2", {}, []),
        ("mcr2", {"rank of a class": 6.8}, ["N9.rank.d64.eps0.5"]),
        ("mcr2", {"rank of a class": 6.0}, ["N9.rank.d64.eps0.5"]),
        ("mcr2", {"mean squared cosine": 0.02}, ["N9.orthogonal.d64.eps0.5"]),
        ("mcr2", {"dimensions in all": 62}, ["N9.fill.d64.eps0.5"]),
        ("mcr2", {"dimensions in all": 66}, ["N9.fill.d64.eps0.5"]),
        ("mcr2", {"share of optimum": 0.98}, ["N9.optimum.d64.eps0.5"]),
        ("mcr2", {"nearest subspace accuracy": 0.96}, ["N9.accuracy.d64.eps0.5"]),
        ("ce", {"rank of a class": 1.6}, ["N9.collapse.d64"]),
    ],
)
def test_another_geometry_fails_the_claims(loss, changes, broken):
    rows = [ideal(kind, **(changes if kind == loss else {})) for kind in ("ce", "mcr2")]
    claims = rate_reduction._claims(rows, rate_reduction.Config())
    assert [claim.id for claim in claims if claim.verdict != "passed"] == broken


def test_a_layer_that_lowers_the_rate_fails_its_claim():
    rows = [
        {"network": "vectors", "rate": "rate reduction", "nats": value, "layer": i}
        for i, value in enumerate((1.0, 2.0, 1.9, 2.1))
    ]
    (claim,) = rate_reduction._white_claims(rows)
    assert (claim.observed, claim.verdict) == (1.0, "failed")


def test_every_preset_can_be_planned():
    for config in rate_reduction.PRESETS.values():
        cells = rate_reduction._cells(config)
        assert {cell.loss for cell in cells} == {"ce", "mcr2"}
        assert [cell.loss for cell in cells[:2]] == ["ce", "mcr2"]
        assert {(cell.features, cell.eps2, cell.seed) for cell in cells[:2]} == {
            (config.features[0], config.eps2[0], config.seeds[0])
        }
    assert not rate_reduction._white(rate_reduction.PRESETS["paper"])


def test_nothing_to_train_is_refused():
    with pytest.raises(InputError, match="a dimension of at least 2, a precision and a seed"):
        rate_reduction.Config(seeds=())
