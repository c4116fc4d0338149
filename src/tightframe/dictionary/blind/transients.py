"""A first kernel for events that rise and decay: two exponentials, fitted to the spectrum of the signals."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import digamma, polygamma
from torch import Tensor

from tightframe.core.typing import Float

# Frequencies are averaged in groups until no more than this many are left, and fewer than the second say too little.
_MOST, _LEAST = 1024, 32
# Standard deviations above its mean at which the misfit of the spectrum says that the kernel is of another kind.
_DEVIATIONS = 5.0
# Decay and rise begin at these shares of the kernel's length; none lasts longer than twice the kernel.
_BEGINNINGS, _LONGEST = ((0.2, 0.025), (0.1, 0.005)), 2.0
# Shortest time constant, in points.
_SHORTEST = 0.15
# Room that the logarithms of noise and gain have beyond those of the spectrum: a line search must not overflow.
_ROOM = 7.0


def transient_kernel(signals: Float[Tensor, "n time"], size: int) -> Float[Tensor, " size"] | None:
    r"""Difference of two exponentials whose spectrum, with white noise added, is most likely that of the signals.

    .. math:: \min_{c, \sigma, p_1, p_2}\ \sum_f \log S(f) + \frac{P(f)}{S(f)}, \qquad
        S(f) = \sigma^2 + \frac{c}{|(1 - p_1 e^{-i f})(1 - p_2 e^{-i f})|^2}

    where
        P is the mean periodogram of `signals`, and the kernel that belongs to the second term the response of an
        autoregressive model of second order. Independent events are white, so that the spectrum shows the kernel
        without the events being known: much better than any one event does where there is much noise.

    Args:
        signals: (n, time), without their constants.
        size: Points of the kernel.

    Returns:
        The kernel, of unit norm, from its first point that is not zero on; or None where the likelihood of the best fit
        lies 5 standard deviations below what it is if the model is right.

    Reference: [whittle1953estimation]; [pnevmatikakis2016simultaneous], equation 3, for the model.
    """
    frequencies, power, averaged = _spectrum(signals)
    if len(power) < _LEAST or not float(power.min()) > 0:
        return None
    waves = np.exp(-1j * frequencies)
    bounds = _bounds(power, size)
    fits = []
    for decay, rise in _BEGINNINGS:
        times = np.log(np.clip([decay * size, rise * size], 2 * _SHORTEST, None))
        floor = float(np.median(power[-max(len(power) // 10, 1) :]))
        gain = max(float(power[: max(len(power) // 100, 1)].mean()) - floor, 0.1 * floor)
        begin = [math.log(gain * np.prod(1 - _poles(times)) ** 2), math.log(floor), *times]
        fits.append(minimize(_misfit, begin, (waves, power), method="L-BFGS-B", bounds=bounds))
    best = min(fits, key=lambda fit: fit.fun)
    # The averaged periodogram over the spectrum is a gamma variable of mean one and this shape.
    excess = best.fun - float(np.log(power).mean()) - (1 - digamma(averaged) + math.log(averaged))
    deviation = math.sqrt((polygamma(1, averaged) - 1 / averaged) / len(power))
    if not excess < _DEVIATIONS * deviation:
        return None
    kernel = torch.from_numpy(_response(_poles(best.x[2:]), size)).to(signals)
    return kernel / torch.linalg.vector_norm(kernel)


def _spectrum(signals: Tensor) -> tuple[np.ndarray, np.ndarray, int]:
    """Frequencies, mean periodogram, and how many independent values every mean is of."""
    length = signals.shape[1]
    power = torch.fft.rfft(signals.double()).abs().square().mean(0)[1 : (length + 1) // 2] / length
    values = power.cpu().numpy()
    group = -(-len(values) // _MOST)
    kept = len(values) // group * group if group else 0
    frequencies = 2 * math.pi * np.arange(1, kept + 1) / length
    rows = (-1, max(group, 1))
    return frequencies.reshape(rows).mean(1), values[:kept].reshape(rows).mean(1), max(group, 1) * len(signals)


def _bounds(power: np.ndarray, size: int) -> list[tuple[float, float]]:
    """Least and largest logarithms of gain, noise, and both time constants."""
    least, most = math.log(power.min()) - _ROOM, math.log(power.max()) + _ROOM
    slowest = 4 * math.log(1 - float(_poles(np.log(_LONGEST * size))))
    times = (math.log(_SHORTEST), math.log(_LONGEST * size))
    return [(least + slowest, most), (least, most), times, times]


def _misfit(values: np.ndarray, waves: np.ndarray, power: np.ndarray) -> float:
    first, second = _poles(values[2:])
    spectrum = math.exp(values[1]) + math.exp(values[0]) / np.abs((1 - first * waves) * (1 - second * waves)) ** 2
    return float(np.mean(np.log(spectrum) + power / spectrum))


def _poles(times: np.ndarray) -> np.ndarray:
    return np.exp(-1 / np.exp(np.asarray(times, dtype=np.float64)))


def _response(poles: np.ndarray, size: int) -> np.ndarray:
    # Sum over how many of the steps belong to the first pole: also right where both poles are the same.
    powers = poles[:, None] ** np.arange(size)
    return np.convolve(powers[0], powers[1])[:size]
