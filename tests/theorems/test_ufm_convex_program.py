"""(NVX) and (CVX) have the same solutions, with equal classes and without; and minority collapse has its threshold."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from tightframe.ufm.convex import solve_convex
from tightframe.ufm.merging import merging_decay, separation
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.solvers import solve

# What the ledger asks.
AGREE = 1e-8
SHAPES = {"equal": (20, 20, 20, 20), "two sizes": (60, 60, 6, 6, 6), "all sizes": (100, 40, 9, 1)}


def model(loss, bias, counts, decay=(5e-3, 5e-4)):
    return UnconstrainedFeatures(
        classes=len(counts), features=len(counts) + 2, per_class=counts, loss=loss, weight_decay=decay, bias=bias
    )


def logits_of_means(problem, solution):
    counts = torch.tensor(problem.counts)
    return solution.W @ solution.H[:, torch.cumsum(counts, 0) - counts]


@pytest.mark.parametrize(
    ("loss", "bias", "shape"), list(product(("ce", "ls", "mse"), ("none", "free", 0.02), SHAPES)), ids=str
)
def test_both_programs_have_one_solution(loss, bias, shape):
    problem = model(loss, bias, SHAPES[shape])
    convex = solve_convex(problem, subgradient_tolerance=1e-12)
    factored = solve(problem, seed=1, tolerance=1e-13)
    assert factored.objective == pytest.approx(convex.objective, abs=AGREE)
    torch.testing.assert_close(logits_of_means(problem, factored), convex.Z, rtol=0, atol=AGREE)
    shift = factored.b - convex.b
    if bias == "free" and loss != "mse":
        shift = shift - shift.mean()
    assert shift.abs().max() <= AGREE


@pytest.mark.parametrize(("loss", "bias"), list(product(("ce", "ls", "mse"), ("none", "free", 0.02))), ids=str)
@pytest.mark.parametrize("small", [1, 3, 10, 50])
def test_factored_solutions_merge_small_classes_exactly_from_the_threshold_on(loss, bias, small):
    counts = (50, 50, small, small)
    threshold = float(merging_decay(model(loss, bias, counts))[-1])
    for share, apart in ((0.97, True), (1.03, False)):
        problem = model(loss, bias, counts, decay=(share * threshold, share * threshold))
        found = solve(problem, seed=2, tolerance=1e-12)
        law = max(0.0, 1 - share) * threshold * problem.samples / small**0.5
        left = separation(problem, logits_of_means(problem, found), found.b)
        # With the curvature p/N of the loss, p of order 0.2 and N at most 200, a gap of 1e-12 leaves X uncertain by
        # sqrt(2e-12 N/p) = 5e-5, and outputs by a quarter of that.
        assert left == pytest.approx(law, abs=2e-5)
        assert (left > 1e-3) == apart
