"""R3: training that survives wrong labels, each method tuned on noisy validation labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from tightframe.experiments.catalog import entry
from tightframe.experiments.labels.noise_runs import (
    CE,
    CE_MILD,
    ELR,
    GCE,
    SOP,
    SOP_PLUS,
    Config,
    Row,
    Setting,
    confident,
    searched_once,
    trained,
)
from tightframe.experiments.published import human_labels
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L4, SOP on wrong labels (liu2022robust)"
_POINTS = 0.08  # of test accuracy, by which SOP is to be above cross-entropy

_MILD = "CE, mild decay"
_ALL = (("CE", CE), (_MILD, CE_MILD), ("GCE", GCE), ("ELR", ELR), ("SOP", SOP), ("SOP+", SOP_PLUS))
_NOISES = ("none", "symmetric:0.2", "symmetric:0.4", "symmetric:0.5", "asymmetric:0.4")
_HUMAN = tuple(
    f"file:cifar10/cifar10n_labels.npz:{key}"
    for key in ("aggre_label", "random_label1", "random_label2", "random_label3", "worse_label")
)
# The published settings of each method on CIFAR-10, without a search.
_PUBLISHED = (
    ("CE", (("ce", 5e-4),)),
    ("LS", (("ls:smoothing=0.1", 5e-4),)),
    ("ELR", (("elr:momentum=0.7,strength=3", 1e-3),)),
    ("SOP", (("sop:rate=0.078", 5e-4),)),
    ("SOP+", (("sop+:rate=0.078", 5e-4),)),
)
# Of the settings above those around the best ones on digits, as many for every method.
_FEW = {"CE": (1, 2), _MILD: (2, 5), "GCE": (3, 5), "ELR": (0, 1), "SOP": (3, 4), "SOP+": (3, 4)}


def _few(*names: str) -> tuple[tuple[str, tuple[Setting, ...]], ...]:
    grids = dict(_ALL)
    return tuple((name, tuple(grids[name][place] for place in _FEW[name])) for name in names)


PRESETS = {
    "smoke": Config(epochs=100, methods=_few("CE", _MILD, "ELR", "SOP")),
    "quick": Config(data="fashion-mnist", width=256, limit=5000, epochs=40, noises=_NOISES, methods=_few(*_FEW)),
    "digits": Config(methods=_ALL, selection_seeds=(0, 1), seeds=tuple(range(10, 18))),
    "human": Config(
        data="cifar10",
        model="resnet18",
        width=8,
        limit=5000,
        epochs=20,
        augment="crop-flip",
        observations=6,
        noises=tuple(noise for noise in _HUMAN if noise.endswith(("aggre_label", "random_label1", "worse_label"))),
        methods=tuple(pair for pair in _PUBLISHED if pair[0] != "LS"),
        seeds=(0,),
    ),
    "paper": Config(
        data="cifar10",
        model="resnet34",
        width=64,
        epochs=120,
        augment="crop-flip",
        noises=(*_NOISES, *_HUMAN),
        methods=_PUBLISHED,
        seeds=(0, 1, 2),
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Choose a setting for every method and noise, train it afresh, and judge test accuracy and suspicion."""
    cells = [(noise, method, grid) for noise in config.noises for method, grid in config.methods]
    searches = [
        (config, noise, setting, seed, sweep.data_root)
        for noise, _, grid in cells
        for setting in (grid if len(grid) > 1 else ())
        for seed in config.selection_seeds
    ]
    searched = [dict(row) for row in sweep(searched_once, searches)]
    chosen = {(noise, method): _chosen(searched, noise, grid) for noise, method, grid in cells}
    finals = [
        (config, noise, method, chosen[noise, method], seed, sweep.data_root)
        for noise, method, _ in cells
        for seed in config.seeds
    ]
    runs, curves = [], []
    for row, curve in sweep(trained, finals):
        runs.append(row)
        curves += curve
    rivals = sweep(
        confident, [(config, noise, seed, sweep.data_root) for noise in config.noises for seed in config.seeds]
    )
    results = [_result(noise, method, chosen[noise, method], runs, searched) for noise, method, _ in cells]
    tables = {
        "results": table_of(results),
        "runs": table_of(runs),
        "selection": table_of(searched),
        "accuracy": table_of(curves),
        "detection": table_of(_detection(runs, rivals)),
    }
    if config.data == "cifar10":
        tables["published, CIFAR-10N"] = human_labels()
    return Findings(tuple(_claims(config, results)), _answer(config, results), tables, _panels())


def _chosen(searched: Sequence[Row], noise: str, grid: Sequence[Setting]) -> Setting:
    """The setting of the best mean noisy validation accuracy at the last epoch; the first of equal ones."""

    def score(setting: Setting) -> float:
        return mean(row["noisy validation, last epoch"] for row in searched if _is(row, noise, setting))

    return max(grid, key=score) if len(grid) > 1 else grid[0]


def _is(row: Row, noise: str, setting: Setting) -> bool:
    return (row["noise"], row["loss"], row["weight decay"]) == (noise, *setting)


def _result(noise: str, method: str, setting: Setting, runs: Sequence[Row], searched: Sequence[Row]) -> Row:
    own = [row for row in runs if (row["noise"], row["method"]) == (noise, method)]
    held = [row["test, selected epoch"] for row in searched if _is(row, noise, setting)]
    last = [row["test, last epoch"] for row in own]
    result = {
        "noise": noise,
        "method": method,
        "loss": setting[0],
        "weight decay": setting[1],
        "test, last epoch": mean(last),
        "standard deviation": stdev(last) if len(last) > 1 else None,
        "test, epoch selected on noisy validation": mean(held) if held else None,
        "test, best test epoch": mean(row["test, best test epoch"] for row in own),
    }
    for name in ("noise AUC", "precision", "recall", "labels right as corrected"):
        values = [row[name] for row in own if row.get(name) is not None]
        result[name] = mean(values) if values else None
    return result


def _detection(runs: Sequence[Row], rivals: Sequence[Row]) -> list[Row]:
    names = ("noise", "method", "seed", "noise AUC", "precision", "recall")
    return [{name: row.get(name) for name in names} for row in [*runs, *rivals] if row["noise"] != "none"]


def _claims(config: Config, results: Sequence[Row]) -> list[Claim]:
    """SOP against cross-entropy and against the best of the other robust methods; on digits also its own bars."""
    claims, last = [], "test, last epoch"
    for noise in (noise for noise in config.noises if noise != "none"):
        found = {row["method"]: row for row in results if row["noise"] == noise}
        sop, ce = found["SOP"], found["CE"]
        others = {name: row[last] for name, row in found.items() if name in ("GCE", "ELR")}
        rival = max(others, key=others.get)
        barred = config.data == "digits" and noise == "symmetric:0.4"
        searched = len(dict(config.methods)["SOP"])
        how = f"each the best of {searched} settings on noisy validation" if searched > 1 else "published settings"
        bars = [
            ("ce", "SOP above cross-entropy", _POINTS if barred else 0.0, sop[last] - ce[last], ce),
            ("robust", "SOP above the other robust methods", 0.0, sop[last] - others[rival], found[rival]),
        ]
        if barred and _MILD in found:
            mild = found[_MILD]
            what = "SOP above cross-entropy with decay of at most 0.03"
            bars.append(("mild", what, _POINTS, sop[last] - mild[last], mild))
        if barred:
            bars.append(("accuracy", "test accuracy of SOP", 0.95, sop[last], sop))
            bars.append(("auc", "AUC of SOP's noise scores", 0.98, sop["noise AUC"], sop))
        claims += [
            Claim(
                id=f"R3.{noise}.{key}",
                statement=f"{noise}, last epoch: {what}",
                source=_SOURCE,
                expected=expected,
                observed=observed,
                relation=">=",
                note=f"SOP {sop[last]:.4f} ({sop['loss']}), {beside['method']} {beside[last]:.4f}; {how}",
            )
            for key, what, expected, observed, beside in bars
        ]
    return claims


def _answer(config: Config, results: Sequence[Row]) -> str:
    parts = []
    for noise in config.noises:
        rows = sorted((row for row in results if row["noise"] == noise), key=lambda row: -row["test, last epoch"])
        parts.append(f"{noise}: " + ", ".join(f"{row['method']} {100 * row['test, last epoch']:.2f}" for row in rows))
    return "Test accuracy at the last epoch in per cent. " + "; ".join(parts) + "."


def _panels() -> tuple[Panel, ...]:
    return (
        Panel(
            kind="curves",
            title="Accuracy while training on wrong labels",
            caption="The chosen setting of every method, first fresh seed: on the test set, and on the training set "
            "with the labels it is given, wrong ones included.",
            table="accuracy",
            x="epoch",
            y="accuracy",
            color="method",
            facet="noise",
        ),
        Panel(
            kind="scatter",
            title="Last epoch and noise AUC",
            caption="Every fresh run: test accuracy at the last epoch against how well suspicion tells wrong labels "
            "apart.",
            table="runs",
            x="noise AUC",
            y="test, last epoch",
            color="method",
            facet="noise",
        ),
    )


EXPERIMENT = Study(entry("label-noise"), PRESETS, investigate)
