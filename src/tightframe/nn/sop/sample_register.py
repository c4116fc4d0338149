"""Which samples a batch holds, for losses that remember every sample: positions, labels, and checks of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError

UNSEEN = -1

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# Batches between two looks at the faults of an accelerator: each look waits for it.
_PATIENCE = 100


def split_target(target: Tensor, index: Tensor | None, *, rows: int) -> tuple[Tensor, Tensor | None]:
    """Labels (n,) and positions (n,), or None, from a target (n,), or (n, 2) of the columns (label, position).

    Raises:
        InputError: The target is not of integers, has another shape, or carries positions beside `index`.
    """
    if not isinstance(target, Tensor) or target.dtype not in _INTEGERS:
        got = f"dtype {target.dtype}" if isinstance(target, Tensor) else type(target).__name__
        remedy = "Convert it with .long(); turn one-hot or soft labels into indices with .argmax(dim=1)."
        raise InputError("an integer tensor of class indices as target", got=got, remedy=remedy)
    if target.shape not in ((rows,), (rows, 2)):
        raise InputError(
            f"a target of shape ({rows},), or ({rows}, 2) with the columns (label, index)",
            got=f"shape {tuple(target.shape)}",
            remedy="Pass one class index per row of the logits; turn one-hot labels into indices with .argmax(dim=1).",
        )
    if target.ndim == 1:
        return target.long(), index
    if index is not None:
        raise InputError(
            "the index once: as an argument or as second column of the target",
            got="both",
            remedy="Leave one out.",
        )
    return target[:, 0].long(), target[:, 1]


def looks_at_once(device: torch.device) -> bool:
    """Whether values on `device` can be looked at without waiting for work that is still under way there."""
    return device.type == "cpu"


class SampleRegister(nn.Module):
    """The labels that were seen for each of N samples, and the faults of batches that do not fit them.

    A batch names every sample once, by a position from 0 to N - 1, and gives it the label that it had before: labels
    that change mean that positions now name other samples, as after a resume with the data in another order. On the
    CPU a fault raises at once, before anything is changed. On an accelerator looking would stall it, so faults are
    counted there and raised after at most 100 batches, and whenever the state is saved or read; rows of a bad batch
    that do not fit are left unchanged meanwhile.

    Args:
        samples: Number of training samples N.
        classes: Number of classes K.

    Attributes:
        given: (N,), int32: the label seen for each sample, -1 before its first visit.
    """

    def __init__(self, samples: int, classes: int) -> None:
        super().__init__()
        self.samples: int = samples
        self.classes: int = classes
        self.register_buffer("given", torch.full((samples,), UNSEEN, dtype=torch.int32))
        self.register_buffer("faults", torch.zeros(len(_FAULTS), dtype=torch.int64), persistent=False)
        self._batches = 0
        self.register_state_dict_pre_hook(_check_before_saving)

    def admit(self, labels: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Labels and positions that are safe to index with, and which rows of the batch are right.

        Args:
            labels: (n,), int64.
            index: (n,), integer: positions of the samples in the data set.

        Returns:
            Labels (n,) and positions (n,) in range, int64, on this device, and the mask (n,) of rows without a fault.

        Raises:
            InputError: Positions are missing, of the wrong shape or out of range, a sample comes twice, or labels are
                out of range or differ from those seen before.
        """
        index = self._positions(labels, index)
        labels = labels.to(self.given.device)
        inside = (index >= 0) & (index < self.samples)
        legal = (labels >= 0) & (labels < self.classes)
        safe_index, safe_labels = index.clamp(0, self.samples - 1), labels.clamp(0, self.classes - 1)
        known = self.given[safe_index]
        same = (known == labels) | (known == UNSEEN)
        ordered = index.sort().values
        repeated = ordered[1:] == ordered[:-1]
        right = inside & legal & same
        at_once = looks_at_once(right.device)
        if at_once and bool(right.all()) and not bool(repeated.any()):
            return safe_labels, safe_index, right
        counts = torch.stack([(~inside).sum(), repeated.sum(), (~legal).sum(), (~same).sum()])
        if at_once:
            self._raise(counts)
        self.faults += counts
        self._batches += 1
        if self._batches % _PATIENCE == 0:
            self.check()
        return safe_labels, safe_index, right

    def note(self, labels: Tensor, index: Tensor, right: Tensor) -> None:
        """Write down the labels of the samples `index` where the mask `right` holds."""
        noted = torch.where(right, labels.to(self.given.dtype), self.given[index])
        self.given.index_copy_(0, index, noted)

    def check(self) -> None:
        """Raise the faults that batches on an accelerator have left; waits for it.

        Raises:
            InputError: A batch since the last check had one.
        """
        counts = self.faults.clone()
        self.faults.zero_()
        self._raise(counts)

    def _positions(self, labels: Tensor, index: Tensor | None) -> Tensor:
        if index is None:
            raise InputError(
                "the positions of the samples of the batch in the data set, as this loss remembers every sample",
                got="no index",
                remedy="Wrap the data set in IndexedDataset (tightframe.data.labelled.indexed), and pass index= or "
                "targets (n, 2) with the columns (label, index).",
            )
        index = torch.as_tensor(index)
        if index.dtype not in _INTEGERS or index.shape != labels.shape:
            raise InputError(
                f"an integer index of shape {tuple(labels.shape)}, one position per row",
                got=f"dtype {index.dtype}, shape {tuple(index.shape)}",
                remedy="Pass the positions that IndexedDataset gives with every sample.",
            )
        return index.to(self.given.device, torch.int64)

    def _raise(self, counts: Tensor) -> None:
        if not bool(counts.any()):
            return
        fault = next(place for place, count in enumerate(counts.tolist()) if count)
        expected, remedy = _FAULTS[fault](self.samples, self.classes)
        raise InputError(expected, got=f"{int(counts[fault])} that do not", remedy=remedy)


_FAULTS: tuple[Callable[[int, int], tuple[str, str]], ...] = (
    lambda n, k: (
        f"sample positions that lie in [0, {n})",
        "Give `samples` the length of the training set, and positions in that set, not in a larger one.",
    ),
    lambda n, k: (
        "positions of a batch that name every sample once",
        "Sample without replacement within a batch, or draw the repeated samples in separate batches.",
    ),
    lambda n, k: (f"labels that lie in [0, {k})", "Renumber the classes from 0, or raise `classes`."),
    lambda n, k: (
        "samples that keep the label they were first seen with",
        "Resume with the data set, its order and its noise as they were; for another data set start a new loss.",
    ),
)


def _check_before_saving(module: SampleRegister, *_: Any) -> None:
    module.check()
