"""`CollapseCallback` in a Lightning Trainer: what it logs, that training does not notice it, resuming, processes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

pytest.importorskip("lightning", reason="lightning is not installed")
import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from tightframe.collapse.monitor import measure
from tightframe.core.errors import InputError
from tightframe.data.labelled.indexed import IndexedDataset
from tightframe.integrations.lightning import CollapseCallback
from tightframe.integrations.watch import sweep

K, D = 3, 8
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning")


class Net(pl.LightningModule):
    def __init__(self, *, doubled: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(D, 16),
            nn.Identity() if doubled else nn.BatchNorm1d(16),  # its statistics would differ between processes
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(16, 12),
            nn.Tanh(),
        )
        self.classifier = nn.Linear(12, K)
        if doubled:
            self.double()

    def forward(self, x):
        return self.classifier(self.net(x))

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _, dataloader_idx=0):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def data(rows: int, seed: int, dtype: torch.dtype = torch.float32) -> TensorDataset:
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % K
    return TensorDataset((torch.randn(rows, D, generator=draws) + 2 * torch.eye(K, D)[labels]).to(dtype), labels)


def loaders(dtype: torch.dtype = torch.float32) -> tuple[DataLoader, DataLoader]:
    shuffler = torch.Generator().manual_seed(5)
    train = DataLoader(data(50, 1, dtype), batch_size=8, shuffle=True, drop_last=True, generator=shuffler)
    return train, DataLoader(data(31, 2, dtype), batch_size=8)


def trainer(callbacks, directory: Path, **options) -> pl.Trainer:
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 3,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": directory,
            "callbacks": callbacks,
        }
        | options
    )


def trained(callbacks, directory: Path, **options) -> tuple[Net, pl.Trainer]:
    torch.manual_seed(3)
    model, engine = Net(), trainer(callbacks, directory, **options)
    train, val = loaders()
    engine.fit(model, train, val)
    return model, engine


def test_the_values_are_those_of_measure_and_are_logged_without_a_logger(tmp_path):
    callback = CollapseCallback()
    model, engine = trained([callback], tmp_path)
    summary = measure(model, loaders()[1], split="val")
    assert callback.last.to_dict() == summary.to_dict()
    assert {row["epoch"] for row in callback.history} == {0, 1, 2}
    last = {row["metric"]: row["value"] for row in callback.history if row["epoch"] == 2}
    assert last == {row["metric"]: row["value"] for row in summary.rows()}
    assert {row["step"] for row in callback.history} == {6, 12, 18}
    for name in ("NC1", "NC3", "NC4", "accuracy"):
        assert float(engine.callback_metrics[f"collapse/val/{name}"]) == pytest.approx(summary[name], rel=1e-6)


@pytest.mark.parametrize("what", ["val", "train", "given", "both"])
def test_training_does_not_notice_the_callback(tmp_path, what):
    given = DataLoader(data(20, 3), batch_size=5, shuffle=True)
    callbacks = {
        "val": [CollapseCallback(layers="auto")],
        "train": [CollapseCallback("train", bootstrap=3)],
        "given": [CollapseCallback(given, layers=["net.*"])],
        "both": [CollapseCallback("train"), CollapseCallback("val")],
    }[what]
    plain, _ = trained([], tmp_path)
    state = torch.get_rng_state()
    watched, _ = trained(callbacks, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(callback.history for callback in callbacks)
    for name, value in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[name], value), name


def test_training_data_are_measured_whole_and_in_evaluation_mode(tmp_path):
    callback = CollapseCallback("train")
    model, _ = trained([callback], tmp_path)
    assert callback.last.last.samples == 50  # the loader drops the last two
    assert callback.last.to_dict() == measure(model, DataLoader(data(50, 1), batch_size=8), split="train").to_dict()


def test_layers_metrics_prefix_part_of_the_module_and_period(tmp_path):
    callback = CollapseCallback(
        "train", every_n_epochs=2, layers=["net.0", "classifier"], metrics=["D", "accuracy"], prefix="nc-"
    )
    _, engine = trained([callback], tmp_path, max_epochs=5)
    logged = {name for name in engine.callback_metrics if name.startswith("nc-")}
    assert logged == {"nc-train/net.0/D", "nc-train/features/D", "nc-train/accuracy"}
    assert {row["epoch"] for row in callback.history} == {1, 3}
    assert "NC1" in {row["metric"] for row in callback.history}


def test_a_part_of_the_module_can_be_measured(tmp_path):
    class Wrapped(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(self.net, self.classifier)

        def forward(self, x):
            return {"loss": torch.zeros(()), "scores": [self.inner(x)]}

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.inner(batch[0]), batch[1])

    callback = CollapseCallback("train", model_attribute="inner")
    torch.manual_seed(3)
    trainer([callback], tmp_path, max_epochs=1).fit(Wrapped(), loaders()[0])
    assert callback.last["accuracy"] > 0.3


def test_other_callbacks_can_monitor_the_values(tmp_path):
    best = ModelCheckpoint(tmp_path, monitor="collapse/val/NC1", filename="best", save_last=False)
    callback = CollapseCallback()
    trained([callback, best], tmp_path, enable_checkpointing=True)
    values = [row["value"] for row in callback.history if row["metric"] == "NC1"]
    assert float(best.best_model_score) == pytest.approx(min(values), rel=1e-6)


def test_a_resumed_trainer_keeps_the_history(tmp_path):
    whole = CollapseCallback()
    trained([whole], tmp_path, max_epochs=4)
    first, second = [CollapseCallback(), CollapseCallback("train")], [CollapseCallback(), CollapseCallback("train")]
    _, engine = trained(first, tmp_path, max_epochs=2)
    engine.save_checkpoint(tmp_path / "half.ckpt")
    resumed = trainer(second, tmp_path, max_epochs=4)
    resumed.fit(Net(), *loaders(), ckpt_path=tmp_path / "half.ckpt")
    for before, after in zip(first, second, strict=True):
        assert after.history[: len(before.history)] == before.history
        assert [row["epoch"] for row in after.history if row["metric"] == "NC1"] == [0, 1, 2, 3]
    assert [row["epoch"] for row in whole.history if row["metric"] == "NC1"] == [0, 1, 2, 3]


def test_validation_alone_is_measured_too(tmp_path):
    callback = CollapseCallback()
    model = Net()
    trainer([callback], tmp_path).validate(model, loaders()[1], verbose=False)
    assert callback.last["loss"] == pytest.approx(measure(model, loaders()[1])["loss"])


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match='dataloader is "train", "val" or a loader'):
        CollapseCallback("test")
    with pytest.raises(InputError, match=r"options of tightframe\.measure; got layer"):
        CollapseCallback(layer="auto")
    with pytest.raises(InputError, match="every_n_epochs is an integer"):
        CollapseCallback(every_n_epochs=0)
    with pytest.raises(InputError, match="a Trainer that validates"):
        trainer([CollapseCallback()], tmp_path).fit(Net(), loaders()[0])
    with pytest.raises(InputError, match="names of measured metrics; got nc1"):
        trainer([CollapseCallback("train", metrics=["nc1"])], tmp_path).fit(Net(), loaders()[0])
    with pytest.raises(InputError, match="one loader; got 2"):
        trainer([CollapseCallback()], tmp_path).fit(Net(), loaders()[0], [loaders()[1], loaders()[1]])


def test_a_sweep_shows_every_sample_once_and_leaves_the_loader_alone():
    shuffled = loaders()[0]
    state = shuffled.generator.get_state()
    assert torch.equal(torch.cat([x for x, _ in sweep(shuffled)]), data(50, 1).tensors[0])
    assert torch.equal(shuffled.generator.get_state(), state)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    batches = [(torch.ones(1, D), torch.zeros(1))]
    made_by_data = DataLoader(data(6, 0), batch_size=None)
    for loader in (batches, DataLoader(Stream()), made_by_data):
        assert sweep(loader) is loader
    blocks = torch.utils.data.BatchSampler(range(50), 7, drop_last=False)
    assert next(iter(sweep(DataLoader(data(50, 1), batch_sampler=blocks))))[0].shape == (7, D)


def main(directory: Path) -> None:
    warnings.simplefilter("ignore")
    callbacks = [CollapseCallback("train", bootstrap=4), CollapseCallback("val", layers="auto")]
    options = {"strategy": "ddp", "devices": 2, "max_epochs": 2}
    engine = trainer(callbacks, directory, **options)
    torch.manual_seed(3)
    model = Net(doubled=True)
    engine.fit(model, *loaders(torch.float64))
    result = {
        "state": model.state_dict(),
        "history": [callback.history for callback in callbacks],
        "logged": float(engine.callback_metrics["collapse/val/accuracy"]),
        "interval": callbacks[0].last.last.measurements["NC1"].interval,
    }
    torch.save(result, directory / f"{engine.global_rank}.pt")


@pytest.mark.parametrize("layout", ["triple", "target", "mapping"])
def test_positions_beside_the_labels_are_left_out(layout):
    """The loaders that SOPLoss trains on can be measured as they are."""
    plain = data(50, 1)
    rows = [{"x": x, "labels": int(y)} for x, y in plain] if layout == "mapping" else plain
    loader = DataLoader(IndexedDataset(rows, layout=layout), batch_size=16, shuffle=True)
    for batch, (x, y) in zip(sweep(loader), DataLoader(plain, batch_size=16), strict=True):
        inputs, labels = (batch["x"], batch["labels"]) if layout == "mapping" else batch
        assert torch.equal(inputs, x)
        assert torch.equal(labels, y)


def test_two_processes_have_the_values_of_the_whole(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, __file__, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["history"] == second["history"]
    assert first["logged"] == second["logged"]
    assert first["interval"] == second["interval"]
    model = Net(doubled=True)
    model.load_state_dict(first["state"])
    for history, rows, seed in zip(first["history"], (50, 31), (1, 2), strict=True):
        alone = measure(model, DataLoader(data(rows, seed, torch.float64), batch_size=8), layers="auto")
        values = {(row["layer"], row["metric"]): row["value"] for row in history if row["epoch"] == 1}
        assert values == pytest.approx({key: wanted(alone, *key) for key in values}, rel=1e-9, abs=1e-12)


def wanted(summary, layer: str, metric: str) -> float:
    return summary[metric] if layer == "output" else summary.layers[layer][metric]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
