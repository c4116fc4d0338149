"""Smallest angles: between two sets of directions, and among the points of one."""

from __future__ import annotations

import torch

from tightframe.core.typing import Float, Tensor
from tightframe.ntk.angles import blocks

Rows = Float[Tensor, "n d"]


def closest_pair(left: Rows, right: Rows | None = None) -> tuple[float, int, int]:
    """Smallest angle between unit rows of two sets, or different rows of one, and the indices of that pair.

    One value per tile stays on the device until the end.
    """
    symmetric = right is None
    other = left if right is None else right
    smallest, places, corners = [], [], []
    for down, over, square, opposite in blocks(left, other, symmetric=symmetric):
        # Opposite pairs are compared by their true half angle.
        values = torch.where(opposite, 1 - square, square)
        if symmetric and down == over:
            values.fill_diagonal_(2.0)
        least, place = values.reshape(-1).min(0)
        smallest.append(least)
        places.append(place)
        corners.append((down.start, over.start, values.shape[1]))
    best = int(torch.stack(smallest).argmin())
    top, first, width = corners[best]
    place = int(places[best])
    angle = 2 * float(smallest[best].clamp(max=1.0).sqrt().asin())
    return angle, top + place // width, first + place % width
