"""Explicit randomness: generators are built from a seed, and a global state is put back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import torch

from tightframe.core.errors import InputError


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` seeded with `seed`.

    Raises:
        InputError: A seed that is no integer, None included: every result is to be repeatable.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise InputError("an integer seed", got=f"seed={seed!r}", remedy="Pass one, 0 say, so that runs repeat.")
    return torch.Generator(device=device).manual_seed(int(seed))


@contextmanager
def preserved_rng(devices: Iterator[torch.device] | list[torch.device] | tuple = ()) -> Iterator[None]:
    """Restore torch's global random state (CPU, and every CUDA device in `devices`) on leaving the block."""
    cuda = sorted(
        {d.index if d.index is not None else torch.cuda.current_device() for d in devices if d.type == "cuda"}
    )
    with torch.random.fork_rng(devices=cuda, device_type="cuda"):
        yield
