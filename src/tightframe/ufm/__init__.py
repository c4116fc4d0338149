"""Unconstrained-features models: optima in closed form, solvers, certificates."""

from tightframe.ufm.certificate import Direction, certify
from tightframe.ufm.losses import CrossEntropy, Focal, Loss, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.optima import Optimum, optimum
from tightframe.ufm.solvers import solve

__all__ = [
    "CrossEntropy",
    "Direction",
    "Focal",
    "Loss",
    "Optimum",
    "Point",
    "SquaredError",
    "UnconstrainedFeatures",
    "certify",
    "optimum",
    "solve",
]
