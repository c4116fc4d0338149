"""Parts of networks: heads, losses, training that survives wrong labels, fine-tuning; and whole networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.nn.backbones.backbones import Backbone, backbone
    from tightframe.nn.backbones.exported import Exported, export
    from tightframe.nn.heads.alignment import AlignedETFHead, AligningLoss, aligning
    from tightframe.nn.heads.heads import SimplexETFHead
    from tightframe.nn.heads.normalized import NormalizedHead
    from tightframe.nn.heads.surgery import Replacement, reduce_features, replace_head
    from tightframe.nn.losses.losses import FocalLoss, LabelSmoothingLoss, RescaledMSELoss
    from tightframe.nn.losses.robust import EarlyLearningLoss, GeneralizedCrossEntropyLoss
    from tightframe.nn.rate.coding import RateReduction, coding_rate
    from tightframe.nn.rate.nearest_subspace import NearestSubspaceClassifier
    from tightframe.nn.rate.rate_optimum import maximal_rate_reduction, orthogonal_rate_reduction
    from tightframe.nn.rate.rate_reduction import MCR2Loss
    from tightframe.nn.rate.redunet import ReduNet
    from tightframe.nn.rate.redunet_shift import ShiftInvariantReduNet
    from tightframe.nn.sop.label_issues import LabelIssues
    from tightframe.nn.sop.sop import SOPLoss
    from tightframe.nn.sop.sop_objective import activation_epochs
    from tightframe.nn.transformer import VisionTransformer
    from tightframe.nn.tuning.fine_tuning import load_delta, tune
    from tightframe.nn.tuning.lora import LoRATuning
    from tightframe.nn.tuning.probe import LinearProbe, linear_probe, probe_path
    from tightframe.nn.tuning.tuning import (
        FullTuning,
        HeadTuning,
        LayerTuning,
        SkipConnectionTuning,
        TrainableShare,
        Tuning,
    )

_HOMES = {
    "AlignedETFHead": "heads.alignment",
    "AligningLoss": "heads.alignment",
    "Backbone": "backbones.backbones",
    "EarlyLearningLoss": "losses.robust",
    "Exported": "backbones.exported",
    "FocalLoss": "losses.losses",
    "FullTuning": "tuning.tuning",
    "GeneralizedCrossEntropyLoss": "losses.robust",
    "HeadTuning": "tuning.tuning",
    "LabelIssues": "sop.label_issues",
    "LabelSmoothingLoss": "losses.losses",
    "LayerTuning": "tuning.tuning",
    "LinearProbe": "tuning.probe",
    "LoRATuning": "tuning.lora",
    "MCR2Loss": "rate.rate_reduction",
    "NearestSubspaceClassifier": "rate.nearest_subspace",
    "NormalizedHead": "heads.normalized",
    "RateReduction": "rate.coding",
    "ReduNet": "rate.redunet",
    "Replacement": "heads.surgery",
    "RescaledMSELoss": "losses.losses",
    "SOPLoss": "sop.sop",
    "ShiftInvariantReduNet": "rate.redunet_shift",
    "SimplexETFHead": "heads.heads",
    "SkipConnectionTuning": "tuning.tuning",
    "TrainableShare": "tuning.tuning",
    "Tuning": "tuning.tuning",
    "VisionTransformer": "transformer",
    "activation_epochs": "sop.sop_objective",
    "aligning": "heads.alignment",
    "backbone": "backbones.backbones",
    "coding_rate": "rate.coding",
    "export": "backbones.exported",
    "linear_probe": "tuning.probe",
    "load_delta": "tuning.fine_tuning",
    "maximal_rate_reduction": "rate.rate_optimum",
    "orthogonal_rate_reduction": "rate.rate_optimum",
    "probe_path": "tuning.probe",
    "reduce_features": "heads.surgery",
    "replace_head": "heads.surgery",
    "tune": "tuning.fine_tuning",
}

__all__ = [
    "AlignedETFHead",
    "AligningLoss",
    "Backbone",
    "EarlyLearningLoss",
    "Exported",
    "FocalLoss",
    "FullTuning",
    "GeneralizedCrossEntropyLoss",
    "HeadTuning",
    "LabelIssues",
    "LabelSmoothingLoss",
    "LayerTuning",
    "LinearProbe",
    "LoRATuning",
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
    "SkipConnectionTuning",
    "TrainableShare",
    "Tuning",
    "VisionTransformer",
    "activation_epochs",
    "aligning",
    "backbone",
    "coding_rate",
    "export",
    "linear_probe",
    "load_delta",
    "maximal_rate_reduction",
    "orthogonal_rate_reduction",
    "probe_path",
    "reduce_features",
    "replace_head",
    "tune",
]


__getattr__, __dir__ = exports("tightframe.nn", _HOMES | {"networks": "networks"})
