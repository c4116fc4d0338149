"""The study of spheres at the size of seconds, and that its claims fail where the numbers do not hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightframe.experiments.catalog import entry
from tightframe.experiments.ufm import sphere_claims, spheres
from tightframe.experiments.ufm.ufm_normalized import EXPERIMENT, Config
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm
from tightframe.ufm.normalized_saddles import single_classifier

TINY = Config(
    cells=((2, 4, 2), (3, 2, 2)),
    temperatures=(1.0, 6.0, 12.0),
    per_class=2,
    saddle_temperatures=(1.0, 8.0, 3),
    searched=((3, 3),),
    searched_temperatures=(0.7,),
    searches=3,
    plane_temperatures=(1.8, 2.5, 2),
    plane_per_class=60,
    crowded=((4, 2),),
    crowded_starts=2,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return EXPERIMENT.run(config=TINY)


def test_every_claim_holds_on_a_small_model(record):
    assert {claim.id: claim.verdict for claim in record.claims if claim.verdict != "passed"} == {}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 12
    assert all(claim.id.split(".")[0] in entry("ufm-normalized").claims for claim in record.claims)


def test_the_record_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    text = page.render([record])
    for panel in record.panels:
        assert panel.title in text
    assert "2(d - 2) = 4" in record.answer


def test_the_fixed_direction_turns_at_the_proven_temperature():
    """Against the curvature along every b of a circle, in the plane orthogonal to the classifier."""
    for temperature in (1.0, 2.0, 3.0):
        problem = NormalizedFeatures(classes=4, features=3, per_class=4, temperature=temperature)
        point = single_classifier(problem, even=True)
        form = SphereForm(problem, point.W, point.H)
        plane = torch.linalg.svd(form.W[:1], full_matrices=True).Vh[1:]
        u = torch.tensor([1.0, 1.0, -1.0, -1.0]).double()
        found = []
        for angle in torch.linspace(0, 3.1, 40, dtype=torch.float64):
            b = angle.cos() * plane[0] + angle.sin() * plane[1]
            dW, dH = torch.outer(u, b), (b[:, None] - form.H * (b @ form.H)) * u[problem.labels]
            found.append(form.curvature_along(dW, dH) / float(dW.square().sum() + dH.square().sum()))
        lowest = spheres.fixed_mixture(problem, point)
        assert lowest == pytest.approx(min(found), abs=1e-12)
        assert (lowest > 1e-12, lowest < -1e-12) == (temperature > 2, temperature < 2)


def test_claims_fail_where_the_numbers_do_not_hold(record):
    rows = spheres.started(((3, 2, 5, 15.0), 3)), spheres.started(((3, 4, 2, 1.0), 2))
    assert rows[0]["share"] < 1
    proven = dict(rows[1])
    for change, broken in (
        ({"certified": 1}, "N14.starts.proven"),
        ({"lowest gap": -1e-6}, "N14.value"),
        ({"error of cosines": 0.1}, "N14.collapse"),
    ):
        claims = sphere_claims.start_claims([proven | change])
        assert [claim.id for claim in claims if claim.verdict == "failed"] == [broken]
    # Of d < K nothing is claimed.
    shares = {claim.id: claim for claim in sphere_claims.start_claims(rows)}
    assert shares["N14.starts.beyond"].verdict == "not run"
    points = [
        {"found": True, "kind": "other", "way down": "none"},
        {"found": True, "kind": "strict saddle", "way down": "null space"},
        {"found": False},
    ]
    assert [claim.verdict for claim in sphere_claims.search_claims(points)] == ["failed", "passed"]
    points[0] = {"found": True, "kind": "strict saddle", "way down": "eigenvector"}
    assert [claim.verdict for claim in sphere_claims.search_claims(points)] == ["passed", "failed"]
    assert [claim.verdict for claim in sphere_claims.search_claims(points[2:])] == ["not run", "not run"]
    held = [spheres.held((60, temperature)) for temperature in (1.8, 2.5)]
    assert [claim.verdict for claim in sphere_claims.plane_claims(held)] == ["passed", "passed"]
    assert [claim.verdict for claim in sphere_claims.plane_claims([held[0]])] == ["passed", "failed"]


def test_presets_grow(record):
    assert set(EXPERIMENT.presets) == set(EXPERIMENT.entry.presets)
    assert EXPERIMENT.presets["quick"] == Config()
    assert replace(TINY, searches=3) == TINY
