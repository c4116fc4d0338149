"""Rows, columns and values of observed entries, from what people keep them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from tightframe.core.errors import InputError

_COUNTED = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_NUMBERED = "Number rows and columns from 0."
_AS_TRIPLE = "Pass a triple as a tuple (rows, columns, values), rows and columns numbered from 0."


def read_entries(X: Any) -> tuple[Tensor, Tensor, Tensor, tuple[int, int] | None]:
    """Rows, columns and values (t,) as tensors, and the shape of the matrix where X has one; see `observe`.

    Raises:
        InputError: Something that is no matrix and no triple, or holds no numbers.
    """
    if scipy.sparse.issparse(X):
        stored = X.tocoo()
        rows, columns, values = (as_tensor(part) for part in (stored.row, stored.col, stored.data))
        return rows, columns, _floating(values), stored.shape
    if isinstance(X, tuple) and len(X) == 3:
        rows, columns, values = (as_tensor(part) for part in X)
        return rows, columns, _floating(values), None
    if isinstance(X, Tensor) and X.layout != torch.strided:
        stored = X.detach().to_sparse_coo()
        indices = stored._indices()
        return indices[0], indices[1], _floating(stored._values()), tuple(X.shape)
    _no_list_of_three(X)
    dense = _floating(as_tensor(_with_nan(X), remedy="Pass numbers, with NaN for what is missing."))
    if dense.ndim != 2:
        raise InputError(
            "a sparse matrix, a triple (rows, columns, values), or a matrix with NaN for what is missing",
            got=f"{type(X).__name__} of shape {tuple(dense.shape)}",
            remedy=_AS_TRIPLE,
        )
    seen = ~torch.isnan(dense)
    if _is_frame(X) and dense.shape[1] == 3 and bool(seen.all()):
        raise InputError(
            "a matrix with missing entries where a table is given",
            got=f"a table of three full columns, {', '.join(map(str, X.columns))}",
            remedy=_AS_TRIPLE,
        )
    rows, columns = seen.nonzero(as_tuple=True)
    return rows, columns, dense[seen], tuple(dense.shape)


def as_tensor(values: Any, *, remedy: str = _NUMBERED) -> Tensor:
    """Numbers as a tensor of a kind that torch computes with.

    Raises:
        InputError: Other things than numbers, or rows of different lengths.
    """
    if isinstance(values, Tensor):
        values = values.detach()
        if values.is_complex():
            raise InputError("numbers", got=f"dtype {values.dtype}", remedy=remedy)
        return values if values.is_floating_point() or values.dtype in _COUNTED else values.long()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError("rows of one length", got="several lengths", remedy=remedy) from error
    if array.dtype.kind not in "biuf":
        raise InputError("numbers", got=f"dtype {array.dtype}", remedy=remedy)
    kind = array.dtype.newbyteorder("=")
    if kind.kind == "u" and kind.itemsize > 1:
        kind = np.dtype(np.int64)
    elif kind.kind == "f" and kind.itemsize > 8:
        kind = np.dtype(np.float64)
    return torch.from_numpy(np.require(array, dtype=kind, requirements=["C", "W"]))


def _floating(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.double()


def _with_nan(X: Any) -> Any:
    """The same with NaN for what a table, a mask or None marks as missing."""
    if _is_frame(X):
        single = all(kind == np.float32 for kind in X.dtypes)
        try:
            return X.to_numpy(dtype=np.float32 if single else np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            kinds = ", ".join(sorted({str(kind) for kind in X.dtypes}))
            raise InputError("a table of numbers", got=f"columns of {kinds}", remedy=_AS_TRIPLE) from error
    if isinstance(X, np.ma.MaskedArray):
        whole = X if X.dtype.kind == "f" else X.astype(np.float64)
        return whole.filled(np.nan)
    return X


def _is_frame(X: Any) -> bool:
    return hasattr(X, "columns") and hasattr(X, "to_numpy")


def _no_list_of_three(X: Any) -> None:
    """A list of three lines of numbers might be meant as a triple, or as three rows: neither is guessed."""
    if isinstance(X, list) and len(X) == 3 and all(getattr(part, "ndim", 0) == 1 for part in X):
        raise InputError("a tuple, or one array for a matrix", got="a list of three arrays", remedy=_AS_TRIPLE)
