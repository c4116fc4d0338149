"""`tightframe score`: networks of one's own, runs and hubs, ranked on data that they were not trained for."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

from door import refused
from tightframe.cli.main import main
from tightframe.collapse.transfer import transfer_scores
from tightframe.core.errors import InputError
from tightframe.data.labelled.source import load
from tightframe.jobs.candidates import restandardised
from tightframe.jobs.options import ScoreOptions
from tightframe.jobs.score import score
from tightframe.nn.backbones.backbones import backbone
from tightframe.runs.record import Record

FACTORIES = """
import torch
from torch import nn
def small(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
def large(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 3))
def colour(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
def broken():
    model = small()
    model[1].weight.data[0, 0] = float("nan")
    return model
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "drawn", raising=False)
    (tmp_path / "drawn.py").write_text(FACTORIES)
    return tmp_path


def scored(capsys, *arguments):
    capsys.readouterr()
    main(["score", *arguments, "--format", "json"])
    return json.loads(capsys.readouterr().out)


def test_scores_are_those_of_the_features(here, capsys):
    found = scored(
        capsys, "--models", "drawn:small", "drawn:large", "--data", "digits", "--bootstrap", "5", "--limit", "600"
    )
    assert list(found) == ["drawn:large", "drawn:small"]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    images, labels = load("digits", limit=600).train.gather(torch.arange(600))
    with torch.no_grad():
        expected = transfer_scores(model[:3](images), labels, bootstrap=5).to_dict()["scores"]
    for name, entry in found["drawn:small"]["scores"].items():
        # Batches of another size round float32 products differently.
        assert entry["value"] == pytest.approx(expected[name]["value"], rel=1e-4), name
        assert entry["low"] == pytest.approx(expected[name]["low"], rel=1e-3), name


def test_the_page_and_the_record_hold_the_ranking(here, capsys):
    arguments = ["--by", "LogME", "--split", "test", "--no-probe", "--out", "ranked"]
    main(["score", "--models", "drawn:small", "drawn:large", *arguments])
    out = capsys.readouterr().out
    assert "Ranked by LogME (higher is better): drawn:large, drawn:small." in out
    assert "tr(pinv(cov f) cov E[f|y])" in out
    record = Record.from_json((here / "ranked/record.json").read_text(encoding="utf-8"))
    assert record.tables["ranking"]["model"] == ["drawn:large", "drawn:small"]
    assert record.tables["ranking"]["LogME"][0] > record.tables["ranking"]["LogME"][1]
    assert [panel.title for panel in record.panels][:2] == ["Rank of each model by each score", "NC1 and H-score"]
    assert all(seconds > 0 for seconds in record.tables["cost"]["forward pass (s)"])
    assert "NC1 and LogME" in (here / "ranked/report.html").read_text(encoding="utf-8")


def test_a_trained_run_is_ahead_of_an_untrained_network(here, capsys):
    main(["train", "--epochs", "3", "--observations", "2", "--quiet", "--out", "run"])
    found = scored(capsys, "--models", "drawn:large", "run", "--data", "digits:1", "--no-probe")
    assert list(found) == ["run", "drawn:large"]
    assert "logistic probe" not in found["run"]["scores"]
    message = refused(capsys, "score", "--models", "run", "--data", "gaussian:3x50:3x4x4")
    assert "images (1, 8, 8), as run was trained on (digits); got images (3, 4, 4)" in message


def test_images_are_standardised_as_the_run_knows_them():
    given, wanted = load("digits:1"), load("digits:2")
    raw = torch.rand(2, 1, 8, 8)
    seen = (raw - given.mean[0]) / given.std[0]
    expected = (raw - wanted.mean[0]) / wanted.std[0]
    torch.testing.assert_close(restandardised(given, wanted)(seen), expected)
    assert restandardised(given, given)(seen) is seen


def test_a_checkpoint_of_transformers_is_shown_images_as_it_knows_them(here):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes)
    transformers.ViTForImageClassification(config).save_pretrained(here / "vit")
    residual = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[6], depths=[1], num_labels=2)
    transformers.ResNetForImageClassification(residual).save_pretrained(here / "resnet")
    options = {"limit": 60, "probe": False, "data": "digits"}
    ranking = score(ScoreOptions(models=("hf:vit", "hf:resnet"), hub_size=12, **options))
    found = {one.name: one.scores for one in ranking.models}
    assert (found["hf:vit"].features, found["hf:resnet"].features) == (8, 6)
    with pytest.raises(InputError, match="--hub-size"):
        score(ScoreOptions(models=("hf:resnet",), **options))
    with pytest.raises(InputError, match="Name it hf:vit"):
        score(ScoreOptions(models=("vit",), **options))

    read = backbone("hf:vit")
    data = load("digits", limit=60)
    images, labels = data.train.gather(torch.arange(60))
    rows = read.embed(read.prepared(images, mean=data.mean, std=data.std))
    assert found["hf:vit"]["LogME"] == pytest.approx(transfer_scores(rows, labels, probe=False)["LogME"], rel=1e-5)


def test_one_sample_per_class_ranks_by_what_is_left(here):
    ranking = score(ScoreOptions(models=("drawn:small",), limit=10))
    assert ranking.record.answer.startswith("Without NC1: drawn:small. drawn:small is first by H-score")
    notes = ranking.record.tables["scores"]["note"]
    assert any("one sample per class" in note for note in notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["drawn:colour"], "drawn:colour reads the images it is given; got images (1, 8, 8) of digits"),
        (["drawn:broken"], "drawn:broken: features are finite"),
        (["drawn:small", "drawn:small"], "each once"),
        (["absent"], "there is no such directory"),
        (["drawn:absent"], "IMPORT.PATH:factory"),
        (["drawn:small", "--by", "accuracy"], "a score to rank by"),
        (["drawn:small", "--bootstrap", "1"], "at least 2 bootstrap replicates"),
        (["drawn:small", "--data", "nowhere"], "a data set, one of"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message, here, capsys):
    assert message in refused(capsys, "score", "--models", *arguments)
    assert message in refused(capsys, "score", "--models", *arguments, "--out", "kept")
    main(["score", "--models", "drawn:small", "--no-probe", "--out", "kept"])
