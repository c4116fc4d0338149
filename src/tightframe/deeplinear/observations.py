"""Some entries of a large matrix: how they are read, and products with them that never form the matrix."""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float
from tightframe.deeplinear.entries import read_entries

Duplicates = Literal["error", "mean"]

# Entries of a block of a product, and of gathered rows: both stay within a processor's cache.
_BLOCK, _GATHERED = 1 << 18, 1 << 16
# Above this share of observed entries a block is multiplied whole and its observed entries are picked out.
_DENSE = 1 / 16


@dataclass(frozen=True, eq=False)
class Observations:
    r"""Observed entries of a matrix, sorted by row and then by column.

    .. math:: (i_t, j_t, x_t), \quad t = 1, \dots, |\Omega|

    Args:
        rows: i (|Omega|,), int64.
        columns: j (|Omega|,), int64.
        values: x (|Omega|,), floating point.
        shape: Of the matrix, (m, n).

    Build them with `observe`, which sorts and checks.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def share(self) -> float:
        """Share of the entries that are observed."""
        return len(self) / (self.shape[0] * self.shape[1])

    @cached_property
    def row_counts(self) -> Tensor:
        """Observed entries of every row (m,)."""
        return torch.bincount(self.rows, minlength=self.shape[0])

    @property
    def column_counts(self) -> Tensor:
        """Observed entries of every column (n,)."""
        return self.transposed.row_counts

    @cached_property
    def transposed(self) -> Observations:
        """Those of the transposed matrix."""
        order = self.by_column
        return Observations(self.columns[order], self.rows[order], self.values[order], self.shape[::-1])

    @cached_property
    def by_column(self) -> Tensor:
        """Order (|Omega|,) in which the entries are sorted by column and then by row."""
        return torch.argsort(self.columns * self.shape[0] + self.rows)

    def with_values(self, values: Float[Tensor, " t"]) -> Observations:
        """Other values at the same places."""
        made = replace(self, values=values)
        # Counts and orders depend on the places alone; the transposed one holds values.
        made.__dict__.update({key: self.__dict__[key] for key in _PLACES if key in self.__dict__})
        return made

    def subset(self, kept: Tensor) -> Observations:
        """Those that a boolean (|Omega|,) or sorted indices select."""
        return Observations(self.rows[kept], self.columns[kept], self.values[kept], self.shape)

    def split(self, share: float, *, seed: int) -> tuple[Observations, Observations]:
        """Those that stay and a random share of at least one that is held out.

        Raises:
            InputError: A share outside (0, 1), or too few observations to part.
        """
        if not 0 < share < 1 or len(self) < 2:
            raise InputError(
                "a share in (0, 1) to hold out of at least two observations",
                got=f"{share!r} of {len(self)}",
                remedy="Use 0.1.",
            )
        order = torch.randperm(len(self), generator=generator(seed)).to(self.rows.device)
        held = torch.zeros(len(self), dtype=torch.bool, device=self.rows.device)
        held[order[: min(max(round(share * len(self)), 1), len(self) - 1)]] = True
        return self.subset(~held), self.subset(held)

    def entries(self, left: Float[Tensor, "m k"], right: Float[Tensor, "n k"]) -> Float[Tensor, " t"]:
        """Observed entries of left right^T, in O(|Omega| k) or, where much is observed, by blocks of rows."""
        if self.share >= _DENSE:
            return self._picked(left, right)
        return gathered(left, right, self.rows, self.columns)

    def times(self, values: Float[Tensor, " t"], right: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
        """The sparse matrix of these values times a thin one, O(|Omega| k)."""
        return _sparse(self._starts, self.columns, values, self.shape) @ right

    def times_transposed(self, values: Float[Tensor, " t"], left: Float[Tensor, "m k"]) -> Float[Tensor, "n k"]:
        """The transposed sparse matrix of these values times a thin one, O(|Omega| k)."""
        other = self.transposed
        return _sparse(other._starts, other.columns, values[self.by_column], other.shape) @ left

    def sums(self, table: Float[Tensor, "n q"], first: int, last: int) -> Float[Tensor, "b q"]:
        """For every row from `first` to `last`, the sum of the rows of a table at its observed columns."""
        starts = self._starts[first : last + 1]
        start, end = (0, len(self)) if (first, last) == (0, self.shape[0]) else (int(starts[0]), int(starts[-1]))
        ones = table.new_ones(end - start)
        return _sparse(starts - start, self.columns[start:end], ones, (last - first, self.shape[1])) @ table

    @cached_property
    def _starts(self) -> Tensor:
        """First entry of every row, and their number (m + 1,)."""
        return torch.nn.functional.pad(self.row_counts.cumsum(0), (1, 0))

    @cached_property
    def _blocks(self) -> list[tuple[int, int, int, int, Tensor]]:
        """Blocks of rows, their entries, and the places of these in the block of the product."""
        size = max(1, _BLOCK // self.shape[1])
        found = []
        for first in range(0, self.shape[0], size):
            last = min(first + size, self.shape[0])
            start, end = (int(self._starts[at]) for at in (first, last))
            places = (self.rows[start:end] - first) * self.shape[1] + self.columns[start:end]
            found.append((first, last, start, end, places))
        return found

    def _picked(self, left: Tensor, right: Tensor) -> Tensor:
        out = left.new_empty(len(self))
        for first, last, start, end, places in self._blocks:
            torch.index_select((left[first:last] @ right.T).view(-1), 0, places, out=out[start:end])
        return out


_PLACES = ("row_counts", "by_column", "_starts", "_blocks")


def gathered(left: Float[Tensor, "m k"], right: Float[Tensor, "n k"], rows: Tensor, columns: Tensor) -> Tensor:
    """Entries (t,) of left right^T at these rows and columns, in O(t k) and little memory."""
    out, size = left.new_empty(len(rows)), max(1, _GATHERED // max(1, left.shape[1]))
    for first in range(0, len(rows), size):
        at = slice(first, first + size)
        out[at] = torch.einsum("tk,tk->t", left.index_select(0, rows[at]), right.index_select(0, columns[at]))
    return out


def observe(X: Any, *, shape: tuple[int, int] | None = None, duplicates: Duplicates = "error") -> Observations:
    """Read observed entries from what people keep them in.

    Args:
        X: A scipy.sparse matrix or array, or a sparse tensor, whose stored entries are the observed ones, zeros
            included; a triple (rows, columns, values) of one length; a dense matrix, also a table of pandas, with NaN
            where nothing was observed, or with a mask; or Observations.
        shape: (m, n) of the matrix a triple belongs to; by default the largest indices plus one.
        duplicates: Entries observed more than once: "error", or "mean" for their average.

    Returns:
        Observations, float32 where the values were, float64 otherwise.

    Raises:
        InputError: Nothing observed, NaN or inf among values, indices out of range, duplicates, or what may be meant as
            a triple or as a matrix (a list of three arrays, a table of three full columns).

    Example:
        >>> observed = observe(([0, 1, 1], [2, 0, 1], [5.0, 3.0, 1.0]))
        >>> observed.shape, len(observed), observed.share
        ((2, 3), 3, 0.5)
    """
    if isinstance(X, Observations):
        return X
    if duplicates not in get_args(Duplicates):
        raise InputError('duplicates "error" or "mean"', got=repr(duplicates), remedy="Use one of the two.")
    rows, columns, values, whole = read_entries(X)
    whole = whole if shape is None else _two_sizes(shape)
    _check_triple(rows, columns, values)
    if whole is None:
        whole = (int(rows.max()) + 1, int(columns.max()) + 1)
    _check_range(rows, columns, whole)
    rows, columns, values = _distinct(rows, columns, values, whole[1], duplicates)
    return Observations(rows, columns, values, (int(whole[0]), int(whole[1])))


def _two_sizes(shape: Any) -> tuple[int, int]:
    try:
        m, n = (operator.index(size) for size in shape)
    except (TypeError, ValueError) as error:
        raise InputError("a shape of two integers", got=repr(shape), remedy="Pass (m, n).") from error
    return m, n


def _check_triple(rows: Tensor, columns: Tensor, values: Tensor) -> None:
    if not rows.ndim == columns.ndim == values.ndim == 1 or not len(rows) == len(columns) == len(values):
        raise InputError(
            "rows, columns and values of one length",
            got=f"shapes {tuple(rows.shape)}, {tuple(columns.shape)}, {tuple(values.shape)}",
            remedy="Pass one row and one column per value.",
        )
    if any(index.is_floating_point() or index.dtype == torch.bool for index in (rows, columns)):
        raise InputError("integer rows and columns", got=f"{rows.dtype}, {columns.dtype}", remedy="Call .astype(int).")
    if not rows.device == columns.device == values.device:
        raise InputError("one device", got=f"{rows.device}, {values.device}", remedy="Move them with .to(device).")
    if not len(values):
        raise InputError("at least one observed entry", got="none", remedy="Look at how the data were read.")
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        raise InputError(
            "finite values",
            got=f"{int(bad.sum())} of {len(values)} NaN or infinite, the first at {int(bad.nonzero()[0])}",
            remedy="Leave out what was not observed.",
        )


def _check_range(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> None:
    bounds = (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max()))
    if bounds[0] < 0 or bounds[2] < 0 or bounds[1] >= shape[0] or bounds[3] >= shape[1]:
        raise InputError(
            f"rows and columns within the shape {shape}",
            got=f"rows {bounds[0]} to {bounds[1]}, columns {bounds[2]} to {bounds[3]}",
            remedy="Number them from 0, or pass a larger shape=.",
        )


def _distinct(
    rows: Tensor, columns: Tensor, values: Tensor, width: int, duplicates: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted entries, each place once."""
    keys = rows.long() * width + columns.long()
    places, which = torch.unique(keys, return_inverse=True)
    repeated = len(keys) - len(places)
    if repeated and duplicates == "error":
        raise InputError(
            "every entry observed once",
            got=f"{repeated} of {len(keys)} more than once",
            remedy='Set duplicates="mean" to average them.',
        )
    summed = values.new_zeros(len(places)).index_add_(0, which, values)
    if repeated:
        summed = summed / torch.bincount(which, minlength=len(places))
    return places // width, places % width, summed


def _sparse(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        # A notice about the layout, once per process, which says nothing about the result.
        warnings.filterwarnings("ignore", message="Sparse CSR", category=UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)
