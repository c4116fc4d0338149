"""What lies under events and is none: tilt, scan lines and slow waves; and how large it looks through a kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.errors import InputError
from tightframe.data.pictured.levelling import levelled

Background = Literal["none", "plane", "lines", "scan", "high-pass"]

_NORMAL = 1.4826
# Rows that jump by so many times what columns do are scan lines.
_JUMPS = 2.0
# Standard deviation of the Gaussian that tells waves from defects, in kernels.
_WAVE = 0.375
# Length of the running median under traces, in kernels.
_WINDOW = 8
# Rows over which the spread of scan lines is evened, and its floor as a share of the median.
_ROWS, _FLOOR = 5, 0.5
# Defects larger than so many standard deviations of the background are cut, so that they do not rule the kernel.
_CUT = 6.0


def without_background(signals: ArrayLike, method: Background, size: Sequence[int]) -> np.ndarray:
    r"""Signals less a background of the kind named.

    - none: as they are.
    - plane: less their least-squares plane (a line in a trace).
    - lines: images less their plane and the median of every row, as jumps of a tip leave them.
    - high-pass: images less their average under a Gaussian of 0.375 kernels, traces less their running median over
      eight.
    - scan: lines, high-pass, then rows of more noise divided by their spread, the whole in units of that spread and cut
      at six: for topographs in which large features and noisy rows hide small defects.

    Args:
        signals: (n, *shape).
        method: Which.
        size: Of the kernel that is looked for, by axis.

    Returns:
        (n, *shape), float64.

    Raises:
        InputError: NaN, an unknown method, or "lines" and "scan" for signals that are no images.

    Reference: [lau2020short].
    """
    values = np.array(signals, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("finite signals", got="NaN or infinite values", remedy="Fill or cut them first.")
    if method not in get_args(Background):
        raise InputError(f"one of {', '.join(get_args(Background))}", got=repr(method), remedy="Use plane.")
    if method in ("lines", "scan") and values.ndim != 3:
        raise InputError(
            f"images for background {method!r}", got=f"shape {values.shape}", remedy="Use plane or high-pass."
        )
    if method == "plane":
        return np.stack([_tilted(one) for one in values])
    if method == "high-pass":
        return np.stack([_without_waves(one, size) for one in values])
    if method == "lines":
        return np.stack([levelled(one) for one in values])
    return np.stack([_scanned(one, size) for one in values]) if method == "scan" else values


def likely_background(signals: ArrayLike) -> Background:
    """The method that suits signals (n, *shape): "lines" for images whose rows jump, "plane" for others; traces, of
    which the constant is estimated with the kernel, need none.

    Rows jump where the medians of neighbouring rows differ by more than twice what those of columns do, without tilt.
    """
    values = np.asarray(signals, dtype=np.float64)
    if values.ndim == 2:
        return "none"
    if values.ndim != 3:
        return "plane"
    flat = np.stack([_tilted(one) for one in values])
    rows, columns = (float(np.median(np.abs(np.diff(np.median(flat, axis=axis), axis=1)))) for axis in (2, 1))
    return "lines" if rows > _JUMPS * columns else "plane"


def structured_level(signals: ArrayLike, size: Sequence[int]) -> np.ndarray:
    r"""How large noise and structure between events look through a smooth blob of the size of a kernel.

    .. math:: s_i = 1.4826\, \mathrm{median}\, |g \star y_i|, \qquad \|g\| = 1

    where g is a Gaussian of a fifth of the kernel less a wider one. For white noise this is its standard deviation; for
    noise with streaks or waves it is larger, and a penalty taken from it leaves those alone. Events have to be rare:
    where they cover half of the signal, the median is theirs.

    Args:
        signals: (n, *shape).
        size: Of the kernel, by axis.

    Returns:
        s (n,).
    """
    from scipy.ndimage import gaussian_filter

    values = np.asarray(signals, dtype=np.float64)
    widths = [max(0.5, side / 5) for side in size]
    impulse = np.zeros([2 * side + 1 for side in size])
    impulse[tuple(size)] = 1
    blob = gaussian_filter(impulse, widths)
    norm = math.sqrt(float(np.square(blob - gaussian_filter(blob, [2 * w for w in widths])).sum()))
    seen = [gaussian_filter(one, widths) for one in values]
    seen = np.stack([one - gaussian_filter(one, [2 * width for width in widths]) for one in seen]) / norm
    return _spread(seen.reshape(len(values), -1))


def _tilted(values: np.ndarray) -> np.ndarray:
    rest = values - values.mean()
    for axis, length in enumerate(values.shape):
        # Centred coordinates are orthogonal on a grid, so that every slope is a fit of its own.
        ramp = (np.arange(length) - (length - 1) / 2).reshape(-1, *[1] * (values.ndim - 1 - axis))
        weight = (ramp**2).sum() * values.size / length
        rest = rest - ramp * ((rest * ramp).sum() / weight) if weight else rest
    return rest


def _without_waves(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter, median_filter

    if values.ndim == 1:
        return values - median_filter(values, _WINDOW * size[0] + 1, mode="nearest")
    return values - gaussian_filter(values, [_WAVE * side for side in size])


def _scanned(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    from scipy.ndimage import median_filter

    rest = _without_waves(levelled(image), size)
    rest -= np.median(rest, axis=1, keepdims=True)
    spread = median_filter(_spread(rest), _ROWS, mode="nearest")
    spread = np.maximum(spread, _FLOOR * np.median(spread))
    if not (spread > 0).all():
        return rest
    rest /= spread[:, None]
    scale = float(_spread(rest.reshape(1, -1))[0])
    return np.clip(rest / scale, -_CUT, _CUT)


def _spread(rows: np.ndarray) -> np.ndarray:
    centred = rows - np.median(rows, axis=1, keepdims=True)
    return _NORMAL * np.median(np.abs(centred), axis=1)
