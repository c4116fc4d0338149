"""Convolutional sparse coding against a Lasso on the dense matrix, and its gap against the true distance."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Lasso

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.sparse_coding import convolutional_sparse_coding

BORDERS = ["circular", "zero", "valid"]


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def dense(kernels, shape, boundary):
    """Columns: signals of single activations."""
    operator = Convolution(shape, kernels.shape[2:], boundary=boundary, dtype=kernels.dtype)
    count = len(kernels) * torch.tensor(operator.map_shape).prod()
    maps = torch.eye(int(count), dtype=kernels.dtype).view(-1, len(kernels), *operator.map_shape)
    return operator.synthesize(kernels, maps).flatten(1).T


def objective(matrix, signal, codes, penalty):
    return float(0.5 * (signal - matrix @ codes).square().sum() + (penalty * codes.abs()).sum())


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("boundary", BORDERS)
@pytest.mark.parametrize(("shape", "size"), [((30,), (5,)), ((8, 7), (3, 2))])
def test_solution_is_that_of_a_dense_lasso(shape, size, boundary, positive):
    kernels, signals, alpha = draw(2, 2, *size), draw(1, 2, *shape, seed=1), 0.7
    matrix, signal = dense(kernels, shape, boundary), signals.flatten()
    model = Lasso(alpha=alpha / len(signal), fit_intercept=False, tol=1e-12, max_iter=100_000, positive=positive)
    expected = torch.from_numpy(model.fit(matrix.numpy(), signal.numpy()).coef_)
    best = objective(matrix, signal, expected, alpha)
    found = convolutional_sparse_coding(
        signals, kernels, alpha=alpha, boundary=boundary, positive=positive, tolerance=1e-9
    )
    assert found.status.converged
    reached = objective(matrix, signal, found.maps.flatten(), alpha)
    assert found.objective == pytest.approx(reached, rel=1e-10)
    # The certificate: how far above the minimum at most. The minimum of the other solver is good to about 1e-10.
    assert -1e-9 * best <= reached - best <= found.certificate.gap + 1e-9 * best
    assert not positive or bool((found.maps >= 0).all())


def test_gap_bounds_the_distance_all_along():
    kernels, signals = draw(2, 1, 6), draw(2, 1, 40, seed=1)
    best = convolutional_sparse_coding(signals, kernels, alpha=0.3, tolerance=1e-11, max_iterations=20_000)
    assert best.status.converged
    rough = convolutional_sparse_coding(signals, kernels, alpha=0.3, tolerance=1e-6)
    for value, gap in zip(rough.trace["objective"], rough.trace["gap"], strict=True):
        assert value - best.objective <= gap * (1 + 1e-9) + 1e-9
    assert rough.trace["gap"][-1] < 1e-3 * rough.trace["gap"][0]


def test_largest_penalty_gives_zero_at_once():
    kernels, signals = draw(2, 1, 4), draw(1, 1, 20, seed=1)
    largest = float(Convolution((20,), (4,), dtype=torch.float64).correlate_kernels(kernels, signals).abs().max())
    above = convolutional_sparse_coding(signals, kernels, alpha=1.001 * largest, tolerance=1e-9)
    below = convolutional_sparse_coding(signals, kernels, alpha=0.98 * largest, tolerance=1e-9)
    assert above.trace["step"] == [0]
    assert not above.maps.any()
    assert below.maps.any()


def test_bias_is_the_joint_minimum():
    """Against a Lasso with an unpenalised intercept: one signal and channel has one."""
    kernels, signals = draw(2, 1, 5), 7 + draw(1, 1, 30, seed=1)
    matrix = dense(kernels, (30,), "valid")
    model = Lasso(alpha=0.5 / 30, fit_intercept=True, tol=1e-12, max_iter=100_000).fit(
        matrix.numpy(), signals.flatten().numpy()
    )
    found = convolutional_sparse_coding(
        signals, kernels, alpha=0.5, boundary="valid", bias=True, tolerance=1e-11, max_iterations=20_000
    )
    assert float(found.bias) == pytest.approx(model.intercept_, abs=1e-4)
    residual = signals.flatten() - matrix @ found.maps.flatten() - found.bias
    value = 0.5 * float(residual.square().sum()) + 0.5 * float(found.maps.abs().sum())
    assert found.objective == pytest.approx(value, rel=1e-10)


def test_weights_scale_the_columns():
    """Weights w are a penalty of one on w x: the same problem with columns divided by w."""
    kernels, signals = draw(2, 1, 4), draw(1, 1, 20, seed=1)
    weights = 0.2 + torch.rand(1, 2, 20, dtype=torch.float64, generator=generator(3))
    matrix, signal = dense(kernels, (20,), "circular"), signals.flatten()
    model = Lasso(alpha=0.4 / 20, fit_intercept=False, tol=1e-12, max_iter=100_000)
    scaled = torch.from_numpy(model.fit((matrix / weights.flatten()).numpy(), signal.numpy()).coef_)
    best = objective(matrix, signal, scaled / weights.flatten(), 0.4 * weights.flatten())
    found = convolutional_sparse_coding(signals, kernels, alpha=0.4, weights=weights, tolerance=1e-9)
    assert found.objective == pytest.approx(best, rel=1e-8)


def test_float32_reaches_its_tolerance_and_warm_starts_are_free():
    kernels, signals = draw(3, 1, 5, 5).float(), draw(2, 1, 32, 32, seed=1).float()
    found = convolutional_sparse_coding(signals, kernels, alpha=0.5)
    assert found.status.converged
    assert found.maps.dtype == torch.float32
    again = convolutional_sparse_coding(signals, kernels, alpha=0.5, maps=found.maps, tolerance=1.1e-4)
    assert again.trace["step"] == [0]


def test_budget_is_said_and_zero_signals_are_solved():
    kernels, signals = draw(2, 1, 6), draw(1, 1, 60, seed=1)
    short = convolutional_sparse_coding(signals, kernels, alpha=0.01, tolerance=1e-12, max_iterations=3)
    assert short.status.outcome == "budget spent"
    assert "max_iterations" in short.status.message
    silent = convolutional_sparse_coding(torch.zeros(1, 1, 60, dtype=torch.float64), kernels, alpha=0.1)
    assert silent.status.converged
    assert not silent.maps.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "above zero"),
        ({"tolerance": 0.0}, "above zero"),
        ({"signals": torch.full((1, 1, 9), torch.nan, dtype=torch.float64)}, "finite"),
        ({"signals": torch.zeros(1, 9, dtype=torch.float64)}, "channels"),
        ({"signals": torch.zeros(1, 1, 9)}, "one floating-point precision"),
        ({"weights": torch.zeros(())}, "weights above zero"),
        ({"maps": torch.zeros(1, 1, 8)}, "maps of shape"),
        ({"signals": torch.zeros(1, 1, 2, dtype=torch.float64)}, "no longer than"),
        ({"max_iterations": 0}, "max_iterations"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"signals": draw(1, 1, 9), "kernels": draw(1, 1, 3), "alpha": 0.1, **change}
    with pytest.raises(InputError, match=message):
        convolutional_sparse_coding(arguments.pop("signals"), arguments.pop("kernels"), **arguments)
