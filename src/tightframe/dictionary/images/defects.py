"""Peaks of activation maps as a list of events: where each is, of which kernel, how large, and how sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import fftconvolve
from scipy.special import log_ndtr

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError

Anchor = Literal["centre", "start"]

# From a median of absolute deviations to a standard deviation, for normal noise.
_NORMAL = 1.4826
# Share of the largest amplitude that noise is at least, so that exact data have finite scores.
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Defects:
    """Events in one image, trace or volume, the surest first.

    Args:
        places: (n, axes), float64: where each is; beyond the border where a kernel wraps around or is cut.
        starts: (n, axes): where its kernel begins.
        kernels: (n,): which kernel.
        amplitudes: (n,): its weight, for kernels of unit norm.
        scores: (n,): that over the standard deviation of what is left when seen through the kernel.
        confidence: (n,): probability that noise alone would nowhere reach the score.
        size: (axes,): of a kernel.
    """

    places: np.ndarray
    starts: np.ndarray
    kernels: np.ndarray
    amplitudes: np.ndarray
    scores: np.ndarray
    confidence: np.ndarray
    size: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.kernels)

    def boxes(self) -> np.ndarray:
        """(n, 2 axes): where each kernel begins, and its size: top, left, height, width in an image."""
        sizes = np.broadcast_to(self.size, self.starts.shape)
        return np.concatenate([self.starts, sizes], axis=1).astype(np.float64)

    def surer_than(self, score: float) -> Defects:
        """Those of at least this score."""
        return self.taken(self.scores >= score)

    def taken(self, chosen: np.ndarray) -> Defects:
        """Those that a mask (n,) or an index chooses."""
        names = ("places", "starts", "kernels", "amplitudes", "scores", "confidence")
        return Defects(*(getattr(self, name)[chosen] for name in names), self.size)


def find_defects(
    maps: ArrayLike,
    kernels: ArrayLike,
    *,
    residual: ArrayLike,
    offset: int | tuple[int, ...] = 0,
    separation: int | tuple[int, ...] = 1,
    anchor: Anchor = "centre",
    confidence: float = 0.0,
) -> Defects:
    r"""Events of activation maps: activations that lie close together count as one.

    .. math:: \hat x = \sum_{|j - i| \le r} x_k(j), \qquad z = |\hat x| / \sigma_k, \qquad
        P = \big(1 - 2 \Phi(-z)\big)^m, \qquad \sigma_k = 1.4826\, \mathrm{median}\, |a_k \star e|

    where
        x_k are `maps`, a_k `kernels`, e `residual`, r is `separation`, i the largest activation that is left, over all
        kernels, and m the number of places. sigma_k is measured on what the model leaves, so that streaks and other
        structure that looks like the kernel lower the score. P is the probability that the largest of m independent
        normal values stays below z; it says nothing of structure that is seldom but large.

    Args:
        maps: (K, *map_shape).
        kernels: (K, *size), or (K, channels, *size), each of unit norm.
        residual: (*shape), or (channels, *shape): the signal less its reconstruction.
        offset: How far before the first point the kernel of the first activation begins, by axis or for all: 0 for
            circular maps, size - 1 for those of boundary "zero".
        separation: r by axis or for all: events of any kernel are farther apart. Kernels that fit roughly leave several
            activations around an event: take a third of the kernel then.
        anchor: "centre" puts an event at the centre of its kernel's energy, "start" at the beginning of the kernel.
        confidence: Those that are less sure are left out.

    Returns:
        `Defects`.

    Raises:
        InputError: Shapes that do not fit each other, or NaN.

    Example:
        >>> maps = np.zeros((1, 20))
        >>> maps[0, [3, 4, 12]] = [1.0, 0.5, 2.0]
        >>> found = find_defects(maps, [[0.8, 0.6]], residual=np.zeros(20), anchor="start")
        >>> found.places.ravel().tolist(), found.amplitudes.tolist()
        ([12.0, 3.33...], [2.0, 1.5])
    """
    values, shapes, left = (np.asarray(array, dtype=np.float64) for array in (maps, kernels, residual))
    axes = values.ndim - 1
    _check(values, shapes, left, anchor)
    size = shapes.shape[-axes:]
    before = _per_axis(offset, axes, "offset")
    reach = _per_axis(separation, axes, "separation")
    noise = _left(shapes, left, axes)
    noise = np.maximum(noise, _LEAST * np.abs(values).max(initial=0.0))
    found = _clusters(values, reach)
    kinds = np.array([kernel for kernel, _, _ in found], dtype=np.int64)
    starts = np.array([start for _, start, _ in found], dtype=np.float64).reshape(-1, axes) - before
    amplitudes = np.array([amplitude for *_, amplitude in found])
    centres = _centres(shapes, axes) if anchor == "centre" else np.zeros((len(shapes), axes))
    scores = np.abs(amplitudes) / noise[kinds] if len(kinds) else np.zeros(0)
    surest = np.argsort(-scores, kind="stable")
    # log(1 - 2 Q) in terms of the two-sided tail, which is accurate where 1 - 2 Q rounds to one.
    sure = np.exp(values[0].size * len(values) * np.log1p(-np.minimum(2 * np.exp(log_ndtr(-scores)), 1 - 1e-16)))
    everything = Defects(starts + centres[kinds], np.rint(starts), kinds, amplitudes, scores, sure, size)
    everything = everything.taken(surest)
    return everything.taken(everything.confidence >= confidence)


def _clusters(maps: np.ndarray, reach: tuple[int, ...]) -> list[tuple[int, np.ndarray, float]]:
    """Kernel, weighted place and sum of the activations around the largest one, which are then taken away."""
    rest, found = maps.copy(), []
    order = np.argsort(-np.abs(rest), axis=None, kind="stable")[: np.count_nonzero(rest)]
    for flat in order:
        kernel, *place = (int(index) for index in np.unravel_index(flat, rest.shape))
        if rest[kernel][tuple(place)] == 0:
            continue
        window = tuple(slice(max(0, at - r), at + r + 1) for at, r in zip(place, reach, strict=True))
        around = rest[kernel][window]
        # Activations of the other sign are ripples of the fit, not parts of this event.
        same = np.where(np.sign(around) == np.sign(rest[kernel][tuple(place)]), around, 0.0)
        total = float(same.sum())
        sides = [np.arange(w.start, w.start + n) for w, n in zip(window, around.shape, strict=True)]
        grid = np.meshgrid(*sides, indexing="ij")
        found.append((kernel, np.array([float((axis * same).sum()) / total for axis in grid]), total))
        rest[(slice(None), *window)] = 0
    return found


def _left(kernels: np.ndarray, residual: np.ndarray, axes: int) -> np.ndarray:
    """Standard deviation of the residual seen through every kernel, where the kernel fits into it."""
    turned = kernels[(..., *[slice(None, None, -1)] * axes)].reshape(len(kernels), -1, *kernels.shape[-axes:])
    channels = residual.reshape(-1, *residual.shape[-axes:])
    over = tuple(range(1, axes + 1))
    seen = [fftconvolve(channels, kernel, mode="valid", axes=over).sum(axis=0) for kernel in turned]
    return np.array([_NORMAL * np.median(np.abs(values)) for values in seen])


def _centres(kernels: np.ndarray, axes: int) -> np.ndarray:
    """(K, axes): centre of the energy of every kernel."""
    energy = (kernels**2).reshape(len(kernels), -1, *kernels.shape[-axes:]).sum(axis=1)
    energy /= energy.reshape(len(kernels), -1).sum(axis=1).reshape(-1, *[1] * axes)
    marginals = [energy.sum(axis=tuple(a for a in range(1, axes + 1) if a != axis + 1)) for axis in range(axes)]
    return np.stack([marginal @ np.arange(marginal.shape[1]) for marginal in marginals], axis=1)


def _per_axis(value: int | tuple[int, ...], axes: int, what: str) -> tuple[int, ...]:
    numbers = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(numbers) != axes:
        raise InputError(f"{what}: one number, or one per axis ({axes})", got=repr(value), remedy="Give one number.")
    return tuple(check_count(int(number), what, least=0) for number in numbers)


def _check(maps: np.ndarray, kernels: np.ndarray, residual: np.ndarray, anchor: str) -> None:
    axes = maps.ndim - 1
    channels = residual.ndim - axes
    fits = axes >= 1 and channels in (0, 1) and kernels.ndim == residual.ndim + 1 and len(kernels) == len(maps)
    fits = fits and (channels == 0 or kernels.shape[1] == residual.shape[0])
    if not fits or any(k > s for k, s in zip(kernels.shape[-axes:], residual.shape[-axes:], strict=True)):
        raise InputError(
            "maps (K, *map_shape), kernels (K, *size) and a residual (*shape) no smaller, or the latter two with "
            "channels",
            got=f"{maps.shape}, {kernels.shape} and {residual.shape}",
            remedy="Pass the maps of one signal.",
        )
    if not all(np.isfinite(array).all() for array in (maps, kernels, residual)):
        raise InputError("finite maps, kernels and residual", got="NaN or infinite values", remedy="Look at the fit.")
    if anchor not in get_args(Anchor):
        raise InputError("anchor: centre or start", got=repr(anchor), remedy="Choose one.")
