"""Measuring what people bring: networks of their own, weights, files of features; and refusing what is unsafe."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

import tightframe
from door import printed, refused
from tightframe.cli.main import main
from tightframe.core.errors import InputError
from tightframe.data.labelled.source import load
from tightframe.features.store import write_features
from tightframe.jobs.measure import measure
from tightframe.jobs.options import MeasureOptions
from tightframe.jobs.subject import imported_model

FACTORY = """
import torch
def network():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
def words(): return "no network"
listed = [network]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_measuring_ones_own_network(here, capsys):
    (here / "mine.py").write_text(FACTORY)
    torch.manual_seed(5)
    model = imported_model("mine:network")
    save_file(model.state_dict(), here / "weights.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, here / "weights.pt")
    expected = tightframe.measure(model, DataLoader(load("digits").test, 512), split="test").to_dict()
    for name in ("weights.safetensors", "weights.pt"):
        assert printed(capsys, "--checkpoint", name, "--model", "mine:network", "--split", "test") == [expected]
    # The factory's own weights are the same every time, whatever was drawn before.
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        drawn.append(printed(capsys, "--model", "mine:network", "--split", "test"))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent:network", "No module named 'absent'"),
        ("mine:absent", "has no attribute 'absent'"),
        ("mine:words", "returns an nn.Module; got str"),
        ("mine:listed", "a list. Name a function that returns the network"),
        (":network", "a model as IMPORT.PATH:factory"),
    ],
)
def test_factories_that_do_not_fit_are_refused(path, message, here):
    (here / "mine.py").write_text(FACTORY)
    with pytest.raises(InputError, match=r"IMPORT|nn\.Module") as refusal:
        imported_model(path)
    assert message in str(refusal.value)


def clusters(dtype):
    """Features of four classes of unequal size, labels, and a classifier that errs on some."""
    random = torch.Generator().manual_seed(3)
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate((40, 50, 60, 25))])
    weight = torch.randn(4, 6, generator=random, dtype=torch.float64)
    features = 2 * weight[labels] + torch.randn(len(labels), 6, generator=random, dtype=torch.float64) + 3
    return features.to(dtype), labels, weight.to(dtype), torch.randn(4, generator=random, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "parquet"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("head", ["none", "weight", "weight and bias"])
def test_measuring_features_of_others(kind, dtype, head, here, capsys):
    features, labels, weight, bias = clusters(dtype)
    given = {"weight": weight} if head != "none" else {}
    given |= {"bias": bias} if head == "weight and bias" else {}
    write_features(here / f"features.{kind}", features, labels, **given)
    monitor = tightframe.Monitor(4)
    logits = features @ weight.T + given.get("bias", 0) if given else None
    monitor.update(features, labels, logits=logits)
    expected = monitor.compute(**given).to_dict()
    (found,) = printed(capsys, "--features", f"features.{kind}")
    assert ("accuracy" in found) == ("NC3" in found["layers"]["features"]) == bool(given)
    # Sums of float32 products depend on where in memory the rows begin; float64 ones agree to the last digits.
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert found["layers"]["features"] == pytest.approx(expected["layers"]["features"], rel=tolerance)
    for name in ("accuracy", "loss") if given else ():
        assert found[name] == pytest.approx(expected[name], rel=tolerance)


def test_a_file_of_more_rows_than_one_block_is_measured_as_a_whole(here, capsys):
    features = np.random.default_rng(0).normal(size=(9000, 3))
    labels = np.arange(9000) % 2
    features[labels == 1] += 2
    np.savez(here / "f.npz", features=features, labels=labels)
    (found,) = printed(capsys, "--features", "f.npz")
    within = sum(((features[labels == k] - features[labels == k].mean(0)) ** 2).sum() for k in (0, 1)) / 9000
    half = (features[labels == 1].mean(0) - features[labels == 0].mean(0)) / 2
    assert found["layers"]["features"]["D"] == pytest.approx(within / (half**2).sum(), rel=1e-10)


def test_pickles_are_refused_with_a_remedy(here, capsys):
    class Harmful:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"features": Harmful()}, here / "features.pt")
    (here / "features.pkl").write_bytes(pickle.dumps({"features": [1.0]}))
    (here / "disguised.npz").write_bytes(pickle.dumps(Harmful()))
    for name in ("features.pt", "features.pkl", "disguised.npz"):
        message = refused(capsys, "measure", "--features", name)
        assert name in message
        assert "pickle" in message
        assert "numpy.savez" in message
    message = refused(capsys, "measure", "--checkpoint", "features.pt", "--model", "mlp")
    assert "which holds other Python objects or code" in message
    assert "safetensors" in message


def test_a_damaged_file_and_a_missing_one_are_refused(here, capsys):
    assert "nothing at none.npz" in refused(capsys, "measure", "--features", "none.npz")
    np.savez(here / "f.npz", features=np.ones((3, 2)))
    assert "without labels" in refused(capsys, "measure", "--features", "f.npz")
    whole = (here / "f.npz").read_bytes()
    (here / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut off" in refused(capsys, "measure", "--features", "cut.npz")
    np.savez(here / "one.npz", features=np.ones((3, 2)), labels=np.zeros(3, dtype=int))
    assert "class" in refused(capsys, "measure", "--features", "one.npz", "--out", "out")
    assert not (here / "out" / "config.json").exists()


def test_bootstrap_intervals_hold_the_value(here, capsys):
    features, labels, weight, bias = clusters(torch.float64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    write_features(here / "f.npz", features[order], labels[order], weight=weight, bias=bias)
    measured = measure(MeasureOptions(features=here / "f.npz", bootstrap=60, out=here / "m"))
    table = measured.record.tables["metrics"]
    at = table["metric"].index("NC1")
    assert table["low"][at] < table["value"][at] < table["high"][at]
    main(["measure", "--features", "f.npz", "--bootstrap", "60"])
    out = capsys.readouterr().out
    assert "95 % interval" in out
    assert f"[{table['low'][at]:.4g}, {table['high'][at]:.4g}]" in out
