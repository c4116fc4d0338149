"""Levelling of scanned images: the tilt of the sample and the jumps between scan lines taken out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.errors import InputError


def levelled(image: ArrayLike, *, plane: bool = True, rows: bool = True) -> np.ndarray:
    r"""An image without its best plane and without an offset of every row.

    .. math:: z_{ij} = y_{ij} - (a + b\, i + c\, j), \qquad z_{ij} \leftarrow z_{ij} - \mathrm{median}_j\, z_{ij}

    where (a, b, c) is the least-squares fit to all pixels. The median of a row ignores defects that cover less than
    half of it; patterns that fill rows are lost with the jumps, so leave `rows` out for these.

    Args:
        image: (height, width); rows are the scan lines.
        plane: Whether to take out the plane.
        rows: Whether to take out the medians of rows; without it the median of the whole is taken out.

    Returns:
        (height, width), float64.

    Raises:
        InputError: Another shape, fewer than two rows or columns, or NaN.

    Example:
        >>> levelled([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]).round(12).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    values = np.array(image, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise InputError(
            "a finite image (height, width) of two rows and columns or more",
            got=f"shape {values.shape}, or NaN",
            remedy="Level frames one by one, and fill gaps first.",
        )
    if plane:
        # Centred coordinates are orthogonal on a grid, so that the three fits are independent.
        down, across = (np.arange(count) - (count - 1) / 2 for count in values.shape)
        values -= values.mean()
        slopes = (values.mean(axis=1) @ down) / (down @ down), (values.mean(axis=0) @ across) / (across @ across)
        values -= slopes[0] * down[:, None] + slopes[1] * across
    return values - (np.median(values, axis=1, keepdims=True) if rows else np.median(values))
