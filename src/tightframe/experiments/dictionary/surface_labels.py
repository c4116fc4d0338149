"""Labelled topographs searched for defects: by a kernel learned without labels, and by blobs of their known size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tightframe.data.pictured.levelling import levelled
from tightframe.data.pictured.topographs import Topograph, labelled_topographs
from tightframe.dictionary.blind.deconvolution import ShortAndSparseDeconvolution
from tightframe.dictionary.blind.short_and_sparse import code_short
from tightframe.dictionary.detection import Counts, match_points
from tightframe.dictionary.images.background import structured_level, without_background
from tightframe.dictionary.images.defects import find_defects
from tightframe.runs.record import Cell

METHODS = ("deconvolution", "blobs", "blobs, levelled only")
# Pixels per nanometre at which images are searched; side of the kernel, and radius of a defect, in nanometres.
_PIXELS, _KERNEL, _RADIUS = 2.5, 4.8, 1.5
# Penalties while the kernel is learned and while images are coded, in units of the background seen through a blob.
_LEARN, _CODE = 2.0, 1.0
THRESHOLDS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0, 10.0)

Row = dict[str, Cell]


@dataclass(frozen=True, eq=False)
class Scored:
    """What a method found in an image.

    Args:
        name: Of the image.
        boxes: (b, 4), of the labels.
        method: Its name.
        places: (n, 2), of the detections, in pixels of the image that was searched, as are the boxes.
        scores: (n,), in standard deviations.
    """

    name: str
    boxes: np.ndarray
    method: str
    places: np.ndarray
    scores: np.ndarray


def scored(root: Path | None) -> list[Scored]:
    """Detections of every method in every labelled topograph below the root.

    The kernel is learned on the images of the most common size together, without labels; bright and dark defects are
    activations of either sign. A blob is a maximum of |Laplacian of Gaussian| at the scale that the size of defects
    calls for, in units of its median deviation.
    """
    surfaces = [_shrunk(one) for one in labelled_topographs(root=root)]
    side = round(_KERNEL * _PIXELS)
    flat = [without_background(image[None], "scan", (side, side))[0] for image, _ in surfaces]
    flat = [image / structured_level(image[None], (side, side))[0] for image in flat]
    names = [one.name for one in labelled_topographs(root=root)]
    shapes = [image.shape for image in flat]
    common = max(shapes, key=shapes.count)
    pool = np.stack([image for image in flat if image.shape == common])
    kernel = ShortAndSparseDeconvolution((side, side), alpha=_LEARN, n_starts=1).fit(pool).kernel_
    found = []
    for name, (raw, boxes), image in zip(names, surfaces, flat, strict=True):
        solution = code_short(torch.from_numpy(image[None]), torch.from_numpy(kernel), alpha=_CODE)
        left = image - solution.reconstruction[0].numpy()
        defects = find_defects(solution.activations.numpy(), kernel[None], residual=left, separation=side // 3)
        places = np.mod(defects.places, image.shape)
        found.append(Scored(name, boxes, METHODS[0], places, defects.scores))
        found.append(Scored(name, boxes, METHODS[1], *blobs(image, _RADIUS * _PIXELS)))
        found.append(Scored(name, boxes, METHODS[2], *blobs(levelled(raw), _RADIUS * _PIXELS)))
    return found


def blobs(image: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) and scores (n,) of the maxima of |Laplacian of Gaussian| for blobs of this radius."""
    from scipy.ndimage import gaussian_laplace, maximum_filter

    response = gaussian_laplace(np.asarray(image, dtype=np.float64), radius / np.sqrt(2))
    size = np.abs(response)
    reach = 2 * max(1, int(0.8 * radius)) + 1
    places = np.argwhere((size == maximum_filter(size, reach)) & (size > 0))
    spread = 1.4826 * float(np.median(np.abs(response - np.median(response))))
    return places.astype(np.float64), size[tuple(places.T)] / max(spread, 1e-300)


def thresholds(found: Sequence[Scored]) -> list[Row]:
    """Hits, misses and extras of every method in every image at every threshold."""
    rows = []
    for one in found:
        for level in THRESHOLDS:
            counts = match_points(one.places[one.scores >= level], one.boxes)
            row = {"topograph": one.name, "method": one.method, "threshold": level}
            rows.append(row | {"hits": counts.hits, "misses": counts.misses, "extras": counts.extras})
    return rows


def held_out(every: Sequence[Row]) -> list[Row]:
    """Precision, recall and F1 of every method in every image, its threshold chosen on the other images; and in all."""
    rows = []
    for method in METHODS:
        mine = [row for row in every if row["method"] == method]
        total = Counts(0, 0, 0)
        for name in dict.fromkeys(row["topograph"] for row in mine):
            level = max(THRESHOLDS, key=lambda t, name=name: _sum(mine, t, without=name).f1)
            (counts,) = (_counts(row) for row in mine if (row["topograph"], row["threshold"]) == (name, level))
            total += counts
            rows.append(_row(name, method, level, counts))
        rows.append(_row("all", method, None, total))
    return rows


def _sum(rows: Sequence[Row], threshold: float, *, without: str) -> Counts:
    some = [_counts(row) for row in rows if row["threshold"] == threshold and row["topograph"] != without]
    return sum(some, Counts(0, 0, 0))


def _counts(row: Row) -> Counts:
    return Counts(row["hits"], row["misses"], row["extras"])


def _row(name: str, method: str, level: float | None, counts: Counts) -> Row:
    row = {"topograph": name, "method": method, "threshold": level, "boxes": counts.hits + counts.misses}
    return row | {"precision": counts.precision, "recall": counts.recall, "F1": counts.f1}


def _shrunk(one: Topograph) -> tuple[np.ndarray, np.ndarray]:
    """An image of about `_PIXELS` per nanometre by averages over squares, and its boxes."""
    step = max(1, round(one.image.shape[0] / one.nanometres[0] / _PIXELS))
    height, width = (side // step for side in one.image.shape)
    squares = one.image[: height * step, : width * step].reshape(height, step, width, step)
    return squares.mean(axis=(1, 3)), one.boxes / step
