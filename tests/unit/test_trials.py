"""A trial: which samples each process measures, when, and what the pictures show."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tightframe
from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset
from tightframe.data.labelled.source import load
from tightframe.experiments.base import with_training
from tightframe.training.config import TrainConfig
from tightframe.trials.pictures import shown, trial_panels, trial_tables
from tightframe.trials.shard import Shard
from tightframe.trials.trial import TrialConfig, initial_model, observed_epochs, run_trial

CONFIG = TrialConfig(width=12, depth=3, limit=300, observations=3, train=TrainConfig(epochs=4, lr=0.1))


@pytest.fixture(scope="module")
def trial():
    return run_trial(CONFIG, name="net")


@pytest.mark.parametrize(("samples", "processes"), [(449, 1), (449, 2), (449, 3), (5, 8)])
def test_shards_hold_every_sample_once(samples, processes):
    data = ArrayDataset(torch.arange(samples, dtype=torch.float32).view(-1, 1, 1, 1), torch.zeros(samples).long())
    shards = [list(Shard(data, rank, processes, batch_size=16)) for rank in range(processes)]
    seen = torch.cat([inputs.flatten() for shard in shards for inputs, _ in shard])
    assert sorted(seen.tolist()) == list(range(samples))
    sizes = [sum(len(labels) for _, labels in shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(labels) <= 16 for shard in shards for _, labels in shard)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": -4}, {"workers": -1}])
def test_a_shard_that_cannot_be_read_is_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Shard(load("digits").test, **wrong)


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 200])
@pytest.mark.parametrize("count", [2, 3, 4, 24, 500])
def test_observations_begin_and_end_with_training_and_are_not_more_than_asked_for(epochs, count):
    observed = observed_epochs(epochs, count)
    assert {0, epochs} <= observed <= set(range(epochs + 1))
    assert len(observed) <= max(count, 2)
    if count > 2:
        assert 1 in observed
    if count > 2 * epochs:
        assert len(observed) > epochs // 4


@pytest.mark.parametrize("count", [1, 0, -3])
def test_fewer_than_two_observations_are_refused(count):
    with pytest.raises(InputError, match=f"observations={count}"):
        run_trial(replace(CONFIG, observations=count))


def test_the_initial_network_follows_from_the_seed_alone():
    data = load("digits")
    state = torch.get_rng_state()
    first, again = (initial_model(CONFIG, data).state_dict() for _ in range(2))
    other = initial_model(with_training(CONFIG, seed=1), data).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_rows_are_measured_when_they_were_to_be(trial):
    measured = {row["epoch"] for row in trial.rows if row["metric"] == "NC1"}
    assert measured == {0, 1, 4}
    assert {row["epoch"] for row in trial.rows if row["metric"] == "training loss"} == {1, 2, 3, 4}
    assert {row["run"] for row in trial.rows} == {"net"}
    assert {row["split"] for row in trial.rows if row["metric"] == "accuracy"} == {"train", "test"}
    for picture in (trial.first, trial.last):
        for summary in (picture.train, picture.test):
            at = [row for row in trial.rows if (row["epoch"], row["split"]) == (picture.epoch, summary.split)]
            kept = {(row["layer"], row["metric"]): row["value"] for row in at}
            assert all(kept[row["layer"], row["metric"]] == row["value"] for row in summary.rows())


def test_pictures_show_the_network_before_and_after(trial):
    data = load("digits", limit=300)
    for picture, model in ((trial.first, initial_model(CONFIG, data)), (trial.last, trial.model)):
        with torch.no_grad():
            features = model.eval().forward_features(data.train.images).double()
        labels = data.train.labels
        means = torch.stack([features[labels == k].mean(0) for k in range(10)])
        centred = means - means.mean(0)
        unit = centred / centred.norm(dim=1, keepdim=True)
        torch.testing.assert_close(picture.cosines, unit @ unit.T, rtol=0, atol=1e-6)
        # The plane through three means holds them: their distances are those of the projection, up to the unit.
        points = torch.tensor(picture.projection, dtype=torch.float64)
        assert set(points[:, 0].tolist()) == {0.0, 1.0, 2.0}
        drawn = torch.stack([points[points[:, 0] == k, 1:].mean(0) for k in range(3)])
        torch.testing.assert_close(drawn.square().sum(1).mean(), torch.tensor(1.0, dtype=torch.float64))
        pairs, true = torch.pdist(drawn), torch.pdist(means[:3])
        torch.testing.assert_close(pairs / pairs[0], true / true[0], rtol=1e-5, atol=0)


def test_a_picture_of_few_classes_has_a_plane_too(tmp_path):
    from PIL import Image

    for label, shade in (("dark", 30), ("light", 220)):
        (tmp_path / label).mkdir()
        for place in range(10):
            Image.new("L", (4, 4), shade + place).save(tmp_path / label / f"{place}.png")
    trial = run_trial(replace(CONFIG, data=f"folder:{tmp_path}", limit=None, model="mlp"))
    assert {label for label, _, _ in trial.last.projection} == {0, 1}
    assert trial.last.cosines.shape == (2, 2)
    assert trial.last.cosines[0, 1] == pytest.approx(-1)


def test_tables_and_panels_of_one_trial_and_of_several(trial):
    one, two = trial_tables({"net": trial}), trial_tables({"net": trial, "again": trial})
    assert one["layers"]["layer"] == ["blocks.0", "blocks.1", "features"] * 2
    assert one["layers"]["width"] == [12] * 6
    assert set(one["class means"]["of"]) == {"measured", "ideal simplex"}
    assert set(two["class means"]["of"]) == {"net", "again", "ideal simplex"}
    ideal = [c for of, c in zip(one["class means"]["of"], one["class means"]["cosine"], strict=True) if of[0] == "i"]
    assert sorted({round(cosine, 12) for cosine in ideal}) == [round(-1 / 9, 12), 1.0]
    assert list(one["final values"]) == ["metric", "net, train", "net, test"]
    at = one["final values"]["metric"].index("NC1")
    assert one["final values"]["net, train"][at] == trial.last.train["NC1"]
    assert set(one["features"]["when"]) == {"epoch 0", "epoch 4"}
    assert set(two["features"]["when"]) == {f"{run}, epoch {epoch}" for run in ("net", "again") for epoch in (0, 4)}
    for tables, panels in ((one, trial_panels({"net": trial})), (two, trial_panels({"net": trial, "again": trial}))):
        assert len(panels) == 7
        for panel in panels:
            columns = tables.get(panel.table, ("run", "epoch", "split", "layer", "metric", "value"))
            assert {c for c in (panel.x, panel.y, panel.color, panel.facet, panel.value) if c} <= set(columns)


def test_a_metric_without_a_value_is_shown_as_undefined(trial):
    assert shown(trial.last.train, "NC1") == f"{trial.last.train['NC1']:.4g}"
    assert shown(trial.last.train, "no such metric") == "undefined"
    monitor = tightframe.Monitor(2)
    monitor.update(torch.ones(4, 3), torch.tensor([0, 0, 1, 1]))
    assert shown(monitor.compute(), "NC1") == "undefined"
