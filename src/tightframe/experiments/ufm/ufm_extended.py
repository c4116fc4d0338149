"""N11: a second layer of weights, linear (theorem 4.1) and with ReLU (theorem 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.experiments.ufm.chains import THRESHOLDS, threshold_claims, thresholded
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.chain_certificate import nuclear_norms
from tightframe.ufm.chain_descent import descend_deep
from tightframe.ufm.chain_solvers import solve_deep
from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepUnconstrainedFeatures
from tightframe.ufm.levels import level_metrics

_NAMES = {"identity": "linear", "relu": "ReLU"}
_THEOREM = {"identity": "TB, theorem 4.1", "relu": "TB, theorem 4.2"}
_FIGURE = "TB, figures of section 6 for theorems 4.1 and 4.2"
_CURVES = {
    "NC1": (
        "Variability of both levels",
        "NC1 of the deeper features H2, the free features H1 and, with ReLU, the features before it.",
    ),
    "NC2 OF": (
        "Distance of the means from an orthogonal frame",
        "Without activation both levels become orthogonal; with ReLU only the deeper one does.",
    ),
    "NC2 ETF": (
        "Distance of the centred means from a simplex",
        "An orthogonal frame less its mean is a simplex.",
    ),
    "NC3 OF": (
        "Alignment of the weights with the features",
        "Distance of W2 H2, and of (W2 W1) H1 without activation, from a multiple of the identity.",
    ),
}
_MOST_ROWS = 150  # of one curve
_EXACT = 1e-9

Row = Mapping[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Config:
    """What is descended and solved.

    Args:
        classes: K.
        width: Features of both levels.
        per_class: n.
        decays: (lambda_2, lambda_1, lambda_H).
        step: Learning rate of plain gradient descent.
        steps: Its steps.
        every: Steps between measurements; None for steps spread over the decades.
        scales: (activation, standard deviations of W2, W1 and H1 at its start).
        seeds: Random starts of the solver per model, a column per sample.
        thresholds: Ratios to the threshold of triviality at which linear chains are solved.
        factors: Numbers of factors of those chains.
        starts: Random starts of each of them.
    """

    classes: int = 4
    width: int = 20
    per_class: int = 50
    decays: tuple[float, float, float] = (5e-3, 2.5e-3, 1e-5)
    step: float = 0.1
    steps: int = 150_000
    every: int | None = None
    scales: tuple[tuple[str, tuple[float, float, float]], ...] = (
        ("identity", (0.1, 0.1, 0.1)),
        ("relu", (0.1, 0.1, 0.1)),
        ("relu", (0.1, 0.1, 0.2)),
    )
    seeds: int = 10
    thresholds: tuple[float, ...] = (0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 1.03, 1.2)
    factors: tuple[int, ...] = (2, 3, 4, 5)
    starts: int = 5


PRESETS = {
    "smoke": Config(step=0.5, steps=6000, seeds=2, thresholds=(0.2, 0.8, 0.97, 1.03), factors=(2, 3, 4), starts=2),
    "quick": Config(),
    "paper": Config(steps=3_000_000, every=5000, seeds=100, starts=50),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """The descents of the source's figures, minima from random starts, chains about their threshold."""
    descents = sweep(descended, [(config, *start) for start in config.scales])
    solved = sweep(minimum, [(config, kind, seed) for kind in _NAMES for seed in range(config.seeds)])
    chains = sweep(
        thresholded, [(factors, ratio, config.starts) for factors in config.factors for ratio in config.thresholds]
    )
    claims = [
        *(claim for found in descents for claim in _descent_claims(found)),
        *(claim for kind in _NAMES for claim in _minimum_claims(config, kind, solved)),
        *threshold_claims([row for found in chains for row in found]),
    ]
    tables = {
        "metrics": table_of([row for found in descents for row in found["metrics"]]),
        "excess": table_of([row for found in descents for row in found["excess"]]),
        "minima": table_of(solved),
        "chains": table_of([row for found in chains for row in found]),
    }
    return Findings(tuple(claims), _answer(solved), tables, tuple(_panels()))


def descended(item: tuple[Config, str, tuple[float, float, float]]) -> dict[str, Sequence[Row]]:
    """Plain gradient descent on the features of every sample, with the metrics of both levels."""
    config, kind, scales = item
    problem = _model(config, kind)
    name = _NAMES[kind] if len(set(scales)) == 1 else f"{_NAMES[kind]}, larger H1"
    solution = descend_deep(
        problem,
        step=config.step,
        steps=config.steps,
        start=problem.start(seed=0, scale=scales),
        every=config.every,
        observe=lambda step, point: level_metrics(problem, point),
    )
    rows = list(solution.trace)
    least = deep_optimum(problem).value
    thinned = [*rows[1 : -1 : -(-len(rows) // _MOST_ROWS)], rows[-1]]  # a log axis has no step 0
    return {
        "ends": [{"model": name, "kind": kind, **rows[0]}, {"model": name, "kind": kind, **rows[-1]}],
        "metrics": [
            {"model": name, "step": int(row["step"]), "metric": metric, "level": level, "value": row.get(key)}
            for row in thinned
            for key in solution.trace.names
            if " of " in key
            for metric, level in [key.split(" of ")]
        ],
        "excess": [
            {"model": name, "step": int(row["step"]), "objective": row["objective"], "closed form": least}
            for row in thinned
        ],
    }


def minimum(item: tuple[Config, str, int]) -> Row:
    """L-BFGS from a random start with a column per sample, so that collapse is found and not assumed."""
    config, kind, seed = item
    problem = _model(config, kind)
    solution = solve_deep(problem, seed=seed, collapse=False)
    point, least = problem.point_of(solution), deep_optimum(problem).value
    found = {"model": _NAMES[kind], "seed": seed, "objective": solution.objective}
    found |= {"excess": solution.objective - least, "status": solution.status.outcome}
    return found | level_metrics(problem, point) | nuclear_norms(problem, point)


def _descent_claims(found: Mapping[str, Sequence[Row]]) -> list[Claim]:
    first, last = found["ends"]
    falls = {"NC1 of H2": 1e-2, "NC1 of H1": 1e-2, "NC2 OF of H2": 0.1, "NC2 OF of H1": 0.1}
    stays = set() if first["kind"] == "identity" else {"NC2 OF of H1"}
    return [
        Claim(
            id=f"N11.{first['model']}.descent.{metric.replace(' of ', '.')}",
            statement=f"Gradient descent, {first['model']}: {metric} at the end over the start, which "
            + ("stays" if metric in stays else "falls"),
            source=_FIGURE,
            expected=0.5 if metric in stays else factor,
            observed=last[metric] / first[metric],
            relation=">=" if metric in stays else "<=",
            note=f"after {last['step']} steps the objective is {last['objective']:.6g}",
        )
        for metric, factor in falls.items()
    ]


def _minimum_claims(config: Config, kind: str, solved: Sequence[Row]) -> list[Claim]:
    name, source = _NAMES[kind], _THEOREM[kind]
    rows = [row for row in solved if row["model"] == name]
    best = min(row["objective"] for row in rows)
    reached = [row for row in rows if row["excess"] <= _EXACT]
    deeper = ["NC1 of H2", "NC2 OF of H2", "NC3 OF of H2"]
    wanted = [*deeper, "NC1 of H1", "NC2 OF of H1", "NC3 OF of H1"] if kind == "identity" else deeper
    note = f"{len(reached)} of {len(rows)} random starts reach the minimum to 1e-9"
    norms = [abs(row["nuclear norm after"] / row["nuclear norm before"] - 1) for row in reached]
    # A metric is the square root of an excess, relative to the curvature: 1e-9 of the objective is 1e-3 of a metric.
    stated = {
        "minimum": ("lowest objective found", deep_optimum(_model(config, kind)).value, best, "==", _EXACT, source),
        "collapse": (
            f"largest of {', '.join(wanted)} at the minima",
            0.0,
            max((row[metric] for row in reached for metric in wanted), default=None),
            "==",
            1e-3,
            source,
        ),
    }
    if kind == "relu":
        shallow = min((row["NC2 OF of H1"] for row in reached), default=None)
        condition = f"{source}, its nuclear norm condition"
        stated["condition"] = (
            "|H2|_* over |W1 H1|_* at the minima, less 1",
            0.0,
            max(norms, default=None),
            "==",
            1e-3,
            condition,
        )
        stated["shallow"] = ("least NC2 to an orthogonal frame of H1 at the minima", 0.05, shallow, ">=", 0.0, source)
    return [
        Claim(
            id=f"N11.{name}.{key}",
            statement=f"Extended model, {name}: {what}",
            source=where,
            expected=expected,
            observed=observed,
            relation=relation,
            tolerance=tolerance,
            note=note,
        )
        for key, (what, expected, observed, relation, tolerance, where) in stated.items()
    ]


def _answer(solved: Sequence[Row]) -> str:
    shallow = [row["NC2 OF of H1"] for row in solved if row["model"] == "ReLU"]
    return (
        "Without activation both levels of features end on orthogonal frames. With ReLU the minimum is the same and "
        f"the deeper level is one, the shallower is not (NC2 from {min(shallow):.2f} to {max(shallow):.2f})."
    )


def _panels() -> list[Panel]:
    steps = {"kind": "curves", "x": "step", "x_scale": "log", "y_scale": "log"}
    levels = steps | {"table": "metrics", "y": "value", "color": "level", "facet": "model"}
    return [
        Panel(
            title="Objective of plain gradient descent",
            caption="Both models have the same minimum, the dashed line. What is left above it is features that the "
            "loss does not see, which their small decay removes last.",
            table="excess",
            y="objective",
            color="model",
            reference="closed form",
            **steps,
        ),
        *(
            Panel(title=title, caption=caption, where={"metric": metric}, **levels)
            for metric, (title, caption) in _CURVES.items()
        ),
        THRESHOLDS,
    ]


def _model(config: Config, kind: str) -> DeepUnconstrainedFeatures:
    return DeepUnconstrainedFeatures(
        classes=config.classes,
        widths=(config.width, config.width),
        per_class=config.per_class,
        decays=config.decays,
        activation=kind,
    )


EXPERIMENT = Study(entry("ufm-extended"), PRESETS, investigate)
