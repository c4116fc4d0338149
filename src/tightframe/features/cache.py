"""`RowCache`: rows put aside during one forward pass, in memory first and in an unnamed file beyond."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor


class RowCache:
    """Tensors of equal width, appended row-wise and read back in order as often as needed.

    Args:
        memory: Bytes kept in memory; everything beyond goes to a temporary file, which vanishes with the object.
    """

    def __init__(self, *, memory: int = 1 << 28) -> None:
        self._limit, self._used, self._written = memory, 0, 0
        self._chunks: list[Tensor] = []
        self._file = None
        self._spilled: list[tuple[torch.Size, torch.dtype]] = []

    def append(self, rows: Tensor) -> None:
        """Put rows aside (a copy on the CPU, in their own precision)."""
        rows = rows.detach().to("cpu", copy=True).contiguous()
        size = rows.numel() * rows.element_size()
        if self._file is None and self._used + size <= self._limit:
            self._used += size
            self._chunks.append(rows)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._file.seek(self._written)
        self._written += self._file.write(_bytes(rows)) if size else 0
        self._spilled.append((rows.shape, rows.dtype))

    def __iter__(self) -> Iterator[Tensor]:
        yield from self._chunks
        if self._file is None:
            return
        position = 0
        for shape, dtype in self._spilled:
            # A reader may stop midway, and two may take turns: each finds its own place again.
            self._file.seek(position)
            rows = torch.empty(shape, dtype=dtype)
            position += self._file.readinto(_bytes(rows)) if len(rows) else 0
            yield rows


def _bytes(rows: Tensor) -> memoryview:
    return memoryview(rows.view(-1).view(torch.uint8).numpy())
