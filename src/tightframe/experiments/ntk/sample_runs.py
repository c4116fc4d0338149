"""Kernel regression from random samples of two circles: errors, and the samples that an error needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch

from tightframe.core.typing import Float, Tensor
from tightframe.experiments.ntk.curve_pairs import CurvePair, join
from tightframe.experiments.ntk.kernel_aperture import half_width
from tightframe.ntk.dynamics import LinearDynamics
from tightframe.ntk.kernel import relu_ntk
from tightframe.runs.record import Cell

Row = dict[str, Cell]

# Points of either curve at which predictions are judged.
_JUDGED = 400
# Curves at which the sweep over depth stays while the depth changes.
_KIND = "coaxial circles"


@dataclass(frozen=True)
class Fitting:
    """Regression at a depth from N samples of two circles, several times."""

    separation: float
    depth: int
    samples: int
    draws: int
    budgets: tuple[float, ...]


def regress(fitting: Fitting) -> list[Row]:
    """Medians over the draws, without end and within every budget; times are those of n / 2 = 1."""
    errors = torch.stack([_errors(fitting, draw) for draw in range(fitting.draws)])
    middle = errors.median(dim=0).values
    budgets = (None, *fitting.budgets)
    return [
        {
            "separation": fitting.separation,
            "depth": fitting.depth,
            "samples": fitting.samples,
            "budget": budget,
            "error": float(error),
            "wrong": float(wrong),
        }
        for budget, (error, wrong) in zip(budgets, middle, strict=True)
    ]


def _errors(fitting: Fitting, draw: int) -> Float[Tensor, "t 2"]:
    """Root mean square error and share of wrong signs on the curves, without end and within every budget."""
    curves = CurvePair(_KIND, fitting.separation).curves
    half = fitting.samples // 2
    points, labels = join([curve.sample(half, seed=2 * draw + side) for side, curve in enumerate(curves)])
    judged, truth = join([curve.uniform(_JUDGED) for curve in curves])
    across = relu_ntk(judged, points, depth=fitting.depth)
    dynamics = LinearDynamics(relu_ntk(points, depth=fitting.depth))
    amounts = dynamics.vectors.T @ labels
    found = []
    for time in (math.inf, *(budget / fitting.depth for budget in fitting.budgets)):
        rates = dynamics.rates.clamp(min=torch.finfo(torch.float64).tiny)
        weights = dynamics.vectors @ (-torch.expm1(-time * rates) / rates * amounts) / len(labels)
        outputs = across @ weights
        wrong = (outputs * truth <= 0).double().mean()
        found.append(torch.stack(((outputs - truth).square().mean().sqrt(), wrong)))
    return torch.stack(found)


def samples_for(rows: Sequence[Row], column: str, level: float) -> float | None:
    """Samples at which a column has fallen to the level for good, between neighbours linear in both logarithms."""
    rows = sorted(rows, key=lambda row: row["samples"])
    for before, after in reversed(list(pairwise(rows))):
        if before[column] > level >= after[column]:
            low, high = (math.log(max(row[column], 1e-12)) for row in (before, after))
            share = (low - math.log(level)) / (low - high)
            return before["samples"] * (after["samples"] / before["samples"]) ** share
    return None


def needs(rows: Sequence[Row], by: str, level: float) -> list[Row]:
    """A row for every depth or separation: the aperture there, and the samples that reach the level."""
    found: list[Row] = []
    for _, group in groupby(rows, key=lambda row: row[by]):
        some = list(group)
        apart, depth = some[0]["separation"], some[0]["depth"]
        curves = CurvePair(_KIND, apart).curves
        length, aperture = sum(curve.length for curve in curves), half_width(depth)
        count = samples_for(some, "error", level)
        found.append(
            {
                "separation": apart,
                "depth": depth,
                "aperture": aperture,
                "samples": count,
                "samples times aperture over length": None if count is None else count * aperture / length,
                "samples for signs": samples_for(some, "wrong", 0.5 / _JUDGED),
            }
        )
    return found
