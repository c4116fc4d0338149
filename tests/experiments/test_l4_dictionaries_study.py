"""Whole dictionaries by repeated trials, and preconditioning, as an experiment."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightframe.experiments import catalog
from tightframe.experiments.dictionary import dictionary_claims, l4_dictionaries
from tightframe.experiments.dictionary.l4_landscapes import Sparse
from tightframe.experiments.dictionary.l4_phases import (
    coupons,
    expected_trials,
    predicted_deviation,
    sampled_trials,
    tightness,
)
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

TINY = l4_dictionaries.Config(
    growth=(6, 12),
    trials=40,
    phase=(8, 10),
    ratios=(1.0, 1.25, 2.0),
    samples=3_000,
    claimed=1.25,
    plane=(8, 10),
    densities=(0.1, 0.7),
    counts=(40, 3_000),
    conditioned=((5, 5), (5, 9)),
    tightened=(2_000, 64_000),
    averages=20,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("l4-dictionaries").run(config=TINY)


def test_every_claim_belongs_to_the_entry_and_was_run(record):
    assert [claim.id for claim in record.claims] == [
        "D4.order",
        "D4.trials",
        "D4.deflation",
        "D4.spent",
        "D4.samples",
        "D5.rate",
        "D5.size",
    ]
    assert "not run" not in {claim.verdict for claim in record.claims}
    assert record.answer.startswith("With infinitely many samples half of the trials succeed up to an m")


def test_what_holds_on_small_dictionaries(record):
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    for name in ("D4.deflation", "D4.spent", "D5.rate", "D5.size"):
        assert verdicts[name] == "passed", name


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 6


def test_the_tables_hold_every_cell(record):
    rows = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    # Distinct m of the grids from n to n^2.
    sizes = sum(len({item[0].atoms for item in l4_dictionaries._growth(replace(TINY, growth=(n,)))}) for n in (6, 12))
    assert rows.pop("limits") >= 2
    assert rows == {
        "growth": sizes,
        "trials": 2 * 3 * 2 + 2 * 2 * 2,
        "phase": 2 * 3,
        "plane": 2 * 2,
        "tightness": 2 * 2,
    }


def test_few_samples_and_dense_codes_fail(record):
    table = record.tables["plane"]
    shares = {row[:2]: row[2] for row in zip(table["theta"], table["p"], table["share"], strict=True)}
    assert shares[(0.1, 3_000)] > 0.9
    assert shares[(0.1, 40)] < shares[(0.1, 3_000)]
    assert shares[(0.7, 3_000)] < shares[(0.1, 3_000)]


def test_every_start_finds_a_column_of_an_orthogonal_dictionary_and_few_of_too_many():
    assert expected_trials((Sparse(8, 8), 50))["share"] == 1
    assert expected_trials((Sparse(8, 64), 50))["share"] < 0.5


def test_the_limit_of_m_is_where_the_share_falls_through_a_half():
    shares = [{"samples": "infinite", "n": 4, "m": m, "share": s} for m, s in ((16, 0.0), (4, 1.0))]
    (limit,) = l4_dictionaries._limits(shares)
    assert limit["m"] == pytest.approx(8)
    assert limit["m/n^2"] == pytest.approx(0.5)
    assert l4_dictionaries._limits([{"samples": "infinite", "n": 4, "m": 4, "share": 1.0}]) == []


def test_coupons_are_enough_in_nineteen_runs_of_twenty():
    drawn = torch.randint(30, (2000, coupons(30)), generator=torch.Generator().manual_seed(0))
    whole = sum(len(row.unique()) == 30 for row in drawn) / 2000
    # exp(-exp(-3)) = 0.951 with a standard deviation of 0.005.
    assert whole == pytest.approx(0.951, abs=0.02)


def test_trials_and_deflation_on_data():
    row = sampled_trials(Sparse(8, 10, 3_000, 0.1, seed=1))
    assert row["share"] > 0.9
    assert row["found with deflation"] == 1
    assert 0 < row["trials with deflation"] <= row["trials"] == coupons(10)
    gaussian = sampled_trials(Sparse(8, 10, 300, 1.0))
    assert gaussian["found with deflation"] < 1


def test_the_predicted_deviation_is_that_of_many_draws():
    """Brute force in whitened coordinates: |B C B^T - I| for the sample covariance C of codes, its trace scaled out."""
    cell = Sparse(4, 6, 4_000, 0.2, frame="gaussian")
    atoms = cell.dictionary
    values, vectors = torch.linalg.eigh(atoms.T @ atoms)
    whitened = atoms @ vectors / values.sqrt() @ vectors.T
    squares = []
    for seed in range(200):
        rows = replace(cell, seed=seed).rows(whitened) / cell.density**0.5
        moment = rows.T @ rows / cell.samples
        squares.append((moment * 4 / moment.trace() - torch.eye(4, dtype=torch.float64)).square().sum())
    measured = float(torch.stack(squares).mean().sqrt())
    # A mean of 200 squares, each of about nine degrees of freedom: a standard deviation of 2 % of the root.
    assert predicted_deviation(atoms, cell.density, cell.samples) == pytest.approx(measured, rel=0.08)


def test_preconditioning_helps_and_more_samples_help_more():
    few, many = (tightness(Sparse(5, 9, p, 0.1, frame="gaussian")) for p in (1_000, 64_000))
    assert many["deviation"] < few["deviation"] < few["before"] == many["before"]


def test_claims_fail_where_m_grows_as_n_and_where_columns_are_missed(record):
    def rows(name):
        table = record.tables[name]
        return list(rows_of(table))

    limits = [{"n": n, "m": 2 * n, "m/n^2": 2 / n} for n in (8, 16, 32)]
    trials = rows("trials")
    phase = [row | {"found by trials": 0.9, "found with deflation": 0.9} for row in trials if row["m/n"] <= 1.25]
    plane = [row | {"share": 0.5} for row in trials]
    tight = [tightness(Sparse(4, 4, p, 0.1, seed=seed, frame="gaussian")) for p in (200, 2_000) for seed in range(4)]
    spoiled = [row | {"deviation": 1.0, "deviation, Frobenius": 1.0} for row in tight]
    claims = dictionary_claims.claims_of(limits, phase, plane, spoiled)
    verdicts = {claim.id: claim.verdict for claim in claims}
    assert verdicts.pop("D4.spent") == "passed"
    assert set(verdicts.values()) == {"failed"}
    assert dictionary_claims.claims_of([], phase, plane, tight)[0].verdict == "not run"


def test_presets_grow():
    smoke, quick, paper = (l4_dictionaries.PRESETS[name] for name in ("smoke", "quick", "paper"))
    assert set(smoke.growth) < set(quick.growth) < set(paper.growth)
    assert smoke.samples < quick.samples < paper.samples
    assert paper.draws == 10
    for config in (smoke, quick, paper):
        assert config.claimed in config.ratios
