"""`FeatureShards`: features too many for memory, on disk in pieces that are mapped, block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError, reason
from tightframe.core.files import is_file, replace_file, unwritable
from tightframe.features.formats import read_safetensors, write_safetensors

_INDEX = "index.json"
_SCHEMA = 1
_SHARD_BYTES = 2**26
_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


class FeatureShards:
    """Finished shards of features h (n, d) and labels y (n,), read in blocks from memory maps.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with FeatureShards.create(f"{folder}/h", features=2) as writer:
        ...         writer.append(torch.ones(5, 2), torch.zeros(5, dtype=torch.int64))
        ...     [len(y) for h, y in FeatureShards.open(f"{folder}/h").blocks(2)]
        [2, 2, 1]
    """

    def __init__(self, directory: Path, *, features: int, dtype: torch.dtype, rows: tuple[int, ...]) -> None:
        self.directory: Path = directory
        self.features: int = features
        self.dtype: torch.dtype = dtype
        self._rows = rows

    def __len__(self) -> int:
        return sum(self._rows)

    @staticmethod
    def create(
        directory: str | Path, *, features: int, dtype: torch.dtype = torch.float32, shard_rows: int | None = None
    ) -> ShardWriter:
        """Begin a new directory of shards.

        Args:
            directory: Does not exist yet, or is empty.
            features: Dimension d.
            dtype: Precision on disk; batches are converted.
            shard_rows: Rows per file, which is also what is held in memory; about 64 MiB unless given.

        Returns:
            A writer; `finish` it (or leave its `with` block) to make the shards readable.

        Raises:
            InputError: A directory with something in it, one that cannot be made, or another dtype.
        """
        directory = Path(directory)
        check_count(features, "features")
        if dtype not in _DTYPES.values():
            raise InputError(f"a dtype among {', '.join(_DTYPES)}", got=str(dtype), remedy="Choose one of these.")
        rows = max(1, _SHARD_BYTES // (features * dtype.itemsize)) if shard_rows is None else shard_rows
        check_count(rows, "shard_rows")
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise InputError("an empty place for the shards", got=f"{directory}, in use", remedy="Choose another.")
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(directory, error) from error
        return ShardWriter(directory, features=features, dtype=dtype, shard_rows=rows)

    @classmethod
    def open(cls, directory: str | Path) -> FeatureShards:
        """Open what a writer has finished.

        Raises:
            InputError: No shards, unfinished ones, or missing files.
        """
        directory = Path(directory)
        path = directory / _INDEX
        if not is_file(path):
            begun = directory.is_dir() and any(directory.glob("shard-*"))
            got = "unfinished ones" if begun else "none"
            raise InputError(f"finished shards in {directory}", got=got, remedy="Write them again, up to finish().")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            known = index["schema"] == _SCHEMA
            shards = cls(
                directory, features=index["features"], dtype=_DTYPES[index["dtype"]], rows=tuple(index["rows"])
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(path, reason(error)) from error
        if not known:
            raise _damaged(path, f"schema {index['schema']}")
        if not _are_counts(shards.features, *shards._rows):
            raise _damaged(path, f"{shards.features!r} features and rows {shards._rows!r}")
        missing = [name for number in range(len(shards._rows)) if not (name := _shard(directory, number)).is_file()]
        if missing:
            raise _damaged(missing[0], "missing")
        return shards

    def blocks(self, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (h, y) with at most `rows` rows, in the order written; a block ends where a file ends."""
        check_count(rows, "rows")
        for number, count in enumerate(self._rows):
            path = _shard(self.directory, number)
            try:
                arrays = read_safetensors(path)
                h, y = arrays["features"], arrays["labels"]
            except Exception as error:  # the reader's own kind of error, a missing file or a missing key
                raise _damaged(path, reason(error)) from error
            if h.shape != (count, self.features) or y.shape != (count,):
                raise _damaged(path, f"shapes {tuple(h.shape)} and {tuple(y.shape)}")
            yield from zip(h.split(rows), y.split(rows), strict=True)


class ShardWriter:
    """Append batches; a full shard goes to disk at once, so that memory stays at one shard."""

    def __init__(self, directory: Path, *, features: int, dtype: torch.dtype, shard_rows: int) -> None:
        self._directory = directory
        self._h = torch.empty(shard_rows, features, dtype=dtype)
        self._y = torch.empty(shard_rows, dtype=torch.int64)
        self._filled = 0
        self._rows: list[int] = []
        self._finished = False

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and not self._finished:
            self.finish()

    def append(self, h: Tensor, y: Tensor) -> None:
        """Add features (n, d) and integer labels (n,), on any device.

        Raises:
            InputError: Shapes or types do not fit, or the shards are finished; nothing is added then.
        """
        self._check_open()
        width = self._h.shape[1]
        if h.ndim != 2 or h.shape[1] != width or not h.is_floating_point():
            raise InputError(
                f"floating-point features (n, {width})",
                got=f"dtype {h.dtype} and shape {tuple(h.shape)}",
                remedy="Open one set of shards per layer.",
            )
        if y.shape != h.shape[:1] or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise InputError(
                f"integer labels ({len(h)},)", got=f"dtype {y.dtype} and shape {tuple(y.shape)}", remedy="Use .long()."
            )
        start = 0
        while start < len(h):
            taken = min(len(h) - start, len(self._h) - self._filled)
            here = slice(self._filled, self._filled + taken)
            self._h[here] = h[start : start + taken].detach()
            self._y[here] = y[start : start + taken]
            self._filled += taken
            start += taken
            if self._filled == len(self._h):
                self._flush()

    def finish(self) -> FeatureShards:
        """Write the rest and the index, which makes the shards readable.

        Raises:
            InputError: Nothing was appended, or finished already.
        """
        self._check_open()
        if self._filled:
            self._flush()
        if not self._rows:
            raise InputError("shards of at least one row", got="none", remedy="Append features before finish().")
        dtype = str(self._h.dtype).removeprefix("torch.")
        index = {"schema": _SCHEMA, "features": self._h.shape[1], "dtype": dtype, "rows": self._rows}
        replace_file(self._directory / _INDEX, lambda target: _write_text(target, json.dumps(index)))
        self._finished = True
        return FeatureShards.open(self._directory)

    def _flush(self) -> None:
        filled = {"features": self._h[: self._filled], "labels": self._y[: self._filled]}
        replace_file(_shard(self._directory, len(self._rows)), lambda target: write_safetensors(target, filled))
        self._rows.append(self._filled)
        self._filled = 0

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("shards that are still open", got="finished ones", remedy="Create new shards elsewhere.")


def _shard(directory: Path, number: int) -> Path:
    return directory / f"shard-{number:05d}.safetensors"


def _are_counts(*values: object) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _damaged(path: Path, what: str) -> InputError:
    return InputError("complete shards", got=f"{path.name}: {what}", remedy="Write them again.")
