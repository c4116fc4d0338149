"""Points as the kernels of this package read them: arrays or tensors in, the same kind out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from tightframe.core.checks import check_same_device
from tightframe.core.errors import InputError
from tightframe.core.linalg import directions_and_lengths
from tightframe.core.typing import Float, Tensor

_ROUNDING = 16


@dataclass(frozen=True)
class Points:
    """Rows in float64, as directions and norms.

    Args:
        rows: (n, d), of norm one (zero for zero vectors).
        norms: (n,).
        dtype: Of what was passed, in which kernels are returned; float32 for half precision.
        tensor: Whether that was a tensor.
    """

    rows: Float[Tensor, "n d"]
    norms: Float[Tensor, " n"]
    dtype: torch.dtype
    tensor: bool

    def returned(self, values: Tensor) -> Any:
        """`values` in the caller's precision, as a tensor or an array."""
        values = values.to(self.dtype)
        return values if self.tensor else values.numpy()

    @property
    def norm(self) -> float | None:
        """The norm that all points share, up to rounding in their own precision; None where they differ."""
        low, high = (float(value) for value in torch.aminmax(self.norms))
        close = high - low <= _ROUNDING * torch.finfo(self.dtype).eps * high
        return float(self.norms.mean()) if close else None


def read_points(values: ArrayLike | Tensor, name: str = "X", *, zeros: bool = False) -> Points:
    """Finite rows (n, d), n and d at least 1; without zero vectors unless `zeros`.

    Raises:
        InputError: Another shape, values that are not finite real numbers or not dense, zero vectors.
    """
    tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(_array(values, name))
    if tensor.layout != torch.strided:
        raise InputError(f"{name} is dense", got=f"layout {tensor.layout}", remedy="Call .to_dense().")
    if tensor.ndim != 2 or not tensor.numel():
        raise InputError(
            f"{name} has shape (n, d), not empty",
            got=f"shape {tuple(tensor.shape)}",
            remedy="Pass one row per point; x[None] is a single one.",
        )
    if tensor.is_complex():
        raise InputError(f"{name} is real", got=f"dtype {tensor.dtype}", remedy="Stack real and imaginary parts.")
    dtype = tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32
    rows = tensor.double()
    scale = rows.abs().amax(1)
    if not bool(torch.isfinite(scale).all()):
        raise InputError(f"{name} is finite", got="NaN or inf", remedy="Remove or fill such rows first.")
    empty = scale == 0
    if not zeros and bool(empty.any()):
        raise InputError(
            f"{name} has no zero vectors, whose angle to others is undefined",
            got=f"{int(empty.sum())} of {len(rows)}, first in row {int(empty.nonzero()[0])}",
            remedy="Remove them, or use bias_variance > 0.",
        )
    directions, lengths = directions_and_lengths(rows)
    return Points(directions, lengths[:, 0], dtype, isinstance(values, Tensor))


def read_pair(
    X: ArrayLike | Tensor, Z: ArrayLike | Tensor | None, *, zeros: bool = False
) -> tuple[Points, Points | None]:
    """Two sets of points of one dimension, precision and device.

    Raises:
        InputError: What `read_points` refuses, or sets that do not fit each other.
    """
    first = read_points(X, "X", zeros=zeros)
    if Z is None:
        return first, None
    second = read_points(Z, "Z", zeros=zeros)
    if first.rows.shape[1] != second.rows.shape[1]:
        raise InputError(
            "X and Z have as many columns as each other",
            got=f"{first.rows.shape[1]} and {second.rows.shape[1]}",
            remedy="Pass points of one space.",
        )
    check_same_device(first.rows, second.rows, "X and Z")
    if first.tensor != second.tensor or first.dtype != second.dtype:
        raise InputError(
            "X and Z of one kind and precision",
            got=f"{_kind(first)} and {_kind(second)}",
            remedy="Convert one of them.",
        )
    return first, second


def _kind(points: Points) -> str:
    return f"{'a tensor' if points.tensor else 'an array'} of {points.dtype}"


def _array(values: ArrayLike, name: str) -> np.ndarray:
    if hasattr(values, "toarray"):
        raise InputError(f"{name} is dense", got=type(values).__name__, remedy="Call .toarray().")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name} has rows of one length", got=str(error), remedy="Pass an array (n, d).") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} holds real numbers", got=f"dtype {array.dtype}", remedy="Convert it to float64.")
    kept = np.dtype(np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64)
    array = np.ascontiguousarray(array.astype(kept, copy=False))
    return array if array.flags.writeable else array.copy()
