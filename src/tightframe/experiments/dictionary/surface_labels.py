"""Labelled topographs searched for defects: by a kernel learned without labels, and by blobs of their known size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
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
# Pixels per nanometre at which images are searched.
_PIXELS = 2.5
# Penalty while the kernel is learned, in units of the background seen through a blob.
_LEARN = 2.0
# What labels of other images choose among: sides of the kernel and radii of blobs in nanometres, around the sizes of
# the defects, and penalties while images are coded.
KERNELS, RADII, PENALTIES = (3.6, 4.8, 6.4), (1.0, 1.5, 2.0), (1.0, 1.5)
THRESHOLDS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0, 10.0)

Row = dict[str, Cell]


@dataclass(frozen=True, eq=False)
class Scored:
    """What a method found in an image.

    Args:
        name: Of the image.
        boxes: (b, 4), of the labels.
        method: Its name.
        setting: What was set by hand, in words.
        places: (n, 2), of the detections, in pixels of the image that was searched, as are the boxes.
        scores: (n,), in standard deviations.
    """

    name: str
    boxes: np.ndarray
    method: str
    setting: str
    places: np.ndarray
    scores: np.ndarray


def scored(root: Path | None) -> list[Scored]:
    """Detections of every method in every labelled topograph below the root, with every setting.

    A kernel is learned on the images of the most common size together, without labels; bright and dark defects are
    activations of either sign. A blob is a maximum of |Laplacian of Gaussian| at the scale of its radius, in units of
    its median deviation; the scan lines are removed as for the kernel of `KERNELS` in the middle.
    """
    topographs = labelled_topographs(root=root)
    surfaces = [_shrunk(one) for one in topographs]
    found, middle = [], _side(KERNELS[len(KERNELS) // 2])
    for length in KERNELS:
        side = _side(length)
        flat = [_flattened(image, side) for image, _ in surfaces]
        kernel = _common_kernel(flat, side)
        for (one, (_, boxes), image), penalty in product(zip(topographs, surfaces, flat, strict=True), PENALTIES):
            setting = f"kernel {length:g} nm, penalty {penalty:g}"
            found.append(Scored(one.name, boxes, METHODS[0], setting, *_activated(image, kernel, penalty)))
    for (one, (raw, boxes)), radius in product(zip(topographs, surfaces, strict=True), RADII):
        images = (_flattened(raw, middle), levelled(raw))
        for method, image in zip(METHODS[1:], images, strict=True):
            setting = f"radius {radius:g} nm"
            found.append(Scored(one.name, boxes, method, setting, *blobs(image, radius * _PIXELS)))
    return found


def _side(length: float) -> int:
    return round(length * _PIXELS)


def _flattened(image: np.ndarray, side: int) -> np.ndarray:
    """Without the background, in units of what is left of it seen through a blob."""
    flat = without_background(image[None], "scan", (side, side))[0]
    return flat / structured_level(flat[None], (side, side))[0]


def _common_kernel(images: Sequence[np.ndarray], side: int) -> np.ndarray:
    shapes = [image.shape for image in images]
    common = max(shapes, key=shapes.count)
    pool = np.stack([image for image in images if image.shape == common])
    return ShortAndSparseDeconvolution((side, side), alpha=_LEARN, n_starts=1).fit(pool).kernel_


def _activated(image: np.ndarray, kernel: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) and scores (n,) of the defects that activations of the kernel show."""
    solution = code_short(torch.from_numpy(image[None]), torch.from_numpy(kernel), alpha=penalty)
    left = image - solution.reconstruction[0].numpy()
    separation = max(1, len(kernel) // 3)
    defects = find_defects(solution.activations.numpy(), kernel[None], residual=left, separation=separation)
    return np.mod(defects.places, image.shape), defects.scores


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
    """Hits, misses and extras of every method and setting in every image at every threshold."""
    rows = []
    for one in found:
        for level in THRESHOLDS:
            counts = match_points(one.places[one.scores >= level], one.boxes)
            row = {"topograph": one.name, "method": one.method, "setting": one.setting, "threshold": level}
            rows.append(row | {"hits": counts.hits, "misses": counts.misses, "extras": counts.extras})
    return rows


def held_out(every: Sequence[Row]) -> list[Row]:
    """Precision, recall and F1 of every method in every image, with the setting and threshold that are best on the
    other images; and in all images."""
    rows = []
    for method in METHODS:
        mine = [row for row in every if row["method"] == method]
        choices = list(dict.fromkeys((row["setting"], row["threshold"]) for row in mine))
        total = Counts(0, 0, 0)
        for name in dict.fromkeys(row["topograph"] for row in mine):
            others = _sums(row for row in mine if row["topograph"] != name)
            choice = max(choices, key=lambda one, others=others: others.get(one, Counts(0, 0, 0)).f1)
            counts = _sums(row for row in mine if row["topograph"] == name)[choice]
            total += counts
            rows.append(_row(name, method, choice, counts))
        rows.append(_row("all", method, (None, None), total))
    return rows


def _sums(rows: Iterable[Row]) -> dict[tuple[Cell, Cell], Counts]:
    """Counts by setting and threshold."""
    found: dict[tuple[Cell, Cell], Counts] = {}
    for row in rows:
        choice = (row["setting"], row["threshold"])
        found[choice] = found.get(choice, Counts(0, 0, 0)) + _counts(row)
    return found


def _counts(row: Row) -> Counts:
    return Counts(row["hits"], row["misses"], row["extras"])


def _row(name: str, method: str, choice: tuple[Cell, Cell], counts: Counts) -> Row:
    row = {"topograph": name, "method": method, "setting": choice[0], "threshold": choice[1]}
    row |= {"boxes": counts.hits + counts.misses}
    return row | {"precision": counts.precision, "recall": counts.recall, "F1": counts.f1}


def _shrunk(one: Topograph) -> tuple[np.ndarray, np.ndarray]:
    """An image of about `_PIXELS` per nanometre by averages over squares, and its boxes."""
    step = max(1, round(one.image.shape[0] / one.nanometres[0] / _PIXELS))
    height, width = (side // step for side in one.image.shape)
    squares = one.image[: height * step, : width * step].reshape(height, step, width, step)
    return squares.mean(axis=(1, 3)), one.boxes / step
