"""The command line under torchrun: every process takes its share, one process speaks, the values are those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tightframe.cli.main import main
from tightframe.data.labelled.source import load
from tightframe.experiments.base import Place, with_training
from tightframe.experiments.collapse import weight_decay
from tightframe.features.store import write_features
from tightframe.runs.store import RunDirectory
from tightframe.trials.trial import TrialConfig

# Double precision: then the order of sums is all that differs between one process and several.
FACTORY = """
import torch
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 20).double(), torch.nn.Linear(20, 14).double()
        self.third, self.classifier = torch.nn.Linear(14, 12).double(), torch.nn.Linear(12, 10).double()
    def forward(self, images):
        hidden = torch.tanh(self.first(images.flatten(1).double()))
        return self.classifier(torch.tanh(self.third(torch.tanh(self.second(hidden)))))
def network():
    return Network()
"""
# An odd number of samples: two processes get 225 and 224 of them, three get 150, 150 and 149.
UNEVEN = ["--model", "mine:network", "--limit", "449", "--layers", "auto", "--batch-size", "32", "--accelerator", "cpu"]


def torchrun(processes: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launch, "--log-dir", str(cwd / "logs"), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of the factory, and what one process measures."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(FACTORY, encoding="utf-8")
    command = [sys.executable, "-m", "tightframe", "measure", *UNEVEN, "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


# With two processes every other test of this file begins, and test_distributed_measure compares their values.
@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_several_processes_measure_what_one_measures(alone, processes):
    folder, expected = alone
    out = folder / f"of {processes}"
    arguments = ["-m", "tightframe", "measure", *UNEVEN, "--format", "json", "--out", str(out)]
    done = torchrun(processes, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    # Printed once: two documents would not parse.
    found = json.loads(done.stdout)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["split"] == theirs["split"]
        assert list(ours["layers"]) == list(theirs["layers"]) == ["first", "second", "third", "features"]
        for layer, values in theirs["layers"].items():
            assert ours["layers"][layer] == pytest.approx(values, rel=1e-10), layer
        for name in ("accuracy", "loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-10)
        assert ours["separation"] == pytest.approx(theirs["separation"], rel=1e-10)
    record = RunDirectory(out).load_record()
    assert record.config["limit"] == 449
    assert done.stderr.count("wrote ") == 1


def test_several_processes_train_one_run(tmp_path):
    flags = ["--epochs", "2", "--width", "16", "--depth", "2", "--limit", "449", "--accelerator", "cpu"]
    arguments = ["-m", "tightframe", "train", "--out", str(tmp_path / "run"), *flags]
    done = torchrun(2, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("After epoch 2, NC1 is") == 1
    assert done.stdout.count("\n") == 1
    record = RunDirectory(tmp_path / "run").load_record()
    assert done.stdout.strip() == record.answer
    assert record.config["limit"] == 449
    rows = list(zip(*record.series.values(), strict=True))
    assert len(rows) == len({row[:5] for row in rows})
    values = {
        (split, metric): value
        for _, epoch, split, layer, metric, value in rows
        if epoch == 2 and layer in ("output", "features")
    }
    # Accuracies are whole shares of all samples: not of a process's share, not of padded ones.
    for split, samples in (("train", 449), ("test", len(load("digits").test))):
        correct = values[split, "accuracy"] * samples
        assert correct == pytest.approx(round(correct), abs=1e-9)
    correct = values["train", "training accuracy"] * 449
    assert correct == pytest.approx(round(correct), abs=1e-9)
    # What the record says is what one process measures of the checkpoint.
    main(["measure", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "measured")])
    series = RunDirectory(tmp_path / "measured").load_record().series
    for split, metric, value in zip(series["split"], series["metric"], series["value"], strict=True):
        assert values[split, metric] == pytest.approx(value, rel=1e-4, abs=1e-6), (split, metric)


def test_a_file_of_features_is_measured_once(tmp_path):
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) + torch.eye(5)[torch.arange(60) % 3]
    write_features(tmp_path / "f.npz", features, torch.arange(60) % 3)
    arguments = ["-m", "tightframe", "measure", "--features", "f.npz", "--format", "json", "--out", "out"]
    done = torchrun(2, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 1
    assert (tmp_path / "out" / "record.json").is_file()


def test_what_does_not_fit_ends_all_processes(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine", encoding="utf-8")
    done = torchrun(2, "-m", "tightframe", "train", "--out", "run", "--accelerator", "cpu", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("an empty or new directory for a new run") == 1
    assert done.stdout == ""


def test_several_processes_run_one_experiment(tmp_path):
    done = torchrun(2, __file__, str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["weight-decay"]
    record = RunDirectory(tmp_path / "experiment").load_record()
    assert len(record.claims) == 7
    assert set(record.series["run"]) == {"all weights", "last layer"}
    assert not [claim for claim in record.claims if claim.verdict == "not run"]


def run_a_tiny_experiment(folder: Path) -> None:
    config = with_training(TrialConfig(width=12, depth=2, observations=2), epochs=2)
    configs = {"all weights": config, "last layer": with_training(config, decay="last", feature_decay=1e-3)}
    record = weight_decay.EXPERIMENT.run(configs=configs, place=Place(out=folder / "experiment"))
    if record is not None:
        sys.stdout.write(f"{record.name}\n")


if __name__ == "__main__":
    run_a_tiny_experiment(Path(sys.argv[1]))
