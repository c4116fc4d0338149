"""Run directories: written whole or not at all, resumed only with the configuration they began with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tightframe.core.errors import InputError, reason
from tightframe.core.files import check_no_pipe, is_partial, replace_file, unwritable
from tightframe.runs.record import Record

CONFIG, RECORD, CHECKPOINT = "config.json", "record.json", "checkpoint.pt"


def write_atomic(path: Path, data: str | bytes | memoryview) -> None:
    """Replace the file at `path` by `data` (text as UTF-8) in one step, as `core.files.replace_file` does.

    Raises:
        InputError: The directory is missing or read-only, or the disk is full; what was there is untouched
            and no partial file stays behind.
    """
    content = data.encode() if isinstance(data, str) else data
    replace_file(Path(path), lambda partial: partial.write_bytes(content))


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run: `config.json`, `record.json`, `checkpoint.pt`.

    Use `RunDirectory.create` to begin or resume a run, the constructor to read one. A run that is begun works inside
    `with`: if it ends by an exception, an interrupt included, before it left anything but its configuration, the
    directory is freed, so that the same command can be given again, with other options too. What is worth resuming
    stays.

    Args:
        path: Where it is.
        owned: Whether this process began the run, and so may free the directory.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place, RunDirectory.create(Path(place) / "run", config={"lr": 0.1}) as run:
        ...     run.config()
        {'lr': 0.1}
    """

    path: Path
    owned: bool = field(default=False, compare=False)

    @classmethod
    def create(cls, path: Path, *, config: Mapping[str, Any], resume: bool = False) -> RunDirectory:
        """Begin a run at `path`, or go on with the one that is there.

        Args:
            path: Directory, made with its parents when missing.
            config: Resolved configuration (JSON values).
            resume: Go on in a directory that holds a run of the same configuration; an empty or missing
                directory begins a new run.

        Raises:
            InputError: The directory is not empty and `resume` is false, holds no run, or holds a run of
                another configuration (the differing keys are named); or it cannot be written.
        """
        run = cls(Path(path), owned=True)
        plain = _plain(config)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            found = sorted(entry.name for entry in run.path.iterdir() if not is_partial(entry))
        except OSError as error:
            raise unwritable(run.path, error) from error
        if found and not resume:
            raise InputError(
                "an empty or new directory for a new run",
                got=f"{run.path}, which holds {', '.join(found[:4])}{', ...' if len(found) > 4 else ''}",
                remedy="Go on with that run by --resume, or choose another --out.",
            )
        if found:
            run._check_config(plain)
            # Writers that were killed could not remove their unfinished files.
            for leftover in [entry for entry in run.path.iterdir() if is_partial(entry)]:
                with suppress(OSError):
                    leftover.unlink(missing_ok=True)
        else:
            write_atomic(run.path / CONFIG, json.dumps(plain, indent=1, ensure_ascii=False))
        return run

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.owned:
            self.release()

    @property
    def record_path(self) -> Path:
        """Where the record is."""
        return self.path / RECORD

    @property
    def checkpoint_path(self) -> Path:
        """Where the state of training is."""
        return self.path / CHECKPOINT

    def config(self) -> dict[str, Any]:
        """The configuration the run began with.

        Raises:
            InputError: `config.json` is missing or is not JSON.
        """
        text = _read(self.path / CONFIG, "a run directory, which holds config.json")
        try:
            stored = json.loads(text)
        except (ValueError, RecursionError) as error:
            stored = error
        if not isinstance(stored, dict):
            raise InputError(
                "a configuration written by a run",
                got=f"{self.path / CONFIG}: {reason(stored) if isinstance(stored, Exception) else 'no JSON object'}",
                remedy="Choose another --out.",
            )
        return stored

    def release(self) -> None:
        """Free the directory of a run that failed before it left anything but its configuration and empty folders."""
        with suppress(OSError):
            left = [entry for entry in self.path.rglob("*") if entry.is_symlink() or not entry.is_dir()]
            if all(entry == self.path / CONFIG or is_partial(entry) for entry in left):
                for folder in [entry for entry in self.path.iterdir() if entry.is_dir()]:
                    shutil.rmtree(folder)
                (self.path / CONFIG).unlink(missing_ok=True)

    def save_record(self, record: Record) -> None:
        """Write `record.json`, replacing an earlier one in one step."""
        write_atomic(self.record_path, record.to_json())

    def load_record(self) -> Record:
        """Read `record.json`.

        Raises:
            InputError: It is missing or is not a record.
        """
        return _load(self.record_path)

    def _check_config(self, config: dict[str, Any]) -> None:
        stored, config = _flat(self.config()), _flat(config)
        differing = sorted(key for key in {*stored, *config} if stored.get(key, _ABSENT) != config.get(key, _ABSENT))
        if differing:
            changes = "; ".join(f"{key}: {_show(stored, key)} then, {_show(config, key)} now" for key in differing)
            raise InputError(
                "the configuration the run began with, for --resume",
                got=f"other values in {self.path} ({changes})",
                remedy="Give the same options, or choose another --out for a new run.",
            )


def begin(
    out: Path | None,
    *,
    config: Mapping[str, Any],
    resume: bool = False,
    first: bool = True,
    wait: Callable[[], None] | None = None,
) -> AbstractContextManager[RunDirectory | None]:
    """A run for the time of a `with` block: in the directory `out`, or in none.

    Args:
        out: As `path` of `RunDirectory.create`, or None to keep nothing.
        config: As there.
        resume: As there.
        first: Whether this process makes the directory; the others of a group of processes share it.
        wait: Waits for all processes of the group, so that none looks for the directory before it is there.

    Raises:
        InputError: As `RunDirectory.create`.
    """
    if out is None:
        return nullcontext()
    run = RunDirectory.create(out, config=config, resume=resume) if first else RunDirectory(Path(out))
    if wait is not None:
        wait()
    return run


def load_records(paths: Sequence[Path]) -> list[Record]:
    """Records at `paths`: run directories, record files, or directories of runs (sorted by name).

    Raises:
        InputError: Nothing is named, or a path holds no record; the message lists what was looked for.
    """
    if not paths:
        raise InputError("at least one run", got="none", remedy="Name run directories or record.json files.")
    return [_load(file) for path in paths for file in _record_files(Path(path))]


def _record_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / RECORD).is_file():
        return [path / RECORD]
    children = sorted(path.glob(f"*/{RECORD}")) if path.is_dir() else []
    if not children:
        raise InputError(
            f"a run at {path}",
            got=f"neither the file {path}, nor {path / RECORD}, nor {path / '*' / RECORD}",
            remedy="Name a run directory, a record.json file, or a directory that holds runs.",
        )
    return children


def _load(path: Path) -> Record:
    text = _read(path, "a finished run, which leaves a record")
    try:
        return Record.from_json(text)
    except InputError as error:
        raise InputError(error.expected, got=f"{path}: {error.got}", remedy=error.remedy) from error
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise InputError(
            "a record written by a run", got=f"{path}: {reason(error)}", remedy="Run it again, or copy it again."
        ) from error


def _read(path: Path, expected: str) -> str:
    try:
        check_no_pipe(path)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = f"{path}: {error.strerror if isinstance(error, OSError) else 'no UTF-8 text'}"
        raise InputError(expected, got=got, remedy="Name a run written by tightframe, or run it again.") from error


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` as it will read back: tuples become lists, so that comparing with the file is fair."""
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            "a configuration of JSON values",
            got=str(error),
            remedy="Convert paths to text and numbers to finite ones.",
        ) from error


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots, so that a difference is named and not the whole around it."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if value and isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


_ABSENT = object()


def _show(config: Mapping[str, Any], key: str) -> str:
    return json.dumps(config[key]) if key in config else "absent"
