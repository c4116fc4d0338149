"""`measure` over processes: with uneven shards every rank has the values of one process, and padding does not count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import tightframe.collapse.monitor as monitor_module
from tightframe.collapse.monitor import Monitor, measure
from tightframe.core.errors import InputError

K, D, ROWS = 4, 6, 103  # no multiple of two or three
CASES = {
    "classifier": {},
    "auto": {"layers": "auto", "bootstrap": 4},
    "ignored labels": {"ignore_index": 1, "absent": "drop"},
    "wide": {"layers": "auto"},
}


def parts() -> tuple[nn.Module, TensorDataset]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 9), nn.ReLU(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, K)).double()
    labels = torch.arange(ROWS) % K
    return model, TensorDataset(torch.randn(ROWS, D).double() + 2 * torch.eye(K, D).double()[labels], labels)


def values(case: str, *, sampler=None, wrap=lambda model: model) -> dict:
    model, data = parts()
    loader = DataLoader(data, batch_size=8, sampler=sampler)
    with patch.object(monitor_module, "WIDE", 7 if case == "wide" else 4096):
        summary = measure(wrap(model), loader, **CASES[case])
    plain = {
        f"{name}/{metric}": m.value
        for name, layer in summary.layers.items()
        for metric, m in layer.measurements.items()
    }
    sizes = {f"{name}/N": layer.samples for name, layer in summary.layers.items()}
    return plain | sizes | {name: m.value for name, m in summary.decisions.items()}


def on_rank(rank: int, world: int, directory: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=world)
    data = parts()[1]
    sampler = DistributedSampler(data, shuffle=False, drop_last=False)
    results = {case: values(case, sampler=sampler) for case in CASES}
    results["shuffled"] = values("auto", sampler=DistributedSampler(data, shuffle=True, seed=3))
    results["wrapped"] = values("auto", sampler=sampler, wrap=DistributedDataParallel)
    # One rank's share is all padding and ignored rows: it takes part without a sample.
    first = TensorDataset(*(t[:1] for t in data.tensors))
    try:
        measure(parts()[0], DataLoader(first, sampler=DistributedSampler(first, shuffle=False)))
    except InputError as error:
        results["error"] = str(error)
    results["monitor"] = by_hand(rank, world)
    torch.save(results, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


def by_hand(rank: int, world: int) -> dict:
    """A Monitor fed by hand, the last rank with ignored rows only."""
    data, labels = parts()[1].tensors
    monitor, own = Monitor(K), torch.arange(ROWS) % max(1, world - 1) == rank
    kept = labels if bool(own.any()) else torch.full_like(labels, -100)
    chosen = own if bool(own.any()) else ~own
    monitor.update(data[chosen], kept[chosen], logits=data[chosen, :K])
    summary = monitor.all_reduce().compute()
    return {name: m.value for name, m in summary.last.measurements.items()} | {"accuracy": summary["accuracy"]}


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_rank, args=(request.param, str(directory)), nprocs=request.param)
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.mark.parametrize("case", [*CASES, "shuffled", "wrapped", "monitor"])
def test_every_rank_has_the_values_of_one_process(ranks, case):
    alone = by_hand(0, 1) if case == "monitor" else values(case if case in CASES else "auto")
    assert case == "monitor" or alone["features/N"] == {"ignored labels": 77}.get(case, ROWS)
    for results in ranks:
        # Ratios of sums in another order: the last digits; what is zero up to rounding stays so.
        assert results[case] == pytest.approx(alone, rel=1e-10, abs=1e-13)
        assert results[case] == ranks[0][case]


def test_a_single_sample_is_an_error_on_every_rank_and_no_hang(ranks):
    assert all("samples of all 4 classes; got none of 3" in results["error"] for results in ranks)


def test_under_torchrun(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, __file__, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert got == pytest.approx(values("auto"), rel=1e-10, abs=1e-13)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    outcome = values("auto", sampler=DistributedSampler(parts()[1], shuffle=False))
    torch.save(outcome, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
