"""Two noisy manifolds: windows with a chirp of unknown masses, time and phase, and windows without one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tightframe.data.recorded.chirps import colored, design_spectrum, glitches, inspirals, lines, white_noise, whitened

RATE, SAMPLES, DURATION = 1024.0, 512, 0.3
# Sample at which templates coalesce, and the shifts over which a chirp may move from there.
REFERENCE, SHIFTS = 388, 104
# Hz, of mains and its overtone, where chirps have much of their power.
LINES = (60.0, 120.0)


@dataclass(frozen=True)
class Condition:
    """Noise, in which a bank of templates expects Gaussian noise of the design spectrum.

    Args:
        name: What tables call it.
        resonance: Height of the lines over the design spectrum at `LINES`; 0 for none.
        freedom: Degrees of freedom of the whitened noise, which is Student's t; infinite for Gaussian.
        disturbances: Mean number of glitches in a window.
    """

    name: str
    resonance: float = 0.0
    freedom: float = math.inf
    disturbances: float = 0.0


KNOWN = Condition("known noise")
SPECTRUM = Condition("wrong spectrum", resonance=30.0)
TAILS = Condition("heavy tails", freedom=3.0)
GLITCHES = Condition("glitches", disturbances=0.3)
CONDITIONS = {each.name: each for each in (KNOWN, SPECTRUM, TAILS, GLITCHES)}


def design() -> np.ndarray:
    """(samples // 2 + 1,), the spectrum that the bank knows."""
    return design_spectrum(np.fft.rfftfreq(SAMPLES, 1 / RATE))


def noise(condition: Condition, n: int, source: np.random.Generator) -> np.ndarray:
    """(n, samples), whitened by the design spectrum, which is not always the spectrum that it has."""
    white = white_noise(n, SAMPLES, freedom=condition.freedom, seed=source)
    truth = design()
    if condition.resonance:
        frequencies = np.fft.rfftfreq(SAMPLES, 1 / RATE)
        truth = truth * lines(frequencies, at=LINES, height=condition.resonance)
    values = whitened(colored(white, truth), design())
    if condition.disturbances:
        values += glitches(n, SAMPLES, rate=RATE, mean=condition.disturbances, seed=source)
    return values


def shapes(masses: np.ndarray) -> np.ndarray:
    """(n, samples), complex: both quadratures of chirps at the reference time, whitened, each of norm 1."""
    chirps = inspirals(masses, samples=SAMPLES, rate=RATE, coalescence=REFERENCE / RATE, duration=DURATION)
    parts = [whitened(part, design()) for part in (chirps.real, chirps.imag)]
    first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
    return first + 1j * second


def draw_masses(n: int, limits: tuple[float, float], source: np.random.Generator) -> np.ndarray:
    """(n, 2), independent and uniform in these limits."""
    return source.uniform(*limits, (n, 2))


def signals(
    pool: np.ndarray, n: int, strengths: tuple[float, float], source: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Chirps (n, samples) of a pool's shapes at random phases, shifts and strengths, and these strengths (n,).

    A strength is the norm of the whitened chirp: the signal-to-noise ratio of its own matched filter in known noise.
    """
    chosen = pool[source.integers(len(pool), size=n)]
    turned = (chosen * np.exp(-1j * source.uniform(0, 2 * math.pi, (n, 1)))).real
    places = (np.arange(SAMPLES) - source.integers(SHIFTS, size=(n, 1))) % SAMPLES
    strength = source.uniform(*strengths, n)
    return strength[:, None] * np.take_along_axis(turned, places, axis=1), strength
