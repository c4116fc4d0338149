"""`Outputs`: accuracy and loss of a network over batches of logits, and its decisions put aside for NC4."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tightframe.collapse.conventions import convention
from tightframe.collapse.summary import Measurement
from tightframe.core.checks import kept_rows
from tightframe.core.errors import InputError
from tightframe.features.cache import RowCache


class Outputs:
    """Running sums over logits: samples, correct decisions and cross-entropy.

    Args:
        classes: Number K of classes, the width of the logits.
        ignore_index: Label of rows to leave out.
    """

    def __init__(self, classes: int, *, ignore_index: int | None) -> None:
        self.classes: int = classes
        self.ignore_index: int | None = ignore_index
        self.predicted: RowCache = RowCache()
        self._totals = torch.zeros(3, dtype=torch.float64)

    @property
    def samples(self) -> int:
        """Number of decisions counted so far."""
        return round(float(self._totals[0]))

    def outcome(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decisions of a batch, and what it adds to the sums; nothing is counted yet.

        Raises:
            InputError: Logits of another shape than (n, K), or with a loss that is NaN or infinite.
        """
        if logits.shape != (len(labels), self.classes):
            raise InputError(
                f"logits of shape (n, k) = ({len(labels)}, {self.classes})",
                got=f"shape {tuple(logits.shape)}",
                remedy="Pass one row per sample, with one column per class.",
            )
        logits, labels = kept_rows(logits.detach(), labels, self.ignore_index)
        loss = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
        if not bool(torch.isfinite(loss)):
            raise InputError(
                "logits are finite", got=f"a loss of {float(loss)}", remedy="Look for divergence or overflow."
            )
        predicted = logits.argmax(dim=1)
        correct = (predicted == labels).sum()
        return predicted, torch.stack([torch.tensor(len(labels)).to(loss), correct.to(loss), loss]).cpu()

    def add(self, predicted: Tensor, totals: Tensor, *, keep: bool) -> None:
        """Count what `outcome` returned, and put the decisions aside if asked to."""
        self._totals = self._totals + totals
        if keep:
            self.predicted.append(predicted)

    def all_reduce(self, device: torch.device, group: Any) -> None:
        """Add the sums of the other ranks."""
        self._totals = summed(self._totals, device, group)

    def measurements(self) -> dict[str, Measurement]:
        """Accuracy and loss; nothing where no logits were passed."""
        if not self.samples:
            return {}
        samples, correct, loss = self._totals.tolist()
        return {
            "accuracy": Measurement(correct / samples, convention("accuracy", "top-1")),
            "loss": Measurement(loss / samples, convention("loss", "cross-entropy")),
        }


def summed(values: Tensor, device: torch.device, group: Any) -> Tensor:
    """Sum over the ranks of a process group of a CPU tensor, exchanged on `device`."""
    moved = values.to(device)
    dist.all_reduce(moved, group=group)
    return moved.cpu()
