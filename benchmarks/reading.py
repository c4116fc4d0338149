"""Result files read back: the tables that the benchmarks wrote, with their command, machine and versions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from tightframe.core.errors import InputError

# The cells of a column that a row must hold: a pattern of the shell, or several of which one must match.
Where = Mapping[str, str | tuple[str, ...]]

_SHARE = re.compile(r"([\d,]+)(?: of |/)([\d,]+)")
_GENERATED = re.compile(r"^Command: `python -m benchmarks\.races\b(?!\.)", re.MULTILINE)
_ABSENT = ("", "–", "-", "not installed")


class MissingTableError(InputError):
    """A result file has no such table: a part of the benchmark was left out, or its columns have other names."""


@dataclass(frozen=True)
class ResultTable:
    """A table, its cells as they were printed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def select(self, where: Where | None = None) -> list[dict[str, str]]:
        """Rows by column whose cells match."""
        found = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return [row for row in found if all(_matches(row[name], wanted) for name, wanted in (where or {}).items())]


@dataclass(frozen=True)
class Curve:
    """How far a contender had come after so many seconds."""

    problem: str
    contender: str
    measure: str
    seconds: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class ResultFile:
    """What one benchmark wrote."""

    name: str
    title: str
    command: str
    machine: str
    versions: str
    text: str
    tables: tuple[ResultTable, ...]
    curves: tuple[Curve, ...] = field(default=())

    @property
    def load(self) -> float:
        """The load average of the machine at the start, 0 where the file does not say."""
        found = re.search(r"load average ([\d.]+)", self.machine)
        return float(found[1]) if found else 0.0

    def rows(self, *columns: str, where: Where | None = None) -> list[dict[str, str]]:
        """Rows that match, by column, of all tables that have these columns and those of `where`.

        Raises:
            MissingTableError: No table has them.
        """
        needed = {*columns, *(where or {})}
        tables = [table for table in self.tables if needed <= set(table.columns)]
        if tables:
            return [row for table in tables for row in table.select(where)]
        raise MissingTableError(
            f"a table of {self.name}.md with the columns {', '.join(sorted(needed))}",
            got="; ".join(", ".join(table.columns) for table in self.tables) or "no table",
            remedy="Let the reader name the columns that the benchmark writes, and run that again.",
        )


def read_results(folder: Path) -> dict[str, ResultFile]:
    """Every result file of a folder by name, without those that are made from the others."""
    found = {}
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if not _GENERATED.search(text):
            found[path.stem] = _result(path, text)
    return found


def number(cell: str) -> float | None:
    """A printed cell as a number: shares as fractions, "not reached" as infinity, what was not measured as None.

    >>> [number(cell) for cell in ("1,024", "7 of 10", "0.05%", "not reached", "not installed")]
    [1024.0, 0.7, 0.05, inf, None]
    """
    if cell in _ABSENT or cell.startswith("failed"):
        return None
    if cell == "not reached":
        return math.inf
    if share := _SHARE.fullmatch(cell):
        return _float(share[1]) / _float(share[2])
    try:
        return _float(cell.removesuffix("%"))
    except ValueError as error:
        raise InputError("a number in this cell", got=repr(cell), remedy="Name a column of numbers.") from error


def _result(path: Path, text: str) -> ResultFile:
    stored = path.parent / "curves" / f"{path.stem}.json"
    curves = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else []
    return ResultFile(
        name=path.stem,
        title=text.splitlines()[0].removeprefix("# "),
        command=_line(text, r"Command: `([^`]+)`"),
        machine=_line(text, r"- Machine: (.+)"),
        versions=_line(text, r"- Versions: (.+)"),
        text=text,
        tables=tuple(_tables(text)),
        curves=tuple(Curve(**curve) for curve in curves),
    )


def _tables(text: str) -> list[ResultTable]:
    blocks = re.findall(r"(?:^\|.*\|\n)+", text + "\n", flags=re.MULTILINE)
    tables = []
    for block in blocks:
        head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines())
        tables.append(ResultTable(tuple(head), tuple(map(tuple, rows))))
    return tables


def _line(text: str, pattern: str) -> str:
    found = re.search(rf"^{pattern}$", text, flags=re.MULTILINE)
    return found[1] if found else ""


def _float(text: str) -> float:
    return float(text.replace(",", ""))


def _matches(cell: str, wanted: str | tuple[str, ...]) -> bool:
    return any(fnmatchcase(cell, pattern) for pattern in ((wanted,) if isinstance(wanted, str) else wanted))
