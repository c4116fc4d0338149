"""The steps of training on one process: gradients, steps, epochs, and the state that is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.labelled.augment import Augmentation, augment
from tightframe.runs.console import Meter, progress
from tightframe.training import checkpoint as checkpoints
from tightframe.training.batches import epoch_batches, read_batches, stream_seed
from tightframe.training.config import (
    TrainConfig,
    classifier,
    decayed_parameters,
    feature_penalty,
    make_optimizer,
    weight_penalty,
)
from tightframe.training.criterion import Batch, Criterion, LossFunction

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_STEPS_BETWEEN_CHECKS = 50
# Number of the random stream of the transforms, beside those of the order of samples and of the network's own.
_TRANSFORMS = 1 << 20


class Trainer:
    """Model, optimiser and data of one run on one process."""

    wrapped: Any
    optimizer: Any

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset[Any],
        config: TrainConfig,
        fabric: Fabric,
        loss_function: LossFunction,
        workers: int,
    ) -> None:
        self.model: nn.Module = model
        self.dataset: Dataset[Any] = dataset
        self.config: TrainConfig = config
        self.fabric: Fabric = fabric
        self.criterion: Criterion = Criterion(loss_function, fabric.device)
        if config.optimizer == "lbfgs" and self.criterion.needs_index:
            raise InputError(
                "a loss without a memory of the samples: L-BFGS evaluates it several times a step",
                got=self.criterion.name,
                remedy="Use sgd or adam.",
            )
        self.workers: int = workers
        self.transform: Augmentation = augment(config.augment)
        self.random: torch.Generator = generator(config.seed, device=fabric.device)
        self.decayed: list[nn.Parameter] = decayed_parameters(model, config)
        watching = config.feature_decay > 0 or self.criterion.needs_features
        self.watched: nn.Module | None = classifier(model, config) if watching else None
        self.bare_optimizer: torch.optim.Optimizer = make_optimizer(model, config)
        self.wrapped, self.optimizer = fabric.setup(model, self.bare_optimizer)
        double = next(model.parameters()).dtype == torch.float64
        # Fabric hands logits back in the default type, which outside its context would round doubles.
        self.context: Callable[[], AbstractContextManager[Any]] = fabric.autocast if double else nullcontext
        self.checked = False

    def train_epoch(self, epoch: int, meter: Meter) -> tuple[float, float]:
        """Mean loss and accuracy over one pass, on all processes together."""
        self.wrapped.train()
        for group in self.bare_optimizer.param_groups:
            group["lr"] = self.config.lr_at(epoch)
        rank = self.fabric.global_rank
        torch.manual_seed(stream_seed(self.config.seed, epoch, 1 + rank))
        self.random.manual_seed(stream_seed(self.config.seed, epoch, _TRANSFORMS + rank))
        batches = self._batches(epoch)
        reader = self._read(batches)
        sums: list[Tensor] = []
        while group := list(islice(reader, self.config.accumulate)):
            sums.append(self._step(group))
            if len(sums) % _STEPS_BETWEEN_CHECKS == 0:
                self._check_losses(sums, epoch)
            meter.advance(len(group), epoch=epoch)
        self._check_losses(sums, epoch)
        self._check_weights(epoch)
        self._share_buffers()
        self.criterion.synchronize()
        total = torch.stack(sums).cpu().double().sum(0)
        if self.fabric.world_size > 1:
            total = self.fabric.all_reduce(total.to(self.fabric.device), reduce_op="sum")
        loss, correct, count = total.tolist()
        meter.advance(0, epoch=epoch, loss=loss / count, accuracy=correct / count)
        return loss / count, correct / count

    def _read(self, batches: list[Tensor]) -> Iterator[Batch]:
        """The batches with their indices, transformed, on the device."""
        pairs = read_batches(self.dataset, batches, workers=self.workers)
        for (inputs, labels), index in zip(pairs, batches, strict=True):
            inputs, labels = self.fabric.to_device((inputs, labels))
            if self.criterion.needs_index:
                index = self.fabric.to_device(index)
            views = [self.transform(inputs, self.random) for _ in range(self.criterion.views)]
            yield Batch(torch.cat(views) if len(views) > 1 else views[0], labels, index)

    def _step(self, group: list[Batch]) -> Tensor:
        """One step on the batches of `group`; sums of loss, correct answers and samples before the step."""
        evaluations: list[Tensor] = []

        def objective() -> Tensor:
            self.optimizer.zero_grad()
            value, sums = self._backward(group)
            evaluations.append(sums)
            return value

        if self.config.optimizer == "lbfgs":
            # The line search must take the same decisions on every process.
            self.optimizer.step(lambda: self.fabric.all_reduce(objective(), reduce_op="mean"))
        else:
            objective()
            self.optimizer.step()
        return evaluations[0]

    def _backward(self, group: list[Batch]) -> tuple[Tensor, Tensor]:
        samples = sum(len(batch.labels) for batch in group)
        parts: list[Tensor] = []
        sums: list[Tensor] = []
        for position, batch in enumerate(group):
            labels = batch.labels
            unfinished = position < len(group) - 1
            with (
                self.fabric.no_backward_sync(self.wrapped, enabled=unfinished),
                self.context(),
                _input_of(self.watched) as features,
            ):
                logits = self.wrapped(batch.inputs)
                loss = self._checked_loss(logits, batch, features)
                penalty = weight_penalty(self.decayed, self.config) + feature_penalty(features, self.config)
                # Shares of samples, not of batches: batch sizes may differ by one.
                part = (loss + penalty) * (len(labels) / samples)
                self.fabric.backward(part)
            loss = loss.detach()
            correct = (logits.detach()[: len(labels)].argmax(1) == labels).sum().to(loss)
            parts.append(part.detach())
            sums.append(torch.stack([loss * len(labels), correct, torch.full_like(loss, len(labels))]))
        return torch.stack(parts).sum(), torch.stack(sums).sum(0)

    def resume(self, path: Path | None) -> checkpoints.Checkpoint | None:
        """Put model and optimiser into the state saved at `path`; None where nothing was saved yet."""
        if path is None or not Path(path).exists():
            return None
        state = checkpoints.load(path)
        now, then = self._fingerprint(), state.config
        differing = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
        if differing or state.epoch > self.config.epochs:
            changes = [f"{key}: {then.get(key)!r} then, {now.get(key)!r} now" for key in differing]
            raise InputError(
                "the configuration the checkpoint was made with, and at least as many epochs",
                got="; ".join(changes) or f"{state.epoch} epochs done, {self.config.epochs} asked for",
                remedy="Resume with the same settings, or train from the start into another file.",
            )
        checkpoints.apply_state(self.model, state.model, path)
        self.bare_optimizer.load_state_dict(state.optimizer)
        self.criterion.load_state(state.loss)
        return state

    def save(self, path: Path, epoch: int, history: Sequence[dict[str, Any]]) -> None:
        """Write the checkpoint from the first process; the others wait."""
        if self.fabric.is_global_zero:
            state = checkpoints.Checkpoint(
                model=self.model.state_dict(),
                optimizer=self.bare_optimizer.state_dict(),
                loss=self.criterion.state(),
                epoch=epoch,
                history=tuple(history),
                config=self._fingerprint(),
            )
            checkpoints.save(path, state)
        self.fabric.barrier()

    def display(self, first: int, *, enabled: bool) -> AbstractContextManager[Meter]:
        """Progress over the remaining batches of this process, shown by the first one only."""
        total = (self.config.epochs + 1 - first) * len(self._batches(first))
        return progress(total, "training", enabled=enabled and self.fabric.is_global_zero)

    def _batches(self, epoch: int) -> list[Tensor]:
        return epoch_batches(
            len(self.dataset),
            self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            rank=self.fabric.global_rank,
            processes=self.fabric.world_size,
        )

    def _fingerprint(self) -> dict[str, Any]:
        fixed = asdict(self.config)
        del fixed["checkpoint_every"]
        if self.config.schedule != "cosine":
            del fixed["epochs"]
        return fixed | {
            "samples": len(self.dataset),
            "processes": self.fabric.world_size,
            "loss function": self.criterion.name,
        }

    def _share_buffers(self) -> None:
        """Give every process the buffers of the first: running statistics come from one process's batches."""
        if self.fabric.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _checked_loss(self, logits: Tensor, batch: Batch, features: list[Tensor]) -> Tensor:
        """The loss of one batch; the first batch of a run is checked for whether model, data and loss fit."""
        if not self.checked:
            self._check_outputs(logits, batch.labels)
        return self.criterion(logits, batch, features)

    def _check_outputs(self, logits: Tensor, labels: Tensor) -> None:
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != self.criterion.views * len(labels):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"logits of shape (N, K) for the N={self.criterion.views * len(labels)} inputs of a batch",
                got=str(shape),
                remedy="Wrap the model so that it returns one tensor of logits.",
            )
        stored = getattr(self.dataset, "labels", None)
        known = stored if isinstance(stored, Tensor) else labels
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= logits.shape[1]:
            raise InputError(
                f"labels from 0 to {logits.shape[1] - 1}, one output of the model for every class",
                got=f"labels from {low} to {high}",
                remedy="Build the model with as many classes as the data set has.",
            )
        self.checked: bool = True

    def _check_losses(self, sums: list[Tensor], epoch: int) -> None:
        finite = torch.isfinite(torch.stack(sums)[:, 0]).tolist()
        step = finite.index(False) if False in finite else len(finite)
        worst = torch.tensor(step, device=self.fabric.device)
        first = int(self.fabric.all_reduce(worst, reduce_op="min"))
        if first < len(finite):
            raise _diverged(f"a loss that is not finite in epoch {epoch}, step {first + 1} of {len(finite)}")

    def _check_weights(self, epoch: int) -> None:
        for name, value in self.model.named_parameters():
            if not torch.isfinite(value).all():
                raise _diverged(f"weights {name} that are not finite after epoch {epoch}")


@contextmanager
def _input_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collects the input of `module` while the block runs; nothing when there is no module to watch."""
    inputs: list[Tensor] = []
    if module is None:
        yield inputs
        return
    hook = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        yield inputs
    finally:
        hook.remove()


def _diverged(what: str) -> DegenerateError:
    return DegenerateError(
        "training that stays finite",
        got=what,
        remedy="Lower lr, or look for NaN in the inputs; the last checkpoint holds the state before.",
    )
