"""Losses of an end-to-end matrix, and the step size at which their minimum repels."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.objective import Completion, Factorization, LeastSquares, as_objective
from tightframe.deeplinear.stability import stable_step


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def objectives() -> dict[str, object]:
    return {
        "samples": LeastSquares(drawn(4, 9), drawn(3, 9, seed=1)),
        "whitened": LeastSquares(torch.linalg.qr(drawn(4, 4)).Q, drawn(3, 4, seed=1)),
        "matrix": Factorization(drawn(3, 4)),
        "entries": Completion(drawn(3, 4), drawn(3, 4, seed=2) > 0),
    }


def written_out(name: str, objective, W: torch.Tensor) -> torch.Tensor:
    if name in ("samples", "whitened"):
        return 0.5 * (W @ objective.X - objective.Y).pow(2).sum()
    if name == "matrix":
        return 0.5 * (W - drawn(3, 4)).pow(2).sum()
    return 0.5 * ((W - drawn(3, 4))[drawn(3, 4, seed=2) > 0]).pow(2).sum()


@pytest.mark.parametrize("name", objectives())
def test_value_and_slope_are_those_of_the_formula(name):
    objective = objectives()[name]
    W = drawn(3, 4, seed=7).requires_grad_()
    value = written_out(name, objective, W)
    (slope,) = torch.autograd.grad(value, W)
    assert objective.value(W.detach()) == pytest.approx(float(value.detach()), rel=1e-14)
    torch.testing.assert_close(objective.slope(W.detach()), slope)
    zero = torch.zeros(3, 4, dtype=torch.float64)
    torch.testing.assert_close(objective.target, -objective.slope(zero))


@pytest.mark.parametrize("name", ["samples", "whitened", "matrix"])
def test_the_minimizer_is_a_point_without_slope(name):
    objective = objectives()[name]
    assert float(objective.slope(objective.minimizer()).abs().max()) < 1e-12


def test_whitened_inputs_are_recognised():
    assert objectives()["whitened"].whitened
    assert not objectives()["samples"].whitened


def test_the_curvature_is_the_largest_second_derivative():
    objective = objectives()["samples"]
    hessian = torch.autograd.functional.hessian(lambda W: written_out("samples", objective, W), drawn(3, 4))
    assert objective.curvature == pytest.approx(float(torch.linalg.eigvalsh(hessian.reshape(12, 12))[-1]), rel=1e-12)


def test_entries_that_are_not_observed_may_be_anything():
    Phi, observed = torch.tensor([[1.0, float("nan")]]), torch.tensor([[True, False]])
    assert Completion(Phi, observed).value(torch.tensor([[3.0, 100.0]])) == 2.0
    with pytest.raises(InputError, match="finite"):
        Completion(Phi, ~observed)


def test_the_estimate_of_the_minimizer_is_right_on_average():
    """The share of a mask is known exactly, so the mean of a constant matrix is too."""
    observed = drawn(6, 7) > 0.3
    estimate = Completion(torch.full((6, 7), 3.0, dtype=torch.float64), observed).minimizer()
    assert float(estimate.mean()) == pytest.approx(3.0, rel=1e-14)
    assert float(estimate[~observed].abs().max()) == 0.0


def test_what_counts_as_an_objective():
    assert isinstance(as_objective(drawn(2, 2)), Factorization)
    assert isinstance(as_objective(drawn(2, 2), drawn(1, 2)), LeastSquares)
    entries = objectives()["entries"]
    assert as_objective(entries) is entries
    for pair in ((entries, drawn(2, 2)), ("X", None)):
        with pytest.raises(InputError):
            as_objective(*pair)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LeastSquares(drawn(4, 9), drawn(3, 8)),
        lambda: LeastSquares(drawn(4, 9), drawn(3, 9).float()),
        lambda: LeastSquares(drawn(4), drawn(3, 9)),
        lambda: Factorization(torch.ones(2, 2, dtype=torch.int64)),
        lambda: Factorization(torch.tensor([[float("inf")]])),
        lambda: Factorization(torch.ones(0, 2)),
        lambda: Factorization(torch.ones(2, 2).half()),
        lambda: LeastSquares(torch.ones(2, 2).bfloat16(), torch.ones(2, 2).bfloat16()),
        lambda: Completion(drawn(2, 2), torch.ones(2, 2)),
        lambda: Completion(drawn(2, 2), torch.ones(2, 3, dtype=torch.bool)),
        lambda: Completion(drawn(2, 2), torch.zeros(2, 2, dtype=torch.bool)),
        lambda: stable_step(drawn(2, 2), depth=0),
        lambda: stable_step(drawn(2, 2), depth=2, momentum=1.0),
        lambda: stable_step(drawn(2, 2), depth=2, weight_decay=-1.0),
    ],
)
def test_bad_input(make):
    with pytest.raises(InputError):
        make()


def balanced(W: torch.Tensor, depth: int) -> list[torch.Tensor]:
    """Layers of equal singular values whose product is the square matrix W."""
    U, S, Vh = torch.linalg.svd(W)
    root = torch.diag(S ** (1 / depth))
    return [root @ Vh, *[root] * (depth - 2), U @ root]


def sharpness(objective, name: str, weights: list[torch.Tensor]) -> float:
    flat = torch.cat([W.reshape(-1) for W in weights])
    sizes, shapes = [W.numel() for W in weights], [W.shape for W in weights]

    def value(point: torch.Tensor) -> torch.Tensor:
        parts = [part.reshape(shape) for part, shape in zip(point.split(sizes), shapes, strict=True)]
        product = parts[0]
        for part in parts[1:]:
            product = part @ product
        if name == "samples":
            return 0.5 * (product @ objective.X - objective.Y).pow(2).sum()
        seen = product if name == "matrix" else product * objective.observed
        return 0.5 * (seen - objective.target).pow(2).sum()

    return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(value, flat))[-1])


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_bound_is_two_over_the_hessian_at_a_balanced_minimum(depth):
    objective = Factorization(drawn(3, 3))
    hessian = sharpness(objective, "matrix", balanced(objective.target, depth))
    assert stable_step(objective, depth=depth) == pytest.approx(2 / hessian, rel=1e-10)


def test_the_bound_is_sufficient_for_other_inputs():
    X = drawn(3, 7)
    objective = LeastSquares(X, drawn(3, 3, seed=1) @ X)
    hessian = sharpness(objective, "samples", balanced(objective.minimizer(), 3))
    assert 0.2 * 2 / hessian < stable_step(objective, depth=3) <= 2 / hessian


def test_the_bound_is_an_estimate_for_observed_entries():
    """One mask of 20 x 20 entries may differ from the average by some tens of percent."""
    Phi = drawn(20, 1) @ drawn(1, 20, seed=1)
    objective = Completion(Phi, drawn(20, 20, seed=2) > 0)
    hessian = sharpness(objective, "entries", balanced(Phi, 2))
    assert 0.5 * 2 / hessian < stable_step(objective, depth=2) < 1.5 * 2 / hessian


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_descent_leaves_the_minimum_above_the_bound_and_returns_below(momentum):
    Phi = drawn(3, 3)
    start = [W + 1e-6 * drawn(3, 3, seed=5) for W in balanced(Phi, 3)]
    edge = stable_step(Phi, depth=3, momentum=momentum)
    losses = [
        simulate(start, Phi, step=share * edge, steps=400, momentum=momentum, every=400, record=()).trace["loss"]
        for share in (0.98, 1.02)
    ]
    # The top direction is multiplied by 0.96 and by 1.04 in every step.
    assert losses[0][-1] < 1e-4 * losses[0][0]
    assert not losses[1][-1] < 1e4 * losses[1][0]


def test_decay_and_a_zero_target():
    assert stable_step(torch.zeros(2, 2), depth=3) == float("inf")
    assert stable_step(torch.zeros(2, 2), depth=3, weight_decay=0.5) == 4.0
