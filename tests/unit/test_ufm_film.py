"""Frames of a descent: the right points at the right steps."""

from __future__ import annotations

import pytest

from tightframe.core.errors import InputError
from tightframe.ufm.dynamics import descend
from tightframe.ufm.film import film, positions
from tightframe.ufm.model import UnconstrainedFeatures


def plane(features: int = 2) -> UnconstrainedFeatures:
    return UnconstrainedFeatures(classes=3, features=features, per_class=(5, 2, 4), weight_decay=(3e-2, 2e-3))


@pytest.mark.parametrize("features", [2, 3])
def test_positions_are_the_coordinates(features):
    problem = plane(features)
    point = problem.start(seed=1)
    rows = positions(point, problem.labels, per_class=3)
    assert [row["class"] for row in rows] == [0, 0, 0, 1, 1, 2, 2, 2, 0, 1, 2]
    assert [row["kind"] for row in rows] == ["feature"] * 8 + ["classifier"] * 3
    last = point.H[:, problem.labels == 2][:, 2]
    assert [rows[7][axis] for axis in "xyz"[:features]] == last.tolist()
    assert [rows[-1][axis] for axis in "xyz"[:features]] == point.W[2].tolist()
    assert rows[7]["sample"] == 2
    assert ("z" in rows[0]) is (features == 3)


@pytest.mark.parametrize("features", [1, 4])
def test_positions_need_a_plane_or_space(features):
    with pytest.raises(InputError, match="2 or 3 dimensions"):
        positions(plane(features).start(), plane(features).labels, per_class=2)


@pytest.mark.parametrize(("steps", "frames", "shown"), [(1, 60, 2), (300, 2, 2), (300, 20, 20), (5, 60, 6)])
def test_a_film_goes_from_the_start_to_the_end(steps, frames, shown):
    problem = plane()
    rows = film(problem, step=0.5, steps=steps, frames=frames, per_class=2, seed=3)
    order = sorted({row["step"] for row in rows})
    assert (len(order), order[0], order[-1]) == (shown, 0, steps)
    pictures = [[row for row in rows if row["step"] == step] for step in order]
    points = [[(row["kind"], row["class"], row["sample"]) for row in picture] for picture in pictures]
    assert all(listed == points[0] for listed in points)
    found = descend(problem, step=0.5, steps=steps, seed=3, metrics=False)
    assert pictures[-1][0]["x"] == float(found.H[0, 0])
    assert pictures[0][0]["x"] == float(problem.start(seed=3).H[0, 0])


def test_a_film_has_frames():
    with pytest.raises(InputError, match="at least 2 frames"):
        film(plane(), step=0.5, steps=5, frames=1)
