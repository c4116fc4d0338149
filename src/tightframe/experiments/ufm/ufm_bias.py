"""N10: squared error without bias, with a free one, and with every coefficient between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tightframe.collapse.simplex import frame_distance
from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.comparison import compared
from tightframe.ufm.dynamics import descend
from tightframe.ufm.film import film
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import Optimum, optimum

_SPLIT = "closed form for every coefficient"
_REMARK = "TB, section 3.2, remark on the regularised bias"
_BOTH = "TB, theorems 3.1 and 3.2"
_THEOREM = {"none": "TB, theorem 3.1 and figure 2", "free": "TB, theorem 3.2 and figure 3"}
_SHOWN = {
    "NC1": "NC1",
    "NC2 features": "NC2, simplex",
    "NC2 features OF": "NC2, orthogonal frame",
    "NC3": "NC3, simplex",
    "NC3 OF": "NC3, orthogonal frame",
}
_MOST_ROWS = 150  # of one curve
_EXACT, _DECAY = 1e-8, 5e-3

Row = Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class Config:
    """What is descended, solved and shown.

    Args:
        classes: K of the descent.
        features: d of the descent.
        per_class: n of the descent.
        weight_decay: (lambda_W, lambda_H) of the descent.
        biases: Of the descent: "none", "free" or a coefficient.
        step: Learning rate.
        steps: Steps of plain gradient descent.
        every: Steps between measurements; None for steps spread over the decades.
        sweeps: (K, d, n, c) of the models whose bias coefficient is swept.
        coefficients: How many, over six decades about c/(1-c).
        thresholds: Values of c, below and above 1.
        moving: (K, steps) of the animations, in d = K - 1 dimensions.
    """

    classes: int = 4
    features: int = 20
    per_class: int = 50
    weight_decay: tuple[float, float] = (5e-3, 5e-5)
    biases: tuple[str | float, ...] = ("none", "free", 0.05)
    step: float = 0.1
    steps: int = 1_000_000
    every: int | None = None
    sweeps: tuple[tuple[int, int, int, float], ...] = ((4, 20, 50, 0.0002**0.5), (10, 10, 20, 0.2), (3, 5, 10, 0.6))
    coefficients: int = 32
    thresholds: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 1.01, 1.1, 1.5)
    moving: tuple[tuple[int, int], ...] = ((3, 20_000), (4, 20_000))


PRESETS = {
    # Twenty times the decay of the features, on which the last phase of the descent waits.
    "smoke": Config(
        weight_decay=(5e-3, 1e-3), biases=("none", "free", 0.5), steps=50_000, coefficients=12, moving=((3, 5000),)
    ),
    "quick": Config(),
    "paper": Config(steps=2_500_000, every=5000, biases=("none", "free", 0.05, 0.2, 1.0), coefficients=60),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """The descent of the source's figures, the sweep over all coefficients, the thresholds, the animations."""
    descents = sweep(descended, [(config, bias) for bias in config.biases])
    swept = sweep(solved, [item for model in config.sweeps for item in _coefficients(model, config.coefficients)])
    limits = sweep(solved, [(4, 6, 10, c, bias) for bias in (math.inf, 0.0, 0.2) for c in config.thresholds])
    films = sweep(moved, config.moving)
    answer = (
        "Without bias the frame is orthogonal, with a free one a simplex. Between, it is an exact simplex up to a "
        "coefficient of c/(1-c), and then grows along the ones: closed form and "
        f"{len(swept)} certified minima agree to {max(row['logits error'] for row in swept):.0e}."
    )
    tables = {
        "metrics": table_of([row for found in descents for row in found["metrics"]]),
        "excess": table_of([row for found in descents for row in found["excess"]]),
        "coefficients": table_of([_along(row, part) for row in swept for part in ("m", "scale")]),
        "solutions": table_of([*swept, *limits]),
        "thresholds": table_of(limits),
        **{f"features of {size} classes": table_of(rows) for (size, _), rows in zip(config.moving, films, strict=True)},
    }
    claims = [claim for found in descents for claim in found["claims"]] + _small_claims(swept, limits)
    return Findings(tuple(claims), answer, tables, (*_PANELS, *_moving(config)))


def descended(item: tuple[Config, str | float]) -> dict[str, Sequence[Any]]:
    """Plain gradient descent from a standard normal start, and its claims."""
    config, bias = item
    problem = _model(config.classes, config.features, config.per_class, config.weight_decay, bias)
    best, solution = optimum(problem), descend(problem, step=config.step, steps=config.steps, every=config.every)
    if solution.status.outcome == "diverged":
        raise InputError("a descent that stays finite", got=f"step {config.step}", remedy="Make the step smaller.")
    rows = list(solution.trace)[1:]  # a log axis has no step 0
    rows = [*rows[: -1 : -(-len(rows) // _MOST_ROWS)], rows[-1]]
    name, steps = _name(bias), [int(row["step"]) for row in rows]
    excess = [row["objective"] - best.value for row in rows]
    rate = -2 * math.log1p(-config.step * config.weight_decay[1])
    tail = [excess[-1] * math.exp(rate * (config.steps - step)) for step in steps]
    return {
        "metrics": [
            {"bias": name, "step": step, "metric": shown, "value": row.get(metric)}
            for step, row in zip(steps, rows, strict=True)
            for metric, shown in _SHOWN.items()
        ],
        "excess": [
            # The line of the slowest mode is drawn where it is most of what is seen.
            {"bias": name, "step": step, "excess": over, "slowest mode": slow if slow > over / 2 else None}
            for step, over, slow in zip(steps, excess, tail, strict=True)
        ],
        "claims": _descent_claims(config, bias, rows, best, rate),
    }


def solved(item: tuple[int, int, int, float, float]) -> Row:
    """The certified minimum of (K, d, n, c, lambda_b), beside the closed form."""
    classes, features, per_class, c, decay = item
    weight_decay = (_DECAY, (c / classes) ** 2 / (per_class * _DECAY))
    problem = _model(classes, features, per_class, weight_decay, {math.inf: "none", 0.0: "free"}.get(decay, decay))
    named = {"model": f"K = {classes}, c = {c:.3g}", "c": c, "bias": _name(problem.bias)}
    return named | {"bias decay": decay if decay < math.inf else None} | compared(problem, seed=classes)


def moved(item: tuple[int, int]) -> list[Row]:
    """Cross-entropy in d = K - 1 dimensions; decays for which features end at sqrt(2) the length of the classifier."""
    classes, steps = item
    problem = UnconstrainedFeatures(classes=classes, features=classes - 1, per_class=12, weight_decay=(1e-2, 5e-3 / 12))
    rows = film(problem, step=1.0, steps=steps, seed=classes)
    return [row | {axis: round(row[axis], 4) for axis in "xyz" if axis in row} for row in rows]


def _descent_claims(
    config: Config, bias: str | float, rows: Sequence[Mapping[str, float]], best: Optimum, rate: float
) -> list[Claim]:
    last, half = rows[-1], next(row for row in rows if row["step"] >= config.steps / 2)
    # Features orthogonal to the classifier only decay: what is left of them, and of the standard normal start's decay.
    left = math.exp(-rate * config.steps)
    begun = config.weight_decay[1] / 2 * config.features * config.classes * config.per_class
    fall = math.log(max(half["objective"] - best.value, 1e-300) / max(last["objective"] - best.value, 1e-300))
    collapse, frame = max(last[name] for name in ("NC1", "NC2 features", "NC3")), frame_distance(best.logits, "of")
    slope = fall / max(1, last["step"] - half["step"]) / rate
    stated = {
        "minimum": ("objective", best.value, last["objective"], begun * left),
        "collapse": ("largest of NC1, and NC2 and NC3 to the simplex of centred means", 0.0, collapse, left),
        "frame": ("NC2 of the means to the orthogonal frame", frame, last["NC2 features OF"], left),
        "rate": ("fall of the objective in the second half, over 2 |log(1 - step lambda_H)|", 1.0, slope, 0.01),
    }
    return [
        Claim(
            id=f"N10.{_name(bias)}.{key}",
            statement=f"Gradient descent, bias {_name(bias)}: {what}",
            source="decay of what is orthogonal to the classifier" if key == "rate" else _THEOREM.get(bias, _REMARK),
            expected=expected,
            observed=observed,
            relation="==",
            tolerance=tolerance,
            note=f"{config.steps} steps of {config.step:g}; exp(-2 step lambda_H steps) = {left:.1e} is left",
        )
        for key, (what, expected, observed, tolerance) in stated.items()
    ]


def _small_claims(swept: Sequence[Row], limits: Sequence[Row]) -> list[Claim]:
    """What is zero up to rounding at every solution of the sweep, and about c = 1."""
    simplex = [row for row in swept if row["bias decay"] <= row["c"] / (1 - row["c"])]
    zero, below = ([row for row in limits if (row["c"] >= 1) is beyond] for beyond in (True, False))
    stated = {
        "sweep.gap": ("certified gap", "gap", swept, "dual gap"),
        "sweep.minimum": ("error of the closed form's minimum", "value error", swept, _SPLIT),
        "sweep.logits": ("largest error of an entry of W Hbar", "logits error", swept, _SPLIT),
        "sweep.bias": ("largest error of an entry of b", "bias error", swept, _SPLIT),
        "sweep.range": ("part m along the ones up to lambda_b = c/(1-c)", "m", simplex, _SPLIT),
        "sweep.centred": ("NC2 of centred means to the simplex", "NC2 simplex", swept, _REMARK),
        "sweep.aligned": ("|W/|W| - Hbar^T/|Hbar||", "NC3 alignment", swept, _REMARK),
        "zero.beyond": ("W Hbar across the ones where c >= 1", "scale", zero, _BOTH),
        "zero.before": ("largest error of an entry of W Hbar where c < 1", "logits error", below, _BOTH),
    }
    return [
        Claim(
            id=f"N10.{key}",
            statement=f"Zero up to rounding: {what}",
            source=source,
            expected=0.0,
            observed=max((abs(row[column]) for row in rows), default=None),
            tolerance=_EXACT,
            note=f"largest of {len(rows)} models, c = {sorted({round(row['c'], 4) for row in rows})}",
        )
        for key, (what, column, rows, source) in stated.items()
    ]


_STEPS = {"kind": "curves", "x": "step", "x_scale": "log", "y_scale": "log"}
_PANELS = (
    Panel(
        title="Objective above its minimum",
        caption="Plain gradient descent. First the logits are fitted; then features orthogonal to the classifier, "
        "which the loss does not see, decay at the rate 2 |log(1 - step lambda_H)| of the dashed line.",
        table="excess",
        y="excess",
        color="bias",
        reference="slowest mode",
        **_STEPS | {"x_scale": "linear"},
    ),
    Panel(
        title="Collapse metrics of the descent",
        caption="Without a bias both frames are reached, for a centred orthogonal frame is a simplex. With a bias "
        "the distance to the orthogonal frame stays, at the value of the closed form.",
        table="metrics",
        y="value",
        color="metric",
        facet="bias",
        **_STEPS,
    ),
    Panel(
        kind="scatter",
        title="From simplex to orthogonal frame",
        caption="Eigenvalues of W Hbar across and along the vector of ones, found; as lines 1 - c and "
        "max(0, 1 - c (1 + 1/lambda_b)). Equal: an orthogonal frame. Zero along the ones: a simplex.",
        table="coefficients",
        x="bias decay",
        y="eigenvalue",
        color="part",
        facet="model",
        reference="predicted",
        x_scale="log",
    ),
    Panel(
        kind="scatter",
        title="Beyond c = 1 all is zero",
        caption="Eigenvalue of W Hbar across the ones against c = K sqrt(n lambda_W lambda_H); the line is 1 - c.",
        table="thresholds",
        x="c",
        y="scale",
        facet="bias",
        reference="predicted scale",
    ),
)


def _moving(config: Config) -> list[Panel]:
    return [
        Panel(
            kind="motion",
            title=f"{size} classes moving to the simplex",
            caption="Features and rows of the classifier under gradient descent on cross-entropy, from a normal start, "
            "until they are aligned, with lengths in the ratio sqrt(lambda_W/(n lambda_H)).",
            table=f"features of {size} classes",
            x="x",
            y="y",
            z="z" if size > 3 else None,
            frame="step",
            color="class",
            shape="kind",
        )
        for size, _ in config.moving
    ]


def _coefficients(model: tuple[int, int, int, float], count: int) -> list[tuple[int, int, int, float, float]]:
    """An even number, over three decades to both sides of c/(1-c), which is not among them."""
    count, edge = count + count % 2, model[3] / (1 - model[3])
    return [(*model, edge * 10 ** (6 * (i + 0.5) / count - 3)) for i in range(count)]


def _model(
    classes: int, features: int, per_class: int, decay: tuple[float, float], bias: str | float
) -> UnconstrainedFeatures:
    shape = {"classes": classes, "features": features, "per_class": per_class}
    return UnconstrainedFeatures(**shape, loss="mse", weight_decay=decay, bias=bias)


def _along(row: Row, part: str) -> Row:
    names = {"m": "along the ones", "scale": "across them"}
    found = {"part": names[part], "eigenvalue": row[part], "predicted": row[f"predicted {part}"]}
    return {"model": row["model"], "bias decay": row["bias decay"]} | found


def _name(bias: str | float) -> str:
    return bias if isinstance(bias, str) else f"{bias:.3g}"


EXPERIMENT = Study(entry("ufm-bias"), PRESETS, investigate)
