"""The penalty that the data call for."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.descent import unit_kernels
from tightframe.dictionary.convolutional.starts import automatic_penalty

LENGTH, SIGMA = 8192, 0.2


@pytest.fixture(scope="module")
def smooth() -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse events of two Gaussian kernels of 31 taps, which leave high frequencies quiet."""
    taps = torch.arange(31, dtype=torch.float64) - 15
    kernels = unit_kernels(torch.stack([torch.exp(-((taps / width) ** 2) / 2) for width in (3.0, 5.0)])[:, None])
    maps = 5 * sparse_codes((2, 2, LENGTH), 0.005, seed=0)
    return Convolution((LENGTH,), (31,), dtype=torch.float64).synthesize(kernels, maps), kernels


def test_the_penalty_is_half_the_universal_one_of_the_noise(smooth):
    signals, kernels = smooth
    noise = SIGMA * torch.randn(signals.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = automatic_penalty(signals + noise, kernels, 1e-4)
    # The level of the noise is a quantile of averages over 66 tiles, known to a few per cent.
    assert found == pytest.approx(0.5 * SIGMA * math.sqrt(2 * math.log(2 * LENGTH)), rel=0.1)
    assert automatic_penalty(10 * (signals + noise), kernels, 1e-4) == pytest.approx(10 * found, rel=1e-12)


def test_the_penalty_of_clean_signals_is_a_share_of_the_largest(smooth):
    signals, kernels = smooth
    operator = Convolution((LENGTH,), (31,), dtype=torch.float64)
    for positive in (False, True):
        found = operator.correlate_kernels(kernels, -signals)
        largest = float(found.max() if positive else found.abs().max())
        assert automatic_penalty(-signals, kernels, 0.03, positive=positive) == pytest.approx(0.03 * largest, rel=1e-9)


def test_the_penalty_of_noise_alone_leaves_something_and_short_signals_have_one(smooth):
    _, kernels = smooth
    noise = torch.randn((1, 1, LENGTH), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for signals, size in ((noise, 31), (noise[..., :6], 3)):
        few = kernels[:1, :, :size]
        largest = float(
            Convolution(signals.shape[2:], (size,), dtype=torch.float64).correlate_kernels(few, signals).abs().max()
        )
        assert 0.02 * largest <= automatic_penalty(signals, few, 0.02) <= 0.5 * largest
    assert automatic_penalty(noise[..., :6], kernels[:1, :, :3], 0.02) == pytest.approx(0.02 * largest)


def test_a_constant_left_to_the_bias_does_not_count(smooth):
    signals, kernels = smooth
    plain = automatic_penalty(signals, kernels, 0.03, bias=True)
    assert automatic_penalty(signals + 100, kernels, 0.03, bias=True) == pytest.approx(plain, rel=1e-9)
    assert automatic_penalty(signals + 100, kernels, 0.03) > 5 * plain
