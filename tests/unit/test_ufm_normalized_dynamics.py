"""`descend_normalized` against a descent by autograd, and its honest ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.ufm.model import Point
from tightframe.ufm.normalized import NormalizedFeatures
from tightframe.ufm.normalized_dynamics import descend_normalized
from tightframe.ufm.normalized_optima import normalized_optimum

PROBLEM = NormalizedFeatures(classes=4, features=5, per_class=(1, 2, 3, 2), temperature=3.0)


def test_every_step_is_that_of_the_definition():
    start = PROBLEM.start(seed=3)
    W, H = start.W.clone(), start.H.clone()
    for _ in range(7):
        W.requires_grad_(), H.requires_grad_()
        loss = torch.nn.functional.cross_entropy(3.0 * (W @ H).T, PROBLEM.labels)
        in_W, in_H = torch.autograd.grad(loss, (W, H))
        with torch.no_grad():
            W = W - 0.7 * (in_W - (W * in_W).sum(1, keepdim=True) * W)
            H = H - 0.7 * (in_H - (H * in_H).sum(0) * H)
            W, H = W / W.norm(dim=1, keepdim=True), H / H.norm(dim=0)
    found = descend_normalized(PROBLEM, step=0.7, steps=7, start=start)
    torch.testing.assert_close(found.W, W, atol=1e-13, rtol=0)
    torch.testing.assert_close(found.H, H, atol=1e-13, rtol=0)
    assert found.objective == pytest.approx(PROBLEM.objective(W, H), abs=1e-14)


def test_the_descent_reaches_the_certified_minimum_on_unit_vectors():
    problem = NormalizedFeatures(classes=4, features=6, per_class=3, temperature=3.0)
    found = descend_normalized(problem, step=4.0, steps=600, seed=1)
    assert found.status.converged
    assert found.certificate.holds
    torch.testing.assert_close(found.W.norm(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(found.H.norm(dim=0), torch.ones(12, dtype=torch.float64))
    values = found.trace["objective"]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))


def test_looks_are_where_they_are_asked_for():
    seen = []

    def look(step, point):
        seen.append(step)
        return {"largest": float(point.W.max())}

    found = descend_normalized(PROBLEM, steps=25, every=10, observe=look)
    assert seen == found.trace["step"] == [0, 10, 20, 25]
    assert len(found.trace["largest"]) == 4
    assert descend_normalized(PROBLEM, steps=1).trace["step"] == [0, 1]


def test_the_ends_are_honest():
    short = descend_normalized(PROBLEM, step=0.1, steps=3)
    assert short.status.outcome == "budget spent"
    assert "raise steps" in short.status.message
    problem = NormalizedFeatures(classes=3, features=4, per_class=5, temperature=2.0)
    best = normalized_optimum(problem).point()
    noisy = best.H + 1e-3 * problem.start(seed=0).H
    near = Point(best.W, noisy / noisy.norm(dim=0), best.b)
    wild = descend_normalized(problem, step=1e6, steps=1, start=near)
    assert wild.status.outcome == "budget spent"
    assert "make step smaller" in wild.status.message


@pytest.mark.parametrize("changes", [{"step": 0.0}, {"step": float("nan")}, {"steps": 0}, {"every": 0}])
def test_what_makes_no_descent_is_refused(changes):
    with pytest.raises(InputError):
        descend_normalized(PROBLEM, **changes)


def test_a_start_with_nan_is_refused():
    start = PROBLEM.start()
    start.H[0, 0] = float("nan")
    with pytest.raises(InputError):
        descend_normalized(PROBLEM, start=start)
