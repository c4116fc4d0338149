"""Files on disk: appear whole or not at all, and are told from what only bears a name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tightframe.core.errors import InputError


def is_file(path: Path) -> bool:
    """Whether a regular file is there; where the name is one that no file can have, there is none."""
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Whether a directory is there; as `is_file` for names that nothing can have."""
    return os.path.isdir(path)


def check_no_pipe(path: Path) -> None:
    """What is opened is no named pipe, in which reading waits for somebody to write.

    Raises:
        OSError: It is one.
    """
    if path.is_fifo():
        raise OSError(0, "a pipe, which cannot be read twice")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, and put it in place only when it is complete and on disk.

    The file beside has the ending of `path`, for writers that go by it.

    Raises:
        InputError: The place cannot be written, or is full; nothing is left behind and what was there is untouched.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            "a place that can be written",
            got=f"{path} ({error.strerror or error})",
            remedy="Choose another path, create the directory, or make room.",
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
