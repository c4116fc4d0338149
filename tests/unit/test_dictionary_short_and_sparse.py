"""Short-and-sparse deconvolution: both half-steps by their definitions, starts, evidence, and recovery."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.blind import short_and_sparse
from tightframe.dictionary.blind.deconvolution import ShortAndSparseDeconvolution
from tightframe.dictionary.blind.half_steps import HalfSteps, box_energy
from tightframe.dictionary.blind.restarts import evidence, starting_kernels
from tightframe.dictionary.blind.short_and_sparse import code_short, deconvolve_short


def _randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def _circular(kernel, codes):
    """Sum over taps of rolled activations: the definition, without a Fourier transform."""
    total, axes = torch.zeros_like(codes), tuple(range(1, codes.ndim))
    for place in np.ndindex(*kernel.shape):
        total += kernel[place] * codes.roll(place, axes)
    return total


def _unit(kernel):
    return kernel / torch.linalg.vector_norm(kernel)


def _smooth(length=100):
    steps = torch.arange(1, length + 1, dtype=torch.float64)
    return _unit(0.95**steps - 0.8**steps)


def _error(found, kernel):
    """Least distance over shifts and signs, both kernels padded so that no shift wraps around."""
    pads = [amount for side in reversed(kernel.shape) for amount in (side, side)]
    first, second = (torch.nn.functional.pad(_unit(k), pads) for k in (found, kernel))
    spectra = torch.fft.fftn(second) * torch.fft.fftn(first).conj()
    best = float(torch.fft.ifftn(spectra).real.abs().max())
    return math.sqrt(max(0.0, 2 - 2 * best))


def _problem(kernel, length, density, *, samples=1, noise=0.01, seed=0, values="uniform"):
    shape = (samples, length) if isinstance(length, int) else (samples, *length)
    codes = sparse_codes(shape, density, values=values, seed=seed)
    return codes, _circular(kernel, codes) + noise * _randn(*shape, seed=seed + 1)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("shape", "size", "bias"), [((2, 60), (7,), True), ((1, 12, 11), (3, 4), False)])
def test_activations_satisfy_the_conditions_of_their_optimum(positive, shape, size, bias):
    kernel, signals = _unit(_randn(*size)), _randn(*shape, seed=1) + 0.5
    state = HalfSteps(signals, kernel, positive=positive, bias=bias)
    weights = torch.rand(shape, generator=generator(2), dtype=torch.float64) + 0.2
    penalty = 0.3 * weights
    for _ in range(200):
        state.code(penalty, 20)
    axes = tuple(range(1, signals.ndim))
    residual = signals - _circular(kernel, state.maps)
    if bias:
        residual = residual - residual.mean(axes, keepdim=True)
    torch.testing.assert_close(state.refresh(), residual, rtol=0, atol=1e-10)
    gradient = torch.zeros_like(signals)
    for place in np.ndindex(*size):
        gradient += kernel[place] * residual.roll([-i for i in place], axes)
    active = state.maps != 0
    assert 0.05 < float(active.double().mean()) < 0.95
    # The splitting stops at a relative change of 1e-3 per look; two hundred warm calls leave less than this.
    torch.testing.assert_close(gradient[active], (penalty * state.maps.sign())[active], rtol=0, atol=3e-3)
    slack = gradient if positive else gradient.abs()
    assert float((slack - penalty)[~active].max()) < 3e-3
    assert not positive or bool((state.maps >= 0).all())


@pytest.mark.parametrize(
    ("shape", "window", "bias"), [((3, 80), (9,), True), ((2, 14, 15), (4, 3), False), ((1, 20), (13,), False)]
)
def test_the_kernel_is_that_of_least_squares(shape, window, bias):
    signals, codes = _randn(*shape), sparse_codes(shape, 0.2, seed=3)
    state = HalfSteps(signals, _unit(_randn(*window, seed=4)), positive=False, bias=bias)
    state.maps = codes.clone()
    for _ in range(5):
        state.maps, state.dual = codes.clone(), torch.zeros_like(codes)
        state.fit_kernel()
    axes = tuple(range(1, len(shape)))
    columns = [codes.roll(place, axes) for place in np.ndindex(*window)]
    if bias:
        columns = [c - c.mean(axes, keepdim=True) for c in columns]
        signals = signals - signals.mean(axes, keepdim=True)
    design = torch.stack([c.flatten() for c in columns], 1)
    wanted = torch.linalg.lstsq(design, signals.flatten()[:, None]).solution.view(window)
    torch.testing.assert_close(state.kernel, _unit(wanted), rtol=0, atol=1e-8)
    torch.testing.assert_close(state.maps, codes * torch.linalg.vector_norm(wanted), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("window", "size"), [((11,), (4,)), ((7, 6), (3, 2))])
def test_moving_the_kernel_moves_the_activations_with_it(window, size):
    inside = torch.zeros(window, dtype=torch.float64)
    inside[tuple(slice(1, 1 + s) for s in size)] = _randn(*size)
    state = HalfSteps(_randn(2, *[20] * len(window)), _unit(inside), positive=False, bias=False)
    state.maps = sparse_codes(state.maps.shape, 0.1)
    before = state.prediction()
    state.recentre(size)
    corner = [(w - s) // 2 for w, s in zip(window, size, strict=True)]
    middle = state.kernel[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))]
    assert float(torch.linalg.vector_norm(middle)) == pytest.approx(1)
    torch.testing.assert_close(state.prediction(), before, rtol=0, atol=1e-12)
    state.recentre(size, crop=True)
    assert state.kernel.shape == size
    torch.testing.assert_close(state.prediction(), before, rtol=0, atol=1e-12)
    state.lift([2] * len(window))
    assert state.kernel.shape == tuple(s + 4 for s in size)
    torch.testing.assert_close(state.prediction(), before, rtol=0, atol=1e-12)


def test_energy_of_boxes():
    kernel = _randn(5, 6)
    energy = box_energy(kernel, (2, 3))
    assert energy.shape == (4, 4)
    for i, j in np.ndindex(4, 4):
        assert float(energy[i, j]) == pytest.approx(float(kernel[i : i + 2, j : j + 3].square().sum()))


def test_what_was_not_observed_follows_the_model():
    observed = torch.ones(40, dtype=torch.bool)
    observed[30:] = False
    signals, kernel = _randn(1, 40), _unit(_randn(5))
    state = HalfSteps(signals, kernel, positive=False, bias=True, observed=observed)
    state.maps = sparse_codes((1, 40), 0.2)
    model = _circular(kernel, state.maps)
    residual = state.refresh()
    constant = (signals - model)[0, :30].mean()
    torch.testing.assert_close(residual[0, :30], (signals - model)[0, :30] - constant, rtol=0, atol=1e-12)
    assert not residual[0, 30:].any()
    torch.testing.assert_close(state.signals[0, 30:], model[0, 30:] + constant, rtol=0, atol=1e-12)


def test_spectral_starts_are_exact_for_the_kernels_they_are_made_for():
    # One event and no noise: the spectrum of the signal is that of the kernel; only the taper of its autocorrelation
    # and, for the second, the mean (a frequency among few) keep the start from being exact.
    decays, symmetric = _smooth(200), torch.exp(-0.5 * ((torch.arange(200).double() - 99.5) / 8) ** 2)
    for number, kernel in enumerate((decays, symmetric)):
        signals = torch.zeros(1, 2000, dtype=torch.float64)
        signals[0, 300:500] = kernel
        starts = list(starting_kernels(signals, (200,), count=4, noise=0.0, seed=0))
        assert len(starts) == 4
        assert all(float(start.norm()) == pytest.approx(1) for start in starts)
        assert _error(starts[number], kernel) < 0.1
        assert _error(starts[number], kernel) < 0.8 * _error(starts[1 - number], kernel)
    windows = list(starting_kernels(_randn(1, 30, 30), (5, 4), count=3, noise=0.0, seed=0))
    assert [w.shape for w in windows] == [(5, 4)] * 3


def test_evidence_tells_noise_from_structure():
    noise = _randn(2, 5000)
    found = evidence(noise, torch.tensor([0.0, 1.0, 2.0]), (50,))
    points, energy = 10_000, float(noise.square().sum())
    assert found.criterion == pytest.approx(points * math.log(energy / points) + 2 * math.log(points))
    assert found.activations == 2
    assert found.explained
    # Over seeds the statistic has mean zero and standard deviation one.
    values = [evidence(_randn(1, 5000, seed=s), torch.zeros(1), (50,)).whiteness for s in range(60)]
    assert abs(np.mean(values)) < 4 / math.sqrt(60)
    assert 0.7 < np.std(values) < 1.4
    assert not evidence(_circular(_smooth(20), noise), torch.zeros(1), (50,)).explained
    image = _randn(1, 80, 80)
    assert evidence(image, torch.zeros(1), (6, 6)).explained
    assert not evidence(_circular(torch.ones(2, 2).double(), image), torch.zeros(1), (6, 6)).explained


@pytest.mark.parametrize("values", ["uniform", "rademacher"])
def test_a_rough_kernel_is_found_to_the_noise(values):
    kernel = _unit(_randn(60, seed=5))
    codes, signals = _problem(kernel, 6000, 0.03, values=values)
    found = deconvolve_short(signals, 60, positive=values == "uniform")
    # Least squares with the true activations: noise sqrt(60) / |x|; twice that.
    assert _error(found.kernel, kernel) < 2 * 0.01 * math.sqrt(60) / float(codes.norm())
    assert found.status.converged
    assert float(found.noise) == pytest.approx(0.01, rel=0.05)
    assert abs(int(found.activations.count_nonzero()) - int(codes.count_nonzero())) <= 5


def test_a_smooth_kernel_is_found_and_activations_stand_where_it_begins():
    kernel = _smooth(60)
    codes, signals = _problem(kernel, 6000, 0.01)
    found = deconvolve_short(signals + 3, 60, positive=True)
    assert _error(found.kernel, kernel) < 0.03
    assert bool((found.activations >= 0).all())
    hits = found.activations[0] > 0
    near = torch.nn.functional.max_pool1d(hits[None].double(), 3, 1, 1)[0] > 0
    assert float(near[codes[0] > 0].double().mean()) > 0.9
    torch.testing.assert_close(found.bias, torch.full((1,), 3.0, dtype=torch.float64), rtol=0, atol=0.05)


def test_images():
    kernel = _unit(_randn(7, 6, seed=8))
    codes, signals = _problem(kernel, (80, 75), 0.005, values="gaussian")
    found = deconvolve_short(signals, (7, 6))
    assert _error(found.kernel, kernel) < 0.02
    assert found.status.converged
    assert abs(int(found.activations.count_nonzero()) - int(codes.count_nonzero())) <= 3


def test_of_much_data_the_starts_compete_on_a_part_only(monkeypatch):
    kernel = _unit(_randn(9, 9, seed=5))
    _, signals = _problem(kernel, (80, 90), 0.01)
    whole = deconvolve_short(signals, (9, 9))
    monkeypatch.setattr(short_and_sparse, "_LEARNED", 2500)
    sizes, descended = [], short_and_sparse.descended
    monkeypatch.setattr(
        short_and_sparse,
        "descended",
        lambda problem, *rest, **options: sizes.append(problem.signals.numel()) or descended(problem, *rest, **options),
    )
    found = deconvolve_short(signals, (9, 9))
    assert max(sizes[:-1]) <= 2600
    assert sizes[-1] == 7200
    assert _error(found.kernel, kernel) <= 1.1 * _error(whole.kernel, kernel)
    # Of many signals those that vary most; kernels as long as the signals leave nothing to choose.
    assert short_and_sparse._part(torch.ones(10, 1000) * torch.arange(10.0)[:, None], (20,)).shape == (2, 1000)
    assert short_and_sparse._part(torch.ones(1, 9000), (4000,)) is None


def test_signals_cut_from_longer_ones():
    kernel = _smooth(60)
    _, signals = _problem(kernel, 6000, 0.02, noise=0.02)
    cut = signals[:, 1007:4000]
    found = deconvolve_short(cut, 60, positive=True, boundary="valid")
    assert found.activations.shape == cut.shape
    assert _error(found.kernel, kernel) < 0.05
    # Events before the beginning explain their tails inside: nothing is left there but noise.
    residual = cut - found.reconstruction
    assert float(residual[:, :60].std()) < 2 * float(residual.std())
    closed = deconvolve_short(cut, 60, positive=True)
    assert float((cut - closed.reconstruction)[:, :60].std()) >= 0.8 * float(residual[:, :60].std())


def test_pooling_signals_improves_the_kernel_and_each_has_its_noise():
    kernel = _smooth(40)
    codes = sparse_codes((8, 3000), 0.01, values="one", seed=3)
    levels = torch.tensor([0.05, 0.1] * 4, dtype=torch.float64)
    signals = _circular(kernel, codes) + levels[:, None] * _randn(8, 3000, seed=9)
    pooled = deconvolve_short(signals, 40, positive=True, n_starts=2)
    torch.testing.assert_close(pooled.noise, levels, rtol=0.15, atol=0)
    single = [
        _error(deconvolve_short(signals[i : i + 1], 40, positive=True, n_starts=2).kernel, kernel) for i in (1, 3, 5)
    ]
    assert _error(pooled.kernel, kernel) < np.median(single)
    torch.testing.assert_close(pooled.penalty / pooled.noise, (pooled.penalty / pooled.noise)[:1].expand(8))


def test_scaling_the_signals_scales_the_activations():
    _, signals = _problem(_unit(_randn(20, seed=5)), 2000, 0.02)
    first, second = deconvolve_short(signals, 20), deconvolve_short(250 * signals, 20)
    torch.testing.assert_close(second.kernel, first.kernel, rtol=0, atol=1e-6)
    torch.testing.assert_close(second.activations, 250 * first.activations, rtol=1e-4, atol=1e-3)


def test_a_penalty_by_hand():
    kernel = _unit(_randn(20, seed=5))
    codes, signals = _problem(kernel, 2000, 0.02)
    found = code_short(signals, kernel, alpha=0.05, bias=False)
    torch.testing.assert_close(found.penalty, torch.tensor([0.05], dtype=torch.float64))
    torch.testing.assert_close(found.activations, codes, rtol=0, atol=0.08)
    kept = found.activations[found.activations != 0].abs()
    # What is below twice the penalty is dropped.
    assert float(kept.min()) >= 0.1


def test_the_estimator_reads_and_returns_what_it_was_given():
    kernel = _unit(_randn(20, seed=5))
    _, signals = _problem(kernel, 1500, 0.02, samples=2)
    model = ShortAndSparseDeconvolution(20).fit(signals.numpy())
    assert isinstance(model.activations_, np.ndarray)
    assert (model.kernel_.shape, model.components_.shape, model.noise_.shape) == ((20,), (1, 20), (2,))
    assert np.abs(model.kernel_).max() == model.kernel_.max()
    np.testing.assert_allclose(model.transform(signals.numpy()), model.activations_, atol=0.05)
    rebuilt = model.inverse_transform(model.activations_) + model.bias_[:, None]
    np.testing.assert_allclose(rebuilt, model.reconstruction_, atol=1e-8)
    channels = ShortAndSparseDeconvolution(20).fit(signals.float()[None])
    assert isinstance(channels.kernel_, torch.Tensor)
    assert channels.kernel_.dtype == torch.float32
    assert channels.activations_.shape == (1, 2, 1500)
    np.testing.assert_allclose(channels.kernel_.numpy(), model.kernel_, atol=1e-3)
    piped = make_pipeline(clone(model)).fit_transform(signals.numpy())
    np.testing.assert_allclose(piped, model.transform(signals.numpy()))
    assert clone(model).get_params() == model.get_params()


def test_bad_input():
    signals = _randn(1, 50)
    with pytest.raises(InputError, match="no longer than the signals"):
        deconvolve_short(signals, 51)
    with pytest.raises(InputError, match="one positive kernel size"):
        deconvolve_short(signals, (5, 5))
    with pytest.raises(InputError, match="boundary, circular or valid"):
        deconvolve_short(signals, 5, boundary="zero")
    with pytest.raises(InputError, match="a penalty above zero"):
        deconvolve_short(signals, 5, alpha=-1.0)
    with pytest.raises(InputError, match="n_starts"):
        deconvolve_short(signals, 5, n_starts=0)
    with pytest.raises(DegenerateError, match="all zero"):
        deconvolve_short(torch.zeros(1, 50), 5)
    with pytest.raises(InputError, match="NaN"):
        ShortAndSparseDeconvolution(5).fit(torch.full((1, 50), float("nan")))
    fitted = ShortAndSparseDeconvolution(20, n_starts=1).fit(_problem(_randn(20), 500, 0.02)[1])
    with pytest.raises(InputError, match="no shorter than the kernel"):
        fitted.inverse_transform(torch.zeros(1, 10))
