"""Extended models: theorems 4.1 and 4.2 as far as random starts show them, and where collapse is not optimal."""

from __future__ import annotations

import pytest
import torch

from tightframe.ufm.chain_certificate import nuclear_norms
from tightframe.ufm.chain_solvers import solve_deep
from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.levels import level_metrics
from tightframe.ufm.subsets import subset_point

# reference/collapse.md, section 4.
REFERENCE = {"classes": 4, "widths": (20, 20), "per_class": 50, "decays": (5e-3, 2.5e-3, 1e-5)}
MINIMUM = 0.0110248833


@pytest.mark.parametrize("seed", range(3))
def test_both_levels_of_the_linear_model_collapse(seed):
    problem = DeepUnconstrainedFeatures(**REFERENCE)
    solution = solve_deep(problem, seed=seed, collapse=False)
    assert solution.certificate.holds
    assert solution.objective == pytest.approx(MINIMUM, abs=5e-11)
    values = level_metrics(problem, problem.point_of(solution))
    # The objective is within 1e-16 of its minimum; metrics are square roots of that, over curvatures of about 1e-3.
    assert all(values[f"{name} of {level}"] < 1e-6 for name in ("NC1", "NC2 OF", "NC3 OF") for level in ("H1", "H2"))


@pytest.mark.parametrize("seed", range(3))
def test_with_relu_only_the_deeper_level_does(seed):
    problem = DeepUnconstrainedFeatures(**REFERENCE, activation="relu")
    solution = solve_deep(problem, seed=seed, collapse=False)
    point = problem.point_of(solution)
    # L-BFGS ends where rounding or a kink stops it.
    assert solution.objective == pytest.approx(MINIMUM, abs=1e-9)
    values = level_metrics(problem, point)
    assert all(values[f"{name} of H2"] < 1e-3 for name in ("NC1", "NC2 OF", "NC3 OF"))
    assert values["NC2 OF of H1"] > 0.05
    norms = nuclear_norms(problem, point)
    assert norms["nuclear norm after"] == pytest.approx(norms["nuclear norm before"], rel=1e-4)


def test_with_relu_the_free_level_need_not_even_have_full_rank():
    """Classes in opposite pairs: W1 H1 = a [[1, -1], [-1, 1]] has half the rank and the same nuclear norm."""
    problem = DeepUnconstrainedFeatures(**REFERENCE, activation="relu")
    best = deep_optimum(problem).point()
    a = float(problem.levels(best)[1].max())
    pair = a * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    left, values, right = torch.linalg.svd(torch.block_diag(pair, pair))
    level = (problem.decays[2] * 50 / problem.decays[1]) ** 0.25
    W1, means = torch.zeros(20, 20, dtype=torch.float64), torch.zeros(20, 4, dtype=torch.float64)
    W1[:4, :2] = (left * values.sqrt())[:, :2] * level
    means[:2] = (values.sqrt()[:, None] * right)[:2] / level
    W2 = torch.zeros(4, 20, dtype=torch.float64)
    W2[:, :4] = best.weights[0].max() * torch.eye(4, dtype=torch.float64)
    point = DeepPoint((W2, W1), means[:, problem.labels])
    assert int(torch.linalg.matrix_rank(point.H)) == 2
    assert problem.objective(point) == pytest.approx(deep_optimum(problem).value, rel=1e-13)


@pytest.mark.parametrize(("classes", "factors", "reach"), [(15, 3, 3), (10, 4, 3), (8, 4, 3), (6, 5, 2)])
@pytest.mark.parametrize("decay", [1e-2, 1e-3, 1e-4])
def test_pairs_beat_collapse_in_closed_form(classes, factors, reach, decay):
    problem = DeepUnconstrainedFeatures(
        classes=classes, widths=(2 * classes,) * (factors - 1), decays=(decay,) * factors, activation="relu"
    )
    low = subset_point(problem, reach=reach)
    assert problem.objective(low) < deep_optimum(problem).value * (1 - 1e-3)


def test_the_nuclear_norm_condition_of_theorem_4_2_fails_for_fifteen_classes():
    """A point of its model below the collapsed one: the minimum cannot satisfy the condition."""
    problem = DeepUnconstrainedFeatures(
        classes=15, widths=(30, 30), per_class=4, decays=(5e-3, 2.5e-3, 1e-5), activation="relu"
    )
    point = subset_point(problem, reach=3)
    assert problem.objective(point) < deep_optimum(problem).value * (1 - 1e-2)
    norms = nuclear_norms(problem, point)
    before, after = 5 * 24**0.5, 12**0.5 + 5 * 6**0.5 + 9 * 2**0.5
    assert norms["nuclear norm after"] / norms["nuclear norm before"] == pytest.approx(after / before, rel=1e-12)


@pytest.mark.parametrize("classes", [4, 6])
def test_with_cross_entropy_three_factors_and_six_classes_beat_the_simplex(classes):
    problem = DeepUnconstrainedFeatures(classes=classes, widths=(classes,) * 2, decays=(5e-3,) * 3, loss="ce")
    ratio = solve_deep(problem, starts=6).objective / deep_optimum(problem).value
    assert ratio == pytest.approx(1.0, abs=1e-9) if classes == 4 else ratio < 0.94


@pytest.mark.parametrize("factors", [4, 5])
def test_two_classes_are_never_below_collapse(factors):
    problem = DeepUnconstrainedFeatures(
        classes=2, widths=(5,) * (factors - 1), decays=(1e-3,) * factors, activation="relu"
    )
    least = deep_optimum(problem).value
    assert min(solve_deep(problem, seed=s, max_iterations=150).objective for s in range(3)) >= least * (1 - 1e-12)
