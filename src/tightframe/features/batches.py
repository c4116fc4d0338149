"""How the batches of a loader are read: inputs, labels, masks, and which rows count."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError

_LABEL_KEYS = ("labels", "label")
_UNSELECTED = torch.iinfo(torch.int64).min


@dataclass(frozen=True)
class FeatureBatch:
    """Rows of one batch: `features` by layer name (n, d), `logits` (n, k), `labels` (n,), all on one device.

    `first` is the number of rows streamed before this batch. A batch whose rows were all left out (ignored
    labels, sampler padding) comes with n = 0.
    """

    features: dict[str, Tensor]
    logits: Tensor
    labels: Tensor
    first: int


@dataclass(frozen=True)
class BatchReader:
    """How batches are read: where inputs, labels and mask stand, and which rows count."""

    parameters: frozenset[str] | None
    device: torch.device
    labels_key: str | None
    mask_key: str | None
    shift: bool
    ignore_index: int | None

    def parts(self, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Tensor, Tensor | None]:
        """Positional and keyword arguments of the model, labels and mask, on the device."""
        if isinstance(batch, Mapping):
            inputs, labels = self._split(batch)
        elif isinstance(batch, list | tuple) and len(batch) >= 2:
            inputs, labels = batch[0], batch[1]
        else:
            got = f"a {type(batch).__name__}" + (f" of length {len(batch)}" if isinstance(batch, list | tuple) else "")
            raise InputError(
                "batches are (inputs, labels), (inputs, labels, index) or a mapping with labels",
                got=got,
                remedy="Let the data set return (sample, label) pairs.",
            )
        mask = self._mask(batch, inputs)
        labels = _as_labels(labels).to(self.device)
        args, kwargs = self._arguments(_moved(inputs, self.device))
        if labels.dtype == torch.bool:
            labels = _selected_tokens(labels, args, kwargs)
        return args, kwargs, labels.long(), mask

    def rows(self, batch: FeatureBatch, mask: Tensor | None, real: int | None) -> FeatureBatch:
        """One row per sample, or per position that counts."""
        logits, labels = batch.logits, batch.labels
        if logits.ndim == 2 and labels.shape == (len(logits), 1):
            labels = labels[:, 0]
        if labels.shape != logits.shape[:-1]:
            raise InputError(
                f"one label per row of the logits, shape {tuple(logits.shape[:-1])}",
                got=f"labels of shape {tuple(labels.shape)}",
                remedy="Pass class indices; turn one-hot labels into indices with .argmax(dim=1).",
            )
        _check_rows(batch.features, labels.numel())
        kept = torch.ones_like(labels, dtype=torch.bool) if mask is None else _checked_mask(mask, labels)
        if real is not None:
            kept[real:] = False
        if self.shift:
            labels, kept = _shifted(labels, kept)
        kept = kept & (labels != _UNSELECTED)
        if self.ignore_index is not None:
            kept = kept & (labels != self.ignore_index)
        flat = replace(batch, logits=logits.flatten(0, -2), labels=labels.flatten())
        if bool(kept.all()):
            return flat
        chosen = kept.flatten()
        features = {name: h[chosen] for name, h in flat.features.items()}
        return replace(flat, features=features, logits=flat.logits[chosen], labels=flat.labels[chosen])

    def _split(self, batch: Mapping) -> tuple[dict, Any]:
        key = self.labels_key or next((key for key in _LABEL_KEYS if key in batch), None)
        if key is None or key not in batch:
            raise InputError(
                f"batches that are mappings have an entry {key or 'labels'!r}",
                got=f"the entries {', '.join(map(repr, batch))}",
                remedy="Name the entry of the labels with labels_key=.",
            )
        left_out = {*_LABEL_KEYS, key} - {"input_ids"}
        return {name: value for name, value in batch.items() if name not in left_out}, batch[key]

    def _mask(self, batch: Any, inputs: Any) -> Tensor | None:
        if self.mask_key is None:
            return None
        holder = batch if isinstance(batch, Mapping) else inputs
        if not isinstance(holder, Mapping) or self.mask_key not in holder:
            raise InputError(
                f"batches with the mask {self.mask_key!r}",
                got="one without",
                remedy="Check mask_key= and the collator.",
            )
        return torch.as_tensor(holder[self.mask_key]).to(self.device)

    def _arguments(self, inputs: Any) -> tuple[tuple, dict[str, Any]]:
        if isinstance(inputs, list | tuple):
            return tuple(inputs), {}
        if not isinstance(inputs, Mapping):
            return (inputs,), {}
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        if self.parameters is None:
            return (), tensors
        known = {name: value for name, value in inputs.items() if name in self.parameters}
        if known:
            return (), known
        if len(tensors) == 1:
            return tuple(tensors.values()), {}
        raise InputError(
            f"batch entries named as the arguments of the model's forward ({', '.join(sorted(self.parameters))})",
            got=f"the entries {', '.join(map(repr, inputs))}",
            remedy="Rename the entries, or yield (inputs, labels) pairs.",
        )


def forward_parameters(model: nn.Module) -> frozenset[str] | None:
    """Names of the arguments of the model's forward, or None where it takes anything."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return frozenset(p.name for p in parameters if p.kind not in variable) or None


def _moved(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    if isinstance(inputs, Mapping):
        return {name: _moved(value, device) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [_moved(value, device) for value in inputs]
    return inputs


def _as_labels(labels: Any) -> Tensor:
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "labels are integer class indices", got=f"a {type(labels).__name__}", remedy="Number the classes from 0."
        ) from error
    whole = not (labels.is_floating_point() or labels.is_complex())
    if not whole or (labels.dtype == torch.bool and labels.ndim < 2):
        raise InputError(
            "labels are integer class indices, or booleans (n, t) that select positions",
            got=f"dtype {labels.dtype} and shape {tuple(labels.shape)}",
            remedy="Convert class indices with .long().",
        )
    return labels


def _selected_tokens(mask: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    tensors = [kwargs["input_ids"]] if "input_ids" in kwargs else [*args, *kwargs.values()]
    whole = (t for t in tensors if isinstance(t, Tensor) and t.shape == mask.shape and not t.is_floating_point())
    ids = next(whole, None)
    if ids is None:
        raise InputError(
            f"a mask of positions comes with input ids of its shape {tuple(mask.shape)}",
            got="inputs without",
            remedy="Pass class indices as labels.",
        )
    return ids.long().masked_fill(~mask, _UNSELECTED)


def _checked_mask(mask: Tensor, labels: Tensor) -> Tensor:
    if mask.shape != labels.shape:
        raise InputError(
            f"a mask of the labels' shape {tuple(labels.shape)}",
            got=f"shape {tuple(mask.shape)}",
            remedy="Check mask_key=.",
        )
    return mask != 0


def _check_rows(features: Mapping[str, Tensor], rows: int) -> None:
    wrong = [name for name, h in features.items() if len(h) != rows]
    if wrong:
        raise InputError(
            f"one row of features per label, {rows}",
            got=f"{len(features[wrong[0]])} rows of layer {wrong[0]!r}",
            remedy='Use tokens="class" or "mean" with a model that gives one row of logits per sample.',
        )


def _shifted(labels: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Position t is labelled by position t + 1, and counts if both do; the last one predicts nothing."""
    if labels.ndim != 2:
        raise InputError(
            "shift=True needs labels (n, t) of a token model", got=f"shape {tuple(labels.shape)}", remedy="Drop shift=."
        )
    both = torch.zeros_like(kept)
    both[:, :-1] = kept[:, :-1] & kept[:, 1:]
    return labels.roll(-1, dims=1), both
