"""The linear model of sparse over-parameterisation as an experiment: its claims follow from what is measured."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.experiments import catalog
from tightframe.experiments.labels import corruption_claims, sparse_corruption
from tightframe.experiments.labels.corruption import (
    Corruption,
    approach,
    draw,
    nearest,
    predicted_power,
    recover,
)
from tightframe.experiments.labels.recovery import crossings, row_coherence, transition
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

TINY = sparse_corruption.Config(
    samples=24,
    scales=(1e-1, 1e-3),
    tiny=(1e-10, 1e-50),
    shares=(0.4, 0.2),
    neighbours=(0.2, 0.8),
    dimensions=(0.25, 0.5),
    corruptions=(0.125, 0.375, 0.625),
    trials=2,
    spreads=(0.0, 2.0),
    max_steps=1500,
)
CELL = Corruption(samples=24, dimension=6, corrupted=3, weight=10.0)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("sparse-corruption").run(config=TINY)


def test_every_claim_belongs_to_the_entry_and_was_run(record):
    assert {claim.id.split(".")[0] for claim in record.claims} == {"R2"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 17
    assert "not run" not in {claim.verdict for claim in record.claims}
    assert record.answer.startswith("With a ratio")


def test_what_the_source_states_fails_and_what_is_derived_holds(record):
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts["R2.stated"] == "failed"
    for derived in ("R2.held", "R2.rate", "R2.step", "R2.weight", "R2.power", "R2.falls.wide"):
        assert verdicts[derived] == "passed", derived


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 6


def test_the_tables_hold_every_model(record):
    rows = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    assert rows == {
        "approach": 2 * 2 * 2,
        "flow": 2 * 2,
        "steps": 2,
        "powers": 1,
        "weights": 2 * 2,
        "trials": 2 * 3 * 2,
        "phase": 2 * 2 * 3,
        "transition": 2 * 2,
        "coherence": 2 * 2,
    }


def test_a_draw_is_what_it_says():
    drawn = draw(CELL)
    assert torch.allclose(drawn.J @ drawn.theta + drawn.s, drawn.y)
    moduli = drawn.s.abs()[drawn.s != 0]
    assert len(moduli) == 3
    assert 1 <= float(moduli.min()) <= float(moduli.max()) <= 3
    large = draw(Corruption(samples=500, dimension=400, corrupted=0, weight=1.0))
    # Squared lengths of rows have mean 1 and a standard deviation of (2/400)^0.5 / 500^0.5 = 0.003.
    assert float(large.J.square().sum(1).mean()) == pytest.approx(1, abs=0.02)
    assert not torch.equal(draw(replace(CELL, seed=1)).y, drawn.y)


def test_both_methods_recover_and_fail_where_they_should():
    found = recover(replace(CELL, step_share=0.5, tolerance=1e-3))
    assert found["recovered, convex"]
    assert found["recovered, descent"]
    assert found["error, convex"] < 1e-6
    lost = recover(replace(CELL, corrupted=20, max_steps=500))
    assert not lost["recovered, convex"]
    assert not lost["recovered, descent"]


def test_the_stated_ratio_does_not_depend_on_the_scale():
    assert replace(CELL, stated=True).ratio == replace(CELL, stated=True, scale=1e-2).ratio == 0.1
    assert replace(CELL, scale=1e-4).ratio == pytest.approx(2 * replace(CELL, scale=1e-2).ratio)


def test_the_nearest_weight_is_marked_once():
    wide = replace(CELL, dimension=48, weight=0.8, step_share=0.5, max_steps=2000)
    rows = nearest(wide, (0.2, 0.8))
    assert [row["nearest"] for row in rows] == [False, True]
    assert rows[1]["distance"] < rows[0]["distance"]


def test_coherence_of_rows():
    assert row_coherence(torch.eye(6)[:, :2]) == pytest.approx(3)
    hadamard = torch.tensor([[1.0, 1], [1, -1], [1, 1], [1, -1]])
    assert row_coherence(hadamard) == pytest.approx(1)
    # Columns that repeat do not count.
    assert row_coherence(torch.cat([hadamard, 7 * hadamard], dim=1)) == pytest.approx(1)
    with pytest.raises(DegenerateError, match="not zero"):
        row_coherence(torch.zeros(3, 2))


def test_the_transition_is_the_statistical_dimension():
    # The weak threshold for as many equations as half the unknowns: 0.3858 times half (Donoho and Tanner 2009).
    assert transition(0.5) == pytest.approx(0.193, abs=1e-3)
    # By its definition, the mean squared distance of a Gaussian to the scaled subdifferential, over tau.
    share, noise = transition(0.3), torch.randn(200_000, generator=generator(0), dtype=torch.float64)
    means = [
        share * (1 + t * t) + (1 - share) * float((noise.abs() - t).clamp(min=0).square().mean())
        for t in torch.linspace(0.1, 3, 100).tolist()
    ]
    # Monte-Carlo: the standard deviation of the mean is about 1.5 / 200,000^0.5 = 0.003.
    assert min(means) == pytest.approx(0.7, abs=0.01)
    assert transition(0.2) > transition(0.6)
    with pytest.raises(InputError, match="share in"):
        transition(1.0)


def test_the_predicted_power_of_one_column_is_a_ratio_of_sums():
    cell = Corruption(samples=9, dimension=1, corrupted=2, weight=4.0)
    drawn = draw(cell)
    j, sign = drawn.J[:, 0], drawn.s.sign()
    # j^T nu = theta, with nu = weight sign(s) on the support: the rest share what is left in proportion to sign(j).
    left = abs(float(drawn.theta) - 4.0 * float(j @ sign))
    rho = left / (4.0 * float(j[sign == 0].abs().sum()))
    assert rho < 1
    assert predicted_power(cell) == pytest.approx(2 * (1 - rho), rel=1e-8)


def test_no_power_is_predicted_without_exact_recovery():
    assert predicted_power(replace(CELL, corrupted=20)) is None
    assert predicted_power(replace(CELL, dimension=40)) is None


@pytest.mark.parametrize(
    ("table", "column", "value", "broken"),
    [
        ("approach", "distance", 0.5, {"R2.recovered.descent", "R2.falls.tall", "R2.falls.wide"}),
        ("approach", "distance, flow", 0.5, {"R2.recovered", "R2.recovered.stated"}),
        ("flow", "distance, flow", 0.5, {"R2.held", "R2.rate"}),
        ("powers", "predicted power", -1.0, {"R2.power"}),
        ("steps", "descent to flow", 0.5, {"R2.step"}),
        ("weights", "nearest", True, {"R2.weight"}),
        ("trials", "recovered, descent", False, {"R2.beside.finite", "R2.beside.firm"}),
        ("trials", "recovered, limit", False, {"R2.beside"}),
        ("transition", "predicted", 0.9, {"R2.transition"}),
        ("coherence", "share recovered", 0.5, {"R2.incoherent", "R2.coherent"}),
    ],
)
def test_other_numbers_fail_their_claims(record, table, column, value, broken):
    rows = {name: list(rows_of(columns)) for name, columns in record.tables.items()}
    rows[table] = [row | {column: value} for row in rows[table]]
    failed = {claim.id for claim in corruption_claims.claims_of(rows) if claim.verdict == "failed"}
    assert broken <= failed


def test_crossings_are_areas():
    rows = [
        {"method": "convex program", "dimension/samples": 0.5, "share corrupted": share, "share recovered": recovered}
        for share, recovered in ((0.1, 1.0), (0.2, 0.5), (0.3, 0.0))
    ]
    (found,) = crossings(rows)
    assert found["recovery ends at"] == pytest.approx(0.2)
    assert found["width of grid"] == pytest.approx(0.1)


def test_impossible_plans_are_refused():
    for change in ({"dimensions": (1.0,)}, {"wide": 1.0}, {"scales": (1e-2,)}, {"shares": (0.1,)}):
        with pytest.raises(InputError, match="tall J with fewer columns"):
            replace(TINY, **change)
    with pytest.raises(InputError, match="corrupted rows among"):
        replace(CELL, corrupted=25)


@pytest.mark.parametrize("preset", sparse_corruption.PRESETS)
def test_every_preset_can_be_planned(preset):
    config = sparse_corruption.PRESETS[preset]
    cells = [*sparse_corruption._approaches(config), *sparse_corruption._phases(config)]
    assert all(math.isfinite(cell.ratio) for cell in cells)
    spacing = {round(b - a, 12) for a, b in pairwise(config.corruptions)}
    assert len(spacing) == 1
    assert {round(share * config.samples, 9) % 1 for share in config.corruptions} == {0.0}


def test_approach_reports_the_budget_it_spent():
    row = approach(replace(CELL, max_steps=100))
    assert row["steps"] == 100
    assert row["distance"] > row["distance, flow"]
