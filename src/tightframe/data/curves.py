"""Curves on spheres with known geometry: circles, wavy circles, torus knots, spirals, and samples of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.func import jvp

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float, Tensor

Times = Float[Tensor, " n"]
Rows = Float[Tensor, "n d"]

_GRID = 1 << 14


@dataclass(frozen=True, eq=False)
class SampledCurve:
    """Points along a curve, in order.

    Args:
        points: (n, d), unit vectors, float64.
        weights: (n,), the arc length that each stands for; they sum to the curve's length (1 / n of it each for
            random samples of the uniform density).
        closed: Whether the last point is followed by the first.
    """

    points: Rows
    weights: Times
    closed: bool

    @property
    def length(self) -> float:
        """Length of the curve."""
        return float(self.weights.sum())


@dataclass(frozen=True, eq=False)
class SphericalCurve:
    """A smooth curve t -> x(t) on the unit sphere, t in [0, 1].

    Args:
        position: Times (n,) to unit vectors (n, d); differentiable by torch, float64 in and out.
        closed: Whether x(1) = x(0), with all derivatives.
        length: Its length where known in closed form.
        curvature: Its largest geodesic curvature where known in closed form.

    Example:
        >>> round(circle(math.pi / 4).uniform(100).length, 6) == round(math.pi * math.sqrt(2), 6)
        True
    """

    position: Callable[[Times], Rows]
    closed: bool
    length: float | None = None
    curvature: float | None = None

    def velocity(self, times: Times) -> Rows:
        """dx/dt, exactly."""
        return jvp(self.position, (times,), (torch.ones_like(times),))[1]

    def geodesic_curvature(self, times: Times) -> Times:
        r"""Curvature within the sphere, |(I - x x^T) x''| by arc length, exactly."""
        velocity, change = jvp(self.velocity, (times,), (torch.ones_like(times),))
        place, square = self.position(times), velocity.square().sum(1, keepdim=True)
        for axis, scale in ((place, 1.0), (velocity, square)):
            change = change - (change * axis).sum(1, keepdim=True) / scale * axis
        return torch.linalg.vector_norm(change, dim=1) / square[:, 0]

    def uniform(self, n: int) -> SampledCurve:
        """Points at equal distances along the curve; in the middle of n equal parts of an open one.

        Raises:
            InputError: Fewer than 3 points.
        """
        check_count(n, "n", least=3)
        share = (torch.arange(n, dtype=torch.float64) + (0.0 if self.closed else 0.5)) / n
        times, lengths = self._lengths()
        points = self._unit(_inverse(times, lengths / lengths[-1], share))
        return SampledCurve(points, torch.full((n,), float(lengths[-1]) / n, dtype=torch.float64), self.closed)

    def sample(self, n: int, *, density: Callable[[Times], Times] | None = None, seed: int = 0) -> SampledCurve:
        """Independent random points, sorted along the curve.

        Args:
            n: How many.
            density: Relative density, at least zero, of the share of the length in [0, 1]; uniform when None.
            seed: Of the points.

        Raises:
            InputError: Fewer than 3 points, a density that is negative, not finite or zero everywhere.
        """
        check_count(n, "n", least=3)
        times, lengths = self._lengths()
        share = lengths / lengths[-1]
        mass = share
        if density is not None:
            values = density(share)
            if not bool((torch.isfinite(values) & (values >= 0)).all()) or not bool((values > 0).any()):
                raise InputError(
                    "a finite density of at least 0, somewhere above", got="another one", remedy="Clamp it."
                )
            mass = _cumulated(values, share)
            mass = mass / mass[-1]
        drawn = torch.rand(n, dtype=torch.float64, generator=generator(seed)).sort().values
        points = self._unit(_inverse(times, mass, drawn))
        return SampledCurve(points, torch.full((n,), float(lengths[-1]) / n, dtype=torch.float64), self.closed)

    def _lengths(self) -> tuple[Times, Times]:
        """A fine grid of times, and the length of the curve up to each."""
        times = torch.linspace(0, 1, _GRID + 1, dtype=torch.float64)
        # Simpson's rule on every interval: its error is that of the fourth power of the grid's spacing.
        halves = torch.linspace(0, 1, 2 * _GRID + 1, dtype=torch.float64)
        speed = torch.linalg.vector_norm(self.velocity(halves), dim=1)
        pieces = (speed[:-2:2] + 4 * speed[1::2] + speed[2::2]) / (6 * _GRID)
        return times, torch.cat((times[:1], pieces.cumsum(0)))

    def _unit(self, times: Times) -> Rows:
        points = self.position(times)
        return points / torch.linalg.vector_norm(points, dim=1, keepdim=True)


def circle(latitude: float = 0.0, *, dimension: int = 3) -> SphericalCurve:
    """Circle of this latitude (radians from the equator) in R^d; latitude 0 is a great circle.

    Its length is 2 pi cos(latitude) and its geodesic curvature |tan(latitude)|.

    Raises:
        InputError: A latitude outside (-pi/2, pi/2), a dimension below 3.
    """
    return wavy_circle(latitude, 0.0, 0, dimension=dimension)


def coaxial_circles(separation: float, *, latitude: float = math.pi / 4) -> tuple[SphericalCurve, SphericalCurve]:
    """Two circles about one axis of S^2, at `latitude` and `latitude - separation`: exactly that far apart.

    Raises:
        InputError: A separation that is not above zero, or a circle at or past a pole.

    Reference: [buchanan2021deep], section 3.
    """
    if not separation > 0:
        raise InputError("a separation above 0", got=repr(separation), remedy="Circles that touch share points.")
    return circle(latitude), circle(latitude - separation)


def wavy_circle(latitude: float, amplitude: float, waves: int, *, dimension: int = 3) -> SphericalCurve:
    """Closed curve of latitude `latitude + amplitude sin(waves 2 pi t)` and longitude 2 pi t.

    Raises:
        InputError: A curve that reaches a pole, a dimension below 3, a negative number of waves.
    """
    check_count(dimension, "dimension", least=3)
    check_count(waves, "waves", least=0)
    if not abs(latitude) + abs(amplitude) < math.pi / 2:
        raise InputError(
            "|latitude| + |amplitude| below pi / 2",
            got=f"latitude={latitude!r}, amplitude={amplitude!r}",
            remedy="Stay clear of the poles; latitudes are counted from the equator.",
        )

    def position(times: Times) -> Rows:
        longitude = 2 * math.pi * times
        height = latitude + amplitude * (waves * longitude).sin()
        axes = [height.cos() * longitude.cos(), height.cos() * longitude.sin(), height.sin()]
        return torch.stack([*axes, *[torch.zeros_like(times)] * (dimension - 3)], dim=1)

    if amplitude and waves:
        return SphericalCurve(position, True)
    return SphericalCurve(position, True, 2 * math.pi * math.cos(latitude), abs(math.tan(latitude)))


def torus_knot(p: int, q: int, *, angle: float = math.pi / 4, phase: float = 0.0) -> SphericalCurve:
    r"""Torus knot on S^3, of constant speed and curvature.

    .. math:: x(t) = (\cos\alpha\, e^{2\pi i p t},\ \sin\alpha\, e^{2\pi i q t + i\delta})

    where
        alpha is `angle` and delta `phase`. With v^2 = p^2 cos^2 alpha + q^2 sin^2 alpha its length is 2 pi v and its
        geodesic curvature |p^2 - q^2| cos alpha sin alpha / v^2. Knots of angles alpha and beta and one phase are
        |alpha - beta| apart.

    Raises:
        InputError: p and q with a common divisor, or an angle outside (0, pi/2).
    """
    if math.gcd(p, q) != 1:
        raise InputError("p and q without a common divisor", got=f"p={p}, q={q}", remedy="Use p=2, q=3 for a trefoil.")
    if not 0 < angle < math.pi / 2:
        raise InputError("angle in (0, pi / 2)", got=repr(angle), remedy="Use pi / 4.")
    c, s = math.cos(angle), math.sin(angle)
    square = (p * c) ** 2 + (q * s) ** 2

    def position(times: Times) -> Rows:
        first, second = 2 * math.pi * p * times, 2 * math.pi * q * times + phase
        return torch.stack((c * first.cos(), c * first.sin(), s * second.cos(), s * second.sin()), dim=1)

    return SphericalCurve(position, True, 2 * math.pi * math.sqrt(square), abs(p * p - q * q) * c * s / square)


def spiral(turns: float = 2.0, *, start: float = 0.2, stop: float = 1.2, phase: float = 0.0) -> SphericalCurve:
    r"""Spiral on S^2 that crosses all meridians at one angle (a rhumb line), from one polar angle to another.

    With tan(beta) = 2 pi turns / log(tan(stop / 2) / tan(start / 2)) its length is (stop - start) / cos(beta) and its
    largest geodesic curvature sin(beta) times the larger |cot| of the two polar angles. Another `phase` is another
    arm.

    Raises:
        InputError: Polar angles that are not 0 < start < stop < pi, turns that are not finite.
    """
    if not (0 < start < stop < math.pi and math.isfinite(turns)):
        raise InputError(
            "0 < start < stop < pi and finite turns",
            got=f"start={start!r}, stop={stop!r}, turns={turns!r}",
            remedy="Use 0.2 and 1.2.",
        )
    bearing = 2 * math.pi * turns / math.log(math.tan(stop / 2) / math.tan(start / 2))

    def position(times: Times) -> Rows:
        polar = start + (stop - start) * times
        turn = phase + bearing * ((polar / 2).tan() / math.tan(start / 2)).log()
        return torch.stack((polar.sin() * turn.cos(), polar.sin() * turn.sin(), polar.cos()), dim=1)

    cosine = 1 / math.hypot(1, bearing)
    steepest = max(abs(1 / math.tan(start)), abs(1 / math.tan(stop)))
    return SphericalCurve(position, False, (stop - start) / cosine, abs(bearing) * cosine * steepest)


def _cumulated(values: Times, places: Times) -> Times:
    return torch.cat((places.new_zeros(1), torch.cumulative_trapezoid(values, places)))


def _inverse(times: Times, mass: Times, wanted: Times) -> Times:
    """Times at which an increasing function, known on a grid, takes these values: linear between grid points.

    The grid has 16384 parts, so that the error is below 1e-7 of the whole curve for smooth ones.
    """
    index = torch.searchsorted(mass, wanted, right=True).clamp(1, len(mass) - 1)
    low, high = mass[index - 1], mass[index]
    share = ((wanted - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
    return times[index - 1] + share * (times[index] - times[index - 1])
