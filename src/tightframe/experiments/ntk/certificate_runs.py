"""Certificates of curve pairs: norms over depth, the depth of least cost, and errors over time beside their bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from tightframe.data.curves import SampledCurve, circle, wavy_circle
from tightframe.experiments.ntk.curve_pairs import PARALLEL, CurvePair
from tightframe.experiments.ntk.scaling import local_norm
from tightframe.ntk.certificates import TangentCertificate, certificate
from tightframe.ntk.circulant import circulant_kernel
from tightframe.ntk.dynamics import lanczos_errors
from tightframe.ntk.manifold import curvature, separation
from tightframe.runs.record import Cell

Row = dict[str, Cell]

# Depths times the separation among which the least cost is looked for; 5.5 is the rule of `recommend`.
MULTIPLES = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 10.0, 14.0)
RULE = 5.5
# Separation of the wavy circles; each raise takes up most of what is left of the difference from it.
_APART, _RAISES = 0.2, 6


@dataclass(frozen=True)
class NormCell:
    """Coaxial circles at a depth, with as much mass on either circle."""

    apart: float
    depth: int
    points: int


@dataclass(frozen=True)
class DecayCell:
    """Coaxial circles at a depth, followed to these times."""

    apart: float
    depth: int
    points: int
    times: tuple[float, ...]


@dataclass(frozen=True)
class WavyCell:
    """Two wavy circles with as many waves of amplitude 0.15, the lower one about latitude 0.3, 0.2 apart."""

    waves: int
    depth: int
    points: int


def norm(cell: NormCell) -> Row:
    """The certificate's norm."""
    found = certificate(_circles(cell.apart, cell.points), cell.depth)
    return {
        "separation": cell.apart,
        "depth": cell.depth,
        "norm": found.norm,
        "depth times norm": cell.depth * found.norm,
        "residual": found.residual / found.initial,
    }


def cheapest(pair: CurvePair) -> list[Row]:
    """A row for every depth tried, with the norm that the distances to the other class alone predict."""
    curves = pair.even()
    apart, gaps = separation(curves), _gaps(curves)
    weights = torch.cat([curve.weights for curve in curves])
    length = float(weights.sum())
    rows: list[Row] = []
    for depth in sorted({max(1, round(multiple / apart)) for multiple in MULTIPLES}):
        found, expected = certificate(curves, depth), local_norm(gaps, weights, depth)
        cost = depth * found.norm
        rows.append(
            {
                "curves": pair.kind,
                "parallel": pair.kind in PARALLEL,
                "closed": all(curve.closed for curve in curves),
                "separation": apart,
                "depth": depth,
                "depth times separation": depth * apart,
                "norm": found.norm,
                "cost": cost,
                "cost times separation over length": cost * apart / length,
                "by local distances": depth * expected * apart / length,
                "norm over local law": found.norm / expected,
            }
        )
    least = min(row["cost"] for row in rows)
    return [row | {"cost over least": row["cost"] / least} for row in rows]


def decay(cell: DecayCell) -> list[Row]:
    """Error of the linear dynamics over time, the bound by the certificate, and the source's rate."""
    curves = _circles(cell.apart, cell.points)
    found = certificate(curves, cell.depth)
    matrix = circulant_kernel([curve.points for curve in curves], cell.depth)
    matrix = matrix.scaled(torch.full((2,), math.sqrt(0.5 / cell.points), dtype=torch.float64))
    start = found.solution.variables["zeta"] * math.sqrt(0.5 / cell.points)
    errors = torch.linalg.vector_norm(lanczos_errors(matrix, start, cell.times), dim=1)
    return [_decay_row(cell, found, time, float(error)) for time, error in zip(cell.times, errors, strict=True)]


def bent(cell: WavyCell) -> Row:
    """The norm beside the largest curvature."""
    rise = _APART
    # Steep waves of one shape are nearer than their latitudes: raised until the separation is that of plain circles.
    for _ in range(_RAISES):
        curves = [wavy_circle(latitude, 0.15 if cell.waves else 0.0, cell.waves) for latitude in (0.3 + rise, 0.3)]
        sampled = [curve.uniform(cell.points) for curve in curves]
        rise *= _APART / separation(sampled)
    return {
        "waves": cell.waves,
        "depth": cell.depth,
        "curvature": max(float(curvature(curve).amax()) for curve in sampled),
        "separation": separation(sampled),
        "norm": certificate(sampled, cell.depth).norm,
    }


def _decay_row(cell: DecayCell, found: TangentCertificate, time: float, error: float) -> Row:
    rate = found.source_rate(time)
    return {
        "separation": cell.apart,
        "depth": cell.depth,
        "time": time,
        "error": error,
        "bound": found.bound(time),
        "L log L / t": rate,
        "error over bound": error / found.bound(time),
        "error over L log L / t": error / rate if rate else None,
    }


def _circles(apart: float, points: int) -> list[SampledCurve]:
    """The reference's measure: half of the mass on either circle, whatever their lengths."""
    even = [circle(latitude).uniform(points) for latitude in (math.pi / 4, math.pi / 4 - apart)]
    return [replace(curve, weights=torch.ones_like(curve.weights)) for curve in even]


def _gaps(curves: list[SampledCurve]) -> torch.Tensor:
    """Least angle of every point to the other curve."""
    first, second = (curve.points for curve in curves)
    # Products would leave an error of 1e-8 in short chords.
    chords = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * (torch.cat((chords.amin(1), chords.amin(0))) / 2).asin()
