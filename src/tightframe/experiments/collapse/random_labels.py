"""N5: wide networks fit labels that mean nothing, and collapse on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from math import sqrt
from statistics import mean

from tightframe.experiments.catalog import entry
from tightframe.experiments.collapse.width_runs import RANDOM, RIGHT, Config, trained
from tightframe.experiments.measured import SIGNS, Row, average, number, ratio
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.training.config import TrainConfig

_SOURCE = "Q21 and L4, random labels and random inputs over network widths"
# What counts as fitting every label, and as not fitting them, in training error.
_FITTED, _UNFITTED = 0.01, 0.1
# What counts as collapse: a sign after training over the same before it.
_FALLS = {"NC1": 0.1, "NC2 features": 0.5, "NC3": 0.5}

_CIFAR = Config(
    data=("cifar10", "gaussian:10x50000:3x32x32"),
    model="resnet18",
    widths=(2, 4, 8, 16, 32, 64),
    seeds=(0,),
    compared=("cifar10",),
    train=TrainConfig(epochs=300, lr=0.05, weight_decay=1e-4, schedule="cosine"),
    observations=24,
)
PRESETS = {
    "smoke": Config(),
    "quick": Config(
        data=("digits", "gaussian:10x1347", "fashion-mnist"),
        limit=2000,
        widths=(10, 16, 32, 64, 128, 256, 512),
        compared=("digits", "fashion-mnist"),
    ),
    "paper": _CIFAR,
    "paper-mlp": replace(_CIFAR, model="mlp-bn", depth=4, widths=(32, 64, 128, 256, 512, 1024, 2048)),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Train every width on random labels and the widest on right ones, and judge what they fit."""
    cells = list(product(config.data, (RANDOM,), config.widths, config.seeds))
    cells += list(product(config.compared, (RIGHT,), config.widths[-1:], config.seeds))
    runs: list[Row] = []
    curves: list[Row] = []
    for row, curve in sweep(trained, [(config, *cell, sweep.data_root) for cell in cells]):
        runs.append(row)
        curves += curve
    results = [row for data in config.data for row in _results(config, data, runs)]
    claims = tuple(claim for data in config.data for claim in _claims(config, data, results))
    tables = {"widths": table_of(results), "runs": table_of(runs), "training": table_of(curves)}
    return Findings(claims, _answer(config, results), tables, _panels())


def _results(config: Config, data: str, runs: Sequence[Row]) -> list[Row]:
    """Means over the seeds, by labels and width."""
    rows = []
    for labels, width in [*product((RANDOM,), config.widths), (RIGHT, config.widths[-1])]:
        own = [run for run in runs if (run["data"], run["labels"], run["width"]) == (data, labels, width)]
        if not own:
            continue
        row = {"data": data, "labels": labels, "width": width, "parameters": own[0]["parameters"]}
        row["samples"] = own[0]["samples"]
        for name in ("training error", "test accuracy"):
            row[name] = mean(run[name] for run in own)
        for metric in SIGNS:
            row[metric] = average([run[metric] for run in own])
            row[f"{metric}, after over before"] = average([ratio(run[metric], run[f"{metric} before"]) for run in own])
        rows.append(row)
    return rows


def _claims(config: Config, data: str, results: Sequence[Row]) -> list[Claim]:
    rows = [row for row in results if (row["data"], row["labels"]) == (data, RANDOM)]
    narrow, wide = rows[0], rows[-1]
    key, inputs = f"N5.{data.replace(':', '-')}", f"random labels, {data}"
    seeds = f"mean of {len(config.seeds)} seeds" if len(config.seeds) > 1 else "one seed"
    claims = [
        Claim(
            id=f"{key}.fit",
            statement=f"A wide network fits {inputs}: training error at width {wide['width']}",
            source=_SOURCE,
            expected=_FITTED,
            observed=wide["training error"],
            note=_size(wide, seeds),
        ),
        Claim(
            id=f"{key}.narrow",
            statement=f"A narrow network does not fit {inputs}: training error at width {narrow['width']}",
            source=_SOURCE,
            expected=_UNFITTED,
            observed=narrow["training error"],
            relation=">=",
            note=_size(narrow, seeds),
        ),
        _rise(key, inputs, rows, len(config.seeds)),
    ]
    for metric in SIGNS:
        name = f"{metric}, after over before"
        claims.append(
            Claim(
                id=f"{key}.{metric.split()[0]}",
                statement=f"The wide network collapses on {inputs}: {metric} after training over before it",
                source=_SOURCE,
                expected=_FALLS[metric],
                observed=number(wide[name]),
                note=f"{metric} {number(wide[metric]):.4g} after training at width {wide['width']}, {seeds}; before it "
                "the means of random classes nearly coincide",
            )
        )
    claims.append(
        Claim(
            id=f"{key}.width.NC1",
            statement=f"Collapse on {inputs} takes width: NC1 at width {wide['width']} over NC1 at {narrow['width']}",
            source=_SOURCE,
            expected=_FALLS["NC1"],
            observed=number(ratio(wide["NC1"], narrow["NC1"])),
            note=f"NC1 {number(wide['NC1']):.4g} and {number(narrow['NC1']):.4g} after training, {seeds}",
        )
    )
    return claims


def _rise(key: str, inputs: str, rows: Sequence[Row], seeds: int) -> Claim:
    """The largest rise of the error from a width to the next, less two standard errors of the labels drawn."""
    steps = []
    for narrow, wide in pairwise(rows):
        errors = narrow["training error"], wide["training error"]
        # Every seed draws N labels anew, so that a mean error e varies by e (1 - e) / (N seeds) at least.
        variance = sum(e * (1 - e) for e in errors) / (narrow["samples"] * seeds)
        steps.append((errors[1] - errors[0] - 2 * sqrt(variance), narrow["width"], wide["width"]))
    worst, before, after = max(steps)
    return Claim(
        id=f"{key}.width",
        statement=f"The error falls with the width on {inputs}: its largest rise from a width to the next, less two "
        "standard errors",
        source=_SOURCE,
        expected=0.0,
        observed=worst,
        note=f"from width {before} to {after}; training errors "
        + ", ".join(f"{row['training error']:.4f}" for row in rows),
    )


def _size(row: Row, seeds: str) -> str:
    return f"{row['parameters']:,} parameters for {row['samples']:,} samples, {seeds}"


def _answer(config: Config, results: Sequence[Row]) -> str:
    parts = []
    for data in config.data:
        rows = [row for row in results if (row["data"], row["labels"]) == (data, RANDOM)]
        fitted = next((row["width"] for row in rows if row["training error"] <= _FITTED), None)
        wide = rows[-1]
        part = f"{data}: " + (f"random labels are fitted from width {fitted} on" if fitted else "no width fits them")
        part += f"; at width {wide['width']} NC1 is {number(wide['NC1']):.2e}"
        right = [row for row in results if (row["data"], row["labels"]) == (data, RIGHT)]
        part += f", with right labels {number(right[0]['NC1']):.2e}" if right else ""
        parts.append(f"{part}; test accuracy {100 * wide['test accuracy']:.1f} %")
    return ". ".join(parts) + "."


def _panels() -> tuple[Panel, ...]:
    shared = {"x": "width", "x_scale": "log", "table": "widths"}
    return (
        Panel(
            kind="curves",
            title="Training error on random labels against width",
            caption="Share of the training labels missed after the last epoch, mean over the seeds; 0.9 is chance for "
            "ten classes. The inputs of gaussian are random too.",
            y="training error",
            color="data",
            where={"labels": RANDOM},
            **shared,
        ),
        Panel(
            kind="curves",
            title="Collapse on random labels against width",
            caption="NC1 of the training features after the last epoch, classes being the labels given. The points of "
            "right labels are the widest network trained on those.",
            y="NC1",
            y_scale="log",
            color="data",
            facet="labels",
            **shared,
        ),
        Panel(
            kind="curves",
            title="Self-duality against width",
            caption="NC3, the distance between classifier and class means, after the last epoch on random labels.",
            y="NC3",
            y_scale="log",
            color="data",
            where={"labels": RANDOM},
            **shared,
        ),
        Panel(
            kind="curves",
            title="NC1 while training on random labels",
            caption="First seed, training set.",
            table="training",
            x="epoch",
            y="NC1",
            y_scale="log",
            color="width",
            facet="data",
            where={"labels": RANDOM},
        ),
        Panel(
            kind="curves",
            title="Training error while training on random labels",
            caption="First seed, network in evaluation mode.",
            table="training",
            x="epoch",
            y="training error",
            color="width",
            facet="data",
            where={"labels": RANDOM},
        ),
    )


EXPERIMENT = Study(entry("random-labels"), PRESETS, investigate)
