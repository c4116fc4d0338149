"""Certifying what people bring: a run, weights of their own, a file of features; in words, as JSON, as a page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from door import refused
from tightframe import nn
from tightframe.cli.main import main
from tightframe.data.labelled.source import load
from tightframe.features.store import write_features
from tightframe.jobs.certify import certify
from tightframe.jobs.options import CertifyOptions, TrainOptions
from tightframe.jobs.train import train
from tightframe.nn.networks import build
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory
from tightframe.training.checkpoint import load_into
from tightframe.training.config import TrainConfig, feature_penalty
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum

SMALL = TrainOptions(
    out=None,
    epochs=2,
    width=16,
    depth=2,
    limit=145,
    weight_decay=2e-3,
    feature_decay=0.05,
    layers="classifier",
    observations=2,
    quiet=True,
    accelerator="cpu",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network trained with decay of weights and features."""
    out = tmp_path_factory.mktemp("runs") / "small"
    train(replace(SMALL, out=out))
    return out


@pytest.fixture(scope="module")
def last_layer(run):
    """Features, labels, W and b of that network, computed without the job."""
    model = build("mlp-bn", shape=(1, 8, 8), classes=10, width=16, depth=2)
    load_into(model, run / "checkpoint.pt")
    data = load("digits", limit=145).train
    images, labels = (torch.stack([torch.as_tensor(pair[i]) for pair in data]) for i in (0, 1))
    with torch.no_grad():
        features = model.eval().forward_features(images)
    return features, labels, model.classifier.weight.detach(), model.classifier.bias.detach()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys, *arguments):
    """The JSON that `tightframe certify` prints."""
    capsys.readouterr()
    main(["certify", *map(str, arguments), "--format", "json"])
    return json.loads(capsys.readouterr().out)


def objective(last_layer, decays, loss=functional.cross_entropy):
    features, labels, weight, bias = (part.double() if part.is_floating_point() else part for part in last_layer)
    sizes = (weight.square().sum(), features.square().sum(), bias.square().sum())
    penalty = sum(0.5 * decay * size for decay, size in zip(decays, sizes, strict=True))
    return float(loss(features @ weight.T + bias, labels) + penalty)


def test_a_run_is_certified_with_the_decays_it_was_trained_with(run, last_layer, capsys):
    found = printed(capsys, "--checkpoint", run, "--accelerator", "cpu")
    assert (found["loss"], found["classes"], found["features"], found["samples"]) == ("cross-entropy", 10, 16, 145)
    assert (found["weight_decay"], found["bias"]) == (2e-3, 2e-3)
    # The penalty of training on all data in one batch, (c/2) mean |h|^2, is that of the model, (lambda_H/2) |H|^2.
    features = last_layer[0]
    penalty = float(feature_penalty([features.double()], TrainConfig(feature_decay=0.05)))
    assert 0.5 * found["feature_decay"] * float(features.double().square().sum()) == pytest.approx(penalty, rel=1e-6)
    # Batches of another size add the features up in another order, in float32.
    decays = (2e-3, found["feature_decay"], 2e-3)
    assert found["objective"] == pytest.approx(objective(last_layer, decays), rel=1e-5)
    assert found["minimum"]["source"] == "solved"
    assert found["lower_bound"] <= found["minimum"]["value"] <= found["changes"][-1]["together"] < found["objective"]
    assert not found["holds"]
    assert "the gradient is the way down" in found["way_down"]


def test_options_win_over_the_run(run, last_layer, capsys):
    where = ("--checkpoint", run, "--accelerator", "cpu", "--no-solve")
    found = printed(capsys, *where, "--weight-decay", 0.01, "--feature-decay", "balanced", "--bias", "free")
    squares = [float(part.double().square().sum()) for part in (last_layer[2], last_layer[0])]
    assert found["feature_decay"] == pytest.approx(0.01 * squares[0] / squares[1], rel=1e-5)
    assert (found["weight_decay"], found["bias"], found["minimum"]) == (0.01, "free", None)
    assert [change["name"] for change in found["changes"]][3] == "bias"
    found = printed(capsys, *where, "--loss", "ls", "--smoothing", 0.3, "--feature-decay", 1e-4, "--bias", 0.5)
    smoothed = lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.3)  # noqa: E731
    expected = objective(last_layer, (2e-3, 1e-4, 0.5), smoothed)
    assert found["objective"] == pytest.approx(expected, rel=1e-5)
    assert (found["loss"], found["bias"], found["feature_decay"]) == ("label smoothing 0.3", 0.5, 1e-4)


def test_the_record_makes_a_page(run, last_layer, here, capsys):
    main(["certify", "--checkpoint", str(run), "--accelerator", "cpu", "--out", "out"])
    out, err = capsys.readouterr()
    record = RunDirectory(here / "out").load_record()
    assert Record.from_json(record.to_json()) == record
    assert record.config == RunDirectory(here / "out").config()
    assert record.answer in out
    assert "cross-entropy: 10 classes, 145 samples, 16 features" in out
    assert "out/report.html" in err
    page = (here / "out" / "report.html").read_text(encoding="utf-8")
    assert all(panel.title in page for panel in record.panels)
    assert len(list((here / "out" / "report_figures").glob("*.svg"))) == 4
    # The figures show what was computed: falling excess, ten classes by two logit matrices, a line at 1.
    changes, slopes, logits = (record.tables[name] for name in ("changes", "slopes", "logits"))
    assert changes["excess"] == sorted(changes["excess"], reverse=True)
    assert set(logits["of"]) == {"this point", "minimum (solved)"}
    assert len(logits["value"]) == 2 * 10 * 10
    features, labels, weight, bias = last_layer
    means = torch.stack([features[labels == k].mean(0) for k in range(10)])
    # Single precision, and sums in another order.
    assert logits["value"][:100] == pytest.approx((weight @ means.T + bias[:, None]).flatten().tolist(), abs=1e-4)
    assert [value for value, of in zip(*list(slopes.values())[::-2], strict=True) if of == "a minimum"] == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_features_of_others(kind, dtype, last_layer, here, capsys):
    features, labels, weight, bias = last_layer
    # Rows that are marked as to be left out are.
    features, labels = torch.cat([features, features[:5] + 9]), torch.cat([labels, torch.full((5,), -100)])
    path = here / f"f.{kind}"
    write_features(path, features.to(dtype), labels, weight=weight.to(dtype), bias=bias.to(dtype))
    found = printed(capsys, "--features", path, "--feature-decay", 1e-4)
    kept = (features[:-5].to(dtype), labels[:-5], weight.to(dtype), bias.to(dtype))
    assert found["objective"] == pytest.approx(objective(kept, (5e-4, 1e-4, 5e-4)), rel=1e-12)


def test_a_minimiser_is_certified_as_one(here, capsys):
    problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
    known = optimum(problem)
    point = known.point()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    write_features(here / "f.npz", point.H.T[order], problem.labels[order], weight=point.W)
    found = printed(capsys, "--features", "f.npz", "--weight-decay", 5e-3)
    assert found["holds"]
    assert found["feature_decay"] == pytest.approx(5e-5, rel=1e-12)
    assert found["minimum"]["value"] == pytest.approx(known.value, rel=1e-12)
    assert (found["minimum"]["source"], found["minimum"]["frame"]) == ("closed form", "simplex ETF")
    assert found["distance"] == pytest.approx(0, abs=1e-12)
    main(["certify", "--features", "f.npz", "--weight-decay", "5e-3"])
    assert "Certified optimal" in (text := capsys.readouterr().out)
    assert "no way down" in text
    # With a saddle's collapsed classes the direction of negative curvature is named.
    write_features(here / "zero.npz", 0 * point.H.T, problem.labels, weight=0 * point.W)
    main(["certify", "--features", "zero.npz", "--weight-decay", "5e-3", "--feature-decay", "5e-5"])
    assert "critical, a strict saddle: curvature -" in capsys.readouterr().out


def test_a_network_of_ones_own(run, last_layer, here, capsys):
    (here / "own.py").write_text(
        "from tightframe.nn.networks import build\n"
        "def network(): return build('mlp-bn', shape=(1, 8, 8), classes=10, width=16, depth=2)\n"
    )
    model = build("mlp-bn", shape=(1, 8, 8), classes=10, width=16, depth=2)
    load_into(model, run / "checkpoint.pt")
    save_file(model.state_dict(), here / "weights.safetensors")
    of = ("--checkpoint", "weights.safetensors", "--model", "own:network", "--limit", 145, "--accelerator", "cpu")
    found = printed(capsys, *of, "--feature-decay", 1e-4, "--loss", "mse", "--no-solve")

    def squared(logits, labels):
        return 0.5 * (logits - functional.one_hot(labels, 10)).square().sum(1).mean()

    assert found["objective"] == pytest.approx(objective(last_layer, (5e-4, 1e-4, 5e-4), squared), rel=1e-5)
    python = certify(CertifyOptions(checkpoint=run, accelerator="cpu", solve=False))
    assert python.record.answer.startswith("The objective")
    assert python.excess.problem.weight_decay[0] == 2e-3


def test_what_does_not_fit_is_refused_and_leaves_nothing(run, last_layer, here, capsys):
    features, labels, weight, bias = last_layer
    write_features(here / "plain.npz", features, labels)
    write_features(here / "whole.npz", features, labels, weight=weight, bias=bias)
    write_features(here / "absent.npz", features[labels != 3], labels[labels != 3], weight=weight)
    write_features(here / "zero.npz", 0 * features, labels, weight=weight)
    np.savez(here / "nan.npz", features=np.full((3, 2), np.nan), labels=[0, 1, 1], weight=np.eye(2))

    def message(*arguments):
        text = refused(capsys, "certify", *arguments, "--out", here / "out")
        assert not (here / "out" / "config.json").exists()
        return " ".join(text.split())

    assert "either --features FILE, or --model and --checkpoint; got neither" in message()
    assert "got both" in message("--features", "whole.npz", "--model", "mlp")
    assert "got plain.npz without `weight`" in message("--features", "plain.npz")
    assert "each of the 10 classes; got none of class 3" in message("--features", "absent.npz")
    assert "got features of zeros" in message("--features", "zero.npz")
    assert "features are finite; got NaN" in message("--features", "nan.npz")
    assert "nothing at none.npz" in message("--features", "none.npz")
    assert "for --bias none; got one with a bias" in message("--features", "whole.npz", "--bias", "none")
    assert "got --gamma 3. Add --loss focal" in message("--features", "whole.npz", "--gamma", "3")
    assert "got --target 2. Add --loss mse" in message("--features", "whole.npz", "--loss", "ls", "--target", "2")
    assert "smoothing in [0, 1); got 1.5" in message("--features", "whole.npz", "--loss", "ls", "--smoothing", "1.5")
    assert "a weight decay above zero; got -1." in message("--features", "whole.npz", "--weight-decay", "-1")
    assert "both above zero; got (0.0005, -1.0)" in message("--features", "whole.npz", "--feature-decay", "-1")
    assert "a coefficient above zero; got -2.0" in message("--features", "whole.npz", "--bias", "-2")
    assert "--width 8 for 16" in message("--checkpoint", run, "--width", "8")
    assert "Add --model" in message("--checkpoint", "weights.pt")
    assert "a tolerance above zero; got 0.0" in message("--features", "whole.npz", "--tolerance", "0")


def test_a_run_without_weight_decay_needs_one(here, capsys):
    train(replace(SMALL, out=here / "run", weight_decay=0.0, epochs=1))
    message = refused(capsys, "certify", "--checkpoint", "run", "--accelerator", "cpu")
    assert "a weight decay above zero; got 0 (the run's own)" in message
    assert "--weight-decay" in message


def test_classifiers_without_a_bias(last_layer, here, capsys):
    features, labels, weight, _ = last_layer
    write_features(here / "f.npz", features, labels, weight=weight)
    assert printed(capsys, "--features", "f.npz", "--no-solve")["bias"] == "none"
    assert printed(capsys, "--features", "f.npz", "--no-solve", "--bias", "none")["bias"] == "none"
    # One that could have had a bias, and does not use it.
    found = printed(capsys, "--features", "f.npz", "--no-solve", "--bias", "free")
    assert found["bias"] == "free"
    assert "bias" in [change["name"] for change in found["changes"]]
    write_features(here / "zero.npz", features, labels, weight=weight, bias=torch.zeros(10))
    assert printed(capsys, "--features", "zero.npz", "--no-solve", "--bias", "none")["bias"] == "none"


@pytest.mark.parametrize(
    ("loss", "module"),
    [
        ("focal:gamma=3", nn.FocalLoss(gamma=3)),
        ("ls:smoothing=0.2", nn.LabelSmoothingLoss(smoothing=0.2)),
        ("mse:over_classes=half,target=2", nn.RescaledMSELoss(over_classes="half", target=2)),
        ("mse:over_classes=half", nn.RescaledMSELoss(over_classes="half")),
    ],
)
def test_a_run_is_certified_for_the_loss_it_was_trained_with(loss, module, here, capsys):
    train(replace(SMALL, out=here / "run", loss=loss, epochs=1))
    found = printed(capsys, "--checkpoint", "run", "--accelerator", "cpu", "--no-solve")
    model = build("mlp-bn", shape=(1, 8, 8), classes=10, width=16, depth=2)
    load_into(model, here / "run" / "checkpoint.pt")
    train_set = load("digits", limit=145).train
    images, labels = train_set.images, train_set.labels
    with torch.no_grad():
        features = model.eval().forward_features(images)
    layer = (features, labels, model.classifier.weight.detach(), model.classifier.bias.detach())
    decays = (2e-3, found["feature_decay"], 2e-3)
    assert found["objective"] == pytest.approx(objective(layer, decays, module), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": "sop"}, "a run with loss ce or ls or focal or mse"),
        ({"loss": "mse"}, "a run with mse:over_classes half"),
        ({"loss": "ls:convention=source"}, "a run with ls:convention torch"),
        ({"head": "etf"}, "a run with head linear"),
    ],
)
def test_a_run_without_a_certificate_is_refused_in_words(changes, words, here, capsys):
    train(replace(SMALL, out=here / "run", epochs=1, **changes))
    assert words in refused(capsys, "certify", "--checkpoint", "run", "--accelerator", "cpu")
