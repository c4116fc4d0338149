"""Ratings and other entries of a matrix, from tables of triples and from drug-target interaction matrices."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from tightframe.core.errors import InputError, reason
from tightframe.core.files import replace_file
from tightframe.core.memory import check_fits
from tightframe.data.array_files import opened
from tightframe.data.location import data_file

Numbered = tuple[np.ndarray, np.ndarray]
_Read = TypeVar("_Read")

_SETS = ("nr", "gpcr", "ic", "e")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
# What pandas calls a first column whose name is empty.
_NAMELESS = "Unnamed: 0"


@dataclass(frozen=True, eq=False)
class Triples:
    """Entries of a matrix whose rows and columns have names.

    Args:
        rows: Index of the row of every entry (t,), int64.
        columns: Index of its column (t,), int64.
        values: (t,), float64.
        row_names: What the rows are called, sorted.
        column_names: What the columns are called, sorted.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    row_names: np.ndarray
    column_names: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return len(self.row_names), len(self.column_names)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Which drugs bind which targets.

    Args:
        matrix: (targets, drugs), 1 where an interaction is known, 0 elsewhere.
        targets: Their identifiers.
        drugs: Their identifiers.
    """

    matrix: np.ndarray
    targets: tuple[str, ...]
    drugs: tuple[str, ...]


def read_triples(
    path: str | Path, *, row: str | None = None, column: str | None = None, value: str | None = None
) -> Triples:
    """Read a table with one entry of a matrix per line.

    Args:
        path: .csv or .csv.gz (with a first line of names), .tsv, or .parquet.
        row: Name of the column that says which row; the first one by default. Whatever is in it is a name.
        column: Name of the column that says which column; the second one by default.
        value: Name of the column with the value; the third one by default.

    Returns:
        Triples; numbers as names are sorted by value, other names as text. What would not be written as a number again,
        such as 007, stays text.

    Raises:
        InputError: A file that cannot be read, has fewer than three columns or none so called, no first line of names,
            names that are missing, values that are no numbers, or none at all.
    """
    rows, columns, values = _columns(Path(path), {"row": row, "column": column, "value": value})
    row_index, row_names = _numbered(rows, path)
    column_index, column_names = _numbered(columns, path)
    return Triples(row_index, column_index, _values(values, path), row_names, column_names)


def read_pairs(path: str | Path, *, row: str | None = None, column: str | None = None) -> tuple[Numbered, Numbered]:
    """Read places of a matrix: like `read_triples`, without values.

    Returns:
        For rows and for columns, the index of every entry's name among the names, and these, sorted.

    Raises:
        InputError: As for `read_triples`, with two columns.
    """
    rows, columns = _columns(Path(path), {"row": row, "column": column})
    return _numbered(rows, path), _numbered(columns, path)


def drug_targets(name: str, *, root: str | Path | None = None) -> Interactions:
    """Interactions of drugs with proteins of one kind.

    Args:
        name: "nr" (nuclear receptors), "gpcr", "ic" (ion channels) or "e" (enzymes); the file is
            `dti/NAME_admat_dgc.txt` below the root, gzipped or not.
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: Another name, or a file that is absent or of another form.

    Reference: [yamanishi2008prediction].
    """
    if name not in _SETS:
        raise InputError(f"one of {', '.join(_SETS)}", got=repr(name), remedy="Choose one.")
    path = data_file(f"dti/{name}_admat_dgc.txt.gz", root=root)
    table = _guarded(path, lambda: _text(path, sep="\t", index_col=0))
    matrix = _guarded(path, lambda: table.to_numpy(dtype=np.float64, na_value=np.nan))
    if not np.isin(matrix, (0.0, 1.0)).all() or not matrix.size:
        raise InputError("a table of zeros and ones", got=f"other values in {path}", remedy="Fetch the file again.")
    return Interactions(matrix, tuple(map(str, table.index)), tuple(map(str, table.columns)))


def write_triples(path: str | Path, columns: dict[str, np.ndarray]) -> None:
    """Write a table as .parquet or, whatever else the name ends in, as .csv; it appears whole or not at all.

    Raises:
        InputError: The place cannot be written, or is full.
    """
    path, table = Path(path), pd.DataFrame(columns)
    write = table.to_parquet if path.suffix == ".parquet" else table.to_csv
    replace_file(path, lambda partial: write(partial, index=False))


def _columns(path: Path, asked: dict[str, str | None]) -> list[pd.Series]:
    """The columns asked for by name, or those in their places."""
    kinds = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = kinds[-1] if kinds else ""
    if kind == ".parquet":
        table = _guarded(path, lambda: _parquet(path))
        places = _places(path, table.columns, asked)
    elif kind in _SEPARATORS:
        separator = _SEPARATORS[kind]
        columns = _guarded(path, lambda: _text(path, sep=separator, skipinitialspace=True, nrows=0)).columns
        places = _places(path, columns, asked)
        table = _guarded(path, lambda: _names_as_text(path, separator, [columns[place] for place in places[:2]]))
    else:
        raise InputError("a .csv, .tsv or .parquet file", got=str(path), remedy="Convert it.")
    if not len(table):
        raise InputError("at least one entry", got=f"none in {path}", remedy="Look at the file.")
    return [table.iloc[:, place] for place in places]


def _places(path: Path, columns: pd.Index, asked: dict[str, str | None]) -> list[int]:
    names = [str(name) for name in columns]
    if len(names) < len(asked):
        raise InputError(
            f"a table of at least {len(asked)} columns: {', '.join(asked)}",
            got=f"{_listed(names)} in {path}",
            remedy="Separate them by commas, with a first line of names.",
        )
    for name in asked.values():
        if name is not None and name not in names:
            raise InputError(f"a column of {path}", got=repr(name), remedy=f"Choose from {_listed(names)}.")
    if asked["row"] is None and names[0] == _NAMELESS and len(names) > len(asked):
        raise InputError(
            f"a name for the first column of {path}",
            got="none, as where the numbers of the lines were written too",
            remedy=f"Leave that column out, or name those that count, from {_listed(names[1:])}.",
        )
    if "value" in asked and asked["value"] is None and _number(names[2]):
        raise InputError(
            f"a first line of names in {path}",
            got=f"{_listed(names)}",
            remedy="Add one, such as row,column,value: the first entry would be lost.",
        )
    return [place if name is None else names.index(name) for place, name in enumerate(asked.values())]


def _number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _listed(names: list[str]) -> str:
    """The first names, cut where they are long: of what is no table, the first line may have any length."""
    return ", ".join(f"{name:.40}" for name in names[:20]) or "none"


def _text(path: Path, **how: Any) -> pd.DataFrame:
    with opened(path) as file:
        return pd.read_csv(file, **how)


def _names_as_text(path: Path, separator: str, names: list[str]) -> pd.DataFrame:
    """A table with these columns as they are written: 007 is not 7, and NA may be a name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return _text(
                path,
                sep=separator,
                skipinitialspace=True,
                index_col=False,
                dtype=dict.fromkeys(names, str),
                keep_default_na=False,
                na_values=dict.fromkeys(names, ""),
            )
        except pd.errors.ParserWarning as error:
            raise InputError(
                "as many values in a line as names in the first",
                got="more values than names",
                remedy="Put text with commas in quotes, and write decimals with a point.",
            ) from error


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet

    with opened(path) as source, pyarrow.parquet.ParquetFile(source) as file:
        # A constant column of any length takes a few bytes on disk.
        check_fits(8 * file.metadata.num_rows * file.metadata.num_columns, path)
        return file.read().to_pandas()


def _guarded(path: Path, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except InputError as error:
        raise InputError(f"a readable table in {path}", got=error.got, remedy=error.remedy) from error
    except Exception as error:  # readers of damaged files raise almost anything
        raise InputError(f"a readable table in {path}", got=reason(error), remedy="Look at the file.") from error


def _numbered(names: pd.Series, path: str | Path) -> Numbered:
    """Index of every name among the sorted ones, and these."""
    if names.isna().any():
        raise InputError(
            f"a name in every line of {names.name!r} of {path}",
            got=f"{int(names.isna().sum())} without",
            remedy="Remove these lines.",
        )
    typed = pd.api.types.is_numeric_dtype(names)
    index, found = pd.factorize(names if typed else names.astype(str))
    found = found.to_numpy() if typed else _as_numbers(found.to_numpy(dtype=object))
    order = np.argsort(found, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place[index].astype(np.int64), found[order]


def _as_numbers(names: np.ndarray) -> np.ndarray:
    """Names as numbers where every one of them is written as a number is."""
    for kind in (np.int64, np.float64):
        try:
            numbers = names.astype(kind)
        except (ValueError, OverflowError):
            continue
        if np.isfinite(numbers).all() and (numbers.astype(str) == names).all():
            return numbers
    return names


def _values(given: pd.Series, path: str | Path) -> np.ndarray:
    values = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    bad = ~np.isfinite(values)
    if bad.any():
        line = int(bad.nonzero()[0][0])
        raise InputError(
            f"finite numbers in {given.name!r} of {path}",
            got=f"{int(bad.sum())} other values, the first {str(given.iloc[line])[:40]!r} in entry {line + 1}",
            remedy="Name the column that holds the values."
            if bad.all()
            else "Remove these lines: what was not observed is left out.",
        )
    return values
