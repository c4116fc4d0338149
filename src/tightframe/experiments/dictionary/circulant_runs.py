"""Paths from samples to shifts of kernels, all kernels of a set, and the critical points on the way."""

from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tightframe.core.errors import DegenerateError
from tightframe.dictionary.convolutional.bilinear import bilinear_lasso
from tightframe.dictionary.linear.landscape import sphere_critical_points
from tightframe.experiments.dictionary.circulant_scenes import (
    SAME,
    Cell,
    Row,
    Scene,
    circular_similarity,
    distinct_shifts,
    landscape_of,
)

NEAR = 0.05
"""1 - |cosine| with a column up to which it counts as found, as in the phase transitions of the source."""
# Curvature, and slope of the objective, relative to its value, below which there is none.
_STRICT, _FLAT = 1e-3, 1e-3
# The bilinear Lasso that refines: its penalty for samples of events of unit size, and its bounds.
_PENALTY, _ROUNDS, _STEPS = 0.05, 5, 400


def kind_of(gap: float, curvature: float, slope: float) -> str:
    """ "column" near one, else "negative curvature", else "slope" where the objective falls, else "other"."""
    if gap <= NEAR:
        return "column"
    if curvature < -_STRICT:
        return "negative curvature"
    return "slope" if slope > _FLAT else "other"


def examine(cell: Cell) -> dict[str, list[Row]]:
    """Rows of the tables "starts", "paths", "critical points", "kernels" and "filters" for one cell."""
    scene = Scene(cell)
    rows: dict[str, list[Row]] = {name: [] for name in ("starts", "paths", "critical points", "kernels", "filters")}
    for kind in ("data", "random"):
        paths = scene.paths(scene.starts(kind))
        _follow(scene, kind, paths, rows)
        if kind == "data":
            least = min(row["depth"] for row in rows["starts"] if row["start"] == "data")
            _recover(scene, paths[-1], rows)
        rows["critical points"] += _critical(scene, kind, paths, least)
    return rows


def _follow(scene: Scene, kind: str, paths: Tensor, rows: dict[str, list[Row]]) -> None:
    """Rows of every start and of every step."""
    cell = scene.cell
    seen = [landscape_of(scene.atoms, points, scene.coherence) for points in paths]
    depth, gap = (torch.stack([place[name] for place in seen]) for name in ("depth", "gap"))
    for number in range(cell.starts):
        reached = (gap[:, number] <= NEAR).nonzero()
        begun = float(depth[0, number])
        kinds = [kind_of(*(float(place[name][number]) for name in ("gap", "curvature", "slope"))) for place in seen]
        rows["starts"].append(
            {
                **cell.plain,
                "start": kind,
                "number": number,
                "found": bool(gap[-1, number] <= NEAR),
                "kernel": int(seen[-1]["column"][number]) // cell.length,
                "steps": int(reached[0]) if len(reached) else None,
                "gap": float(gap[-1, number]),
                "depth": begun,
                "least depth later": float(depth[1:, number].min()) / begun,
                "curvature at the end": float(seen[-1]["curvature"][number]),
                "of no kind": kinds.count("other"),
                "coherence": scene.coherence,
                "tightness": scene.tightness,
            }
        )
    for step, place in enumerate(seen if cell.drawn else ()):
        row = {name: float(place[name].median()) for name in ("depth", "gap", "curvature", "slope")}
        rows["paths"].append({**cell.plain, "start": kind, "step": step, **row})


def _recover(scene: Scene, directions: Tensor, rows: dict[str, list[Row]]) -> None:
    """All kernels: from the ends of independent starts, with deflation, and by the bilinear Lasso from there."""
    cell = scene.cell
    alone = _distinct(scene, directions)
    found = _with_deflation(scene, alone)
    fine = bilinear_lasso(
        scene.signals[: cell.refined, None],
        scene.kernels_of(found)[:, None],
        alpha=_PENALTY,
        reweightings=_ROUNDS,
        max_iterations=_STEPS,
    ).kernels[:, 0]
    states = {"trials": scene.kernels_of(alone), "deflation": scene.kernels_of(found), "refined": fine}
    for state, kernels in states.items():
        similarity, shifts, signs = circular_similarity(kernels, scene.kernels)
        order = dict(zip(*reversed(linear_sum_assignment(similarity.numpy(), maximize=True)), strict=True))
        for true in range(cell.kernels):
            mine = order.get(true)
            same = 0.0 if mine is None else float(similarity[mine, true])
            row = {**cell.plain, "kernel": true, "state": state, "similarity": same}
            rows["kernels"].append(row | {"error": math.sqrt(max(2 - 2 * same, 0.0)), "distinct": len(kernels)})
            if mine is not None and cell.drawn:
                moved = signs[mine, true] * kernels[mine].roll(-int(shifts[mine, true]))
                rows["filters"] += _drawn(scene, true, state, moved)


def _distinct(scene: Scene, directions: Tensor) -> Tensor:
    values = (scene.gradient(directions) * directions).sum(1)
    return directions[distinct_shifts(directions, values, scene.cell.kernels)]


def _with_deflation(scene: Scene, found: Tensor) -> Tensor:
    """As many directions as there are kernels, each ended with all others deflated.

    Without deflation the column of a kernel of small preconditioned norm need not be a maximum at all.
    """
    for _ in range(scene.cell.kernels - len(found)):
        ended = scene.paths(scene.starts("data"), scene.deflated_gradient(found))[-1]
        fresh = ended[circular_similarity(ended, found)[0].amax(1) < SAME]
        if not len(fresh):
            break
        found = torch.cat([found, _distinct(scene, fresh)[:1]])
    if len(found) == 1:
        return found
    each = torch.arange(len(found))
    polished = [
        scene.paths(found[place : place + 1], scene.deflated_gradient(found[each != place]))[-1] for place in each
    ]
    return torch.cat(polished)


def _drawn(scene: Scene, true: int, state: str, found: Tensor) -> list[Row]:
    pairs = zip(found.tolist(), scene.kernels[true].tolist(), strict=True)
    return [
        {
            **scene.cell.plain,
            "kernel": f"kernel {true + 1}",
            "state": state,
            "entry": entry,
            "found": value,
            "true": real,
        }
        for entry, (value, real) in enumerate(pairs)
    ]


def _critical(scene: Scene, kind: str, paths: Tensor, least: float) -> list[Row]:
    """Kinds of the critical points to which Newton's method goes from starts, and from points of their paths."""
    cell = scene.cell
    if not cell.searched:
        return []
    middle = paths[min(2, len(paths) - 1)]
    starts = torch.cat([points[: cell.searched] for points in (paths[0], middle, paths[-1])])
    try:
        found = sphere_critical_points(scene.atoms, starts)
    except DegenerateError:
        return []
    depths = landscape_of(scene.atoms, found.points, scene.coherence)["depth"]
    return [
        {
            **cell.plain,
            "start": kind,
            "kind": name,
            "depth": float(depth),
            "curvature": float(curvature),
            "gap": float(gap),
            "in the region": bool(depth >= least),
        }
        for name, depth, curvature, gap in zip(found.kinds(), depths, found.curvatures, found.gaps, strict=True)
    ]
