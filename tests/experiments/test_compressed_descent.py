"""Compressed factorisation: what is measured of the networks side by side, and that the claims can fail."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.stability import stable_step
from tightframe.experiments.deeplinear import compressed_descent, compressed_runs
from tightframe.experiments.deeplinear.compressed_runs import COMPRESSED, DRAWN, LARGER, ORIGINAL, REDUCED, Size
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

SIZE = Size(16, 3, 3, 0.02, 1500)
TINY = compressed_descent.Config((SIZE,))


@pytest.fixture(scope="module")
def record() -> Record:
    return compressed_descent.EXPERIMENT.run(config=TINY)


def test_the_claims_that_chance_does_not_touch_hold_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert len(verdicts) == len(record.claims) == 8
    # Times of milliseconds say nothing, and random frames in 16 dimensions are far from their average.
    chance = {f"P5.{name}.d=16,L=3" for name in ("time", "reduced-time", "drawn")}
    assert chance < set(verdicts)
    assert {verdicts[name] for name in verdicts if name not in chance} == {"passed"}, verdicts
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 4
    assert "iterations" in record.answer


def test_the_original_takes_the_steps_of_autograd(record):
    target = compressed_runs._target(SIZE)
    network = DeepLinearNetwork((16, 16, 16, 16), scale=0.02, seed=0)
    weights = [weight.clone().requires_grad_() for weight in network.weights]
    step = 0.5 * stable_step(target, depth=3)
    U, S, Vh = torch.linalg.svd(target)
    seen = {row["step"]: row for row in rows_of(record.tables["training"]) if row["network"] == ORIGINAL}
    for taken in range(101):
        W = weights[2] @ weights[1] @ weights[0]
        loss = 0.5 * (W - target).square().sum()
        if taken in (0, 50, 100):
            assert seen[taken]["loss"] == pytest.approx(float(loss.detach()) / 256, rel=1e-10)
            for i in range(3):
                along = float(U[:, i] @ W.detach() @ Vh[i] / S[0])
                assert seen[taken][f"component {i + 1}"] == pytest.approx(along, rel=1e-9, abs=1e-14)
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= step * gradient


def test_the_distance_is_what_the_compressed_network_leaves_out(record):
    rows = list(rows_of(record.tables["training"]))
    for name, inside in ((COMPRESSED, 6), (LARGER, 12), (REDUCED, 6)):
        mine = [row for row in rows if row["network"] == name]
        assert mine[0]["distance"] == pytest.approx(0.02**3 * (16 - inside) ** 0.5, rel=1e-9)
        for row in mine:
            assert row["distance"] == pytest.approx(row["law"], rel=1e-6)
        # The rest decays, if slowly, and so does the distance.
        assert mine[-1]["law"] < mine[0]["law"]
    assert all(row["distance"] is None for row in rows if row["network"] in (ORIGINAL, DRAWN))


def test_networks_are_counted_and_timed_until_they_are_done(record):
    rows = {row["network"]: row for row in rows_of(record.tables["networks"])}
    assert {name: row["parameters"] for name, row in rows.items()} == {
        ORIGINAL: 3 * 256,
        COMPRESSED: 2 * 16 * 6 + 3 * 36,
        LARGER: 2 * 16 * 12 + 3 * 144,
        DRAWN: 2 * 16 * 6 + 3 * 36,
        REDUCED: 3 * 36,
    }
    training = list(rows_of(record.tables["training"]))
    for name, row in rows.items():
        mine = [line for line in training if line["network"] == name]
        reached = next(line for line in mine if line["loss"] <= SIZE.tolerance)
        assert reached["step"] == row["iterations"]
        assert reached["seconds"] == row["seconds"] == mine[-1]["seconds"] > 0
        assert [line["running"] for line in mine] == [0 < line["step"] <= row["iterations"] for line in mine]


def test_trajectories_are_drawn_evenly_along_the_way():
    places = [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 3.0]
    axes = ("component 1", "component 2", "component 3")
    course = [
        {"network": name, "step": 10 * i} | dict(zip(axes, (place, 0.0, 0.0), strict=True))
        for i, place in enumerate(places)
        for name in (ORIGINAL, COMPRESSED, REDUCED)
    ]
    drawn = compressed_descent._trajectories(course)
    assert [(row["step"], row["network"]) for row in drawn] == [
        (step, name) for step in (0, 30, 40, 60) for name in (ORIGINAL, COMPRESSED)
    ]


def lines(**changes) -> dict[str, dict]:
    row = {
        "parameters": 10,
        "iterations": 100,
        "seconds": 1.0,
        "bound, relative": 1e-6,
        "farthest, relative": 1e-6,
        "off the law, relative": 0.0,
    }
    names = (ORIGINAL, COMPRESSED, LARGER, DRAWN, REDUCED)
    made = {name: row | {"network": name, "seconds": 10.0 if name == ORIGINAL else 1.0} for name in names}
    name, column, value = changes.get("changed", (ORIGINAL, "parameters", 10))
    made[name][column] = value
    return made


@pytest.mark.parametrize(
    ("changed", "claim", "verdict"),
    [
        ((COMPRESSED, "farthest, relative", 1.1e-6), "trajectory", "failed"),
        ((COMPRESSED, "off the law, relative", 1e-12), "law", "failed"),
        ((LARGER, "off the law, relative", 1e-12), "larger", "failed"),
        ((REDUCED, "off the law, relative", 1e-12), "reduced", "failed"),
        ((COMPRESSED, "iterations", 110), "iterations", "failed"),
        ((COMPRESSED, "iterations", None), "iterations", "not run"),
        ((DRAWN, "iterations", 111), "drawn", "failed"),
        ((DRAWN, "iterations", None), "drawn", "not run"),
        ((COMPRESSED, "seconds", 11.0), "time", "failed"),
        ((COMPRESSED, "seconds", None), "time", "not run"),
        ((REDUCED, "seconds", 11.0), "reduced-time", "failed"),
    ],
)
def test_a_network_that_goes_its_own_way_fails_its_claim(changed, claim, verdict):
    judged = compressed_descent._claims(SIZE, lines(changed=changed))
    assert [(c.id, c.verdict) for c in judged if c.verdict != "passed"] == [(f"P5.{claim}.d=16,L=3", verdict)]
    assert {c.verdict for c in compressed_descent._claims(SIZE, lines())} == {"passed"}


def test_a_budget_that_is_too_small_is_said(record):
    short = compressed_descent.EXPERIMENT.run(config=compressed_descent.Config((Size(16, 3, 3, 0.02, 20),)))
    verdicts = {claim.id.split(".")[1]: claim.verdict for claim in short.claims}
    assert [name for name, verdict in verdicts.items() if verdict == "not run"] == [
        "iterations",
        "drawn",
        "time",
        "reduced-time",
    ]
    assert "not fitted within 20 steps" in short.answer


def test_the_paper_preset_is_the_size_of_the_source():
    (size,) = compressed_descent.PRESETS["paper"].sizes
    assert (size.width, size.rank, size.depth, size.scale, size.tolerance) == (1000, 10, 3, 1e-3, 1e-10)
    assert size.faster == 10


@pytest.mark.parametrize("sizes", [(), (Size(11, 3, 3, 0.1, 10),), (Size(40, 2, 3, 0.1, 10),)])
def test_sizes_without_room_are_refused(sizes):
    with pytest.raises(InputError, match="ranks of at least 3"):
        compressed_descent.Config(sizes)
