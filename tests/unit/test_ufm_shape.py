"""Frames named from their logits alone, and classes crowded into few dimensions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.geometry.coherence import coherence, largest_cosine
from tightframe.geometry.frames import orthogonal_frame
from tightframe.ufm.crowding import crowd
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.shape import shape_of

EYE = torch.eye(5, dtype=torch.float64)
ONES = torch.full((5, 5), 0.2, dtype=torch.float64)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize(
    ("across", "along", "frame"),
    [
        (1.0, 0.0, "simplex ETF"),
        (1.0, 1.0, "orthogonal frame"),
        (1.0, 0.3, "between"),
        (1.0, -0.5, "between"),
        (1.0, 0.999, "between"),
        (1.0, 0.001, "between"),
    ],
)
def test_the_frames_of_the_model(size, across, along, frame):
    found = shape_of(size * (across * (EYE - ONES) + along * ONES))
    assert found.frame == frame
    assert found.across == pytest.approx(size * across, rel=1e-13)
    assert found.along == pytest.approx(size * along, rel=1e-12, abs=1e-13 * size)


def test_other_matrices():
    rows = orthogonal_frame(2, 5, seed=1)
    assert shape_of(0.7 * rows.T @ rows).frame == "projection"
    oblique = torch.zeros(5, 5, dtype=torch.float64)
    oblique[0, :2] = 1.0  # idempotent, but not symmetric
    assert shape_of(oblique).frame == "other"
    for matrix in (torch.diag(torch.arange(5.0)), torch.randn(5, 5, generator=generator(0)), -rows.T @ rows):
        found = shape_of(matrix)
        assert (found.frame, found.across, found.along) == ("other", None, None)
    assert shape_of(1e-8 * EYE).frame == "zero"
    assert shape_of(torch.zeros(2, 2)).frame == "zero"


def test_the_tolerance_is_that_of_the_norm():
    noise = torch.randn(5, 5, dtype=torch.float64, generator=generator(1))
    noise = noise / noise.norm() * EYE.norm()
    assert shape_of(EYE + 0.5e-6 * noise).frame == "orthogonal frame"
    assert shape_of(EYE + 1e-4 * noise).frame == "other"
    assert shape_of(EYE + 1e-4 * noise, tolerance=1e-3).frame == "orthogonal frame"


@pytest.mark.parametrize("loss", ["ce", "focal", "mse"])
@pytest.mark.parametrize("bias", ["none", "free", 0.01, 0.5])
@pytest.mark.parametrize("features", [3, 4])
def test_closed_forms_are_named_as_they_name_themselves(loss, bias, features):
    for decay in (1e-2, 1.0):
        known = optimum(
            UnconstrainedFeatures(classes=4, features=features, loss=loss, bias=bias, weight_decay=(decay, decay))
        )
        if known.known:
            assert shape_of(known.logits).frame == known.frame


@pytest.mark.parametrize("matrix", [torch.ones(2, 3), torch.ones(1, 1), torch.ones(4), torch.eye(3).long()])
def test_no_square_matrix(matrix):
    with pytest.raises(InputError):
        shape_of(matrix)


def plane(classes, bias="none"):
    return UnconstrainedFeatures(classes=classes, features=2, weight_decay=(2e-3, 2e-3), bias=bias)


def test_a_crowd_in_the_plane_is_a_polygon():
    found = crowd(plane(7), starts=3)
    assert found.largest_cosine == pytest.approx(math.cos(2 * math.pi / 7), abs=1e-7)
    assert found.cosine_bound == pytest.approx(math.cos(2 * math.pi / 7), abs=1e-14)
    assert found.evenness == pytest.approx(1, abs=1e-6)
    assert found.welch_bound == pytest.approx((5 / 12) ** 0.5)
    assert not found.solution.status.converged
    W = found.solution.W
    assert (found.largest_cosine, found.coherence) == (largest_cosine(W), coherence(W))


def test_the_lowest_of_the_starts_is_taken():
    # A free bias has minima of several heights in the plane.
    problem = plane(10, "free")
    one, many = crowd(problem, starts=1), crowd(problem, starts=6)
    assert one.share == 1
    assert 0 < many.share < 1
    assert many.share * 6 == pytest.approx(round(many.share * 6))
    assert many.solution.objective <= one.solution.objective


def test_enough_dimensions_are_certified():
    found = crowd(replace(plane(5), features=4), starts=2)
    assert found.solution.status.converged
    assert found.largest_cosine == pytest.approx(-0.25, abs=1e-9)
    assert found.share == 1


def test_rows_without_direction_have_no_angles():
    found = crowd(UnconstrainedFeatures(classes=4, features=2, weight_decay=(1.0, 1.0)), starts=1)
    assert (found.largest_cosine, found.coherence) == (None, None)
    with pytest.raises(InputError, match="starts is an integer of at least 1"):
        crowd(plane(4), starts=0)
