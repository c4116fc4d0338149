"""The comparison of losses on networks: shared starts, distances and bounds by their formulas, claims that can fail."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments.collapse import four_losses
from tightframe.experiments.collapse.loss_runs import Config, Run, chance_range, distance, spread, trained
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

SMALL = Config(limit=200, widths=(16,), epochs=(1, 2), depth=1)
LOSSES = ("CE", "focal", "label smoothing", "MSE")


@pytest.fixture(scope="module")
def record() -> Record:
    return four_losses.EXPERIMENT.run(config=SMALL)


def rows(record: Record, table: str) -> list[dict]:
    return list(rows_of(record.tables[table]))


def test_the_record_survives_its_file_and_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    text = page.render([record])
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * len(record.panels)
    assert all(panel.title in text for panel in record.panels)
    assert {claim.id.split(".")[0] for claim in record.claims} == {"N7"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 4 * 3 + 5


def test_all_losses_start_from_one_network_and_leave_different_ones(record):
    runs = rows(record, "runs")
    assert len(runs) == 4 * 2 * 2
    for seed in SMALL.seeds:
        own = [row for row in runs if row["seed"] == seed]
        assert len({row["NC1 before"] for row in own}) == 1
    for loss in LOSSES:
        assert len({row["NC1 before"] for row in runs if row["loss"] == loss}) == len(SMALL.seeds)
    assert len({row["NC1"] for row in runs}) == len(runs)


def test_the_table_holds_the_means_of_the_runs(record):
    runs = rows(record, "runs")
    for row in rows(record, "losses"):
        own = [run for run in runs if (run["loss"], run["epochs"]) == (row["loss"], row["epochs"])]
        one, other = (run["test accuracy"] for run in own)
        assert row["test accuracy"] == pytest.approx((one + other) / 2)
        # The sample standard deviation of two values is their difference over the square root of two.
        assert row["standard deviation"] == pytest.approx(abs(one - other) / math.sqrt(2))


def test_a_collapse_claim_is_the_ratio_of_the_longest_runs(record):
    claim = next(claim for claim in record.claims if claim.id == "N7.net.MSE.NC1")
    own = [row for row in rows(record, "runs") if (row["loss"], row["epochs"]) == ("MSE", 2)]
    assert claim.observed == pytest.approx(sum(row["NC1"] / row["NC1 before"] for row in own) / 2)


def test_networks_that_do_not_train_do_not_collapse():
    still = replace(SMALL, epochs=(1,), lr=1e-7, seeds=(0,))
    claims = {claim.id: claim for claim in four_losses.EXPERIMENT.run(config=still).claims}
    assert all(claims[f"N7.net.{loss}.{sign}"].verdict == "failed" for loss in LOSSES for sign in ("NC1", "NC2", "NC3"))
    assert claims["N7.net.features"].verdict == "not run"


@pytest.mark.parametrize("spec", ["ls:smoothing=0.0", "focal:gamma=0"])
def test_a_loss_is_trained_with_what_its_name_stands_for(spec):
    plain, same = (trained((replace(SMALL, losses=(("CE", name),)), "CE", 16, 1, 0, None)) for name in ("ce", spec))
    # The same function by another formula, in float32 over two steps.
    assert same.row["NC1"] == pytest.approx(plain.row["NC1"], rel=1e-3)


def run(loss: str, seed: int, *, cosines: torch.Tensor, accuracy: float = 0.9, nc1: float = 0.1) -> Run:
    """A run that nobody ran."""
    row = {"loss": loss, "width": 16, "epochs": 3, "seed": seed, "test accuracy": accuracy, "test samples": 1000}
    return Run(loss, 16, 3, seed, row | {"NC1": nc1}, cosines)


def test_the_distance_is_that_of_matrices_of_norm_one():
    ones, eye = torch.ones(4, 4), torch.eye(4)
    one, other = run("a", 0, cosines=5 * eye), run("b", 0, cosines=ones)
    # <I, J> = 4, |I| = 2, |J| = 4: cosine 1/2 between the matrices, so a distance of one.
    assert distance(one, other) == pytest.approx(1.0)
    assert distance(one, run("b", 1, cosines=0.1 * eye)) == pytest.approx(0.0, abs=1e-7)


def test_the_spread_averages_over_pairs_of_losses_and_seeds():
    draws = torch.Generator().manual_seed(0)
    grams = {(loss, seed): torch.rand(3, 3, generator=draws, dtype=torch.float64) for loss in "abc" for seed in (0, 1)}
    config = replace(SMALL, data="mnist", losses=tuple((loss, "ce") for loss in "abc"))
    accuracy = {"a": 0.90, "b": 0.92, "c": 0.97}
    runs = [
        run(loss, seed, cosines=grams[loss, seed], accuracy=accuracy[loss] + 0.01 * seed, nc1=accuracy[loss])
        for loss, seed in grams
    ]
    row = spread(config, runs)

    def apart(a: tuple, b: tuple) -> float:
        difference = grams[a] / grams[a].square().sum().sqrt() - grams[b] / grams[b].square().sum().sqrt()
        return float(difference.square().sum().sqrt())

    keys = list(grams)
    pairs = [(a, b) for i, a in enumerate(keys) for b in keys[i + 1 :]]
    expected = {
        "distance between losses, same start": [apart(a, b) for a, b in pairs if a[0] != b[0] and a[1] == b[1]],
        "distance between losses": [apart(a, b) for a, b in pairs if a[0] != b[0] and a[1] != b[1]],
        "distance between seeds": [apart(a, b) for a, b in pairs if a[0] == b[0]],
    }
    for name, values in expected.items():
        assert row[name] == pytest.approx(sum(values) / len(values))
    assert row["range of test accuracies"] == pytest.approx(0.07)
    assert (row["lowest NC1"], row["highest NC1"]) == pytest.approx((0.9, 0.97))


def test_the_bound_is_the_studentised_range_of_the_tables():
    # 95 % points of the studentised range at infinite degrees of freedom: 3.314 for three values, 3.633 for four.
    for losses, point in ((3, 3.314), (4, 3.633)):
        equal = torch.full((losses, 2), 0.9, dtype=torch.float64)
        assert chance_range(equal, 10_000) == pytest.approx(point * math.sqrt(0.09 / 10_000), rel=1e-3)


def test_what_a_seed_does_to_all_losses_is_not_chance():
    draws = torch.Generator().manual_seed(1)
    accuracy = 0.8 + 0.01 * torch.randn(4, 5, generator=draws, dtype=torch.float64)
    seeds = 0.05 * torch.randn(1, 5, generator=draws, dtype=torch.float64)
    seeds -= seeds.mean()
    losses = torch.tensor([[0.03], [-0.01], [-0.04], [0.02]], dtype=torch.float64)
    assert chance_range(accuracy + seeds + losses, 900) == pytest.approx(chance_range(accuracy, 900))


def test_the_bound_holds_for_equal_losses_in_95_of_100_cases():
    """Monte Carlo, where seeds alone move accuracies and there are enough of them to know their variance."""
    draws, seeds, cases = torch.Generator().manual_seed(2), 40, 400
    below = 0
    for _ in range(cases):
        accuracy = 0.5 + 0.01 * torch.randn(4, seeds, generator=draws, dtype=torch.float64)
        averages = accuracy.mean(1)
        below += float(averages.max() - averages.min()) <= chance_range(accuracy, 10**9)
    # Three standard deviations of a binomial share around 0.95.
    assert abs(below / cases - 0.95) < 3 * math.sqrt(0.95 * 0.05 / cases)


SPREAD = {
    "width": 16,
    "training": "3 epochs",
    "range of test accuracies": 0.02,
    "range by chance": 0.01,
    "distance between losses, same start": 0.3,
    "distance between losses": 0.4,
    "distance between seeds": 0.4,
    "lowest NC1": 0.1,
    "highest NC1": 0.15,
}


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({}, {"accuracy"}),
        ({"range of test accuracies": 0.01}, set()),
        ({"range of test accuracies": 0.021}, {"accuracy", "accuracy.closer"}),
        ({"range by chance": 0.02, "distance between losses": 0.45}, {"features"}),
        ({"range by chance": 0.02, "distance between losses, same start": 0.31}, {"features.closer"}),
        ({"range by chance": 0.02, "highest NC1": 0.21}, {"variability"}),
    ],
)
def test_every_claim_can_pass_and_fail(changes, failing):
    claims = four_losses.judged([SPREAD, SPREAD | changes])
    assert {claim.id.removeprefix("N7.net.") for claim in claims if claim.verdict == "failed"} == failing
    assert {claim.verdict for claim in claims} <= {"passed", "failed"}


def test_presets_grow_and_an_unknown_one_is_refused():
    for config in four_losses.PRESETS.values():
        assert [name for name, _ in config.losses] == list(LOSSES)
        assert list(config.widths) == sorted(config.widths)
        assert list(config.epochs) == sorted(config.epochs)
        assert len(config.seeds) >= 2
    with pytest.raises(InputError, match="Use one of smoke, quick, paper"):
        four_losses.EXPERIMENT.run("huge")
