"""Array types with named axes.

Axis letters, the same everywhere: n samples, d features, k classes, m measurements, p atoms, r rank,
l layers, t steps.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

Features = Float[Tensor, "n d"]
Labels = Int[Tensor, " n"]
ClassCounts = Int[Tensor, " k"]
ClassMeans = Float[Tensor, "k d"]
ClassVector = Float[Tensor, " k"]
Weights = Float[Tensor, "k d"]
Square = Float[Tensor, "d d"]

__all__ = [
    "ClassCounts",
    "ClassMeans",
    "ClassVector",
    "Features",
    "Float",
    "Int",
    "Labels",
    "Square",
    "Tensor",
    "Weights",
]
