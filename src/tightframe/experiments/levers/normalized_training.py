"""N15 on networks: epochs to collapse with features and classifier on spheres, and with a linear classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, median_high, variance

from tightframe.experiments.catalog import entry
from tightframe.experiments.levers.sphere_runs import ARMS, LAST, SPHERES, WEIGHTS, Config, Row, reached, watched
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "YN, abstract: better representations are learned faster by normalised features"
_ONE_SIDED = 1.645  # 95 % point of the normal distribution
_KEYS = {WEIGHTS: "weights", LAST: "last"}

PRESETS = {
    "smoke": Config(),
    "quick": Config(
        data="fashion-mnist",
        turns=4,
        held_out=4000,
        width=256,
        epochs=60,
        rates=(0.03, 0.1, 0.3, 1.0),
        temperatures=(2.0, 5.0, 12.0),
        weight_decays=(5e-4, 2e-3, 8e-3),
        last_decays=(5e-3, 2e-2, 5e-2),
    ),
    "paper": Config(
        data="cifar10",
        turns=4,
        per_class=500,
        model="resnet18",
        width=64,
        epochs=200,
        batch_size=128,
        temperatures=(1.0, 5.0, 20.0),
        weight_decays=(1e-4, 5e-4, 2e-3),
        last_decays=(1e-3, 1e-2, 5e-2),
        seeds=(0, 1, 2),
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Epochs to every target by arm, step size and setting, and their ratios at the best of every arm's grid."""
    plan = [(arm, setting, rate) for arm in ARMS for setting in config.settings(arm) for rate in config.rates]
    curves = sweep(watched, [(config, *cell, seed, sweep.data_root) for cell in plan for seed in config.seeds])
    count = len(config.seeds)
    own = [curves[count * place : count * (place + 1)] for place in range(len(plan))]
    cells = [summary(config, cell, runs) for cell, runs in zip(plan, own, strict=True)]
    best = {(arm, target): quickest(_of(cells, arm), target) for arm in ARMS for target in targets(config)}
    tested = {arm: max(_of(cells, arm), key=lambda cell: cell["selection accuracy"] or 0.0) for arm in ARMS}
    drawn = [
        {"arm": arm, "tuned for": target} | row
        for (arm, target), cell in best.items()
        for row in own[cells.index(cell)][0]
        if row["epoch"] > 0  # a log axis has no epoch 0
    ]
    tables = {
        "settings": table_of(cells),
        "step sizes": table_of(_by_rate(config, cells)),
        "best": table_of([_chosen(config, arm, target, cell) for (arm, target), cell in best.items()]),
        "curves": table_of(drawn),
        "accuracies": table_of([row for row in drawn if "test accuracy" in row]),
    }
    ends = {
        arm: [curve[-1] if _finished(config, curve) else {} for curve in own[cells.index(cell)]]
        for arm, cell in tested.items()
    }
    claims = (*_speed(config, best), *(accuracy_claim(ends, other) for other in _KEYS))
    return Findings(claims, _answer(config, cells, best, tested), tables, tuple(_panels()))


def targets(config: Config) -> dict[str, tuple[str, Mapping[str, float]]]:
    """What is to be reached, by name: the value it is read from, and its bound."""
    return {f"NC1 <= {most:g}": ("NC1", {"most": most}) for most in config.variability} | {
        f"training accuracy >= {config.accuracy:g}": ("training accuracy", {"least": config.accuracy})
    }


def summary(config: Config, cell: tuple[str, float, float], runs: Sequence[Sequence[Row]]) -> Row:
    """Median epochs to each target and mean accuracies at the end, over the seeds of one arm, setting and step size.

    None stands for a target that most seeds never reach, and for accuracies where one of them diverged.
    """
    arm, setting, rate = cell
    row: Row = {"arm": arm, "setting": setting, "step size": rate}
    done = [curve for curve in runs if _finished(config, curve)]
    for target, (name, bound) in targets(config).items():
        found = [reached([look[name] for look in curve], **bound) for curve in done]
        late = [math.inf] * (len(runs) - len(done))
        middle = median_high([math.inf if epoch is None else epoch for epoch in found] + late)
        row[target] = None if middle == math.inf else int(middle)
    for name in ("selection accuracy", "test accuracy"):
        row[name] = mean(curve[-1][name] for curve in done) if len(done) == len(runs) else None
    return row


def quickest(cells: Sequence[Row], target: str) -> Row:
    """The setting and step size that reach a target first; the first ones where none does."""
    return min(cells, key=lambda cell: math.inf if cell[target] is None else cell[target])


def ratio(ours: int | None, theirs: int | None) -> float | None:
    """Epochs of the spheres over those of another arm: 0 where only the spheres get there, None where neither does."""
    if ours is None:
        return None if theirs is None else math.inf
    return 0.0 if theirs is None else ours / max(1, theirs)


def _speed(config: Config, best: Mapping[tuple[str, str], Row]) -> list[Claim]:
    """Epochs on spheres over epochs with a linear classifier, both at the best of equally large grids, at most 1."""
    claims = []
    for other, key in _KEYS.items():
        for place, target in enumerate(targets(config)):
            ours, theirs = best[SPHERES, target], best[other, target]
            told = [
                f"{_shown(cell[target])} epochs at {cell['setting']:g}, {cell['step size']:g}"
                for cell in (ours, theirs)
            ]
            name = f"NC1.{config.variability[place]:g}" if place < len(config.variability) else "accuracy"
            claims.append(
                Claim(
                    id=f"N15.net.{key}.{name}",
                    statement=f"Spheres need no more epochs to {target}: ratio to {other}",
                    source=_SOURCE,
                    expected=1.0,
                    observed=ratio(ours[target], theirs[target]),
                    tolerance=1 / max(1, theirs[target]) if theirs[target] is not None else 0.0,
                    note=f"spheres {told[0]} (temperature, step size); other {told[1]} (decay, step size); each the "
                    f"best of {len(config.rates) * len(config.temperatures)}; the tolerance is one epoch",
                )
            )
    return claims


def accuracy_claim(ends: Mapping[str, Sequence[Row]], other: str) -> Claim:
    """Test accuracy at the last epoch, settings and step sizes chosen on other samples: no worse on spheres."""
    pairs = [
        (ours["test accuracy"], theirs["test accuracy"])
        for ours, theirs in zip(ends[SPHERES], ends[other], strict=True)
        if ours and theirs
    ]
    gains = [ours - theirs for ours, theirs in pairs]
    average = mean(value for pair in pairs for value in pair) if pairs else 0.0
    samples = ends[SPHERES][-1].get("test samples", 1)
    chance = 2 * average * (1 - average) / samples + (variance(gains) / len(gains) if len(gains) > 1 else 0.0)
    return Claim(
        id=f"N15.net.{_KEYS[other]}.test",
        statement=f"Test accuracy on spheres is no lower: difference to {other}, last epoch",
        source=_SOURCE,
        expected=0.0,
        observed=mean(gains) if len(gains) == len(ends[SPHERES]) else None,
        relation=">=",
        tolerance=_ONE_SIDED * chance**0.5,
        note=f"{len(gains)} seeds, {samples} test samples; each arm chosen on as many others; the tolerance is the "
        "one-sided 95 % point of the difference of two equal ones",
    )


def _finished(config: Config, curve: Sequence[Row]) -> bool:
    """Whether a run was watched to its last epoch, and did not diverge."""
    return len(curve) == config.epochs + 1


def _of(cells: Sequence[Row], arm: str) -> list[Row]:
    return [cell for cell in cells if cell["arm"] == arm]


def _chosen(config: Config, arm: str, target: str, cell: Row) -> Row:
    grids = (config.rates, config.settings(arm))
    values = (cell["step size"], cell["setting"])
    rate, setting = (value in (min(grid), max(grid)) for value, grid in zip(values, grids, strict=True))
    return {
        "target": target,
        "arm": arm,
        "temperature or decay": cell["setting"],
        "step size": cell["step size"],
        "step size at an edge": rate,
        "temperature or decay at an edge": setting,
        "epochs": cell[target],
        "test accuracy": cell["test accuracy"],
    }


def _by_rate(config: Config, cells: Sequence[Row]) -> list[Row]:
    """Epochs to every target at every step size, with the best temperature or decay there."""
    rows = []
    for target in targets(config):
        for rate in config.rates:
            for arm in ARMS:
                cell = quickest([cell for cell in _of(cells, arm) if cell["step size"] == rate], target)
                rows.append(
                    {"target": target, "arm": arm, "step size": rate, "epochs": cell[target]}
                    | {"temperature or decay": cell["setting"]}
                )
    return rows


def _answer(
    config: Config, cells: Sequence[Row], best: Mapping[tuple[str, str], Row], tested: Mapping[str, Row]
) -> str:
    by_rate = {(row["target"], row["arm"], row["step size"]): row["epochs"] for row in _by_rate(config, cells)}
    told = []
    for target in targets(config):
        counts = "; ".join(f"{_shown(best[arm, target][target])} ({arm})" for arm in ARMS)
        same = [
            by_rate[target, SPHERES, rate] / max(1, theirs)
            for rate in config.rates
            for other in _KEYS
            if (theirs := by_rate[target, other, rate]) is not None and by_rate[target, SPHERES, rate] is not None
        ]
        alike = f", at one step size {min(same):.2g} to {max(same):.2g} times those of the others" if same else ""
        told.append(f"to {target}: {counts}{alike}")
    accuracies = ", ".join(f"{100 * (cell['test accuracy'] or 0.0):.2f} ({arm})" for arm, cell in tested.items())
    return (
        f"Epochs at the best setting and step size of each, {'. '.join(told)}. Test accuracy in per cent: {accuracies}."
    )


def _shown(epochs: int | None) -> str:
    return "no" if epochs is None else str(epochs)


def _panels() -> list[Panel]:
    return [
        Panel(
            kind="curves",
            title="Epochs to a target against the step size",
            caption="Median over seeds of the epoch from which on the target is kept, with the best temperature or "
            "decay at that step size. A curve ends where the target is not reached.",
            table="step sizes",
            x="step size",
            y="epochs",
            color="arm",
            facet="target",
            x_scale="log",
            y_scale="log",
        ),
        *(
            Panel(
                kind="curves",
                title=title,
                caption=f"{caption} First seed, each arm at the setting and step size that reach the target of the "
                "heading first.",
                table=table,
                x="epoch",
                y=value,
                color="arm",
                facet="tuned for",
                x_scale="log",
                y_scale=scale,
            )
            for title, table, value, scale, caption in (
                ("Variability of unit features", "curves", "NC1", "log", "NC1 of h/|h| on the training set."),
                ("Variability of features", "curves", "NC1, lengths kept", "log", "NC1 of h on the training set."),
                ("Training accuracy", "curves", "training accuracy", "linear", "In evaluation mode."),
                ("Test accuracy", "accuracies", "test accuracy", "linear", "On samples that chose nothing."),
            )
        ),
    ]


EXPERIMENT = Study(entry("normalized-training"), PRESETS, investigate)
