"""Synthetic chirps of inspiralling binaries, over the two masses, and the noise in which they are looked for."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError

Order = Literal[0, 1, 2]

# Gravitational constant times one solar mass over the speed of light cubed, in seconds.
SOLAR_MASS = 4.925490947e-6
# v / c at the innermost stable circular orbit of a test mass, where pi M F = 6^(-3/2).
_INNERMOST = 6.0**-1.5
# theta beyond the end of every inspiral, and points at which that end is looked for.
_LARGEST_THETA, _GRID = 1.5, 1 << 11
_POWERS = np.array([0, 2, 3, 4])


def inspirals(
    masses: ArrayLike,
    *,
    samples: int = 512,
    rate: float = 1024.0,
    coalescence: ArrayLike = 0.45,
    duration: float = 0.3,
    taper: float = 0.02,
    order: Order = 2,
) -> np.ndarray:
    r"""Restricted post-Newtonian chirps of two masses without spins, in both quadratures.

    .. math:: h(t) \propto F^{2/3} e^{2 i \varphi}, \qquad
        \varphi = -\frac{1}{\eta} \sum_k p_k\, \theta^{k - 5}, \qquad
        F = \frac{\theta^3}{8 \pi M} \sum_k \frac{5 - k}{5}\, p_k\, \theta^k, \qquad
        \theta = \Bigl(\frac{\eta\,(t_c - t)}{5 M}\Bigr)^{-1/8}

    where
        M = M1 + M2 in seconds, eta = M1 M2 / M^2, t_c is `coalescence`, and p_0 = 1, p_2 = 3715 / 8064 + 55 eta / 96,
        p_3 = -3 pi / 4, p_4 = 9275495 / 14450688 + 284875 eta / 258048 + 1855 eta^2 / 2048. Order 0 (Newtonian) takes
        p_0, order 1 also p_2, order 2 all of them.

    The chirp begins `duration` before t_c and ends where F reaches the innermost stable orbit, 1 / (6^1.5 pi M), or
    stops rising; both ends are raised cosines. There is no merger and no ringdown, which matter above that frequency.

    Args:
        masses: (n, 2), M1 and M2 in solar masses, in either order.
        samples: Of a window.
        rate: Samples per second.
        coalescence: t_c in seconds after the window's first sample; one for all or (n,).
        duration: Seconds.
        taper: Seconds of either raised cosine.
        order: Of the expansion in v^2 / c^2.

    Returns:
        (n, samples), complex128, the largest modulus of a row about 1: the real part is the chirp of phase 0, the
        imaginary part that of phase pi / 2, and the chirp of phase a is the real part of exp(-i a) h.

    Raises:
        InputError: Masses or times that are not above zero, an unknown order, a chirp that begins outside the window.

    Example:
        >>> inspirals([[20.0, 10.0]]).shape
        (1, 512)

    Reference: [buonanno2009comparison], TaylorT3, equations 3.10.
    """
    check_count(samples, "samples", least=2)
    pairs = _masses(masses)
    ends = np.broadcast_to(np.asarray(coalescence, dtype=np.float64), (len(pairs),))
    if not (0 < taper < duration < math.inf and 0 < rate < math.inf):
        raise InputError(
            "0 < taper < duration and a positive rate",
            got=f"{taper}, {duration}, {rate}",
            remedy="Use 0.02, 0.3, 1024.",
        )
    if not (np.isfinite(ends).all() and (ends >= duration).all() and (ends <= samples / rate).all()):
        raise InputError(
            f"coalescence in [{duration}, {samples / rate:g}] s, so that the chirp lies in its window",
            got=f"{ends.min():g} to {ends.max():g} s",
            remedy="Lengthen the window, or shorten the chirp.",
        )
    total, share = pairs.sum(1)[:, None] * SOLAR_MASS, (pairs.prod(1) / pairs.sum(1) ** 2)[:, None]
    before = ends[:, None] - np.arange(samples) / rate
    theta = _theta(np.clip(before, 1e-9, None), total, share)
    terms = _phase_terms(share, order)
    angle = -2 / share * _series(terms, theta, -5)
    pitch = _series(terms * (5 - _POWERS) / 5, theta, 3)
    last = _last_theta(terms)
    # theta^-8 is the time that is left, in units of 5 M / eta.
    left = before - last[:, None] ** -8 * 5 * total / share
    window = _ramp(left / taper) * _ramp((duration - before) / taper)
    peak = _series(terms * (5 - _POWERS) / 5, last[:, None], 3)
    return window * np.clip(pitch / peak, 0, None) ** (2 / 3) * np.exp(1j * angle)


def frequency(masses: ArrayLike, before: ArrayLike, *, order: Order = 2) -> np.ndarray:
    """Frequency F in Hz of these chirps at times before the coalescence, as in `inspirals`.

    Args:
        masses: (n, 2), solar masses.
        before: Seconds, above zero; (m,).
        order: Of the expansion.

    Returns:
        (n, m).

    Raises:
        InputError: Masses or times that are not above zero.
    """
    pairs, times = _masses(masses), np.asarray(before, dtype=np.float64)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise InputError("times before the coalescence, above 0", got=f"{times.min():g}", remedy="Pass seconds.")
    total, share = pairs.sum(1)[:, None] * SOLAR_MASS, (pairs.prod(1) / pairs.sum(1) ** 2)[:, None]
    terms = _phase_terms(share, order) * (5 - _POWERS) / 5
    return _series(terms, _theta(times[None], total, share), 3) / (8 * math.pi * total)


def design_spectrum(frequencies: ArrayLike) -> np.ndarray:
    r"""Shape of the noise spectrum of an advanced ground-based detector, 1 at its least value.

    .. math:: S(f) \propto x^{-4.14} - 5 x^{-2} + 111\, \frac{1 - x^2 + x^4 / 2}{1 + x^2 / 2}, \qquad x = f / 215\,
        \mathrm{Hz}

    Below 20 Hz, where the formula ends, it stays at its value there.

    Args:
        frequencies: In Hz, at least zero.

    Reference: [sathyaprakash2009physics], table 1.
    """
    return _advanced(np.asarray(frequencies, dtype=np.float64)) / _advanced(np.arange(20.0, 400.0, 0.25)).min()


def lines(
    frequencies: ArrayLike, *, at: tuple[float, ...] = (60.0, 120.0), height: float = 100.0, width: float = 2.0
) -> np.ndarray:
    """Factor of a spectrum with resonances: 1 plus a Lorentzian of this height and half width (Hz) at every line."""
    values = np.asarray(frequencies, dtype=np.float64)
    return 1 + sum(height / (1 + ((values - place) / width) ** 2) for place in at)


def colored(white: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Noise of this spectrum from white noise; windows are periodic, so that `whitened` undoes it exactly.

    Args:
        white: (n, samples), unit variance.
        spectrum: (samples // 2 + 1,), at the frequencies of `numpy.fft.rfftfreq`, above zero; 1 leaves it white.

    Raises:
        InputError: Another length, or values not above zero.
    """
    return _filtered(white, np.sqrt(_spectrum(spectrum, white.shape[-1])))


def whitened(values: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Divide by the root of a spectrum, frequency by frequency; the reverse of `colored`."""
    return _filtered(values, 1 / np.sqrt(_spectrum(spectrum, values.shape[-1])))


def white_noise(n: int, samples: int, *, freedom: float = math.inf, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Independent values of unit variance: Gaussian, or Student's t with so many degrees of freedom.

    Args:
        n: Windows.
        samples: Of each.
        freedom: Above 2; infinite for Gaussian noise.
        seed: A seed or a generator.

    Returns:
        (n, samples).

    Raises:
        InputError: Degrees of freedom of at most 2, which have no variance.
    """
    check_count(n, "n", least=0)
    check_count(samples, "samples")
    if not freedom > 2:
        raise InputError("freedom above 2", got=repr(freedom), remedy="Use 3 for heavy tails, math.inf for none.")
    source = np.random.default_rng(seed)
    if math.isinf(freedom):
        return source.standard_normal((n, samples))
    return source.standard_t(freedom, (n, samples)) * math.sqrt((freedom - 2) / freedom)


def glitches(
    n: int,
    samples: int,
    *,
    rate: float = 1024.0,
    mean: float = 0.3,
    band: tuple[float, float] = (30.0, 200.0),
    quality: tuple[float, float] = (2.0, 12.0),
    size: tuple[float, float] = (5.0, 50.0),
    seed: int | np.random.Generator = 0,
) -> np.ndarray:
    r"""Short disturbances, sine-Gaussians at random times, in units of the whitened noise.

    .. math:: g(t) \propto e^{-(t - t_0)^2 / (2 \sigma^2)} \cos(2 \pi f (t - t_0) + a), \qquad
        \sigma = \frac{Q}{2 \pi f}

    where f, Q and the Euclidean norm of g are log-uniform in `band`, `quality` and `size`, t_0 and a uniform.

    Args:
        n: Windows.
        samples: Of each.
        rate: Samples per second.
        mean: Number per window, which is Poisson.
        band: Hz.
        quality: Q.
        size: Norms; what a matched filter of the same shape would call the signal-to-noise ratio.
        seed: A seed or a generator.

    Returns:
        (n, samples).

    Raises:
        InputError: A range that does not ascend from above zero, a negative number.
    """
    check_count(n, "n", least=0)
    for name, limits in (("band", band), ("quality", quality), ("size", size)):
        if not 0 < limits[0] <= limits[1] < math.inf:
            raise InputError(f"{name}: 0 < low <= high", got=repr(limits), remedy="Use the default.")
    if not 0 <= mean < math.inf:
        raise InputError("mean of at least 0", got=repr(mean), remedy="Use 0.3.")
    source = np.random.default_rng(seed)
    counts = source.poisson(mean, n)
    many = int(counts.sum())
    pitch, q, norm = (
        np.exp(source.uniform(math.log(low), math.log(high), many))[:, None] for low, high in (band, quality, size)
    )
    place, phase = source.uniform(0, samples / rate, (many, 1)), source.uniform(0, 2 * math.pi, (many, 1))
    time = np.arange(samples) / rate - place
    shapes = np.exp(-((time * 2 * math.pi * pitch / q) ** 2) / 2) * np.cos(2 * math.pi * pitch * time + phase)
    shapes *= norm / np.linalg.norm(shapes, axis=1, keepdims=True)
    windows = np.zeros((n, samples))
    np.add.at(windows, np.repeat(np.arange(n), counts), shapes)
    return windows


def _masses(masses: ArrayLike) -> np.ndarray:
    pairs = np.asarray(masses, dtype=np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not (np.isfinite(pairs).all() and (pairs > 0).all()):
        raise InputError("masses (n, 2), above 0", got=f"shape {pairs.shape}", remedy="Pass [[30.0, 20.0]].")
    return pairs


def _theta(before: np.ndarray, total: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (share * before / (5 * total)) ** -0.125


def _phase_terms(share: np.ndarray, order: int) -> np.ndarray:
    """(n, 4): p_0, p_2, p_3 and p_4, zero beyond the order."""
    if order not in (0, 1, 2):
        raise InputError("order 0, 1 or 2", got=repr(order), remedy="Use 2.")
    second = 3715 / 8064 + 55 / 96 * share
    fourth = 9275495 / 14450688 + 284875 / 258048 * share + 1855 / 2048 * share**2
    third = np.full_like(share, -3 * math.pi / 4)
    terms = np.concatenate((np.ones_like(share), second, third, fourth), axis=1)
    return terms * (2 * order >= _POWERS)


def _series(terms: np.ndarray, theta: np.ndarray, power: int) -> np.ndarray:
    return sum(terms[:, i, None] * theta ** (power + k) for i, k in enumerate(_POWERS.tolist()))


def _last_theta(terms: np.ndarray) -> np.ndarray:
    """(n,): theta at which the frequency reaches the innermost stable orbit, or no longer rises."""
    theta = np.linspace(1e-3, _LARGEST_THETA, _GRID)[None]
    pitch = _series(terms * (5 - _POWERS) / 5, theta, 3) / 8
    over = pitch[:, 1:] >= _INNERMOST
    turned = np.diff(pitch, axis=1) <= 0
    return theta[0, np.argmax(over | turned, axis=1)]


def _ramp(share: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and half a cosine between them."""
    return (1 - np.cos(math.pi * np.clip(share, 0, 1))) / 2


def _advanced(frequencies: np.ndarray) -> np.ndarray:
    square = (np.maximum(frequencies, 20.0) / 215.0) ** 2
    return square**-2.07 - 5 / square + 111 * (1 - square + square**2 / 2) / (1 + square / 2)


def _spectrum(spectrum: np.ndarray, samples: int) -> np.ndarray:
    values = np.asarray(spectrum, dtype=np.float64)
    if values.shape != (samples // 2 + 1,) or not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(
            f"a spectrum ({samples // 2 + 1},), above 0", got=f"shape {values.shape}", remedy="Use rfftfreq(samples)."
        )
    return values


def _filtered(values: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return np.fft.irfft(np.fft.rfft(values, axis=-1) * gains, n=values.shape[-1], axis=-1)
