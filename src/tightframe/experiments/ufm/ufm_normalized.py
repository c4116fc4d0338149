"""N14: features and classifiers on spheres, within the proven temperatures, beyond them, and with fewer dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.experiments.ufm.sphere_claims import answer, plane_claims, saddle_claims, search_claims, start_claims
from tightframe.experiments.ufm.spheres import ONE_CLASSIFIER, Row, built, crowded, held, searched, started
from tightframe.runs.record import Panel, table_of
from tightframe.ufm.normalized_optima import proven_temperature

_BOUND = "proven below here"
_SHARE = "share at the global minimum"
_DEPTH = "modulus of the smallest eigenvalue"


@dataclass(frozen=True)
class Config:
    """What is solved, built and searched.

    Args:
        cells: K, d and how many random starts at each tau; the first K and d, with d > K, are also those of the
            constructed saddles, which have n = 2(d - 1).
        temperatures: tau of random starts.
        per_class: n of random starts.
        saddle_temperatures: tau of constructed saddles: first, last, how many; evenly spaced in the logarithm.
        searched: (K, d) of Newton's method from random starts, n = 2.
        searched_temperatures: tau there.
        searches: Starts there, for each K, d and tau.
        plane_temperatures: tau of one feature opposite to its classifier, K = 3 and d = 2: first, last, how many.
        plane_per_class: n there; many, to hold the classifiers in place.
        crowded: (K, d) with d < K - 1, n = 1.
        crowded_starts: Random starts of each, at every temperature but the last.
    """

    cells: tuple[tuple[int, int, int], ...] = ((4, 6, 100), (4, 4, 20), (4, 3, 20), (3, 2, 100))
    temperatures: tuple[float, ...] = (1.0, 4.0, 7.5, 9.0, 12.0, 15.0)
    per_class: int = 3
    saddle_temperatures: tuple[float, float, int] = (0.5, 24.0, 19)
    searched: tuple[tuple[int, int], ...] = ((3, 4), (3, 3), (4, 5), (4, 4))
    searched_temperatures: tuple[float, ...] = (0.7, 1.5, 2.5)
    searches: int = 30
    plane_temperatures: tuple[float, float, int] = (1.2, 4.0, 15)
    plane_per_class: int = 200
    crowded: tuple[tuple[int, int], ...] = ((4, 2), (5, 3), (6, 3), (8, 4))
    crowded_starts: int = 10


PRESETS = {
    "smoke": Config(
        cells=((4, 6, 5), (3, 2, 5)),
        temperatures=(2.0, 7.5, 12.0),
        saddle_temperatures=(0.5, 24.0, 8),
        searched=((3, 4), (3, 3)),
        searched_temperatures=(0.7,),
        searches=6,
        plane_temperatures=(1.6, 3.0, 5),
        plane_per_class=60,
        crowded=((4, 2), (6, 3)),
        crowded_starts=3,
    ),
    "quick": Config(),
    "paper": Config(
        cells=((10, 16, 200), (4, 6, 500), (10, 10, 200), (10, 9, 200), (5, 4, 500), (3, 2, 500)),
        temperatures=(1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 26.0),
        per_class=5,
        saddle_temperatures=(0.5, 30.0, 40),
        searches=500,
        plane_per_class=500,
        crowded=((4, 2), (5, 3), (6, 3), (8, 4), (16, 8)),
        crowded_starts=50,
    ),
}


PANELS = (
    Panel(
        kind="curves",
        title="Random starts that reach the global minimum",
        caption="Share of starts of Riemannian trust regions that end at a certified global minimum. The line is "
        "at the temperature below which the theorem holds for the first shape; it says nothing of d <= K.",
        table="shares",
        x="temperature",
        y=_SHARE,
        color="line",
        facet="cell",
    ),
    Panel(
        kind="curves",
        title="How steep the ways out of constructed saddles are",
        caption="Modulus of the smallest eigenvalue, which is negative, of the Hessian on the spheres at critical "
        "points that are written down. None of the curves ends at the proven temperature.",
        table="depths",
        x="temperature",
        y=_DEPTH,
        color="point",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="curves",
        title="One classifier for all classes: three directions",
        caption="Curvature along unit directions that move the classifiers apart and every feature toward its own, "
        "in equal measure (fixed proportion) or in the best one, and the lowest of all. Only the first turns "
        "positive: at the proven temperature.",
        table="one classifier",
        x="temperature",
        y="curvature",
        color="direction",
    ),
    Panel(
        kind="scatter",
        title="Critical points near random starts",
        caption="Loss and modulus of the smallest eigenvalue, which is negative at all of them, of the critical "
        "points that Newton's method finds, by the direction that leads down.",
        table="critical points",
        x="objective",
        y=_DEPTH,
        color="way down",
        facet="cell",
        y_scale="log",
        where={"found": True},
    ),
    Panel(
        kind="curves",
        title="Three classes in the plane: a feature held on the wrong side",
        caption="One feature of each class opposite to its classifier, the others collapsed. The smallest "
        "eigenvalue of the Hessian, the rotation of the plane left out, turns positive about tau = K - 1 = 2: a "
        "local minimum.",
        table="held",
        x="temperature",
        y="smallest eigenvalue",
        color="line",
    ),
)


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Random starts, saddles by construction, Newton's method, a feature held on the wrong side, too few dimensions."""
    starts = sweep(
        started,
        [
            ((classes, features, config.per_class, tau), count)
            for classes, features, count in config.cells
            for tau in config.temperatures
        ],
    )
    classes, features, _ = config.cells[0]
    turn = 2.0 * (features - 2)
    temperatures = sorted({*_spaced(*config.saddle_temperatures), turn})
    grid = [(classes, features, 2 * (features - 1), tau) for tau in temperatures]
    saddles = [row for rows in sweep(built, grid) for row in rows]
    shapes = [(*cell, 2, tau) for cell in config.searched for tau in config.searched_temperatures]
    points = [row for rows in sweep(searched, [(shape, config.searches) for shape in shapes]) for row in rows]
    plane = sweep(held, [(config.plane_per_class, tau) for tau in _spaced(*config.plane_temperatures)])
    shapes = [(*cell, 1, tau) for cell in config.crowded for tau in config.temperatures[:-1]]
    few = sweep(crowded, [(shape, config.crowded_starts) for shape in shapes])
    bound = proven_temperature(classes, features)
    tables = {
        "starts": table_of(starts),
        "shares": table_of(_shares(starts, bound)),
        "saddles": table_of(saddles),
        "depths": table_of(_depths(saddles, bound)),
        "one classifier": table_of(_ways(saddles, bound)),
        "critical points": table_of(points),
        "opposite feature": table_of(plane),
        "held": table_of(_held(plane)),
        "few dimensions": table_of(few),
    }
    claims = [*start_claims(starts), *saddle_claims(saddles, bound, turn), *search_claims(points), *plane_claims(plane)]
    return Findings(tuple(claims), answer(starts, saddles, points, turn), tables, PANELS)


def _shares(starts: Sequence[Row], bound: float) -> list[Row]:
    first = starts[0]["cell"]
    rows = [
        {"cell": row["cell"], "line": "random starts", "temperature": row["temperature"], _SHARE: row["share"]}
        for row in starts
    ]
    return rows + [{"cell": first, "line": _BOUND, "temperature": bound, _SHARE: end} for end in (0.0, 1.0)]


def _depths(saddles: Sequence[Row], bound: float) -> list[Row]:
    rows = [{"point": row["point"], "temperature": row["temperature"], _DEPTH: row["depth"]} for row in saddles]
    return rows + [{"point": _BOUND, "temperature": bound, _DEPTH: end} for end in _ends(rows, _DEPTH)]


def _ways(saddles: Sequence[Row], bound: float) -> list[Row]:
    """At one classifier for all: the three curvatures by temperature, and a line at the bound."""
    shown = {
        "fixed mixture": "fixed proportion",
        "curvature": "best proportion",
        "smallest eigenvalue": "lowest eigenvalue",
    }
    rows = [
        {"direction": name, "temperature": row["temperature"], "curvature": row[column]}
        for row in saddles
        if row["point"] == ONE_CLASSIFIER and row["temperature"] <= 2 * bound
        for column, name in shown.items()
    ]
    return rows + [{"direction": _BOUND, "temperature": bound, "curvature": end} for end in _ends(rows, "curvature")]


def _held(plane: Sequence[Row]) -> list[Row]:
    name = "smallest eigenvalue"
    rows = [{"line": "without the rotation", "temperature": row["temperature"], name: row[name]} for row in plane]
    return rows + [{"line": "tau = K - 1", "temperature": 2.0, name: end} for end in _ends(rows, name)]


def _ends(rows: Sequence[Row], name: str) -> tuple[float, float]:
    """Of a vertical line."""
    values = [row[name] for row in rows if row[name] is not None]
    return min(values), max(values)


def _spaced(first: float, last: float, count: int) -> list[float]:
    return [first * (last / first) ** (i / (count - 1)) for i in range(count)]


EXPERIMENT = Study(entry("ufm-normalized"), PRESETS, investigate)
