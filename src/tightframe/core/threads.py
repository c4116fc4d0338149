"""As many threads as a computation is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, TypeVar

import scipy.linalg  # noqa: F401  its linear algebra keeps threads of its own, which the controller must find
import torch
from threadpoolctl import ThreadpoolController

# Products of fewer multiplications than this are done before a second thread has woken up; on a machine with other work
# waiting for it costs ten to fifty times as much as it saves.
SMALL = 4_000_000

Solver = TypeVar("Solver", bound=Callable[..., Any])


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


def on_few_threads(solver: Solver) -> Solver:
    """A solver that runs within `threads_for` of what its first argument, a problem, says its largest product is."""

    @wraps(solver)
    def limited(*args: Any, **options: Any) -> Any:
        problem = args[0] if args else options.get("problem")
        with threads_for(getattr(problem, "multiplications", SMALL)):
            return solver(*args, **options)

    return limited


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
