"""Covering numbers of subsets of curves by intervals of arc length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tightframe.core.typing import Float, Tensor
from tightframe.data.curves import SampledCurve
from tightframe.ntk.angles import blocks

Places = np.ndarray


def cover_count(curves: Sequence[SampledCurve], far: float, near: float, radius: float) -> int:
    """Most intervals of length 2 radius that cover, of all curves, the points near to one and far along its curve."""
    points = torch.cat([curve.points for curve in curves])
    starts = np.cumsum([0, *(len(curve.points) for curve in curves)])
    places = [_places(curve) for curve in curves]
    most = 0
    for index, curve in enumerate(curves):
        for first in range(0, len(curve.points), 256):
            own = places[index][first : first + 256]
            close = _close(curve.points[first : first + 256], points, near).cpu().numpy()
            for row, place in zip(close, own, strict=True):
                if row.sum() > 1:
                    most = max(most, _covers(row, place, index, curves, starts, places, far, radius))
    return most


def _covers(
    row: np.ndarray,
    place: float,
    own: int,
    curves: Sequence[SampledCurve],
    starts: np.ndarray,
    places: list[Places],
    far: float,
    radius: float,
) -> int:
    """Intervals for the points near to one place of curve `own`."""
    total = 0
    for other, curve in enumerate(curves):
        wanted = places[other][row[starts[other] : starts[other + 1]]]
        length = curve.length
        if other == own:
            apart = np.abs(wanted - place)
            apart = np.minimum(apart, length - apart) if curve.closed else apart
            wanted = wanted[apart > far]
        total += cover(wanted, 2 * radius, length if curve.closed else None)
    return total


def cover(places: Places, width: float, period: float | None) -> int:
    """Fewest intervals of this width that cover sorted places on a line, or on a circle of this period.

    On a circle some optimal cover has an interval that begins at a place of any chosen window of one width, so that
    those few beginnings are tried; a gap of more than the width leaves one.
    """
    if not len(places):
        return 0
    if period is None:
        return _greedy(places, width)
    if width >= period:
        return 1
    gaps = np.diff(np.append(places, places[0] + period))
    widest = int(gaps.argmax())
    turned = np.roll(places, -(widest + 1))
    if gaps[widest] > width:
        return _greedy(np.mod(turned - turned[0], period), width)
    around = np.mod(turned - turned[0], period)
    beginnings = np.flatnonzero(around <= width)
    return min(_greedy(np.sort(np.mod(around - around[start], period)), width) for start in beginnings)


def _greedy(places: Places, width: float) -> int:
    count, index = 0, 0
    # Lengths carry rounding; a place at exactly one width belongs to the interval.
    slack = width * (1 + 1e-12)
    while index < len(places):
        index = int(np.searchsorted(places, places[index] + slack, side="right"))
        count += 1
    return count


def _places(curve: SampledCurve) -> Places:
    """Arc length of every point from the first."""
    weights = curve.weights.double().cpu().numpy()
    return np.concatenate(([0.0], np.cumsum((weights[:-1] + weights[1:]) / 2)))


def _close(left: Float[Tensor, "n d"], right: Float[Tensor, "m d"], near: float) -> Tensor:
    """(n, m): whether the angle is below `near`."""
    found = torch.empty(len(left), len(right), dtype=torch.bool, device=left.device)
    for down, over, square, opposite in blocks(left, right, symmetric=False):
        half = square.sqrt().asin()
        found[down, over] = 2 * torch.where(opposite, torch.pi / 2 - half, half) < near
    return found
