"""The convex program against its own optimality conditions, by autograd over all samples, and closed forms."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.ufm.certificate import certify
from tightframe.ufm.convex import factor, solve_convex
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum

LOSSES = {
    "ce": lambda Z, labels: functional.cross_entropy(Z.T, labels),
    "ls": lambda Z, labels: functional.cross_entropy(Z.T, labels, label_smoothing=0.1),
    "mse": lambda Z, labels: 0.5 * (Z.T - functional.one_hot(labels, len(Z))).square().sum() / len(labels),
    "rescaled": lambda Z, labels: (
        0.5
        * (
            (1 + 3 * functional.one_hot(labels, len(Z)))
            * (Z.T - 2 * functional.one_hot(labels, len(Z)))
            * (Z.T - 2 * functional.one_hot(labels, len(Z)))
        ).sum()
        / len(labels)
    ),
}
NAMED = {"rescaled": SquaredError(4.0, 2.0)}
BIASES = ("none", "free", 0.05)
SIZES = {"equal": (6, 6, 6, 6), "unequal": (40, 11, 11, 2, 1)}


def model(loss="ce", bias="none", counts=(6, 6, 6, 6), *, features=9, decay=(4e-3, 1e-2)):
    return UnconstrainedFeatures(
        classes=len(counts),
        features=features,
        per_class=counts,
        loss=NAMED.get(loss, loss),
        weight_decay=decay,
        bias=bias,
    )


@pytest.mark.parametrize(("loss", "bias", "sizes"), list(product(LOSSES, BIASES, SIZES)))
def test_the_solution_meets_the_optimality_conditions_over_all_samples(loss, bias, sizes):
    problem = model(loss, bias, SIZES[sizes])
    found = solve_convex(problem, subgradient_tolerance=1e-11)
    assert found.status.converged
    assert found.certificate.holds
    assert found.trace["subgradient norm"][-1] <= 1e-11 * problem.nuclear_decay
    labels = problem.labels
    Z = found.Z[:, labels].clone().requires_grad_()
    b = found.b.clone().requires_grad_()
    value = LOSSES[loss](Z + b[:, None], labels)
    G, in_b = torch.autograd.grad(value, (Z, b))
    nuclear, decay = float(torch.linalg.matrix_norm(Z.detach(), "nuc")), problem.nuclear_decay
    # -G in decay times the subdifferential of the nuclear norm at Z: spectral norm at most decay, inner product tight.
    assert float(torch.linalg.matrix_norm(G, 2)) <= decay * (1 + 1e-9)
    assert float((-G * Z.detach()).sum()) == pytest.approx(decay * nuclear, rel=1e-9)
    penalty = 0.0 if bias in ("none", "free") else bias
    if bias == "none":
        assert not found.b.any()
    else:
        # The gradient of the bias is a sum over samples; Newton's method leaves its rounding.
        assert float((in_b + penalty * found.b).abs().max()) < 1e-14
    objective = float(value.detach()) + decay * nuclear + penalty / 2 * float(found.b.square().sum())
    assert found.objective == pytest.approx(objective, rel=1e-13)


@pytest.mark.parametrize(("loss", "bias"), list(product(("ce", "ls", "mse", "rescaled"), BIASES)))
def test_balanced_classes_have_the_closed_form(loss, bias):
    problem = model(loss, bias)
    found, known = solve_convex(problem, subgradient_tolerance=1e-12), optimum(problem)
    assert found.objective == pytest.approx(known.value, abs=1e-12)
    # The subgradient over the curvature p/N of the loss, p of order 1e-2, and the root of the size of a class.
    torch.testing.assert_close(found.Z, known.logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.b, known.bias, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bias", ["none", "free"])
def test_squared_error_has_its_closed_form_for_any_sizes(bias):
    problem = model("mse", bias, (40, 11, 11, 2, 1))
    found, known = solve_convex(problem, subgradient_tolerance=1e-12), optimum(problem)
    assert found.objective == pytest.approx(known.value, abs=1e-13)
    torch.testing.assert_close(found.Z, known.logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.b, known.bias, rtol=0, atol=1e-10)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_a_large_decay_leaves_nothing_but_the_bias(loss):
    problem = model(loss, "free", (40, 11, 2), decay=(10.0, 10.0))
    found = solve_convex(problem)
    assert not found.Z.any()
    assert found.certificate.evidence["rank"] == 0
    shares = torch.tensor(problem.counts).double() / problem.samples
    best = shares.log() - shares.log().mean() if loss == "ce" else shares
    torch.testing.assert_close(found.b, best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_the_number_of_features_plays_no_part(loss):
    # Not where the gap stays open either: for few features a larger lower bound than the dual one may be known.
    problems = [model(loss, counts=(40, 11, 2), features=d) for d in (1, 50)]
    for options in ({}, {"tolerance": 1e-18, "max_iterations": 20}):
        few, many = (solve_convex(problem, **options) for problem in problems)
        assert torch.equal(few.Z, many.Z)
        assert few.trace["gap"] == many.trace["gap"]
        assert few.certificate.kind == many.certificate.kind == "dual gap"
        assert few.objective == many.objective


def test_unequal_decays_count_by_their_product():
    first, second = (solve_convex(model(counts=(40, 11, 2), decay=decay)) for decay in ((1e-2, 1e-4), (1e-3, 1e-3)))
    assert first.objective == pytest.approx(second.objective, abs=1e-12)


def test_the_gap_bounds_what_is_left_from_the_first_step_on():
    problem = model("ce", 0.05, (40, 11, 11, 2, 1))
    least = solve_convex(problem, tolerance=1e-13).objective
    trace = solve_convex(problem, tolerance=1e-10).trace
    assert trace.names == ("step", "objective", "gap", "subgradient norm", "step length")
    for objective, gap in zip(trace["objective"], trace["gap"], strict=True):
        assert -1e-13 <= objective - least <= gap + 1e-13
    assert trace["gap"][-1] <= 1e-10


def test_it_stops_early_and_says_so():
    found = solve_convex(model("ce", "free", (40, 11, 11, 2, 1)), max_iterations=2)
    assert found.status.outcome == "budget spent"
    assert "max_iterations" in found.status.message
    assert not found.certificate.holds
    assert found.certificate.gap > 1e-10


def test_sizes_a_million_apart_and_a_tiny_decay():
    for bias, decay in (("none", 1e-8), (0.01, 1e-6), ("free", 1e-4)):
        found = solve_convex(model("ce", bias, (1_000_000, 1), decay=(decay, decay)))
        assert found.status.converged
        assert found.certificate.gap >= -1e-13
        # With a free bias one step of Newton's method goes far along the direction that the loss does not see.
        assert abs(float(found.b.mean())) < 1e-12


def test_a_hundred_classes_take_seconds():
    counts = tuple(int(500 * 0.01 ** (k / 99)) for k in range(100))
    found = solve_convex(model("ce", "none", counts, decay=(5e-4, 5e-4)))
    assert found.certificate.holds
    assert found.certificate.evidence["rank"] <= 99


# -- factors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "bias", "sizes"), list(product(("ce", "mse"), BIASES, SIZES)))
def test_factors_are_minimisers_of_the_model(loss, bias, sizes):
    problem = model(loss, bias, SIZES[sizes])
    found = solve_convex(problem)
    point = factor(problem, found, seed=3)
    assert point.W.shape == (problem.classes, 9)
    assert point.H.shape == (9, problem.samples)
    torch.testing.assert_close(point.W @ point.H, found.Z[:, problem.labels], rtol=0, atol=1e-12)
    assert problem.objective(point.W, point.H, point.b) == pytest.approx(found.objective, rel=1e-12)
    assert certify(problem, point.W, point.H, point.b).holds
    # Equal shares of the decay in both factors.
    weights, features = problem.weight_decay
    assert weights * float(point.W.square().sum()) == pytest.approx(features * float(point.H.square().sum()), rel=1e-10)


def test_factors_need_as_many_features_as_the_rank():
    problem = model("ce", counts=(6, 6, 6, 6), features=3)
    found = solve_convex(problem)
    assert found.certificate.evidence["rank"] == 3
    assert certify(problem, *vars(factor(problem, found)).values()).holds
    with pytest.raises(InputError, match="d of at least 3"):
        factor(model("ce", counts=(6, 6, 6, 6), features=2), found)
    # Merged classes need less.
    merged = model("ce", counts=(98, 98, 1, 1), features=2, decay=(6e-3, 6e-3))
    found = solve_convex(merged)
    assert found.certificate.evidence["rank"] == 2
    assert certify(merged, *vars(factor(merged, found)).values()).holds


def test_factors_differ_by_a_rotation_only():
    problem = model()
    found = solve_convex(problem)
    first, second = (factor(problem, found, seed=seed) for seed in (0, 1))
    assert not torch.allclose(first.W, second.W, atol=1e-3)
    torch.testing.assert_close(first.W @ first.W.T, second.W @ second.W.T, rtol=0, atol=1e-12)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_convex_is_refused():
    with pytest.raises(InputError, match=r"a convex loss.*focal 2"):
        solve_convex(model(Focal(2.0)))
    assert solve_convex(model(Focal(0.0))).objective == pytest.approx(
        solve_convex(model(CrossEntropy())).objective, abs=2e-10
    )


@pytest.mark.parametrize("wrong", [{"tolerance": 0.0}, {"tolerance": math.nan}, {"subgradient_tolerance": -1.0}])
def test_tolerances_are_above_zero(wrong):
    with pytest.raises(InputError, match="tolerances above zero"):
        solve_convex(model(), **wrong)


def test_a_budget_is_a_count():
    with pytest.raises(InputError, match="max_iterations"):
        solve_convex(model(), max_iterations=0)


def test_factors_of_another_problem_are_refused():
    with pytest.raises(InputError, match="a solution for 3 classes"):
        factor(model(counts=(4, 4, 4)), solve_convex(model()))
