"""`tightframe finetune`: from a pretrained network to a delta, a record, a page and an exported program."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

from door import refused
from tightframe.cli.main import main
from tightframe.data.labelled.source import load
from tightframe.jobs.finetune import finetune
from tightframe.jobs.finetune_options import FinetuneOptions
from tightframe.nn.backbones.backbones import backbone
from tightframe.nn.tuning.fine_tuning import load_delta
from tightframe.runs.record import Record

FACTORIES = """
import torch
from torch import nn
from tightframe.nn.networks import MLP, BasicBlock, ResNet
def small():
    torch.manual_seed(0)
    return MLP(64, 10, widths=(24, 12))
def other():
    torch.manual_seed(1)
    return MLP(64, 10, widths=(24, 12))
def residual():
    torch.manual_seed(0)
    return ResNet(BasicBlock, (1, 1), in_channels=1, classes=4, width=4)
def colour(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""
QUICK = ("--epochs", "2", "--observations", "2", "--probe-steps", "3", "--limit", "200", "--quiet")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "started", raising=False)
    (tmp_path / "started.py").write_text(FACTORIES)
    return tmp_path


def tuned(capsys, *arguments):
    capsys.readouterr()
    main(["finetune", *arguments, "--format", "json"])
    return json.loads(capsys.readouterr().out)


def logits_of(model, count=50):
    images, labels = load("digits").test.gather(torch.arange(count))
    model.eval()
    with torch.no_grad():
        return model(images), labels


def test_a_run_of_train_is_tuned_saved_and_measured_again(here, capsys):
    main(["train", "--epochs", "3", "--observations", "2", "--limit", "200", "--quiet", "--out", "run"])
    arguments = ("--model", "run", "--data", "digits:1", *QUICK)
    found = tuned(capsys, *arguments, "--layer", "blocks.1", "--out", "tuned")
    assert (found["method"], found["layer"], found["delta"]) == ("scl", "blocks.1", "delta.safetensors")
    assert {path.name for path in (here / "tuned").iterdir()} >= {
        *("config.json", "record.json", "report.html", "delta.safetensors")
    }
    again = tuned(capsys, *arguments, "--delta", "tuned/delta.safetensors")
    for name in ("test accuracy", "train accuracy", "layer", "trainable", "share"):
        assert again[name] == found[name], name
    assert again["NC1"]["test"] == pytest.approx(found["NC1"]["test"], rel=1e-3)
    assert again["delta"] is None

    message = refused(capsys, "finetune", "--model", "started:small", "--delta", "tuned/delta.safetensors")
    assert "a network with other layers, shapes or precision" in message


def test_every_method_and_the_numbers_that_it_prints(here, capsys):
    methods = ["linear", "layer", "scl", "full"]
    accuracies = {}
    for method in methods:
        layer = ("--layer", "blocks.0") if method in ("layer", "scl") else ()
        found = tuned(capsys, "--model", "started:small", "--method", method, *layer, *QUICK, "--out", method)
        read = load_delta(backbone("started:small", size=(1, 8, 8)).model, here / method / "delta.safetensors")
        logits, labels = logits_of(read, count=len(load("digits").test))
        accuracies[method] = float((logits.argmax(1) == labels).double().mean())
        assert found["test accuracy"] == accuracies[method]
        count = sum(p.numel() for p in read.parameters() if p.requires_grad)
        assert found["trainable"] == count
        assert found["total"] == sum(p.numel() for p in read.parameters())
        assert found["share"] == count / found["total"]
    assert tuned(capsys, "--model", "started:small", "--method", "linear", *QUICK)["decay"] > 0
    # The head at its optimum, against two epochs of small steps from a new one.
    assert accuracies["linear"] > 0.5


def test_the_layer_is_chosen_and_shown(here, capsys):
    main(["finetune", "--model", "started:residual", "--data", "digits", *QUICK, "--compare-speed", "--out", "auto"])
    out = capsys.readouterr().out
    record = Record.from_json((here / "auto/record.json").read_text(encoding="utf-8"))
    layers = record.tables["layers"]
    assert layers["layer"] == ["layer1.0", "layer2.0"]
    chosen = layers["layer"][layers["chosen"].index(True)]
    assert layers["accuracy"][layers["chosen"].index(True)] == max(layers["accuracy"])
    assert f"scl of {chosen} (chosen by accuracy on samples held out) trains" in out
    assert "parameters are trained" in out
    assert out.count("layer1.0") >= 1
    parts = record.tables["parts"]
    assert parts["part"] == [chosen, "classifier", "all"]
    assert parts["trainable"][2] == sum(parts["trainable"][:2])
    result = record.tables["result"]
    assert list(zip(result["when"], result["split"], strict=True)) == [
        *(("before", "train"), ("before", "test"), ("after", "train"), ("after", "test"))
    ]
    assert all(value > 0 for value in result["NC1"])
    what = record.tables["seconds"]["what"]
    assert what == ["an epoch", "the frozen trunk, once", "an epoch that computes the trunk again"]
    assert all(seconds > 0 for seconds in record.tables["seconds"]["seconds"])
    page = (here / "auto/report.html").read_text(encoding="utf-8")
    assert "Which layer to tune" in page
    assert record.config["model"] == "started:residual"
    assert not {"out", "data_root", "quiet", "cache"} & record.config.keys()


def test_so_many_samples_of_every_class(here):
    options = FinetuneOptions(
        model="started:small", method="linear", shots=4, held_out=0.25, quiet=True, out=here / "few"
    )
    found = finetune(options)
    assert found.transferred.tuning.head.out_features == 10
    assert int(torch.bincount(load("digits").train.labels).min()) > 4
    # Forty samples: the accuracy is a number of fortieths, whatever else.
    assert 40 * found.transferred.train_accuracy == pytest.approx(round(40 * found.transferred.train_accuracy))


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_the_tuned_network_is_exported(here, capsys, kind):
    if kind == "onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
    found = tuned(
        capsys, "--model", "started:small", "--layer", "blocks.0", *QUICK, "--export", kind, "--out", "exported"
    )
    assert found["export"]["difference"] <= 1e-5
    read = load_delta(backbone("started:small", size=(1, 8, 8)).model, here / "exported/delta.safetensors")
    wanted, _ = logits_of(read)
    images = load("digits").test.gather(torch.arange(50))[0]
    path = here / "exported" / found["export"]["file"]
    if kind == "torch":
        given = torch.export.load(path).module()(images)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (given,) = map(torch.from_numpy, session.run(None, {session.get_inputs()[0].name: images.numpy()}))
    torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-5)


def test_checkpoints_of_transformers_are_tuned(here, capsys):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes)
    transformers.ViTForImageClassification(config).save_pretrained(here / "vit")
    vision = transformers.CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=6, **sizes)
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(here / "clip")
    for name in ("vit", "clip"):
        arguments = ("--model", f"hf:{name}", "--data", "digits", *QUICK)
        found = tuned(capsys, *arguments, "--tokens", "mean", "--out", f"tuned-{name}")
        assert len(found["layers"]) == 2
        assert found["layer"] in [row["layer"] for row in found["layers"]]
        read = load_delta(backbone(f"hf:{name}", classes=10).model, here / f"tuned-{name}/delta.safetensors")
        assert read.head.out_features == 10
        again = tuned(capsys, *arguments, "--tokens", "mean", "--delta", f"tuned-{name}/delta.safetensors")
        assert again["test accuracy"] == found["test accuracy"]


def test_what_does_not_fit_is_refused(here, capsys):
    base = ("finetune", "--quiet", "--model", "started:small")
    kept = refused(capsys, *base, "--layer", "blocks.0", "--keep-head", "--data", "gaussian:3x20:1x8x8")
    assert "a head of 3 classes, as the data have, to go on with; got one of 10" in kept
    assert "for example blocks.0" in refused(capsys, *base, "--layer", "block.0")
    colour = refused(capsys, "finetune", "--model", "started:colour", "--data", "digits", "--quiet")
    assert "started:colour reads the images it is given; got images (1, 8, 8) of digits" in colour
    assert "at least two samples of every class" in refused(capsys, *base, "--shots", "1", *QUICK[:2])
    assert "training samples of every class" in refused(capsys, *base, "--shots", "1000")
    assert "none for the other methods" in refused(capsys, *base, "--method", "full", "--layer", "blocks.0")
    assert "--export without --out" in refused(capsys, *base, "--export", "torch")
    assert "a run directory, IMPORT.PATH:factory" in refused(capsys, "finetune", "--model", "nothing")
    main([*base, "--method", "linear", "--limit", "200", "--out", "first"])
    capsys.readouterr()
    otherwise = ("finetune", "--quiet", "--model", "started:other", "--delta", "first/delta.safetensors")
    assert "the same network with other weights" in refused(capsys, *otherwise)
    assert "nothing at" in refused(capsys, *base, "--delta", "missing.safetensors")
    failed = refused(capsys, *base, "--layer", "block.0", "--out", "later")
    assert "names modules of the model" in failed
    # A run that failed leaves its directory free for the next try.
    main([*base, "--method", "linear", "--limit", "200", "--out", "later"])


def test_a_kept_head_goes_on(here, capsys):
    found = tuned(capsys, "--model", "started:small", "--method", "full", "--keep-head", "--lr", "1e-7", *QUICK)
    model = backbone("started:small", size=(1, 8, 8)).model
    assert isinstance(model.classifier, nn.Linear)
    logits, labels = logits_of(model, count=len(load("digits").test))
    right = float((logits.argmax(1) == labels).double().mean())
    # Steps of 1e-7 change next to nothing: one sample in 450 may turn.
    assert found["test accuracy"] == pytest.approx(right, abs=2 / 450)
