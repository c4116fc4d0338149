"""The classifier of fixed, perturbed features: closed form against gradients, factor against exact moments."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ufm.losses import Focal, SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.perturbed import attenuation, expected_error, perturbed_features, ridge_classifier


def mse(**changes) -> UnconstrainedFeatures:
    settings = {"classes": 4, "features": 7, "per_class": 50, "loss": "mse", "weight_decay": (5e-3, 5e-5)} | changes
    return UnconstrainedFeatures(**settings)


def exactly_spread(problem: UnconstrainedFeatures, noise: float) -> torch.Tensor:
    """Noise (d, n) with class means of zero and second moment noise^2 I, up to rounding."""
    draws = torch.randn(problem.features, problem.samples, dtype=torch.float64, generator=generator(7))
    for k in range(problem.classes):
        mine = problem.labels == k
        draws[:, mine] -= draws[:, mine].mean(1, keepdim=True)
    whitener = torch.linalg.cholesky(draws @ draws.T / problem.samples)
    return noise * torch.linalg.solve_triangular(whitener, draws, upper=False)


@pytest.mark.parametrize("bias", ["none", "free", 0.02])
@pytest.mark.parametrize("target", [1.0, 3.0])
@pytest.mark.parametrize("counts", [6, (3, 9, 1, 4)])
def test_the_ridge_classifier_is_where_the_gradient_vanishes(bias, target, counts):
    problem = mse(bias=bias, per_class=counts, loss=SquaredError(target=target))
    H = problem.start(seed=1).H + 2.0
    found = ridge_classifier(problem, H)
    W, b = (value.clone().requires_grad_() for value in (found.W, found.b))
    residual = W @ H + b[:, None] - target * torch.nn.functional.one_hot(problem.labels).double().T
    value = residual.square().sum() / (2 * problem.samples) + problem.weight_decay[0] / 2 * W.square().sum()
    if bias == 0.02:
        value = value + 0.01 * b.square().sum()
    gradients = torch.autograd.grad(value, [W] if bias == "none" else [W, b])
    assert all(float(gradient.abs().max()) < 1e-13 for gradient in gradients)
    assert torch.equal(found.H, H)
    assert bool(found.b.any()) is (bias != "none")


@pytest.mark.parametrize("bias", ["none", "free", 0.05])
def test_without_noise_the_optimal_classifier_comes_back(bias):
    problem = mse(bias=bias)
    point = perturbed_features(problem, 0.0, seed=3)
    found = ridge_classifier(problem, point.H)
    torch.testing.assert_close(found.W, point.W, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.b, point.b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("bias", "features"), [("none", 4), ("none", 7), ("free", 3), ("free", 7)])
@pytest.mark.parametrize("noise", [0.1, 1.0, 5.0])
def test_noise_of_exact_moments_leaves_exactly_the_factor(bias, features, noise):
    """The theorem without its limit: every sum over the noise has the value that it tends to."""
    problem = mse(bias=bias, features=features, loss=SquaredError(target=2.0))
    best = optimum(problem).point(seed=2)
    found = ridge_classifier(problem, best.H + exactly_spread(problem, noise))
    torch.testing.assert_close(found.W, attenuation(problem, noise) * best.W, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found.b, best.b, rtol=1e-11, atol=1e-11)


def test_the_factor_is_that_of_the_source():
    problem = mse()
    rho = float(optimum(problem).point().H[:, 0].square().sum())
    assert attenuation(problem, 0.5) == pytest.approx((rho / 4 + 5e-3) / (rho / 4 + 5e-3 + 0.25), rel=1e-12)
    assert attenuation(problem, 0.0) == 1.0


def test_a_regularised_bias_does_not_keep_the_direction():
    problem = mse(bias=0.02)
    best = optimum(problem).point(seed=2)
    found = ridge_classifier(problem, best.H + exactly_spread(problem, 1.0)).W
    cosine = float((found * best.W).sum() / (found.norm() * best.W.norm()))
    assert cosine < 0.999


@pytest.mark.parametrize(
    ("classes", "features", "bias", "noise", "target"),
    [
        (4, 5, "none", 0.5, 1.0),
        (4, 5, "free", 2.0, 3.0),
        (4, 12, "none", 0.1, 1.0),
        (3, 8, "free", 0.5, 1.0),
        (2, 2, "none", 0.8, 1.0),
    ],
)
def test_the_error_is_the_expected_one(classes, features, bias, noise, target):
    """Mean of |What - aW|^2 over as many seeds as tell the terms of the formula apart."""
    problem = mse(
        classes=classes,
        features=features,
        bias=bias,
        per_class=400,
        weight_decay=(5e-3, 5e-6),
        loss=SquaredError(target=target),
    )
    factor, squares, seeds = attenuation(problem, noise), [], 1200 if features == 2 else 300
    for seed in range(seeds):
        point = perturbed_features(problem, noise, seed=seed)
        squares.append(float((ridge_classifier(problem, point.H).W - factor * point.W).square().sum()))
    values = torch.tensor(squares, dtype=torch.float64)
    error = float(values.std()) / seeds**0.5  # of the mean
    # Beyond three standard errors, 4 d/N of the square for what the next order adds.
    slack = 3 * error + 4 * features / problem.samples * float(values.mean())
    assert abs(float(values.mean()) - expected_error(problem, noise) ** 2) < slack


@pytest.mark.parametrize("distribution", ["normal", "uniform", "laplace"])
def test_the_noise_has_mean_zero_and_the_variance_asked_for(distribution):
    problem = mse(per_class=5000)
    still, point = (perturbed_features(problem, s, seed=4, distribution=distribution) for s in (0.0, 0.5))
    noise = (point.H - still.H) / 0.5
    assert torch.equal(point.W, still.W)
    count = noise.numel()
    # Four standard errors; the fourth moment is at most 6 (Laplace).
    assert abs(float(noise.mean())) < 4 / count**0.5
    assert abs(float(noise.square().mean()) - 1) < 4 * (5 / count) ** 0.5
    kurtosis = {"normal": 3.0, "uniform": 1.8, "laplace": 6.0}[distribution]
    assert float(noise.pow(4).mean()) == pytest.approx(kurtosis, rel=0.15)


def test_frame_and_noise_are_drawn_apart():
    problem = mse(features=8, per_class=4)
    still, point, again = (perturbed_features(problem, s, seed=0) for s in (0.0, 1.0, 1.0))
    assert torch.equal(point.H, again.H)
    assert not torch.allclose(still.W, perturbed_features(problem, 0.0, seed=1).W)
    # A frame placed by the numbers that the noise begins with would span the same columns.
    first = (point.H - still.H).flatten()[: 8 * 4].view(8, 4)
    basis = torch.linalg.qr(first).Q
    assert not torch.allclose(basis @ (basis.T @ still.H), still.H, atol=1e-2)


@pytest.mark.parametrize("loss", ["ce", "ls", "focal", Focal(1.0), SquaredError(scale=5.0)], ids=str)
def test_losses_without_a_closed_form_are_refused(loss):
    problem = mse(loss=loss)
    for call in (lambda: attenuation(problem, 0.1), lambda: ridge_classifier(problem, problem.start().H)):
        with pytest.raises(InputError, match="plain squared error"):
            call()


@pytest.mark.parametrize(
    "changes", [{"bias": 0.1}, {"per_class": (5, 4, 5, 5)}, {"features": 3}, {"bias": "free", "features": 2}]
)
def test_models_that_the_theorem_does_not_cover_are_refused(changes):
    for function in (attenuation, expected_error):
        with pytest.raises(InputError, match="balanced classes"):
            function(mse(**changes), 0.1)


def test_a_minimiser_of_zero_has_no_factor():
    with pytest.raises(InputError, match="Lower weight_decay"):
        attenuation(mse(weight_decay=(1.0, 1.0)), 0.1)


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_noise_is_finite_and_not_below_zero(noise):
    for function in (attenuation, expected_error, perturbed_features):
        with pytest.raises(InputError, match="at least 0"):
            function(mse(), noise)


def test_other_bad_input_is_refused():
    problem = mse()
    with pytest.raises(InputError, match="distribution is"):
        perturbed_features(problem, 0.1, distribution="cauchy")
    with pytest.raises(InputError, match="H has shape"):
        ridge_classifier(problem, problem.start().H[:, 1:])
    with pytest.raises(InputError, match="H is finite"):
        ridge_classifier(problem, problem.start().H * math.nan)
    with pytest.raises(InputError, match="H is a floating-point tensor"):
        ridge_classifier(problem, [[1.0]])
