"""D7: what momentum, homotopy, reweighting and lifting are worth, for all-pass and low-pass kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from tightframe.core.errors import InputError
from tightframe.data.sparse import Values
from tightframe.experiments.catalog import entry
from tightframe.experiments.dictionary.variant_effects import CAVEATS, CLASSES, effects_of, ratios_of, value_of
from tightframe.experiments.dictionary.variant_runs import ALL_PASS, LOW_PASS, SUCCESS, Cell, Row, compare, recover
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, Relation, table_of

_SOURCE = "Q21, bilinear Lasso: momentum, homotopy, reweighting"
_BEYOND = "beyond the sources: which caveat is for which kernels"
# A ratio from which on a caveat matters.
_MATTERS = 1.1
# Without lifting the error of an all-pass kernel is larger by this factor or more.
_LIFTED = 10.0


@dataclass(frozen=True)
class Config:
    """Which signals are made and how long they are worked on.

    Args:
        length: n, of kernels; activations have the density n^(-3/4).
        size: m, of signals.
        seeds: Signals of each kind.
        counts: Numbers of kernels where several random ones are sought at once.
        values: Distribution of activations.
        noise: Standard deviation.
        alpha: lambda.
        precision: The objective counts as reached within this share of the least one found.
        tolerance: Relative change of an iteration at which a solve ends.
        budget: Iterations at most.
    """

    length: int = 40
    size: int = 2000
    seeds: int = 2
    counts: tuple[int, ...] = (3,)
    values: Values = "rademacher"
    noise: float = 0.01
    alpha: float = 0.05
    precision: float = 1e-3
    tolerance: float = 1e-4
    budget: int = 600

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.budget < 1 or not self.counts or min(self.counts) < 1:
            raise InputError("a seed, a budget and numbers of kernels", got=repr(self), remedy="Raise them.")


_QUICK = Config(length=50, size=5000, seeds=4, counts=(2, 3, 5), budget=1500)
PRESETS = {
    "smoke": Config(),
    "quick": _QUICK,
    "paper": replace(_QUICK, length=100, size=10_000, seeds=10, alpha=1e-2, tolerance=1e-6, budget=4000),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every variant on signals of one kernel; several kernels at once, sparse and dense."""
    found = sweep(compare, _cells(config))
    runs = [row for part in found for row in part["runs"]]
    several = sweep(recover, _several(config))
    effects = effects_of(runs, config.budget)
    tables = {
        "runs": table_of(runs),
        "effects": table_of(effects),
        "convergence": table_of([row for part in found for row in part["convergence"]]),
        "several kernels": table_of(several),
    }
    claims = (*_caveat_claims(effects, config), *_lift_claims(effects), *_found_claims(runs, several))
    return Findings(claims=claims, answer=_answer(effects, claims), tables=tables, panels=_panels(config))


def _cells(config: Config) -> list[Cell]:
    kernels = (*ALL_PASS, *LOW_PASS)
    return [_cell(config, name, 1, config.length**-0.75, seed) for name, seed in product(kernels, range(config.seeds))]


def _several(config: Config) -> list[Cell]:
    """Each kernel as rare as makes them together as dense as one, or each as dense as one alone."""
    density = config.length**-0.75
    pairs = [(count, share) for count in config.counts for share in (density / count, density)]
    return [
        _cell(config, ALL_PASS[0], count, share, seed) for (count, share), seed in product(pairs, range(config.seeds))
    ]


def _cell(config: Config, name: str, count: int, density: float, seed: int) -> Cell:
    return Cell(
        name,
        count,
        config.length,
        config.size,
        density,
        values=config.values,
        noise=config.noise,
        alpha=config.alpha,
        precision=config.precision,
        tolerance=config.tolerance,
        budget=config.budget,
        seed=seed,
        drawn=seed == 0,
    )


def _caveat_claims(effects: Sequence[Row], config: Config) -> list[Claim]:
    claims = []
    for caveat, (without, with_it, purpose) in CAVEATS.items():
        if caveat == "lift":
            continue
        low, high = ratios_of(effects, caveat)
        what = "iterations" if purpose == "speed" else "error"
        note = f"{without} over {with_it}, geometric means: low-pass {_told(low)}, all-pass {_told(high)}"
        if purpose == "speed":
            stuck = value_of(effects, caveat, "low-pass", "with, never there")
            note += f"; {config.budget} where the target is not reached, as in {stuck:g} low-pass runs with it"
        name, most = f"D7.{caveat.replace(' and ', '-')}", None if low is None or high is None else low / high
        claims += [
            _claim(name, f"It matters for low-pass kernels, {what}: {caveat}", (low, ">=", _MATTERS), note),
            _claim(f"{name}.most", f"It matters most for low-pass kernels, {what}: {caveat}", (most, ">=", 1.0), note),
        ]
    seconds = value_of(effects, "momentum", "low-pass", "ratio of seconds")
    claims.append(
        _claim(
            "D7.momentum.seconds",
            "Momentum saves time on low-pass kernels, where both reach the target: ratio",
            (seconds, ">=", 1.0),
            "wall clock" if seconds is not None else "plain descent never reached the target",
        )
    )
    return claims


def _told(ratio: float | None) -> str:
    return "unknown" if ratio is None else f"{ratio:.2f}"


def _lift_claims(effects: Sequence[Row]) -> list[Claim]:
    low, high = ratios_of(effects, "lift")
    return [
        _claim(
            "D7.lift",
            "Without lifting all-pass kernels are not found: ratio of errors",
            (high, ">=", _LIFTED),
            f"all the other caveats in place; low-pass kernels: {_told(low)}",
        )
    ]


def _found_claims(runs: Sequence[Row], several: Sequence[Row]) -> list[Claim]:
    claims = []
    for name, kernels in CLASSES.items():
        mine = [row["found"] for row in runs if row["kernel"] in kernels and row["variant"] == "all"]
        claims.append(
            _claim(
                f"D7.found.{name}",
                f"With all caveats the kernel is found, {name}: share of signals",
                (sum(mine) / len(mine), ">=", 1.0),
                f"{len(mine)} signals, one start each; found is a correlation of {SUCCESS} with a shift",
            )
        )
    densest = {row["kernels"]: max(r["density"] for r in several if r["kernels"] == row["kernels"]) for row in several}
    for name, dense in (("D7.kernels", False), ("D7.kernels.dense", True)):
        mine = [row for row in several if row["kernels"] > 1 and (row["density"] == densest[row["kernels"]]) == dense]
        how = "each as dense as one alone" if dense else "together as dense as one alone"
        claims.append(
            _claim(
                name,
                f"All kernels are found by alternating descent, {how}: mean share",
                (sum(row["share found"] for row in mine) / len(mine) if mine else None, ">=", 1.0),
                f"{len(mine)} signals of several random kernels" if mine else "needs counts above 1",
                source=_BEYOND if dense else _SOURCE,
            )
        )
    return claims


def _claim(
    name: str, statement: str, numbers: tuple[float | None, Relation, float], note: str, source: str = _SOURCE
) -> Claim:
    observed, relation, expected = numbers
    return Claim(
        id=name, statement=statement, source=source, expected=expected, observed=observed, relation=relation, note=note
    )


def _answer(effects: Sequence[Row], claims: Sequence[Claim]) -> str:
    told = []
    for caveat, (_, _, purpose) in CAVEATS.items():
        low, high = (_told(ratio) for ratio in ratios_of(effects, caveat))
        told.append(f"{caveat} {low} and {high} ({'iterations' if purpose == 'speed' else 'error'})")
    most = [claim for claim in claims if claim.id.endswith(".most")]
    share = sum(claim.verdict == "passed" for claim in most)
    return (
        f"{share} of {len(most)} caveats matter most for low-pass kernels. Without over with, for low-pass and "
        f"all-pass kernels: {'; '.join(told)}."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    what = f"n = {config.length}, m = {config.size}, lambda = {config.alpha:g}"
    common = {"kind": "curves", "table": "convergence", "y": "error", "color": "variant", "facet": "kernel"}
    scales = {"x_scale": "log", "y_scale": "log", "where": {"seed": 0}}
    return (
        Panel(
            title="Error of the kernel against iterations",
            caption=f"Least distance to a shift and sign of the true kernel, {what}.",
            x="step",
            **common,
            **scales,
        ),
        Panel(
            title="Error of the kernel against time",
            caption=f"Seconds of wall clock, {what}.",
            x="seconds",
            **common,
            **scales,
        ),
        Panel(
            kind="scatter",
            title="Errors reached, from low-pass to all-pass kernels",
            caption="At the end of every run. Flatness: geometric over arithmetic mean of the power spectrum.",
            table="runs",
            x="flatness",
            y="error",
            color="variant",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="scatter",
            title="Several kernels at once: how crowded may a signal be?",
            caption="Least correlation over kernels, against the activations of all kernels in a window of n entries.",
            table="several kernels",
            x="activations in a window",
            y="least similarity",
            color="kernels",
        ),
    )


EXPERIMENT = Study(entry("bilinear-variants"), PRESETS, investigate)
