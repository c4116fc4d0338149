"""What moves in a motion: its frames, the part every point plays, and the square or ball that holds them all."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from tightframe.core.errors import InputError
from tightframe.report.drawing import Drawing, Rows
from tightframe.runs.record import Cell, Panel

MOST_TRAIL = 600  # places of all trails together


@dataclass(frozen=True)
class Scene:
    """The rows of a motion, the same points in every frame.

    Args:
        rows: Rows of the drawing, with "part": "vector" for a point that is alone in its colour and shape, "cloud"
            for the others, "target" for what stands still. A vector has a "point", its place in the frame, and
            "trail" where its trail passes.
        frames: The numbers of the frames, ascending.
        centre: Of the square; the origin for a ball.
        reach: Half the side of the square, or the radius of the ball.
        solid: Whether there is a third coordinate.
        globe: Radius of the sphere that is drawn around the origin: the length of the longest target, or else of the
            longest vector in the last frame, or else of everything.
    """

    rows: Rows
    frames: list[float]
    centre: tuple[float, float]
    reach: float
    solid: bool
    globe: float


def scene(panel: Panel, drawing: Drawing) -> Scene:
    """Arrange the rows of a motion.

    Args:
        panel: A panel of kind "motion".
        drawing: What `draw` made of it.

    Raises:
        InputError: There is no frame, or two frames hold different numbers of points.
    """
    groups: dict[tuple[Cell, Cell], Rows] = {}
    for row in drawing.rows:
        groups.setdefault((row.get("facet"), row["frame"]), []).append(row)
    _check_frames(panel, {key: len(rows) for key, rows in groups.items() if key[1] is not None})
    axes = ("x", "y", "z") if "z" in drawing.titles else ("x", "y")
    rows = [row for group in groups.values() for row in _parts(group)]
    rows = [row for row in rows if all(row[axis] is not None for axis in axes)]
    frames = sorted({frame for _, frame in groups if frame is not None})
    rows = _trailed(rows, frames)
    centre, reach = _extent(rows, axes)
    places = 4 - math.floor(math.log10(reach))  # finer than a pixel
    rows = [row | {axis: round(float(row[axis]), places) for axis in axes} for row in rows]
    return Scene(rows, frames, centre, reach, len(axes) == 3, _globe(rows, axes, frames[-1]))


def _check_frames(panel: Panel, sizes: dict[tuple[Cell, Cell], int]) -> None:
    if not sizes:
        raise InputError(
            f"panel {panel.title!r} has at least one frame",
            got=f"None in every row of column {panel.frame!r}",
            remedy="Record the numbers of the steps.",
        )
    firsts: dict[Cell, tuple[Cell, int]] = {}
    for (facet, frame), size in sizes.items():
        first, wanted = firsts.setdefault(facet, (frame, size))
        if size != wanted:
            raise InputError(
                f"every frame of panel {panel.title!r} holds the same points",
                got=f"{wanted} at {panel.frame} {first} and {size} at {panel.frame} {frame}",
                remedy="Record every point at every step; None stands for a coordinate it does not have.",
            )


def _parts(group: Rows) -> Rows:
    """The rows of one frame with the part they play."""
    names = [(row.get("color"), row.get("shape")) for row in group]
    if group[0]["frame"] is None:
        return [row | {"part": "target"} for row in group]
    sizes = Counter(names)
    return [
        row | ({"part": "vector", "point": i} if sizes[name] == 1 else {"part": "cloud"})
        for i, (row, name) in enumerate(zip(group, names, strict=True))
    ]


def _trailed(rows: Rows, frames: list[float]) -> Rows:
    """Mark evenly spaced places of the vectors, few enough to be drawn again at every turn."""
    vectors = sum(row["part"] == "vector" for row in rows)
    passed = set(frames[:: -(-vectors // MOST_TRAIL) or 1])
    return [row | {"trail": True} if row["part"] == "vector" and row["frame"] in passed else row for row in rows]


def _extent(rows: Rows, axes: tuple[str, ...]) -> tuple[tuple[float, float], float]:
    """Centre and half the side of the least square around the points and the origin; radius of the ball in space."""
    if len(axes) == 3:
        return (0.0, 0.0), max(_length(row, axes) for row in rows) or 1.0
    (left, right), (low, high) = ((min(0, *cells), max(0, *cells)) for cells in ([r[a] for r in rows] for a in axes))
    return ((left + right) / 2, (low + high) / 2), max(right - left, high - low) / 2 or 1.0


def _globe(rows: Rows, axes: tuple[str, ...], last: float) -> float:
    ends = [row for row in rows if row["part"] == "vector" and row["frame"] == last]
    for chosen in ([row for row in rows if row["part"] == "target"], ends, rows):
        if longest := max((_length(row, axes) for row in chosen), default=0.0):
            return longest
    return 1.0


def _length(row: dict[str, Cell], axes: tuple[str, ...]) -> float:
    return math.hypot(*(row[axis] for axis in axes))
