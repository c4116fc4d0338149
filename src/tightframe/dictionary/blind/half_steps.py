"""One kernel under sparse activations, solved half by half: splitting for the activations, least squares for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from tightframe.core.typing import Float
from tightframe.dictionary.blind.smooth_kernels import Kind, smooth_kernel

# Over-relaxation of the splitting, and the imbalance of its residuals at which its penalty doubles or halves.
_RELAXATION, _IMBALANCE = 1.6, 3.0
_CONJUGATE = 20
# Activations that move, and miss their splitting, by less than this share of their norm are settled; looked at now and
# then, as every look waits for the device.
_SETTLED, _LOOK = 1e-3, 5


class HalfSteps:
    r"""State of the alternation, with both half-problems solved nearly exactly.

    .. math:: \min_{a, x, b}\ \tfrac12 \sum_i \|y_i - b_i - a \circledast x_i\|^2 + \sum_i \lambda_i \|w_i \odot x_i\|_1

    where
        y (n, *shape) are `signals`, circular; a (*window,) is `kernel`, of unit norm; x (n, *shape) `maps`.

    Activations: alternating directions, whose quadratic half is diagonal in Fourier space for a single kernel, so that
    smooth kernels, which slow proximal gradients down by their condition number, cost no more than rough ones. Kernel:
    conjugate gradients on its normal equations, which the autocorrelation of the activations defines. The free constant
    b_i is eliminated: it is the frequency zero, and leaves the data term.

    Args:
        signals: y, float32 or float64.
        kernel: a, on a window no larger than the signals.
        positive: Whether x >= 0.
        bias: Whether b is free, or zero.
        observed: (*shape,), true where y was observed; elsewhere y is taken to be what the model predicts.
    """

    def __init__(
        self, signals: Tensor, kernel: Tensor, *, positive: bool, bias: bool, observed: Tensor | None = None
    ) -> None:
        self.shape: torch.Size = signals.shape[1:]
        self.axes: tuple[int, ...] = tuple(range(1, signals.ndim))
        self.kernel: Tensor = kernel
        self.positive: bool = positive
        self.bias: bool = bias
        self.observed: Tensor | None = observed
        self.maps, self.dual = torch.zeros_like(signals), torch.zeros_like(signals)
        self.rho = 1.0
        self._see(signals)

    def largest_correlation(self) -> float:
        """The penalty from which on no activation is admitted."""
        correlation = self._back(self._response().conj() * self.spectra)
        return float(correlation.amax() if self.positive else correlation.abs().amax())

    def code(self, penalty: Tensor | float, iterations: int) -> None:
        """Move the activations towards their optimum; `penalty` is lambda w, broadcast to them."""
        response = self._response()
        correlation, rho = response.conj() * self.spectra, self.rho
        inverse = 1 / (response.abs().square() + rho)
        threshold = torch.as_tensor(penalty / rho, dtype=self.maps.dtype, device=self.maps.device)
        least = None if self.positive else -threshold
        maps, dual, before, dense = self.maps, self.dual, self.maps, self.maps
        for number in range(iterations):
            dense = self._back(self._forth(maps - dual).mul_(rho).add_(correlation).mul_(inverse))
            shifted = torch.lerp(maps, dense, _RELAXATION).add_(dual)
            # What soft thresholding takes away is the new dual variable.
            dual, before = shifted.clamp(min=least, max=threshold), maps
            maps = shifted.sub_(dual)
            if number % _LOOK == _LOOK - 1 and self._still(dense, before, maps):
                break
        self.maps, self.dual = maps, dual
        self._balance(torch.linalg.vector_norm(dense - maps), rho * torch.linalg.vector_norm(maps - before))

    def fit_kernel(self) -> None:
        """The kernel of least squares on its window, rescaled to unit norm with the opposite change of activations."""
        lags, wanted = self._normal_equations()
        self._take(_toeplitz_solve(lags, wanted, self.kernel))

    def fit_smooth_kernel(self, noise: float) -> Kind:
        """Take the kernel that `smooth_kernel` finds unless it is a rough one; returns of which kind it is.

        Args:
            noise: Standard deviation of the residual.
        """
        lags, wanted = self._normal_equations()
        fit = smooth_kernel(lags[: len(wanted)] / noise**2, wanted / noise**2)
        if fit.kind != "rough":
            self._take(fit.kernel.to(wanted))
        return fit.kind

    def _normal_equations(self) -> tuple[Tensor, Tensor]:
        """Autocorrelation of the activations at all lags, and their correlation with the signals on the window."""
        spectra = self._heard(self._forth(self.maps))
        lags = self._back(spectra.abs().square().sum(0))
        wanted = self._back((spectra.conj() * self.spectra).sum(0))
        return lags, wanted[tuple(slice(0, s) for s in self.kernel.shape)]

    def _take(self, kernel: Tensor) -> None:
        norm = torch.linalg.vector_norm(kernel)
        usable = norm > 0
        norm = torch.where(usable, norm, 1.0)
        self.kernel = torch.where(usable, kernel / norm, self.kernel)
        self.maps, self.dual = self.maps * norm, self.dual * norm

    def recentre(self, size: Sequence[int], *, crop: bool = False) -> None:
        """Move the box of `size` with the largest energy to the middle of the window, or cut the kernel to it."""
        energy = box_energy(self.kernel, size)
        # That of torch imports its symbolic shapes at the first call, which takes two seconds.
        corner = [int(i) for i in np.unravel_index(int(energy.argmax()), tuple(energy.shape))]
        if crop:
            self.kernel = self.kernel[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))]
            self.kernel = self.kernel / torch.linalg.vector_norm(self.kernel)
            self._roll(corner)
        else:
            self.shift([c - (w - s) // 2 for c, w, s in zip(corner, self.kernel.shape, size, strict=True)])

    def shift(self, moves: Sequence[int]) -> None:
        """Move the kernel to the left by `moves`, zeros coming in, and the activations to the right."""
        if any(moves):
            self.kernel = _moved(self.kernel, moves)
            self.kernel = self.kernel / torch.linalg.vector_norm(self.kernel)
            self._roll(moves)

    def _roll(self, moves: Sequence[int]) -> None:
        shifts = tuple(range(1, self.maps.ndim))
        self.maps: Tensor = self.maps.roll(list(moves), shifts)
        self.dual = self.dual.roll(list(moves), shifts)

    def lift(self, margin: Sequence[int]) -> None:
        """Zeros around the kernel, `margin` on both sides of every axis; the activations stay as they are, shifted."""
        pads = [amount for side in reversed(list(margin)) for amount in (side, side)]
        self.kernel = torch.nn.functional.pad(self.kernel, pads)
        self._roll([-side for side in margin])

    def refresh(self) -> Tensor:
        """Residual y - b - a * x (n, *shape), zero where y was not observed; there y becomes the prediction."""
        model = self.prediction()
        residual = self.signals - model
        if self.observed is None:
            return residual - residual.mean(self.axes, keepdim=True) if self.bias else residual
        residual = residual * self.observed
        if self.bias:
            constant = residual.sum(self.axes, keepdim=True) / self.observed.sum()
            residual = (residual - constant) * self.observed
            model = model + constant
        self._see(torch.where(self.observed, self.signals, model))
        return residual

    def prediction(self) -> Tensor:
        """a * x (n, *shape), without the constants."""
        return self._back(self._response(silent=False) * self._forth(self.maps))

    def _see(self, signals: Tensor) -> None:
        self.signals: Tensor = signals
        self.spectra: Tensor = self._heard(self._forth(signals))

    def _heard(self, spectra: Tensor) -> Tensor:
        """Spectra without the frequency that a free constant explains."""
        if self.bias:
            spectra[(slice(None), *[0] * len(self.shape))] = 0
        return spectra

    def _response(self, *, silent: bool = True) -> Tensor:
        spectrum = torch.fft.rfftn(self.kernel, s=self.shape, dim=tuple(range(self.kernel.ndim)))
        return self._heard(spectrum.unsqueeze(0))[0] if silent else spectrum

    def _forth(self, values: Tensor) -> Tensor:
        return torch.fft.rfftn(values, dim=self.axes)

    def _back(self, spectra: Tensor) -> Tensor:
        axes = tuple(range(spectra.ndim - len(self.shape), spectra.ndim))
        return torch.fft.irfftn(spectra, s=self.shape, dim=axes)

    def _still(self, dense: Tensor, before: Tensor, maps: Tensor) -> bool:
        norms = [torch.linalg.vector_norm(v) for v in (dense - maps, maps - before, maps)]
        apart, moved, size = torch.stack(norms).tolist()
        return max(apart, moved) <= _SETTLED * size

    def _balance(self, primal: Tensor, dual: Tensor) -> None:
        # One wait for the device per half-step, after all of its iterations.
        apart, moved = torch.stack([primal, dual]).tolist()
        factor = 2.0 if apart > _IMBALANCE * moved else 0.5 if moved > _IMBALANCE * apart else 1.0
        self.rho: float = self.rho * factor
        self.dual: Tensor = self.dual / factor


def box_energy(kernel: Float[Tensor, "*window"], size: Sequence[int]) -> Tensor:
    """Sum of squares in every box of `size` inside the window."""
    energy = kernel.square()
    for axis, side in enumerate(size):
        sums = torch.nn.functional.pad(energy.cumsum(axis).movedim(axis, -1), (1, 0)).movedim(-1, axis)
        length = sums.shape[axis]
        energy = sums.narrow(axis, side, length - side) - sums.narrow(axis, 0, length - side)
    return energy


def _moved(kernel: Tensor, moves: Sequence[int]) -> Tensor:
    """The kernel shifted to the left by `moves`, zeros coming in."""
    for axis, move in enumerate(moves):
        kernel = kernel.roll(-move, axis)
        if move:
            length = kernel.shape[axis]
            start, count = (0, -move) if move < 0 else (length - move, move)
            kernel = kernel.index_fill(axis, torch.arange(start, start + count, device=kernel.device), 0)
    return kernel


def _toeplitz_solve(lags: Tensor, wanted: Tensor, start: Tensor) -> Tensor:
    """Solve T a = wanted, T the block Toeplitz matrix of circular autocorrelations at differences inside the window."""
    window, axes = wanted.shape, tuple(range(wanted.ndim))
    for axis, side in enumerate(window):
        length = lags.shape[axis]
        grid = next_fast_len(2 * side - 1, real=True)
        if length > grid:
            ends = (lags.narrow(axis, 0, side), lags.narrow(axis, length - side + 1, side - 1))
            gap = [*lags.shape[:axis], grid - 2 * side + 1, *lags.shape[axis + 1 :]]
            lags = torch.cat([ends[0], lags.new_zeros(gap), ends[1]], axis)
    spectrum, embedded = torch.fft.rfftn(lags, dim=axes), lags.shape
    cut = tuple(slice(0, side) for side in window)

    def product(a: Tensor) -> Tensor:
        return torch.fft.irfftn(spectrum * torch.fft.rfftn(a, s=embedded, dim=axes), s=embedded, dim=axes)[cut]

    tiny = torch.finfo(wanted.dtype).tiny
    found = start * ((start * wanted).sum() / (start * product(start)).sum().clamp(min=tiny))
    residual = wanted - product(found)
    direction, energy = residual, residual.square().sum()
    enough = wanted.square().sum() * torch.finfo(wanted.dtype).eps
    for number in range(min(_CONJUGATE, math.prod(window))):
        if number % _LOOK == 0 and not bool(energy > enough):
            break
        image = product(direction)
        # A residual that is nothing but rounding moves nothing; masking it spares the device a wait.
        going = energy > enough
        length = torch.where(going, energy / (direction * image).sum().clamp(min=tiny), 0.0)
        found, residual = found + length * direction, residual - length * image
        before, energy = energy, residual.square().sum()
        direction = residual + torch.where(going, energy / before.clamp(min=tiny), 0.0) * direction
    return found
