"""K6: labels of two curves by gradient descent from random weights, over depth, width and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from tightframe.experiments.catalog import entry
from tightframe.experiments.ntk.curve_runs import PAIRS, Row, Run, measured, portrait
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L4, theorem on two curves: gradient descent from random weights"
RESOURCES = ("depth", "width", "samples")


@dataclass(frozen=True)
class Config:
    """A grid of networks on both pairs of curves.

    Args:
        depths: Hidden layers.
        widths: Of every hidden layer.
        samples: Random points of each curve.
        separations: Angle between the curves of every pair.
        seeds: Of points and weights.
        checks: Steps of gradient descent after which networks are looked at; the last is the budget.
        grid: Points of each curve on which labels are judged.
    """

    depths: tuple[int, ...] = (1, 4)
    widths: tuple[int, ...] = (16, 128)
    samples: tuple[int, ...] = (8, 64)
    separations: tuple[float, ...] = (0.2, 0.2)
    seeds: tuple[int, ...] = (0,)
    checks: tuple[int, ...] = (50, 100, 200, 400)
    grid: int = 500


# The trefoils are four times as long as the circles, so that as many points lie four times as far apart on them.
_FULL = Config((1, 2, 4, 8), (16, 64, 256), (8, 32, 128), (0.1, 0.4), (0, 1, 2), (50, 100, 200, 400, 800), grid=1000)
PRESETS = {
    "smoke": Config(),
    "quick": _FULL,
    "paper": replace(
        _FULL,
        depths=(1, 2, 4, 8, 16),
        widths=(16, 64, 256, 1024),
        samples=(8, 32, 128, 512),
        seeds=tuple(range(5)),
        checks=(50, 100, 200, 400, 800, 1600, 3200),
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Train every network, then draw the functions of the largest and of the one with the fewest samples."""
    rows = sweep(measured, runs_of(config))
    largest = [_run(config, pair, *_corner(config, -1), config.seeds[0]) for pair in PAIRS]
    drawn = [replace(run, samples=count) for run in largest for count in (config.samples[0], config.samples[-1])]
    along = [row for found in sweep(portrait, drawn) for row in found]
    tables = {"networks": table_of(rows), "phases": table_of(phases(rows)), "along": table_of(along)}
    return Findings(claims_of(rows, config), _answer(rows, config), tables, _panels(config))


def runs_of(config: Config) -> list[Run]:
    """Every network of the grid."""
    return [
        _run(config, pair, depth, width, samples, seed)
        for pair in PAIRS
        for depth in config.depths
        for width in config.widths
        for samples in config.samples
        for seed in config.seeds
    ]


def _run(config: Config, pair: str, depth: int, width: int, samples: int, seed: int) -> Run:
    separation = config.separations[PAIRS.index(pair)]
    return Run(pair, separation, depth, width, samples, seed, config.checks, config.grid)


def _corner(config: Config, place: int) -> tuple[int, int, int]:
    return config.depths[place], config.widths[place], config.samples[place]


def phases(rows: Sequence[Row]) -> list[Row]:
    """Shares of seeds with every label right, by network and by kernel, for every cell of the grid."""
    cells: dict[tuple, list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in ("pair", *RESOURCES)), []).append(row)
    found = []
    for key, inside in cells.items():
        words = dict(zip(("pair", *RESOURCES), key, strict=True))
        for who, column in (("networks", "perfect"), ("kernel", "perfect, kernel")):
            share = mean(float(row[column]) for row in inside)
            where = f"{who}, {words['samples']} samples"
            found.append(words | {"by": who, "by and samples": where, "share perfect": share})
    return found


def claims_of(rows: Sequence[Row], config: Config) -> tuple[Claim, ...]:
    """Claims of the finished runs."""
    claims = [claim for pair in PAIRS for claim in _of_pair(pair, [row for row in rows if row["pair"] == pair], config)]
    wide = [row for row in rows if row["width"] == config.widths[-1]]
    agreed = [row["perfect"] == row["perfect, kernel"] for row in wide]
    distances = {
        width: [row["distance"] for row in rows if row["width"] == width and row["distance"] is not None]
        for width in (config.widths[0], config.widths[-1])
    }
    near = {width: median(values) for width, values in distances.items() if values}
    claims += [
        Claim(
            id="K6.kernel",
            statement="The kernel foresees whether the widest networks label both curves perfectly: share of runs",
            source=_SOURCE,
            expected=0.8,
            observed=mean(map(float, agreed)),
            relation=">=",
            note=f"{len(agreed)} networks of width {config.widths[-1]}, each beside the linear system from its start",
        ),
        Claim(
            id="K6.kernel.width",
            statement="Wider networks end nearer to the kernel's function: median distance, widest over narrowest",
            source=_SOURCE,
            expected=1.0,
            observed=near[config.widths[-1]] / near[config.widths[0]] if len(near) == 2 else None,
            note=", ".join(f"width {width}: {value:.3g}" for width, value in near.items())
            + "; root mean square over both curves; runs that diverged left out",
        ),
    ]
    return tuple(claims)


def _of_pair(pair: str, rows: Sequence[Row], config: Config) -> list[Claim]:
    most, least = (_inside(rows, _corner(config, place)) for place in (-1, 0))
    corner = ", ".join(f"{name} {value}" for name, value in zip(RESOURCES, _corner(config, -1), strict=True))
    claims = [
        Claim(
            id=f"K6.perfect.{pair}",
            statement=f"Where depth, width and samples suffice, every point of both curves is labelled rightly: {pair}",
            source=_SOURCE,
            expected=1.0,
            observed=mean(float(row["perfect"]) for row in most),
            relation="==",
            note=f"{corner}; {len(most)} seeds, {config.grid} points per curve, {config.checks[-1]} steps",
        ),
        Claim(
            id=f"K6.needed.{pair}",
            statement=f"Where all three are least, labels are wrong: share of perfect networks, {pair}",
            source="measured, not stated: the theorem is silent there",
            expected=0.0,
            observed=mean(float(row["perfect"]) for row in least),
            note=f"{len(least)} seeds",
        ),
    ]
    return claims + [_more(pair, name, rows, config) for name in RESOURCES]


def _more(pair: str, name: str, rows: Sequence[Row], config: Config) -> Claim:
    """Of one resource, where the other two suffice; the note has the shares over all of their values too."""
    most = dict(zip(RESOURCES, _corner(config, -1), strict=True))
    values = dict(zip(RESOURCES, (config.depths, config.widths, config.samples), strict=True))
    low, high = (_share(rows, most | {name: value}) for value in _ends(values[name]))
    overall = [_share(rows, {name: value}) for value in _ends(values[name])]
    return Claim(
        id=f"K6.{name}.{pair}",
        statement=f"Where the other two suffice, more {name} loses nothing: share of perfect networks at the most "
        f"minus at the least, {pair}",
        source=_SOURCE,
        expected=0.0,
        observed=high - low,
        relation=">=",
        note=f"{low:.2f} at {values[name][0]}, {high:.2f} at {values[name][-1]}; over all values of the other two "
        f"{overall[0]:.2f} and {overall[1]:.2f}",
    )


def _share(rows: Sequence[Row], fixed: dict[str, int]) -> float:
    return mean(float(row["perfect"]) for row in rows if all(row[name] == value for name, value in fixed.items()))


def _ends(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[-1]


def _inside(rows: Sequence[Row], corner: tuple[int, int, int]) -> list[Row]:
    return [row for row in rows if tuple(row[name] for name in RESOURCES) == corner]


def _answer(rows: Sequence[Row], config: Config) -> str:
    parts = []
    for pair in PAIRS:
        mine = [row for row in rows if row["pair"] == pair]
        most = _inside(mine, _corner(config, -1))
        right = sum(bool(row["perfect"]) for row in mine)
        done = sum(bool(row["perfect"]) for row in most)
        parts.append(f"{pair}: {right} of {len(mine)} networks, {done} of {len(most)} of the largest")
    return f"Every point of both curves labelled rightly after {config.checks[-1]} steps: {'; '.join(parts)}."


def _panels(config: Config) -> tuple[Panel, ...]:
    diagrams = [
        Panel(
            kind="matrix",
            title=f"Perfect labels of {pair}",
            caption=f"Share of {len(config.seeds)} seeds with no wrong label on {config.grid} points per curve, after "
            f"{config.checks[-1]} steps, for networks and for the kernel's prediction from the same starts.",
            table="phases",
            x="width",
            y="depth",
            value="share perfect",
            facet="by and samples",
            where={"pair": pair},
        )
        for pair in PAIRS
    ]
    samples = (config.samples[0], config.samples[-1])
    lines = [
        Panel(
            kind="curves",
            title=f"The function along {pair}, {count} samples",
            caption="After training, at the greatest depth and width; dashed: the kernel's prediction.",
            table="along",
            x="share of length",
            y="f",
            color="curve",
            reference="f, kernel",
            where={"pair": pair, "samples": count},
        )
        for pair in PAIRS
        for count in samples
    ]
    pictures = [
        Panel(
            kind="scatter",
            title=f"{pair.capitalize()} by the function's value",
            caption="In a plane; the sign is the label given. Few samples on the left, many on the right.",
            table="along",
            x="x",
            y="y",
            color="value",
            facet="samples",
            where={"pair": pair},
        )
        for pair in PAIRS
    ]
    return (*diagrams, *pictures, *lines)


EXPERIMENT = Study(entry("two-curves"), PRESETS, investigate)
