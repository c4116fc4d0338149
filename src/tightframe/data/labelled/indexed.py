"""Data sets whose samples carry their position, for losses that remember every sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tightframe.core.errors import InputError

Layout = Literal["triple", "target", "mapping"]
LAYOUTS = ("triple", "target", "mapping")

_LABEL_KEYS = ("labels", "label")


class IndexedDataset(Dataset[Any]):
    """The samples of `dataset` with their position i in it, whatever order a loader reads them in.

    Losses such as SOPLoss keep state per sample and must know which samples a batch holds. Frameworks that hand a
    loss nothing but outputs and targets carry the position in the target: an integer tensor of the columns (label, i).

    Args:
        dataset: Map-style data set: pairs (input, label), or rows that are mappings with an entry "labels" or "label"
            (Hugging Face data sets). With `gather(indices) -> (inputs, labels)` it is read without a loader.
        layout: "triple" gives (input, label, i); "target" gives (input, tensor [label, i]), for Lightning, skorch and
            loops that unpack pairs; "mapping" gives the row with "labels" set to the tensor [label, i], for the
            Hugging Face Trainer (with remove_unused_columns as usual: no new column appears).

    Raises:
        InputError: `layout` is unknown, the data set has no length, or its samples do not have the form needed.

    >>> from torch.utils.data import TensorDataset
    >>> pairs = TensorDataset(torch.zeros(3, 2), torch.tensor([5, 6, 7]))
    >>> IndexedDataset(pairs)[2]
    (tensor([0., 0.]), tensor(7), 2)
    >>> IndexedDataset(pairs, layout="target")[2]
    (tensor([0., 0.]), tensor([7, 2]))
    """

    def __init__(self, dataset: Dataset[Any], *, layout: Layout = "triple") -> None:
        if layout not in LAYOUTS:
            raise InputError(f"a layout, one of {', '.join(LAYOUTS)}", got=repr(layout), remedy="Choose one of these.")
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise InputError(
                "a map-style data set, with a length and samples by position",
                got=type(dataset).__name__,
                remedy="Samples of a stream have no fixed position: hold them in a list or a map-style data set.",
            )
        self.dataset: Dataset[Any] = dataset
        self.layout: Layout = layout

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        place = range(len(self))[index]  # negative positions count from the end, as in a list
        return self._with_place(self.dataset[place], place)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Samples of a batch as torch's loaders ask for them: in one call where the data set has one."""
        fetch = getattr(self.dataset, "__getitems__", None)
        samples = [self.dataset[i] for i in indices] if fetch is None else fetch(indices)
        return [self._with_place(sample, i) for sample, i in zip(samples, indices, strict=True)]

    @property
    def gather(self) -> Callable[[Sequence[int] | Tensor], tuple[Tensor, ...]]:
        """Function from positions to (inputs, labels, positions) or (inputs, targets (N, 2)); only where the data set
        has `gather` itself and the layout is not "mapping"."""
        if self.layout == "mapping":
            raise AttributeError("rows that are mappings are not gathered")
        inner = self.dataset.gather

        def gather(indices: Sequence[int] | Tensor) -> tuple[Tensor, ...]:
            inputs, labels = inner(indices)
            places = torch.as_tensor(indices, dtype=torch.int64).to(labels.device)
            if self.layout == "triple":
                return inputs, labels, places
            return inputs, torch.stack([labels.long(), places], dim=1)

        return gather

    def _with_place(self, sample: Any, place: int) -> Any:
        if self.layout == "mapping":
            return self._row(sample, place)
        if not (isinstance(sample, tuple | list) and len(sample) == 2):
            raise InputError(
                "samples that are pairs (input, label)",
                got=f"a {type(sample).__name__}",
                remedy='Use layout="mapping" for rows that are mappings; else return one input and one class index.',
            )
        inputs, label = sample
        return (inputs, label, place) if self.layout == "triple" else (inputs, _target(label, place))

    def _row(self, sample: Any, place: int) -> dict[str, Any]:
        key = next((key for key in _LABEL_KEYS if key in sample), None) if isinstance(sample, Mapping) else None
        if key is None:
            got = (
                f"the entries {', '.join(map(repr, sample))}" if isinstance(sample, Mapping) else type(sample).__name__
            )
            raise InputError(
                'rows that are mappings with an entry "labels" or "label"',
                got=got,
                remedy='Rename the label column, or use layout="target" for pairs.',
            )
        row = {name: value for name, value in sample.items() if name not in _LABEL_KEYS}
        return row | {"labels": _target(sample[key], place)}


def _target(label: Any, place: int) -> Tensor:
    try:
        label = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "one class index per sample", got=repr(label), remedy="Number the classes, in the order of their names say."
        ) from error
    if label.is_floating_point() or label.numel() != 1:
        raise InputError(
            "one class index per sample",
            got=f"a label of dtype {label.dtype} and shape {tuple(label.shape)}",
            remedy="Turn one-hot labels into indices with argmax.",
        )
    return torch.stack([label.reshape(()).long().cpu(), torch.tensor(place)])
