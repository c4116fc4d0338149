"""Every experiment runs, judges by its numbers, and says no where the theory does not hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tightframe.collapse.conventions import convention
from tightframe.collapse.separation import fit_separation
from tightframe.collapse.summary import CollapseSummary, LayerCollapse, Measurement
from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.base import falls, with_training
from tightframe.experiments.collapse import depthwise, optimizers, weight_decay
from tightframe.report import page
from tightframe.report.tables import text_claims
from tightframe.runs.record import Record
from tightframe.training.config import TrainConfig
from tightframe.trials.trial import Picture, Trial, TrialConfig, run_trial

NAMES = ["optimizers", "weight-decay", "depthwise"]
# At 1 part in 10^6 of a sensible step, features stay where they were drawn.
STANDSTILL = 1e-6


def tiny(experiment, **changes) -> dict[str, TrialConfig]:
    """The smoke configurations at a size of a second."""
    return {
        name: with_training(
            replace(config, width=16, depth=3, observations=3, limit=400), epochs=3, milestones=(), **changes
        )
        for name, config in experiment.trials("smoke").items()
    }


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    experiments = {name: catalog.load(name) for name in NAMES}
    return {name: experiment.run(configs=tiny(experiment)) for name, experiment in experiments.items()}


@pytest.fixture(params=NAMES)
def record(records, request) -> Record:
    return records[request.param]


def test_a_run_ends_in_a_record_that_survives_its_file(record):
    assert Record.from_json(record.to_json()) == record
    entry = catalog.entry(record.name)
    assert (record.title, record.question) == (entry.title, entry.question)
    assert record.answer
    assert record.preset == "smoke"
    assert record.config["preset"] == "smoke"
    assert set(record.config) == set(record.preset_config) == {"preset", *record.series["run"]}
    assert record.config != record.preset_config
    assert set(record.series["epoch"]) == {0, 1, 2, 3}


def test_every_claim_belongs_to_the_entry_and_follows_from_its_numbers(record):
    entry = catalog.entry(record.name)
    assert {claim.id.split(".")[0] for claim in record.claims} == set(entry.claims)
    assert len({claim.id for claim in record.claims}) == len(record.claims)
    for claim in record.claims:
        assert claim.statement
        assert claim.source
        if claim.verdict == "not run":
            assert "needs" in claim.note
            continue
        slack = claim.tolerance
        holds = {"<=": claim.observed <= claim.expected + slack, ">=": claim.observed >= claim.expected - slack}
        assert (claim.verdict == "passed") == holds[claim.relation]


def test_every_panel_can_be_drawn(record):
    text = page.render([record])
    assert len(record.panels) == 7
    for panel in record.panels:
        assert panel.title in text
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 7
    assert all(claim.id in text for claim in record.claims)
    assert all(claim.id in text_claims([record]) for claim in record.claims)


def test_the_ratio_of_a_claim_is_that_of_the_series(record):
    series = {
        (run, epoch, metric): value
        for run, epoch, split, layer, metric, value in zip(*record.series.values(), strict=True)
        if split == "train" and layer == "features"
    }
    metric_of = {"NC1": "NC1", "NC2": "NC2 features", "NC3": "NC3"}
    ratios = [claim for claim in record.claims if claim.id.split(".")[-1] in metric_of]
    assert len(ratios) == {"optimizers": 9, "weight-decay": 6, "depthwise": 0}[record.name]
    for claim in ratios:
        _, run, sign = claim.id.split(".")
        after, before = (series[run, epoch, metric_of[sign]] for epoch in (3, 0))
        assert claim.observed == pytest.approx(after / before, rel=1e-12)
        assert claim.expected == (0.1 if sign == "NC1" else 0.5)


def test_generalisation_is_not_judged_on_few_test_samples(records):
    claim = next(claim for claim in records["optimizers"].claims if claim.id == "N4.generalisation")
    assert (claim.verdict, claim.observed) == ("not run", None)
    assert "needs 1000 test samples, this set has 450" in claim.note


@pytest.mark.parametrize("experiment", [optimizers.EXPERIMENT, weight_decay.EXPERIMENT], ids=lambda e: e.entry.name)
def test_a_network_that_does_not_train_does_not_collapse(experiment):
    configs = {
        name: with_training(config, epochs=1, lr=STANDSTILL)
        for name, config in tiny(experiment).items()
        if name != "L-BFGS"  # whose line search picks a step of its own
    }
    trials = {name: run_trial(config, name=name) for name, config in configs.items()}
    claims = experiment.judge(trials).claims
    signs = [claim for claim in claims if claim.id.split(".")[-1] in ("NC1", "NC2", "NC3")]
    assert len(signs) == 6
    assert [claim.verdict for claim in signs] == ["failed"] * 6


def summary(ratios, *, metrics=None, accuracy=0.9, samples=2000) -> CollapseSummary:
    """Layers with these D; the last with these metrics too."""
    layers = {}
    for depth, ratio in enumerate(ratios):
        measured = {"D": Measurement(ratio, convention("D", "weighted"))}
        if depth == len(ratios) - 1:
            formula = convention("D", "weighted")  # of no consequence here
            measured |= {name: Measurement(value, formula) for name, value in (metrics or {}).items()}
        layers[f"layer {depth}"] = LayerCollapse(f"layer {depth}", 10, 16, samples, measured)
    usable = len(ratios) >= 3 and all(ratios)
    fit = fit_separation(ratios) if usable else None
    return CollapseSummary(layers, {"accuracy": Measurement(accuracy, convention("accuracy", "top-1"))}, fit, "train")


def trial(ratios=(1.0, 0.5, 0.25), *, before=None, after=None, accuracy=0.9, samples=2000) -> Trial:
    """A trial that nobody ran, with these numbers."""
    first, last = (
        Picture(epoch, measured, measured, None, ())
        for epoch, measured in (
            (0, summary(ratios, metrics=before)),
            (9, summary(ratios, metrics=after, accuracy=accuracy, samples=samples)),
        )
    )
    return Trial(TrialConfig(train=TrainConfig(epochs=9)), None, tuple("0123456789"), (), first, last, None)


DEPTHS = {
    "a straight line": ((1.0, 0.5, 0.25, 0.125), 0, "passed", "passed"),
    "a slow start": ((1.0, 0.99, 0.98, 0.01), 0, "passed", "failed"),
    "one layer that rises": ((1.0, 0.5, 0.6, 0.1), 1, "failed", "failed"),
    "no progress at all": ((1.0, 1.0, 1.0), 2, "failed", "failed"),
    "the wrong direction": ((0.1, 0.2, 0.4), 2, "failed", "failed"),
    "two layers": ((1.0, 0.5), None, "not run", "not run"),
    "a layer without a value": ((1.0, None, 0.2), None, "not run", "not run"),
    "a layer collapsed to points": ((1.0, 0.1, 0.0), None, "not run", "not run"),
}


@pytest.mark.parametrize("what", DEPTHS)
def test_separation_is_judged_by_the_ratios(what):
    ratios, rises, monotone, linear = DEPTHS[what]
    outcome = depthwise.judge({"net": trial(ratios)})
    assert [claim.id for claim in outcome.claims] == ["N16.net.monotone", "N16.net.linear"]
    assert outcome.claims[0].observed == rises
    assert [claim.verdict for claim in outcome.claims] == [monotone, linear]
    assert outcome.answer.strip(" .")


SIGNS = {"NC1": 1.0, "NC2 features": 0.8, "NC3": 0.9}


@pytest.mark.parametrize(
    ("after", "verdicts"),
    [
        ({"NC1": 0.1, "NC2 features": 0.4, "NC3": 0.45}, ["passed"] * 3),
        ({"NC1": 0.101, "NC2 features": 0.4, "NC3": 0.46}, ["failed", "passed", "failed"]),
        ({"NC1": None, "NC2 features": 0.4, "NC3": 0.0}, ["failed", "passed", "passed"]),
        ({"NC2 features": 0.41, "NC3": 0.0}, ["failed", "failed", "passed"]),
    ],
)
def test_collapse_is_judged_by_what_is_left_of_each_sign(after, verdicts):
    outcome = optimizers.judge({"SGD": trial(before=SIGNS, after=after)})
    assert [claim.verdict for claim in outcome.claims[:3]] == verdicts
    assert f"{verdicts.count('passed')} of 3 signs of collapse hold" in outcome.answer


@pytest.mark.parametrize("before", [0.0, None, math.nan])
def test_a_sign_that_had_no_value_before_training_is_no_pass(before):
    judged = falls(
        "N4", trial(before={"NC1": before}, after={"NC1": 0.0}), "NC1", factor=0.1, statement="s", source="s"
    )
    assert judged.verdict == "failed"


@pytest.mark.parametrize(
    ("accuracies", "samples", "verdict"),
    [
        # The 95 % range of three equal accuracies of 0.9 on 10,000 samples is 3.314 sqrt(0.09 / 10,000) = 0.0099.
        ((0.90, 0.905, 0.895), 10_000, "passed"),
        ((0.90, 0.904, 0.896), 10_000, "failed"),
        ((0.90, 0.905, 0.895), 1_000, "failed"),
        ((0.99, 0.10, 0.50), 999, "not run"),
    ],
)
def test_generalisation_is_judged_against_the_noise_of_sampling(accuracies, samples, verdict):
    trials = {
        str(place): trial(before=SIGNS, after=SIGNS, accuracy=accuracy, samples=samples)
        for place, accuracy in enumerate(accuracies)
    }
    claim = optimizers.judge(trials).claims[-1]
    assert (claim.id, claim.verdict) == ("N4.generalisation", verdict)


@pytest.mark.parametrize(
    ("accuracy", "verdict"),
    # The bound is 1.645 sqrt(2 * 0.09 / 10,000) = 0.00698.
    [(0.95, "passed"), (0.8935, "passed"), (0.892, "failed")],
)
def test_the_accuracy_of_decaying_the_last_layer_alone_is_judged_one_sided(accuracy, verdict):
    both = [trial(before=SIGNS, after=SIGNS, accuracy=a, samples=10_000) for a in (0.9, accuracy)]
    claim = weight_decay.judge(dict(zip(("all weights", "last layer"), both, strict=True))).claims[-1]
    assert (claim.id, claim.verdict) == ("N6.accuracy", verdict)


def test_presets_differ_only_in_what_is_compared():
    """Trials of one preset share data, network and seed, or the comparison would mean nothing."""
    for preset in ("smoke", "quick", "paper", "paper-mnist"):
        for module in (optimizers, weight_decay):
            configs = module.PRESETS[preset].values()
            assert len({replace(config, train=TrainConfig()) for config in configs}) == 1
            assert len({config.train.seed for config in configs}) == 1
        assert len({config.train.batch_size for config in weight_decay.PRESETS[preset].values()}) == 1


def test_the_paper_preset_is_the_setting_of_the_source():
    for module in (optimizers, weight_decay, depthwise):
        for preset, data in (("paper", "cifar10"), ("paper-mnist", "mnist")):
            config = next(iter(module.PRESETS[preset].values()))
            assert (config.data, config.model, config.width, config.limit) == (data, "resnet18", None, None)
            train = config.train
            assert (train.optimizer, train.lr, train.weight_decay, train.epochs) == ("sgd", 0.05, 5e-4, 200)
            assert [train.lr_at(epoch) for epoch in (40, 41, 81)] == pytest.approx([0.05, 0.005, 0.0005])


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"got 'huge'\. Use one of smoke, quick, paper, paper-mnist"):
        depthwise.EXPERIMENT.run("huge")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_claims_hold_at_the_smoke_preset(name):
    record = catalog.load(name).run("smoke")
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    if name == "optimizers":
        # 450 test samples say nothing about generalisation.
        assert verdicts.pop("N4.generalisation") == "not run"
    if name == "depthwise":
        # The law is one of normalised networks: what it says of others is reported, and may fail.
        verdicts = {claim: verdict for claim, verdict in verdicts.items() if ".plain." not in claim}
    assert verdicts
    assert set(verdicts.values()) == {"passed"}, verdicts
