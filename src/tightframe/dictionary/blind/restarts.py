"""Where blind deconvolution begins, and which of several results to keep: spectral starts, windows, evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.typing import Float
from tightframe.dictionary.convolutional.starts import data_windows

# Points of the spectral factorisation per point of the kernel: enough for the cepstrum not to wrap around.
_FACTOR = 8
# Least power kept of a spectrum, as shares of the noise and of its peak, so that its logarithm and root are sane.
_FLOOR, _RELATIVE = 0.3, 1e-6
# Standard deviations above its mean at which the whiteness statistic counts as structure left in the residual.
_DEVIATIONS = 4.0
# Sum of the squares of the correlations at all lags, above that of noise, which is too little to mind in long signals.
_SLIGHT = 0.005


@dataclass(frozen=True)
class Evidence:
    """What speaks for a kernel, whatever the penalty was that found it.

    Args:
        criterion: Bayesian information criterion M log(RSS / M) + s log M of s activations in M observed points;
            smaller is better.
        residual: Root mean square of the residual.
        activations: s.
        whiteness: Excess of the residual's squared autocorrelations over those of white noise, in standard deviations.
        structure: The same excess as it is, the autocorrelation at lag zero being one.
    """

    criterion: float
    residual: float
    activations: int
    whiteness: float
    structure: float

    @property
    def explained(self) -> bool:
        """Whether what is left looks like white noise, and not because every point was given an activation."""
        return self.whiteness < _DEVIATIONS or self.structure < _SLIGHT


def starting_kernels(
    signals: Float[Tensor, "n *shape"], size: Sequence[int], *, count: int, noise: float, seed: int
) -> Iterator[Float[Tensor, "*kernel"]]:
    r"""Kernels to begin with, most informed first.

    .. math:: |\hat a(f)|^2 \propto S(f) - \sigma^2

    Independent activations are white, so the spectrum of the signals is that of the kernel, and only its phase is
    unknown. The first start has the least phase (one axis only: exact for transients that rise at once, such as
    differences of exponentials), the second none (exact for symmetric kernels), and the others are windows of the data.

    Args:
        signals: (n, *shape), without their constants.
        size: (*kernel,).
        count: How many.
        noise: sigma, whose power is subtracted from the spectrum.
        seed: Of the windows' places, which are drawn by their energy.

    Yields:
        Kernels of unit norm.

    Reference: [oppenheim1989discrete], section 12.7, for the factor of least phase; [kuo2020geometry], section 4, for
    the windows.
    """
    spectral = [_zero_phase] if len(size) > 1 else [_least_phase, _zero_phase]
    power = _power(signals, size, noise)
    for factor in spectral[:count]:
        kernel = factor(power, size)
        yield kernel / torch.linalg.vector_norm(kernel)
    if count > len(spectral):
        yield from data_windows(signals.unsqueeze(1), count - len(spectral), tuple(size), seed=seed)[:, 0]


def evidence(
    residual: Float[Tensor, "n *shape"], activations: Tensor, size: Sequence[int], *, observed: int | None = None
) -> Evidence:
    """Evidence for a result from its residual and its activations; `observed` points if not all were."""
    points = residual.numel() if observed is None else observed
    present = int(activations.count_nonzero())
    energy = float(residual.double().square().sum())
    criterion = points * math.log(max(energy / points, 1e-300)) + present * math.log(points)
    return Evidence(criterion, math.sqrt(energy / points), present, *_whiteness(residual, size, points))


def _whiteness(residual: Tensor, size: Sequence[int], points: int) -> tuple[float, float]:
    axes = tuple(range(1, residual.ndim))
    power = torch.fft.rfftn(residual.double(), dim=axes).abs().square().sum(0)
    correlation = torch.fft.irfftn(power, s=residual.shape[1:], dim=tuple(range(len(size))))
    # Half of the lags along the last axis and both signs along the others would count pairs twice: one octant will do.
    octant = [min(side, (length + 1) // 2) for side, length in zip(size, correlation.shape, strict=True)]
    lags = correlation[tuple(slice(0, side) for side in octant)]
    flat = lags.flatten()
    if not float(flat[0]) > 0 or len(flat) < 2:
        return 0.0, 0.0
    count = len(flat) - 1
    excess = float((flat[1:] / flat[0]).square().sum()) - count / points
    return points * excess / math.sqrt(2 * count), excess


def _power(signals: Tensor, size: Sequence[int], noise: float) -> Tensor:
    """Power spectrum of the kernel on a grid of `_FACTOR` times its size, from tapered autocorrelations."""
    shape, axes = signals.shape[1:], tuple(range(1, signals.ndim))
    spectra = torch.fft.rfftn(signals, dim=axes).abs().square().mean(0) / math.prod(shape)
    lags = torch.fft.irfftn(spectra, s=shape, dim=tuple(range(len(size))))
    for axis, side in enumerate(size):
        length = lags.shape[axis]
        kept = min(side, (length + 1) // 2)
        steps = torch.arange(kept, dtype=lags.dtype, device=lags.device)
        taper = 0.5 * (1 + torch.cos(math.pi * steps / kept))
        positive = lags.movedim(axis, -1)[..., :kept] * taper
        negative = lags.movedim(axis, -1)[..., length - kept + 1 :] * taper[1:].flip(0)
        gap = positive.new_zeros((*positive.shape[:-1], _FACTOR * side - 2 * kept + 1))
        lags = torch.cat([positive, gap, negative], -1).movedim(-1, axis)
    power = torch.fft.fftn(lags).real - noise**2
    least = max(_FLOOR * noise**2, _RELATIVE * float(power.amax()))
    return power.clamp(min=max(least, torch.finfo(power.dtype).tiny))


def _zero_phase(power: Tensor, size: Sequence[int]) -> Tensor:
    kernel = torch.fft.ifftn(power.sqrt()).real
    return _leading(kernel.roll([side // 2 for side in size], tuple(range(len(size)))), size)


def _least_phase(power: Tensor, size: Sequence[int]) -> Tensor:
    """Folding the cepstrum onto its causal half puts every zero and pole inside the unit circle."""
    cepstrum = torch.fft.ifft(0.5 * power.log()).real
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2
    cepstrum[half + 1 :] = 0
    return _leading(torch.fft.ifft(torch.fft.fft(cepstrum).exp()).real, size)


def _leading(values: Tensor, size: Sequence[int]) -> Tensor:
    return values[tuple(slice(0, side) for side in size)]
