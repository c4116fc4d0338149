"""`RowCache`: rows put aside during one forward pass, in memory first and in an unnamed file beyond."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


class RowCache:
    """Tensors of equal width, appended row-wise and read back in order as often as needed.

    Args:
        memory: Bytes kept in memory; everything beyond goes to a temporary file, which vanishes with the object.
    """

    def __init__(self, *, memory: int = 1 << 28) -> None:
        self._limit, self._used = memory, 0
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
        if rows.numel():
            self._file.seek(0, 2)
            rows.view(torch.uint8).numpy().tofile(self._file)
        self._spilled.append((rows.shape, rows.dtype))

    def __iter__(self) -> Iterator[Tensor]:
        yield from self._chunks
        if self._file is None:
            return
        position = 0
        for shape, dtype in self._spilled:
            # A reader may stop midway, and two may take turns: each finds its own place again.
            self._file.seek(position)
            data = np.fromfile(self._file, dtype=np.uint8, count=shape.numel() * dtype.itemsize)
            position += data.size
            yield torch.from_numpy(data).view(dtype).reshape(shape)
