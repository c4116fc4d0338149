"""K6 on curves: the runs are what they say, the claims follow from the rows, and other rows fail them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.ntk import two_curves
from tightframe.experiments.ntk.curve_runs import CIRCLES, KNOTS, PAIRS, Run, curves_of, measured, portrait, train
from tightframe.ntk.finite import relu_network
from tightframe.ntk.kernel import relu_ntk
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

TINY = two_curves.Config(
    depths=(1, 2), widths=(8, 64), samples=(6, 48), separations=(0.4, 0.4), checks=(50, 150), grid=100
)
RUN = Run(CIRCLES, 0.4, depth=2, width=48, samples=32, seed=0, checks=(50, 150), grid=120)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("two-curves").run(config=TINY)


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert [figure.failure for figure in page._section(record, first=1)["figures"]] == [""] * len(record.panels)
    assert {name: len(list(rows_of(record.tables[name]))) for name in record.tables} == {
        "networks": 2 * 2 * 2 * 2,
        "phases": 2 * 2 * 2 * 2 * 2,
        "along": 2 * 2 * 2 * TINY.grid,
    }


def test_every_claim_was_run_and_is_one_of_the_entry(record):
    ids = {claim.id for claim in record.claims}
    assert len(ids) == len(record.claims) == 2 * 5 + 2
    assert {name.split(".")[0] for name in ids} == set(catalog.entry("two-curves").claims)
    assert "not run" not in {claim.verdict for claim in record.claims}


def test_the_largest_networks_are_perfect_and_six_samples_are_not_enough(record):
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    for pair in PAIRS:
        assert verdicts[f"K6.perfect.{pair}"] == "passed"
        assert verdicts[f"K6.samples.{pair}"] == "passed"
    few = [row["perfect"] for row in rows_of(record.tables["networks"]) if row["samples"] == 6]
    assert not all(few)


@pytest.mark.parametrize(
    ("column", "value", "failed"),
    [
        ("perfect", False, {f"K6.perfect.{pair}" for pair in PAIRS}),
        ("perfect", True, {f"K6.needed.{pair}" for pair in PAIRS}),
        ("perfect, kernel", None, {"K6.kernel"}),
    ],
)
def test_other_rows_fail_the_claims(record, column, value, failed):
    rows = [row | {column: value} for row in rows_of(record.tables["networks"])]
    found = {claim.id for claim in two_curves.claims_of(rows, TINY) if claim.verdict == "failed"}
    assert failed <= found


def test_the_claims_about_one_resource_compare_its_ends_where_the_others_suffice(record):
    rows = [row | {"perfect": row["width"] == 8} for row in rows_of(record.tables["networks"])]
    observed = {claim.id: claim.observed for claim in two_curves.claims_of(rows, TINY)}
    for pair in PAIRS:
        assert observed[f"K6.width.{pair}"] == -1
        assert observed[f"K6.depth.{pair}"] == observed[f"K6.samples.{pair}"] == 0
    # Perfect with few samples at the least width only: where width suffices, samples gain everything.
    rows = [row | {"perfect": row["width"] == 8 or row["samples"] == 48} for row in rows]
    observed = {claim.id: claim.observed for claim in two_curves.claims_of(rows, TINY)}
    assert {observed[f"K6.samples.{pair}"] for pair in PAIRS} == {1}


@pytest.mark.parametrize("pair", PAIRS)
def test_curves_are_as_far_apart_as_said(pair):
    first, second = (curve.uniform(900).points for curve in curves_of(pair, 0.3))
    nearest = math.acos(float((first @ second.T).max()))
    # Points at equal shares of two circles or two knots of one phase lie on one meridian, at the least angle.
    assert nearest == pytest.approx(0.3, abs=1e-9)


def test_the_trefoils_link():
    # Gauss's integral over two closed curves in R^3 counts how often they link: 2 * 3 times for cables of one knot.
    curves = [curve.uniform(500).points for curve in curves_of(KNOTS, 0.4)]
    a, b = (points[:, :3] / (1 - points[:, 3:]) for points in curves)
    steps = [torch.roll(points, -1, 0) - torch.roll(points, 1, 0) for points in (a, b)]
    apart = a[:, None] - b[None]
    normal = torch.linalg.cross(steps[0][:, None].expand_as(apart), steps[1][None].expand_as(apart))
    linking = float(((apart * normal).sum(2) / apart.norm(dim=2) ** 3).sum()) / (4 * math.pi) / 4
    assert abs(linking) == pytest.approx(6, abs=0.05)


def test_training_is_gradient_descent_from_the_seeds_weights():
    told = train(RUN)
    points = torch.cat([curve.sample(32, seed=side).points for side, curve in enumerate(curves_of(CIRCLES, 0.4))])
    labels = torch.cat((torch.ones(32), -torch.ones(32)))
    model = relu_network(3, width=48, depth=2, seed=0, dtype=torch.float32)

    def gradients(values: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad(values, list(model.parameters()), retain_graph=True)
        return torch.cat([each.flatten() for each in found])

    outputs = model(points.float())[:, 0]
    jacobian = torch.stack([gradients(value) for value in outputs]).double()
    step = 64 / float(torch.linalg.eigvalsh(jacobian @ jacobian.T)[-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=step)
    for _ in range(150):
        optimizer.zero_grad()
        ((model(points.float())[:, 0] - labels).square().mean() / 2).backward()
        optimizer.step()
    with torch.no_grad():
        expected = model(told.points.float())[:, 0].double()
    # float32 rounding, 1e-7 per step, over 150 steps that do not amplify it much.
    torch.testing.assert_close(told.network, expected, atol=2e-3, rtol=0)


def test_the_kernels_prediction_is_the_linear_system_from_the_networks_start():
    told = train(RUN)
    points = torch.cat([curve.sample(32, seed=side).points for side, curve in enumerate(curves_of(CIRCLES, 0.4))])
    labels = torch.cat((torch.ones(32), -torch.ones(32))).double()
    model = relu_network(3, width=48, depth=2, seed=0, dtype=torch.float32)
    with torch.no_grad():
        known, start = (model(each.float())[:, 0].double() for each in (points, told.points))
    kernel, across = relu_ntk(points, depth=2), relu_ntk(told.points, points, depth=2)
    step = 1 / torch.linalg.eigvalsh(kernel)[-1]
    # Steps a hundredth as long: the flow is their limit, and the error left is of the order of a step.
    coefficients, error = torch.zeros_like(known), known - labels
    for _ in range(150 * 100):
        coefficients = coefficients - step / 100 * error
        error = known - labels + kernel @ coefficients
    torch.testing.assert_close(told.kernel, start + across @ coefficients, atol=0.02, rtol=0)


def test_a_run_that_diverges_labels_nothing(monkeypatch):
    monkeypatch.setattr("tightframe.experiments.ntk.curve_runs._SHARE", 400.0)
    row = measured(RUN)
    assert not row["finite"]
    assert not row["perfect"]
    assert row["wrong"] == 1
    assert row["training error"] is row["distance"] is row["steps"] is None
    assert {line["f"] for line in portrait(RUN)} == {None}


def test_steps_are_those_of_the_first_check_that_stays_right():
    told = train(replace(RUN, checks=(1, 100, 150)))
    assert bool((told.network * told.labels > 0).all())
    assert told.first in (100, 150)
    assert train(replace(RUN, samples=4, checks=(1, 2))).first is None


def test_portraits_say_where_and_what():
    rows = portrait(RUN)
    assert len(rows) == 2 * RUN.grid
    radii = [math.hypot(row["x"], row["y"]) for row in rows]
    assert radii[0] == pytest.approx(math.cos(math.pi / 4))
    assert radii[-1] == pytest.approx(math.cos(math.pi / 4 - 0.4))
    for row in rows:
        assert (row["f"] < 0) == (row["value"] in {"below -0.5", "-0.5 to 0"})
        assert (abs(row["f"]) < 0.5) == (row["value"] in {"0 to 0.5", "-0.5 to 0"})


def test_bad_runs_are_refused():
    with pytest.raises(InputError, match="a pair"):
        replace(RUN, pair="parabolas")
    for checks in ((), (0, 5), (10, 10)):
        with pytest.raises(InputError, match="checks"):
            replace(RUN, checks=checks)


@pytest.mark.parametrize("preset", two_curves.PRESETS)
def test_every_preset_can_be_planned(preset):
    runs = two_curves.runs_of(two_curves.PRESETS[preset])
    assert len(set(runs)) == len(runs)
    assert {run.pair for run in runs} == set(PAIRS)
