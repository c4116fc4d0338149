"""Training under torchrun on two CPU processes (gloo)."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tightframe.data.labelled.digits import digits
from tightframe.training.fabric import connect
from tightframe.training.loop import TrainConfig, TrainResult, fit

FULL = TrainConfig(epochs=4, lr=0.1, batch_size=2000, precision="64-true", feature_decay=1e-3)
CASES = {
    "batch norm": TrainConfig(epochs=4, lr=0.05, batch_size=64),
    "accumulate": TrainConfig(epochs=2, lr=0.05, batch_size=32, accumulate=3),
    "lbfgs": replace(FULL, optimizer="lbfgs", lr=0.5, epochs=2),
    "full batch": FULL,
}


class Net(nn.Module):
    def __init__(self, *, norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32) if norm else nn.Tanh())
        self.classifier = nn.Linear(32, 10)

    def forward(self, x):
        return self.classifier(self.body(x))


def train(case: str, seed: int, **options) -> TrainResult:
    config = options.pop("config", CASES[case])
    torch.manual_seed(seed)
    model = Net(norm=case == "batch norm")
    fabric = connect(precision=config.precision, accelerator="cpu")
    samples = digits().train
    # An even number, so that two processes' equal shares make exactly the full batch.
    return fit(model, samples.take(torch.arange(1346)), config=config, fabric=fabric, **options)


def main(directory: Path) -> None:
    rank = int(os.environ["RANK"])
    results = {}
    for case in CASES:
        # Ranks start from different weights: only the first one's may count.
        result = train(case, seed=rank)
        results[case] = {"state": result.model.state_dict(), "history": list(result.history)}
    case, file = "batch norm", directory / "checkpoint.pt"
    train(case, seed=rank, config=replace(CASES[case], epochs=2), checkpoint=file)
    result = train(case, seed=rank + 7, checkpoint=file, resume=True)
    results["resumed"] = {"state": result.model.state_dict(), "history": list(result.history)}
    torch.save(results, directory / f"{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ranks")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["--log-dir", str(directory / "logs")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, __file__, str(directory)], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", [*CASES, "resumed"])
def test_all_processes_end_with_the_same_weights_and_history(ranks, case):
    first, second = (results[case] for results in ranks)
    assert first["state"].keys() == second["state"].keys()
    assert all(torch.equal(first["state"][name], second["state"][name]) for name in first["state"])
    assert first["history"] == second["history"]


@pytest.mark.parametrize("case", CASES)
def test_the_loss_falls(ranks, case):
    losses = [row["value"] for row in ranks[0][case]["history"] if row["metric"] == "training loss"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


# In float64 the order of sums is all that differs; a line search, which divides differences of the objective,
# makes sqrt(1e-16) of it.
@pytest.mark.parametrize(("case", "tolerance"), [("full batch", 1e-9), ("lbfgs", 1e-6)])
def test_two_processes_take_the_steps_of_one(ranks, case, tolerance):
    alone = train(case, seed=0)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(ranks[0][case]["state"][name], value, rtol=0, atol=tolerance)
    for ours, theirs in zip(ranks[0][case]["history"], alone.history, strict=True):
        assert ours["metric"] == theirs["metric"]
        assert ours["value"] == pytest.approx(theirs["value"], rel=tolerance)


def test_a_resumed_run_is_the_uninterrupted_one(ranks):
    resumed, whole = ranks[0]["resumed"], ranks[0]["batch norm"]
    assert resumed["history"] == whole["history"]
    assert all(torch.equal(resumed["state"][name], whole["state"][name]) for name in whole["state"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
