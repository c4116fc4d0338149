"""Tables, answer and figures of the fine-tuning experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tightframe.experiments.published import tuned_backbones
from tightframe.experiments.transfer.fine_tuning_claims import average, sizes
from tightframe.experiments.transfer.fine_tuning_runs import Config, Row
from tightframe.experiments.transfer.parameter_shares import resnet50, vit_base
from tightframe.runs.record import Cell, Panel, Table, table_of


def averages(config: Config, rows: Sequence[Row]) -> list[Row]:
    """Means over seeds, of every case, size and method; None where a run diverged."""
    columns = ("test accuracy", "training accuracy", "gap", "NC1 before", "NC1", "NC1, test", "trained", "share")
    results = []
    for case in config.cases:
        for shots in sizes(rows, case.name):
            for method, _ in config.methods:
                where = {"case": case.name, "shots": shots, "method": method}
                values = {column: average(rows, column, **where) for column in columns}
                results.append(where | {name: None if math.isnan(v) else v for name, v in values.items()})
    return results


def block_shares() -> Table:
    """What tuning each block of the source's networks trains, so that its choice can be told from the others."""
    return table_of(
        [
            {"network": network.name, "block": block}
            | {f"K = {classes}": network.share(classes, block=block) for classes in (10, 37, 47, 100)}
            | {"the source's": block == network.tuned}
            for network in (resnet50(), vit_base())
            for block in network.blocks
        ]
    )


def answer(config: Config, results: Sequence[Row]) -> str:
    """Test accuracies, and how far the source's own table goes."""
    parts = []
    for case in config.cases:
        for shots in sizes(results, case.name):
            found = [row for row in results if (row["case"], row["shots"]) == (case.name, shots)]
            shown = ", ".join(f"{row['method']} {_per_cent(row['test accuracy'])}" for row in found)
            parts.append(f"{case.name}, {shots} per class: {shown}")
    below = sum(row["SCL FT, accuracy"] < row["layer FT, accuracy"] for row in tuned_backbones())
    return (
        f"Test accuracy in per cent. {'; '.join(parts)}. In the source's own table SCL is below tuning the layer alone "
        f"on {below} of {len(tuned_backbones())} columns; those networks were not run."
    )


def _per_cent(share: Cell) -> str:
    return "diverged" if share is None else f"{100 * share:.1f}"


def panels(config: Config, results: Sequence[Row]) -> tuple[Panel, ...]:
    """Accuracy and overfitting by size, accuracy by share, and collapse by layer."""
    facet = "case" if len(config.cases) > 1 else None
    shared = min(sizes(results, case.name)[-1] for case in config.cases)
    return (
        Panel(
            kind="curves",
            title="Accuracy and number of samples",
            caption="Test accuracy over training samples per class, mean over seeds.",
            table="results",
            x="shots",
            y="test accuracy",
            color="method",
            facet=facet,
            x_scale="log",
        ),
        Panel(
            kind="curves",
            title="Overfitting",
            caption="Training less test accuracy over training samples per class, mean over seeds.",
            table="results",
            x="shots",
            y="gap",
            color="method",
            facet=facet,
            x_scale="log",
        ),
        Panel(
            kind="scatter",
            title="Accuracy and share of parameters",
            caption="Every case with the most samples per class that all of them have.",
            table="results",
            x="share",
            y="test accuracy",
            color="method",
            facet=facet,
            x_scale="log",
            where={"shots": shared},
        ),
        Panel(
            kind="layers",
            title="Collapse layer by layer",
            caption="NC1 on the training samples before tuning and after each method, most samples per class; the last "
            "layer is what the head reads, for SCL with the skip connection in it.",
            table="collapse by layer",
            x="layer",
            y="NC1",
            color="method",
            facet=facet,
            y_scale="log",
            where={"split": "train"},
        ),
    )
