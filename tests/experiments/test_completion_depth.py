"""P8: depth and width against networks trained by hand, and verdicts that follow from errors and steps."""

from __future__ import annotations

import pytest

from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.experiments import catalog
from tightframe.experiments.deeplinear import completion_depth
from tightframe.experiments.deeplinear.completion_depth import Case, Config, at_share, at_width
from tightframe.experiments.deeplinear.completion_runs import Effort, Matrix, descend
from tightframe.report import page
from tightframe.runs.record import Record

TINY = Config(
    size=30,
    rank=1,
    shares=(0.15, 0.3, 0.5),
    depth_steps=2000,
    width_size=30,
    width_rank=1,
    width_share=0.5,
    widths=(3, 30),
    scale=3e-2,
    width_steps=3000,
    tolerance=1e-4,
    seeds=(0,),
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("completion-depth").run(config=TINY)


def test_the_record_survives_its_file_and_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 3
    assert {claim.id.split(".")[0] for claim in record.claims} == {"P8"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 7


def test_deeper_networks_err_less(record):
    table = record.tables["shares, medians"]
    errors = {(depth, share): error for depth, share, error, _ in zip(*table.values(), strict=True)}
    for share in TINY.shares[:2]:
        assert errors["3", share] < errors["2", share]
    claims = {claim.id: claim for claim in record.claims}
    assert claims["P8.error.L=3"].verdict == "passed"
    assert claims["P8.width"].verdict == "passed"


def test_every_depth_begins_at_one_size_end_to_end():
    row = at_share(Case(TINY, 4, 3, share=0.4))
    problem = Matrix(30, 1, 0.4, "factors", 3).drawn()
    scale = (TINY.start * problem.top) ** 0.25
    network = DeepLinearNetwork([30] * 5, scale=scale, seed=3)
    # Of an orthogonal start every singular value of the product is scale^L.
    start = float(network.end_to_end().detach().norm()) / 30**0.5
    assert start == pytest.approx(1e-5 * problem.top, rel=1e-9)
    found = descend(network, problem, Effort(1e-4, 2000, momentum=0.9))
    assert (row["error"], row["steps"]) == (found.error, found.steps)


def test_widths_are_those_of_hidden_layers():
    row = at_width(Case(TINY, 3, 0, width=5))
    problem = Matrix(30, 1, 0.5, "truncated", 0).drawn()
    found = descend(DeepLinearNetwork([30, 5, 5, 30], scale=3e-2), problem, Effort(1e-4, 3000))
    assert (row["error"], row["steps"], row["converged"]) == (found.error, found.steps, found.residual <= 1e-4)


def shares(**errors):
    return [
        {"L": depth[1:], "share": share, "seed": 0, "error": error}
        for depth, values in errors.items()
        for share, error in zip((0.1, 0.2, 0.3), values, strict=True)
    ]


@pytest.mark.parametrize(
    ("shallow", "deep", "expected"),
    [
        ((0.5, 0.1, 1e-3), (0.2, 1e-3, 1e-4), ("passed", "passed")),
        ((0.5, 1e-3, 1e-3), (0.9, 0.2, 1e-4), ("failed", "failed")),
        ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), ("not run", "passed")),
        ((0.5, 0.5, 0.5), (0.2, 0.2, 1e-3), ("passed", "passed")),
        ((0.5, 0.5, 1e-3), (0.6, 0.6, 0.6), ("failed", "failed")),
        # Recovery that is lost again at a larger share does not count.
        ((1e-3, 0.5, 1e-3), (0.2, 0.2, 1e-3), ("passed", "passed")),
        ((1e-4, 1e-4, 1e-4), (1e-4, 1e-4, 1e-4), ("passed", "not run")),
    ],
)
def test_verdicts_follow_from_errors(shallow, deep, expected):
    rows = shares(L2=shallow, L3=deep)
    needed = completion_depth._needed(rows, Config(shares=(0.1, 0.2, 0.3), depths=(2, 3)))
    claims = {claim.id: claim.verdict for claim in completion_depth._depth_claims(rows, needed)}
    assert (claims["P8.samples.L=3"], claims["P8.error.L=3"]) == expected


def widths(two, three, steps, converged=1):
    rows = [{"L": "2", "width": w, "error": e, "steps": 9, "converged": 0} for w, e in zip((4, 8), two, strict=True)]
    more = zip((4, 8), three, steps, strict=True)
    return rows + [{"L": "3", "width": w, "error": e, "steps": s, "converged": converged} for w, e, s in more]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (widths((1e-4, 1e-3), (1e-6, 1e-6), (400, 100)), ["passed"] * 3),
        (widths((1e-3, 1e-4), (1e-6, 1e-3), (100, 400)), ["failed"] * 3),
        (widths((1e-4, 1e-3), (1e-6, 1e-6), (400, 100), converged=0), ["passed", "passed", "failed"]),
    ],
)
def test_verdicts_follow_from_widths(rows, expected):
    assert [claim.verdict for claim in completion_depth._width_claims(rows)] == expected
