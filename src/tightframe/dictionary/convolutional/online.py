"""Kernels learned from one batch of signals after another, through statistics whose size does not grow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.dictionary.arrays import axis_sizes
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.descent import unit_kernels

# Steps of the kernels after each batch: the quadratic is small, and the next batch moves it anyway.
_STEPS = 20


class KernelStatistics:
    r"""What past signals and their maps say about the kernels: a quadratic of fixed size.

    .. math:: q_t(a) = \sum_{i \le t} \rho^{t - i} \Big(\tfrac12 \langle a, H_i a \rangle - \langle a, g_i \rangle\Big),
        \qquad (H_i a)_k = \sum_l r^i_{kl} * a_l

    where
        r_kl (2 kernel_shape - 1) are the correlations of the maps of batch i at the lags of a kernel, and g_i are the
        correlations of the maps with the signals.

    Where the border cuts events, the signals beyond it are taken to be what the kernels of the time predict, which
    makes q an upper bound that touches the data term there.

    Args:
        kernels: The first ones, of norm one (p, channels, *kernel_shape).
        forgetting: rho in (0, 1].
        rank_one: Whether kernels are of rank one in channels x shape.

    Reference: [mairal2010online], algorithm 1, for the statistics.
    """

    def __init__(self, kernels: Tensor, *, forgetting: float = 1.0, rank_one: bool = False) -> None:
        self.kernels = kernels
        self.forgetting: float = forgetting
        self.rank_one: bool = rank_one
        self.size: torch.Size = kernels.shape[2:]
        self.axes: tuple[int, ...] = tuple(range(-len(self.size), 0))
        lags = [2 * k - 1 for k in self.size]
        self.correlations = kernels.new_zeros((len(kernels), len(kernels), *lags))
        self.target = torch.zeros_like(kernels)

    def add(self, operator: Convolution, signals: Tensor, maps: Tensor, bias: Tensor) -> None:
        """Count a batch with its maps and bias, then improve the kernels."""
        centered = signals - bias.view(*bias.shape, *[1] * len(self.size))
        residual = centered - operator.synthesize(self.kernels, maps)
        correlations = lag_correlations(maps, self.size, wrapped=operator.boundary == "circular")
        target = operator.correlate_maps(maps, residual) + self._applied(correlations, self.kernels)
        self.correlations: Tensor = self.forgetting * self.correlations + correlations
        self.target: Tensor = self.forgetting * self.target + target
        self.improve()

    def improve(self) -> None:
        """Projected gradient steps with momentum on the quadratic, of which none may go up."""
        zero_lag = tuple(k - 1 for k in self.size)
        energies = self.correlations[(..., *zero_lag)].diagonal()
        largest = float(energies.max())
        if largest <= 0:
            return
        scale = energies.clamp(min=1e-6 * largest).view(-1, *[1] * (self.kernels.ndim - 1))
        curvature, kernels, before = 1.0, self.kernels, self.kernels
        value = self._value(kernels)
        for number in range(_STEPS):
            ahead = kernels + number / (number + 3) * (kernels - before)
            slope = self.target - self._applied(self.correlations, ahead)
            while True:
                moved = unit_kernels(ahead + slope / (curvature * scale), rank_one=self.rank_one)
                change = moved - ahead
                curved = float((change * self._applied(self.correlations, change)).sum())
                if curved <= curvature * float((scale * change.square()).sum()) * (1 + 1e-3):
                    break
                curvature *= 1.5
            after = self._value(moved)
            if after > value:
                break
            before, kernels, value = kernels, moved, after
        self.kernels: Tensor = kernels

    def _value(self, kernels: Tensor) -> float:
        return float((kernels * (0.5 * self._applied(self.correlations, kernels) - self.target)).sum())

    def _applied(self, correlations: Tensor, kernels: Tensor) -> Tensor:
        """H a (p, channels, *kernel_shape)."""
        lengths = [3 * k - 2 for k in self.size]
        spectra = torch.fft.rfftn(correlations, s=lengths, dim=self.axes)
        forms = torch.fft.rfftn(kernels, s=lengths, dim=self.axes)
        product = torch.einsum("kl...,lc...->kc...", spectra, forms)
        found = torch.fft.irfftn(product, s=lengths, dim=self.axes)
        for axis, k in zip(self.axes, self.size, strict=True):
            found = found.narrow(axis, k - 1, k)
        return found


def lag_correlations(maps: Tensor, size: tuple[int, ...], *, wrapped: bool) -> Tensor:
    r"""Correlations of maps with maps at the lags of a kernel, from 1 - kernel_shape to kernel_shape - 1.

    .. math:: r_{kl}[j] = \sum_{n, i} x_{nk}[i - j]\, x_{nl}[i]

    Args:
        maps: x (n, p, *map_shape).
        size: kernel_shape.
        wrapped: Whether places count modulo map_shape.

    Returns:
        (p, p, *(2 kernel_shape - 1)).
    """
    axes = tuple(range(-len(size), 0))
    lengths = [m if wrapped else m + k - 1 for m, k in zip(maps.shape[2:], size, strict=True)]
    spectra = torch.fft.rfftn(maps, s=lengths, dim=axes)
    found = torch.stack(
        [
            torch.fft.irfftn((spectra[:, k : k + 1].conj() * spectra).sum(0), s=lengths, dim=axes)
            for k in range(maps.shape[1])
        ]
    )
    for axis, k, length in zip(axes, size, lengths, strict=True):
        lags = torch.arange(1 - k, k, device=maps.device) % length
        found = found.index_select(axis, lags)
    return found


def pieces(signals: Tensor, chunk: int | Sequence[int], size: tuple[int, ...]) -> Tensor:
    """Signals cut along every axis into pieces (n', channels, *chunk); the last of each axis overlaps its neighbour."""
    lengths = axis_sizes(chunk, "chunk_size")
    lengths = lengths * len(size) if len(lengths) == 1 else lengths
    if len(lengths) != len(size) or any(length < k for length, k in zip(lengths, size, strict=False)):
        raise InputError(
            "chunk_size, one number for all or one per axis, no less than the kernel's",
            got=repr(chunk),
            remedy="Use ten times kernel_size.",
        )
    for axis, wanted in enumerate(lengths, start=2):
        length = min(wanted, signals.shape[axis])
        starts = sorted({*range(0, signals.shape[axis] - length + 1, length), signals.shape[axis] - length})
        signals = torch.cat([signals.narrow(axis, begin, length) for begin in starts])
    return signals
