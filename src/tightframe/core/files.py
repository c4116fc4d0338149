"""Files on disk: appear whole or not at all, and are told from what only bears a name."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tightframe.core.errors import InputError

_PARTIAL = ".partial"


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
    """Let `write` fill a file beside `path`, and put it in place only when it is complete.

    The data are on the disk before the name changes, so that a reader finds either the old file or the new one,
    whenever the writing process is killed. The file beside has the ending of `path`, for writers that go by it.

    Raises:
        InputError: The directory is missing or read-only, or the disk is full; nothing is left behind and what was
            there is untouched.
    """
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{_PARTIAL}{path.suffix}")
    try:
        write(partial)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Whether this is the unfinished file of a writer, one that was killed perhaps.

    >>> [is_partial(Path(name)) for name in (".moments.0a1b2c3d.partial.npz", "moments.npz", "some.partial.npz")]
    [True, False, False]
    """
    return path.name.startswith(".") and _PARTIAL in path.suffixes[-2:]


def unwritable(path: Path, error: OSError) -> InputError:
    """The error of a place where nothing can be written, with what the system says about it."""
    return InputError(
        f"a place to write {path}",
        got=error.strerror or str(error),
        remedy="Choose a directory that is there and that you may write to, on a disk with free space.",
    )


def _sync_directory(path: Path) -> None:
    # Windows cannot open directories; there the new name is as durable as the system makes it.
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
