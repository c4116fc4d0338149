"""Collapse at every level of a chain, in the metrics of `tightframe.collapse`."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.collapse.evaluate import evaluate_layer
from tightframe.core.typing import Weights
from tightframe.features.moments import ClassMoments
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures

_FEATURES = {"NC1": "NC1", "NC2 ETF": "NC2 features", "NC2 OF": "NC2 features OF"}
_DUALITY = {"NC3 ETF": "NC3", "NC3 OF": "NC3 OF"}


def level_metrics(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> dict[str, float]:
    """NC1, NC2 and NC3 of the features of every level, against the simplex ETF and the orthogonal frame.

    Args:
        problem: The model.
        point: A point with a column of H_1 per sample.

    Returns:
        Values by name and level ("NC1 of H2"). With ReLU also those of the features before it ("NC1 of W1 H1"). NC3 is
        taken between a level and the product of all weights above it, which with ReLU exists for the last level only. A
        metric that is undefined (means that coincide) is left out.

    Example:
        >>> from tightframe.ufm.chains import deep_optimum
        >>> problem = DeepUnconstrainedFeatures(classes=3, widths=(4, 4), per_class=2, decays=(1e-3,) * 3)
        >>> values = level_metrics(problem, deep_optimum(problem).point())
        >>> values["NC1 of H1"] < 1e-12, values["NC2 OF of H2"] < 1e-12, values["NC3 OF of H1"] < 1e-12
        (True, True, True)

    Reference: [tirer2022extended], equations 26 to 28.
    """
    values: dict[str, float] = {}
    above: Weights | None = None
    levels = problem.levels(point)
    for m in range(problem.layers, 0, -1):
        W = point.weights[problem.layers - m]
        above = W if above is None else above @ W
        reader = above if problem.linear or m == problem.layers else None
        values |= _metrics(problem, levels[m - 1], f"H{m}", reader)
        if not problem.linear and m < problem.layers:
            values |= _metrics(problem, W @ levels[m - 1], f"W{m} H{m}", None)
    return values


def ranks(problem: DeepUnconstrainedFeatures, point: DeepPoint, *, threshold: float = 0.05) -> dict[str, int]:
    """Singular values of every level's class means above `threshold` times the largest, counted."""
    means = [level[:, _first(problem)] for level in problem.levels(point)]
    spectra = {f"H{m}": torch.linalg.svdvals(level) for m, level in enumerate(means, start=1)}
    return {name: int((values > threshold * values[0]).sum()) for name, values in spectra.items()}


def _metrics(
    problem: DeepUnconstrainedFeatures, columns: Tensor, level: str, reader: Weights | None
) -> dict[str, float]:
    moments = ClassMoments(problem.classes)
    moments.update(columns.T, problem.labels)
    wanted = _FEATURES if reader is None else _FEATURES | _DUALITY
    found = evaluate_layer(moments, weight=reader, only=list(wanted.values())).measurements
    values = {name: found[metric].value for name, metric in wanted.items()}
    return {f"{name} of {level}": value for name, value in values.items() if value is not None}


def _first(problem: DeepUnconstrainedFeatures) -> Tensor:
    """The first sample of every class."""
    counts = torch.tensor(problem.counts)
    return torch.cumsum(counts, 0) - counts
