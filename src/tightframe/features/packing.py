"""Class moments as one vector, for machinery that exchanges and stores single tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.features.moments import ClassMoments, Mode


def packed_size(*, classes: int, features: int, mode: Mode) -> int:
    """Length of the vector: K counts, K traces, K d means and, in mode "full", d^2 numbers of the scatter."""
    return classes * (features + 2) + (features**2 if mode == "full" else 0)


def packed(moments: ClassMoments) -> Tensor:
    """Counts, traces, means and scatter of moments of at least one sample, in the type of the state."""
    parts = [moments.count.to(moments.within), moments.within, moments.mean.flatten()]
    return torch.cat([*parts, moments.scatter.flatten()] if moments.mode == "full" else parts)


def unpacked(vector: Tensor, *, classes: int, features: int, mode: Mode) -> ClassMoments:
    """The moments that `packed` was given, up to rounding."""
    sizes = [classes, classes, classes * features, features**2 if mode == "full" else 0]
    count, within, mean, scatter = vector.split(sizes)
    return ClassMoments.from_statistics(
        count.round(),
        mean.view(classes, features),
        within=within,
        scatter=scatter.view(features, features) if mode == "full" else None,
    )


def merged(vectors: Tensor, *, classes: int, features: int, mode: Mode) -> Tensor:
    """One vector of the samples of several, the rows of `vectors`; see ClassMoments.merge."""
    first, *others = (unpacked(vector, classes=classes, features=features, mode=mode) for vector in vectors)
    for other in others:
        first.merge(other)
    return packed(first)
