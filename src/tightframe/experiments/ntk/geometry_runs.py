"""Estimates of separation, curvature, clover number and reach from samples, beside the closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from tightframe.data.curves import SampledCurve, SphericalCurve, circle, coaxial_circles, spiral, torus_knot
from tightframe.experiments.ntk.curve_pairs import CurvePair
from tightframe.ntk.manifold import clover_number, curvature, reach, separation
from tightframe.runs.record import Cell

Row = dict[str, Cell]

BENT: dict[str, Callable[[], SphericalCurve]] = {
    "great circle": circle,
    "circle of latitude pi/4": lambda: circle(math.pi / 4),
    "circle of latitude 1.3": lambda: circle(1.3),
    "trefoil": lambda: torus_knot(2, 3),
    "knot (5, 2)": lambda: torus_knot(5, 2, angle=0.6),
    "spiral": lambda: spiral(2.0),
}
# (p, 1) knots at this angle wind p times around a great circle, all strands within a ball of twice the angle.
_WOUND = 0.02
# Distance of the strands of a knot that the wide scales resolve.
_WIDE = 0.15


@dataclass(frozen=True)
class Sampling:
    """A curve or pair of curves by name, with how many points, and how often at random."""

    name: str
    apart: float
    points: int
    draws: int


def separations_of(sampling: Sampling) -> list[Row]:
    """Excess of the sampled separation of parallel curves over theirs, samples even and half a gap apart, or random."""
    first, second = CurvePair(sampling.name, sampling.apart).curves
    n, share = sampling.points, 0.5 / sampling.points
    shifted = SphericalCurve(lambda times: second.position(times + share), True)
    even = [separation([first.uniform(n), shifted.uniform(n)])]
    drawn = [
        separation([curve.sample(n, seed=2 * draw + side) for side, curve in enumerate((first, second))])
        for draw in range(sampling.draws)
    ]
    gap = max(curve.length for curve in (first, second)) / n
    return [
        {
            "curves": sampling.name,
            "separation": sampling.apart,
            "points": n,
            "samples": kind,
            "found": median(found),
            "excess": median(found) - sampling.apart,
            "least excess": min(found) - sampling.apart,
            "excess over gap^2 / (2 separation)": (median(found) - sampling.apart) * 2 * sampling.apart / gap**2,
        }
        for kind, found in (("half a gap apart", even), ("random", drawn))
    ]


def curvature_of(sampling: Sampling) -> Row:
    """Largest curvature of even samples against the closed form."""
    curve = BENT[sampling.name]()
    found = float(curvature(curve.uniform(sampling.points)).amax())
    return {
        "curve": sampling.name,
        "closed": curve.closed,
        "points": sampling.points,
        "known": curve.curvature,
        "found": found,
        # A great circle has curvature zero.
        "error": abs(found - curve.curvature) / max(1.0, curve.curvature),
    }


@dataclass(frozen=True)
class Winding:
    """A (p, 1) knot, with so many points on each turn."""

    windings: int
    points: int


def strands(winding: Winding) -> list[Row]:
    """Strands of the knot near to one of its points, at the default scales and at wide ones."""
    windings, rows = winding.windings, []
    for angle, scales in ((_WOUND, {}), (_WIDE, {"far": 1.0, "near": _WIDE, "radius": _WIDE})):
        knot = torus_knot(windings, 1, angle=angle)
        near = scales.get("near", 1 / (20 * math.sqrt(1 + knot.curvature**2)))
        expected = sum(_strand(angle, turn / windings) < near for turn in range(1, windings))
        found = clover_number([knot.uniform(winding.points * windings)], **scales)
        rows.append(
            {
                "windings": windings,
                "scales": "default" if not scales else f"within {_WIDE:g}",
                "known": expected,
                "found": found,
            }
        )
    return rows


def reach_of(sampling: Sampling) -> list[Row]:
    """Reach of a circle, or of two parallel ones, from ordered samples, and from points with labels alone."""
    if sampling.apart:
        curves, known = coaxial_circles(sampling.apart), math.sin(sampling.apart / 2)
    else:
        curves, known = (circle(math.pi / 4),), math.cos(math.pi / 4)
    rows: list[Row] = []
    for name, pick in (("even, ordered", None), ("random, ordered", _as_curves), ("random, points alone", _as_cloud)):
        if pick is None:
            found = [reach([curve.uniform(sampling.points) for curve in curves])]
        else:
            found = [
                pick([curve.sample(sampling.points, seed=2 * draw + side) for side, curve in enumerate(curves)])
                for draw in range(sampling.draws)
            ]
        errors = [abs(each / known - 1) for each in found]
        rows.append(
            {
                "curves": sampling.name,
                "points": sampling.points,
                "samples": name,
                "known": known,
                "found": median(found),
                "error": median(errors),
                "largest error": max(errors),
            }
        )
    return rows


def _as_curves(samples: list[SampledCurve]) -> float:
    return reach(samples)


def _as_cloud(samples: list[SampledCurve]) -> float:
    labels = [torch.full((len(sample.points),), index) for index, sample in enumerate(samples)]
    return reach(torch.cat([sample.points for sample in samples]), torch.cat(labels))


def _strand(angle: float, turn: float) -> float:
    """Angle between a point of the knot and the strand that many turns on."""
    return 2 * math.asin(math.sin(angle) * math.sin(math.pi * turn))
