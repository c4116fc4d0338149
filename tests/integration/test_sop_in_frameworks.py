"""SOPLoss where people train: a plain loop, Lightning, the Hugging Face Trainer, skorch, and several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tightframe.core.rng import generator
from tightframe.data.labelled.digits import digits
from tightframe.data.labelled.indexed import IndexedDataset
from tightframe.data.labelled.noise import flipped
from tightframe.nn.losses.robust import EarlyLearningLoss
from tightframe.nn.sop.sop import SOPLoss

SAMPLES, EPOCHS = 600, 12
OPTIONS = {"rate": 1.0, "init": 1e-4}


def data():
    part = digits().train.take(torch.arange(SAMPLES))
    return part.relabelled(flipped(part.labels, "symmetric:0.4", classes=10).labels)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def assert_has_found_wrong_labels(loss: SOPLoss):
    """Every sample was seen with its label, and wrong labels score far higher than right ones."""
    part = digits().train.take(torch.arange(SAMPLES))
    wrong = data().labels != part.labels
    assert torch.equal(loss.seen.given.long(), data().labels)
    scores = loss.noise_scores()
    assert scores[wrong].mean() > 3 * scores[~wrong].mean()
    assert (loss.corrected_labels() == part.labels).double().mean() > 0.75


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_a_plain_loop(storage):
    model, loss = network(), SOPLoss(SAMPLES, 10, storage=storage, **OPTIONS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    assert list(loss.parameters()) == []
    for _ in range(EPOCHS):
        for x, y, index in DataLoader(IndexedDataset(data()), batch_size=32, shuffle=True, generator=generator(0)):
            optimizer.zero_grad()
            loss(model(x), y, index=index).backward()
            optimizer.step()
    assert_has_found_wrong_labels(loss)


def test_lightning_with_automatic_optimisation(tmp_path):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.loss = network(), SOPLoss(SAMPLES, 10, **OPTIONS)

        def training_step(self, batch, _):
            x, target = batch
            return self.loss(self.network(x), target)

        def validation_step(self, batch, _):
            x, y = batch
            self.log("validation", self.loss(self.network(x), y))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

    module = Module()
    loader = DataLoader(IndexedDataset(data(), layout="target"), batch_size=32, shuffle=True, generator=generator(0))
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, loader, DataLoader(digits().test, batch_size=150))
    assert_has_found_wrong_labels(module.loss)
    # The state is in the checkpoint, as the loss is part of the module.
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    fresh = Module()
    fresh.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    assert torch.equal(fresh.loss.u, module.loss.u)


class Rows:
    """Digits as rows that are mappings."""

    def __init__(self, part):
        self.part = part

    def __len__(self):
        return len(self.part)

    def __getitem__(self, i):
        image, label = self.part[i]
        return {"x": image, "labels": int(label)}


class Named(nn.Module):
    """A network called by keyword, as the Trainer does."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return {"logits": self.inner(x)}


def test_the_hugging_face_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    loss = SOPLoss(SAMPLES, 10, **OPTIONS)

    def compute_loss(outputs, labels, num_items_in_batch=None):
        return loss(outputs["logits"], labels)

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=32,
        learning_rate=0.05,
        lr_scheduler_type="constant",
        optim="sgd",
        optim_args="momentum=0.9",
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=1,
        label_names=["labels"],
    )
    trainer = Trainer(
        Named(),
        arguments,
        train_dataset=IndexedDataset(Rows(data()), layout="mapping"),
        # Evaluated in between with positions that mean other samples: no gradients, so nothing is written.
        eval_dataset=IndexedDataset(Rows(digits().test), layout="mapping"),
        compute_loss_func=compute_loss,
    )
    trainer.train()
    assert_has_found_wrong_labels(loss)


def test_the_trainer_resumes_the_loss_with_the_model(tmp_path):
    from transformers import Trainer, TrainingArguments

    from tightframe.core.errors import InputError
    from tightframe.integrations.transformers import LossStateCallback

    def run(place: Path, epochs: int, resume: str | None = None, *, keep: bool = True) -> SOPLoss:
        loss = SOPLoss(SAMPLES, 10, **OPTIONS)
        arguments = TrainingArguments(
            output_dir=str(place),
            num_train_epochs=epochs,
            per_device_train_batch_size=50,
            learning_rate=0.05,
            lr_scheduler_type="constant",
            save_strategy="epoch",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            label_names=["labels"],
        )
        trainer = Trainer(
            Named(),
            arguments,
            train_dataset=IndexedDataset(Rows(data()), layout="mapping"),
            compute_loss_func=lambda outputs, labels, num_items_in_batch=None: loss(outputs["logits"], labels),
            callbacks=[LossStateCallback(loss)] if keep else [],
        )
        trainer.train(resume_from_checkpoint=resume)
        return loss

    whole = run(tmp_path / "whole", 3)
    run(tmp_path / "parts", 1)
    resumed = run(tmp_path / "parts", 3, str(tmp_path / "parts" / f"checkpoint-{SAMPLES // 50}"))
    assert torch.equal(resumed.u, whole.u)
    assert torch.equal(resumed.noise_scores(), whole.noise_scores())
    run(tmp_path / "bare", 1, keep=False)
    with pytest.raises(InputError, match="state of the loss"):
        run(tmp_path / "bare", 3, str(tmp_path / "bare" / f"checkpoint-{SAMPLES // 50}"))


def test_skorch():
    skorch = pytest.importorskip("skorch")
    part = data()
    net = skorch.NeuralNetClassifier(
        network(),
        criterion=SOPLoss,
        criterion__samples=SAMPLES,
        criterion__classes=10,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.05,
        batch_size=32,
        iterator_train__shuffle=True,
        max_epochs=EPOCHS,
        train_split=None,
        verbose=0,
        classes=list(range(10)),
        **{f"criterion__{name}": value for name, value in OPTIONS.items()},
    )
    net.fit(IndexedDataset(part, layout="target"), y=None)
    assert_has_found_wrong_labels(net.criterion_)


def steps(rank: int, world: int):
    """Batches of one process: unequal shares of samples in an order that all agree on."""
    random = generator(0)
    labels, logits = torch.arange(60) % 6, 2 * torch.randn(60, 6, generator=random)
    for _ in range(12):
        order = torch.randperm(60, generator=random)[:13]
        index = order if world == 1 else (order[:8], order[8:])[rank]
        yield logits[index].clone().requires_grad_(), labels[index], index


def trained(rank: int, world: int, **options) -> SOPLoss:
    loss = SOPLoss(60, 6, init=0.05, **options)
    for number, (logits, labels, index) in enumerate(steps(rank, world)):
        loss(logits, labels, index=index)
        if options.get("sync") == "manual" and number % 3 == 2:
            loss.synchronize()
            loss.synchronize()  # nothing has changed since
    return loss


def regularised(rank: int, world: int) -> EarlyLearningLoss:
    loss = EarlyLearningLoss(60, 6)
    for logits, labels, index in steps(rank, world):
        loss(logits, labels, index=index)
    return loss


CASES = {
    "dense": {"storage": "dense"},
    "sparse": {"storage": "sparse", "slots": 5},
    "manual": {"storage": "dense", "sync": "manual"},
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ranks")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["--log-dir", str(directory / "logs")]
    done = subprocess.run(
        [*launch, __file__, str(directory)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", [*CASES, "ELR"])
def test_all_processes_hold_the_same_rows(ranks, case):
    first, second = (states[case] for states in ranks)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("case", ["dense", "sparse", "ELR"])
def test_two_processes_make_the_rows_of_one(ranks, case):
    alone = (regularised(0, 1) if case == "ELR" else trained(0, 1, **CASES[case])).state_dict()
    for name, value in alone.items():
        # Sums over the classes of a batch of another size may be taken in another order.
        torch.testing.assert_close(ranks[0][case][name], value, rtol=1e-5, atol=0)


def main(directory: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    states = {case: trained(rank, 2, **options).state_dict() for case, options in CASES.items()}
    states["ELR"] = regularised(rank, 2).state_dict()
    torch.save(states, directory / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
