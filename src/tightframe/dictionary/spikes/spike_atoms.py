"""Waveforms of units at fractions of a sample, how they overlap, and spikes as places in a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

# Waveforms are tried at so many shifts between two samples.
PHASES = 4


@dataclass(frozen=True, eq=False)
class Events:
    """Spikes as places in a signal.

    Args:
        places: (n,), sample at which the waveform begins, ascending.
        units: (n,), position of the unit.
        phases: (n,), 0 to PHASES - 1: the shift between samples.
        gains: (n,), by what the waveform is scaled.
    """

    places: np.ndarray
    units: np.ndarray
    phases: np.ndarray
    gains: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def starts(self) -> np.ndarray:
        """(n,), places with their fractions, in samples."""
        return self.places + fractions()[self.phases]

    def select(self, which: np.ndarray) -> Events:
        """Those of a mask or of indices."""
        return Events(*(column[which] for column in (self.places, self.units, self.phases, self.gains)))

    def moved(self, by: int) -> Events:
        """The same `by` samples later."""
        return Events(self.places + by, self.units, self.phases, self.gains)


@dataclass(frozen=True)
class Prior:
    """What is known of spikes before a recording is seen.

    Args:
        cost: (units,), negative logarithm of the odds that a unit fires at a given sample and phase.
        gains: (units,), expected scale of each unit's waveform.
        spread: Standard deviation of the scale around that.
        refractory: Samples within which a unit fires once.
    """

    cost: np.ndarray
    gains: np.ndarray
    spread: float
    refractory: int


def fractions() -> np.ndarray:
    """(PHASES,), the shifts between samples, symmetric about 0."""
    return (np.arange(PHASES) + 0.5) / PHASES - 0.5


def shifted(waves: np.ndarray, by: float | np.ndarray) -> np.ndarray:
    """Waves (..., samples) moved `by` samples later, by the phase of their spectra; zeros come in."""
    length = waves.shape[-1]
    room = length + 16
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(room) * np.asarray(by)[..., None])
    return np.fft.irfft(np.fft.rfft(waves, n=room) * phase, n=room)[..., :length]


class Atoms:
    """Waveforms of all units at all phases, and how they overlap.

    Args:
        waves: (units, channels, samples), for a signal whose noise is white and of unit variance.
    """

    def __init__(self, waves: np.ndarray) -> None:
        self.units: int
        self.channels: int
        self.length: int
        self.units, self.channels, self.length = waves.shape
        every = shifted(waves[:, None], fractions()[None, :, None])
        self.waves: NDArray[Any] = every.reshape(-1, self.channels, self.length)
        self.unit: NDArray[Any] = np.repeat(np.arange(self.units), PHASES)
        self.energy: NDArray[Any] = np.einsum("pct,pct->p", self.waves, self.waves)
        room = 2 * self.length
        spectra = np.fft.rfft(self.waves, n=room)
        products = np.einsum("pcf,qcf->pqf", spectra, spectra.conj())
        lags = np.fft.irfft(products, n=room)
        # overlap[p, q, length - 1 + d] = sum_i waves_p[i + d] waves_q[i]
        self.overlap: NDArray[Any] = np.concatenate(
            (lags[..., room - self.length + 1 :], lags[..., : self.length]), axis=-1
        )

    def correlate(self, signal: np.ndarray) -> np.ndarray:
        """Correlation of every atom with a signal (channels, time) at every place where the whole of it lies."""
        single = torch.from_numpy(np.ascontiguousarray(signal, dtype=np.float32))[None]
        # Directly rather than by transforms, which take several times as long for waveforms of this length.
        return functional.conv1d(single, torch.from_numpy(self.waves.astype(np.float32)))[0].numpy()

    def synthesize(self, events: Events, time: int) -> np.ndarray:
        """(channels, time) of events, which lie in it as a whole."""
        signal = np.zeros((self.channels, time))
        index = events.places[:, None] + np.arange(self.length)
        scaled = self.waves[events.units * PHASES + events.phases] * events.gains[:, None, None]
        for channel in range(self.channels):
            np.add.at(signal[channel], index, scaled[:, channel])
        return signal
