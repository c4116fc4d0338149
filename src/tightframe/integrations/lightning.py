"""`CollapseCallback`: collapse measured during training with Lightning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tightframe.collapse.summary import CollapseSummary
from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.integrations.watch import Watch


class CollapseCallback(Callback):
    """Measure the collapse of the module that is being trained, and log it.

    `forward` of the module, or of the part named by `model_attribute`, gives the logits. The values are logged as
    "collapse/val/NC1" and so on, also where there is no logger, so that other callbacks can monitor them. Training
    is the same, bit for bit, with and without this callback. Under DDP every process measures a share of the data
    and all have the values of the whole. A resumed Trainer keeps the history.

    Args:
        dataloader: "val": the validation data, at the end of each validation; "train": the training data, at the end
            of each training epoch; or a loader of your own, then as well.
        every_n_epochs: Epochs from one measurement to the next.
        model_attribute: Name of the part of the module that is measured; None for the module itself.
        metrics: Names of the metrics that are logged; None for all.
        prefix: Put before the names that are logged.
        options: Further keyword arguments of `tightframe.measure`: layers, classifier, absent, ...

    Attributes:
        history: All values measured so far: rows with epoch, step, split, layer, metric and value.
        last: The latest CollapseSummary.

    Raises:
        InputError: A name of data, or an option, that there is not.
    """

    def __init__(
        self,
        dataloader: str | Iterable[Any] = "val",
        *,
        every_n_epochs: int = 1,
        model_attribute: str | None = None,
        metrics: Sequence[str] | None = None,
        prefix: str = "collapse/",
        **options: Any,
    ) -> None:
        if isinstance(dataloader, str) and dataloader not in ("train", "val"):
            raise InputError(
                'dataloader is "train", "val" or a loader', got=repr(dataloader), remedy="Use one of them."
            )
        self.dataloader = dataloader
        self.every_n_epochs: int = check_count(every_n_epochs, "every_n_epochs")
        self.model_attribute = model_attribute
        self.watch: Watch = Watch(metrics=metrics, prefix=prefix, options=options)

    @property
    def history(self) -> list[dict[str, Any]]:
        """All values measured so far, one row each."""
        return self.watch.history

    @property
    def last(self) -> CollapseSummary | None:
        """The latest summary."""
        return self.watch.last

    @property
    def state_key(self) -> str:
        """Callbacks on different data, or with different prefixes, keep their histories apart."""
        return self._generate_state_key(split=self._split, prefix=self.watch.prefix)

    def state_dict(self) -> dict[str, Any]:
        """The history, for the checkpoint."""
        return {"history": list(self.watch.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the history of a checkpoint."""
        self.watch.history = list(state_dict["history"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to wait for a validation that will not come."""
        if self.dataloader == "val" and not trainer.enable_validation:
            raise InputError(
                "a Trainer that validates",
                got="no validation data, no validation_step, or limit_val_batches=0",
                remedy='Use CollapseCallback("train"), or pass a loader.',
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the validation data."""
        if self.dataloader == "val" and not trainer.sanity_checking:
            self._measure(trainer, pl_module, trainer.val_dataloaders)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the training data, or the data given."""
        if self.dataloader != "val":
            given = trainer.train_dataloader if self.dataloader == "train" else self.dataloader
            self._measure(trainer, pl_module, given)

    @property
    def _split(self) -> str:
        return self.dataloader if isinstance(self.dataloader, str) else "data"

    def _measure(self, trainer: Trainer, pl_module: LightningModule, loader: Any) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        model = pl_module if self.model_attribute is None else pl_module.get_submodule(self.model_attribute)
        scalars = self.watch.measure(
            model,
            loader if loader is self.dataloader else _only(loader),
            split=self._split,
            epoch=trainer.current_epoch,
            step=trainer.global_step,
        )
        pl_module.log_dict(scalars, sync_dist=trainer.world_size > 1)


def _only(loaders: Any) -> Any:
    """The one loader of a Trainer."""
    several = list(loaders.values()) if isinstance(loaders, Mapping) else loaders
    if not isinstance(several, list | tuple):
        return loaders
    if len(several) != 1:
        raise InputError(
            "one loader", got=f"{len(several)} of them", remedy="Pass the one to measure: CollapseCallback(loader)."
        )
    return several[0]
