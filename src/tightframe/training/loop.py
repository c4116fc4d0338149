"""`fit`: training on Lightning Fabric that resumes as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from tightframe.core.errors import InputError
from tightframe.core.rng import preserved_rng
from tightframe.runs.record import SERIES_COLUMNS
from tightframe.training.config import TrainConfig
from tightframe.training.criterion import LossFunction
from tightframe.training.fabric import connect
from tightframe.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class TrainResult:
    """A trained network and what was recorded on the way.

    Args:
        model: The network that was given, trained, on the device it was trained on.
        history: Series rows (keys `SERIES_COLUMNS`) of all epochs, those before a resume included.
        epochs: Epochs done.
        resumed_from: Epoch of the checkpoint that training went on from, or None.
    """

    model: nn.Module
    history: tuple[dict[str, Any], ...]
    epochs: int
    resumed_from: int | None


def fit(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    config: TrainConfig,
    fabric: Fabric | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[int, nn.Module], Rows] | None = None,
    loss_function: LossFunction | None = None,
    run: str = "train",
    workers: int = 0,
    progress: bool = False,
) -> TrainResult:
    """Train `model` on `dataset` as `config` says.

    The result is a function of the initial weights, the data and `config`: every epoch draws its order of
    samples and the network's random numbers from (seed, epoch, rank), and torch's global random state is put
    back. A run that is killed and resumed from its checkpoint therefore ends bit for bit where it would have
    ended, on the same number of processes and threads.

    Args:
        model: Maps a batch of inputs to logits (N, K); trained in place.
        dataset: Pairs (input, class index); one with `gather(indices)` is read without a loader.
        config: What to do.
        fabric: A launched Fabric, whose precision then counts; by default `connect(precision=...)`.
        checkpoint: File that the state is saved to every `config.checkpoint_every` epochs.
        resume: Go on from `checkpoint` when it exists; `config.epochs` may have grown.
        on_epoch: Called with the epoch (0 before training) and the bare model on every process; returns rows
            with the keys `SERIES_COLUMNS` for the history.
        loss_function: Mean loss of logits (N, K) and labels (N,); cross-entropy where `config.loss` is "ce". A module
            may ask for more, and have state: see `training.criterion.Criterion`.
        run: Name of the run in the rows.
        workers: Loader processes, for data sets that decode while they are read.
        progress: Whether to show progress on the error stream.

    Returns:
        The trained model and rows "training loss", "training accuracy" (means over the epoch, while the
        weights change) and "learning rate" of split "train" and layer "output", with the rows of `on_epoch`.

    Raises:
        InputError: Data, model, loss and config do not fit each other, `checkpoint` exists and `resume` is false, or
            it belongs to another configuration.
        DegenerateError: The loss or a weight is no longer finite; the last good checkpoint stays.
    """
    fabric = connect(precision=config.precision) if fabric is None else fabric
    loss_function = _loss_of(config) if loss_function is None else loss_function
    _check_data(dataset)
    trainer = Trainer(model, dataset, config, fabric, loss_function, workers)
    begun = trainer.resume(checkpoint) if resume else _refuse_overwriting(checkpoint)
    history: Rows = list(begun.history) if begun else []
    first = begun.epoch + 1 if begun else 1
    with preserved_rng([fabric.device]), trainer.display(first, enabled=progress) as meter:
        if begun is None:
            history += _rows_of(on_epoch, 0, model)
        for epoch in range(first, config.epochs + 1):
            loss, accuracy = trainer.train_epoch(epoch, meter)
            values = {
                "training loss": loss,
                "training accuracy": accuracy,
                "learning rate": config.lr_at(epoch),
            }
            history += [
                dict(run=run, epoch=epoch, split="train", layer="output", metric=name, value=value)
                for name, value in values.items()
            ]
            history += _rows_of(on_epoch, epoch, model)
            if checkpoint is not None and (epoch % config.checkpoint_every == 0 or epoch == config.epochs):
                trainer.save(checkpoint, epoch, history)
    return TrainResult(model, tuple(history), config.epochs, begun.epoch if begun else None)


def _rows_of(on_epoch: Callable[[int, nn.Module], Rows] | None, epoch: int, model: nn.Module) -> Rows:
    rows = on_epoch(epoch, model) if on_epoch is not None else []
    return [_plain_row(row) for row in rows]


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` in built-in types: a checkpoint holding numpy's could not be read back without executing it."""
    kinds = (bool, int, float, str)
    if set(row) != set(SERIES_COLUMNS) or not all(v is None or isinstance(v, kinds) for v in row.values()):
        raise InputError(
            f"rows of plain values with the keys {', '.join(SERIES_COLUMNS)}",
            got=repr(row),
            remedy="Fill every key, and convert tensors with .item().",
        )
    return {
        column: next((kind(row[column]) for kind in kinds if isinstance(row[column], kind)), None)
        for column in SERIES_COLUMNS
    }


def _loss_of(config: TrainConfig) -> LossFunction:
    if config.loss != "ce":
        raise InputError(
            'a loss module beside its name, unless it is "ce"',
            got=f"loss={config.loss!r} without loss_function",
            remedy="Give fit(..., loss_function=...).",
        )
    return functional.cross_entropy


def _check_data(dataset: Dataset[Any]) -> None:
    if not hasattr(dataset, "__len__") or len(dataset) == 0:
        raise InputError(
            "a data set with a length and at least one sample",
            got=f"{type(dataset).__name__} {'of length 0' if hasattr(dataset, '__len__') else 'without one'}",
            remedy="Give a map-style data set that is not empty.",
        )


def _refuse_overwriting(path: Path | None) -> None:
    if path is not None and Path(path).exists():
        raise InputError(
            "a checkpoint file that does not exist yet, for a new run",
            got=str(path),
            remedy="Resume that run, or choose another file.",
        )
