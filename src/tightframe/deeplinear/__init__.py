"""Deep linear networks: their exact training dynamics, compression, and matrix completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.deeplinear.adapter import CompressedAdapter, adapt
    from tightframe.deeplinear.alternating import alternating_least_squares
    from tightframe.deeplinear.completion import DeepMatrixCompletion
    from tightframe.deeplinear.compression import CompressedNetwork, compress
    from tightframe.deeplinear.dynamics import simulate
    from tightframe.deeplinear.frames import haar_frames
    from tightframe.deeplinear.invariance import decompose
    from tightframe.deeplinear.network import DeepLinearNetwork
    from tightframe.deeplinear.nuclear_norm import least_nuclear_norm, soft_impute, threshold_by_held_out
    from tightframe.deeplinear.objective import Completion, Factorization, LeastSquares
    from tightframe.deeplinear.observations import observe
    from tightframe.deeplinear.reduced import descend_reduced
    from tightframe.deeplinear.separation import SeparationLaw, check_separation, progressive_separation
    from tightframe.deeplinear.stability import stable_step

_HOMES = {
    "Completion": "objective",
    "CompressedAdapter": "adapter",
    "CompressedNetwork": "compression",
    "DeepLinearNetwork": "network",
    "DeepMatrixCompletion": "completion",
    "Factorization": "objective",
    "LeastSquares": "objective",
    "SeparationLaw": "separation",
    "adapt": "adapter",
    "alternating_least_squares": "alternating",
    "check_separation": "separation",
    "compress": "compression",
    "decompose": "invariance",
    "descend_reduced": "reduced",
    "haar_frames": "frames",
    "least_nuclear_norm": "nuclear_norm",
    "observe": "observations",
    "progressive_separation": "separation",
    "simulate": "dynamics",
    "soft_impute": "nuclear_norm",
    "stable_step": "stability",
    "threshold_by_held_out": "nuclear_norm",
}

__all__ = [
    "Completion",
    "CompressedAdapter",
    "CompressedNetwork",
    "DeepLinearNetwork",
    "DeepMatrixCompletion",
    "Factorization",
    "LeastSquares",
    "SeparationLaw",
    "adapt",
    "alternating_least_squares",
    "check_separation",
    "compress",
    "decompose",
    "descend_reduced",
    "haar_frames",
    "least_nuclear_norm",
    "observe",
    "progressive_separation",
    "simulate",
    "soft_impute",
    "stable_step",
    "threshold_by_held_out",
]


__getattr__, __dir__ = exports("tightframe.deeplinear", _HOMES)
