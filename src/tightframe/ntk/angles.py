"""Half angles of all pairs of two sets of directions, block by block, with all digits at both ends."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tightframe.core.typing import Float, Tensor

# Squared half chords below this come from differences of the points: products of them leave an error of about
# 2e-16, which is 2e-12 of the half chord's square here.
_CLOSE = 2.0**-13
_GATHERED = 1 << 21
# Side of the square tiles: what a cache holds on a CPU, what fills the machine on a GPU.
_TILE = {"cpu": 192, "cuda": 4096}

Rows = Float[Tensor, "n d"]


def blocks(left: Rows, right: Rows, *, symmetric: bool) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Square tiles of rows and columns with their half angles (see `half_angles`).

    With `symmetric`, where `right` is `left`, only tiles on and above the diagonal.
    """
    side = _TILE.get(left.device.type, _TILE["cuda"])
    for top in range(0, len(left), side):
        rows = left[top : top + side]
        down = slice(top, top + len(rows))
        for start in range(top if symmetric else 0, len(right), side):
            columns = right[start : start + side]
            yield down, slice(start, start + len(columns)), *half_angles(rows @ columns.T, rows, columns)


def half_angles(cosines: Tensor, left: Rows, right: Rows) -> tuple[Tensor, Tensor]:
    """sin^2 (v/2) of all pairs, or cos^2 (v/2) where they are opposite (v > pi/2), and which those are.

    Where this is small it is recomputed from chords, which needs to know how many there are: one synchronisation
    with the device per block.
    """
    opposite = cosines < 0
    square = cosines.abs().mul_(-0.5).add_(0.5).clamp_(min=0.0)
    if bool(square.amin() < _CLOSE):
        row, column = (square < _CLOSE).nonzero(as_tuple=True)
        piece = max(1, _GATHERED // left.shape[1])
        for i, j in zip(row.split(piece), column.split(piece), strict=True):
            sign = torch.where(opposite[i, j], -1.0, 1.0).to(left.dtype)[:, None]
            chord = left[i] - sign * right[j]
            square[i, j] = chord.square().sum(1) / 4
    return square, opposite
