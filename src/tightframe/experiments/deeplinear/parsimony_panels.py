"""The picture of the law of parsimony: singular values and vectors over training, and the blocks of a layer."""

from __future__ import annotations

import math

from tightframe.experiments.deeplinear.parsimony_runs import Row, Setting, Trained, train
from tightframe.experiments.deeplinear.singular_paths import SingularPaths
from tightframe.runs.record import Panel

# Recorded steps that are drawn, besides the start; and rows and columns up to which blocks are drawn.
_FRAMES, _BLOCKS = 32, 40


def portray(setting: Setting) -> dict[str, list[Row]]:
    """Rows of the pictures of one run: paths of singular triples, their places frame by frame, and blocks."""
    trained = train(setting)
    run = setting.training.name if setting.inputs == "whitened" else f"inputs {setting.inputs}"
    paths = trained.paths()
    parts = _parts(paths, setting.rank)
    largest, last = float(paths.S.max()), len(trained.steps) - 1
    shown = sorted({round(i * last / _FRAMES) for i in range(_FRAMES + 1)})
    angles = {side: paths.turned(side) / (math.pi / 2) for side in ("left", "right")}
    values = [
        {
            "training": run,
            # The start belongs on a logarithmic axis too.
            "step": max(trained.steps[row], 0.5),
            "vector": f"{i + 1}",
            "part": parts[i],
            "singular value": float(paths.S[row, i]),
            "left vector turned": float(angles["left"][row, i]),
            "right vector turned": float(angles["right"][row, i]),
        }
        for row in shown
        for i in range(len(parts))
    ]
    vectors = [
        {
            "training": run,
            "step": trained.steps[row],
            "side": f"{side} vectors, {run}",
            "part": parts[i],
            "turned": float(angles[side][row, i]),
            "size": float(paths.S[row, i]) / largest,
        }
        for row in shown
        for side in angles
        for i in range(len(parts))
    ]
    return {"singular values": values, "singular vectors": vectors, "blocks": _blocks(trained, run)}


def _parts(paths: SingularPaths, rank: int) -> list[str]:
    """The r triples that end largest, the r others that turn most, and the rest, in the order of the columns."""
    turned = paths.turned("left").amax(0) + paths.turned("right").amax(0)
    turned[:rank] = 0
    turning = set(turned.argsort(descending=True)[:rank].tolist())
    names = ["r largest" if i < rank else "all others" for i in range(len(turned))]
    return ["r that turn with them" if i in turning else name for i, name in enumerate(names)]


def _blocks(trained: Trained, run: str) -> list[Row]:
    """The first layer in the frames of the start: at the start, when half of the loss is gone, and at the end."""
    left, right = trained.frames.bases(1)
    size, losses = min(len(right), _BLOCKS), trained.found.trace["loss"]
    half = (losses[0] + min(losses)) / 2
    halved = next(i for i, loss in enumerate(losses) if loss <= half)
    rows: list[Row] = []
    for moment in dict.fromkeys((0, halved, len(losses) - 1)):
        seen = (left.T @ trained.weights(moment)[0] @ right)[:size, :size]
        rows += [
            {
                "training": run,
                "when": f"{run}, step {trained.steps[moment]}",
                "row": i + 1,
                "column": j + 1,
                "entry": float(seen[i, j]),
            }
            for i in range(size)
            for j in range(size)
        ]
    return rows


def pictures(rank: int) -> tuple[Panel, ...]:
    """The figures of the experiment.

    Args:
        rank: r.
    """
    return (
        Panel(
            kind="motion",
            title="Singular vectors of a weight while it learns",
            caption="Every point is a singular triple of the first layer: across, how far its left or right vector has "
            "turned from where it started, in right angles; up, its singular value over the largest. "
            f"For gradient descent {2 * rank} of them move, and all others are one point; with Adam every one moves.",
            table="singular vectors",
            x="turned",
            y="size",
            frame="step",
            color="part",
            facet="side",
            where={"training": ["gradient descent", "Adam"]},
        ),
        Panel(
            kind="curves",
            title="Evolution of singular values",
            caption="Of the first layer, case 2, the start drawn at half a step. Whitened inputs but where said.",
            table="singular values",
            x="step",
            y="singular value",
            color="part",
            facet="training",
            x_scale="log",
        ),
        *(
            Panel(
                kind="curves",
                title=f"Evolution of {side} singular vectors",
                caption="Angle with where each started, in right angles; the start is drawn at half a step.",
                table="singular values",
                x="step",
                y=f"{side} vector turned",
                color="part",
                facet="training",
                x_scale="log",
            )
            for side in ("left", "right")
        ),
        *_structure(rank),
    )


def _structure(rank: int) -> tuple[Panel, Panel]:
    """Blocks of a layer, and how far layers leave them."""
    return (
        Panel(
            kind="matrix",
            title="A weight in its invariant frames",
            caption=f"U^T W_1 V at the start, when half of the loss is gone, and at the end. The first {2 * rank} "
            "rows and columns are the invariant space.",
            table="blocks",
            x="column",
            y="row",
            value="entry",
            facet="when",
            where={"training": "gradient descent"},
        ),
        Panel(
            kind="curves",
            title="How far layers leave the structure",
            caption="Deviation of the worst layer from the block structure, over its norm, along training; rounding is "
            "drawn as at least 1e-17.",
            table="deviation",
            x="step",
            y="relative deviation",
            color="inputs",
            facet="training",
            x_scale="log",
            y_scale="log",
        ),
    )
