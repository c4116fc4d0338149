"""Closed forms on spheres against the stated values, against solutions, and never undercut by any point."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightframe.core.errors import InputError
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.normalized import NormalizedFeatures
from tightframe.ufm.normalized_optima import normalized_optimum, proven_temperature
from tightframe.ufm.normalized_solvers import solve_normalized


def model(classes=4, features=8, temperature=5.0, loss="ce", counts=2):
    return NormalizedFeatures(classes=classes, features=features, per_class=counts, temperature=temperature, loss=loss)


COVERED = [
    model(),
    model(features=3),
    model(features=4, temperature=12.0),
    model(2, 2, 1.0),
    model(5, 4, 0.3),
    model(loss=CrossEntropy(0.1), temperature=1.0),
    model(loss=CrossEntropy(0.1), features=3, temperature=1.0),
    model(loss=CrossEntropy(0.1), features=4, temperature=5.0),  # beyond the margin that smoothing wants
    model(3, 7, 8.0, loss=CrossEntropy(0.3)),
    model(loss=Focal(2.0), temperature=5.0),
    model(loss=Focal(0.5), features=3, temperature=2.0),
]


def test_the_stated_value():
    assert normalized_optimum(model()).value == pytest.approx(0.00381063171, abs=1e-11)


@pytest.mark.parametrize("problem", COVERED, ids=str)
def test_the_minimiser_has_the_value(problem):
    optimum = normalized_optimum(problem)
    assert optimum.known
    point = optimum.point(seed=3)
    # Rounding of a loss near 1 is 1e-16 per operation.
    assert problem.objective(point.W, point.H) == pytest.approx(optimum.value, abs=1e-14)
    gram = point.W @ point.W.T
    expected = torch.full_like(gram, optimum.cosine).fill_diagonal_(1.0)
    assert torch.allclose(gram, expected, atol=1e-14)
    other = optimum.point(seed=4)
    assert not torch.allclose(point.W, other.W, atol=1e-3)
    assert problem.form(point.W, point.H).gradient_norm < 1e-13


@pytest.mark.parametrize("problem", COVERED, ids=str)
def test_descent_finds_the_value_and_nothing_below(problem):
    optimum = normalized_optimum(problem)
    values = [solve_normalized(problem, seed=seed).objective for seed in range(4)]
    assert min(values) == pytest.approx(optimum.value, abs=1e-11)
    assert min(values) >= optimum.value - 1e-14


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 6),
    features=st.integers(2, 7),
    temperature=st.floats(0.05, 30),
    smoothing=st.sampled_from([0.0, 0.1, 0.6]),
)
def test_no_point_is_below_the_bound(seed, classes, features, temperature, smoothing):
    problem = model(classes, features, temperature, CrossEntropy(smoothing))
    start = problem.start(seed=seed)
    # The point itself, and the best features for these classifiers that copying them gives.
    for H in (start.H, start.W.T[:, problem.labels]):
        assert problem.objective(start.W, H) >= normalized_optimum(problem).bound - 1e-13


def test_smoothing_stops_the_margin_where_its_targets_are_met():
    optimum = normalized_optimum(model(loss=CrossEntropy(0.1), temperature=5.0))
    share = 1 - 0.1 * 3 / 4
    assert optimum.margin == pytest.approx(math.log(3 * share / (1 - share)))
    point = optimum.point()
    probabilities = torch.softmax(5.0 * point.W @ point.W.T, dim=0)
    assert torch.allclose(probabilities.diagonal(), torch.full((4,), share).double(), atol=1e-14)
    assert optimum.cosine > -1 / 3


def test_fewer_dimensions_than_the_frame_needs_leave_a_bound():
    optimum = normalized_optimum(model(features=2, temperature=3.0))
    assert not optimum.known
    assert optimum.value is None
    assert optimum.bound == normalized_optimum(model(features=3, temperature=3.0)).value
    assert "d = 2" in optimum.reason
    assert optimum.welch == pytest.approx(math.sqrt(2 / (2 * 3)))
    with pytest.raises(InputError, match="d = 2"):
        optimum.point()
    # Where the classes share a direction, one more dimension is needed.
    assert not normalized_optimum(model(features=3, loss=CrossEntropy(0.1))).known
    assert normalized_optimum(model(features=4, loss=CrossEntropy(0.1))).known


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (model(counts=(1, 2, 2, 2)), "unequal"),
        (model(loss=SquaredError()), "squared error"),
        (model(30, 32, 0.1, Focal(5.0)), "focal"),
    ],
)
def test_what_is_not_known_is_said(problem, words):
    optimum = normalized_optimum(problem)
    assert not optimum.known
    assert optimum.bound is None
    assert words in optimum.reason


def test_no_vectors_are_below_the_welch_bound():
    for classes, features in ((5, 2), (6, 3), (9, 4)):
        problem = model(classes, features, counts=1)
        W = problem.start(seed=0).W
        coherence = float((W @ W.T).fill_diagonal_(0).abs().max())
        assert coherence >= normalized_optimum(problem).welch > 0
    assert normalized_optimum(model(4, 4)).welch == 0
    # Mercedes-Benz frames meet it: three vectors in the plane at 120 degrees.
    assert normalized_optimum(model(3, 2)).welch == pytest.approx(0.5)


def test_the_proven_temperatures():
    assert proven_temperature(4, 8) == 12
    assert proven_temperature(3, 5) == pytest.approx(6 / (4 / 3))
    assert proven_temperature(10, 10) == proven_temperature(10, 4) == 0
    for classes, features in ((1, 4), (4, 1)):
        with pytest.raises(InputError):
            proven_temperature(classes, features)
