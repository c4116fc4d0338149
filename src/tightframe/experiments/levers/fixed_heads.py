"""N8: a fixed simplex frame in place of the learned classifier, and as few features as classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import mean

from tightframe.experiments.catalog import entry
from tightframe.experiments.levers.head_runs import FRAME, HEADS, LEARNED, Config, Setting, published, reduced, trained
from tightframe.experiments.measured import SIGNS, Row, average, number, ratio, standard_error
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.training.config import TrainConfig

_SOURCE = "Q21 and L4, implications for training (hoffer2018fix)"
_ON_PAR = "Q21 and L4, ResNet50 on CIFAR-10 with learned and fixed classifiers, d = 2048 and d = 10 (zhu2021geometric)"
# Shares as the sources give them, to a whole or half per cent.
_SAVED = {"resnet50": (0.08, 0.005), "densenet169": (0.12, 0.005), "shufflenet-biased": (0.53, 0.005)}
_FURTHER = {"resnet18": (8_867_442, 0.21, 0.005), "resnet50": (22_481_010, 0.045, 0.0005)}
# On par: half a point of mean test accuracy, or two standard errors where the seeds scatter more, at most one point.
_MARGIN, _MOST = 0.005, 0.01

# Long enough for unit features at temperature 1, which fit the training set last: a third of it leaves them 0.7 points
# behind on the digits.
_TRAIN = TrainConfig(epochs=150, lr=0.1, weight_decay=5e-4, batch_size=256, schedule="cosine")
_DIGITS = Setting("digits", "mlp-bn", _TRAIN, width=128, depth=2)
_FASHION = Setting("fashion-mnist", "mlp-bn", _TRAIN, width=128, depth=2, limit=2000)
_FEW = tuple(head for head in HEADS if head[0] not in (f"{FRAME}, d = K - 1", f"{LEARNED}, d = K"))
_LONG = TrainConfig(epochs=200, lr=0.05, weight_decay=5e-4, milestones=(40, 80, 120, 160))
_PAPER = tuple(Setting("cifar10", model, _LONG) for model in ("resnet18", "resnet50"))

PRESETS = {
    "smoke": Config((_DIGITS,), heads=_FEW, seeds=(0, 1)),
    "quick": Config((_DIGITS, _FASHION), seeds=tuple(range(8))),
    "paper": Config(_PAPER, seeds=(0,), observations=24),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Count what fixing and narrowing save, train every head on every setting and seed, and compare in pairs."""
    cells = list(product(config.settings, config.heads, config.seeds))
    items = [(*cell, config.observations, cell[2] == config.seeds[0], sweep.data_root) for cell in cells]
    runs: list[Row] = []
    curves: list[Row] = []
    for row, curve in sweep(trained, items):
        runs.append(row)
        curves += curve
    large, small = published(), reduced()
    results = [_result(setting.name, name, runs) for setting in config.settings for name, _, _ in config.heads]
    claims = [*_saved_claims(large), *_further_claims(small)]
    for setting in config.settings:
        claims += _setting_claims([row for row in results if row["setting"] == setting.name])
    tables = {
        "parameters at 1000 classes": table_of(large),
        "parameters at 10 classes": table_of(small),
        "heads": table_of(results),
        "runs": table_of(runs),
        "training": table_of(curves),
    }
    return Findings(tuple(claims), _answer(config, large, small, results), tables, _panels(config))


def _result(setting: str, head: str, runs: Sequence[Row]) -> Row:
    """Means over the seeds, and the difference to the learned classifier of the same seeds."""
    own, learned = (
        [row for row in runs if (row["setting"], row["head"]) == (setting, name)] for name in (head, LEARNED)
    )
    apart = [a["test accuracy"] - b["test accuracy"] for a, b in zip(own, learned, strict=True)]
    row = {name: own[0][name] for name in ("setting", "head", "d", "trainable parameters", "of them in the classifier")}
    row |= {
        "seeds": len(own),
        "test samples": own[0]["test samples"],
        "training accuracy": mean(run["training accuracy"] for run in own),
        "test accuracy": mean(run["test accuracy"] for run in own),
        "difference to learned": mean(apart),
        "standard error": standard_error(apart) if len(apart) > 1 else None,
    }
    return row | {metric: average([run[metric] for run in own]) for metric in (*SIGNS, "NC2 classifier", "NC4")}


def _saved_claims(counts: Sequence[Row]) -> list[Claim]:
    found = {row["network"]: row for row in counts}
    claims = []
    for network, (expected, tolerance) in _SAVED.items():
        row = found[network]
        note = f"{row['weight of the classifier']:,} of {row['parameters']:,}"
        if network == "shufflenet-biased":
            other = ", ".join(f"{name} {found[name]['share']:.1%}" for name in found if name.startswith("shufflenet"))
            note += f"; the share depends on the variant: {other}"
        claims.append(
            Claim(
                id=f"N8.share.{network.removesuffix('-biased')}",
                statement=f"Share of the parameters of {network} with 1000 classes that a fixed classifier saves",
                source=_SOURCE,
                expected=expected,
                observed=row["share"],
                relation="==",
                tolerance=tolerance,
                note=note,
            )
        )
    return claims


def _further_claims(counts: Sequence[Row]) -> list[Claim]:
    claims = []
    for row in counts:
        total, share, tolerance = _FURTHER[row["network"]]
        what = f"{row['network']} with 10 classes, classifier fixed and d = 10"
        alone = row["built"] - row["with a fixed classifier"]
        claims += [
            Claim(
                id=f"N8.count.{row['network']}",
                statement=f"Trainable parameters of {what}",
                source=_SOURCE,
                expected=total,
                observed=row["and d = K"],
                relation="==",
                note=f"{row['built']:,} before, {row['parameters']:,} by the published layer shapes",
            ),
            Claim(
                id=f"N8.further.{row['network']}",
                statement=f"Share of the parameters saved: {what}",
                source=_SOURCE,
                expected=share,
                observed=row["saved"],
                relation="==",
                tolerance=tolerance,
                note=f"nearly all of it from the narrower last block: fixing the classifier alone saves {alone:,} "
                f"({alone / row['built']:.2%})",
            ),
        ]
    return claims


def _setting_claims(rows: Sequence[Row]) -> list[Claim]:
    """Test accuracy on par for every head, and means and classifier nearer to a simplex with a fixed frame."""
    found = {row["head"]: row for row in rows}
    learned, frame = found[LEARNED], found[FRAME]
    setting = learned["setting"]
    key = f"N8.{setting.replace(', ', '.')}"
    claims = [_on_par(f"{key}.{_key(row['head'])}", row, learned) for row in rows if row["head"] != LEARNED]
    for metric, what in (("NC2 features", "Class means nearer to a simplex"), ("NC3", "Self-duality further")):
        claims.append(
            Claim(
                id=f"{key}.{metric.split()[0]}",
                statement=f"{what} with a fixed frame, {setting}: {metric} over that of the learned classifier",
                source=_ON_PAR,
                expected=1.0,
                observed=number(ratio(frame[metric], learned[metric])),
                note=f"{metric} {number(frame[metric]):.4g} and {number(learned[metric]):.4g}, training set",
            )
        )
    return claims


def _on_par(identifier: str, row: Row, learned: Row) -> Claim:
    error = row["standard error"] or 0.0
    enough = row["seeds"] > 1
    note = f"{row['test accuracy']:.4f} and {learned['test accuracy']:.4f} on {row['test samples']} test samples; "
    note += f"standard error {error:.4f} of {row['seeds']} paired differences" if enough else "one seed"
    return Claim(
        id=identifier,
        statement=f"Accuracy on par, {row['setting']}, {row['head']}: mean difference to the learned classifier",
        source=_ON_PAR,
        expected=0.0,
        observed=row["difference to learned"],
        relation=">=",
        tolerance=min(max(_MARGIN, 2 * error), _MOST),
        note=note,
    )


def _key(head: str) -> str:
    return head.replace(",", "").replace(" = ", "=").replace(" - ", "-").replace(" ", "-")


def _answer(config: Config, large: Sequence[Row], small: Sequence[Row], results: Sequence[Row]) -> str:
    parts = [
        "Weight of the classifier at 1000 classes: "
        + ", ".join(f"{row['network']} {row['share']:.1%}" for row in large if row["network"] in _SAVED),
        "fixed and d = 10 at 10 classes: " + ", ".join(f"{row['network']} {row['saved']:.2%}" for row in small),
    ]
    for setting in config.settings:
        rows = [row for row in results if row["setting"] == setting.name]
        parts.append(
            f"test accuracy in per cent, {setting.name}: "
            + ", ".join(f"{row['head']} {100 * row['test accuracy']:.2f}" for row in rows)
        )
    return "; ".join(parts) + "."


def _panels(config: Config) -> tuple[Panel, ...]:
    first = config.settings[0].name
    return (
        Panel(
            kind="scatter",
            title="Parameters that a fixed classifier saves",
            caption="Weight of the classifier over all parameters, 1000 classes: the smaller the network, the more.",
            table="parameters at 1000 classes",
            x="parameters",
            y="share",
            x_scale="log",
            color="network",
        ),
        Panel(
            kind="scatter",
            title="Accuracy and self-duality by head",
            caption="Every run after the last epoch: test accuracy against NC3 on the training set.",
            table="runs",
            x="NC3",
            y="test accuracy",
            x_scale="log",
            color="head",
            facet="setting",
        ),
        Panel(
            kind="curves",
            title="Collapse while training",
            caption=f"NC1 and NC2 of the class means and NC3 on the training set, first seed, {first}.",
            table="training",
            x="epoch",
            y="value",
            color="head",
            facet="metric",
            y_scale="log",
            where={"metric": list(SIGNS), "setting": first},
        ),
        Panel(
            kind="curves",
            title="Test error while training",
            caption="First seed.",
            table="training",
            x="epoch",
            y="value",
            color="head",
            facet="setting",
            y_scale="log",
            where={"metric": "test error"},
        ),
    )


EXPERIMENT = Study(entry("fixed-heads"), PRESETS, investigate)
