from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from tightframe.core.errors import InputError
from tightframe.training.batches import epoch_batches, read_batches, stream_seed


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 4), st.integers(0, 3))
def test_every_sample_is_read_once_by_one_process_in_equally_many_batches(samples, size, processes, epoch):
    parts = [
        epoch_batches(samples, size, seed=1, epoch=epoch, rank=rank, processes=processes) for rank in range(processes)
    ]
    assert len({len(part) for part in parts}) == 1
    lengths = [len(batch) for part in parts for batch in part]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1
    read = sorted(torch.cat([batch for part in parts for batch in part]).tolist())
    if len(lengths) <= samples:
        assert read == list(range(samples))
    else:
        assert set(read) == set(range(samples))
        assert len(read) == len(lengths)


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    torch.manual_seed(0)
    first = torch.cat(epoch_batches(100, 10, seed=3, epoch=4))
    torch.manual_seed(1)
    assert torch.equal(first, torch.cat(epoch_batches(100, 7, seed=3, epoch=4)))
    assert not torch.equal(first, torch.cat(epoch_batches(100, 10, seed=3, epoch=5)))
    assert not torch.equal(first, torch.cat(epoch_batches(100, 10, seed=4, epoch=3)))


def test_stream_seeds_differ():
    seeds = {stream_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_and_gather_read_the_same(workers):
    x, y = torch.arange(12.0).view(6, 2), torch.arange(6)

    class Gathering(TensorDataset):
        def gather(self, indices):
            return self[torch.as_tensor(indices)]

    batches = epoch_batches(6, 4, seed=0, epoch=1)
    plain = list(read_batches(TensorDataset(x, y), batches, workers=workers))
    gathered = list(read_batches(Gathering(x, y), batches))
    for (a, b), (c, d) in zip(plain, gathered, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_samples_that_are_no_pairs_are_refused():
    with pytest.raises(InputError, match="pairs"):
        list(read_batches(TensorDataset(torch.zeros(3, 1)), [torch.tensor([0, 1])]))
