"""Separation, curvature, clover number and reach against closed forms and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.curves import SampledCurve, circle, coaxial_circles, spiral, torus_knot, wavy_circle
from tightframe.ntk.covering import cover
from tightframe.ntk.gaps import closest_pair
from tightframe.ntk.manifold import clover_number, curvature, reach, separation


@pytest.mark.parametrize("apart", [1.0, 0.1, 1e-3, 1e-7])
def test_separation_of_coaxial_circles(apart):
    curves = [each.uniform(60) for each in coaxial_circles(apart)]
    # The points lie on common meridians; a unit vector is known to 1e-16.
    assert math.isclose(separation(curves), apart, rel_tol=1e-12, abs_tol=1e-15)


def test_separation_of_knots_and_of_clouds():
    knots = [torus_knot(2, 3, angle=angle).uniform(4000) for angle in (0.6, 0.9)]
    # Samples of different speeds do not face each other: the excess is a square of the gaps over twice the angle.
    gap = knots[1].length / 4000
    assert 0.3 - 1e-12 <= separation(knots) <= 0.3 + gap**2 / 0.3
    rows = torch.randn(300, 5, generator=generator(0), dtype=torch.float64)
    labels = torch.randint(0, 3, (300,), generator=generator(1))
    unit = rows / rows.norm(dim=1, keepdim=True)
    angles = 2 * (torch.cdist(unit, unit) / 2).asin()
    expected = float(angles[labels[:, None] != labels].min())
    assert math.isclose(separation(3 * rows, labels), expected, rel_tol=1e-9)


def test_closest_pair_is_found_in_any_tile():
    rows = torch.nn.functional.normalize(torch.randn(500, 8, generator=generator(2), dtype=torch.float64))
    rows[431] = torch.nn.functional.normalize(rows[17] + 1e-9 * rows[3], dim=0)
    angle, first, second = closest_pair(rows)
    assert {first, second} == {17, 431}
    assert math.isclose(angle, float((rows[431] - rows[17]).norm()), rel_tol=1e-5)
    alone, i, j = closest_pair(rows[:1], -rows[:1])
    assert (i, j) == (0, 0)
    assert math.isclose(alone, math.pi)


@pytest.mark.parametrize("curve", [circle(math.pi / 4), circle(), torus_knot(2, 3, angle=0.5), torus_knot(5, 2)])
def test_curvature_of_closed_curves_is_spectral(curve):
    found = curvature(curve.uniform(401))
    # A few rounding errors times the square of the highest frequency, 200^2.
    assert float((found - curve.curvature).abs().max()) < 1e-9


def test_curvature_of_other_samples_is_of_second_order():
    spun = spiral(2.0)
    errors = [abs(float(curvature(spun.uniform(n)).max()) - spun.curvature) for n in (400, 800, 1600)]
    # End points take their neighbour's value, which leaves an error of the first order there.
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02 * spun.curvature
    uneven = circle(0.5).sample(500, seed=0)
    # Circles through three points of a circle are that circle; closest points leave rounding over gaps squared.
    middle = curvature(uneven).median()
    assert math.isclose(float(middle), math.tan(0.5), rel_tol=1e-6)
    wavy = wavy_circle(0.3, 0.15, 6)
    exact = float(wavy.geodesic_curvature(torch.linspace(0, 1, 20001, dtype=torch.float64)).max())
    assert math.isclose(float(curvature(wavy.uniform(1000)).max()), exact, rel_tol=2e-3)


def test_clover_number_of_a_winding_knot_counts_its_strands():
    """On (p, 1) knots the other strands at t + j / p are at angles of cos^2 a + sin^2 a cos(2 pi j / p)."""
    p, a = 9, 0.15
    knot = torus_knot(p, 1, angle=a)
    angles = [math.acos(math.cos(a) ** 2 + math.sin(a) ** 2 * math.cos(2 * math.pi * j / p)) for j in range(1, p)]
    for near in (0.12, 0.2, 0.27):
        # Every strand crosses the ball in one short arc, of less than 2 near.
        expected = sum(angle < near for angle in angles)
        assert clover_number([knot.uniform(1200)], far=1.0, near=near, radius=near) == expected
    assert clover_number([circle().uniform(200)]) == 0
    both = [each.uniform(200) for each in coaxial_circles(0.05)]
    assert clover_number(both, far=1.0, near=0.01, radius=0.5) == 0
    # The other circle is at infinite distance along the curves, and near: one arc of it.
    assert clover_number(both, far=1.0, near=0.1, radius=0.5) == 1


def test_covers_are_the_smallest():
    """All sets of beginnings tried, on lines and circles."""
    source = np.random.default_rng(0)
    for period in (None, 1.0):
        for _ in range(60):
            places = np.sort(source.random(6) * 0.999)
            width = float(source.uniform(0.1, 0.6))
            found = cover(places, width, period)

            def covers(starts, places=places, width=width, period=period):
                offset = places[:, None] - np.array(starts)
                offset = offset if period is None else np.mod(offset, period)
                return bool(((offset >= -1e-12) & (offset <= width + 1e-12)).any(axis=1).all())

            smallest = next(
                size for size in range(1, 7) if any(covers(starts) for starts in itertools.combinations(places, size))
            )
            assert found == smallest
    assert cover(np.array([]), 0.1, None) == 0
    assert cover(np.array([0.1, 0.9]), 2.0, 1.0) == 1


def test_reach_of_circles():
    # A circle of latitude v has radius cos v; chords and tangents of even points are exact.
    assert math.isclose(reach([circle(0.7).uniform(200)]), math.cos(0.7), rel_tol=1e-9)
    near = [each.uniform(300) for each in coaxial_circles(0.1, latitude=0.5)]
    # Half of the chord between them, 2 sin(0.05) / 2.
    assert math.isclose(reach(near), math.sin(0.05), rel_tol=1e-9)


def test_bad_input():
    curves = [each.uniform(20) for each in coaxial_circles(0.1)]
    points = torch.cat([each.points for each in curves])
    with pytest.raises(InputError, match="two classes"):
        separation(curves[:1])
    with pytest.raises(InputError, match="labels"):
        separation(points)
    with pytest.raises(InputError, match="labels have shape"):
        separation(points, torch.zeros(3, dtype=torch.long))
    with pytest.raises(DegenerateError, match="apart"):
        separation([curves[0], curves[0]])
    with pytest.raises(InputError, match="at least one curve"):
        clover_number([])
    with pytest.raises(InputError, match="scales"):
        clover_number(curves, far=-1.0)
    with pytest.raises(InputError, match="at least 5"):
        curvature(SampledCurve(points[:3], torch.ones(3).double(), True))
    with pytest.raises(InputError, match="equal ones"):
        curvature(SampledCurve(points[[0, 1, 1, 2, 3, 4]], torch.ones(6).double(), True))
    with pytest.raises(InputError, match="at least 5"):
        reach([])


def test_clouds_may_be_arrays_and_labels_names():
    rows = np.random.default_rng(3).standard_normal((60, 3))
    labels = np.arange(60) % 3
    tensors = torch.from_numpy(rows), torch.from_numpy(labels)
    expected = separation(*tensors)
    names = np.array(["west", "east", "north"])[labels]
    frame = pd.DataFrame(rows)
    for given, known in ((rows, labels), (rows, list(labels)), (frame, pd.Series(names)), (tensors[0], names)):
        assert separation(given, known) == expected
    assert reach(rows, labels, dimension=2) == reach(*tensors, dimension=2)
    assert reach(rows, dimension=2) == reach(tensors[0], dimension=2)
    for given, known, message in (
        (rows, labels + 0.5, "integer"),
        (rows, labels - 1, "labels lie in"),
        (rows, labels[:5], "labels have shape"),
        (rows, None, "labels"),
        (rows[:, 0], labels, "shape"),
    ):
        with pytest.raises(InputError, match=message):
            separation(given, known)


def test_what_is_no_sampled_curve_is_named():
    curves = coaxial_circles(0.3)
    sampled = [each.uniform(20) for each in curves]
    weightless = SampledCurve(sampled[0].points, torch.zeros(20).double(), True)
    few = SampledCurve(sampled[0].points, torch.ones(3).double(), True)
    arrays = SampledCurve(sampled[0].points.numpy(), np.ones(20), True)
    for measure in (separation, clover_number, reach):
        for bad, message in (
            (curves, "Sample it"),
            ([sampled[0], sampled[1].points], "got Tensor"),
            (sampled[0], "one curve"),
            ([sampled[0], weightless], "not above 0"),
            ([sampled[0], few], "\\(3,\\) for points"),
            ([sampled[0], arrays], "as tensors"),
        ):
            with pytest.raises(InputError, match=message):
                measure(bad)
    with pytest.raises(InputError, match="Sample it"):
        curvature(curves[0])
