"""Estimates of geometry as an experiment: closed forms recomputed here, claims that follow and can fail."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.ntk import curve_geometry
from tightframe.experiments.ntk.curve_pairs import KINDS, PARALLEL, CurvePair, join
from tightframe.experiments.ntk.geometry_runs import BENT, Sampling, Winding, separations_of, strands
from tightframe.ntk.manifold import separation
from tightframe.report import page
from tightframe.runs.record import Record

TINY = curve_geometry.Config(counts=(50, 100), separations=(0.4,), draws=2, windings=(1, 3), strand_points=60)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("curve-geometry").run(config=TINY)


def test_claims_belong_to_the_entry_and_follow(record):
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert {name.split(".")[0] for name in verdicts} == {"K1"}
    assert len(verdicts) == len(record.claims) == 8
    # A hundred points are too few for the inner end of the spiral, and for tangents of clouds to a hundredth.
    coarse = {"K1.curvature.open"}
    assert {name for name, verdict in verdicts.items() if verdict != "passed"} == coarse
    assert record.answer.startswith("7 of 8")


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 4


def test_even_samples_half_a_gap_apart_exceed_by_the_spherical_law():
    row = separations_of(Sampling("great circle and parallel", 0.3, 80, 1))[0]
    # Points at latitudes 0 and -0.3 with longitudes half of 2 pi / 80 apart.
    expected = math.acos(math.cos(0.3) * math.cos(math.pi / 80))
    assert math.isclose(row["found"], expected, rel_tol=1e-9)
    assert row["least excess"] == row["excess"] > 0


def test_strands_are_counted_as_brute_force_does():
    for row in strands(Winding(5, 80)):
        angle = 0.02 if row["scales"] == "default" else 0.15
        turns = torch.arange(1, 5).double() / 5
        cosines = math.cos(angle) ** 2 + math.sin(angle) ** 2 * (2 * math.pi * turns).cos()
        near = 0.05 if row["scales"] == "default" else 0.15
        assert row["known"] == row["found"] == int((cosines.acos() < near).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_as_far_apart_as_they_say(kind):
    pair = CurvePair(kind, 0.1)
    sampled = pair.even()
    found = separation(sampled)
    # Samples exceed by at most a square of the gap; curves that are not parallel are built to a tenth or so.
    slack = 1e-9 if kind in PARALLEL else 0.015
    assert abs(found - 0.1) <= slack
    points, labels = join(sampled)
    assert len(points) == len(labels) == sum(len(each.points) for each in sampled)
    assert labels.unique().tolist() == [-1.0, 1.0]
    assert float((points.norm(dim=1) - 1).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("column", "value", "broken"),
    [
        ("least excess", -1e-9, "K1.separation.above"),
        ("excess over gap^2 / (2 separation)", 1.1, "K1.separation.excess"),
    ],
)
def test_a_wrong_separation_fails_its_claim(column, value, broken):
    even, random = separations_of(Sampling("great circles", 0.4, 60, 2))
    assert {claim.verdict for claim in curve_geometry._separation_claims([even, random])} == {"passed"}
    claims = curve_geometry._separation_claims([even | {column: value}, random])
    assert [claim.id for claim in claims if claim.verdict == "failed"] == [broken]


def test_wrong_curvatures_strands_and_reaches_fail():
    curved = [{"curve": name, "closed": name != "spiral", "error": 0.1} for name in BENT]
    assert {claim.verdict for claim in curve_geometry._curvature_claims(curved)} == {"failed"}
    rows = [row | {"found": row["found"] + 1} for row in strands(Winding(3, 60))]
    assert curve_geometry._clover_claim(rows).verdict == "failed"
    kinds = ("even, ordered", "random, ordered", "random, points alone")
    reached = [{"samples": kind, "points": 50, "largest error": 0.2} for kind in kinds]
    assert [claim.verdict for claim in curve_geometry._reach_claims(reached)] == ["failed"] * 3


def test_bad_configurations_are_refused():
    for change in ({"counts": (100,)}, {"counts": (5, 100)}, {"draws": 0}, {"windings": (0, 1)}):
        with pytest.raises(InputError, match="two numbers of points"):
            replace(TINY, **change)
    with pytest.raises(InputError, match="kind of curve pair"):
        CurvePair("squares", 0.1)
