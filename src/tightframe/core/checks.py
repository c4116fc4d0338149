"""Checks of user input; each raises an error that says what must hold, what arrived and what to do."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from tightframe.core.errors import InputError

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_count(value: int, name: str, *, least: int = 1) -> int:
    """An integer of at least `least`; NumPy's integers count, as a grid over `np.arange` hands them out."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(
            f"{name} is an integer of at least {least}",
            got=repr(value),
            remedy=f"Pass {name} as such a number.",
        )
    return int(value)


def check_features(features: Tensor, name: str = "features") -> Tensor:
    """A floating-point (n, d) tensor; half precision is converted to float32, autograd history is dropped."""
    if not isinstance(features, Tensor):
        raise InputError(
            f"{name} is a torch.Tensor of shape (n, d)",
            got=type(features).__name__,
            remedy="Convert it with torch.as_tensor.",
        )
    if features.layout != torch.strided:
        raise InputError(f"{name} is a dense tensor", got=f"layout {features.layout}", remedy="Call .to_dense().")
    if not features.is_floating_point():
        raise InputError(
            f"{name} is a floating-point tensor",
            got=f"dtype {features.dtype}",
            remedy="Convert it with .float().",
        )
    if features.ndim != 2 or features.shape[1] == 0:
        raise InputError(
            f"{name} has shape (n, d) with d >= 1",
            got=f"shape {tuple(features.shape)}",
            remedy="Flatten or pool to one row per sample; FeatureTap does that with pool= and tokens=.",
        )
    features = features.detach()
    return features if features.dtype in (torch.float32, torch.float64) else features.float()


def check_directions(rows: Tensor, name: str = "features") -> Tensor:
    """Rows (n, d) that are finite, none of length zero."""
    largest = rows.detach().abs().amax(1)
    if not bool((torch.isfinite(largest) & (largest > 0)).all()):
        lost, flat = ~torch.isfinite(largest), largest == 0
        raise InputError(
            f"finite {name} with no row of length zero",
            got=f"{int(lost.sum())} rows with NaN or inf and {int(flat.sum())} of length zero, among {len(rows)}, "
            f"first in row {int((lost | flat).nonzero()[0])}",
            remedy="Look for divergence, and leave out rows of zeros, which have no direction; a last ReLU without a "
            "bias, or columns that were not standardised, may cause them.",
        )
    return rows


def check_finite(features: Tensor, labels: Tensor, *, batch: int, ignore_index: int | None = None) -> None:
    """Rows without NaN or inf, ignored ones aside, and small enough for their squares to be summed."""
    # The sum is a cheap screen: it is finite only if every entry is. Overflow of the sum alone is harmless.
    if not bool(torch.isfinite(features.sum())):
        bad = ~torch.isfinite(features).all(dim=1)
        if ignore_index is not None:
            bad &= labels != ignore_index
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            kind = "NaN" if bool(torch.isnan(features[row]).any()) else "inf"
            raise InputError(
                "features are finite",
                got=f"{kind} in {int(bad.sum())} of {len(bad)} rows of batch {batch}, first in row {row}",
                remedy="Look for divergence or overflow in half precision; nothing of this batch was counted.",
            )
    largest = float(features.abs().amax()) if features.dtype == torch.float64 and features.numel() else 0.0
    if 1e145 < largest < float("inf"):
        raise InputError(
            "float64 features are below 1e145, where sums of squares overflow",
            got=f"a largest modulus of {largest} in batch {batch}",
            remedy="Look for divergence, or rescale; nothing of this batch was counted.",
        )


def check_labels(labels: Tensor, rows: int, classes: int, *, ignore_index: int | None = None) -> Tensor:
    """Integer class indices (n,), each in [0, classes) or equal to `ignore_index`; returned as int64."""
    if not isinstance(labels, Tensor) or labels.dtype not in _INTEGERS:
        known = isinstance(labels, Tensor)
        got = f"dtype {labels.dtype}" if known else type(labels).__name__
        remedy = "Convert them with .long()." if known else "Convert them with torch.as_tensor."
        raise InputError("labels are an integer tensor of class indices", got=got, remedy=remedy)
    if labels.shape != (rows,):
        raise InputError(
            f"labels have shape (n,) = ({rows},), one per row of the features",
            got=f"shape {tuple(labels.shape)}",
            remedy="Pass class indices, not one-hot rows, in the order of the features.",
        )
    labels = labels.detach().long()
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    if counted.numel():
        low, high = (int(v) for v in torch.stack(torch.aminmax(counted)).tolist())
        if low < 0 or high >= classes:
            raise InputError(
                f"labels lie in [0, {classes})",
                got=f"values from {low} to {high}",
                remedy="Renumber the classes from 0, raise `classes`, or pass ignore_index for positions to leave out.",
            )
    return labels


def kept_rows(features: Tensor, labels: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """The rows whose label is not `ignore_index`, without a copy where that is all of them."""
    if ignore_index is None:
        return features, labels
    kept = labels != ignore_index
    return (features, labels) if bool(kept.all()) else (features[kept], labels[kept])


def check_same_device(first: Tensor, second: Tensor, names: str) -> None:
    """Two tensors on one device."""
    if first.device != second.device:
        raise InputError(
            f"{names} are on one device",
            got=f"{first.device} and {second.device}",
            remedy="Move one with .to(device).",
        )


def check_classifier(weight: Tensor, bias: Tensor | None, classes: int, features: int) -> tuple[Tensor, Tensor]:
    """Classifier W (k, d) and bias b (k,) in float64, zero where there is no bias."""
    weight = weight.detach().double()
    if weight.shape != (classes, features):
        raise InputError(
            f"the classifier weight has shape (classes, features) = ({classes}, {features})",
            got=f"shape {tuple(weight.shape)}",
            remedy="Pass W with one row per class and the features that enter this layer.",
        )
    bias = weight.new_zeros(classes) if bias is None else bias.detach().to(weight)
    if bias.shape != (classes,):
        raise InputError(
            f"the classifier bias has shape ({classes},)",
            got=f"shape {tuple(bias.shape)}",
            remedy="Pass one per class.",
        )
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise InputError(
            "the classifier is finite",
            got="NaN or inf in weight or bias",
            remedy="Look for divergence in training.",
        )
    return weight, bias
