"""The bias experiment: it finds what the closed form says, and fails where that is not so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments.study import Sweep
from tightframe.experiments.ufm import ufm_bias
from tightframe.report import page
from tightframe.runs.record import Record

SMALL = ufm_bias.Config(
    classes=3,
    features=5,
    per_class=4,
    weight_decay=(2e-2, 1e-2),
    biases=("none", "free", 0.5),
    step=0.2,
    steps=2500,
    sweeps=((3, 4, 3, 0.2),),
    coefficients=6,
    thresholds=(0.5, 1.2),
    moving=((3, 40), (4, 40)),
)


@pytest.fixture(scope="module")
def record() -> Record:
    return ufm_bias.EXPERIMENT.run(config=SMALL)


def test_every_claim_holds_on_a_small_model(record):
    assert {claim.id: claim.verdict for claim in record.claims if claim.verdict != "passed"} == {}
    ids = [claim.id for claim in record.claims]
    assert len(set(ids)) == len(ids) == 3 * 4 + 9
    assert "N10.0.5.frame" in ids


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert len(record.panels) == 6
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text


def test_the_sweep_straddles_the_edge_of_the_simplex(record):
    rows = record.tables["coefficients"]
    edge = 0.2 / 0.8
    along = [
        (decay, value)
        for decay, value, part in zip(rows["bias decay"], rows["eigenvalue"], rows["part"], strict=True)
        if part == "along the ones"
    ]
    assert sum(decay < edge for decay, _ in along) == sum(decay > edge for decay, _ in along) == 3
    assert all((value > 1e-3) is (decay > edge) for decay, value in along)


def test_the_descent_is_thinned_and_ends_at_its_last_step():
    found = ufm_bias.descended((replace(SMALL, steps=200, every=1), "none"))
    steps = [row["step"] for row in found["excess"]]
    assert len(steps) <= 151
    assert (steps[0], steps[-1]) == (1, 200)


def test_a_descent_too_short_to_settle_fails_its_claims():
    found = ufm_bias.descended((replace(SMALL, steps=10, every=1), "free"))
    verdicts = {claim.id: claim.verdict for claim in found["claims"]}
    assert verdicts["N10.free.rate"] == "failed"


@pytest.mark.parametrize(
    ("column", "shift", "fails"),
    [
        ("logits error", 1e-6, {"N10.sweep.logits", "N10.zero.before"}),
        ("NC3 alignment", 1e-6, {"N10.sweep.aligned"}),
        ("m", -1e-6, {"N10.sweep.range"}),
        ("scale", -1e-6, {"N10.zero.beyond"}),
    ],
)
def test_a_solution_off_the_closed_form_fails_the_claim(monkeypatch, column, shift, fails):
    """Also one that is off to the negative side."""
    compared = ufm_bias.compared

    def off(problem, *, seed):
        found = compared(problem, seed=seed)
        return found | ({column: found[column] + shift} if column in found else {})

    monkeypatch.setattr(ufm_bias, "compared", off)
    claims = ufm_bias.investigate(replace(SMALL, biases=("none",), steps=50, moving=()), Sweep()).claims
    assert {claim.id for claim in claims if claim.verdict == "failed" and ".none." not in claim.id} == fails


def test_a_diverging_descent_is_refused():
    with pytest.raises(InputError, match="Make the step smaller"):
        ufm_bias.descended((replace(SMALL, step=1e4), "none"))


def test_features_and_classifier_end_aligned_in_the_animation():
    rows = ufm_bias.moved((3, 3000))
    last = [row for row in rows if row["step"] == 3000]
    places = {
        (kind, k): torch.tensor(
            [[row["x"], row["y"]] for row in last if row["kind"] == kind and row["class"] == k]
        ).mean(0)
        for kind in ("feature", "classifier")
        for k in range(3)
    }
    for k in range(3):
        feature, row = places["feature", k], places["classifier", k]
        assert float(feature @ row / feature.norm() / row.norm()) > 0.999
        assert float(feature.norm() / row.norm()) == pytest.approx(2**0.5, rel=0.02)
