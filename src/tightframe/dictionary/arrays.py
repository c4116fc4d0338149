"""Arrays or tensors in, and the same kind out: how the estimators of this package read their data."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from tightframe.core.errors import InputError


@dataclass(frozen=True)
class Kind:
    """What a caller passed: tensors of a precision on a device, or arrays of a precision."""

    tensor: bool
    dtype: torch.dtype
    device: torch.device

    def returned(self, values: Tensor) -> Any:
        """`values` as the caller knows them: a tensor on their device, or an array."""
        values = values.detach().to(self.device, self.dtype if values.is_floating_point() else values.dtype)
        return values if self.tensor else values.numpy()


def read_rows(estimator: BaseEstimator, X: ArrayLike | Tensor, *, reset: bool) -> tuple[Tensor, Kind]:
    """Rows (n, d) in floating point, checked as scikit-learn checks them; `reset` in `fit`, not after it.

    Raises:
        InputError: A tensor that is no matrix of finite real numbers, or of another width than the one fitted.
        ValueError: Likewise for arrays, in scikit-learn's words.
    """
    if not isinstance(X, Tensor):
        rows = validate_data(estimator, X, dtype=[np.float64, np.float32], reset=reset)
        tensor = torch.from_numpy(_owned(rows))
        _check_finite(tensor)
        return tensor, Kind(False, tensor.dtype, tensor.device)
    _check_real(X)
    X = X.detach()
    if X.ndim != 2 or not X.numel():
        raise InputError("rows of shape (n, d), not empty", got=f"shape {tuple(X.shape)}", remedy="Reshape the data.")
    X = _floating(X)
    _check_finite(X)
    if reset:
        estimator.n_features_in_ = X.shape[1]
    elif X.shape[1] != estimator.n_features_in_:
        raise InputError(
            f"rows of {estimator.n_features_in_} features, as fitted",
            got=f"shape {tuple(X.shape)}",
            remedy="Transform data of the same kind.",
        )
    return X, Kind(True, X.dtype, X.device)


def read_signals(X: ArrayLike | Tensor, axes: int) -> tuple[Tensor, Kind]:
    """Signals (n, *shape) or (n, channels, *shape) with `axes` axes in shape, as (n, channels, *shape).

    Integers become float32, as movies and images are of few bits.

    Raises:
        InputError: Another number of axes, none of something, or values that are not finite real numbers.
    """
    tensor = X.detach() if isinstance(X, Tensor) else torch.from_numpy(_array(X))
    _check_real(tensor)
    if tensor.ndim not in (axes + 1, axes + 2) or not tensor.numel():
        shapes = "(n, time)" if axes == 1 else "(n, height, width)" if axes == 2 else f"(n, {axes} axes)"
        raise InputError(
            f"signals of shape {shapes}, or with channels after n",
            got=f"shape {tuple(tensor.shape)}",
            remedy="Reshape your data: X[None] adds the first axis to a single signal.",
        )
    tensor = _floating(tensor)
    _check_finite(tensor)
    kind = Kind(isinstance(X, Tensor), tensor.dtype, tensor.device)
    return (tensor if tensor.ndim == axes + 2 else tensor.unsqueeze(1)), kind


def axis_sizes(sizes: int | Sequence[int], name: str = "kernel_size") -> tuple[int, ...]:
    """One positive integer per axis, of a single one, a sequence or an array of them.

    Raises:
        InputError: Anything else.
    """
    several = isinstance(sizes, Sequence | np.ndarray | Tensor) and np.ndim(sizes) == 1
    try:
        found = tuple(operator.index(size) for size in (sizes if several else (sizes,)))
    except TypeError:
        found = ()
    if not found or min(found) < 1 or isinstance(sizes, bool):
        raise InputError(
            f"{name}, a positive integer or one for each axis",
            got=repr(sizes),
            remedy="Pass an int for time series, (height, width) for images.",
        )
    return found


def shape_of(values: ArrayLike | Tensor) -> tuple[int, ...]:
    """The shape of an array, a tensor or nested lists."""
    # Objects that are read through __array__ need not have a shape of their own.
    return tuple(values.shape) if hasattr(values, "shape") else np.asarray(values).shape


def _array(values: ArrayLike) -> np.ndarray:
    if issparse(values):
        raise InputError(
            "a dense array", got="a sparse matrix", remedy="Sparse input is not supported: use X.toarray()."
        )
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        raise InputError("an array of numbers", got=f"dtype {array.dtype}", remedy="Convert it to floating point.")
    # torch reads neither foreign byte orders nor negative strides, and wide unsigned integers only in part.
    kept = array.dtype.newbyteorder("=") if array.dtype.kind in "fc" else np.dtype(np.float32)
    return _owned(array.astype(kept, copy=False))


def _owned(array: np.ndarray) -> np.ndarray:
    """Contiguous; a copy of what must not be written to (memory maps among it), which tensors cannot promise."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def _floating(values: Tensor) -> Tensor:
    if values.dtype in (torch.float32, torch.float64):
        return values
    return values.float()


def _check_real(values: Tensor) -> None:
    if values.is_complex():
        raise InputError(
            "real values",
            got=f"dtype {values.dtype}",
            remedy="Complex data not supported: pass the real and imaginary parts as channels.",
        )


def _check_finite(values: Tensor) -> None:
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        raise InputError(
            "finite values",
            got=f"{int((~finite).sum())} of {values.numel()} NaN or infinite",
            remedy="Remove or fill them first.",
        )
    # Spectra are sums over all values, and are squared.
    largest, most = float(values.abs().amax()), torch.finfo(values.dtype).max ** 0.5 / values.numel()
    if not largest < most:
        raise InputError(
            f"values below {most:.0e} in {values.dtype}, whose sums of squares do not overflow",
            got=f"a largest modulus of {largest:.3g}",
            remedy="Look for a wrong unit, or rescale the data.",
        )
