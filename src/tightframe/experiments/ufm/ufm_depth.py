"""N13, the models' part: metrics over depth of extended models, without activation and with ReLU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.chain_descent import descend_deep
from tightframe.ufm.extended import DeepUnconstrainedFeatures
from tightframe.ufm.levels import level_metrics

_NAMES = {"identity": "linear", "relu": "ReLU"}
_DISCUSSION = "TB, section 4.1, discussion, and appendix D"
_FIGURES = "TB, section 6, comparison of the two extended models"
_METRICS = ("NC1", "NC2 OF")
_MOST_ROWS = 100  # of one curve
_FITTED = 0.1  # share of the start's objective at which the data are fitted, for the most part

Row = Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class Config:
    """What is descended.

    Args:
        classes: K.
        width: Features of every level.
        per_class: n.
        decay: Of the classifier; half of it for the other weights.
        feature_decay: lambda_H.
        levels: Numbers of levels of features.
        scale: Standard deviation of the starts of two levels; deeper ones start at the scale of equal logits.
        step: Learning rate.
        steps: Steps of plain gradient descent.
        seeds: Starts of every model.
    """

    classes: int = 4
    width: int = 20
    per_class: int = 50
    decay: float = 5e-3
    feature_decay: float = 1e-5
    levels: tuple[int, ...] = (2, 3, 4, 5)
    scale: float = 0.1
    step: float = 0.1
    steps: int = 30_000
    seeds: int = 3


PRESETS = {
    "smoke": Config(levels=(2,), step=0.5, steps=8000, seeds=3),
    "quick": Config(),
    "paper": Config(steps=1_000_000, seeds=10),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Plain gradient descent of every model from every start."""
    items = [(config, kind, m, seed) for kind in _NAMES for m in config.levels for seed in range(config.seeds)]
    found = sweep(descended, items)
    runs = [row["run"] for row in found]
    first = [row for row in found if row["run"]["seed"] == 0]
    tables = {
        "metrics": table_of([row for run in first for row in run["metrics"]]),
        "profiles": table_of([row for run in first for row in run["profile"]]),
        "ratios": table_of([row for run in first for row in run["ratios"]]),
        "runs": table_of(runs),
    }
    return Findings(tuple(_claims(runs)), _answer(runs), tables, tuple(_panels()))


def descended(item: tuple[Config, str, int, int]) -> dict[str, Row | Sequence[Row]]:
    """One descent: metrics of every level along it, and how they compare between the levels."""
    config, kind, levels, seed = item
    problem = DeepUnconstrainedFeatures(
        classes=config.classes,
        widths=(config.width,) * levels,
        per_class=config.per_class,
        decays=(config.decay, *[config.decay / 2] * (levels - 1), config.feature_decay),
        activation=kind,
    )
    # Every inner sum over a width w multiplies a logit by sqrt(w): all depths start with logits of one size.
    scale = (config.scale**3 * config.width ** (1 - levels / 2)) ** (1 / (levels + 1))
    solution = descend_deep(
        problem,
        step=config.step,
        steps=config.steps,
        start=problem.start(seed=seed, scale=scale),
        observe=lambda step, point: level_metrics(problem, point),
    )
    if solution.status.outcome == "diverged":
        raise InputError("a descent that stays finite", got=f"step {config.step}", remedy="Make the step smaller.")
    rows = list(solution.trace)
    fitted = [row for row in rows if row["objective"] <= _FITTED * rows[0]["objective"]]
    model, names = f"{_NAMES[kind]}, {levels} levels", [f"H{m}" for m in range(1, levels + 1)]
    profile = [
        {"model": model, "activation": _NAMES[kind], "levels": f"{levels} levels", "level": level, "metric": metric}
        | {"value": rows[-1].get(f"{metric} of {level}")}
        for metric in _METRICS
        for level in names
    ]
    return {
        "run": _compared(rows, fitted, names) | {"model": model, "kind": kind, "levels": levels, "seed": seed},
        "profile": profile,
        "metrics": [
            {"model": model, "step": int(row["step"]), "level": level, "metric": metric}
            | {"value": row.get(f"{metric} of {level}")}
            for row in rows[1 :: -(-len(rows) // _MOST_ROWS)]  # a log axis has no step 0
            for metric in _METRICS
            for level in names
        ],
        "ratios": [
            {"activation": _NAMES[kind], "levels": f"{levels} levels", "step": int(row["step"]), "one": 1.0}
            | {"ratio": _ratio(row, names, "NC1")}
            for row in rows[1 :: -(-len(rows) // _MOST_ROWS)]
        ],
    }


def _compared(rows: Sequence[Row], fitted: Sequence[Row], names: Sequence[str]) -> Row:
    """The deepest level against the free one, once the data are fitted, and how often depth orders the levels."""
    values = {metric: [_ratio(row, names, metric) for row in fitted] for metric in _METRICS}
    ordered = [
        all(row[f"NC1 of {deep}"] <= row[f"NC1 of {shallow}"] for shallow, deep in pairwise(names)) for row in fitted
    ]
    last, first = rows[-1], rows[0]
    return {
        "objective": last["objective"],
        "looks": len(fitted),
        "NC1 ratio": median(values["NC1"]) if fitted else None,
        "NC2 ratio": median(values["NC2 OF"]) if fitted else None,
        "ordered": sum(ordered) / len(ordered) if fitted else None,
        "NC2 shallow fall": last["NC2 OF of H1"] / first["NC2 OF of H1"],
        "NC2 deep fall": last[f"NC2 OF of {names[-1]}"] / first[f"NC2 OF of {names[-1]}"],
        "NC1 slope ratio": _slopes(fitted, names),
    }


def _ratio(row: Row, names: Sequence[str], metric: str) -> float | None:
    deep, shallow = row.get(f"{metric} of {names[-1]}"), row.get(f"{metric} of H1")
    return deep / shallow if deep is not None and shallow else None


def _slopes(fitted: Sequence[Row], names: Sequence[str]) -> float | None:
    """Decades that NC1 of the free level falls, over those of the deepest."""
    if len(fitted) < 2:
        return None
    first, last = fitted[0], fitted[-1]
    shallow, deep = (math.log(last[f"NC1 of {name}"] / first[f"NC1 of {name}"]) for name in (names[0], names[-1]))
    return shallow / deep


def _claims(runs: Sequence[Row]) -> list[Claim]:
    return [claim for model in dict.fromkeys(row["model"] for row in runs) for claim in _model_claims(runs, model)]


def _model_claims(runs: Sequence[Row], model: str) -> list[Claim]:
    rows = [row for row in runs if row["model"] == model]
    linear = rows[0]["kind"] == "identity"
    pick = {
        "variability": ("NC1 of the deepest level over that of the free one, median of the looks", "NC1 ratio"),
        "slope": ("decades that NC1 of the free level falls, over those of the deepest", "NC1 slope ratio"),
        "structure": ("NC2 to an orthogonal frame of the free level, at the end over the start", "NC2 shallow fall"),
        "deepest": ("NC2 to an orthogonal frame of the deepest level, at the end over the start", "NC2 deep fall"),
        "ordered": ("share of looks at which NC1 falls from every level to the next", "ordered"),
    }
    # The source says "similar values/slopes" of the linear levels: a tenth and 0.7 are the least that is read as that.
    stated = {
        "variability": (0.1, ">=", _DISCUSSION) if linear else (0.5, "<=", _FIGURES),
        "slope": (0.7, ">=", _DISCUSSION) if linear else (0.7, "<=", _FIGURES),
        "structure": (0.2, "<=", _DISCUSSION) if linear else (0.5, ">=", _FIGURES),
        "deepest": (0.2, "<=", _FIGURES),
        "ordered": (0.9, ">=", "TB, section 4.1, discussion, of trained networks"),
    }
    if linear:
        del stated["ordered"]
    return [
        Claim(
            id=f"N13.{rows[0]['kind']}.{rows[0]['levels']}.{key}",
            statement=f"{model}: {pick[key][0]}",
            source=source,
            expected=expected,
            observed=_middle([row[pick[key][1]] for row in rows]),
            relation=relation,
            note=f"median of {len(rows)} starts; looks from where the objective is a tenth of the start's",
        )
        for key, (expected, relation, source) in stated.items()
    ]


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _answer(runs: Sequence[Row]) -> str:
    said = []
    for kind, name in _NAMES.items():
        rows = [row for row in runs if row["kind"] == kind]
        ratios = [row["NC1 ratio"] for row in rows if row["NC1 ratio"] is not None]
        falls = [row["NC2 shallow fall"] for row in rows]
        if ratios:
            said.append(
                f"{name}: NC1 of the deepest level is {min(ratios):.1e} to {max(ratios):.1e} times that of the free "
                f"one, whose distance from an orthogonal frame ends at {median(falls):.2f} of the start's"
            )
    return "; ".join(said or ["No model fitted its data"]) + "."


def _panels() -> list[Panel]:
    descent = {"kind": "curves", "x": "step", "x_scale": "log", "y_scale": "log"}
    return [
        Panel(
            title="Variability level by level",
            caption="NC1 of every level under gradient descent; H1 is the free one, the last is the classifier's.",
            table="metrics",
            y="value",
            color="level",
            facet="model",
            where={"metric": "NC1"},
            **descent,
        ),
        Panel(
            title="Distance of the means from an orthogonal frame, level by level",
            caption="Without activation all levels become orthogonal, one after the other; with ReLU the free one does "
            "not.",
            table="metrics",
            y="value",
            color="level",
            facet="model",
            where={"metric": "NC2 OF"},
            **descent,
        ),
        Panel(
            title="Variability of the deepest level over that of the free one",
            caption="One where the levels are alike. From their start on, models of both kinds fall below it.",
            table="ratios",
            y="ratio",
            color="activation",
            facet="levels",
            reference="one",
            **descent,
        ),
        *(
            Panel(
                kind="layers",
                title=f"{metric} over depth at the end",
                caption="From the free features H1 to those that the classifier reads.",
                table="profiles",
                x="level",
                y="value",
                color="activation",
                facet="levels",
                y_scale="log",
                where={"metric": metric},
            )
            for metric in _METRICS
        ),
    ]


EXPERIMENT = Study(entry("ufm-depth"), PRESETS, investigate)
