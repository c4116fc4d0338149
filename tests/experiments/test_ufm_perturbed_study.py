"""The experiment on perturbed features: it holds on a small model, and fails with another factor."""

from __future__ import annotations

import pytest

from tightframe.core.errors import InputError
from tightframe.experiments.study import Sweep
from tightframe.experiments.ufm import ufm_perturbed
from tightframe.report import page
from tightframe.runs.record import Record

SMALL = ufm_perturbed.Config(dimensions=(5,), noises=(0.5, 1.0), samples=(15, 60, 240), seeds=6)


@pytest.fixture(scope="module")
def record() -> Record:
    return ufm_perturbed.EXPERIMENT.run(config=SMALL)


def test_every_claim_holds_on_a_small_model(record):
    assert {claim.id: claim.verdict for claim in record.claims} == dict.fromkeys(
        ["N12.limit", "N12.factor", "N12.direction", "N12.constant"], "passed"
    )


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text
    # Two noises with and without bias, and two more distributions, at three n.
    assert len(record.tables["errors"]["n"]) == 6 * 3
    assert len(record.tables["factors"]["n"]) == 3 * 13


def test_another_factor_fails(monkeypatch):
    true = ufm_perturbed.attenuation
    monkeypatch.setattr(ufm_perturbed, "attenuation", lambda problem, noise: 0.9 * true(problem, noise))
    claims = ufm_perturbed.investigate(SMALL, Sweep()).claims
    verdicts = {claim.id: claim.verdict for claim in claims}
    assert verdicts["N12.limit"] == verdicts["N12.factor"] == verdicts["N12.constant"] == "failed"
    assert verdicts["N12.direction"] == "passed"


def test_another_constant_fails(monkeypatch):
    true = ufm_perturbed.expected_error
    monkeypatch.setattr(ufm_perturbed, "expected_error", lambda problem, noise: 0.5 * true(problem, noise))
    verdicts = {claim.id: claim.verdict for claim in ufm_perturbed.investigate(SMALL, Sweep()).claims}
    assert verdicts["N12.constant"] == "failed"
    assert verdicts["N12.limit"] == "passed"


def test_no_seed_occurs_twice_on_a_curve(monkeypatch):
    seeds, true = [], ufm_perturbed.perturbed_features

    def noted(problem, noise, *, seed, distribution):
        seeds.append(seed)
        return true(problem, noise, seed=seed, distribution=distribution)

    monkeypatch.setattr(ufm_perturbed, "perturbed_features", noted)
    for samples in range(15, 20):
        ufm_perturbed.measure(ufm_perturbed.Cell(5, 0.5, "normal", "none", samples, SMALL))
    assert len(set(seeds)) == len(seeds) == 5 * SMALL.seeds


@pytest.mark.parametrize("changes", [{"samples": (10, 1000)}, {"noises": (0.0, 1.0)}, {"noises": (-1.0,)}])
def test_what_leaves_no_line_to_draw_is_refused(changes):
    with pytest.raises(InputError, match="noises above zero"):
        ufm_perturbed.Config(**({"dimensions": (20,)} | changes))
