"""Killed in mid-epoch and resumed, a run ends bit for bit where it would have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from tightframe.data.labelled.digits import digits
from tightframe.data.labelled.images import ArrayDataset
from tightframe.runs.store import RunDirectory
from tightframe.training import checkpoint as checkpoints
from tightframe.training.loop import TrainConfig, TrainResult, fit

EPOCHS = 5
STEPS = 11  # of one epoch: ceil(1347 / 128)
KILLED_AT = 2 * STEPS + 6  # batches read: in the middle of the third epoch
RATES = {"sgd": 0.05, "adam": 2e-3, "lbfgs": 0.5}


class Doomed(ArrayDataset):
    """Digits whose reading stops in the middle of the third epoch, says so, and waits for the end."""

    batches = 0

    def gather(self, indices):
        self.batches += 1
        if self.batches == KILLED_AT:
            sys.stdout.write("here\n")
            sys.stdout.flush()
            time.sleep(60)
        return super().gather(indices)


def train(optimizer: str, directory: Path, *, resume: bool, doomed: bool = False) -> TrainResult:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
    )
    data = digits()
    samples = Doomed(data.train.images, data.train.labels) if doomed else data.train

    def accuracy(epoch, network):
        with torch.no_grad():
            value = (network.eval()(data.test.images).argmax(1) == data.test.labels).double().mean().item()
        row = dict(run="r", epoch=epoch, split="test", layer="output")
        # A callback that draws random numbers must not change what follows, nor when it is resumed.
        return [row | dict(metric="accuracy", value=value), row | dict(metric="noise", value=torch.randn(()).item())]

    config = TrainConfig(epochs=EPOCHS, optimizer=optimizer, lr=RATES[optimizer], milestones=(3,))
    run = RunDirectory.create(directory, config={"optimizer": optimizer}, resume=resume)
    return fit(model, samples, config=config, checkpoint=run.checkpoint_path, resume=resume, on_epoch=accuracy, run="r")


def kill_in_the_third_epoch(optimizer: str, directory: Path, how: signal.Signals) -> None:
    command = [sys.executable, __file__, optimizer, str(directory)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"here\n"
        process.send_signal(how)
        assert process.wait() == -how


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("optimizer", "how"),
    [("sgd", signal.SIGKILL), ("adam", signal.SIGKILL), ("lbfgs", signal.SIGKILL), ("sgd", signal.SIGTERM)],
)
def test_a_killed_run_resumes_to_the_same_record(optimizer, how, tmp_path, one_thread):
    whole = train(optimizer, tmp_path / "whole", resume=False)
    kill_in_the_third_epoch(optimizer, tmp_path / "killed", how)
    assert checkpoints.load(tmp_path / "killed" / "checkpoint.pt").epoch == 2
    (tmp_path / "killed" / ".checkpoint.pt.00ff00ff.partial").write_bytes(b"as if killed while saving")

    resumed = train(optimizer, tmp_path / "killed", resume=True)
    assert resumed.resumed_from == 2
    assert resumed.history == whole.history
    left, right = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert sorted(os.listdir(tmp_path / "killed")) == ["checkpoint.pt", "config.json"]
    accuracies = [row["value"] for row in whole.history if row["metric"] == "accuracy"]
    assert accuracies[-1] > 0.8 > accuracies[0]


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]), resume=False, doomed=True)
