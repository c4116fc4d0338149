"""The landscape experiment: it finds what theory says of small models, and fails where that is not so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightframe.experiments.study import Sweep
from tightframe.experiments.ufm import ufm_landscape
from tightframe.report import page
from tightframe.runs.record import Record

SMALL = ufm_landscape.Config(
    features=(2, 3, 5),
    losses=("ce", "mse"),
    models=(("equal classes", "none", 4, 2), ("unequal classes", "none", (8, 4, 4, 2), 1)),
    searches=3,
    narrow=((4, 4), (4, (8, 4, 4, 2))),
    narrow_starts=8,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return ufm_landscape.EXPERIMENT.run(config=SMALL)


def test_every_claim_holds_on_a_small_model(record):
    assert {claim.id: claim.verdict for claim in record.claims if claim.verdict != "passed"} == {}
    ids = [claim.id for claim in record.claims]
    # Claims are made from d = K - 1 on.
    assert ids[:4] == ["N2.ce.d3", "N2.ce.d5", "N2.mse.d3", "N2.mse.d5"]
    assert len(set(ids)) == len(ids) == 4 + 7
    assert record.answer.startswith("From d = K - 1 on, 12 of 12 random starts")
    assert record.answer.endswith("local minima that are not global were found with ce.")


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert len(record.panels) == 4
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text


def test_below_the_dimension_of_the_simplex_no_bound_is_reached_for_cross_entropy(record):
    starts = record.tables["starts"]
    shares = {(loss, d): share for loss, d, share in zip(starts["loss"], starts["d"], starts["share"], strict=True)}
    assert shares[("ce", 2)] == 0
    assert shares[("mse", 2)] == 1
    assert set(starts["dimension"]) == {"K − 2 = 2", "K − 1 = 3", "K + 1 = 5"}


def test_newton_and_constructions_are_counted_apart(record):
    kinds, points = record.tables["kinds"], record.tables["critical points"]
    assert sum(kinds["starts"]) == points["found by"].count("Newton") == 2 * 3 * 3
    assert points["found by"].count("descent") == 2 * 3
    assert min(points["objective above the lowest"]) == 0


def test_two_dimensions_short_of_k_unequal_classes_have_a_local_minimum_and_equal_ones_do_not(record):
    table = record.tables["ends"]
    rows = list(zip(*(table[name] for name in ("loss", "samples", "above", "isolated")), strict=True))
    assert [row[2] for row in rows if row[:2] == ("ce", "4 each")] == [0.0]
    (lowest, higher) = [row[2:] for row in rows if row[:2] == ("ce", "8, 4, 4, 2")]
    assert lowest == (0.0, True)
    assert higher[0] > 1e-5
    assert higher[1]
    # Eckart and Young: the squared error has none.
    assert all(row[2] == 0 for row in rows if row[0] == "mse")
    assert sum(table["starts"]) == 4 * 8


def test_claims_fail_where_descent_stays_at_a_saddle(monkeypatch):
    solve = ufm_landscape.solve
    monkeypatch.setattr(ufm_landscape, "solve", lambda problem, **options: solve(problem, **options, max_iterations=1))
    tiny = replace(SMALL, losses=("ce",), features=(5,), models=SMALL.models[:1], searches=1, narrow=())
    verdicts = {claim.id: claim.verdict for claim in ufm_landscape.investigate(tiny, Sweep()).claims}
    assert verdicts["N2.ce.d5"] == verdicts["N2.saddles.escaped"] == "failed"
    assert verdicts["N2.saddles.curvature"] == "passed"
    assert verdicts["N2.kinds.conjecture"] == "not run"


def test_claims_fail_where_another_kind_is_found(monkeypatch):
    survey = ufm_landscape.survey

    def spoiled(problem, searches):
        return [(how, replace(point, kind="other")) for how, point in survey(problem, searches)]

    monkeypatch.setattr(ufm_landscape, "survey", spoiled)
    tiny = replace(SMALL, losses=("ce",), features=(3, 5), models=SMALL.models[:1], searches=1, narrow=())
    verdicts = {claim.id: claim.verdict for claim in ufm_landscape.investigate(tiny, Sweep()).claims}
    assert verdicts["N2.kinds.theorem"] == verdicts["N2.kinds.conjecture"] == "failed"


def test_presets_grow_and_meet_what_the_claim_asks():
    smoke, quick, paper = (ufm_landscape.PRESETS[name] for name in ("smoke", "quick", "paper"))
    assert smoke.searches < quick.searches < paper.searches
    assert max(starts for *_, starts in quick.models) >= 200
    for config in (quick, paper):
        assert {config.classes - 1, config.classes, config.classes + 1, 2 * config.classes} <= set(config.features)
        assert set(config.losses) == {"ce", "ls", "focal", "mse"}
