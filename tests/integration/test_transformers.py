"""`CollapseTrainerCallback` in a Hugging Face Trainer, on tiny models built from their configurations."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")
import transformers
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, Trainer

from tightframe.collapse.monitor import measure
from tightframe.core.errors import InputError
from tightframe.integrations.transformers import CollapseTrainerCallback

K, LENGTH, VOCABULARY = 3, 6, 20
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning")


class Tokens(Dataset):
    """Random tokens whose first one tells the class."""

    def __init__(self, rows: int, seed: int) -> None:
        self.labels = torch.arange(rows) % K
        self.ids = torch.randint(K + 1, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))
        self.ids[:, 1] = self.labels + 1

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        mask = torch.ones(LENGTH, dtype=torch.long)
        return {"input_ids": self.ids[index], "attention_mask": mask, "labels": self.labels[index]}


class Text(Tokens):
    """The same as a language model reads it."""

    def __getitem__(self, index):
        return super().__getitem__(index) | {"labels": self.ids[index]}


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=LENGTH,
        num_labels=K,
    )
    return BertForSequenceClassification(config)


def trained(model, callbacks, directory, data=Tokens, **options) -> Trainer:
    arguments = transformers.TrainingArguments(
        **{
            "output_dir": str(directory),
            "num_train_epochs": 2,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 8,
            "learning_rate": 1e-3,
            "eval_strategy": "epoch",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": 1,
        }
        | options
    )
    trainer = Trainer(model, arguments, train_dataset=data(50, 1), eval_dataset=data(31, 2), callbacks=callbacks)
    trainer.train()
    return trainer


def test_the_values_are_those_of_measure_and_stand_in_the_log(tmp_path):
    callback = CollapseTrainerCallback()
    trainer = trained(bert(), [callback], tmp_path)
    summary = measure(trainer.model, DataLoader(Tokens(31, 2), batch_size=8), split="eval")
    assert callback.last.to_dict() == summary.to_dict()
    assert (summary.last.classes, summary.last.features, summary.last.samples) == (K, 16, 31)
    entries = [entry for entry in trainer.state.log_history if "collapse/eval/NC1" in entry]
    assert [(entry["epoch"], entry["step"]) for entry in entries] == [(1.0, 7), (2.0, 14)]
    assert entries[-1]["collapse/eval/NC1"] == summary["NC1"]
    assert entries[-1]["collapse/eval/accuracy"] == summary["accuracy"]
    last = {row["metric"]: row["value"] for row in callback.history if row["epoch"] == 2}
    assert last == {row["metric"]: row["value"] for row in summary.rows()}


@pytest.mark.parametrize("what", ["eval", "train", "given"])
def test_training_does_not_notice_the_callback(tmp_path, what):
    given = DataLoader(Tokens(20, 3), batch_size=5, shuffle=True)
    callback = {
        "eval": CollapseTrainerCallback("eval", layers="auto"),
        "train": CollapseTrainerCallback("train", metrics=["D"]),
        "given": CollapseTrainerCallback(given, prefix="nc/"),
    }[what]
    plain = trained(bert(), [], tmp_path).model.state_dict()
    watched = trained(bert(), [callback], tmp_path)
    assert len({row["step"] for row in callback.history}) == 2
    assert all(torch.equal(plain[name], value) for name, value in watched.model.state_dict().items())
    logged = {name for entry in watched.state.log_history for name in entry}
    name = {"eval": "collapse/eval/features/D", "train": "collapse/train/D", "given": "nc/data/D"}[what]
    assert name in logged


def test_training_data_are_measured_whole(tmp_path):
    callback = CollapseTrainerCallback("train")
    trainer = trained(bert(), [callback], tmp_path, dataloader_drop_last=True, eval_strategy="no")
    summary = measure(trainer.model, DataLoader(Tokens(50, 1), batch_size=8), split="train")
    assert callback.last.to_dict() == summary.to_dict()


def test_the_log_survives_in_checkpoints(tmp_path):
    trained(bert(), [CollapseTrainerCallback()], tmp_path, save_strategy="epoch")
    state = transformers.TrainerState.load_from_json(str(tmp_path / "checkpoint-14" / "trainer_state.json"))
    assert sum("collapse/eval/NC1" in entry for entry in state.log_history) >= 1


def test_a_causal_language_model_predicts_the_next_token(tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2)
    callback = CollapseTrainerCallback(
        labels_key="input_ids", mask_key="attention_mask", shift=True, absent="drop", metrics=["D", "accuracy"]
    )
    trainer = trained(GPT2LMHeadModel(config), [callback], tmp_path, data=Text, num_train_epochs=1)
    assert callback.last.last.samples == 31 * (LENGTH - 1)
    ids = Text(31, 2).ids
    with torch.no_grad():
        logits = trainer.model.eval()(ids).logits[:, :-1]
    accuracy = float((logits.argmax(-1) == ids[:, 1:]).double().mean())
    assert callback.last["accuracy"] == pytest.approx(accuracy)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match='dataloader is "train", "eval" or a loader'):
        CollapseTrainerCallback("val")
    with pytest.raises(InputError, match=r"options of tightframe\.measure; got split"):
        CollapseTrainerCallback(split="test")
    with pytest.raises(InputError, match="names of measured metrics; got nc1"):
        trained(bert(), [CollapseTrainerCallback(metrics=["nc1"])], tmp_path)


def test_without_transformers_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from tightframe.core.errors import MissingDependencyError\n"
        "try:\n    import tightframe.integrations.transformers\n"
        "except MissingDependencyError as error:\n    sys.exit(0 if 'tightframe[hf]' in str(error) else 2)\n"
        "sys.exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == 0
