"""The level of noise under sparse events, and the penalty it calls for."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.blind.noise import noise_level, significant_level, universal_penalty


def _noise(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize(("shape", "resolution"), [((4, 10_000), 50), ((2, 128, 96), 8), ((1, 24, 24, 24), 3)])
def test_white_noise_has_its_own_level(shape, resolution):
    found = noise_level(0.7 * _noise(*shape), resolution)
    # The quantile of the averaged periodogram has a relative spread of a few percent at these numbers of tiles.
    torch.testing.assert_close(found, torch.full((shape[0],), 0.7, dtype=torch.float64), rtol=0.12, atol=0)


@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_smooth_events_do_not_count_as_noise(sigma):
    steps = torch.arange(100, dtype=torch.float64)
    kernel = 0.95**steps - 0.8**steps
    codes = sparse_codes((1, 10_000), 0.03, values="uniform", seed=1)
    events = torch.fft.irfft(torch.fft.rfft(kernel, n=10_000) * torch.fft.rfft(codes), n=10_000)
    found = float(noise_level(events + sigma * _noise(1, 10_000), 100))
    # What the events themselves have at the highest frequency, their quietest: theta E[g^2] |a(pi)|^2.
    least = 0.03 * (13 / 12) * float((kernel * (-1) ** steps).sum()) ** 2
    assert 0.9 * sigma < found < 1.2 * math.sqrt(sigma**2 + least)
    assert found < 0.05 * float(events.std()) * max(1, sigma / 0.01)


def test_a_rough_kernel_raises_the_level_less_than_neighbouring_differences_do():
    kernel = _noise(100, seed=3)
    kernel /= kernel.norm()
    codes = sparse_codes((1, 10_000), 0.03, seed=4)
    events = torch.fft.irfft(torch.fft.rfft(kernel, n=10_000) * torch.fft.rfft(codes), n=10_000)
    signals = events + 0.01 * _noise(1, 10_000)
    differences = float(signals.diff(dim=1).abs().median()) / (0.6745 * math.sqrt(2))
    assert 0.01 < float(noise_level(signals, 100)) < 0.6 * differences


def test_scale_constant_and_precision():
    signals = _noise(2, 4000)
    found = noise_level(signals, 20)
    torch.testing.assert_close(noise_level(3 * signals + 50, 20), 3 * found, rtol=1e-9, atol=0)
    assert noise_level(signals.float(), 20).dtype == torch.float32
    torch.testing.assert_close(noise_level(signals.float(), 20).double(), found, rtol=1e-4, atol=0)


def test_noise_alone_seldom_exceeds_the_universal_penalty():
    size, draws = 1000, 400
    kernel = _noise(20, seed=5)
    response = torch.fft.rfft(kernel / kernel.norm(), n=size)
    noise = _noise(draws, size, seed=6)
    largest = torch.fft.irfft(torch.fft.rfft(noise) * response.conj(), n=size).abs().amax(1)
    penalty = universal_penalty(size)
    # Union bound: m P(|N(0, 1)| > penalty), and three standard errors of a share over the draws.
    bound = size * math.erfc(penalty / math.sqrt(2))
    assert float((largest > penalty).double().mean()) <= bound + 3 * math.sqrt(bound * (1 - bound) / draws)
    assert float((largest > 0.6 * penalty).double().mean()) > 0.99


def test_signals_without_noise_still_have_a_level():
    wave = torch.sin(torch.arange(4000, dtype=torch.float64) / 10)[None]
    assert float(significant_level(wave, 20)) == pytest.approx(1e-3 * float(wave.std()))
    assert float(significant_level(wave[:, :5], (5,))) == pytest.approx(1e-3 * float(wave[:, :5].std()))


def test_bad_input():
    with pytest.raises(DegenerateError, match="1 of 2 constant"):
        significant_level(torch.stack([torch.ones(100), torch.arange(100.0)]), 10)
    with pytest.raises(InputError, match="at least 8 points"):
        noise_level(torch.randn(2, 5), 3)
    with pytest.raises(InputError, match="size is an integer"):
        universal_penalty(0)
