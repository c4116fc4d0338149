"""Progress on the error stream: a bar, a count, the time left and a few numbers; silent unless asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")


class Meter:
    """Counts steps towards a total; without a display it does nothing."""

    def __init__(self, display: Progress | None = None, task: TaskID | None = None) -> None:
        self._display, self._task = display, task

    def advance(self, n: int = 1, **status: object) -> None:
        """Count `n` more steps and show `status`, for example `loss=0.31`."""
        if self._display is not None:
            shown = {"status": "  ".join(f"{name} {_text(value)}" for name, value in status.items())} if status else {}
            self._display.update(self._task, advance=n, **shown)


@contextmanager
def progress(total: int, description: str, *, enabled: bool) -> Iterator[Meter]:
    """Show progress towards `total` steps on the error stream while the block runs.

    Args:
        total: Number of steps.
        description: What is being done.
        enabled: Whether anything is shown.

    >>> with progress(2, "training", enabled=False) as meter:
    ...     meter.advance(loss=0.5)
    """
    if not enabled:
        yield Meter()
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as display:
        yield Meter(display, display.add_task(escape(description), total=total, status=""))


def watched(items: Iterable[Item], total: int, description: str, *, enabled: bool) -> Iterator[Item]:
    """`items` one by one, with their progress on the error stream.

    Args:
        items: What is gone through.
        total: How many they are.
        description: What is being done.
        enabled: Whether anything is shown.

    Example:
        >>> list(watched("ab", 2, "reading", enabled=False))
        ['a', 'b']
    """
    with progress(total, description, enabled=enabled) as meter:
        for item in items:
            yield item
            meter.advance()


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
