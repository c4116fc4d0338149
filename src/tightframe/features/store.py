"""Files of features, in and out: npz, safetensors and parquet, read without executing anything they contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightframe.core.errors import InputError, reason
from tightframe.core.files import replace_file
from tightframe.features.formats import FORMATS, HOW, WRITERS, as_tensor, reader_of

IGNORED = -100


@dataclass(frozen=True)
class FeatureFile:
    """Contents of a file of features.

    `features` (n, d) in the file's precision, mapped from disk where the format allows; `labels` (n,) int64;
    `weight` (k, d) and `bias` (k,) of the classifier, or None.
    """

    features: Tensor
    labels: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None


def read_features(path: str | Path) -> FeatureFile:
    """Read features saved by anybody; the content decides the format, not the name.

    Keys (arrays, tensors or columns): `features` (n, d) floating point, `labels` (or `label`) (n,) integers from
    0, optionally `weight` (k, d) and `bias` (k,). Rows labelled -100 are left out. Uncompressed npz and
    safetensors files are mapped, not loaded. In parquet, `features` is a list column, and weight and bias are
    JSON lists in the key-value metadata of the schema, where every language can write them.

    Args:
        path: The file.

    Returns:
        Checked features and labels.

    Raises:
        UnsafeFileError: A pickle (also inside npz), which could run code when read.
        InputError: No such file, another or a damaged format, missing keys, shapes or labels that do not fit.
    """
    path = Path(path)
    reader = reader_of(path)
    try:
        content = _checked(reader(path), where=path.name)
    except InputError as error:
        raise error.about(path.name) from error
    except Exception as error:  # whatever the readers of three formats raise on damaged bytes
        raise InputError(
            f"a readable file: {FORMATS}",
            got=f"{path.name}, damaged or cut off ({type(error).__name__}: {reason(error)})",
            remedy="Write or copy the file again.",
        ) from error
    kept = content.labels != IGNORED
    if bool(kept.all()):
        return content
    if not bool(kept.any()):
        raise InputError("a labelled row", got=f"only the label {IGNORED} in {path.name}", remedy=HOW)
    return FeatureFile(content.features[kept], content.labels[kept], content.weight, content.bias)


def write_features(
    path: str | Path,
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    weight: Tensor | np.ndarray | None = None,
    bias: Tensor | np.ndarray | None = None,
) -> Path:
    """Write what `read_features` reads; the file appears whole or not at all.

    Args:
        path: Ends in .npz, .safetensors or .parquet.
        features: (n, d) floating point; bfloat16 needs safetensors.
        labels: (n,) integers from 0.
        weight: Classifier weight (k, d).
        bias: Classifier bias (k,).

    Returns:
        The path.

    Raises:
        InputError: Another suffix, arrays that do not fit, a place that cannot be written.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_features(f"{folder}/h.npz", torch.ones(3, 2), torch.tensor([0, 1, 1]))
        ...     read_features(path).labels.tolist()
        [0, 1, 1]
    """
    path = Path(path)
    given = {"features": features, "labels": labels, "weight": weight, "bias": bias}
    content = _checked({name: value for name, value in given.items() if value is not None}, where="the arguments")
    tensors = {name: value.contiguous().cpu() for name, value in vars(content).items() if value is not None}
    if path.suffix not in WRITERS:
        raise InputError(
            f"a path that ends in {', '.join(WRITERS)}", got=repr(path.name), remedy="Choose one of these formats."
        )
    if path.suffix != ".safetensors" and torch.bfloat16 in {tensor.dtype for tensor in tensors.values()}:
        raise InputError(
            f"{path.suffix} files hold float16, float32 or float64",
            got="bfloat16",
            remedy="Write .safetensors, or convert with .float().",
        )
    replace_file(path, lambda target: WRITERS[path.suffix](target, tensors))
    return path


def _checked(arrays: Mapping[str, Any], *, where: str) -> FeatureFile:
    named = dict(arrays)
    if "label" in named:
        named.setdefault("labels", named.pop("label"))
    missing = [key for key in ("features", "labels") if key not in named]
    if missing:
        raise InputError(
            "`features` and `labels`", got=f"{where} without {' and '.join(missing)} in it or with no rows", remedy=HOW
        )
    tensors = {name: as_tensor(value, name) for name, value in named.items()}
    features = _checked_matrix(tensors["features"], "features")
    labels = _checked_labels(tensors["labels"], len(features))
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight is not None:
        _checked_matrix(weight, "weight")
    _check_fit(features, labels, weight, bias)
    return FeatureFile(features, labels, weight, bias)


def _checked_matrix(matrix: Tensor, name: str) -> Tensor:
    if not matrix.is_floating_point() or matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(
            f"{name} is a floating-point matrix with at least one row and column",
            got=f"dtype {matrix.dtype} and shape {tuple(matrix.shape)}",
            remedy="Flatten or pool to one row each and convert to float32.",
        )
    return matrix


def _checked_labels(labels: Tensor, rows: int) -> Tensor:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (rows,):
        raise InputError(
            f"one label per row of the features, shape ({rows},)",
            got=f"shape {tuple(labels.shape)}",
            remedy="Store class indices; turn one-hot labels into indices with argmax.",
        )
    whole = labels.long() if labels.dtype != torch.bool and not labels.is_complex() else None
    if whole is None or (labels.is_floating_point() and not bool((labels == whole).all())):
        raise InputError(
            "labels are whole numbers", got=f"dtype {labels.dtype} with other values", remedy="Store class indices."
        )
    wrong = whole[(whole < 0) & (whole != IGNORED)]
    if len(wrong):
        raise InputError(
            f"labels count classes from 0 ({IGNORED} marks rows to leave out)",
            got=f"{len(wrong)} negative labels, the first {int(wrong[0])}",
            remedy="Renumber the classes.",
        )
    return whole


def _check_fit(features: Tensor, labels: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    if bias is not None and weight is None:
        raise InputError("a bias comes with its weight", got="a bias alone", remedy="Store `weight` (k, d) as well.")
    if weight is None:
        return
    if weight.shape[1] != features.shape[1] or (bias is not None and bias.shape != weight.shape[:1]):
        bias_shape = "" if bias is None else f" and bias of shape {tuple(bias.shape)}"
        raise InputError(
            f"weight (k, {features.shape[1]}) and bias (k,)",
            got=f"weight of shape {tuple(weight.shape)}{bias_shape}",
            remedy="Store one row per class; transpose a (d, k) weight.",
        )
    if int(labels.max()) >= len(weight):
        raise InputError(
            f"labels below {len(weight)}, the rows of the weight",
            got=f"label {int(labels.max())}",
            remedy="Number the classes from 0, in the order of the classifier.",
        )
