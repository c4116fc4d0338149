"""T1: whether networks that collapse more on other data do better there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from tightframe.collapse.transfer_summary import SCORES
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Sweep
from tightframe.experiments.transfer.image_tasks import ImageTask
from tightframe.experiments.transfer.pretraining import PretrainedStudy, Recipe
from tightframe.experiments.transfer.rank_correlation import spearman, spearman_interval
from tightframe.experiments.transfer.transfer_runs import LOST, SOURCE, Config, Row, outcome, scored
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.training.config import TrainConfig

_SOURCE = "L6, more variability collapse, better transfer performance (li2022principled)"
_BETTER = {name: score.better for name, score in SCORES.items()} | {SOURCE[0]: "lower", SOURCE[1]: "higher"}
# Name, changes of the recipe, changes of its training.
_WAYS: tuple[tuple[str, dict, dict], ...] = (
    ("CE", {}, {}),
    ("label smoothing", {}, {"loss": "ls:smoothing=0.1"}),
    ("focal", {}, {"loss": "focal:gamma=3"}),
    ("MSE", {}, {"loss": "mse:scale=1,target=15", "lr": 0.01}),
    ("MCR2", {"projection": True}, {"loss": "mcr2"}),
    ("strong decay", {}, {"weight_decay": 1e-2}),
    ("no decay", {}, {"weight_decay": 0.0}),
    ("augmented", {}, {"augment": "crop-flip"}),
    ("projection", {"projection": True}, {}),
    ("normalised", {"head": "normalized"}, {}),
    ("fixed simplex", {"head": "etf"}, {}),
    ("small batches", {}, {"batch_size": 16, "lr": 0.02}),
)
_PUBLIC = (
    *(f"hf:microsoft/resnet-{depth}" for depth in (18, 26, 34, 50, 101, 152)),
    *(f"hf:facebook/convnext-{size}-224" for size in ("tiny", "small", "base", "large")),
    *(f"hf:facebook/deit-{size}-patch16-224" for size in ("tiny", "small", "base")),
    *(f"hf:microsoft/swin-{size}-patch4-window7-224" for size in ("tiny", "small", "base")),
    *(f"hf:google/vit-{size}-patch16-224" for size in ("base", "large")),
    "hf:facebook/regnet-y-040",
    "hf:google/mobilenet_v2_1.0_224",
)
_FIRST, _OTHER = tuple(range(5)), tuple(range(5, 10))


def recipes(
    source: ImageTask, *, epochs: int, early: int, augment: str = "crop-flip", **network: object
) -> tuple[Recipe, ...]:
    """One network trained in twelve ways on a source, each kept after `early` and after all epochs.

    Args:
        source: What it is trained on.
        epochs: Of training.
        early: Epoch of the first network that is kept.
        augment: Of the recipe that has one.
        network: Further arguments of `Recipe`: model, width, depth.
    """
    made = []
    for name, changes, training in _WAYS:
        settings = {"epochs": epochs, "lr": 0.05, "weight_decay": 5e-4, "schedule": "cosine", "batch_size": 64}
        settings |= training | ({"augment": augment} if "augment" in training else {})
        made.append(Recipe(name, source, snapshots=(early,), train=TrainConfig(**settings), **{**network, **changes}))
    return tuple(made)


def _transformer(source: ImageTask, *, epochs: int, early: int) -> Recipe:
    train = TrainConfig(epochs=epochs, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine", batch_size=64)
    return Recipe("transformer", source, model="vit", width=64, snapshots=(early,), train=train)


_CIFAR = ImageTask("cifar10", _FIRST, limit=3000, tested=1000)
_FASHION = ImageTask("fashion-mnist", limit=4000, tested=1000)
PRESETS = {
    "smoke": Config(
        recipes=recipes(
            ImageTask("digits", _FIRST), epochs=20, early=2, augment="noise:0.3", model="mlp-bn", width=64, depth=3
        ),
        targets=(ImageTask("digits", _OTHER, limit=250),),
        lr=1e-3,
    ),
    "quick": Config(
        recipes=(*recipes(_CIFAR, epochs=10, early=3), _transformer(_CIFAR, epochs=10, early=3)),
        targets=(ImageTask("cifar10", _OTHER, limit=1000, tested=1000),),
        epochs=8,
        lr=1e-3,
    ),
    "grey": Config(
        recipes=(*recipes(_FASHION, epochs=8, early=2), _transformer(_FASHION, epochs=8, early=2)),
        targets=(
            ImageTask("cifar10", limit=1000, tested=1000, grey=True, side=28),
            ImageTask("digits", limit=500, side=28),
            ImageTask("textures", limit=500, side=28),
        ),
        epochs=5,
        lr=1e-3,
    ),
    "paper": Config(
        public=_PUBLIC,
        targets=(ImageTask("cifar10", limit=5000), ImageTask("hf:dpdl-benchmark/oxford_iiit_pet", side=224)),
        epochs=20,
    ),
}


def investigate(config: Config, sweep: Sweep, *, kept: Path | None = None) -> Findings:
    """Pretrain, score and tune every network, and rank the networks by each."""
    origins = (*config.recipes, *config.public)
    found = list(chain(*sweep(scored, [(config, origin, kept, sweep.data_root) for origin in origins])))
    rows, lost = ([row for row in found if (LOST in row) is missing] for missing in (False, True))
    correlations = [row for task in config.targets for row in _correlations(rows, task.name, config)]
    tables = {"networks": table_of(rows), "correlations": table_of(correlations)}
    tables |= {"not trained": table_of(lost)} if lost else {}
    claims = [claim for task in config.targets for claim in _claims(correlations, task.name, config)]
    return Findings(tuple(claims), _answer(correlations, config), tables, _panels(config))


def _correlations(rows: Sequence[Row], target: str, config: Config) -> Iterable[Row]:
    """Rank correlation of every score with every accuracy on one target, and its interval."""
    for accuracy in map(outcome, config.methods):
        for name, better in _BETTER.items():
            found = [row for row in rows if row["target"] == target and None not in (row[name], row[accuracy])]
            x, y = ([row[column] for row in found] for column in (name, accuracy))
            groups = [str(row["run"]) for row in found]
            rho = spearman(x, y) if len(found) > 2 else math.nan
            low, high = (
                spearman_interval(x, y, groups, replicates=config.replicates, seed=config.seed)
                if len(found) > 2
                else (math.nan, math.nan)
            )
            yield {
                "target": target,
                "accuracy": accuracy,
                "score": name,
                "better": better,
                "rho": _defined(rho),
                "low": _defined(low),
                "high": _defined(high),
                "networks": len(found),
                "runs": len(set(groups)),
            }


def _defined(number: float) -> float | None:
    return None if math.isnan(number) else number


def _claims(correlations: Sequence[Row], target: str, config: Config) -> Iterable[Claim]:
    """NC1 on the target falls where accuracy rises, beyond chance; NC1 on the source says less."""
    for method in config.methods:
        found = {
            row["score"]: row for row in correlations if (row["target"], row["accuracy"]) == (target, outcome(method))
        }
        here, there = found["NC1"], found[SOURCE[0]]
        enough = here["networks"] >= config.least
        numbers = f"rho {_text(here)} of {here['networks']} networks of {here['runs']} runs"
        few = f"needs at least {config.least} networks; {numbers}"
        yield Claim(
            id=f"T1.{target}.{method}",
            statement=f"{target}: lower NC1 there goes with higher {outcome(method)}; "
            "upper end of the 95 % interval of Spearman's rho",
            source=_SOURCE,
            expected=0.0,
            observed=_number(here["high"]) if enough else None,
            note=numbers if enough else few,
        )
        if config.recipes:
            sizes = [None if row["rho"] is None else abs(row["rho"]) for row in (here, there)]
            yield Claim(
                id=f"T1.{target}.{method}.source",
                statement=f"{target}: NC1 on the source says less of {outcome(method)}; |rho| there less |rho| here",
                source=_SOURCE,
                expected=0.0,
                observed=(math.nan if None in sizes else sizes[1] - sizes[0]) if enough else None,
                note=f"source {_text(there)}, target {_text(here)}" if enough else few,
            )


def _number(cell: float | None) -> float:
    return math.nan if cell is None else cell


def _text(row: Row) -> str:
    ends = "undefined" if None in (row["low"], row["high"]) else f"{row['low']:.2f} to {row['high']:.2f}"
    return f"undefined [{ends}]" if row["rho"] is None else f"{row['rho']:.2f} [{ends}]"


def _answer(correlations: Sequence[Row], config: Config) -> str:
    parts = []
    for task in config.targets:
        for accuracy in map(outcome, config.methods):
            found = [
                row
                for row in correlations
                if (row["target"], row["accuracy"]) == (task.name, accuracy) and row["rho"] is not None
            ]
            ranked = sorted(found, key=lambda row: row["rho"] if row["better"] == "lower" else -row["rho"])
            listed = ", ".join(f"{row['score']} {_text(row)}" for row in ranked)
            parts.append(f"{task.name}, {accuracy}: {listed or 'too few networks'}")
    return (
        "Spearman's rho over networks, [95 % bootstrap interval over pretraining runs], most telling score first. "
        + "; ".join(parts)
        + "."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    panels = [
        Panel(
            kind="scatter",
            title=f"NC1 on the target and {outcome(method)}",
            caption="Every pretrained network: NC1 of its features on the training samples of the target before any "
            "tuning, and test accuracy there.",
            table="networks",
            x="NC1",
            y=outcome(method),
            color="run",
            facet="target" if len(config.targets) > 1 else None,
            x_scale="log",
        )
        for method in config.methods
    ]
    if config.recipes:
        panels.append(
            Panel(
                kind="scatter",
                title=f"NC1 on the source and {outcome(config.methods[0])}",
                caption="The same networks by NC1 on what they were pretrained on.",
                table="networks",
                x=SOURCE[0],
                y=outcome(config.methods[0]),
                color="run",
                facet="target" if len(config.targets) > 1 else None,
                x_scale="log",
            )
        )
    panels.append(
        Panel(
            kind="layers",
            title="What each score says of transfer",
            caption="Spearman's rho with test accuracy. Scores of which lower is better (NC1) should be at -1, the "
            "others at 1.",
            table="correlations",
            x="score",
            y="rho",
            color="accuracy",
            facet="target" if len(config.targets) > 1 else None,
        )
    )
    return tuple(panels)


EXPERIMENT = PretrainedStudy(entry("transfer-scores"), PRESETS, investigate)
