"""Tables and panels of trials, as a Record keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tightframe.collapse.summary import CollapseSummary
from tightframe.geometry.frames import ideal_gram
from tightframe.runs.record import Cell, Panel, Table, table_of
from tightframe.trials.audit import LabelAudit
from tightframe.trials.suspects import suspects
from tightframe.trials.trial import Picture, Trial

COLLAPSE = ("NC1", "NC2 features", "NC2 classifier", "NC3", "NC4")


def trial_tables(trials: Mapping[str, Trial]) -> dict[str, Table]:
    """Tables "layers", "class means", "features" and "final values" of trials by run name; of those whose labels were
    judged also "labels" and, for every run, its suspects."""
    judged = {run: trial for run, trial in trials.items() if trial.labels is not None}
    tables = {
        "layers": _layers(trials),
        "class means": _class_means(trials),
        "features": _features(trials),
        "final values": _final_values(trials),
        "parameters": table_of([_parameters(run, trial) for run, trial in trials.items()]),
    }
    if judged:
        tables["labels"] = table_of([_labels(run, trial.labels) for run, trial in judged.items()])
    for run, trial in judged.items():
        tables[f"most suspicious labels, {run}"] = suspects(trial.labels, trial.data.data)
    return tables


def trial_panels(trials: Mapping[str, Trial]) -> list[Panel]:
    """Panels over the series and the tables of `trial_tables`."""
    several = len(trials) > 1
    return [*_training_panels(several), *_depth_panels(several), *_picture_panels()]


def _training_panels(several: bool) -> list[Panel]:
    """Collapse and accuracy over the epochs."""
    return [
        Panel(
            kind="curves",
            title="Variability of the last features",
            caption="NC1, training and test set apart; epoch 0 is before training. Zero is complete collapse.",
            table="series",
            x="epoch",
            y="value",
            color="run" if several else "split",
            y_scale="log",
            where={"metric": "NC1", "layer": "features"},
        ),
        Panel(
            kind="curves",
            title="Simplex and self-duality",
            caption="NC2 of class means and classifier, and NC3, on the training set. Zero is complete collapse.",
            table="series",
            x="epoch",
            y="value",
            color="run" if several else "metric",
            facet="metric" if several else None,
            y_scale="log",
            where={"metric": list(COLLAPSE[1:4]), "layer": "features", "split": "train"},
        ),
        Panel(
            kind="curves",
            title="Accuracy",
            caption="Share of samples whose largest logit is the label, network in evaluation mode.",
            table="series",
            x="epoch",
            y="value",
            color="run" if several else "split",
            where={"metric": "accuracy"},
        ),
    ]


def _depth_panels(several: bool) -> list[Panel]:
    """The layers after training, and over the epochs."""
    return [
        Panel(
            kind="layers",
            title="Separation layer by layer",
            caption="D = tr(S_W) / tr(S_B) of every measured layer after training, and the straight line of log D.",
            table="layers",
            x="layer",
            y="D",
            color="run" if several else "split",
            facet="split" if several else None,
            y_scale="log",
        ),
        Panel(
            kind="curves",
            title="Variability of every layer over training",
            caption="NC1 on the training set.",
            table="series",
            x="epoch",
            y="value",
            color="layer",
            facet="run" if several else None,
            y_scale="log",
            where={"metric": "NC1", "split": "train"},
        ),
    ]


def _picture_panels() -> list[Panel]:
    """Class means and features as they lie."""
    return [
        Panel(
            kind="matrix",
            title="Class means beside the ideal simplex",
            caption="Cosines between centred class means after training, and those of a simplex ETF.",
            table="class means",
            x="column",
            y="row",
            value="cosine",
            facet="of",
        ),
        Panel(
            kind="scatter",
            title="Features before and after training",
            caption="Training samples of three classes in the plane of their means, in units of the means' radius.",
            table="features",
            x="x",
            y="y",
            color="class",
            facet="when",
        ),
    ]


def shown(summary: CollapseSummary, metric: str) -> str:
    """A metric of the last features as text: "undefined" where the data define no value."""
    return str(summary.last.measurements.get(metric, "undefined"))


def _layers(trials: Mapping[str, Trial]) -> Table:
    table: Table = {name: [] for name in ("run", "split", "depth", "layer", "width", "NC1", "D", "fit")}
    for run, trial in trials.items():
        for summary in (trial.last.train, trial.last.test):
            for depth, layer in enumerate(summary.layers.values()):
                fit = summary.separation
                values = (
                    run,
                    summary.split,
                    depth,
                    layer.layer,
                    layer.features,
                    layer.measurements["NC1"].value if "NC1" in layer.measurements else None,
                    layer.measurements["D"].value,
                    None if fit is None else fit.at(depth),
                )
                for column, value in zip(table.values(), values, strict=True):
                    column.append(value)
    return table


def _parameters(run: str, trial: Trial) -> dict[str, int | str]:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in trial.model.parameters()]
    trainable = sum(size for size, trained in sizes if trained)
    head = sum(p.numel() for p in trial.model.get_submodule("classifier").parameters() if p.requires_grad)
    return {"run": run, "trainable": trainable, "of them in the classifier": head}


def _labels(run: str, judged: LabelAudit) -> dict[str, Cell]:
    return {"run": run, "scores": judged.by, "believed wrong": int(judged.flagged.sum())} | judged.numbers()


def _class_means(trials: Mapping[str, Trial]) -> Table:
    table: Table = {name: [] for name in ("of", "row", "column", "cosine")}
    first = next(iter(trials.values()))
    pictures = [(run if len(trials) > 1 else "measured", trial.last.cosines) for run, trial in trials.items()]
    for of, matrix in [*pictures, ("ideal simplex", ideal_gram(len(first.classes)))]:
        for row, name in enumerate(first.classes):
            for column, other in enumerate(first.classes):
                for key, value in zip(table, (of, name, other, float(matrix[row, column])), strict=True):
                    table[key].append(value)
    return table


def _features(trials: Mapping[str, Trial]) -> Table:
    table: Table = {name: [] for name in ("run", "when", "class", "x", "y")}
    for run, trial in trials.items():
        for picture in (trial.first, trial.last):
            for label, x, y in picture.projection:
                for key, value in zip(
                    table, (run, _when(picture, run, trials), trial.classes[label], x, y), strict=True
                ):
                    table[key].append(value)
    return table


def _when(picture: Picture, run: str, trials: Mapping[str, Trial]) -> str:
    moment = f"epoch {picture.epoch}"
    return moment if len(trials) == 1 else f"{run}, {moment}"


def _final_values(trials: Mapping[str, Trial]) -> Table:
    metrics: Sequence[str] = (
        *COLLAPSE,
        "D",
        "VCI",
        "CDNV",
        "bias collapse",
        "effective rank within",
        "accuracy",
        "loss",
    )
    table: Table = {"metric": list(metrics)}
    for run, trial in trials.items():
        for summary in (trial.last.train, trial.last.test):
            values = {
                row["metric"]: row["value"] for row in summary.rows() if row["layer"] in (summary.last.layer, "output")
            }
            table[f"{run}, {summary.split}"] = [values.get(metric) for metric in metrics]
    return table
