"""Certificates over depth as an experiment: rows against dense solves, claims that follow and can fail."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.data.curves import circle, wavy_circle
from tightframe.experiments import catalog
from tightframe.experiments.ntk import certificate_claims, certificate_depth
from tightframe.experiments.ntk.certificate_runs import DecayCell, NormCell, WavyCell, bent, cheapest, decay, norm
from tightframe.experiments.ntk.curve_pairs import CurvePair
from tightframe.ntk.kernel import relu_ntk
from tightframe.report import page
from tightframe.runs.record import Record

TINY = certificate_depth.Config(
    separations=(0.8, 0.4),
    depths=(1, 10, 50),
    points=200,
    pairs=(0.2,),
    kinds=("coaxial circles", "tilted circles", "spiral arms"),
    density=6.0,
    followed=(2, 25),
    times=(0.3, 3.0, 30.0),
    waves=(0, 6),
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("certificate-depth").run(config=TINY)


def test_claims_belong_to_the_entry_and_follow(record):
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert {name.split(".")[0] for name in verdicts} == {"K4"}
    assert len(verdicts) == len(record.claims) == 10
    for name in ("norms", "depth", "bound", "rate", "curvature", "rule.cost"):
        assert verdicts[f"K4.{name}"] == "passed", name
    # Circles that tilt towards each other ask for less depth than circles at constant distance.
    assert verdicts["K4.rule.others"] == "failed"
    assert "theory for parallel curves says 5.72" in record.answer


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 5


def circles(apart: float, points: int) -> torch.Tensor:
    turn = 2 * math.pi * torch.arange(points, dtype=torch.float64) / points
    return torch.cat(
        [
            torch.stack((math.cos(v) * turn.cos(), math.cos(v) * turn.sin(), math.sin(v) * torch.ones(points)), dim=1)
            for v in (math.pi / 4, math.pi / 4 - apart)
        ]
    )


def test_norms_and_errors_by_a_dense_solve():
    points = circles(0.4, 30)
    matrix = relu_ntk(points, depth=7, exact=True) / 60
    zeta = torch.tensor([-1.0, 1.0]).double().repeat_interleave(30)
    g = torch.linalg.solve(matrix, zeta)
    size = float(g.norm()) / math.sqrt(60)
    row = norm(NormCell(0.4, 7, 30))
    # The table of the kernel is exact to 1e-10 of its peak, over the least eigenvalue of the solve.
    assert math.isclose(row["norm"], size, rel_tol=1e-6)
    assert row["residual"] < 1e-12
    for found in decay(DecayCell(0.4, 7, 30, (0.5, 2.0))):
        error = float((torch.linalg.matrix_exp(-found["time"] * matrix) @ zeta).norm()) / math.sqrt(60)
        # Lanczos' method stops at 1e-8.
        assert math.isclose(found["error"], error, rel_tol=1e-6)
        assert math.isclose(found["bound"], min(1.0, size / (math.e * found["time"])), rel_tol=1e-6)
        assert math.isclose(found["L log L / t"], 7 * math.log(7) / found["time"])
        assert found["error over bound"] <= 1


def test_the_cheapest_depth_of_parallel_and_other_curves():
    rows = cheapest(CurvePair("great circles", 0.1))
    best = min(rows, key=lambda row: row["cost"])
    assert best["cost over least"] == 1.0
    assert 4.5 <= best["depth times separation"] <= 6.5
    # At this separation the law of the limit is off by a few hundredths.
    assert abs(best["norm over local law"] - 1) < 0.05
    # Two great circles: total length 4 pi.
    assert math.isclose(best["cost times separation over length"], best["cost"] * 0.1 / (4 * math.pi), rel_tol=1e-6)
    tilted = min(cheapest(CurvePair("tilted circles", 0.1)), key=lambda row: row["cost"])
    assert tilted["depth times separation"] < 4
    assert not tilted["parallel"]


def test_wavy_circles_have_the_curvature_and_separation_they_say():
    row = bent(WavyCell(3, 5, 400))
    assert math.isclose(row["separation"], 0.2, rel_tol=1e-6)
    times = torch.linspace(0, 1, 20001, dtype=torch.float64)
    assert row["curvature"] >= 0.999 * float(wavy_circle(0.3, 0.15, 3).geodesic_curvature(times).max())
    plain = bent(WavyCell(0, 5, 100))
    # The upper of two plain circles, at latitude 0.5, bends most.
    assert math.isclose(plain["curvature"], circle(0.5).curvature, rel_tol=1e-9)


def row(kind, place, parallel, **more):
    known = {"cost over least": 1.0, "cost times separation over length": 2.0335, "separation": 0.1, "closed": True}
    return (
        {"curves": kind, "depth times separation": place, "parallel": parallel, "norm over local law": 1.0}
        | known
        | more
    )


def every_claim(rows):
    return [*certificate_claims.rule_claims(rows), *certificate_claims.law_claims(rows, rows, rows)]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"depth times separation": 7.1}, ["K4.rule.parallel"]),
        ({"cost over least": 1.2}, ["K4.rule.cost"]),
        ({"cost times separation over length": 2.3}, ["K4.limit"]),
        ({"norm over local law": 1.2}, ["K4.local"]),
    ],
)
def test_another_rule_fails(change, broken):
    rows = [row("coaxial circles", 5.0, True) | change, row("tilted circles", 4.5, False)]
    claims = every_claim(rows)
    assert [claim.id for claim in claims if claim.verdict != "passed"] == broken


def test_without_other_curves_that_claim_is_not_run():
    rows = [row("coaxial circles", 5.0, True)]
    verdicts = {claim.id: claim.verdict for claim in every_claim(rows)}
    assert verdicts["K4.rule.others"] == "not run"
    assert verdicts["K4.local"] == "passed"


def test_wrong_norms_and_errors_fail():
    rows = [{"separation": 0.8, "depth": 5, "norm": 3.30}, {"separation": 0.8, "depth": 10, "norm": 3.31}]
    assert [claim.verdict for claim in certificate_claims.norm_claims(rows)] == ["failed", "failed"]
    unknown = [{"separation": 0.7, "depth": 5, "norm": 3.3}, {"separation": 0.7, "depth": 10, "norm": 2.0}]
    assert [claim.verdict for claim in certificate_claims.norm_claims(unknown)] == ["not run", "passed"]
    found = decay(DecayCell(0.4, 25, 40, (1.0,)))[0]
    wrong = [found | {"error over bound": 1.01, "error over L log L / t": 2.0}]
    assert [claim.verdict for claim in certificate_claims.error_claims(wrong)] == ["failed", "failed"]
    bends = [{"waves": w, "curvature": w + 1.0, "depth": d, "norm": 1.0 + w} for w in (0, 3) for d in (1, 9)]
    assert certificate_claims.curvature_claim(bends).verdict == "failed"


def test_bad_configurations_are_refused():
    for change in ({"depths": (5,)}, {"followed": (1, 5)}):
        with pytest.raises(InputError, match="from depth 2 on"):
            replace(TINY, **change)
