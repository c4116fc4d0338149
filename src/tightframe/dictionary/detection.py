"""Scores of detection: defects by box or by place, and series of events by their correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.errors import DegenerateError, InputError


@dataclass(frozen=True)
class Counts:
    """How many were found, missed and made up, and the shares that follow; each share of nothing is 0.

    Args:
        hits: Found ones that are true.
        misses: True ones that were not found.
        extras: Found ones that are not true.
    """

    hits: int
    misses: int
    extras: int

    @property
    def precision(self) -> float:
        """Share of what was found that is true."""
        return _share(self.hits, self.hits + self.extras)

    @property
    def recall(self) -> float:
        """Share of what is true that was found."""
        return _share(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _share(2 * self.hits, 2 * self.hits + self.misses + self.extras)

    @property
    def accuracy(self) -> float:
        """Hits among everything found or true."""
        return _share(self.hits, self.hits + self.misses + self.extras)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits + other.hits, self.misses + other.misses, self.extras + other.extras)


def match_points(points: ArrayLike, boxes: ArrayLike) -> Counts:
    """How many boxes hold a detected point, one point counting for one box at most and the reverse.

    Args:
        points: (n, 2): row and column of every detection, in pixels.
        boxes: (b, 4): top, left, height, width of what is there; a point on an edge is inside.

    Returns:
        Counts of an assignment with as many hits as possible: a second point in a box is an extra.

    Raises:
        InputError: Other shapes, NaN, or a box without area.

    Example:
        >>> match_points([[1.0, 1.0], [2.0, 2.0]], [[0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 1.0, 1.0]])
        Counts(hits=1, misses=1, extras=1)
    """
    places, areas = _rows(points, 2, "points (n, 2)"), _boxes(boxes)
    offset = places[:, None, :] - areas[None, :, :2]
    return _counted(((offset >= 0) & (offset <= areas[None, :, 2:])).all(axis=2))


def match_boxes(found: ArrayLike, boxes: ArrayLike, *, overlap: float = 0.5) -> Counts:
    r"""How many boxes were found, by the overlap of boxes.

    .. math:: \mathrm{IoU}(A, B) = |A \cap B| \,/\, |A \cup B|

    Args:
        found: (n, 4): top, left, height, width of the detections.
        boxes: (b, 4): likewise, of what is there.
        overlap: The IoU from which on two boxes may match, in (0, 1].

    Returns:
        Counts of an assignment with as many hits as possible.

    Raises:
        InputError: Other shapes, NaN, a box without area, or an overlap outside (0, 1].
    """
    if not 0 < overlap <= 1:
        raise InputError("an overlap in (0, 1]", got=repr(overlap), remedy="Use 0.5.")
    first, second = _boxes(found)[:, None], _boxes(boxes)[None]
    starts = np.maximum(first[..., :2], second[..., :2])
    ends = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    common = np.clip(ends - starts, 0, None).prod(axis=-1)
    union = first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1) - common
    return _counted(common >= overlap * union)


def binned_correlation(found: ArrayLike, truth: ArrayLike, *, rate: float, bins: float = 25.0) -> float:
    r"""Pearson correlation of two series after counting in bins: the score of the spikefinder challenge.

    .. math:: \rho = \mathrm{corr}\Big(\sum_{t \in B_j} \hat s_t,\ \sum_{t \in B_j} s_t\Big)_j

    Args:
        found: (frames,), estimated spikes or rates.
        truth: (frames,), true spikes.
        rate: Frames per second.
        bins: Bins per second, of which `rate` is a multiple; frames after the last whole bin are left out.

    Raises:
        InputError: Shapes that differ, NaN, a rate that is no multiple of `bins`, or fewer than two bins.
        DegenerateError: A series that is constant over the bins.

    Reference: [berens2018community].
    """
    pair = [np.asarray(series, dtype=np.float64) for series in (found, truth)]
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape or not np.isfinite(pair).all():
        raise InputError(
            "two finite series (frames,)", got=f"{pair[0].shape} and {pair[1].shape}, or NaN", remedy="Cut the padding."
        )
    width = round(rate / bins) if bins > 0 and math.isfinite(rate) else 0
    if width < 1 or abs(width * bins - rate) > 1e-6 * rate:
        raise InputError("a rate that is a multiple of `bins`", got=f"{rate} and {bins}", remedy="Use 100 and 25.")
    count = len(pair[0]) // width
    if count < 2:
        raise InputError("at least two bins", got=f"{count}", remedy="Pass a longer series.")
    binned = np.stack([series[: count * width].reshape(count, width).sum(axis=1) for series in pair])
    binned -= binned.mean(axis=1, keepdims=True)
    norms = np.sqrt((binned**2).sum(axis=1))
    largest = np.abs(np.stack(pair)).max(axis=1) * width * math.sqrt(count)
    if (norms <= 1e-12 * largest).any() or not norms.all():
        which = "found" if norms[0] <= norms[1] else "truth"
        raise DegenerateError(f"{which} that varies over the bins", got="a constant", remedy="Look at the spikes.")
    return float(binned[0] @ binned[1] / norms[0] / norms[1])


def _counted(fits: np.ndarray) -> Counts:
    """Counts of a largest matching between detections (rows) and what is there (columns)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rows, columns = fits.shape
    hits = int((maximum_bipartite_matching(csr_array(fits)) >= 0).sum()) if fits.any() else 0
    return Counts(hits, columns - hits, rows - hits)


def _boxes(boxes: ArrayLike) -> np.ndarray:
    areas = _rows(boxes, 4, "boxes (b, 4)")
    if (areas[:, 2:] <= 0).any():
        raise InputError(
            "boxes of positive height and width",
            got=f"one of {areas[:, 2:].min(axis=0)}",
            remedy="Pass top, left, height and width.",
        )
    return areas


def _rows(values: ArrayLike, width: int, what: str) -> np.ndarray:
    rows = np.asarray(values, dtype=np.float64)
    rows = rows.reshape(0, width) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
        raise InputError(f"finite {what}", got=f"shape {rows.shape}, or NaN", remedy="Pass one per row.")
    return rows


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
