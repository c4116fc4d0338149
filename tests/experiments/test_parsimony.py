"""The law of parsimony: what is followed of a weight, and that each claim can fail."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.stability import stable_step
from tightframe.experiments.deeplinear import parsimony, parsimony_runs
from tightframe.experiments.deeplinear.parsimony_runs import Setting, Training
from tightframe.experiments.deeplinear.singular_paths import follow
from tightframe.geometry.frames import haar_columns
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

TINY = parsimony.Config(
    width=8, depths=(2, 3), scales=(0.5,), steps=500, inputs=("1.2", "Gaussian"), samples=20, published=(1 / 40, 20)
)
BALL = Training("heavy ball", momentum=0.9)


@pytest.fixture(scope="module")
def record() -> Record:
    return parsimony.EXPERIMENT.run(config=TINY)


def setting(**changes) -> Setting:
    plain = Setting(2, 8, 2, 3, 0.5, 8, "whitened", Training("gradient descent"), 0.25, 300)
    return replace(plain, **changes)


def test_the_exact_claims_hold_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert len(verdicts) == len(record.claims) == 2 * 3 + 4 + 2 * (2 * 2) + 2 + 1
    assert {claim.split(".")[0] for claim in verdicts} == {"P1", "P2"}
    exact = {name: verdict for name, verdict in verdicts.items() if name.startswith("P1") or name == "P2.momentum"}
    assert set(exact.values()) == {"passed"}, exact
    assert "not run" not in verdicts.values()
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 6


def test_structure_is_exact_for_whitened_inputs_only(record):
    rows = list(rows_of(record.tables["runs"]))
    assert len(rows) == 2 * 2 * 3 + 2 * 2 + 3 + 1
    for row in rows:
        kept = row["inputs"] == "whitened" and row["training"] != "Adam"
        assert (row["relative deviation"] < 1e-12) is kept
        assert (row["apart"] < 1e-12) is kept
        assert (row["turned vectors"] <= row["2r"]) is kept
    assert rows[-1]["training"] == "published, 20 steps"


def test_the_moving_picture_shows_2r_triples_that_leave_the_others(record):
    rows = list(rows_of(record.tables["singular vectors"]))
    last = [row for row in rows if row["step"] == 500 and row["training"] == "gradient descent"]
    assert len(last) == 2 * 8
    parts = ["r largest"] * 2 + ["r that turn with them"] * 2 + ["all others"] * 4
    for side in ("left", "right"):
        assert sorted(parts) == sorted(row["part"] for row in last if row["side"].startswith(side))
    for row in last:
        # Up to rounding of chords, the square root of that of the vectors.
        assert (row["turned"] < 1e-6) is (row["part"] == "all others")


@pytest.mark.parametrize("training", [Training("gradient descent"), Training("decay", weight_decay=1e-2), BALL])
def test_rho_follows_the_recursion_of_the_theorem(training):
    trained = parsimony_runs.train(setting(training=training))
    eta = 0.25 * stable_step(trained.objective, depth=3)
    rho, velocity, expected = 0.5, 0.0, {0: 0.5}
    for step in range(1, 301):
        velocity = training.momentum * velocity + rho**5 + training.weight_decay * rho
        rho -= eta * velocity
        expected[step] = rho
    assert trained.rho == pytest.approx([expected[step] for step in trained.steps], abs=1e-14)
    for seen, step in zip(trained.deviations, trained.steps, strict=True):
        # 300 steps, each of a few dozen roundings of numbers of order 1.
        assert seen.rho.tolist() == pytest.approx([expected[step]] * 3, abs=1e-12)


def test_trained_weights_are_those_of_descent_by_autograd():
    made = setting(case=1, inputs="Gaussian", samples=20, steps=30)
    trained = parsimony_runs.train(made)
    X, Y = trained.objective.X, trained.objective.Y
    assert X.shape == (8, 20)
    assert Y.shape == (2, 20)
    weights = [weight.clone().requires_grad_() for weight in trained.weights(0)]
    eta = 0.25 * stable_step(X, Y, depth=3)
    for _ in range(30):
        loss = 0.5 * (weights[2] @ weights[1] @ weights[0] @ X - Y).square().sum()
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= eta * gradient
    for found, expected in zip(trained.weights(len(trained.steps) - 1), weights, strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-10)


def test_inputs_have_the_singular_values_asked_for():
    for inputs, largest in (("whitened", 1.0), ("1.5", 1.5)):
        objective = parsimony_runs._objective(setting(inputs=inputs, samples=12))
        expected = torch.linspace(largest, 1, 8, dtype=torch.float64)
        torch.testing.assert_close(torch.linalg.svdvals(objective.X), expected, rtol=1e-12, atol=1e-12)
        assert torch.linalg.matrix_rank(objective.Y) == 2


def test_the_bundle_is_the_tightest_choice_of_values():
    S = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tightest = [min(max(chosen) - min(chosen) for chosen in combinations(row, 4)) for row in S.tolist()]
    assert parsimony_runs._bundle(S, 4) == pytest.approx(max(tightest), rel=1e-12)


def test_triples_are_followed_through_a_crossing_and_through_zero():
    left, right = haar_columns(5, 3, seed=0), haar_columns(4, 3, seed=1)
    times = torch.linspace(0, 1, 40, dtype=torch.float64)
    # The first rises past the second, the third passes through zero; the first pair of vectors turns as it does.
    values = torch.stack([1 + 2 * times, 2 - times / 2, 0.5 - times], dim=1)
    angles = 0.7 * times
    spare = torch.linalg.qr(left, mode="complete").Q[:, 3]
    matrices = []
    for value, angle in zip(values, angles, strict=True):
        U = left.clone()
        U[:, 0] = math.cos(angle) * left[:, 0] + math.sin(angle) * spare
        matrices.append(U * value @ right.T)
    U, S, Vh = torch.linalg.svd(torch.stack(matrices), full_matrices=False)
    # The fourth singular value is zero throughout and has no vectors of its own.
    paths = follow(S[:, :3], U[:, :, :3], Vh.mT[:, :, :3])
    order = [0, 1, 2]
    torch.testing.assert_close(paths.S, values[:, order], rtol=0, atol=1e-12)
    turned = paths.turned("left")
    torch.testing.assert_close(turned[:, 0], angles, rtol=0, atol=1e-7)
    assert float(turned[:, 1:].max()) < 1e-7
    assert float(paths.turned("right").max()) < 1e-7


def test_triples_that_coincide_at_the_start_get_the_basis_that_moves_smoothly():
    Q, direction = haar_columns(6, 6, seed=0), haar_columns(6, 1, seed=1)
    grown = [0.3 * Q + height * Q @ direction @ direction.T for height in (0.0, 0.01, 0.1, 1.0)]
    U, S, Vh = torch.linalg.svd(torch.stack(grown))
    paths = follow(S, U, Vh.mT)
    # One triple grows and none turns, whatever bases the decompositions chose among equals.
    assert max(float(paths.turned(side).max()) for side in ("left", "right")) < 1e-7
    torch.testing.assert_close((paths.V[0, :, :1].T @ direction).abs(), torch.ones(1, 1).double())
    torch.testing.assert_close(paths.S[:, 0], torch.tensor([0.3, 0.31, 0.4, 1.3]).double())
    torch.testing.assert_close(paths.S[:, 1:], torch.full((4, 5), 0.3).double())


EXACT = {
    "case": 2,
    "L": 3,
    "eps": 1.0,
    "inputs": "whitened",
    "training": "gradient descent",
    "off-diagonal": 0.0,
    "off rho I": 0.0,
    "rho off its recursion": 0.0,
    "apart": 0.0,
    "turned vectors": 6,
    "2r": 6,
    "loss left": 0.0,
}


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"off-diagonal": 2e-8}, ["P1.blocks.case2"]),
        ({"off rho I": 2e-8}, ["P1.identity.case2"]),
        ({"rho off its recursion": 2e-8}, ["P1.recursion.case2"]),
        ({"apart": 2e-8}, ["P1.values"]),
        ({"turned vectors": 7}, ["P1.vectors"]),
        ({"loss left": 0.06}, ["P1.trained"]),
        ({"training": "heavy ball", "off rho I": 2e-8}, ["P2.momentum"]),
    ],
)
def test_a_run_that_leaves_the_structure_fails_its_claim(changes, failed):
    claims = parsimony._exact_claims([EXACT, EXACT | {"training": "heavy ball"}, EXACT | changes])
    assert [claim.id for claim in claims if claim.verdict != "passed"] == failed


ROUGH = EXACT | {"inputs": "2", "apart": 0.05, "eps": 0.5, "relative deviation": 0.05, "share of the update": 0.5}


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"apart": 0.051}, ["P2.inputs=2.gradient-descent.values"]),
        ({"relative deviation": 0.11}, ["P2.inputs=2.gradient-descent.blocks"]),
    ],
)
def test_inputs_that_are_not_whitened_are_judged_by_shares(changes, failed):
    adam = ROUGH | {"inputs": "whitened", "training": "Adam"}
    claims = parsimony._rough_claims([ROUGH | changes, adam])
    assert [claim.id for claim in claims if claim.verdict != "passed"] == failed
    still = parsimony._rough_claims([adam | {"share of the update": 0.01}])
    assert [(claim.id, claim.verdict) for claim in still] == [("P2.adam", "failed")]


@pytest.mark.parametrize("changes", [{"width": 4}, {"samples": 7}])
def test_a_network_without_a_part_that_data_leave_alone_is_refused(changes):
    with pytest.raises(InputError, match="a width above twice the rank"):
        replace(TINY, **changes)


def test_presets_of_source_size():
    for name in ("quick", "paper"):
        config = parsimony.PRESETS[name]
        assert (config.width, config.rank, config.samples, config.scales[0]) == (30, 3, 300, 1.0)
        assert config.published == (1 / 900, 50)
        assert 3 in config.depths
