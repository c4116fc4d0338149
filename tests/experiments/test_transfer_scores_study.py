"""T1: the record, the correlations and the claims of the transfer experiment."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import torch

from tightframe.collapse.variability import nc1
from tightframe.experiments import catalog
from tightframe.experiments.base import Place
from tightframe.experiments.study import Sweep
from tightframe.experiments.transfer import pretraining, transfer_scores
from tightframe.experiments.transfer.image_tasks import ImageTask, read_task
from tightframe.experiments.transfer.pretraining import Recipe, pretrained
from tightframe.experiments.transfer.rank_correlation import spearman
from tightframe.experiments.transfer.transfer_runs import LOST, Config, features, outcome, scored
from tightframe.features.moments import ClassMoments
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of
from tightframe.training.config import TrainConfig

SOURCE, TARGET = ImageTask("digits", (0, 1, 2), limit=60, tested=30), ImageTask("digits", (5, 6, 7), limit=45)
TRAIN = TrainConfig(epochs=3, lr=0.05, batch_size=20)
PLAIN = Recipe("plain", SOURCE, model="mlp-bn", width=12, depth=2, snapshots=(1,), train=TRAIN)
TINY = Config(
    recipes=(
        PLAIN,
        replace(PLAIN, name="smoothed", train=replace(TRAIN, loss="ls:smoothing=0.1")),
        replace(PLAIN, name="decayed", train=replace(TRAIN, weight_decay=0.1)),
        replace(PLAIN, name="projected", projection=True),
    ),
    targets=(TARGET,),
    epochs=2,
    lr=1e-3,
    decays=(1e-2,),
    least=8,
    replicates=50,
)


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    place = Place(out=tmp_path_factory.mktemp("runs") / "transfer-scores")
    found = catalog.load("transfer-scores").run(config=TINY, place=place)
    assert len(list((place.out / "checkpoints").glob("*.safetensors"))) == 8
    return found


def test_the_record_has_every_network_and_every_score(record):
    assert Record.from_json(record.to_json()) == record
    networks = list(rows_of(record.tables["networks"]))
    assert [(row["run"], row["epoch"]) for row in networks] == [
        (recipe.name, epoch) for recipe in TINY.recipes for epoch in (1, 3)
    ]
    correlations = list(rows_of(record.tables["correlations"]))
    assert len(correlations) == 2 * 10
    assert {claim.id for claim in record.claims} == {
        f"T1.digits 5-7.{key}" for key in ("linear", "linear.source", "full", "full.source")
    }
    text = page.render([record])
    assert all(panel.title in text for panel in record.panels)


def test_nc1_of_a_row_is_that_of_the_features_on_the_target(record):
    data = read_task(TARGET)
    network = pretrained(PLAIN)[-1].network(3, shape=data.shape)
    with torch.no_grad():
        h = network.forward_features(data.train.images)
    moments = ClassMoments(3)
    moments.update(h, data.train.labels)
    row = next(row for row in rows_of(record.tables["networks"]) if row["model"] == "plain, 3 epochs")
    # The features are those of one pass in single precision, cut into other batches.
    assert row["NC1"] == pytest.approx(nc1(moments), rel=1e-4)
    source = read_task(SOURCE)
    with torch.no_grad():
        h = network.forward_features(source.train.images)
    moments = ClassMoments(3)
    moments.update(h, source.train.labels)
    assert row["source NC1"] == pytest.approx(nc1(moments), rel=1e-4)
    assert row["NC1"] != pytest.approx(row["source NC1"], rel=0.1)


def test_correlations_are_those_of_the_rows(record):
    networks = list(rows_of(record.tables["networks"]))
    for row in rows_of(record.tables["correlations"]):
        wanted = spearman([one[row["score"]] for one in networks], [one[row["accuracy"]] for one in networks])
        assert row["rho"] == pytest.approx(wanted) if not math.isnan(wanted) else row["rho"] is None
        assert (row["networks"], row["runs"]) == (8, 4)


def test_claims_follow_from_the_intervals(record):
    found = {(row["score"], row["accuracy"]): row for row in rows_of(record.tables["correlations"])}
    claims = {claim.id: claim for claim in record.claims}
    for method in ("linear", "full"):
        here, there = (found[name, outcome(method)] for name in ("NC1", "source NC1"))
        claim = claims[f"T1.digits 5-7.{method}"]
        assert claim.observed == here["high"]
        assert claim.verdict == ("passed" if here["high"] <= 0 else "failed")
        assert claims[f"T1.digits 5-7.{method}.source"].observed == pytest.approx(abs(there["rho"]) - abs(here["rho"]))


def test_too_few_networks_claim_nothing():
    rows = [
        {"target": "t", "accuracy": outcome("linear"), "score": name, "rho": -1.0, "low": -1.0, "high": -0.9}
        | {"networks": 19, "runs": 10}
        for name in ("NC1", "source NC1")
    ]
    config = replace(TINY, methods=("linear",), least=20)
    assert [claim.verdict for claim in transfer_scores._claims(rows, "t", config)] == ["not run", "not run"]
    enough = replace(config, least=19)
    assert [claim.verdict for claim in transfer_scores._claims(rows, "t", enough)] == ["passed", "passed"]


def test_work_can_be_sent_to_another_process(record):
    item = pickle.loads(pickle.dumps((TINY, TINY.recipes[1], None, None)))
    wanted = [row for row in rows_of(record.tables["networks"]) if row["run"] == "smoothed"]
    assert scored(item) == wanted


def test_a_resumed_run_trains_no_network_again(tmp_path, monkeypatch):
    tiny = replace(TINY, recipes=TINY.recipes[:1], methods=("linear",))
    place = Place(out=tmp_path / "run")
    first = catalog.load("transfer-scores").run(config=tiny, place=place)
    place.out.joinpath("record.json").unlink()
    monkeypatch.setattr(pretraining, "fit", None)
    again = catalog.load("transfer-scores").run(config=tiny, place=replace(place, resume=True))
    assert again.tables == first.tables


def test_public_networks_have_no_source(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    name = f"hf:{tmp_path / 'vit'}"
    (row,) = scored((replace(TINY, recipes=(), public=(name,), methods=("linear",)), name, None, None))
    assert row["source NC1"] is None
    assert row["NC1"] > 0
    assert 0 <= row[outcome("linear")] <= 1


def test_the_presets_are_what_they_say():
    for name, preset in transfer_scores.PRESETS.items():
        networks = sum(len(recipe.epochs) for recipe in preset.recipes) + len(preset.public)
        assert networks >= preset.least, name
        names = [recipe.name for recipe in preset.recipes]
        assert len(set(names)) == len(names)


def test_features_are_read_behind_the_preparation():
    data = read_task(TARGET)
    network = pretrained(PLAIN)[-1].network(3, shape=data.shape)
    rows, _ = features(network, data, prepare=lambda images: 2 * images)
    with torch.no_grad():
        assert torch.allclose(rows, network.forward_features(2 * data.train.images), atol=1e-5)


def test_a_training_that_breaks_down_is_told_and_the_others_go_on():
    broken = replace(PLAIN, name="broken", train=replace(TRAIN, lr=1e30))
    found = transfer_scores.investigate(replace(TINY, recipes=(PLAIN, broken), replicates=20), Sweep())
    assert found.tables["networks"]["run"] == ["plain", "plain"]
    assert found.tables["not trained"]["run"] == ["broken"]
    assert "not finite" in found.tables["not trained"][LOST][0]
