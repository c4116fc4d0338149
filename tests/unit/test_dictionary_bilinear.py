"""The bilinear Lasso: descent, stationarity by autograd, invariances, and recovery that needs the wide window."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.convolutional.bilinear import bilinear_lasso, sparsity_weights
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.descent import Descent, unit_kernels
from tightframe.dictionary.convolutional.lifting import (
    cropped,
    lifted,
    lifted_bilinear_lasso,
    recentred,
    renewed_spread,
)
from tightframe.dictionary.convolutional.shifts import match_kernels
from tightframe.dictionary.convolutional.starts import data_windows, random_kernels

BORDERS = ["circular", "zero", "valid"]


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def made(
    shape, size, *, count=2, channels=1, samples=1, density=0.02, noise=0.01, boundary="circular", seed=0, **codes
):
    """Signals, true kernels and true maps."""
    kernels = unit_kernels(draw(count, channels, *size, seed=100 + seed))
    operator = Convolution(shape, size, boundary=boundary, dtype=torch.float64)
    maps = sparse_codes((samples, count, *operator.map_shape), density, seed=200 + seed, **codes)
    signals = operator.synthesize(kernels, maps)
    return signals + noise * draw(*signals.shape, seed=300 + seed), kernels, maps


def value(signals, found, alpha, boundary, weights=1.0):
    operator = Convolution(signals.shape[2:], found.kernels.shape[2:], boundary=boundary, dtype=signals.dtype)
    bias = found.bias.view(*found.bias.shape, *[1] * (signals.ndim - 2))
    residual = signals - bias - operator.synthesize(found.kernels, found.maps)
    return 0.5 * residual.square().sum() + alpha * (weights * found.maps.abs()).sum()


@pytest.mark.parametrize("options", [{}, {"bias": True}, {"positive": True}, {"rank_one": True}, {"momentum": 0.0}])
@pytest.mark.parametrize("boundary", BORDERS)
def test_objective_never_rises_and_is_its_definition(boundary, options):
    signals, _, _ = made((60,), (6,), channels=2, samples=2, boundary=boundary)
    signals = signals + 0.5
    start = random_kernels(2, 2, (6,), seed=1)
    found = bilinear_lasso(signals, start, alpha=0.05, boundary=boundary, tolerance=1e-7, **options)
    assert found.objective == pytest.approx(float(value(signals, found, 0.05, boundary)), rel=1e-12)
    values = torch.tensor(found.trace["objective"], dtype=torch.float64)
    assert bool((values[1:] <= values[:-1] * (1 + 1e-14)).all())
    assert values[-1] < 0.7 * values[0]
    norms = found.kernels.flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.ones_like(norms), rtol=0, atol=1e-14)
    assert bool((found.bias == 0).all()) != options.get("bias", False)
    if options.get("positive"):
        assert bool((found.maps >= 0).all())
    if options.get("rank_one"):
        singular = torch.linalg.svdvals(found.kernels.flatten(2))
        assert bool((singular[:, 1:] < 1e-12).all())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("boundary", BORDERS)
@pytest.mark.parametrize("method", ["fft", "direct"])
def test_solution_is_stationary(method, boundary, bias):
    """Maps satisfy the Lasso's conditions, and the slope in each kernel is normal to the sphere, by autograd."""
    signals, _, _ = made((80,), (5,), boundary=boundary, density=0.05)
    found = bilinear_lasso(
        signals + bias,
        random_kernels(2, 1, (5,)),
        alpha=0.1,
        boundary=boundary,
        bias=bias,
        method=method,
        tolerance=1e-9,
        max_iterations=20_000,
    )
    assert found.status.converged
    operator = Convolution((80,), (5,), boundary=boundary, dtype=torch.float64)
    kernels, maps = found.kernels.clone().requires_grad_(), found.maps.clone().requires_grad_()
    # Sums of float64 by autograd through dense products of the definition: the operator is tested elsewhere.
    model = operator.synthesize(kernels, maps) + found.bias[..., None]
    to_kernels, to_maps = torch.autograd.grad(0.5 * (signals + bias - model).square().sum(), (kernels, maps))
    active = found.maps != 0
    # A step of relative size 1e-9 on maps of norm 10 and curvature below 10.
    assert (to_maps + 0.1 * found.maps.sign())[active].abs().max() < 1e-6
    assert to_maps[~active].abs().max() < 0.1 + 1e-6
    along = (to_kernels * found.kernels).flatten(1).sum(1).view(-1, 1, 1)
    assert (to_kernels - along * found.kernels).abs().max() < 1e-5
    if bias:
        assert float(found.bias) == pytest.approx(float((signals + 1 - model.detach() + found.bias[..., None]).mean()))


def test_a_scale_of_the_signals_is_a_scale_of_the_maps():
    signals, _, _ = made((100,), (7,))
    start = random_kernels(2, 1, (7,))
    # A power of two changes no rounding.
    one = bilinear_lasso(signals, start, alpha=0.1, homotopy=True, max_iterations=100)
    other = bilinear_lasso(1024 * signals, start, alpha=102.4, homotopy=True, max_iterations=100)
    assert torch.allclose(one.kernels, other.kernels, rtol=0, atol=1e-12)
    assert torch.allclose(1024 * one.maps, other.maps, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_no_scale_diverges(scale):
    signals, _, _ = made((100,), (7,))
    for kernels in (random_kernels(2, 1, (7,)), torch.ones(2, 1, 7, dtype=torch.float64)):
        found = bilinear_lasso(scale * signals, kernels, alpha=0.1 * scale, max_iterations=300)
        assert found.status.outcome in ("converged", "budget spent")
        assert found.objective < 0.5 * float((scale * signals).square().sum())


def test_penalties_of_the_homotopy_fall_to_the_one_asked_for():
    signals, _, _ = made((200,), (8,))
    start = data_windows(signals, 2, (8,))
    found = bilinear_lasso(signals, start, alpha=0.02, homotopy=True)
    penalties = found.trace["alpha"][1:]
    operator = Convolution((200,), (8,), dtype=torch.float64)
    largest = float(operator.correlate_kernels(start, signals).abs().max())
    assert penalties[0] == pytest.approx(0.5 * largest, rel=1e-9)
    assert penalties == sorted(penalties, reverse=True)
    assert penalties[-1] == 0.02
    assert len(set(penalties)) == 1 + math.ceil(math.log(0.02 / penalties[0]) / math.log(0.85))
    assert found.status.converged


def test_two_runs_are_the_same_and_a_clock_changes_nothing(monkeypatch):
    signals, _, _ = made((150,), (8,))
    start = data_windows(signals, 2, (8,))
    one = lifted_bilinear_lasso(signals, start, alpha=0.05)
    monkeypatch.setattr("time.perf_counter", iter(range(10**6)).__next__)
    other = lifted_bilinear_lasso(signals, start, alpha=0.05)
    assert torch.equal(one.kernels, other.kernels)
    assert other.trace["seconds"][-1] > one.trace["seconds"][-1]


def test_weights_are_their_formula():
    found = sparsity_weights(torch.tensor([0.0, 1.0, -3.0]), 1.0)
    assert torch.allclose(found, torch.tensor([1.0, 0.5, 0.25]))


def test_reweighting_takes_shrinkage_away():
    signals, kernels, maps = made((400,), (10,), count=1, density=0.02)
    options = {"alpha": 0.3, "tolerance": 1e-6}
    plain = bilinear_lasso(signals, kernels, maps=maps, **options)
    light = bilinear_lasso(signals, kernels, maps=maps, reweightings=4, **options)
    assert light.weights.shape == maps.shape
    assert light.objective == pytest.approx(float(value(signals, light, 0.3, "circular", light.weights)), rel=1e-10)
    large = maps.abs() > 0.5
    assert (light.maps - maps)[large].abs().mean() < 0.6 * (plain.maps - maps)[large].abs().mean()


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_window_finds_what_a_narrow_one_cuts(seed):
    signals, kernels, _ = made((2000,), (30,), count=1, density=30**-0.75, seed=seed)
    start = data_windows(signals, 1, (30,), seed=seed)
    wide = lifted_bilinear_lasso(signals, start, alpha=0.05)
    narrow = bilinear_lasso(signals, start, alpha=0.05, homotopy=True)
    assert float(match_kernels(wide.kernels, kernels).errors) < 0.03
    assert float(match_kernels(narrow.kernels, kernels).errors) > 0.2


def test_a_start_that_no_event_would_use_begins_with_the_other_sign():
    signals = torch.zeros(1, 1, 60, dtype=torch.float64)
    signals[0, 0, [5, 20, 41]] = 1.0
    signals[0, 0, [6, 21, 42]] = 0.5
    wrong = torch.tensor([[[-1.0, -0.1]]], dtype=torch.float64)
    found = bilinear_lasso(signals, wrong, alpha=0.05, positive=True)
    assert torch.allclose(found.kernels[0, 0], torch.tensor([1.0, 0.5]).double() / 1.25**0.5, atol=1e-2)
    assert (found.maps > 0).sum() == 3


@pytest.mark.parametrize("boundary", BORDERS)
def test_several_kernels_in_images_are_recovered(boundary):
    signals, kernels, _ = made((64, 60), (6, 5), count=3, density=0.006, boundary=boundary)
    start = data_windows(signals, 3, (6, 5), seed=1)
    found = lifted_bilinear_lasso(signals, start, alpha=0.05, boundary=boundary)
    assert found.status.converged
    assert float(match_kernels(found.kernels, kernels).similarity.min()) > 0.99
    assert found.maps.shape[2:] == Convolution((64, 60), (6, 5), boundary=boundary).map_shape
    sizes = found.trace["kernel size"]
    assert sizes[0] == 16 * 13
    assert sizes[-1] == 30
    assert found.trace["step"] == sorted(found.trace["step"])


@pytest.mark.parametrize("boundary", BORDERS)
@pytest.mark.parametrize(("moved", "near"), [((0, 0), False), ((-2, 1), False), ((-2, 3), True), ((4, -3), True)])
def test_cropping_and_recentring_keep_the_signals(moved, near, boundary):
    """A kernel that fits its window says the same before and after; with "valid" the wide operator is "zero".

    Windows of 13 and 10 leave 4 and 3 places on each side of kernels of 5 and 4: the last one of them is `near`.
    """
    shape, size = (40, 36), (5, 4)
    wide_border = "zero" if boundary == "valid" else boundary
    target = Convolution(shape, size, boundary=boundary, dtype=torch.float64)
    source = Convolution(shape, (13, 10), boundary=wide_border, dtype=torch.float64)
    kernels = lifted(unit_kernels(draw(2, 1, *size)), shape).roll(moved, (2, 3))
    maps = torch.zeros(1, 2, *source.map_shape, dtype=torch.float64)
    maps[0, :, 18:24, 15:21] = draw(2, 6, 6, seed=1)  # far from every border
    signals = source.synthesize(kernels, maps)
    centre, there, cut = recentred(kernels, maps, size, operator=source)
    assert cut == ([0, 1] if near else [])
    assert torch.allclose(source.synthesize(centre, there), signals, rtol=0, atol=1e-12)
    assert torch.allclose(centre, kernels.roll([-m for m in moved], (2, 3)), rtol=0, atol=1e-14)
    small, few = cropped(2 * kernels, 0.5 * maps, source=source, target=target)
    assert small.shape[2:] == size
    assert torch.allclose(target.synthesize(small, few), signals, rtol=0, atol=1e-12)


def test_multichannel_rank_one_recovers_vector_and_shape():
    left, right = unit_kernels(draw(2, 4, 1)), unit_kernels(draw(2, 1, 12, seed=1))
    kernels = left * right
    maps = sparse_codes((1, 2, 800), 0.02, seed=2)
    signals = Convolution((800,), (12,), dtype=torch.float64).synthesize(kernels, maps)
    signals = signals + 0.02 * draw(*signals.shape, seed=3)
    found = lifted_bilinear_lasso(signals, data_windows(signals, 2, (12,)), alpha=0.05, rank_one=True)
    assert float(match_kernels(found.kernels, kernels).similarity.min()) > 0.995


def test_unit_kernels_are_nearest():
    values = draw(3, 4, 6)
    for rank_one in (False, True):
        nearest = unit_kernels(values, rank_one=rank_one)
        left, right = draw(1000, 3, 4, 1, seed=1), draw(1000, 3, 1, 6, seed=2)
        others = left * right if rank_one else draw(1000, 3, 4, 6, seed=3)
        # Half of the rivals are near the answer: a bad maximiser would lose to some.
        others[:500] = nearest + 0.05 * others[:500] if not rank_one else others[:500]
        others = others / others.flatten(2).norm(dim=2)[..., None, None]
        assert bool(((others - values).flatten(2).norm(dim=2) >= (nearest - values).flatten(1).norm(dim=1)).all())
    assert torch.allclose(unit_kernels(torch.zeros(1, 1, 4)), torch.full((1, 1, 4), 0.5))


def test_status_says_what_happened():
    signals, _, _ = made((100,), (7,))
    short = bilinear_lasso(signals, random_kernels(2, 1, (7,)), alpha=0.05, max_iterations=3)
    assert short.status.outcome == "budget spent"
    assert "max_iterations" in short.status.message
    assert short.trace["step"] == [0, 1, 2, 3]
    above = bilinear_lasso(signals, random_kernels(2, 1, (7,)), alpha=100.0)
    assert above.status.converged
    assert not above.maps.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "penalty above zero"),
        ({"alpha": math.nan}, "penalty above zero"),
        ({"momentum": 1.0}, "momentum in"),
        ({"tolerance": -1.0}, "positive tolerance"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"reweightings": -1}, "reweightings"),
        ({"maps": torch.zeros(1, 2, 9)}, "maps of shape"),
        ({"signals": torch.full((1, 1, 30), torch.inf, dtype=torch.float64)}, "finite"),
        ({"signals": torch.zeros(1, 1, 30)}, "one floating-point precision"),
        ({"signals": torch.zeros(1, 2, 30, dtype=torch.float64)}, "channels"),
        ({"signals": torch.zeros(1, 1, 4, dtype=torch.float64)}, "no longer than"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"signals": draw(1, 1, 30), "kernels": draw(2, 1, 5), "alpha": 0.1, **change}
    with pytest.raises(InputError, match=message):
        bilinear_lasso(arguments.pop("signals"), arguments.pop("kernels"), **arguments)


def test_a_kernel_of_two_copies_begins_again_at_what_the_others_leave():
    """Three kernels, one of them two shifted copies: it alone is renewed, at a window of its own signal."""
    operator = Convolution((300,), (13,), dtype=torch.float64)
    kernels = lifted(unit_kernels(draw(3, 1, 5)), (300,))
    maps = sparse_codes((1, 3, 300), 0.03, seed=1)
    signals = operator.synthesize(kernels, maps)
    assert renewed_spread(kernels, maps, signals, (5,), operator=operator) is None
    double = kernels.clone()
    double[1] = unit_kernels(kernels[1:2].roll(-4, 2) + kernels[1:2].roll(4, 2))[0]
    renewed = renewed_spread(double, maps, signals, (5,), operator=operator)
    assert renewed is not None
    assert torch.equal(renewed[0][[0, 2]], kernels[[0, 2]])
    assert not renewed[1][:, 1].any()
    assert torch.equal(renewed[1][:, [0, 2]], maps[:, [0, 2]])
    own = operator.synthesize(kernels[1:2], maps[:, 1:2]).flatten()
    windows = (own - own.mean()).unfold(0, 5, 1)
    cosines = windows @ renewed[0][1, 0, 4:9] / windows.norm(dim=1)
    assert float(cosines.max()) > 1 - 1e-9
    everywhere = torch.ones(3, 1, 13, dtype=torch.float64)
    assert renewed_spread(everywhere, maps, signals, (5,), operator=operator) is None


def test_a_block_of_kernels_sees_what_those_before_have_become():
    """The first iteration against the formula: four kernels are taken together, the fifth and sixth after them."""
    kernels, signals, alpha = unit_kernels(draw(6, 1, 5)), draw(2, 1, 40, seed=1), 0.3
    operator = Convolution((40,), (5,), dtype=torch.float64)
    maps = draw(2, 6, 40, seed=2)
    descent = Descent(operator, signals, kernels, maps, bias=False, positive=False, rank_one=False, momentum=0.9)
    assert descent.advance(alpha)
    first, last = slice(0, 4), slice(4, 6)
    left = signals - operator.synthesize(descent.kernels[first], descent.maps[:, first])
    left = left - operator.synthesize(kernels[last], maps[:, last])
    curvature = operator.squared_norm_of_kernels(kernels[last])
    moved = maps[:, last] + operator.correlate_kernels(kernels[last], left) / curvature
    wanted = moved.sign() * (moved.abs() - alpha / curvature).clamp(min=0)
    assert torch.allclose(descent.maps[:, last], wanted, rtol=0, atol=1e-12)
    descent.reweight(sparsity_weights(descent.maps, 0.6))
    values = [descent.objective(alpha) for _ in range(60) if descent.advance(alpha)]
    assert all(after <= before * (1 + 1e-14) for before, after in pairwise(values))
