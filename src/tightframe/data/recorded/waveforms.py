"""Spike waveforms: labelled ones from a file, their means as templates, and analytic ones that need no file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.array_files import named_arrays
from tightframe.data.location import data_file

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class LabelledWaveforms:
    """Waveforms around detected spikes, each with the unit that it was assigned to.

    Args:
        values: (n, samples), float64.
        units: (n,), int64 labels.
    """

    values: np.ndarray
    units: np.ndarray

    def means(self, *, taper: int = 4) -> np.ndarray:
        """The mean waveform of every unit, ascending by label, its ends brought to zero; (units, samples).

        Args:
            taper: Samples at either end over which a raised cosine brings the mean to zero: cut-outs end abruptly, and
                a recording composed of them would have jumps that no electrode sees. 0 leaves the means as they are.

        Raises:
            InputError: A taper that reaches beyond the middle.
        """
        samples = self.values.shape[1]
        if not 0 <= taper <= samples // 2:
            raise InputError(f"a taper of 0 to {samples // 2} samples", got=repr(taper), remedy="Use 4.")
        means = np.stack([self.values[self.units == unit].mean(axis=0) for unit in np.unique(self.units)])
        rise = np.sin(np.pi / 2 * np.arange(1, taper + 1) / (taper + 1)) ** 2
        means[:, :taper] *= rise
        means[:, samples - taper :] *= rise[::-1]
        return means


def labelled_waveforms(path: str | Path | None = None, *, root: str | Path | None = None) -> LabelledWaveforms:
    """Waveforms and labels from a MATLAB file or .npz with arrays `Spike` (samples, n) and `LabelC` (n entries).

    Args:
        path: The file; `spikes/Refine_original_waveforms.mat` below the root when absent (3310 waveforms of 32
            samples, 4 units). The sampling rate is not part of such files.
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: The file is missing or damaged, lacks an array, or holds another number of labels than waveforms.
    """
    path = Path(path) if path is not None else data_file("spikes/Refine_original_waveforms.mat", root=root)
    found = named_arrays(path)
    if missing := {"Spike", "LabelC"} - set(found):
        raise InputError(
            f"arrays Spike and LabelC in {path}", got=", ".join(found) or "none", remedy=f"Add {', '.join(missing)}."
        )
    values, units = np.array(found["Spike"], dtype=np.float64), found["LabelC"].reshape(-1)
    if values.ndim != 2 or values.shape[1] != len(units) or not np.isfinite(values).all():
        raise InputError(
            f"finite waveforms (samples, n) and n labels in {path}",
            got=f"{values.shape} and {len(units)} labels",
            remedy="Put the files of one data set together.",
        )
    return LabelledWaveforms(np.ascontiguousarray(values.T), units.astype(np.int64))


def analytic_templates(units: int, rate: float, *, channels: int = 1, milliseconds: float = 3.0) -> np.ndarray:
    r"""Waveforms of different units as differences of two Gaussians.

    .. math:: w_u(t) = -e^{-t^2 / 2 s_u^2} + r_u\, e^{-(t - d_u)^2 / 2 (1.5 s_u)^2}

    where
        the width s_u goes from 0.06 to 0.16 ms, the hump follows the trough or, in every second unit, precedes it
        (d_u < 0), delay and height r_u differ between units, and channel c sees the waveform with gain
        exp(-(c - c_u)^2 / 2), the c_u evenly spaced.

    Args:
        units: How many.
        rate: Samples per second; at least 15,000, for the narrowest one.
        channels: How many see them.
        milliseconds: Length, at least 2.

    Returns:
        (units, channels, samples), float64, the largest modulus of every unit being 1; the trough lies within
        0.05 ms of two fifths of the length.

    Raises:
        InputError: A count below 1, a rate or a length that is too small.

    Example:
        >>> analytic_templates(3, 24000.0).shape
        (3, 1, 72)
    """
    check_count(units, "units")
    check_count(channels, "channels")
    if not (rate >= 15_000 and math.isfinite(rate) and 2 <= milliseconds < math.inf):
        raise InputError(
            "a rate of at least 15,000 and a length of at least 2 ms",
            got=f"rate={rate}, milliseconds={milliseconds}",
            remedy="Use 24000 and 3.",
        )
    samples = round(milliseconds * rate / 1000)
    time = (np.arange(samples) - round(0.4 * samples)) / rate * 1000
    # The golden ratio spreads heights over their range however many units there are.
    order = np.arange(units)
    width = 0.06 + 0.10 * (order / max(units - 1, 1))
    height = 0.2 + 0.5 * ((order * _GOLDEN + 0.3) % 1)
    spread = (order * _GOLDEN**2 + 0.1) % 1
    delay = np.where(order % 2, -(2 * width + 0.1 * spread), 2.5 * width + 0.3 * spread)
    width, height, delay = (column[:, None] for column in (width, height, delay))
    waves = -np.exp(-(time**2) / (2 * width**2)) + height * np.exp(-((time - delay) ** 2) / (4.5 * width**2))
    places = (order + 0.5) * channels / units - 0.5
    gains = np.exp(-((np.arange(channels) - places[:, None]) ** 2) / 2)
    return unit_peaks(gains[:, :, None] * waves[:, None, :])


def unit_peaks(templates: ArrayLike) -> np.ndarray:
    """Templates (units, ...) scaled so that the largest modulus of each is 1: noise then is in units of the peak.

    Raises:
        InputError: NaN. DegenerateError: a template of zeros.
    """
    values = np.array(templates, dtype=np.float64)
    peaks = np.abs(values).reshape(len(values), -1).max(axis=1)
    if not np.isfinite(peaks).all():
        raise InputError("finite templates", got="NaN or inf", remedy="Look at how they were computed.")
    if not peaks.all():
        raise DegenerateError("templates that are not zero", got="one of zeros", remedy="Leave it out.")
    return values / peaks.reshape(-1, *[1] * (values.ndim - 1))
