"""The comparison of spheres and linear classifiers: one task, counts by their definition, claims that can fail."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset
from tightframe.data.labelled.source import load
from tightframe.experiments.levers import normalized_training as study
from tightframe.experiments.levers import sphere_runs
from tightframe.experiments.levers.sphere_runs import (
    ARMS,
    LAST,
    SPHERES,
    WEIGHTS,
    Config,
    initial,
    reached,
    task,
    turned,
)
from tightframe.nn.heads.normalized import NormalizedHead
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of
from tightframe.ufm.normalized_optima import proven_temperature

SMALL = Config(
    per_class=5,
    width=16,
    depth=1,
    epochs=4,
    rates=(0.1, 1.0),
    temperatures=(1.0,),
    weight_decays=(5e-3,),
    last_decays=(5e-2,),
    variability=(1.0,),
    accuracy=0.5,
)
TARGETS = ("NC1 <= 1", "training accuracy >= 0.5")


@pytest.fixture(scope="module")
def record() -> Record:
    return study.EXPERIMENT.run(config=SMALL)


def rows(record: Record, table: str) -> list[dict]:
    return list(rows_of(record.tables[table]))


def test_the_record_survives_its_file_and_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    text = page.render([record])
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * len(record.panels)
    assert all(panel.title in text for panel in record.panels)
    names = ("NC1.1", "accuracy", "test")
    assert {claim.id for claim in record.claims} == {
        f"N15.net.{arm}.{name}" for arm in ("weights", "last") for name in names
    }


def test_claims_are_ratios_of_the_best_settings(record):
    settings = rows(record, "settings")
    assert len(settings) == 3 * 1 * 2
    for target, key in zip(TARGETS, ("NC1.1", "accuracy"), strict=True):
        least = {
            arm: min((row[target] for row in settings if row["arm"] == arm and row[target] is not None), default=None)
            for arm in ARMS
        }
        for other, name in ((WEIGHTS, "weights"), (LAST, "last")):
            claim = next(claim for claim in record.claims if claim.id == f"N15.net.{name}.{key}")
            assert claim.observed == study.ratio(least[SPHERES], least[other])


def test_quarter_turns_make_classes_and_lose_no_image():
    images = torch.arange(6 * 4).reshape(6, 1, 2, 2).float()
    data = turned(ArrayDataset(images, torch.tensor([0, 1, 0, 0, 1, 0])), 4)
    assert data.labels.tolist() == [0, 4, 1, 2, 5, 3]
    for place, turns in enumerate([0, 0, 1, 2, 1, 3]):
        expected = images[place]
        for _ in range(turns):
            expected = expected.transpose(1, 2).flip(1)  # a quarter turn against the clock
        assert torch.equal(data.images[place], expected)


def test_the_task_has_few_samples_of_every_class_and_tests_on_others():
    config = replace(SMALL, turns=2, per_class=7)
    sets = task(config, 3, None)
    assert sets.classes == 20
    assert torch.bincount(sets.train.labels).tolist() == [7] * 20
    assert len(sets.selection) + len(sets.test) == 450
    shares = [torch.bincount(part.labels, minlength=20) for part in (sets.selection, sets.test)]
    assert int((shares[0] - shares[1]).abs().max()) <= 1
    again, other = task(config, 3, None), task(config, 4, None)
    assert torch.equal(again.train.images, sets.train.images)
    assert not torch.equal(other.train.images, sets.train.images)
    # Every image is one of the training set of the data, and none occurs twice.
    plain = task(replace(config, turns=1, per_class=14), 3, None).train.images
    source = {image.numpy().tobytes() for image in load("digits").train.images}
    assert len({image.numpy().tobytes() for image in plain} & source) == len(plain) == 140


def test_more_samples_than_there_are_are_refused():
    with pytest.raises(InputError, match="400 training samples of every class of digits"):
        task(replace(SMALL, turns=4, per_class=100), 0, None)


def test_all_arms_start_from_the_same_hidden_layers():
    sets = task(SMALL, 0, None)
    models = [initial(SMALL, arm, 1.0, sets, 5) for arm in ARMS]
    assert isinstance(models[0].classifier, NormalizedHead)
    for other in models[1:]:
        for ours, theirs in zip(models[0].blocks.parameters(), other.blocks.parameters(), strict=True):
            assert torch.equal(ours, theirs)
        assert isinstance(other.classifier, torch.nn.Linear)


def test_only_the_named_parts_decay():
    decays = {
        arm: (config.weight_decay, config.feature_decay, config.decay)
        for arm in ARMS
        if (config := sphere_runs._train(SMALL, arm, 0.3, 0.1, 0))
    }
    assert decays[SPHERES][:2] == (0.0, 0.0)
    assert decays == {SPHERES: decays[SPHERES], WEIGHTS: (0.3, 0.0, "all"), LAST: (0.3, 0.3, "last")}


def test_a_look_is_the_formula_in_evaluation_mode():
    sets = task(SMALL, 0, None)
    model = initial(SMALL, WEIGHTS, 0.0, sets, 0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    row = sphere_runs._looked(model, sets, held_out=True)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        features = model.forward_features(sets.train.images).double()
        right = model(sets.test.images).argmax(1) == sets.test.labels
    for name, h in (("NC1, lengths kept", features), ("NC1", features / features.norm(dim=1, keepdim=True))):
        means = torch.stack([h[sets.train.labels == label].mean(0) for label in range(10)])
        within = h - means[sets.train.labels]
        between = means - h.mean(0)
        inverse = torch.linalg.pinv(between.T @ between / 10, rtol=1e-9)
        expected = float(torch.trace(within.T @ within / len(h) @ inverse)) / 10
        # Squares of float32 features in float32 products: seven digits, less a few for the inverse.
        assert row[name] == pytest.approx(expected, rel=1e-3)
    assert row["test accuracy"] == pytest.approx(float(right.double().mean()))


def test_a_run_that_leaves_the_numbers_reaches_nothing():
    curve = sphere_runs.watched((SMALL, WEIGHTS, 5e-3, 1e18, 0, None))
    assert 1 <= len(curve) < SMALL.epochs + 1
    row = study.summary(SMALL, (WEIGHTS, 5e-3, 1e18), [curve])
    assert [row[target] for target in TARGETS] == [None, None]
    assert row["test accuracy"] is None


@pytest.mark.parametrize(
    ("values", "bound", "epoch"),
    [
        ([3.0, 0.5, 2.0, 0.9, 0.1], {"most": 1.0}, 3),
        ([3.0, 0.5, 0.5], {"most": 0.5}, 1),
        ([0.1, 0.2, 1.1], {"most": 1.0}, None),
        ([None, 0.2, None, 0.1], {"most": 1.0}, 3),
        ([0.1, 0.99, 0.98, 0.99, 1.0], {"least": 0.99}, 3),
        ([0.1, 0.2], {"least": 0.3}, None),
    ],
)
def test_a_target_counts_from_where_it_is_kept(values, bound, epoch):
    assert reached(values, **bound) == epoch


def curve(*values: float, accuracy: float = 0.9) -> list[dict]:
    """A run of these NC1, one per epoch."""
    rows = [{"epoch": epoch, "NC1": value, "training accuracy": 1.0} for epoch, value in enumerate(values)]
    rows[-1] |= {"test accuracy": accuracy, "selection accuracy": accuracy}
    return rows


def test_the_summary_takes_medians_and_counts_what_is_never_reached_as_last():
    config = replace(SMALL, epochs=3)
    early, late, never = curve(9, 0, 0, 0), curve(9, 9, 0, 0, accuracy=0.8), curve(9, 9, 9, 9, accuracy=0.7)
    cell = (SPHERES, 1.0, 0.1)
    row = study.summary(config, cell, [never, early, late])
    assert (row[TARGETS[0]], row[TARGETS[1]]) == (2, 0)
    assert row["test accuracy"] == pytest.approx(0.8)
    assert study.summary(config, cell, [early, never, never])[TARGETS[0]] is None
    assert study.summary(config, cell, [early, never])[TARGETS[0]] is None


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"), [(4, 8, 0.5), (None, 8, math.inf), (4, None, 0.0), (None, None, None), (3, 0, 3.0)]
)
def test_the_ratio_of_epochs(ours, theirs, expected):
    assert study.ratio(ours, theirs) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (8, 8, "passed"),
        (9, 8, "passed"),
        (10, 8, "failed"),
        (None, 8, "failed"),
        (8, None, "passed"),
        (None, None, "not run"),
    ],
)
def test_a_claim_on_speed_follows_from_the_counts(ours, theirs, verdict):
    cell = {"setting": 1.0, "step size": 0.1}
    best = {(arm, target): cell | {target: ours if arm == SPHERES else theirs} for arm in ARMS for target in TARGETS}
    assert {claim.verdict for claim in study._speed(SMALL, best)} == {verdict}


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    # 1.645 sqrt(2 * 0.9 * 0.1 / 10,000) = 0.00698 where the difference is the same for both seeds.
    [((0.9, 0.9), "passed"), ((0.896, 0.896), "passed"), ((0.89, 0.89), "failed"), ((0.95, 0.85), "passed")],
)
def test_test_accuracy_is_judged_against_sampling_and_seeds(accuracies, verdict):
    ends = {
        SPHERES: [{"test accuracy": value, "test samples": 10_000} for value in accuracies],
        LAST: [{"test accuracy": 0.9, "test samples": 10_000}] * 2,
    }
    claim = study.accuracy_claim(ends, LAST)
    assert (claim.verdict, claim.observed) == (verdict, pytest.approx(sum(accuracies) / 2 - 0.9))


def test_a_diverged_choice_is_not_judged():
    ends = {SPHERES: [{}], WEIGHTS: [{"test accuracy": 0.9, "test samples": 100}]}
    assert study.accuracy_claim(ends, WEIGHTS).verdict == "not run"


def test_presets_tune_all_arms_alike_within_the_proven_temperatures():
    for name, config in study.PRESETS.items():
        features = 512 if config.model == "resnet18" else config.width
        assert max(config.temperatures) < proven_temperature(10 * config.turns, features), name
        assert len(config.temperatures) == len(config.weight_decays) == len(config.last_decays)
    with pytest.raises(InputError, match="as many temperatures as decays"):
        replace(SMALL, temperatures=(1.0, 2.0))
