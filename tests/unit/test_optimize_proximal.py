"""Proximal operators against brute-force minimisation; the accelerated method against scikit-learn and closed forms."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import Lasso

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.optimize.proximal import accelerated_proximal_gradient, singular_value_threshold, soft_threshold

# Sums of a few dozen numbers of order one in float64.
ROUNDING = 1e-13


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


# -- proximal operators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.0, 0.3, 1.7])
def test_soft_threshold_minimises_its_definition(amount):
    values = torch.cat([3 * draw(12), torch.tensor([0.0, amount, -amount], dtype=torch.float64)])
    moved, norm = soft_threshold(values, amount)
    for value, found in zip(values.tolist(), moved.tolist(), strict=True):

        def energy(x, value=value):
            return 0.5 * (x - value) ** 2 + amount * abs(x)

        best = minimize_scalar(energy, bounds=(-12, 12), method="bounded", options={"xatol": 1e-12})
        # The energy is strongly convex with constant one: an excess e in value is a distance of at most sqrt(2 e).
        assert energy(found) <= best.fun + ROUNDING
        assert abs(found - best.x) < 1e-6
    assert norm == pytest.approx(float(moved.abs().sum()), abs=ROUNDING)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (6, 2)])
@pytest.mark.parametrize("amount", [0.4, 1.5])
def test_singular_value_threshold_minimises_its_definition(shape, amount):
    matrix = draw(*shape, seed=sum(shape))
    moved, norm = singular_value_threshold(matrix, amount)
    assert norm == pytest.approx(float(torch.linalg.matrix_norm(moved, "nuc")), abs=ROUNDING)

    # The nuclear norm is the least (|A|^2 + |B|^2)/2 over X = AB, which is smooth in A and B.
    rows, columns = shape
    rank = min(shape)

    def energy(vector):
        A = vector[: rows * rank].reshape(rows, rank)
        B = vector[rows * rank :].reshape(rank, columns)
        residual = A @ B - matrix.numpy()
        value = 0.5 * (residual**2).sum() + amount / 2 * ((A**2).sum() + (B**2).sum())
        return value, numpy.concatenate([(residual @ B.T + amount * A).ravel(), (A.T @ residual + amount * B).ravel()])

    start = draw((rows + columns) * rank, seed=9).numpy()
    best = minimize(energy, start, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})
    value = 0.5 * float((moved - matrix).square().sum()) + amount * norm
    assert value == pytest.approx(best.fun, abs=1e-10)
    found = best.x[: rows * rank].reshape(rows, rank) @ best.x[rows * rank :].reshape(rank, columns)
    # Strong convexity again, with the excess that BFGS leaves.
    assert numpy.abs(found - moved.numpy()).max() < 1e-5


def test_no_threshold_changes_nothing_and_a_large_one_leaves_zero():
    matrix = draw(4, 3)
    torch.testing.assert_close(singular_value_threshold(matrix, 0.0)[0], matrix, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(soft_threshold(matrix, 0.0)[0], matrix, rtol=0, atol=0)
    for operator in (singular_value_threshold, soft_threshold):
        moved, norm = operator(matrix, 100.0)
        assert not moved.any()
        assert moved.shape == matrix.shape
        assert norm == 0


def test_the_rank_falls_to_the_number_of_singular_values_above_the_threshold():
    left, right = (torch.linalg.qr(draw(5, 5, seed=seed)).Q for seed in (1, 2))
    matrix = left @ torch.diag(torch.tensor([4.0, 3.0, 2.0, 0.5, 0.1]).double()) @ right
    moved, norm = singular_value_threshold(matrix, 1.0)
    assert norm == pytest.approx(6.0, abs=ROUNDING)
    assert torch.linalg.svdvals(moved).tolist() == pytest.approx([3, 2, 1, 0, 0], abs=ROUNDING)


@pytest.mark.parametrize("operator", [soft_threshold, singular_value_threshold])
@pytest.mark.parametrize("amount", [-0.1, math.nan])
def test_a_threshold_is_at_least_zero(operator, amount):
    with pytest.raises(InputError, match="threshold of at least zero"):
        operator(draw(2, 2), amount)


# -- the accelerated method --------------------------------------------------------------------------------------------


class Regression:
    """A lasso, |A x - y|^2/2 + tau |x|_1, with its duality gap."""

    def __init__(self, samples=30, atoms=50, tau=1.5, seed=4):
        self.A, self.tau = draw(samples, atoms, seed=seed), tau
        truth = torch.zeros(atoms, dtype=torch.float64)
        truth[:5] = torch.tensor([3.0, -2.0, 1.0, 4.0, -1.0])
        self.y = self.A @ truth + 0.1 * draw(samples, seed=seed + 1)

    @property
    def smoothness(self):
        return float(torch.linalg.matrix_norm(self.A, 2)) ** 2

    def smooth(self, x):
        residual = self.A @ x - self.y
        return 0.5 * float(residual.square().sum()), self.A.T @ residual

    def prox(self, v, step):
        moved, norm = soft_threshold(v, step * self.tau)
        return moved, self.tau * norm

    def gap(self, x):
        residual = self.y - self.A @ x
        shrink = min(1.0, self.tau / float((self.A.T @ residual).abs().max()))
        dual = 0.5 * float(self.y.square().sum()) - 0.5 * float((shrink * residual - self.y).square().sum())
        return self.smooth(x)[0] + self.tau * float(x.abs().sum()) - dual

    def solved(self, **options):
        given = {"step": 1 / self.smoothness, "gap": self.gap} | options
        start = torch.zeros(self.A.shape[1], dtype=torch.float64)
        return accelerated_proximal_gradient(self.smooth, self.prox, start, **given)


@pytest.mark.parametrize("tau", [0.3, 1.5, 20.0])
def test_the_lasso_is_that_of_scikit_learn(tau):
    lasso = Regression(tau=tau)
    found = lasso.solved(tolerance=1e-11, subgradient_tolerance=1e-9)
    assert found.status.converged
    samples = len(lasso.y)
    theirs = Lasso(alpha=tau / samples, fit_intercept=False, tol=1e-15, max_iter=100_000)
    theirs.fit(lasso.A.numpy(), lasso.y.numpy())
    # The Gram matrix of the few columns in use has eigenvalues above 1, so that digits of x follow the subgradient's.
    assert torch.from_numpy(theirs.coef_).sub(found.x).abs().max() < 1e-7
    assert found.objective == pytest.approx(lasso.smooth(found.x)[0] + tau * float(found.x.abs().sum()), rel=1e-14)


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_the_first_step_may_be_far_too_short_or_too_long(factor):
    lasso = Regression()
    found = lasso.solved(step=factor / lasso.smoothness, tolerance=1e-10)
    assert found.status.converged
    assert found.objective == pytest.approx(lasso.solved(tolerance=1e-12).objective, abs=2e-10)


def test_it_is_accelerated():
    # Plain proximal gradient needs about condition * log(1/gap)/2 = 1e5 steps, an accelerated method about 1e3.
    bend = torch.logspace(-4, 0, 200, dtype=torch.float64)
    goal = 1 / bend.sqrt()

    def smooth(x):
        return 0.5 * float((bend * (x - goal).square()).sum()), bend * (x - goal)

    def gap(x):
        return 0.5 * float((bend * (x - goal).square()).sum())

    found = accelerated_proximal_gradient(
        smooth, lambda v, step: (v, 0.0), torch.zeros_like(goal), gap=gap, step=1.0, tolerance=1e-9, max_iterations=3000
    )
    assert found.status.converged
    assert found.trace["step"][-1] < 2500


def test_the_gap_is_the_stopping_rule_and_what_is_returned():
    lasso = Regression()
    found = lasso.solved(tolerance=1e-6, every=7)
    assert found.certificate.kind == "dual gap"
    assert found.certificate.gap == lasso.gap(found.x) == found.trace["gap"][-1]
    assert found.certificate.gap <= 1e-6 < found.trace["gap"][-2]
    assert all(step % 7 == 0 for step in found.trace["step"])
    assert found.trace.names == ("step", "objective", "gap", "subgradient norm", "step length")
    # The bound is a bound: what is left is no more than it says.
    best = lasso.solved(tolerance=1e-12).objective
    for objective, gap in zip(found.trace["objective"], found.trace["gap"], strict=True):
        assert -1e-11 <= objective - best <= gap + 1e-11


def test_the_subgradient_tells_how_exact_the_point_is():
    lasso = Regression()
    coarse = lasso.solved(tolerance=1e-5)
    fine = lasso.solved(tolerance=1e-5, subgradient_tolerance=1e-10)
    assert fine.trace["subgradient norm"][-1] <= 1e-10 < coarse.trace["subgradient norm"][-1]
    # Zero is within that distance of the subdifferential: check it from the definition.
    slope = lasso.smooth(fine.x)[1]
    used = fine.x != 0
    off = (slope + lasso.tau * torch.sign(fine.x))[used]
    assert float(torch.linalg.vector_norm(off)) <= 1e-10 + ROUNDING
    assert float(slope[~used].abs().max()) <= lasso.tau + 1e-10


def test_without_a_penalty_the_subgradient_is_the_gradient():
    lasso = Regression(samples=60, atoms=20)
    plain = accelerated_proximal_gradient(
        lasso.smooth,
        lambda v, step: (v, 0.0),
        torch.zeros(20, dtype=torch.float64),
        gap=lambda x: float(torch.linalg.vector_norm(lasso.smooth(x)[1])),
        step=1 / lasso.smoothness,
        tolerance=1e-3,
        every=1,
    )
    assert plain.status.converged
    assert len(plain.trace) > 5
    # Differences of gradients of order 1e2 to begin with.
    assert plain.trace["subgradient norm"] == pytest.approx(plain.trace["gap"], rel=1e-9, abs=1e-11)


def test_it_works_on_matrices_of_float32():
    goal = draw(4, 3).float()
    best, norm = singular_value_threshold(goal, 0.5)
    least = 0.5 * float((best - goal).square().sum()) + 0.5 * norm

    def gap(X):
        return 0.5 * float((X - goal).square().sum()) + 0.5 * float(torch.linalg.matrix_norm(X, "nuc")) - least

    found = accelerated_proximal_gradient(
        lambda X: (0.5 * float((X - goal).square().sum()), X - goal),
        lambda V, s: (singular_value_threshold(V, 0.5 * s)[0], 0.5 * singular_value_threshold(V, 0.5 * s)[1]),
        torch.zeros(4, 3),
        gap=gap,
        step=0.1,
        tolerance=1e-5,
    )
    assert found.status.converged
    assert found.x.dtype == torch.float32
    torch.testing.assert_close(found.x, best, rtol=0, atol=5e-3)


# -- endings -----------------------------------------------------------------------------------------------------------


def test_a_spent_budget_is_no_success():
    found = Regression().solved(tolerance=1e-12, max_iterations=3)
    assert found.status.outcome == "budget spent"
    assert "max_iterations" in found.status.message
    assert not found.certificate.holds
    assert found.trace["step"] == [3]


def test_a_gap_that_never_closes_ends_as_stalled():
    lasso = Regression()
    found = lasso.solved(gap=lambda x: lasso.gap(x) + 1.0, tolerance=1e-9, max_iterations=50_000)
    assert found.status.outcome == "stalled"
    assert found.trace["step"][-1] < 20_000
    assert found.certificate.gap == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("last", [28, 29, 30, 31])
def test_values_that_are_no_numbers_end_as_diverged(last):
    # Two or three evaluations a step: at the extrapolated point, or at what the proximal operator made of it.
    lasso = Regression()
    seen = []

    def broken(x):
        seen.append(x)
        value, slope = lasso.smooth(x)
        return (value, slope) if len(seen) < last else (math.nan, math.nan * slope)

    def prox(v, step):
        assert not v.isnan().any()  # a decomposition would not end
        return lasso.prox(v, step)

    start = torch.zeros(50, dtype=torch.float64)
    found = accelerated_proximal_gradient(broken, prox, start, gap=lasso.gap, step=1e-3)
    assert found.status.outcome == "diverged"
    assert not found.certificate.holds


def test_a_start_needs_a_value():
    start = torch.full((50,), math.nan, dtype=torch.float64)
    lasso = Regression()
    with pytest.raises(InputError, match="start with a finite value"):
        accelerated_proximal_gradient(lasso.smooth, lasso.prox, start, gap=lasso.gap, step=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": 0.0},
        {"tolerance": math.nan},
        {"subgradient_tolerance": -1.0},
        {"step": 0.0},
        {"max_iterations": 0},
        {"every": 0},
    ],
)
def test_what_is_asked_must_make_sense(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Regression().solved(**wrong)
