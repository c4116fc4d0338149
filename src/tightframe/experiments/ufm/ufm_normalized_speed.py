"""N15 on unconstrained features: steps of gradient descent to collapse, on spheres and with weight decay."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.dynamics import descend
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normalized import NormalizedFeatures
from tightframe.ufm.normalized_dynamics import descend_normalized
from tightframe.ufm.normalized_optima import normalized_optimum
from tightframe.ufm.optima import optimum

_SOURCE = "YN, abstract: better representations are learned faster by normalised features"
_SPHERES, _MATCHED, _NORMAL = "spheres", "decay, norms of the optimum", "decay, normal start"
_ARMS = (_SPHERES, _MATCHED, _NORMAL)
_SHOWN = {"NC1": "NC1", "NC2 features": "NC2", "NC3": "NC3", "excess": "excess"}
_ALL = "all four"
# Looks are 25 to a decade: a count of steps is known up to this factor.
_RESOLUTION = 10 ** (1 / 25)

Row = Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class Config:
    """What is descended, at which learning rates, and what counts as collapsed.

    Args:
        classes: K.
        features: d.
        per_class: n.
        decays: Values of lambda_W; lambda_H is lambda_W/n, so that W and H have equal norms at the optimum. The
            temperature of the spheres is the one with the same logits there.
        rates: Learning rates on the spheres. With decay they are multiplied by the temperature tau, for a step on
            vectors of norm sqrt(tau) turns them by 1/tau of what it does on unit vectors.
        steps: Steps of every descent.
        seeds: Starts.
        targets: NC1, NC2 and NC3, and the excess of the objective over that of the start, to be reached for good.
    """

    classes: int = 4
    features: int = 8
    per_class: int = 10
    decays: tuple[float, ...] = (2e-2, 5e-3, 1e-3)
    rates: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
    steps: int = 2000
    seeds: int = 3
    targets: tuple[float, float, float, float] = (1e-4, 1e-2, 1e-2, 1e-4)


PRESETS = {
    "smoke": Config(decays=(2e-2, 5e-3), rates=(2.0, 4.0, 8.0, 12.0), steps=600, seeds=1),
    "quick": Config(),
    "paper": Config(
        classes=10,
        features=16,
        per_class=20,
        decays=(1e-2, 3e-3, 1e-3, 3e-4),
        rates=(0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0),
        steps=20_000,
        seeds=10,
    ),
}


@dataclass(frozen=True)
class Pair:
    """The model with decay and the one on spheres whose optima have the same logits."""

    decayed: UnconstrainedFeatures
    spheres: NormalizedFeatures

    def starts(self, seed: int) -> dict[str, Point]:
        """By arm: unit vectors, the same ones with the norms of the optimum, and normal entries."""
        unit, length = self.spheres.start(seed=seed), self.spheres.temperature**0.5
        return {
            _SPHERES: unit,
            _MATCHED: Point(length * unit.W, length * unit.H, unit.b),
            _NORMAL: self.decayed.start(seed=seed),
        }


def pair(config: Config, decay: float) -> Pair:
    """Both models for one lambda_W.

    Raises:
        InputError: The decay is so strong that the optimum is zero.
    """
    shape = {"classes": config.classes, "features": config.features, "per_class": config.per_class}
    decayed = UnconstrainedFeatures(**shape, weight_decay=(decay, decay / config.per_class), bias="none")
    scale = optimum(decayed).scale
    if not scale:
        raise InputError("a decay with an optimum that is not zero", got=f"{decay:g}", remedy="Use 5e-3.")
    temperature = scale * (config.classes - 1) / config.classes
    return Pair(decayed, NormalizedFeatures(**shape, temperature=temperature))


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Steps to collapse by arm, decay and learning rate, and their ratio at the best rate of each."""
    items = [(config, decay, arm, rate) for decay in config.decays for arm in _ARMS for rate in config.rates]
    rows = sweep(measured, items)
    best = {
        (decay, arm): fastest([row for row in rows if (row["decay"], row["arm"]) == (decay, arm)])
        for decay in config.decays
        for arm in _ARMS
    }
    curves = sweep(drawn, [(config, decay, arm, row["rate"]) for (decay, arm), row in best.items()])
    tables = {
        "rates": table_of(rows),
        "best": table_of(list(best.values())),
        "descents": table_of([row for curve in curves for row in curve]),
    }
    return Findings(tuple(judged(config, best)), _answer(config, rows, best), tables, tuple(_panels()))


def measured(item: tuple[Config, float, str, float]) -> Row:
    """Median steps to each target over the seeds, of one arm at one learning rate; None where most never get there."""
    config, decay, arm, rate = item
    both = pair(config, decay)
    traces = [trace(both, arm, rate, config.steps, seed) for seed in range(config.seeds)]
    found = [reached(one, config.targets) for one in traces]
    temperature = both.spheres.temperature
    return {
        "model": _model(both),
        "temperature": temperature,
        "decay": decay,
        "arm": arm,
        "rate": rate,
        "learning rate": rate if arm == _SPHERES else rate * temperature,
        **{f"steps to {name}": middle([steps[name] for steps in found]) for name in (*_SHOWN.values(), _ALL)},
    }


def drawn(item: tuple[Config, float, str, float]) -> list[Row]:
    """The first seed of one arm at one learning rate, step by step."""
    config, decay, arm, rate = item
    both = pair(config, decay)
    return [
        {"model": _model(both), "arm": arm, "step": int(row["step"]), "metric": shown, "value": row.get(name)}
        for row in trace(both, arm, rate, config.steps, 0)
        if row["step"] > 0  # a log axis has no step 0
        for name, shown in _SHOWN.items()
        if row.get(name, 0) > 0  # nor a value 0
    ]


def trace(both: Pair, arm: str, rate: float, steps: int, seed: int) -> list[Row]:
    """Metrics of one descent, with the excess of the objective relative to that of the start."""
    start = both.starts(seed)[arm]
    if arm == _SPHERES:
        found = descend_normalized(both.spheres, step=rate, steps=steps, start=start)
        least = normalized_optimum(both.spheres).value
    else:
        found = descend(both.decayed, step=rate * both.spheres.temperature, steps=steps, start=start)
        least = optimum(both.decayed).value
    whole = found.trace["objective"][0] - least
    rows = [{**row, "excess": (row["objective"] - least) / whole} for row in found.trace]
    # After a descent that left the numbers nothing is within a target.
    return rows if found.status.outcome != "diverged" else [*rows, {"step": int(rows[-1]["step"]) + 1}]


def reached(rows: Sequence[Row], targets: Sequence[float]) -> dict[str, int | None]:
    """The look from which on every metric stays within its target; None where it is not within it at the end."""
    found = {
        shown: _from(rows, lambda row, name=name, target=target: row.get(name, math.inf) <= target)
        for (name, shown), target in zip(_SHOWN.items(), targets, strict=True)
    }
    return found | {_ALL: None if None in found.values() else max(found.values())}


def middle(steps: Sequence[int | None]) -> int | None:
    """The median, where what is never reached counts as later than everything."""
    median = statistics.median_high([math.inf if count is None else count for count in steps])
    return None if median == math.inf else int(median)


def fastest(rows: Sequence[Row]) -> Row:
    """The learning rate at which all targets are met first; the first one where none of them gets there."""
    return min(rows, key=lambda row: math.inf if (count := row[f"steps to {_ALL}"]) is None else count)


def judged(config: Config, best: Mapping[tuple[float, str], Row]) -> list[Claim]:
    """Steps on spheres over steps with decay, both at their best learning rate, at most 1."""
    stated = {}
    for other, name in ((_MATCHED, "matched"), (_NORMAL, "normal")):
        for decay in config.decays:
            ratio = _ratio(best[decay, _SPHERES], best[decay, other], _ALL)
            stated[f"{name}.{decay:g}"] = (f"{_ALL} targets, lambda_W = {decay:g}", other, ratio)
    for metric in _SHOWN.values():
        ratios = [_ratio(best[decay, _SPHERES], best[decay, _MATCHED], metric) for decay in config.decays]
        known = [ratio for ratio in ratios if ratio is not None]
        stated[f"metric.{metric}"] = (f"{metric}, largest of {len(known)} decays", _MATCHED, max(known, default=None))
    return [
        Claim(
            id=f"N15.ufm.{key}",
            statement=f"Spheres need no more steps than decay: ratio of steps to {what}, against {other}",
            source=_SOURCE,
            expected=1.0,
            observed=ratio,
            tolerance=_RESOLUTION - 1,
            note="neither gets there"
            if ratio is None
            else "each at its best rate of one grid, median over seeds; "
            "0 where only the spheres get there; the tolerance is the spacing of the looks",
        )
        for key, (what, other, ratio) in stated.items()
    ]


def _from(rows: Sequence[Row], within: Callable[[Row], bool]) -> int | None:
    """Step of the first row from which on all are within."""
    since = None
    for row in reversed(rows):
        if not within(row):
            break
        since = int(row["step"])
    return since


def _ratio(spheres: Row, other: Row, metric: str) -> float | None:
    ours, theirs = (row[f"steps to {metric}"] for row in (spheres, other))
    if ours is None:
        return None if theirs is None else math.inf
    return 0.0 if theirs is None else ours / max(1, theirs)


def _answer(config: Config, rows: Sequence[Row], best: Mapping[tuple[float, str], Row]) -> str:
    pairs = [(best[decay, _SPHERES], best[decay, other]) for decay in config.decays for other in (_MATCHED, _NORMAL)]
    ratios = [ratio for ours, theirs in pairs if (ratio := _ratio(ours, theirs, _ALL)) is not None]
    counts = {(row["decay"], row["arm"], row["rate"]): row[f"steps to {_ALL}"] for row in rows}
    turns = [
        ours / theirs
        for (decay, arm, rate), ours in counts.items()
        if arm == _SPHERES and ours is not None and (theirs := counts[decay, _MATCHED, rate])
    ]
    told = f"{min(ratios):.2g} to {max(ratios):.2g}" if ratios else "an unknown number of"
    same = f", and where a step turns vectors equally far, {min(turns):.2g} to {max(turns):.2g}" if turns else ""
    return f"At the best learning rate of each, spheres need {told} times the steps of weight decay{same}."


def _model(both: Pair) -> str:
    return f"lambda_W = {both.decayed.weight_decay[0]:g}, tau = {both.spheres.temperature:.2f}"


def _panels() -> list[Panel]:
    return [
        Panel(
            kind="curves",
            title="Steps to collapse against the learning rate",
            caption="Median over the starts of the steps until NC1, NC2, NC3 and the objective stay within their "
            "targets. Learning rates with decay are multiplied by tau, so that at the same place of the axis a "
            "step turns the vectors equally far. A curve ends where the descent no longer settles.",
            table="rates",
            x="rate",
            y=f"steps to {_ALL}",
            color="arm",
            facet="model",
            x_scale="log",
            y_scale="log",
        ),
        *(
            Panel(
                kind="curves",
                title=f"{title} at the best learning rate of each",
                caption=f"{metric} of the first start against steps of gradient descent.",
                table="descents",
                x="step",
                y="value",
                color="arm",
                facet="model",
                x_scale="log",
                y_scale="log",
                where={"metric": metric},
            )
            for metric, title in (("NC1", "Variability"), ("NC2", "Distance from the simplex"))
        ),
        Panel(
            kind="scatter",
            title="Steps to collapse against the temperature",
            caption="Each at its best learning rate. The temperature is the logit of the true class at the optimum, "
            "which a smaller decay makes larger.",
            table="best",
            x="temperature",
            y=f"steps to {_ALL}",
            color="arm",
            y_scale="log",
        ),
    ]


EXPERIMENT = Study(entry("ufm-normalized-speed"), PRESETS, investigate)
