"""Parts of networks: heads, losses, losses that survive wrong labels, rate reduction; and whole networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.nn.alignment import AlignedETFHead, AligningLoss, aligning
    from tightframe.nn.coding import RateReduction, coding_rate
    from tightframe.nn.heads import SimplexETFHead
    from tightframe.nn.label_issues import LabelIssues
    from tightframe.nn.losses import FocalLoss, LabelSmoothingLoss, RescaledMSELoss
    from tightframe.nn.nearest_subspace import NearestSubspaceClassifier
    from tightframe.nn.normalized import NormalizedHead
    from tightframe.nn.rate_optimum import maximal_rate_reduction, orthogonal_rate_reduction
    from tightframe.nn.rate_reduction import MCR2Loss
    from tightframe.nn.redunet import ReduNet
    from tightframe.nn.redunet_shift import ShiftInvariantReduNet
    from tightframe.nn.robust import EarlyLearningLoss, GeneralizedCrossEntropyLoss
    from tightframe.nn.sop import SOPLoss
    from tightframe.nn.sop_objective import activation_epochs
    from tightframe.nn.surgery import Replacement, reduce_features, replace_head

_HOMES = {
    "AlignedETFHead": "alignment",
    "AligningLoss": "alignment",
    "EarlyLearningLoss": "robust",
    "FocalLoss": "losses",
    "GeneralizedCrossEntropyLoss": "robust",
    "LabelIssues": "label_issues",
    "LabelSmoothingLoss": "losses",
    "MCR2Loss": "rate_reduction",
    "NearestSubspaceClassifier": "nearest_subspace",
    "NormalizedHead": "normalized",
    "RateReduction": "coding",
    "ReduNet": "redunet",
    "Replacement": "surgery",
    "RescaledMSELoss": "losses",
    "SOPLoss": "sop",
    "ShiftInvariantReduNet": "redunet_shift",
    "SimplexETFHead": "heads",
    "activation_epochs": "sop_objective",
    "aligning": "alignment",
    "coding_rate": "coding",
    "maximal_rate_reduction": "rate_optimum",
    "orthogonal_rate_reduction": "rate_optimum",
    "reduce_features": "surgery",
    "replace_head": "surgery",
}

__all__ = [
    "AlignedETFHead",
    "AligningLoss",
    "EarlyLearningLoss",
    "FocalLoss",
    "GeneralizedCrossEntropyLoss",
    "LabelIssues",
    "LabelSmoothingLoss",
    "MCR2Loss",
    "NearestSubspaceClassifier",
    "NormalizedHead",
    "RateReduction",
    "ReduNet",
    "Replacement",
    "RescaledMSELoss",
    "SOPLoss",
    "ShiftInvariantReduNet",
    "SimplexETFHead",
    "activation_epochs",
    "aligning",
    "coding_rate",
    "maximal_rate_reduction",
    "orthogonal_rate_reduction",
    "reduce_features",
    "replace_head",
]


__getattr__, __dir__ = exports("tightframe.nn", _HOMES | {"networks": "networks"})
