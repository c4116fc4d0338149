"""Pairs of curves of two classes, by kind and by how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Tensor
from tightframe.data.curves import (
    SampledCurve,
    SphericalCurve,
    circle,
    coaxial_circles,
    spiral,
    torus_knot,
    wavy_circle,
)

Curves = tuple[SphericalCurve, SphericalCurve]


def _knots(p: int, q: int, apart: float) -> Curves:
    low, high = (torus_knot(p, q, angle=math.pi / 4 + side * apart / 2) for side in (-1, 1))
    return low, high


def _spirals(apart: float) -> Curves:
    # The phases that put the inner ends, at polar angle 0.3, nearly this far apart.
    return spiral(1.0, start=0.3), spiral(1.0, start=0.3, phase=13.8 * apart)


# At constant distance first; the others come near only at some places.
PARALLEL = ("coaxial circles", "great circle and parallel", "great circles", "trefoils")
_KINDS: dict[str, Callable[[float], Curves]] = {
    "coaxial circles": coaxial_circles,
    "great circle and parallel": lambda apart: (circle(0.0), circle(-apart)),
    "great circles": lambda apart: _knots(1, 1, apart),
    "trefoils": lambda apart: _knots(2, 3, apart),
    "wavy circles": lambda apart: (wavy_circle(0.3 + 1.4 * apart, 0.15, 6), wavy_circle(0.3, 0.15, 6)),
    "wavy above plain circle": lambda apart: (wavy_circle(0.15 + apart, 0.15, 3), circle(0.0)),
    "tilted circles": lambda apart: (wavy_circle(0.15 + apart, 0.15, 1), circle(0.0)),
    "spiral arms": _spirals,
}
KINDS = tuple(_KINDS)


@dataclass(frozen=True)
class CurvePair:
    """Two curves, named by plain values.

    Args:
        kind: One of KINDS.
        apart: Their separation, exactly for PARALLEL and "wavy above plain circle", nearly for the others.
        density: Points per separation along the curves, of even samples.

    Raises:
        InputError: Another kind.
    """

    kind: str
    apart: float
    density: float = 8.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError("a kind of curve pair", got=repr(self.kind), remedy=f"Use one of {', '.join(KINDS)}.")

    @property
    def curves(self) -> Curves:
        """The two curves, of the classes -1 and 1."""
        return _KINDS[self.kind](self.apart)

    def even(self) -> list[SampledCurve]:
        """Points at equal distances, as many on both."""
        curves = self.curves
        longest = max(curve.uniform(400).length for curve in curves)
        count = max(60, math.ceil(self.density * longest / self.apart))
        return [curve.uniform(count) for curve in curves]


def join(sampled: Sequence[SampledCurve]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """All points of two samples and their labels, -1 and 1."""
    first, second = (sample.points for sample in sampled)
    return torch.cat((first, second)), torch.cat((-first.new_ones(len(first)), second.new_ones(len(second))))
