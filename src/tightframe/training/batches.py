"""Which samples a process reads in which order: decided by (seed, epoch), so that it can be resumed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tightframe.core.errors import InputError
from tightframe.core.rng import generator


def stream_seed(*key: int) -> int:
    """A seed for the random stream numbered `key`; different keys give unrelated streams.

    >>> stream_seed(0, 1) == stream_seed(0, 1), stream_seed(0, 1) == stream_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def epoch_batches(
    samples: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, processes: int = 1
) -> list[Tensor]:
    """Indices of the batches that process `rank` trains on in `epoch`.

    A permutation of all samples is cut into as many batches as needed, every process getting equally many.
    Batch sizes differ by at most one and never exceed `batch_size`: no sample is left out or seen twice, and
    there is no small last batch. (Only when batches outnumber samples does the permutation start again.)

    Args:
        samples: Size of the data set N.
        batch_size: Largest batch of one process.
        seed: Seed of the run.
        epoch: Number of the epoch.
        rank: Which process.
        processes: How many processes there are.

    >>> [len(batch) for batch in epoch_batches(10, 4, seed=0, epoch=1)]
    [4, 3, 3]
    """
    order = torch.randperm(samples, generator=generator(stream_seed(seed, epoch)))
    batches = math.ceil(samples / (batch_size * processes)) * processes
    if batches > samples:
        order = order.repeat(math.ceil(batches / samples))[:batches]
    return list(torch.tensor_split(order, batches)[rank::processes])


def read_batches(
    dataset: Dataset[Any], batches: Sequence[Tensor], *, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of each of `batches`, in order.

    A data set with a method `gather(indices) -> (inputs, labels)` is read by it; any other through torch's
    loader with `workers` processes.

    Raises:
        InputError: The data set does not give pairs of inputs and labels.
    """
    gather = getattr(dataset, "gather", None)
    if gather is not None and workers == 0:
        yield from map(gather, batches)
        return
    sampler = [batch.tolist() for batch in batches]
    for batch in DataLoader(dataset, batch_sampler=sampler, num_workers=workers):
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise InputError(
                "samples that are pairs (input, label)",
                got=f"a {type(batch).__name__}",
                remedy="Wrap the data set so that dataset[i] returns one input tensor and one class index.",
            )
        yield batch[0], batch[1]
