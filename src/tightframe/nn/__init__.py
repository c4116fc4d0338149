"""Parts of networks: heads, losses, training that survives wrong labels, fine-tuning; and whole networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.nn.alignment import AlignedETFHead, AligningLoss, aligning
    from tightframe.nn.backbones import Backbone, backbone
    from tightframe.nn.coding import RateReduction, coding_rate
    from tightframe.nn.exported import Exported, export
    from tightframe.nn.fine_tuning import load_delta, tune
    from tightframe.nn.heads import SimplexETFHead
    from tightframe.nn.label_issues import LabelIssues
    from tightframe.nn.lora import LoRATuning
    from tightframe.nn.losses import FocalLoss, LabelSmoothingLoss, RescaledMSELoss
    from tightframe.nn.nearest_subspace import NearestSubspaceClassifier
    from tightframe.nn.normalized import NormalizedHead
    from tightframe.nn.probe import LinearProbe, linear_probe, probe_path
    from tightframe.nn.rate_optimum import maximal_rate_reduction, orthogonal_rate_reduction
    from tightframe.nn.rate_reduction import MCR2Loss
    from tightframe.nn.redunet import ReduNet
    from tightframe.nn.redunet_shift import ShiftInvariantReduNet
    from tightframe.nn.robust import EarlyLearningLoss, GeneralizedCrossEntropyLoss
    from tightframe.nn.sop import SOPLoss
    from tightframe.nn.sop_objective import activation_epochs
    from tightframe.nn.surgery import Replacement, reduce_features, replace_head
    from tightframe.nn.transformer import VisionTransformer
    from tightframe.nn.tuning import FullTuning, HeadTuning, LayerTuning, SkipConnectionTuning, TrainableShare, Tuning

_HOMES = {
    "AlignedETFHead": "alignment",
    "AligningLoss": "alignment",
    "Backbone": "backbones",
    "EarlyLearningLoss": "robust",
    "Exported": "exported",
    "FocalLoss": "losses",
    "FullTuning": "tuning",
    "GeneralizedCrossEntropyLoss": "robust",
    "HeadTuning": "tuning",
    "LabelIssues": "label_issues",
    "LabelSmoothingLoss": "losses",
    "LayerTuning": "tuning",
    "LinearProbe": "probe",
    "LoRATuning": "lora",
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
    "SkipConnectionTuning": "tuning",
    "TrainableShare": "tuning",
    "Tuning": "tuning",
    "VisionTransformer": "transformer",
    "activation_epochs": "sop_objective",
    "aligning": "alignment",
    "backbone": "backbones",
    "coding_rate": "coding",
    "export": "exported",
    "linear_probe": "probe",
    "load_delta": "fine_tuning",
    "maximal_rate_reduction": "rate_optimum",
    "orthogonal_rate_reduction": "rate_optimum",
    "probe_path": "probe",
    "reduce_features": "surgery",
    "replace_head": "surgery",
    "tune": "fine_tuning",
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
