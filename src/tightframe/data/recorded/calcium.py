"""Calcium imaging: fluorescence with known spikes, recorded or simulated, as traces and as movies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.data.array_files import read_array
from tightframe.data.location import data_file


@dataclass(frozen=True, eq=False)
class CalciumTrace:
    """Fluorescence of one cell and its spikes.

    Args:
        fluorescence: (frames,), float64.
        spikes: (frames,), number of spikes (or their size) in every frame.
        rate: Frames per second.
    """

    fluorescence: np.ndarray
    spikes: np.ndarray
    rate: float


@dataclass(frozen=True, eq=False)
class CalciumMovie:
    """A movie of cells of which everything is known.

    Args:
        frames: (frames, height, width).
        footprints: (cells, height, width), at least 0, the largest of each 1.
        traces: (cells, frames), without noise.
        spikes: (cells, frames), sizes of the events.
        rate: Frames per second.
    """

    frames: np.ndarray
    footprints: np.ndarray
    traces: np.ndarray
    spikes: np.ndarray
    rate: float


def spikefinder(number: int, *, root: str | Path | None = None, rate: float = 100.0) -> tuple[CalciumTrace, ...]:
    """Recorded cells of the spikefinder challenge, with spikes from simultaneous electrodes.

    Args:
        number: Of the training set: `calcium/NUMBER.train.calcium.csv` and `.spikes.csv` below the root, gzipped or
            not, one column per cell, padded with NaN at the end.
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.
        rate: Frames per second; all sets were resampled to 100.

    Returns:
        One trace per cell, without the padding.

    Raises:
        InputError: A file is missing or damaged, the two do not belong together, or NaN lies inside a trace.

    Reference: [berens2018community].
    """
    check_count(number, "number")
    paths = [data_file(f"calcium/{number}.train.{kind}.csv", root=root) for kind in ("calcium", "spikes")]
    calcium, spikes = (read_array(path) for path in paths)
    if calcium.ndim != 2 or calcium.shape != spikes.shape:
        raise InputError(
            f"as many frames and cells in {paths[0]} as in {paths[1]}",
            got=f"{calcium.shape} and {spikes.shape}",
            remedy="Put the files of one data set together.",
        )
    traces = []
    for cell in range(calcium.shape[1]):
        valid = ~(np.isnan(calcium[:, cell]) | np.isnan(spikes[:, cell]))
        count = int(valid.sum())
        if not valid[:count].all() or not count:
            raise InputError(
                f"traces padded at the end in {paths[0]}", got=f"gaps in {cell}", remedy="Fill them first."
            )
        traces.append(CalciumTrace(calcium[:count, cell].copy(), spikes[:count, cell].copy(), float(rate)))
    return tuple(traces)


def calcium_response(
    rate: float, *, rise: float = 0.07, decay: float = 0.7, seconds: float | None = None
) -> np.ndarray:
    r"""What one spike does to the fluorescence: two exponentials, the peak being 1.

    .. math:: h(t) \propto e^{-t / \tau_d} - e^{-t / \tau_r}

    Args:
        rate: Frames per second.
        rise: tau_r in seconds, positive and below `decay`.
        decay: tau_d in seconds.
        seconds: Length; eight times `decay` when None, after which 5e-4 or so is left.

    Returns:
        (frames,), float64, from the frame of the spike on: a frame shows the fluorescence at its end, so that the first
        entry is not 0, as in the autoregressive model of second order of which this is the impulse response.

    Raises:
        InputError: Times that are not 0 < rise < decay, or a response of fewer than two frames.
    """
    if not (0 < rise < decay < math.inf and 0 < rate < math.inf):
        raise InputError(
            "0 < rise < decay and a positive rate", got=f"{rise}, {decay}, {rate}", remedy="Use 0.07, 0.7 and 30."
        )
    frames = math.ceil((8 * decay if seconds is None else seconds) * rate)
    if frames < 2:
        raise InputError("at least two frames", got=f"{frames}", remedy="Lengthen the response or raise the rate.")
    time = np.arange(1, frames + 1) / rate
    peak = rise * decay / (decay - rise) * math.log(decay / rise)
    scale = math.exp(-peak / decay) - math.exp(-peak / rise)
    return (np.exp(-time / decay) - np.exp(-time / rise)) / scale


def calcium_trace(
    frames: int = 10_000,
    *,
    rate: float = 30.0,
    rise: float = 0.07,
    decay: float = 0.7,
    events: float = 0.5,
    noise: float = 0.1,
    baseline: float = 0.0,
    seed: int = 0,
) -> CalciumTrace:
    r"""One simulated cell.

    .. math:: y = b + h * s + \varepsilon

    where
        h is `calcium_response` (peak 1, so `noise` is relative to the peak of one spike), and s counts the spikes of
        a Poisson process.

    Args:
        frames: How many.
        rate: Frames per second.
        rise: Seconds.
        decay: Seconds.
        events: Spikes per second.
        noise: Standard deviation of white Gaussian noise.
        baseline: b.
        seed: Of everything random.

    Raises:
        InputError: An argument outside its range.
    """
    check_count(frames, "frames")
    _check_amounts(events=events, noise=noise)
    response = calcium_response(rate, rise=rise, decay=decay)
    source = np.random.default_rng(seed)
    spikes = source.poisson(events / rate, frames).astype(np.float64)
    values = baseline + _responses(spikes[None], response)[0] + noise * source.standard_normal(frames)
    return CalciumTrace(values, spikes, float(rate))


def calcium_movie(
    cells: int = 12,
    frames: int = 300,
    *,
    shape: tuple[int, int] = (64, 64),
    radius: float = 4.0,
    rate: float = 30.0,
    rise: float = 0.07,
    decay: float = 0.7,
    events: float = 0.5,
    noise: float = 0.1,
    background: float = 0.5,
    seed: int = 0,
) -> CalciumMovie:
    r"""Simulated cells in a field of view; they may overlap.

    .. math:: Y_t(z) = \beta(z) + \sum_i A_i(z)\, c_i(t) + \varepsilon_t(z),
        \quad A_i(z) = e^{-(|z - z_i| / \rho)^4}

    where the footprints A_i are flat discs with soft edges of radius rho at random places z_i, and beta is a slope.

    Args:
        cells: How many.
        frames: How many.
        shape: Height and width in pixels.
        radius: rho in pixels; no cell's centre lies nearer to the border.
        rate: Frames per second.
        rise: Seconds.
        decay: Seconds.
        events: Spikes per second of every cell.
        noise: Standard deviation at every pixel, relative to the peak of one spike.
        background: Largest value of beta, at one corner; 0 at the opposite one.
        seed: Of everything random.

    Raises:
        InputError: An argument outside its range, or an image with no room for a cell.
    """
    check_count(cells, "cells")
    check_count(frames, "frames")
    _check_amounts(events=events, noise=noise)
    if not (0 < radius < math.inf and len(shape) == 2 and min(shape) > 2 * radius):
        raise InputError("an image wider than a cell", got=f"{shape}, radius {radius}", remedy="Use (64, 64) and 4.")
    response = calcium_response(rate, rise=rise, decay=decay)
    source = np.random.default_rng(seed)
    sides = np.array(shape)
    centres = source.uniform(radius, sides - 1 - radius, (cells, 2))
    down, across = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    distance = np.hypot(down - centres[:, 0, None, None], across - centres[:, 1, None, None])
    footprints = np.exp(-((distance / radius) ** 4))
    footprints /= footprints.max(axis=(1, 2), keepdims=True)
    spikes = source.poisson(events / rate, (cells, frames)).astype(np.float64)
    traces = _responses(spikes, response)
    slope = background * (down / shape[0] + across / shape[1]) / 2
    movie = slope + np.tensordot(traces.T, footprints, axes=1)
    movie += noise * source.standard_normal(movie.shape)
    return CalciumMovie(movie, footprints, traces, spikes, float(rate))


def _responses(spikes: np.ndarray, response: np.ndarray) -> np.ndarray:
    from scipy.signal import fftconvolve

    return fftconvolve(spikes, response[None], axes=1)[:, : spikes.shape[1]]


def _check_amounts(**amounts: float) -> None:
    for name, value in amounts.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} of at least 0", got=repr(value), remedy=f"Use {name}=0.1.")
