"""A step away from a saddle beside the objective itself, and the bound of the proof."""

from __future__ import annotations

import pytest

from tightframe.core.errors import InputError
from tightframe.ufm import UnconstrainedFeatures, optimum
from tightframe.ufm.critical_points import symmetric_point
from tightframe.ufm.departures import leave
from tightframe.ufm.landscape import classify


def model(**changes) -> UnconstrainedFeatures:
    given = {"classes": 4, "features": 6, "per_class": 5, "weight_decay": (5e-3, 1e-3)}
    return UnconstrainedFeatures(**given | changes)


@pytest.mark.parametrize("loss", ["ce", "ls", "focal", "mse"])
@pytest.mark.parametrize("built", [{"rank": 0}, {"rank": 2}, {"groups": [(0, 1)]}])
def test_numbers_are_those_of_the_objective(loss: str, built: dict) -> None:
    problem = model(loss=loss)
    saddle = symmetric_point(problem, **built)
    left = leave(problem, saddle, step=0.1)
    point, way = left.point, saddle.direction
    assert left.decrease == saddle.value - problem.objective(point.W, point.H, point.b)
    assert left.predicted == pytest.approx(-way.predicted / 2 * 0.1**2, rel=1e-12)
    assert left.slack == pytest.approx(0.1**4 * problem.loss.smoothness / (2 * 20), rel=1e-12)
    # WH moves by -t^2 u v^T, with unit vectors.
    change = point.W @ point.H - saddle.point.W @ saddle.point.H
    assert float(change.norm()) == pytest.approx(0.1**2, rel=1e-9)


@pytest.mark.parametrize("loss", ["ce", "ls", "focal", "mse"])
def test_the_step_that_is_not_given_leaves_one_percent_open(loss: str) -> None:
    problem = model(loss=loss)
    left = leave(problem, symmetric_point(problem, rank=1))
    assert left.slack == pytest.approx(0.01 * left.predicted, rel=1e-12)
    assert abs(left.decrease - left.predicted) <= left.slack + 1e-14
    # The squared error is a quadratic: the bound is attained.
    if loss == "mse":
        assert left.predicted - left.decrease == pytest.approx(left.slack, rel=1e-8)


def test_where_there_is_no_certified_direction_it_says_why() -> None:
    problem = model()
    best = classify(problem, optimum(problem).point())
    with pytest.raises(InputError, match="a point of kind 'global'"):
        leave(problem, best)
    with pytest.raises(InputError, match="not critical"):
        leave(problem, classify(problem, problem.start()))
    narrow = model(features=3, per_class=(20, 10, 10, 5), loss="mse", weight_decay=(5e-3, 5e-4))
    with pytest.raises(InputError, match="'strict saddle' without one"):
        leave(narrow, symmetric_point(narrow, groups=[(1, 2)]))


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_a_step_that_leads_nowhere_is_refused(step: float) -> None:
    problem = model()
    with pytest.raises(InputError, match="step above zero"):
        leave(problem, symmetric_point(problem, rank=0), step=step)
