"""As many threads as a computation is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import scipy.linalg  # noqa: F401  its linear algebra keeps threads of its own, which the controller must find
import torch
from threadpoolctl import ThreadpoolController

# Products of fewer multiplications than this are done before a second thread has woken up; on a machine with other work
# waiting for it costs ten to fifty times as much as it saves.
SMALL = 4_000_000


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """One thread within the block where its largest product is small, as many as before otherwise and after."""
    before = torch.get_num_threads()
    if multiplications >= SMALL or before == 1:
        yield
        return
    try:
        torch.set_num_threads(1)
        with _controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
