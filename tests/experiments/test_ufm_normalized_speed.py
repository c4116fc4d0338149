"""The experiment on speed: its arms start alike, its counts are those of the traces, and its claims can fail."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments.ufm import ufm_normalized_speed as speed
from tightframe.report import page
from tightframe.runs.record import Record

SMALL = speed.Config(classes=3, features=4, per_class=3, decays=(3e-2,), rates=(1.0, 3.0), steps=300, seeds=1)
METRICS = ("NC1", "NC2", "NC3", "excess")
ALL = "all four"


@pytest.fixture(scope="module")
def record() -> Record:
    return speed.EXPERIMENT.run(config=SMALL)


def best(ours: int | None, matched: int | None, normal: int | None) -> dict:
    counts = zip(speed._ARMS, (ours, matched, normal), strict=True)
    return {(3e-2, arm): {f"steps to {name}": count for name in (*METRICS, ALL)} for arm, count in counts}


def test_every_claim_holds_on_a_small_model(record):
    ids = ["N15.ufm.matched.0.03", "N15.ufm.normal.0.03", *(f"N15.ufm.metric.{name}" for name in METRICS)]
    assert {claim.id: claim.verdict for claim in record.claims} == dict.fromkeys(ids, "passed")


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert len(record.tables["rates"]["arm"]) == 3 * 2
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text


def test_the_claim_is_the_ratio_of_the_table(record):
    table = record.tables["best"]
    steps = dict(zip(table["arm"], table[f"steps to {ALL}"], strict=True))
    observed = {claim.id: claim.observed for claim in record.claims}
    expected = steps["spheres"] / steps["decay, norms of the optimum"]
    assert observed["N15.ufm.matched.0.03"] == pytest.approx(expected)


def test_both_models_have_the_same_logits_at_the_start_and_at_the_optimum():
    both = speed.pair(SMALL, 3e-2)
    starts, tau = both.starts(1), both.spheres.temperature
    unit, matched = (starts[arm] for arm in speed._ARMS[:2])
    torch.testing.assert_close(tau * unit.W @ unit.H, matched.W @ matched.H)
    ours, theirs = speed.normalized_optimum(both.spheres).point(), speed.optimum(both.decayed).point()
    # Closed forms of both sides, the one by a scalar root.
    torch.testing.assert_close(tau * ours.W @ ours.H, theirs.W @ theirs.H, atol=1e-9, rtol=0)
    torch.testing.assert_close(theirs.W.norm(dim=1), torch.full((3,), tau**0.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("counts", "verdict", "observed"),
    [
        ((50, 100, 100), "passed", 0.5),
        ((105, 100, 100), "passed", 1.05),
        ((120, 100, 100), "failed", 1.2),
        ((120, None, None), "passed", 0.0),
        ((None, 100, 100), "failed", math.inf),
        ((None, None, None), "not run", None),
    ],
)
def test_a_claim_follows_from_the_counts(counts, verdict, observed):
    claims = speed.judged(SMALL, best(*counts))
    assert len(claims) == 6
    assert {(claim.verdict, claim.observed) for claim in claims} == {(verdict, observed)}


def test_a_target_counts_from_where_it_is_kept():
    rows = [
        {"step": step, "NC1": value, "NC2 features": 0.0, "NC3": 0.0, "excess": last}
        for step, value, last in ((0, 1.0, 1.0), (1, 1e-5, 0.0), (2, 1.0, 0.0), (3, 1e-5, 0.0), (4, 1e-5, 0.0))
    ]
    found = speed.reached(rows, SMALL.targets)
    assert found == {"NC1": 3, "NC2": 0, "NC3": 0, "excess": 1, ALL: 3}
    lost = speed.reached([*rows, {"step": 5}], SMALL.targets)
    assert lost == dict.fromkeys((*METRICS, ALL))


def test_the_median_counts_what_is_never_reached_as_last():
    assert speed.middle([3, None, 5]) == 5
    assert speed.middle([None, 4, None]) is None
    assert speed.middle([3, None]) is None
    rows = [{"rate": rate, f"steps to {ALL}": count} for rate, count in ((1, None), (2, 7), (3, 5), (4, None))]
    assert speed.fastest(rows)["rate"] == 3
    assert speed.fastest(rows[:1])["rate"] == 1


def test_a_diverging_descent_reaches_nothing():
    row = speed.measured((SMALL, 3e-2, "decay, normal start", 1e3))
    assert row[f"steps to {ALL}"] is row["steps to NC1"] is None


def test_a_decay_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match="Use 5e-3"):
        speed.pair(SMALL, 5.0)
