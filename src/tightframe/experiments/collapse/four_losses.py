"""N7 on networks: four losses, over widths and lengths of training."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from tightframe.experiments.catalog import entry
from tightframe.experiments.collapse.loss_runs import SIGNS, Config, Row, Run, distance, spread, trained
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L4, are all losses created equal; [zhou2022all]"

PRESETS = {
    "smoke": Config(),
    "quick": Config(data="fashion-mnist", limit=5000, epochs=(10, 100), weight_decay=5e-3),
    "paper": Config(
        data="cifar10",
        model="resnet18",
        widths=(16, 32, 64, 128),
        epochs=(100, 200, 400),
        lr=0.05,
        weight_decay=5e-4,
        batch_size=128,
        seeds=(0, 1, 2),
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Train every loss at every width and length, and see whether features and test accuracies come together."""
    plan = [
        (config, loss, width, epochs, seed, sweep.data_root)
        for epochs in reversed(config.epochs)  # the longest first, so that no process waits for them at the end
        for width in reversed(config.widths)
        for loss, _ in config.losses
        for seed in config.seeds
    ]
    runs = sweep(trained, plan)
    corners = [(width, epochs) for epochs in config.epochs for width in config.widths]
    spreads = [spread(config, [run for run in runs if (run.width, run.epochs) == corner]) for corner in corners]
    last = [run for run in runs if (run.width, run.epochs) == corners[-1]]
    tables = {
        "losses": table_of([row for corner in corners for row in _means(config, runs, *corner)]),
        "spreads": table_of(spreads),
        "distances": table_of(_distances(config, last)),
        "runs": table_of([run.row for run in runs]),
    }
    claims = [*_collapse(config, last), *judged(spreads)]
    return Findings(tuple(claims), _answer(spreads), tables, tuple(_panels(*corners[-1])))


def judged(spreads: Sequence[Row]) -> list[Claim]:
    """Claims on the corner of the largest width and the longest training, and on the way there from the first one."""
    small, large = spreads[0], spreads[-1]
    places = [f"width {row['width']}, {row['training']}" for row in (small, large)]
    where, how = places[1], f"{places[1]} against {places[0]}"
    apart, seeds = "distance between losses", "distance between seeds"
    key = "range of test accuracies"
    stated = (
        (
            "accuracy",
            f"Equal test accuracy at {where}: range of the losses' means",
            (large["range by chance"], large[key]),
            "the bound is the 95 % range of equally good losses, by test samples and seeds; less goes unseen",
        ),
        (
            "accuracy.closer",
            f"Test accuracies come together: their range, {how}",
            (small[key], large[key]),
            "",
        ),
        (
            "features",
            f"Equal features at {where}: distance between cosine matrices of two losses over that of two seeds",
            (1.0, large[apart] / large[seeds] if large[seeds] else None),
            f"{large[apart]:.4f} between losses at different seeds, {large[seeds]:.4f} between seeds of one loss; "
            "the tolerance is one tenth"
            if large[seeds]
            else "needs two seeds",
        ),
        (
            "features.closer",
            f"Features come together: distance between cosine matrices, {how}",
            (small[f"{apart}, same start"], large[f"{apart}, same start"]),
            "two losses from the same start, mean over pairs and seeds",
        ),
        (
            "variability",
            f"Equal variability at {where}: highest NC1 of a loss over the lowest",
            (2.0, large["highest NC1"] / large["lowest NC1"]),
            "means over seeds, at the same weight decay; a factor of two is allowed",
        ),
    )
    return [
        Claim(
            id=f"N7.net.{name}",
            statement=statement,
            source=_SOURCE,
            expected=expected,
            observed=observed,
            tolerance=0.1 if name == "features" else 0.0,
            note=note,
        )
        for name, statement, (expected, observed), note in stated
    ]


def _collapse(config: Config, runs: Sequence[Run]) -> list[Claim]:
    """Every loss collapses at the largest width and length: NC1 by an order of magnitude, NC2 and NC3 by half."""
    claims = []
    for loss, _ in config.losses:
        rows = [run.row for run in runs if run.loss == loss]
        for sign, (metric, factor) in SIGNS.items():
            claims.append(
                Claim(
                    id=f"N7.net.{loss}.{sign}",
                    statement=f"Collapse under {loss}: {metric} after training over {metric} before it, training set",
                    source=_SOURCE,
                    expected=factor,
                    observed=mean(row[sign] / row[f"{sign} before"] for row in rows),
                    note=f"mean over {len(rows)} seeds; {mean(row[sign] for row in rows):.3g} after training",
                )
            )
    return claims


def _means(config: Config, runs: Sequence[Run], width: int, epochs: int) -> list[Row]:
    rows = []
    for loss, _ in config.losses:
        own = [run.row for run in runs if (run.loss, run.width, run.epochs) == (loss, width, epochs)]
        accuracies = [row["test accuracy"] for row in own]
        row = {name: own[0][name] for name in ("loss", "width", "epochs", "training")}
        row |= {"test accuracy": mean(accuracies), "standard deviation": stdev(accuracies) if len(own) > 1 else None}
        rows.append(row | {name: mean(r[name] for r in own) for name in ("training accuracy", *SIGNS)})
    return rows


def _distances(config: Config, runs: Sequence[Run]) -> list[Row]:
    """Mean distance between the cosine matrices of every two losses from the same start."""
    found = {(run.loss, run.seed): run for run in runs}
    names = [loss for loss, _ in config.losses]
    return [
        {"loss": a, "other": b, "distance": mean(distance(found[a, s], found[b, s]) for s in config.seeds)}
        for a in names
        for b in names
    ]


def _answer(spreads: Sequence[Row]) -> str:
    told = [
        f"width {row['width']}, {row['training']}: {100 * row['test accuracy, mean']:.2f} % "
        f"(range {100 * row['range of test accuracies']:.2f}, by chance {100 * row['range by chance']:.2f}), "
        f"distance {row['distance between losses, same start']:.3f}, "
        f"NC1 {row['lowest NC1']:.2g} to {row['highest NC1']:.2g}"
        for row in (spreads[0], spreads[-1])
    ]
    return (
        "Mean test accuracy, its range over the losses, the distance between their cosine matrices, and their NC1. "
        + "; ".join(told)
        + "."
    )


def _panels(width: int, epochs: int) -> list[Panel]:
    curves = {"kind": "curves", "x": "width", "x_scale": "log"}
    return [
        Panel(
            title="Test accuracy of the losses",
            caption="Mean over seeds, by width and length of training.",
            table="losses",
            y="test accuracy",
            color="loss",
            facet="training",
            **curves,
        ),
        *(
            Panel(
                title=title,
                caption=f"{sign} of the last features on the training set, mean over seeds. Zero is complete collapse.",
                table="losses",
                y=sign,
                color="loss",
                facet="training",
                y_scale="log",
                **curves,
            )
            for sign, title in (("NC1", "Variability"), ("NC2", "Distance from the simplex"), ("NC3", "Self-duality"))
        ),
        Panel(
            title="Accuracies of the losses apart",
            caption="Range of the mean test accuracies; dashed, what it stays below by chance in 95 of 100 cases.",
            table="spreads",
            y="range of test accuracies",
            reference="range by chance",
            color="training",
            **curves,
        ),
        Panel(
            title="Features of the losses apart",
            caption="Distance between the normalised cosine matrices of class means, two losses at different seeds; "
            "dashed, two seeds of one loss.",
            table="spreads",
            y="distance between losses",
            reference="distance between seeds",
            color="training",
            **curves,
        ),
        Panel(
            kind="matrix",
            title="Losses two by two",
            caption=f"Distance between their cosine matrices from the same start, width {width}, {epochs} epochs.",
            table="distances",
            x="other",
            y="loss",
            value="distance",
        ),
    ]


EXPERIMENT = Study(entry("four-losses"), PRESETS, investigate)
