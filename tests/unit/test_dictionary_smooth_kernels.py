"""Smooth kernels: the prior by its definition, the fit to a spectrum, activations shared out, and calcium."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.blind.continuation import coded
from tightframe.dictionary.blind.scaled_signals import ScaledSignals
from tightframe.dictionary.blind.short_and_sparse import code_short, deconvolve_short
from tightframe.dictionary.blind.smooth_kernels import smooth_kernel
from tightframe.dictionary.blind.spreading import spread
from tightframe.dictionary.blind.transients import transient_kernel


def _randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def _unit(kernel):
    return kernel / torch.linalg.vector_norm(kernel)


def _transient(size, decay, rise):
    steps = torch.arange(1, size + 1, dtype=torch.float64)
    return _unit(torch.exp(-steps / decay) - torch.exp(-steps / rise))


def _bump(size, width):
    return _unit(torch.exp(-0.5 * ((torch.arange(size).double() - (size - 1) / 2) / width) ** 2))


def _signals(kernel, codes, noise, seed=1):
    response = torch.fft.rfft(kernel, n=codes.shape[1])
    events = torch.fft.irfft(torch.fft.rfft(codes) * response, n=codes.shape[1])
    return events + noise * _randn(*codes.shape, seed=seed)


def _error(found, kernel):
    first, second = (torch.nn.functional.pad(_unit(k), (len(k), len(k))) for k in (found, kernel))
    correlation = torch.fft.ifft(torch.fft.fft(second) * torch.fft.fft(first).conj()).real
    return math.sqrt(max(0.0, 2 - 2 * float(correlation.abs().max())))


def _agreement(truth, found):
    """Correlation of sums over three frames at the best common shift of up to six."""
    sums = [np.convolve(values.numpy(), np.ones(3), "same") for values in (truth, found)]
    return max(np.corrcoef(sums[0], np.roll(sums[1], shift))[0, 1] for shift in range(-6, 7))


def _covariances(size):
    steps = np.arange(size)
    yield "rough", np.eye(size)
    grids = (("even", steps, (1.5, 3, 6, 12, 24)), ("slowing", np.log1p(steps), (0.25, 0.5, 1, 2)))
    for kind, places, lengths in grids:
        for length in lengths:
            yield kind, np.exp(-0.5 * ((places[:, None] - places) / length) ** 2)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [(_unit(_randn(24, seed=3)), "rough"), (_bump(24, 4.0), "even"), (_transient(24, 5.0, 1.0), "slowing")],
)
def test_the_prior_of_greatest_evidence_is_taken_and_its_posterior_mean(kernel, kind):
    """Against the density of the signals themselves, for circular activations written out as a matrix."""
    codes = sparse_codes((1, 120), 0.1, values="uniform", seed=4)[0] * 5
    design = torch.stack([codes.roll(step) for step in range(24)], 1)
    signals = design @ kernel + 0.5 * _randn(120, seed=5)
    lags = torch.stack([codes @ codes.roll(step) for step in range(24)])
    found = smooth_kernel(lags / 0.25, design.T @ signals / 0.25)
    best = (-math.inf, None, None)
    white = -0.5 * float(signals @ signals) / 0.25
    for name, shape in _covariances(24):
        for amplitude in (1.0, 4.0):
            prior = torch.from_numpy(shape).double() * amplitude**2 / 24
            total = design @ prior @ design.T / 0.25 + torch.eye(120, dtype=torch.float64)
            solved = torch.linalg.solve(total, signals / 0.5)
            value = -0.5 * float(signals @ solved) / 0.5 - 0.5 * float(torch.linalg.slogdet(total).logabsdet) - white
            if value > best[0]:
                best = (value, name, prior @ design.T @ solved / 0.5)
    assert found.kind == best[1] == kind
    # What is left out of a covariance is 1e-7 of its largest eigenvalue, against data of weight |x|^2 / sigma^2 = 1e3.
    assert found.evidence == pytest.approx(best[0], abs=0.05)
    torch.testing.assert_close(found.kernel, best[2], rtol=0, atol=1e-3)


def test_smoothness_takes_most_of_the_noise_out():
    kernel, errors = _transient(60, 12.0, 1.5), []
    for seed in range(5):
        codes = sparse_codes((1, 3000), 0.02, values="one", seed=seed)[0]
        design = torch.stack([codes.roll(step) for step in range(60)], 1)
        signals = design @ kernel + 0.1 * _randn(3000, seed=seed + 20)
        lags = design.T @ design[:, 0]
        plain = torch.linalg.lstsq(design, signals[:, None]).solution[:, 0]
        smooth = smooth_kernel(lags / 0.01, design.T @ signals / 0.01).kernel
        errors.append((float((smooth - kernel).norm()), float((plain - kernel).norm())))
    # Five directions or so of sixty: sqrt(5 / 60) = .29.
    assert np.median([a / b for a, b in errors]) < 0.5


@pytest.mark.parametrize("traces", [1, 4])
def test_two_exponentials_are_read_off_the_spectrum(traces):
    kernel, errors = _transient(60, 12.0, 1.5), []
    for seed in range(3):
        codes = sparse_codes((traces, 10_000), 0.0165, values="one", seed=seed)
        signals = _signals(2.2 * kernel, codes, 0.3, seed=seed + 1)
        found = transient_kernel(signals - signals.mean(1, keepdim=True), 60)
        assert float(found.norm()) == pytest.approx(1)
        errors.append(_error(found, kernel))
    assert np.median(errors) < (0.1 if traces == 1 else 0.06)


def test_other_kernels_are_not_taken_for_two_exponentials():
    for kernel in (_unit(_randn(60, seed=2)), _bump(60, 6.0)):
        codes = sparse_codes((1, 10_000), 0.03, values="uniform", seed=3)
        signals = _signals(kernel, codes, 0.01)
        assert transient_kernel(signals - signals.mean(1, keepdim=True), 60) is None
    assert transient_kernel(_randn(1, 40), 10) is None


@pytest.mark.parametrize(("noise", "least"), [(0.1, 0.98), (0.3, 0.84)])
def test_calcium(noise, least):
    """Blind, at the events and the kernel of the published comparison; two frames of thirty a second."""
    kernel = _transient(60, 12.0, 1.5)
    scale = float(kernel.max())
    scores = []
    for seed in range(3):
        codes = sparse_codes((1, 10_000), 0.0165, values="one", seed=seed)
        found = deconvolve_short(_signals(kernel / scale, codes, noise, seed=seed + 1), 60, positive=True)
        scores.append(_agreement(codes[0], found.activations[0]))
        assert _error(found.kernel, kernel) < (0.02 if noise == 0.1 else 0.08)
        assert found.status.converged
    assert min(scores) > least


@pytest.mark.parametrize("positive", [True, False])
def test_an_autoregressive_kernel_is_found(positive):
    steps = torch.arange(1, 101, dtype=torch.float64)
    kernel = _unit(0.95**steps - 0.8**steps)
    codes = sparse_codes((1, 6000), 0.03, values="uniform" if positive else "rademacher", seed=0)
    found = deconvolve_short(_signals(kernel, codes, 0.01), 100, positive=positive, n_starts=1)
    assert _error(found.kernel, kernel) < 0.02


def test_a_bump_keeps_its_flanks():
    """Where it leaves the noise is no beginning: cutting there costs the energy before, and activations then drift."""
    kernel = _bump(60, 6.0)
    codes = sparse_codes((1, 6000), 0.02, values="uniform", seed=1)
    found = deconvolve_short(_signals(kernel, codes, 0.01), 60, positive=True, n_starts=2)
    assert _error(found.kernel, kernel) < 0.05
    middle = float((torch.arange(60) * found.kernel.square()).sum())
    assert 3 * 6.0 < middle < 60 - 3 * 6.0


def test_activations_are_shared_out_only_among_places_that_noise_confounds():
    kernel = _transient(40, 12.0, 1.5)
    codes = sparse_codes((1, 4000), 0.01, values="one", seed=2)
    signals = _signals(kernel, codes, 0.12)
    problem = ScaledSignals.of(signals, (40,), "auto", True, "circular", True)
    descent = coded(problem, kernel, 6)
    before = descent.state.maps.clone()
    spread(problem, descent)
    after = descent.state.maps
    assert int(after.count_nonzero()) > 1.2 * int(before.count_nonzero())
    assert _agreement(codes[0], after[0]) > _agreement(codes[0], before[0])
    # By definition, one significant activation at a time.
    allowed = torch.zeros(4000, dtype=torch.bool)
    for place in before[0].nonzero().flatten().tolist():
        for move in range(-39, 40):
            moved = torch.zeros(118, dtype=torch.float64)
            moved[39:79] = kernel
            moved[39 + move : 79 + move] -= kernel
            if float(before[0, place] * moved.norm()) < 2 * descent.level:
                allowed[(place + move) % 4000] = True
    assert not bool(after[0][~allowed].any())
    rough = _unit(_randn(40, seed=1))
    quiet = ScaledSignals.of(_signals(rough, codes, 0.05), (40,), "auto", True, "circular", True)
    settled = coded(quiet, rough, 6)
    kept = settled.state.maps
    spread(quiet, settled)
    assert settled.state.maps is kept


def test_a_known_kernel_gives_activations_where_they_are():
    kernel = _transient(60, 12.0, 1.5)
    kernel = kernel / kernel.max()
    codes = sparse_codes((1, 10_000), 0.0165, values="one", seed=0)
    for noise, least in ((0.1, 0.98), (0.3, 0.86)):
        found = code_short(_signals(kernel, codes, noise), kernel, positive=True)
        assert _agreement(codes[0], found.activations[0]) > least
