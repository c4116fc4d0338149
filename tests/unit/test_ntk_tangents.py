"""Tangent spaces of curves and clouds, and the reach that follows, against surfaces of known reach."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.curves import circle, coaxial_circles, spiral
from tightframe.ntk.manifold import reach
from tightframe.ntk.tangents import least_ratio, tangents_along, tangents_among


def test_tangents_of_uneven_samples_of_a_circle_are_exact():
    points = circle(0.5).sample(60, seed=0).points
    expected = torch.stack((-points[:, 1], points[:, 0], torch.zeros(60).double()), dim=1) / math.cos(0.5)
    for closed in (True, False):
        found = tangents_along(points, closed)[:, 0]
        # Three points of a circle know it; rounding is divided by the least gap.
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_tangents_of_a_spiral_are_of_second_order():
    errors = []
    for n in (200, 400):
        curve = spiral(1.0)
        sample = curve.uniform(n)
        found = tangents_along(sample.points, False)[:, 0]
        # A rhumb line crosses all meridians at one angle.
        theta = sample.points[:, 2].acos()
        south = torch.stack(
            (
                theta.cos() * sample.points[:, 0] / theta.sin(),
                theta.cos() * sample.points[:, 1] / theta.sin(),
                -theta.sin(),
            ),
            dim=1,
        )
        bearing = 2 * math.pi / math.log(math.tan(0.6) / math.tan(0.1))
        errors.append(float(((found * south).sum(1) - 1 / math.hypot(1, bearing)).abs()[1:-1].max()))
    assert errors[1] < 0.3 * errors[0] < 0.01


@pytest.mark.parametrize("dimension", [1, 2])
def test_spaces_of_clouds_take_up_curvature(dimension):
    """On one side of a parabola or paraboloid the plane through neighbours tilts; the quadratic fit does not."""
    source = generator(0)
    flat = torch.rand(40, dimension, generator=source, dtype=torch.float64) * 0.1
    flat[0] = 0
    points = torch.cat((flat, flat.square().sum(1, keepdim=True)), dim=1)
    spaces, radii = tangents_among(points, dimension, 12)
    up = torch.zeros(dimension + 1, dtype=torch.float64)
    up[-1] = 1
    # Exact up to the tilt of the directions in which the fit is made.
    assert float((spaces[0] @ up).abs().max()) < 2e-3
    torch.testing.assert_close(spaces[0] @ spaces[0].T, torch.eye(dimension).double(), rtol=0, atol=1e-12)
    distances = (points - points[0]).norm(dim=1).sort().values
    assert math.isclose(float(radii[0]), float(distances[12]), rel_tol=1e-12)


def test_least_ratio_by_loops(monkeypatch):
    monkeypatch.setattr("tightframe.ntk.tangents._BLOCK", 200)
    points = torch.randn(30, 4, generator=generator(1), dtype=torch.float64)
    spaces = torch.linalg.qr(torch.randn(30, 4, 2, generator=generator(2), dtype=torch.float64)).Q.mT
    least = torch.full((30,), 1.0, dtype=torch.float64)
    smallest = math.inf
    for p in range(30):
        for q in range(30):
            apart = points[q] - points[p]
            if float(apart.norm()) > 1.0:
                normal = apart - spaces[p].T @ (spaces[p] @ apart)
                smallest = min(smallest, float(apart @ apart / (2 * normal.norm())))
    assert math.isclose(least_ratio(points, spaces, least), smallest, rel_tol=1e-12)


def test_reach_of_random_samples_with_and_without_order():
    curves = [each.sample(300, seed=index) for index, each in enumerate(coaxial_circles(0.1, latitude=0.5))]
    points, labels = torch.cat([each.points for each in curves]), torch.arange(2).repeat_interleave(300)
    order = torch.randperm(600, generator=generator(0))
    # Half of the chord between the circles; random samples of both face each other to a thousandth of it.
    assert math.isclose(reach(curves), math.sin(0.05), rel_tol=1e-5)
    assert math.isclose(reach(points[order], labels[order]), math.sin(0.05), rel_tol=1e-5)
    alone = circle(0.7).sample(400, seed=0).points
    assert math.isclose(reach([circle(0.7).sample(400, seed=0)]), math.cos(0.7), rel_tol=1e-6)
    # Tangents of a fit are exact to the square of the neighbours' distance, about 0.05.
    assert math.isclose(reach(alone), math.cos(0.7), rel_tol=5e-3)
    assert math.isclose(reach(5 * alone), reach(alone), rel_tol=1e-12)


def test_reach_of_surfaces():
    source = generator(0)
    sphere = torch.randn(800, 3, generator=source, dtype=torch.float64)
    assert math.isclose(reach(sphere, dimension=2), 1.0, rel_tol=0.03)
    turns = 2 * math.pi * torch.rand(1500, 2, generator=source, dtype=torch.float64)
    torus = torch.cat((turns.cos(), turns.sin()), dim=1)
    # Circles of radius 2^(-1/2) in every direction.
    assert math.isclose(reach(torus, dimension=2), math.sqrt(0.5), rel_tol=0.05)


def test_bad_input():
    points = circle().uniform(20).points
    with pytest.raises(InputError, match="neighbours in every class"):
        reach(points, neighbors=1)
    with pytest.raises(InputError, match="neighbours in every class"):
        reach(points, torch.arange(2).repeat_interleave(10), neighbors=10)
    with pytest.raises(InputError, match="dimension below 3"):
        reach(points, dimension=3)
    with pytest.raises(InputError, match="dimension"):
        reach(points, dimension=0)
    with pytest.raises(InputError, match="points that differ"):
        reach(torch.cat((points, points)))
    with pytest.raises(InputError, match="labels"):
        reach(points, torch.zeros(3, dtype=torch.long))
