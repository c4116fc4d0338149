"""R2: sparse over-parameterisation on linear measurements: what descent converges to, and what it recovers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.labels.corruption import (
    Corruption,
    approach,
    follow_flow,
    nearest,
    predicted_power,
    recover,
)
from tightframe.experiments.labels.corruption_claims import answer, claims_of
from tightframe.experiments.labels.recovery import SHARE, Row, crossings, shares
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Panel, table_of

# Between these the power of the scale is measured: small enough for the law, and not yet at rounding.
_POWER_SCALES = (1e-3, 1e-5)


@dataclass(frozen=True)
class Config:
    """What is solved.

    Args:
        samples: Rows of J, everywhere.
        tall: Columns over rows where theta can be recovered.
        wide: The same of the over-parameterised J.
        corrupted: Share of corrupted rows, of both.
        weights: Of the l1 norm, of both (tall, wide).
        draws: Of both.
        scales: At which descent starts, descending.
        tiny: Scales at which only the limit of the flow is computed, descending, for wide J.
        shares: Step sizes compared at the first of `scales`, for wide J.
        neighbours: Weights among which the nearest is looked for, for wide J.
        dimensions: Columns over rows of the phase transition.
        corruptions: Shares of corrupted rows of it, evenly spaced, ascending.
        trials: Draws of each pair.
        spreads: Of the lengths of rows, in the comparison of coherence.
        coherence: (columns over rows, share of corrupted rows) of it.
        max_steps: Of every descent.
    """

    samples: int = 48
    tall: float = 0.25
    wide: float = 2.0
    corrupted: float = 0.15
    weights: tuple[float, float] = (10.0, 1.0)
    draws: int = 1
    scales: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
    tiny: tuple[float, ...] = (1e-12, 1e-25, 1e-50, 1e-100, 1e-150)
    shares: tuple[float, ...] = (0.4, 0.2, 0.1)
    neighbours: tuple[float, ...] = (0.2, 0.4, 0.8, 1.6)
    dimensions: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75)
    corruptions: tuple[float, ...] = (0.0625, 0.1875, 0.3125, 0.4375, 0.5625, 0.6875)
    trials: int = 2
    spreads: tuple[float, ...] = (0.0, 1.0, 2.0)
    coherence: tuple[float, float] = (0.25, 0.1875)
    max_steps: int = 10_000

    def __post_init__(self) -> None:
        several = min(len(self.scales), len(self.tiny), len(self.shares), len(self.corruptions)) > 1
        if not (several and max(self.tall, *self.dimensions) < 1 < self.wide):
            raise InputError(
                "tall J with fewer columns than rows, wide J with more, several scales, shares and corruptions",
                got=f"tall {self.tall:g}, wide {self.wide:g}, dimensions {self.dimensions}",
                remedy="Recovery needs rank J < rows.",
            )


_QUICK = Config(
    samples=64,
    draws=3,
    scales=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7),
    shares=(0.4, 0.2, 0.1, 0.05),
    neighbours=(0.1, 0.2, 0.4, 0.8, 1.6),
    dimensions=(0.125, 0.25, 0.375, 0.5, 0.625, 0.75),
    corruptions=tuple(k / 16 for k in range(1, 12)),
    trials=6,
    spreads=(0.0, 0.5, 1.0, 1.5, 2.0),
    max_steps=20_000,
)
_FINE = {"dimensions": tuple(k / 16 for k in range(1, 14)), "corruptions": tuple(k / 32 for k in range(1, 24))}
PRESETS = {
    "smoke": Config(),
    "quick": _QUICK,
    "paper": replace(_QUICK, **_FINE, samples=256, draws=10, trials=25, max_steps=100_000),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Descent beside the convex program over scale, step and weight; then what both recover."""
    approaches = sweep(approach, _approaches(config))
    flows = sweep(follow_flow, _flows(config))
    steps = sweep(approach, _stepped(config))
    powers = [row for row in sweep(_power, _draws(config, "tall", config.scales[0])) if row]
    near = sweep(partial(nearest, weights=config.neighbours), _neighbours(config))
    trials = sweep(recover, _phases(config))
    coherent = sweep(recover, _coherent(config))
    phase = shares(trials, ("dimension/samples", "share corrupted"))
    ends = crossings(phase)
    rows = {
        "approach": approaches,
        "flow": [row | {"log(1/scale)": -math.log(row["scale"])} for row in flows],
        "steps": steps,
        "powers": powers,
        "weights": [row for some in near for row in some],
        "trials": trials,
        "phase": phase,
        "transition": ends,
        "coherence": shares(coherent, ("spread",)),
    }
    claims = claims_of(rows)
    tables = {name: table_of(some) for name, some in rows.items()}
    return Findings(claims, answer(claims), tables, (*_limit_panels(), *_recovery_panels()))


def _draws(config: Config, shape: str, scale: float, *, stated: bool = False) -> list[Corruption]:
    dimension, weight = {"tall": (config.tall, config.weights[0]), "wide": (config.wide, config.weights[1])}[shape]
    cell = Corruption(
        config.samples,
        round(dimension * config.samples),
        round(config.corrupted * config.samples),
        weight,
        scale,
        stated=stated,
        # Under exact recovery the limit does not feel the length of steps, and its tail is long.
        step_share=0.5 if shape == "tall" else 0.1,
        max_steps=config.max_steps,
    )
    return [replace(cell, seed=seed) for seed in range(config.draws)]


def _approaches(config: Config) -> list[Corruption]:
    kinds = product(("tall", "wide"), (False, True), config.scales)
    return [cell for shape, stated, scale in kinds for cell in _draws(config, shape, scale, stated=stated)]


def _flows(config: Config) -> list[Corruption]:
    kinds = product((False, True), config.tiny)
    return [cell for stated, scale in kinds for cell in _draws(config, "wide", scale, stated=stated)]


def _stepped(config: Config) -> list[Corruption]:
    cells = product(config.shares, _draws(config, "wide", config.scales[0]))
    return [replace(cell, step_share=share) for share, cell in cells]


def _neighbours(config: Config) -> list[Corruption]:
    cells = product(config.neighbours, _draws(config, "wide", config.scales[-1]))
    return [replace(cell, weight=weight) for weight, cell in cells]


def _phases(config: Config) -> list[Corruption]:
    kinds = product(config.dimensions, config.corruptions, range(config.trials))
    return [_trial(config, dimension, share, seed) for dimension, share, seed in kinds]


def _coherent(config: Config) -> list[Corruption]:
    cells = [_trial(config, *config.coherence, seed) for seed in range(2 * config.trials + 4)]
    return [replace(cell, spread=spread) for spread, cell in product(config.spreads, cells)]


def _trial(config: Config, dimension: float, share: float, seed: int) -> Corruption:
    m, weight = config.samples, config.weights[0]
    # Long steps and a residual of 1e-3 suffice to tell recovery from failure.
    solved = {"step_share": 0.5, "tolerance": 1e-3, "max_steps": config.max_steps // 2}
    return Corruption(m, round(dimension * m), round(share * m), weight, seed=seed, **solved)


def _power(cell: Corruption) -> Row:
    """The power of the scale measured on the flow, and predicted; nothing where theta is not recovered."""
    predicted = predicted_power(cell)
    if predicted is None:
        return {}
    far, near = (follow_flow(replace(cell, scale=scale))["distance, flow"] for scale in _POWER_SCALES)
    measured = math.log(far / near) / math.log(_POWER_SCALES[0] / _POWER_SCALES[1])
    return {"seed": cell.seed, "measured power": measured, "predicted power": predicted}


def _limit_panels() -> tuple[Panel, ...]:
    return (
        Panel(
            kind="scatter",
            title="Descent approaches the convex solution only with the right ratio",
            caption="Relative distance of gradient descent (points) and of the limit of its flow (dashes) to the "
            "convex solution, over the scale of the start. The ratio of step sizes grows as log(1/scale), which holds "
            "the weight, or stays at 1/weight, as the source states. Tall J: exact recovery. Descent is above the "
            "dashes where it spent its budget of steps.",
            table="approach",
            x="scale",
            y="distance",
            color="ratio of steps",
            facet="J",
            reference="distance, flow",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="scatter",
            title="Without exact recovery the distance falls as 1 / log(1/scale)",
            caption="Limit of the flow, wide J, down to a scale of 1e-150.",
            table="flow",
            x="log(1/scale)",
            y="distance, flow",
            color="ratio of steps",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="matrix",
            title="Which weight descent acts as",
            caption="Relative distance of descent with the ratio of one weight (row) to the convex solution of another "
            "(column), first draw, wide J. The least of every row should stand on the diagonal.",
            table="weights",
            x="convex",
            y="descent",
            value="distance",
            where={"seed": 0},
        ),
    )


def _recovery_panels() -> tuple[Panel, ...]:
    return (
        Panel(
            kind="matrix",
            title="Exact recovery: a phase transition",
            caption="Share of the draws in which theta is recovered, Gaussian J.",
            table="phase",
            x="corrupted",
            y="columns/rows",
            value=SHARE,
            facet="method",
        ),
        Panel(
            kind="scatter",
            title="Where recovery ends",
            caption="Share of corrupted rows at which recovery ends (points), and the statistical dimension's "
            "prediction for many rows (dashes).",
            table="transition",
            x="dimension/samples",
            y="recovery ends at",
            color="method",
            reference="predicted",
        ),
        Panel(
            kind="curves",
            title="Coherent measurements are not recovered",
            caption="Share recovered over the mean coherence mu of the rows of J, which rises with the spread of "
            "their lengths; columns, corruption and draws are the same. Few long rows also make descent slow.",
            table="coherence",
            x="coherence",
            y=SHARE,
            color="method",
        ),
    )


EXPERIMENT = Study(entry("sparse-corruption"), PRESETS, investigate)
