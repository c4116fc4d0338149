"""Four losses, one frame: what is measured, and that the claims can fail."""

from __future__ import annotations

import pytest

from tightframe.experiments import catalog
from tightframe.experiments.ufm import ufm_losses
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.ufm.losses import CrossEntropy

TINY = ufm_losses.Config(sizes=((3, 4, 2),), strengths=(0.01, 0.3), seeds=1, grid=5)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("ufm-losses").run(config=TINY)


def test_every_claim_holds_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert {claim.id.split(".")[0] for claim in record.claims} == {"N7"}
    assert [claim.id for claim in record.claims if claim.verdict != "passed"] == []
    assert len(record.claims) == 3 * 4 + 1
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 3


def test_the_sizes_follow_the_closed_forms(record):
    frames = record.tables["frames"]
    assert frames["scale"] == pytest.approx(frames["predicted"], rel=1e-7)
    # Cross-entropy: a = log(1/t - (K - 1)), t K = 0.3.
    assert frames["predicted"][4] == pytest.approx(2.0794415416798357, rel=1e-12)
    assert len(set(frames["scale"])) == 8


def test_the_slice_has_its_minima_at_plus_and_minus_one(record):
    slices = record.tables["slices"]
    rows = list(zip(slices["loss"], slices["x"], slices["y"], slices["excess"], strict=True))
    for name in set(slices["loss"]):
        at = {(x, y): excess for loss, x, y, excess in rows if loss == name}
        assert at[1.0, 1.0] == pytest.approx(0, abs=1e-12)
        assert at[-1.0, -1.0] == pytest.approx(0, abs=1e-12)
        assert at[0.0, 0.0] == pytest.approx(1, rel=1e-12)
        assert min(at.values()) > -1e-12


@pytest.mark.parametrize(
    ("column", "claim"),
    [("frame distance", "N7.ce.simplex"), ("alignment", "N7.ce.duality"), ("gap", "N7.ce.certified")],
)
def test_a_frame_that_is_off_fails_its_claim(column, claim):
    row = {"loss": CrossEntropy().name, "frame distance": 0.0, "alignment": 0.0, "gap": 0.0}
    verdicts = {c.id: c.verdict for c in ufm_losses.judge([row, row | {column: 1e-5}], [{"difference": 1e-5}])}
    assert [name for name, verdict in verdicts.items() if verdict == "failed"] == [claim, "N7.same"]
