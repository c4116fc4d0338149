"""Curves against lengths and curvatures in closed form, and samples against the density asked for."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.data.curves import circle, coaxial_circles, spiral, torus_knot, wavy_circle

KNOWN = {
    "great circle": circle(),
    "circle": circle(-0.6, dimension=5),
    "trefoil": torus_knot(2, 3, angle=0.7, phase=0.4),
    "winding": torus_knot(7, 1, angle=0.2),
    "spiral": spiral(3.0, start=0.2, stop=2.0, phase=1.0),
    "arc of a meridian": spiral(0.0),
}
TIMES = torch.linspace(0, 1, 2001, dtype=torch.float64)


@pytest.mark.parametrize("name", list(KNOWN))
def test_length_and_curvature_in_closed_form(name):
    curve = KNOWN[name]
    points = curve.position(TIMES)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(2001, dtype=torch.float64), rtol=1e-14, atol=0)
    # The polygon of 2000 chords is short by a share of (kappa_space h)^2 / 24, below 1e-4 for the fastest of these.
    polygon = float((points[1:] - points[:-1]).norm(dim=1).sum())
    assert math.isclose(polygon, curve.length, rel_tol=2e-4)
    assert math.isclose(curve.uniform(50).length, curve.length, rel_tol=1e-10)
    assert math.isclose(float(curve.geodesic_curvature(TIMES).max()), curve.curvature, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("curve", [wavy_circle(0.3, 0.15, 6), torus_knot(2, 3), spiral(2.0)])
def test_uniform_points_are_equally_far_apart_along_the_curve(curve):
    many = curve.uniform(4000).points
    gaps = (many[1:] - many[:-1]).norm(dim=1)
    # Chords of equal arcs differ by the square of curvature times gap over 24, and by the table of lengths.
    assert float(gaps.max() / gaps.min()) - 1 < 1e-4
    if curve.closed:
        assert math.isclose(float((many[0] - many[-1]).norm()), float(gaps.mean()), rel_tol=1e-4)


def test_random_points_follow_the_density():
    curve = circle(0.3)
    sampled = curve.sample(4000, density=lambda share: 1 + (2 * math.pi * share).cos(), seed=3)
    longitude = torch.atan2(sampled.points[:, 1], sampled.points[:, 0])
    # The mean of cos is 1/2 for this density, with standard deviation (1/4)^(1/2) / 4000^(1/2).
    assert abs(float(longitude.cos().mean()) - 0.5) < 5 * 0.5 / math.sqrt(4000)
    assert abs(float(curve.sample(4000, seed=4).points[:, 0].mean())) < 5 * 0.7 / math.sqrt(4000)
    assert torch.equal(curve.sample(10, seed=1).points, curve.sample(10, seed=1).points)
    assert not torch.equal(curve.sample(10, seed=1).points, curve.sample(10, seed=2).points)
    assert math.isclose(sampled.length, curve.length, rel_tol=1e-9)


def test_closed_curves_close():
    for curve in (circle(0.2), wavy_circle(0.1, 0.2, 5), torus_knot(3, 2)):
        ends = curve.position(torch.tensor([0.0, 1.0], dtype=torch.float64))
        torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: circle(2.0), "pi / 2"),
        (lambda: circle(dimension=2), "dimension"),
        (lambda: coaxial_circles(0.0), "separation above 0"),
        (lambda: torus_knot(2, 4), "common divisor"),
        (lambda: torus_knot(2, 3, angle=0.0), "angle"),
        (lambda: spiral(start=1.0, stop=0.5), "start"),
        (lambda: circle().uniform(2), "n is an integer"),
        (lambda: circle().sample(9, density=lambda share: share - 0.5), "density"),
        (lambda: circle().sample(9, density=lambda share: 0 * share), "density"),
        (lambda: wavy_circle(1.0, 0.8, 3), "pi / 2"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
