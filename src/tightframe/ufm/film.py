"""Where features and classifier lie while they are trained, for pictures that move."""

from __future__ import annotations

from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.ufm.dynamics import descend
from tightframe.ufm.model import Point, UnconstrainedFeatures

Place = dict[str, float | int | str]


def film(
    problem: UnconstrainedFeatures, *, step: float, steps: int, frames: int = 60, per_class: int = 12, seed: int = 0
) -> list[Place]:
    """Gradient descent as frames of `positions`, spread over the decades of its steps.

    Args:
        problem: The model, with d = 2 or 3.
        step: Learning rate.
        steps: How many.
        frames: At most this many, at least 2; the start and the end are among them.
        per_class: At most this many features of each class, the same ones in all frames.
        seed: Seed of the start.

    Returns:
        The rows of `positions`, with the number of steps taken as "step", frame after frame.

    Raises:
        InputError: Another dimension than 2 or 3, fewer than two frames, or what `descend` refuses.
    """
    if frames < 2:
        raise InputError("at least 2 frames", got=repr(frames), remedy="Use 60.")
    seen: list[list[Place]] = []

    def observe(taken: int, point: Point) -> dict[str, float]:
        seen.append([{"step": taken, **place} for place in positions(point, problem.labels, per_class=per_class)])
        return {}

    descend(problem, step=step, steps=steps, seed=seed, metrics=False, observe=observe)
    count = min(frames, len(seen))
    kept = sorted({round(i * (len(seen) - 1) / (count - 1)) for i in range(count)}) if count > 1 else [0]
    return [place for i in kept for place in seen[i]]


def positions(point: Point, labels: Tensor, *, per_class: int) -> list[Place]:
    """Where features and classifier rows lie in the plane or in space, for a picture of them.

    Args:
        point: W (k, d), H (d, n), b (k,), with d = 2 or 3.
        labels: Class of every column of H (n,).
        per_class: At most this many features of each class, the first ones.

    Returns:
        Rows with "kind" ("feature" or "classifier"), "class", "sample", and the coordinates "x", "y" and, for d = 3,
        "z".

    Raises:
        InputError: Another dimension than 2 or 3.
    """
    axes = "xyz"[: len(point.H)]
    if len(point.H) not in (2, 3):
        raise InputError("features in 2 or 3 dimensions", got=f"{len(point.H)}", remedy="Use features=2 or 3.")
    shown = [("feature", k, point.H[:, labels == k][:, :per_class].T.tolist()) for k in range(len(point.W))]
    shown += [("classifier", k, [row]) for k, row in enumerate(point.W.tolist())]
    return [
        {"kind": kind, "class": k, "sample": i, **dict(zip(axes, place, strict=True))}
        for kind, k, places in shown
        for i, place in enumerate(places)
    ]
