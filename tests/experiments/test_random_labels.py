"""Random labels as an experiment: wide networks fit them and collapse, and the claims follow from what is measured."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, sqrt

import pytest

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.collapse import random_labels
from tightframe.experiments.collapse.width_runs import RANDOM, RIGHT, Config, trained
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.training.config import TrainConfig

GAUSSIAN = "gaussian:4x120:1x4x4"
KEY = "N5.gaussian-4x120-1x4x4"
TINY = Config(
    data=(GAUSSIAN,),
    depth=2,
    widths=(4, 96),
    seeds=(0,),
    compared=(GAUSSIAN,),
    train=TrainConfig(epochs=60, lr=0.05, weight_decay=5e-3, batch_size=30, schedule="cosine"),
    observations=3,
)
SIGNS = ("NC1", "NC2", "NC3")


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("random-labels").run(config=TINY)


def row(width=8, error=0.5, *, data=GAUSSIAN, labels=RANDOM, samples=400, before=10.0, after=5.0, **changes):
    """A row of results with these numbers."""
    signs = {name: after for name in ("NC1", "NC2 features", "NC3")}
    ratios = {f"{name}, after over before": after / before for name in signs}
    sizes = {"data": data, "labels": labels, "width": width, "parameters": 100, "samples": samples}
    return sizes | {"training error": error, "test accuracy": 0.25} | signs | ratios | changes


def verdicts(rows, **changes) -> dict[str, str]:
    config = replace(TINY, **changes)
    return {claim.id: claim.verdict for claim in random_labels._claims(config, GAUSSIAN, rows)}


def test_a_wide_network_fits_and_collapses_and_a_narrow_one_does_not(record):
    assert {claim.id.split(".")[0] for claim in record.claims} == set(catalog.entry("random-labels").claims)
    verdicts = {claim.id.removeprefix(f"{KEY}."): claim.verdict for claim in record.claims}
    # The means of so few samples stay farther from a simplex than those of a preset.
    del verdicts["NC2"]
    assert verdicts == dict.fromkeys(("fit", "narrow", "width", "NC1", "NC3", "width.NC1"), "passed")
    assert len(record.claims) == 7
    assert "fitted from width 96 on" in record.answer
    assert "with right labels" in record.answer


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 5


def test_the_tables_hold_every_network_and_only_the_first_seed_is_followed(record):
    lengths = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    assert lengths == {"widths": 3, "runs": 3, "training": 3 * 3}
    assert record.tables["runs"]["labels"].count(RIGHT) == 1
    # Linear maps and norms of 16 to w to w values, and a classifier of four classes.
    sizes = [w * (16 + 1) + 2 * w + w * (w + 1) + 2 * w + 4 * (w + 1) for w in (4, 96, 96)]
    assert record.tables["runs"]["parameters"] == sizes


def test_right_labels_generalise_and_random_ones_do_not():
    config = replace(TINY, limit=600, data=("digits",), compared=(), train=replace(TINY.train, epochs=10))
    accuracy = {
        labels: trained((config, "digits", labels, 96, 1, None))[0]["test accuracy"] for labels in (RANDOM, RIGHT)
    }
    # Chance is 0.1; labels of neighbours that happen to agree move that, but nowhere near the other.
    assert accuracy[RANDOM] < 0.35
    assert accuracy[RIGHT] > 0.85


def test_means_are_taken_over_the_seeds():
    runs = [
        row(width, error) | {f"{name} before": 10.0 * scale for name in ("NC1", "NC2 features", "NC3")}
        for width in TINY.widths
        for error, scale in ((0.2, 1), (0.4, 2))
    ]
    for first, second in zip(runs[::2], runs[1::2], strict=True):
        first["NC1"], second["NC1"] = 1.0, 4.0
        second["NC3"] = None
    rows = random_labels._results(TINY, GAUSSIAN, runs)
    assert [found["width"] for found in rows] == [4, 96]
    assert rows[0]["training error"] == pytest.approx(0.3)
    # 1/10 and 4/20: the mean of the ratios.
    assert rows[0]["NC1, after over before"] == pytest.approx(0.15)
    assert (rows[0]["NC3"], rows[0]["NC3, after over before"]) == (None, None)


def test_numbers_that_say_otherwise_fail_their_claim():
    narrow, wide = row(2, 0.5, after=50.0), row(96, 0.0, after=0.5)
    passed = dict.fromkeys([f"{KEY}.{part}" for part in ("fit", "narrow", "width", *SIGNS, "width.NC1")], "passed")
    assert verdicts([narrow, wide]) == passed
    assert verdicts([narrow, wide | {"training error": 0.011}]) == passed | {f"{KEY}.fit": "failed"}
    assert verdicts([narrow | {"training error": 0.09}, wide]) == passed | {f"{KEY}.narrow": "failed"}
    for metric, ratio in (("NC1", 0.11), ("NC2 features", 0.51), ("NC3", 0.51)):
        changed = wide | {f"{metric}, after over before": ratio}
        assert verdicts([narrow, changed]) == passed | {f"{KEY}.{metric.split()[0]}": "failed"}
    assert (
        verdicts([narrow | {"NC1": 4.9}, wide])
        == verdicts([narrow | {"NC1": 0.0}, wide])
        == passed | {f"{KEY}.width.NC1": "failed"}
    )


def test_an_undefined_sign_is_no_pass():
    wide = row(96, 0.0, after=0.5, NC1=None) | {"NC1, after over before": None}
    found = verdicts([row(2, 0.5, after=50.0), wide])
    assert [name for name, verdict in found.items() if verdict != "passed"] == [
        f"{KEY}.NC1",
        f"{KEY}.width.NC1",
    ]
    claim = random_labels._claims(TINY, GAUSSIAN, [row(2), wide])[3]
    assert isnan(claim.observed)


def test_a_rise_within_the_scatter_of_random_labels_is_none():
    # 2 sqrt((0.1 * 0.9 + 0.15 * 0.85) / (400 * 4)) = 0.0233 of four seeds.
    slack = 2 * sqrt((0.1 * 0.9 + 0.15 * 0.85) / 1600)
    rows = [row(2, 0.5), row(8, 0.10), row(32, 0.15), row(96, 0.0)]
    claim = random_labels._rise("N5", "inputs", rows, 4)
    assert claim.observed == pytest.approx(0.05 - slack)
    assert claim.verdict == "failed"
    assert "from width 8 to 32" in claim.note
    rows[2]["training error"] = 0.12
    assert random_labels._rise("N5", "inputs", rows, 4).verdict == "passed"
    assert random_labels._rise("N5", "inputs", [row(2, 0.0), row(8, 0.0)], 4).observed == 0


def test_when_nothing_is_fitted_the_answer_says_so():
    text = random_labels._answer(TINY, [row(2, 0.5), row(96, 0.2)])
    assert "no width fits them" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": (8,)},
        {"widths": (8, 8)},
        {"widths": (64, 8)},
        {"data": (), "compared": ()},
        {"seeds": ()},
        {"compared": ("cifar10",)},
    ],
)
def test_configurations_that_compare_nothing_are_refused(changes):
    with pytest.raises(InputError, match="two or more ascending widths"):
        replace(TINY, **changes)


def test_every_preset_has_inputs_with_and_without_meaning():
    assert set(catalog.entry("random-labels").presets) <= set(random_labels.PRESETS)
    for config in random_labels.PRESETS.values():
        assert any(data.startswith("gaussian:") for data in config.data)
        assert config.compared
