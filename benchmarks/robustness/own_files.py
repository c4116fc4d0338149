"""Whole files of the formats that the library itself writes: features, settings, checkpoints, runs, deltas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.robustness.samples import LABELS, VALUES, foreign_tables
from tightframe.core.rng import generator


def features(suffix: str) -> Callable[[Path], None]:
    """Features, labels and a classifier in one of our formats."""

    def write(folder: Path) -> None:
        from tightframe.features.store import write_features

        h, y = torch.from_numpy(VALUES).float(), torch.from_numpy(LABELS)
        write_features(folder / f"plain{suffix}", h, y)
        write_features(folder / f"full{suffix}", h.double(), y, weight=h[:4].double(), bias=h[0, :1].expand(4))
        if suffix == ".npz":
            np.savez_compressed(folder / "packed.npz", features=VALUES, labels=LABELS)
        if suffix == ".parquet":
            foreign_tables(folder)

    return write


def shards(folder: Path) -> None:
    """Three files of features and their index."""
    from tightframe.features.shards import FeatureShards

    with FeatureShards.create(folder / "shards", features=3, shard_rows=3) as writer:
        writer.append(torch.from_numpy(VALUES).float(), torch.from_numpy(LABELS))


def settings(folder: Path) -> None:
    """Options of a run."""
    text = '# of a run\nepochs = 200\nlr = 5e-4\nquiet = true\nlayers = ["a", "b"]\nmodel = "x"\n[train]\nseed = 3\n'
    (folder / "run.toml").write_text(text, encoding="utf-8")


def checkpoints(folder: Path) -> None:
    """States of training, weights alone, and weights in torch's older format."""
    from safetensors.torch import save_file

    from tightframe.training.checkpoint import Checkpoint, save

    network = nn.Linear(3, 2)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator(0)))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = network.state_dict()
    save(
        folder / "training.pt", Checkpoint(state, optimizer.state_dict(), 3, ({"epoch": 1, "loss": 2.0},), {"lr": 0.1})
    )
    torch.save({"state_dict": state, "epoch": 3}, folder / "weights.pt")
    torch.save(state, folder / "older.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "weights.safetensors")


def run_directory(folder: Path) -> None:
    """A configuration and a record with a claim, a table and a panel."""
    from tightframe.runs.record import Claim, Panel, Record, series_table
    from tightframe.runs.store import RunDirectory

    run = RunDirectory.create(folder / "run", config={"epochs": 3, "train": {"lr": 0.1}, "layers": ["a"]})
    claim = Claim(id="N1.x", statement="small", source="here", expected=1.0, observed=0.5, tolerance=0.1)
    panel = Panel(kind="curves", title="t", caption="c", table="errors", x="step", y="error")
    row = {"run": "r", "epoch": 1, "split": "train", "layer": "a", "metric": "NC1", "value": 0.5}
    tables = {"errors": {"step": [1, 2], "error": [0.1, None]}}
    series = series_table([row])
    run.save_record(
        Record(name="r", title="T", question="Q?", series=series, tables=tables, panels=(panel,), claims=(claim,))
    )


def delta(folder: Path) -> None:
    """What the tuning of a small network changed."""
    from tightframe.nn.tuning.delta import write_delta

    class Tuned:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))

        def is_trained(self, name: str) -> bool:
            return name.startswith("1.")

        def delta_state_dict(self) -> dict[str, torch.Tensor]:
            return {name: value for name, value in self.model.state_dict().items() if self.is_trained(name)}

        def settings(self) -> dict[str, str]:
            return {"method": "layer", "layer": "1"}

    tuned = Tuned()
    with torch.no_grad():
        for tensor in tuned.model.parameters():
            tensor.fill_(0.5)
    write_delta(folder / "delta.safetensors", tuned)
