"""`Shard`: the batches of a data set that one process measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tightframe.core.errors import InputError
from tightframe.training.batches import read_batches


@dataclass(frozen=True)
class Shard:
    """Batches of every `processes`-th sample from `rank` on: no padding, so no sample is counted twice.

    Args:
        dataset: Pairs (input, class index).
        rank: Which process.
        processes: How many processes there are.
        workers: Loader processes, for data sets that decode while they are read.
        batch_size: Samples per batch.
        dtype: Type of the inputs, where they are floating-point; as the data set gives them if absent.

    Raises:
        InputError: No samples per batch, or a negative number of workers.
    """

    dataset: Dataset[Any]
    rank: int = 0
    processes: int = 1
    workers: int = 0
    batch_size: int = 512
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise InputError(
                "at least one sample per batch, and 0 or more workers",
                got=f"batch_size={self.batch_size}, workers={self.workers}",
                remedy="Use batch_size=512 and workers=0.",
            )

    @property
    def steps(self) -> int:
        """How many batches there are."""
        return -(-len(range(self.rank, len(self.dataset), self.processes)) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        own = torch.arange(len(self.dataset))[self.rank :: self.processes]
        for inputs, labels in read_batches(self.dataset, own.split(self.batch_size), workers=self.workers):
            converts = self.dtype is not None and inputs.is_floating_point()
            yield inputs.to(self.dtype) if converts else inputs, labels
