"""Reading what the geometry is asked of: sampled curves, or points with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from tightframe.core.checks import check_labels, check_same_device
from tightframe.core.errors import InputError
from tightframe.core.typing import Labels, Tensor
from tightframe.data.curves import SampledCurve, SphericalCurve
from tightframe.ntk.points import read_points


def read_curves(curves: Sequence[SampledCurve]) -> list[SampledCurve]:
    """Sampled curves with one weight above zero per point.

    Raises:
        InputError: Something else in their place, or other weights.
    """
    if isinstance(curves, SampledCurve | SphericalCurve):
        raise InputError("a list of sampled curves", got="one curve", remedy="Pass [curve].")
    found = list(curves)
    for curve in found:
        _check_curve(curve)
    return found


def _check_curve(curve: object) -> None:
    if isinstance(curve, SphericalCurve):
        raise InputError(
            "sampled curves",
            got="a SphericalCurve, which is a formula",
            remedy="Sample it: curve.uniform(400), or curve.sample(400, seed=0).",
        )
    if not isinstance(curve, SampledCurve):
        raise InputError(
            "sampled curves", got=type(curve).__name__, remedy="Use SampledCurve(points, weights, closed=...)."
        )
    points, weights = curve.points, curve.weights
    if not (isinstance(points, Tensor) and isinstance(weights, Tensor) and points.numel()):
        raise InputError("points and weights of a curve as tensors, not empty", got="others", remedy="Convert them.")
    fits = weights.shape == points.shape[:1]
    if not fits or not bool(((weights > 0) & weights.isfinite()).all()):
        got = "some not above 0, or not finite" if fits else f"{tuple(weights.shape)} for points {tuple(points.shape)}"
        raise InputError(
            "one weight above 0 for every point of a curve",
            got=got,
            remedy="Pass the arc length that each stands for, or ones; leave out points without weight.",
        )


def read_curve(curve: SampledCurve) -> SampledCurve:
    """One sampled curve, as `read_curves`."""
    _check_curve(curve)
    return curve


def is_cloud(data: Any) -> bool:
    """Whether these are points (n, d) rather than curves."""
    return isinstance(data, Tensor) or hasattr(data, "__array__")


def read_cloud(points: ArrayLike | Tensor, labels: Labels | ArrayLike | None) -> list[Tensor]:
    """Unit rows of every class that has any, in float64; of all points where there are no labels.

    Labels are class indices; arrays may hold names instead.

    Raises:
        InputError: Points or labels of other shapes, negative or fractional labels, two devices.
    """
    rows = read_points(points).rows
    if labels is None:
        return [rows]
    known = labels if isinstance(labels, Tensor) else _indices(labels)
    if isinstance(labels, Tensor):
        check_same_device(rows, known, "points and labels")
    count = int(known.max()) + 1 if known.numel() and known.dtype != torch.bool else 1
    known = check_labels(known.to(rows.device), len(rows), max(count, 1))
    return [rows[known == index] for index in range(count) if bool((known == index).any())]


def _indices(labels: ArrayLike) -> Tensor:
    array = np.asarray(labels)
    if array.dtype.kind in "OSU":
        # Names in alphabetical order; their shape is checked as that of numbers is.
        array = np.unique(array.astype(str), return_inverse=True)[1].reshape(array.shape)
    array = array.astype(np.int64) if array.dtype.kind in "biu" else array
    return torch.from_numpy(np.array(array))
