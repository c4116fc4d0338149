"""The label-noise experiments: tuned on noisy labels alone, judged at the last epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightframe.experiments import catalog
from tightframe.experiments.base import with_training
from tightframe.experiments.labels import label_noise, noise_runs, noisy_labels
from tightframe.experiments.study import Sweep
from tightframe.report import page
from tightframe.runs.record import Record

TINY = noise_runs.Config(
    width=16,
    depth=1,
    limit=200,
    epochs=3,
    noises=("none", "symmetric:0.4"),
    methods=(
        ("CE", (("ce", 1e-3), ("ce", 1e-2))),
        ("CE, mild decay", (("ce", 1e-3), ("ce", 5e-4))),
        ("ELR", (("elr:momentum=0.7,strength=3", 1e-3), ("elr:momentum=0.9,strength=3", 1e-3))),
        ("SOP", (("sop:rate=1", 1e-3), ("sop:rate=3", 1e-3))),
    ),
    seeds=(10, 11),
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("label-noise").run(config=TINY)


def test_the_record_tells_the_whole_protocol(record):
    assert Record.from_json(record.to_json()) == record
    results, selection = record.tables["results"], record.tables["selection"]
    assert len(results["method"]) == 2 * 4
    assert len(selection["loss"]) == 2 * 4 * 2
    assert {"test, last epoch", "test, epoch selected on noisy validation", "test, best test epoch"} <= set(results)
    assert {claim.id for claim in record.claims} == {
        "R3.symmetric:0.4.accuracy",
        "R3.symmetric:0.4.ce",
        "R3.symmetric:0.4.mild",
        "R3.symmetric:0.4.auc",
        "R3.symmetric:0.4.robust",
    }
    assert "best" not in record.answer
    text = page.render([record])
    assert all(panel.title in text for panel in record.panels)


def test_settings_are_chosen_by_noisy_validation_and_by_nothing_else():
    held_out, tested = "noisy validation, last epoch", "test, last epoch"
    rows = [
        {"noise": "n", "loss": loss, "weight decay": 0.0, held_out: held, tested: test}
        for loss, held, test in (("a", 0.5, 0.9), ("b", 0.6, 0.1), ("a", 0.5, 0.9), ("b", 0.5, 0.1))
    ]
    assert label_noise._chosen(rows, "n", (("a", 0.0), ("b", 0.0))) == ("b", 0.0)
    assert label_noise._chosen([], "n", (("a", 0.0),)) == ("a", 0.0)


def test_every_method_has_as_many_settings():
    for config in label_noise.PRESETS.values():
        assert len({len(grid) for _, grid in config.methods}) == 1


def test_fresh_seeds_differ_from_those_of_the_selection():
    for config in label_noise.PRESETS.values():
        searched = any(len(grid) > 1 for _, grid in config.methods)
        assert not searched or not set(config.seeds) & set(config.selection_seeds)


def test_runs_at_the_same_time_give_the_same_numbers():
    grids = dict(TINY.methods)
    methods = (("CE", grids["CE"]), ("ELR", grids["ELR"][:1]), ("SOP", grids["SOP"][:1]))
    tiny = replace(TINY, noises=("symmetric:0.4",), methods=methods, seeds=(10,))
    one, two = (label_noise.investigate(tiny, Sweep(workers)) for workers in (0, 2))
    assert one.tables["results"] == two.tables["results"]


def test_confident_learning_finds_wrong_labels():
    pytest.importorskip("cleanlab")
    row = noise_runs.confident((replace(TINY, limit=600), "symmetric:0.2", 10, None))
    # One label in five is wrong, so that guessing has a precision of 0.2 whatever its recall.
    assert row["precision"] > 0.5
    assert row["recall"] > 0.7
    assert row["noise AUC"] > 0.9
    assert noise_runs.confident((TINY, "none", 10, None))["recall"] is None


def test_overfitting_is_judged_from_three_runs():
    experiment = catalog.load("noisy-labels")
    configs = {
        name: with_training(replace(config, width=16, depth=1, observations=3, limit=200), epochs=3)
        for name, config in experiment.trials("smoke").items()
    }
    assert list(configs) == ["CE, clean labels", "CE, wrong labels", "SOP, wrong labels"]
    record = experiment.run(configs=configs)
    assert [claim.id for claim in record.claims] == ["R1.fit", "R1.collapse", "R1.overfitting", "R1.sop"]
    # Three epochs of a small network fit nothing.
    assert record.claims[0].verdict == "failed"
    assert set(record.series["split"]) == {"train", "test", "train, clean labels"}
    names = [name for name in record.tables if name.startswith("most suspicious labels")]
    assert names == ["most suspicious labels, CE, wrong labels", "most suspicious labels, SOP, wrong labels"]
    assert noisy_labels.PRESETS.keys() == {"smoke", "quick", "paper"}
