"""Neural collapse metrics NC1 to NC4 and transferability scores, computed from class moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.collapse.transfer import transfer_scores, transfer_scores_of
    from tightframe.collapse.transfer_summary import TransferScores

_HOMES = {
    "TransferScores": "transfer_summary",
    "transfer_scores": "transfer",
    "transfer_scores_of": "transfer",
}

__all__ = ["TransferScores", "transfer_scores", "transfer_scores_of"]


__getattr__, __dir__ = exports("tightframe.collapse", _HOMES)
