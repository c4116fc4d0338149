"""Two ways to compute one bilinear product: by real transforms, and directly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional, grad

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_WEIGHT_GRADIENTS = {1: grad.conv1d_weight, 2: grad.conv2d_weight, 3: grad.conv3d_weight}

# Up to so many rows a product with their Fourier matrix is faster than a transform of all.
_SHORT = 32


class Product(ABC):
    """Bilinear products in `forms` that are linear in kernels, in maps and in signals."""

    def __init__(
        self,
        shape: tuple[int, ...],
        kernel_shape: tuple[int, ...],
        *,
        boundary: str,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.shape: tuple[int, ...] = shape
        self.kernel_shape: tuple[int, ...] = kernel_shape
        self.boundary: str = boundary
        self.dtype: torch.dtype = dtype
        self.device: torch.device | str = device
        self.axes: tuple[int, ...] = tuple(range(-len(shape), 0))

    @abstractmethod
    def kernel_form(self, kernels: Tensor) -> Tensor:
        """Of kernels (p, channels, *kernel_shape)."""

    @abstractmethod
    def map_form(self, maps: Tensor) -> Tensor:
        """Of maps (n, p, *map_shape)."""

    @abstractmethod
    def signal_form(self, signals: Tensor) -> Tensor:
        """Of signals (n, channels, *shape)."""

    @abstractmethod
    def signals(self, form: Tensor) -> Tensor:
        """Signals of this form."""

    @abstractmethod
    def product(self, kernels: Tensor, maps: Tensor) -> Tensor:
        """Form of the signals of kernels and maps, all three as forms."""

    @abstractmethod
    def to_maps(self, kernels: Tensor, signals: Tensor) -> Tensor:
        """Adjoint in the maps, from forms to maps."""

    @abstractmethod
    def to_kernels(self, maps: Tensor, signals: Tensor) -> Tensor:
        """Adjoint in the kernels, from forms to kernels."""

    @abstractmethod
    def energy(self, signals: Tensor) -> float:
        """Sum of squares of the signals of this form, in float64. Waits for the device."""

    @abstractmethod
    def centered(self, signals: Tensor) -> Tensor:
        """Form of the signals less the mean of each signal and channel."""


class Fourier(Product):
    """Products of spectra of a period that no event wraps around unless it should.

    Signals with a border that cuts events are a window of the period, and their form is the spectrum of that window
    with zeros around it; the other borders need no window, and their residuals never leave the frequencies.
    """

    def __init__(self, shape: tuple[int, ...], kernel_shape: tuple[int, ...], *, boundary: str, **options: Any) -> None:
        super().__init__(shape, kernel_shape, boundary=boundary, **options)
        pairs = list(zip(shape, kernel_shape, strict=True))
        self.windowed: bool = boundary == "zero"
        self.period: tuple[int, ...] = tuple(_smooth(s + k - 1) for s, k in pairs) if self.windowed else shape
        self.offset: tuple[int, ...] = tuple(k - 1 for _, k in pairs) if self.windowed else (0,) * len(shape)
        extra = {"circular": 0, "zero": 1, "valid": -1}[boundary]
        self.map_shape: tuple[int, ...] = tuple(s + extra * (k - 1) for s, k in pairs)
        self._matrices: dict[int, Tensor] = {}

    def kernel_form(self, kernels: Tensor) -> Tensor:
        """Spectra, pruned where kernels are padded."""
        return self._transform(kernels)

    def map_form(self, maps: Tensor) -> Tensor:
        """Spectra."""
        return self._transform(maps)

    def signal_form(self, signals: Tensor) -> Tensor:
        """Spectra, of the window with zeros around it if there is one."""
        if not self.windowed:
            return self._transform(signals)
        placed = signals.new_zeros((*signals.shape[: signals.ndim - len(self.shape)], *self.period))
        self._window(placed).copy_(signals)
        return self._transform(placed)

    def signals(self, form: Tensor) -> Tensor:
        """Inverse transform, cut to the window."""
        return self._window(torch.fft.irfftn(form, s=self.period, dim=self.axes))

    def product(self, kernels: Tensor, maps: Tensor) -> Tensor:
        """Products summed over kernels."""
        form = _summed(kernels.transpose(0, 1).unsqueeze(0), maps.unsqueeze(1), 2)
        # The window of what lies around the signal is zero: one transform of the signals there and back.
        return self.signal_form(self.signals(form)) if self.windowed else form

    def to_maps(self, kernels: Tensor, signals: Tensor) -> Tensor:
        """Products with the conjugate spectra of kernels, summed over channels."""
        # A conjugate that is only noted makes the product several times slower.
        form = _summed(kernels.conj().resolve_conj().unsqueeze(0), signals.unsqueeze(1), 2)
        return self._inverse(form, self.map_shape)

    def to_kernels(self, maps: Tensor, signals: Tensor) -> Tensor:
        """Products with the conjugate spectra of maps, summed over signals."""
        # Of two factors to conjugate, the signals are the small one; `_inverse` does the rest after it has cut.
        form = _summed(maps.unsqueeze(2), signals.conj().resolve_conj().unsqueeze(1), 0)
        return self._inverse_of_conjugate(form, self.kernel_shape)

    def energy(self, signals: Tensor) -> float:
        """By the identity of Parseval."""
        # Half of a real spectrum is kept: all but the first and, for even periods, the last column count twice.
        parts = torch.view_as_real(signals.resolve_conj())
        total = 2 * _total(parts) - _total(parts[..., 0, :])
        if self.period[-1] % 2 == 0:
            total = total - _total(parts[..., -1, :])
        return float(total) / math.prod(self.period)

    def centered(self, signals: Tensor) -> Tensor:
        """The frequency zero left out, or the mean over the window."""
        if self.windowed:
            values = self.signals(signals)
            return self.signal_form(values - values.mean(self.axes, keepdim=True))
        signals = signals.clone()
        signals[(..., *[0] * len(self.shape))] = 0
        return signals

    def _window(self, values: Tensor) -> Tensor:
        for axis, offset, length in zip(self.axes, self.offset, self.shape, strict=True):
            values = values.narrow(axis, offset, length)
        return values

    def _transform(self, values: Tensor) -> Tensor:
        """Spectrum of values padded with zeros at the end; rows of nothing but padding are not transformed."""
        if values.shape[-len(self.shape) :] == self.period:
            return torch.fft.rfftn(values, dim=self.axes)
        form = torch.fft.rfft(values, n=self.period[-1])
        for axis in self.axes[-2::-1]:
            if axis == -2 and form.shape[-2] <= _SHORT:
                form = self._waves(form.shape[-2]) @ form
            else:
                form = torch.fft.fft(form, n=self.period[axis], dim=axis)
        return form

    def _inverse(self, form: Tensor, kept: tuple[int, ...]) -> Tensor:
        """The first `kept` values of a spectrum's signal; rows that are dropped are not transformed."""
        if kept == self.period:
            return torch.fft.irfftn(form, s=self.period, dim=self.axes)
        for axis in self.axes[:-1]:
            form = torch.fft.ifft(form, dim=axis).narrow(axis, 0, kept[axis])
        return torch.fft.irfft(form, n=self.period[-1]).narrow(-1, 0, kept[-1])

    def _inverse_of_conjugate(self, form: Tensor, kept: tuple[int, ...]) -> Tensor:
        """`_inverse` of the conjugate spectrum, which is the forward transform's conjugate along each axis."""
        for axis in self.axes[:-1]:
            if axis == -2 and kept[-2] <= _SHORT:
                form = self._waves(kept[-2]).mT @ form
            else:
                form = torch.fft.fft(form, dim=axis).narrow(axis, 0, kept[axis])
        form = form.conj() / math.prod(self.period[:-1])
        return torch.fft.irfft(form, n=self.period[-1]).narrow(-1, 0, kept[-1])

    def _waves(self, count: int) -> Tensor:
        """The first columns (period, count) of the Fourier matrix of the last axis but one."""
        if count not in self._matrices:
            pulses = torch.eye(count, dtype=torch.float64, device=self.device)
            waves = torch.fft.fft(pulses, n=self.period[-2], dim=0)
            self._matrices[count] = waves.to(torch.complex128 if self.dtype == torch.float64 else torch.complex64)
        return self._matrices[count]


class Direct(Product):
    """Sums over short kernels; the form of maps is their padded version, that of the others themselves."""

    def kernel_form(self, kernels: Tensor) -> Tensor:
        """Flipped kernels."""
        return kernels.flip(self.axes)

    def map_form(self, maps: Tensor) -> Tensor:
        """Padded maps."""
        if self.boundary == "zero":
            return maps
        if self.boundary == "valid":
            return functional.pad(maps, [side for k in reversed(self.kernel_shape) for side in (k - 1, k - 1)])
        for axis, k in zip(self.axes, self.kernel_shape, strict=True):
            maps = torch.cat([maps.narrow(axis, maps.shape[axis] - k + 1, k - 1), maps], axis)
        return maps

    def signal_form(self, signals: Tensor) -> Tensor:
        """The signals themselves."""
        return signals

    def signals(self, form: Tensor) -> Tensor:
        """The form itself."""
        return form

    def product(self, kernels: Tensor, maps: Tensor) -> Tensor:
        """A correlation with flipped kernels."""
        return _CONVOLUTIONS[len(self.shape)](maps, kernels.transpose(0, 1))

    def to_maps(self, kernels: Tensor, signals: Tensor) -> Tensor:
        """A transposed correlation, unpadded or folded."""
        found = _TRANSPOSED[len(self.shape)](signals, kernels.transpose(0, 1))
        for axis, k, length in zip(self.axes, self.kernel_shape, self.shape, strict=True):
            if self.boundary == "valid":
                found = found.narrow(axis, k - 1, length - k + 1)
            elif self.boundary == "circular":
                folded = found.narrow(axis, k - 1, length).clone()
                folded.narrow(axis, length - k + 1, k - 1).add_(found.narrow(axis, 0, k - 1))
                found = folded
        return found

    def to_kernels(self, maps: Tensor, signals: Tensor) -> Tensor:
        """The gradient of a correlation in its weight."""
        size = (signals.shape[1], maps.shape[1], *self.kernel_shape)
        found = _WEIGHT_GRADIENTS[len(self.shape)](maps, size, signals)
        return found.transpose(0, 1).flip(self.axes)

    def energy(self, signals: Tensor) -> float:
        """Sum of squares."""
        return float(_total(signals))

    def centered(self, signals: Tensor) -> Tensor:
        """Signals less their means."""
        return signals - signals.mean(self.axes, keepdim=True)


def _total(values: Tensor) -> Tensor:
    """Sum of squares, in the precision of the values along the last axis and in float64 over the others."""
    return values.flatten(-2).square().sum(-1).double().sum()


def _summed(first: Tensor, second: Tensor, axis: int) -> Tensor:
    """Sum of products over an axis, both broadcast; without the sum's copy where that axis has one entry."""
    if first.shape[axis] == 1 and second.shape[axis] == 1:
        return (first * second).squeeze(axis)
    return (first * second).sum(axis)


def _smooth(length: int) -> int:
    """The least number from `length` on with no prime factor above 7, for which transforms are fast."""
    while True:
        rest = length
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
