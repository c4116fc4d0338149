"""P7: what a step of completion costs as the matrix grows, and compressed beside narrow networks of one width."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

import torch

from tightframe.core.rng import generator
from tightframe.core.threads import threads_for
from tightframe.deeplinear.compression import compress
from tightframe.deeplinear.descent import ChainDescent, Settings
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.path import ObservedDescent, largest_step, spectral_network
from tightframe.experiments.catalog import entry
from tightframe.experiments.deeplinear.completion_runs import Effort, Matrix, Row, descend
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L6, compressed networks for matrix completion: cost of a step, figure on iterations and time"
_ORIGINAL, _COMPRESSED, _NARROW = "original, width d", "compressed", "narrow, width 2r"
_DEPTH = 3
# What a wrong exponent of a time over an octave or two may be off by on a machine with other work.
_SLACK = 0.25


@dataclass(frozen=True)
class Config:
    """What is timed and raced.

    Args:
        wide_sizes: d of the original, ascending.
        thin_sizes: d of the compressed network on observed entries only, ascending.
        per_row: Observed entries of a row, the same at every size.
        columns: 2 r of the timed compressed network.
        timed: Steps of which the median is taken.
        size: d of the race.
        rank: r of its matrix.
        share: Of its entries that are observed.
        ranks: Over-estimates r^ that the networks are told; both have width 2 r^.
        scale: epsilon of the start.
        gamma: Rate of the outer factors of the compressed one.
        max_steps: Of a descent at most.
        seeds: Of matrices, masks and starts.
    """

    wide_sizes: tuple[int, ...] = (64, 128, 256, 512)
    thin_sizes: tuple[int, ...] = (2000, 4000, 8000, 16_000)
    per_row: int = 40
    columns: int = 10
    timed: int = 5
    size: int = 60
    rank: int = 3
    share: float = 0.4
    ranks: tuple[int, ...] = (3, 6)
    scale: float = 1e-2
    gamma: float = 0.1
    max_steps: int = 12_000
    seeds: tuple[int, ...] = (0,)


_QUICK = Config(
    wide_sizes=(128, 256, 512, 1024),
    thin_sizes=(4000, 8000, 16_000, 32_000, 64_000),
    timed=9,
    size=200,
    rank=5,
    share=0.3,
    ranks=(5, 10, 15, 20),
    seeds=(0, 1, 2),
)
_SIZES = {"size": 1000, "share": 0.2, "scale": 1e-3, "gamma": 0.01, "max_steps": 80_000}
PRESETS = {"smoke": Config(), "quick": _QUICK, "paper": replace(_QUICK, **_SIZES, seeds=(0, 1, 2, 3, 4))}


@dataclass(frozen=True)
class Racer:
    """One network of the race."""

    config: Config
    rank: int
    seed: int
    name: str


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Time and numbers of a step over d with fitted exponents; then steps and time to a completed matrix."""
    # One after another in this process, since what runs beside a step takes its time.
    steps = [wide_step(config, size) for size in config.wide_sizes]
    steps += [thin_step(config, size) for size in config.thin_sizes]
    names = (_COMPRESSED, _NARROW)
    race = sweep(run, [Racer(config, *which) for which in product(config.ranks, config.seeds, names)])
    exponents = [_exponents(name, steps) for name in (_ORIGINAL, _COMPRESSED)]
    medians = _medians(race)
    tables = {
        "steps": table_of(steps),
        "exponents": table_of(exponents),
        "race": table_of(race),
        "race, medians": table_of(medians),
    }
    claims = (*_growth_claims(exponents), *_race_claims(medians))
    return Findings(claims, _answer(exponents, medians), tables, _panels(config))


def wide_step(config: Config, size: int) -> Row:
    """Time of a step of the original on a whole matrix, and the numbers it moves."""
    problem = Matrix(size, config.rank, min(1.0, config.per_row / size), "factors").drawn()
    network = DeepLinearNetwork([size] * (_DEPTH + 1), scale=config.scale)
    objective = Completion(problem.matrix, problem.mask)
    with threads_for(size**3), torch.no_grad():
        chain = ChainDescent(network.weights, objective, Settings(1e-9), network.rates)
        spent = _median_seconds(lambda: chain.advance(1), config.timed)
    return _step(_ORIGINAL, size, spent, network)


def thin_step(config: Config, size: int) -> Row:
    """Time of a step of the compressed network on observed entries, and the numbers it moves."""
    found = _scattered(size, config.per_row, config.rank)
    network, top = spectral_network(found, config.columns, depth=_DEPTH + 2)
    with threads_for(len(found) * config.columns), torch.no_grad():
        descent = ObservedDescent(found, network, step=0.1 * largest_step(found, top, _DEPTH))
        spent = _median_seconds(descent.move, config.timed)
    return _step(_COMPRESSED, size, spent, network)


def run(racer: Racer) -> Row:
    """Steps and seconds of one network until the observed entries are fitted."""
    config = racer.config
    problem = Matrix(config.size, config.rank, config.share, seed=racer.seed).drawn()
    if racer.name == _COMPRESSED:
        objective = Completion(problem.matrix, problem.mask)
        sizes = {"depth": _DEPTH, "rank": racer.rank, "scale": config.scale}
        network = compress(objective, gamma=config.gamma, seed=racer.seed, **sizes)
    else:
        inner = [2 * racer.rank] * (_DEPTH - 1)
        network = DeepLinearNetwork([config.size, *inner, config.size], scale=config.scale, seed=racer.seed)
    effort = Effort(max_steps=config.max_steps)
    found = descend(network, problem, effort)
    row = {"network": racer.name, "width": 2 * racer.rank, "seed": racer.seed, "steps": found.steps}
    row |= {"CPU (s)": found.seconds, "completed": found.residual <= effort.tolerance}
    return row | {"error": found.error if math.isfinite(found.error) else None}


def _scattered(size: int, per_row: int, rank: int) -> Observations:
    """The same number of entries in every row of a square matrix, of Gaussian factors."""
    draws = generator(0)
    jumps = torch.randint(1, size // per_row, (size, per_row), generator=draws)
    columns = (jumps.cumsum(1) + torch.arange(size)[:, None]).remainder(size).sort(1).values.reshape(-1)
    rows = torch.arange(size).repeat_interleave(per_row)
    A, B = (torch.randn(size, rank, dtype=torch.float64, generator=draws) for _ in range(2))
    return Observations(rows, columns, (A[rows] * B[columns]).sum(1), (size, size))


def _median_seconds(work: Callable[[], object], times: int) -> float:
    work()
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return median(found)


def _step(name: str, size: int, spent: float, network: DeepLinearNetwork) -> Row:
    numbers = sum(weight.numel() for weight in network.weights)
    return {"network": name, "d": size, "CPU (ms)": 1000 * spent, "trained numbers": numbers}


def _exponents(name: str, steps: Sequence[Row]) -> Row:
    """Slopes of time and numbers over the sizes."""
    rows = [row for row in steps if row["network"] == name]
    line: Row = {"network": name, "from d": rows[0]["d"], "to d": rows[-1]["d"]}
    for column in ("CPU (ms)", "trained numbers"):
        line[f"exponent of {column}"] = _slope([row["d"] for row in rows], [max(row[column], 1e-6) for row in rows])
    return line


def _slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of log(value) over log(size), by least squares."""
    x, y = ([math.log(value) for value in some] for some in (sizes, values))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((one - mean_x) ** 2 for one in x)
    return sum((one - mean_x) * (other - mean_y) for one, other in zip(x, y, strict=True)) / spread


def _medians(race: Sequence[Row]) -> list[Row]:
    """Steps and seconds by width, and how many times those of the compressed network the narrow one takes."""
    found = []
    for width in dict.fromkeys(row["width"] for row in race):
        line: Row = {"width": width}
        for name in (_COMPRESSED, _NARROW):
            rows = [row for row in race if (row["network"], row["width"]) == (name, width)]
            line[f"{name}: steps"] = median(row["steps"] for row in rows)
            line[f"{name}: CPU (s)"] = median(row["CPU (s)"] for row in rows)
            line[f"{name}: completed"] = sum(row["completed"] for row in rows)
        for what in ("steps", "CPU (s)"):
            line[f"ratio of {what}"] = line[f"{_NARROW}: {what}"] / max(line[f"{_COMPRESSED}: {what}"], 1e-9)
        found.append(line)
    return found


def _growth_claims(exponents: Sequence[Row]) -> list[Claim]:
    asked = (
        (_ORIGINAL, "original", "trained numbers", 2.0, "==", 0.01),
        (_COMPRESSED, "compressed", "trained numbers", 1.0, "==", 0.01),
        (_ORIGINAL, "original", "CPU (ms)", 2.0, ">=", _SLACK),
        (_COMPRESSED, "compressed", "CPU (ms)", 1.0, "<=", _SLACK),
    )
    return [
        Claim(
            id=f"P7.{'time' if 'CPU' in column else 'numbers'}.{name}",
            statement=f"Exponent over d of {'the time of a step' if 'CPU' in column else column}, {network}",
            source=_SOURCE,
            expected=expected,
            observed=next(row[f"exponent of {column}"] for row in exponents if row["network"] == network),
            relation=relation,
            tolerance=slack,
            note="a fixed number of observed entries per row; products of whole layers take the original O(L d^3)",
        )
        for network, name, column, expected, relation, slack in asked
    ]


def _race_claims(medians: Sequence[Row]) -> list[Claim]:
    completed = all(row[f"{_COMPRESSED}: completed"] for row in medians)
    claims = []
    for what, name, said in (("steps", "steps", "about three times"), ("CPU (s)", "seconds", "about twice")):
        claims.append(
            Claim(
                id=f"P7.narrow.{name}",
                statement=f"A narrow network of the same width takes more {name} than the compressed one: least ratio",
                source=_SOURCE,
                expected=1.0,
                observed=min(row[f"ratio of {what}"] for row in medians) if completed else math.nan,
                relation=">=",
                note=f"over {len(medians)} widths, medians of the seeds; {said} in the lecture's figure",
            )
        )
    return claims


def _answer(exponents: Sequence[Row], medians: Sequence[Row]) -> str:
    slopes = {row["network"]: row["exponent of CPU (ms)"] for row in exponents}
    steps, seconds = ([row[f"ratio of {what}"] for row in medians] for what in ("steps", "CPU (s)"))
    return (
        f"Over the sizes measured the time of a step grows as d^{slopes[_ORIGINAL]:.2f} for the original and as "
        f"d^{slopes[_COMPRESSED]:.2f} for the compressed network on a fixed number of entries per row. A narrow "
        f"network of the same width takes {min(steps):.2g} to {max(steps):.2g} times its steps and {min(seconds):.2g} "
        f"to {max(seconds):.2g} times its time."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    where = f"d = {config.size}, r = {config.rank}, {config.share:.0%} observed, L = {_DEPTH}"
    growth = {"kind": "scatter", "table": "steps", "x": "d", "color": "network", "x_scale": "log", "y_scale": "log"}
    race = {"kind": "scatter", "table": "race", "x": "width", "color": "network"}
    caption = f"{config.per_row} observed entries in every row; {config.columns} columns of the compressed network."
    return (
        Panel(**growth, title="Time of a step", caption=caption, y="CPU (ms)"),
        Panel(**growth, title="Numbers that a step moves", caption=caption, y="trained numbers"),
        Panel(**race, title="Steps to a completed matrix", caption=f"{where}; every seed a point.", y="steps"),
        Panel(**race, title="Time to a completed matrix", caption="CPU seconds of the same descents.", y="CPU (s)"),
    )


EXPERIMENT = Study(entry("completion-cost"), PRESETS, investigate)
