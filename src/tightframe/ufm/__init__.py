"""Unconstrained-features models: optima in closed form, solvers, certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.ufm.certificate import Direction, certify
    from tightframe.ufm.chain_descent import descend_deep
    from tightframe.ufm.chain_solvers import solve_deep
    from tightframe.ufm.chains import DeepOptimum, deep_optimum
    from tightframe.ufm.convex import factor, solve_convex
    from tightframe.ufm.critical_points import newton_point, symmetric_point
    from tightframe.ufm.dynamics import collapse_metrics, descend
    from tightframe.ufm.excess import Excess, decompose
    from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
    from tightframe.ufm.landscape import CriticalPoint, classify
    from tightframe.ufm.loss import Loss
    from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
    from tightframe.ufm.model import Point, UnconstrainedFeatures
    from tightframe.ufm.network import of_features
    from tightframe.ufm.normalized import NormalizedFeatures
    from tightframe.ufm.normalized_dynamics import descend_normalized
    from tightframe.ufm.normalized_landscape import certify_normalized, classify_normalized
    from tightframe.ufm.normalized_optima import normalized_optimum, proven_temperature
    from tightframe.ufm.normalized_solvers import solve_normalized
    from tightframe.ufm.optima import Optimum, optimum
    from tightframe.ufm.perturbed import attenuation, ridge_classifier
    from tightframe.ufm.solvers import solve

_HOMES = {
    "CriticalPoint": "landscape",
    "CrossEntropy": "losses",
    "DeepOptimum": "chains",
    "DeepPoint": "extended",
    "DeepUnconstrainedFeatures": "extended",
    "Direction": "certificate",
    "Excess": "excess",
    "Focal": "losses",
    "Loss": "loss",
    "NormalizedFeatures": "normalized",
    "Optimum": "optima",
    "Point": "model",
    "SquaredError": "losses",
    "UnconstrainedFeatures": "model",
    "attenuation": "perturbed",
    "certify": "certificate",
    "certify_normalized": "normalized_landscape",
    "classify": "landscape",
    "classify_normalized": "normalized_landscape",
    "collapse_metrics": "dynamics",
    "decompose": "excess",
    "deep_optimum": "chains",
    "descend": "dynamics",
    "descend_deep": "chain_descent",
    "descend_normalized": "normalized_dynamics",
    "factor": "convex",
    "newton_point": "critical_points",
    "normalized_optimum": "normalized_optima",
    "of_features": "network",
    "optimum": "optima",
    "proven_temperature": "normalized_optima",
    "ridge_classifier": "perturbed",
    "solve": "solvers",
    "solve_convex": "convex",
    "solve_deep": "chain_solvers",
    "solve_normalized": "normalized_solvers",
    "symmetric_point": "critical_points",
}

__all__ = [
    "CriticalPoint",
    "CrossEntropy",
    "DeepOptimum",
    "DeepPoint",
    "DeepUnconstrainedFeatures",
    "Direction",
    "Excess",
    "Focal",
    "Loss",
    "NormalizedFeatures",
    "Optimum",
    "Point",
    "SquaredError",
    "UnconstrainedFeatures",
    "attenuation",
    "certify",
    "certify_normalized",
    "classify",
    "classify_normalized",
    "collapse_metrics",
    "decompose",
    "deep_optimum",
    "descend",
    "descend_deep",
    "descend_normalized",
    "factor",
    "newton_point",
    "normalized_optimum",
    "of_features",
    "optimum",
    "proven_temperature",
    "ridge_classifier",
    "solve",
    "solve_convex",
    "solve_deep",
    "solve_normalized",
    "symmetric_point",
]

__getattr__, __dir__ = exports("tightframe.ufm", _HOMES)
