"""`Watch`: repeated measurements of a model in training, and `sweep`: the pass over the data that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from tightframe.collapse.monitor import measure
from tightframe.collapse.summary import CollapseSummary
from tightframe.core.errors import InputError
from tightframe.data.labelled.indexed import IndexedDataset


class Watch:
    """Measurements of one model over time.

    Args:
        metrics: Names of the metrics that are logged; None for all. The history has all in any case.
        prefix: Put before the names that are logged.
        options: Keyword arguments of `measure`.

    Raises:
        InputError: An option that `measure` does not take.
    """

    def __init__(self, *, metrics: Sequence[str] | None, prefix: str, options: dict[str, Any]) -> None:
        taken = [name for name in signature(measure).parameters if name not in ("model", "loader", "split")]
        unknown = [name for name in options if name not in taken]
        if unknown:
            raise InputError(
                "options of tightframe.measure", got=", ".join(unknown), remedy=f"Use some of {', '.join(taken)}."
            )
        self.metrics: Sequence[str] | None = metrics
        self.prefix: str = prefix
        self.options: dict[str, Any] = options
        self.history: list[dict[str, Any]] = []
        self.last: CollapseSummary | None = None

    def measure(
        self, model: nn.Module, loader: Iterable[Any], *, split: str, epoch: int, step: int
    ) -> dict[str, float]:
        """Measure now; the scalars to log by name: prefix, split, layer where there are several, metric.

        Raises:
            InputError: As `measure`; a name in `metrics` that was not measured.
        """
        summary = measure(model, sweep(loader), split=split, **self.options)
        names = {name for layer in summary.layers.values() for name in layer.measurements} | set(summary.decisions)
        unknown = [name for name in self.metrics or () if name not in names]
        if unknown:
            raise InputError(
                "names of measured metrics", got=", ".join(unknown), remedy=f"Use some of {', '.join(sorted(names))}."
            )
        self.last = summary
        rows = summary.rows(epoch=epoch)
        self.history += [row | {"step": step} for row in rows]
        several = len(summary.layers) > 1
        scalars = {}
        for row in rows:
            if self.metrics is None or row["metric"] in self.metrics:
                layer = f"{row['layer']}/" if several and row["layer"] != "output" else ""
                scalars[f"{self.prefix}{split}/{layer}{row['metric']}"] = row["value"]
        return scalars


def sweep(loader: Iterable[Any]) -> Iterable[Any]:
    """A loader of the same data set that shows every sample once, in order.

    Training goes on as if nothing had been read: the sampler, epoch count, workers and generators of the given loader
    are not touched. Each rank of a process group gets a share of its own. Positions that IndexedDataset puts beside
    the labels are left out. Streams, and iterables that are no DataLoader, are returned as they are.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if size is None and loader.batch_sampler is None:  # the data set makes the batches
        return loader
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    dataset = loader.dataset.dataset if isinstance(loader.dataset, IndexedDataset) else loader.dataset
    return DataLoader(
        dataset,
        batch_size=size or 64,
        sampler=DistributedSampler(dataset, shuffle=False) if several else None,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )
