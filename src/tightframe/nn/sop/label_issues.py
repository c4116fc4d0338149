"""Labels believed wrong, as a ranked table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LabelIssues:
    """Samples whose label is believed wrong, the most suspicious first.

    Args:
        index: (m,), int64: positions in the training set.
        given: (m,), int64: the label that was trained on.
        suggested: (m,), int64: the label that is believed right.
        score: (m,), float: how strong the evidence is, descending.
    """

    index: Tensor
    given: Tensor
    suggested: Tensor
    score: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to_dict(self) -> dict[str, list[float]]:
        """Columns of plain numbers, as pandas.DataFrame and table writers take them."""
        return {name: getattr(self, name).tolist() for name in ("index", "given", "suggested", "score")}
