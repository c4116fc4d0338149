"""Callbacks of the Hugging Face Trainer: collapse measured during training, and losses with state in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tightframe.collapse.summary import CollapseSummary
from tightframe.core.errors import InputError, missing_package
from tightframe.integrations.watch import Watch
from tightframe.training.checkpoint import load_state_dict

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as _error:
    raise missing_package("the package `transformers`, for its Trainer", "hf", _error) from _error


class CollapseTrainerCallback(TrainerCallback):
    """Measure the collapse of the Trainer's model, and write it to `state.log_history`.

    The entries stand beside the Trainer's own, with the epoch and step, as "collapse/eval/NC1" and so on, and come back
    with its checkpoints. Training is the same, bit for bit, with and without this callback. Under torch.distributed
    every process measures a share of the data and all have the values of the whole.

    Batches are mappings with "labels". Token models need more options: for a causal language model
    `shift=True, mask_key="attention_mask"`, for hidden layers `tokens="all"`; see `tightframe.measure`.

    Args:
        dataloader: "eval": the evaluation data, after each evaluation; "train": the training data, at the end of each
            epoch; or a loader of your own, then as well.
        metrics: Names of the metrics that are logged; None for all.
        prefix: Put before the names that are logged.
        options: Further keyword arguments of `tightframe.measure`.

    Raises:
        InputError: A name of data, or an option, that there is not.
    """

    def __init__(
        self,
        dataloader: str | Iterable[Any] = "eval",
        *,
        metrics: Sequence[str] | None = None,
        prefix: str = "collapse/",
        **options: Any,
    ) -> None:
        if isinstance(dataloader, str) and dataloader not in ("train", "eval"):
            raise InputError(
                'dataloader is "train", "eval" or a loader', got=repr(dataloader), remedy="Use one of them."
            )
        self.dataloader = dataloader
        self.watch: Watch = Watch(metrics=metrics, prefix=prefix, options=options)

    @property
    def history(self) -> list[dict[str, Any]]:
        """All values measured so far: rows with epoch, step, split, layer, metric and value."""
        return self.watch.history

    @property
    def last(self) -> CollapseSummary | None:
        """The latest summary."""
        return self.watch.last

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure the evaluation data."""
        if self.dataloader == "eval":
            self._measure(state, kwargs["model"], kwargs["eval_dataloader"], "eval")

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the training data, or the data given."""
        if self.dataloader == "train":
            self._measure(state, kwargs["model"], kwargs["train_dataloader"], "train")
        elif self.dataloader != "eval":
            self._measure(state, kwargs["model"], self.dataloader, "data")

    def _measure(self, state: TrainerState, model: nn.Module, loader: Iterable[Any], split: str) -> None:
        epoch = round(state.epoch or 0)
        scalars = self.watch.measure(model, loader, split=split, epoch=epoch, step=state.global_step)
        state.log_history.append({"epoch": state.epoch, "step": state.global_step, **scalars})


class LossStateCallback(TrainerCallback):
    """Keep the state of a loss in the Trainer's checkpoints, and put it back when training is resumed from one.

    The Trainer saves the model alone. A loss that remembers every sample (SOPLoss, EarlyLearningLoss) and is not part
    of the model would begin anew.

    Args:
        loss: The module called by `compute_loss_func`.

    Raises:
        InputError: On resuming, a checkpoint without the state of a loss.
    """

    FILE = "loss.safetensors"

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the state beside the model, from the first process."""
        if state.is_world_process_zero:
            from safetensors.torch import save_file

            tensors = {name: value.detach().cpu().contiguous() for name, value in self.loss.state_dict().items()}
            save_file(tensors, self._place(args, state))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read it back where training goes on."""
        if state.global_step == 0:
            return
        place = self._place(args, state)
        if not place.exists():
            raise InputError(
                "a checkpoint with the state of the loss",
                got=f"no {place.name} in {place.parent}",
                remedy="Resume from one that was saved with LossStateCallback, or train from the start.",
            )
        self.loss.load_state_dict(load_state_dict(place))

    def _place(self, args: TrainingArguments, state: TrainerState) -> Path:
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / self.FILE
