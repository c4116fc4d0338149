"""D1 to D3: fourth powers on the sphere find columns, their expectation in closed form, and their critical points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tightframe.experiments.catalog import entry
from tightframe.experiments.dictionary.column_claims import basis_claims, moment_claims, point_claims, start_claims
from tightframe.experiments.dictionary.column_panels import panels
from tightframe.experiments.dictionary.l4_landscapes import (
    Row,
    Sparse,
    column_ends,
    critical_points,
    exactness,
    moments,
    whole_basis,
)
from tightframe.experiments.dictionary.power_laws import root_mean_square
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import table_of

_METHODS = ("power", "rgd")


@dataclass(frozen=True)
class Config:
    """What is drawn.

    Args:
        starts: Random starts of every search for one column.
        columns: Pairs (n, p) of orthogonal dictionaries for these; `draws` of each, the first with every method.
        strict: The pair (n, p) for which a distance of 1e-2 is asked.
        draws: Draws of them, of whole bases, and of every cell of `exact`.
        density: theta of these, of whole bases without noise, and of D2.
        bases: Pairs (n, p) of whole orthogonal dictionaries.
        noisy: The pair (n, p) of the grid of densities and noise.
        densities: theta there.
        noises: Standard deviations of noise there.
        exact: n of the study of exact recovery, at the densities 0.1 and 0.3.
        ratios: p / n there.
        moments: Pairs (n, m) of D2: orthogonal for m = n, else a tight frame.
        averaged: p of D2.
        averages: Directions and draws for every p.
        landscape: n of D3.
        covered: m / n of D3 for which claims are made, at the largest n.
        beyond: Further m / n, reported.
        descents: Descents for each dictionary of D3.
        searches: Starts of Newton's method for each.
    """

    starts: int = 100
    columns: tuple[tuple[int, int], ...] = ((10, 5_000), (10, 20_000))
    strict: tuple[int, int] = (4, 250_000)
    draws: int = 4
    density: float = 0.1
    bases: tuple[tuple[int, int], ...] = ((16, 10_000), (32, 10_000))
    noisy: tuple[int, int] = (16, 4_000)
    densities: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    noises: tuple[float, ...] = (0.0, 0.2, 0.4, 0.8)
    exact: tuple[int, ...] = (16, 32)
    ratios: tuple[int, ...] = (5, 10, 20, 50)
    moments: tuple[tuple[int, int], ...] = ((10, 10), (10, 15))
    averaged: tuple[int, ...] = (1_000, 10_000)
    averages: int = 200
    landscape: tuple[int, ...] = (8, 16, 32)
    covered: tuple[float, ...] = (1.0, 1.5, 2.0)
    beyond: tuple[float, ...] = (3.0,)
    descents: int = 200
    searches: int = 20


PRESETS = {
    "smoke": Config(),
    "quick": Config(
        starts=1000,
        strict=(5, 350_000),
        columns=((10, 2_500), (10, 10_000), (10, 40_000), (50, 20_000)),
        draws=6,
        bases=((16, 20_000), (32, 20_000), (64, 20_000)),
        noisy=(32, 6_000),
        densities=(0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
        noises=(0.0, 0.1, 0.2, 0.4, 0.6, 0.8),
        exact=(32, 50),
        ratios=(5, 10, 20, 50, 100),
        averaged=(1_000, 10_000, 100_000),
        landscape=(8, 16, 32, 64),
        beyond=(3.0, 4.0, 6.0),
        descents=500,
        searches=40,
    ),
    "paper": Config(
        starts=1000,
        columns=((10, 10_000), (10, 100_000), (50, 20_000), (50, 100_000), (100, 40_000)),
        strict=(20, 2_000_000),
        draws=10,
        bases=((50, 10_000), (100, 20_000), (100, 40_000)),
        noisy=(50, 10_000),
        densities=tuple(round(0.05 * step, 2) for step in range(1, 21)),
        noises=tuple(round(0.05 * step, 2) for step in range(21)),
        exact=(50, 100),
        ratios=(5, 10, 20, 50, 100, 200),
        moments=((10, 10), (10, 15), (50, 50), (50, 100)),
        averaged=(1_000, 10_000, 100_000, 1_000_000),
        averages=500,
        landscape=(8, 16, 32, 64, 128),
        covered=(1.0, 1.5, 2.0, 3.0),
        beyond=(4.0, 6.0, 8.0),
        descents=1000,
        searches=100,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Random starts and whole bases on data, averages beside expectations, and critical points of these."""
    ends = sweep(column_ends, _searched(config))
    strict = sweep(column_ends, [(_orthogonal(config.strict, config.density, 0), "power", config.starts)])
    bases = sweep(whole_basis, _bases(config))
    exact = sweep(exactness, _exact(config))
    averages = [row for rows in sweep(moments, _averaged(config)) for row in rows]
    points = [row for rows in sweep(critical_points, _landscapes(config)) for row in rows]
    tables = {
        "starts": table_of([*ends, *strict]),
        "distances": table_of(_distances(ends)),
        "bases": table_of(bases),
        "noise": table_of(_shares(bases, ("density", "deviation of noise"), "columns within 1e-2", config.noisy)),
        "exact": table_of(exact),
        "exact recovery": table_of(_exact_shares(exact)),
        "averages": table_of(_errors(averages)),
        "critical points": table_of(points),
        "kinds": table_of(_kinds(points)),
        "elsewhere": table_of(_elsewhere(points)),
    }
    claims = (
        *start_claims(ends, strict),
        *basis_claims([row for row in bases if (row["n"], row["p"]) in config.bases and not row["noise"]], exact),
        *moment_claims(averages),
        *point_claims(points, config.covered),
    )
    return Findings(claims, _answer(ends, averages, points), tables, panels(config.descents))


def _orthogonal(size: tuple[int, int], density: float, seed: int) -> Sparse:
    return Sparse(size[0], size[0], size[1], density, 100 * seed)


def _searched(config: Config) -> list[tuple[Sparse, str, int]]:
    first = [
        (_orthogonal(size, config.density, 0), how, config.starts) for size, how in product(config.columns, _METHODS)
    ]
    # Every start near one column ends at the same point: more draws, and not more starts, tell what is usual.
    few = min(config.starts, 50)
    cells = product(config.columns, range(1, config.draws))
    return first + [(_orthogonal(size, config.density, seed), "power", few) for size, seed in cells]


def _bases(config: Config) -> list[tuple[Sparse, float]]:
    seeds = range(config.draws)
    clean = [(_orthogonal(size, config.density, seed), 0.0) for size, seed in product(config.bases, seeds)]
    cells = product(config.densities, config.noises, seeds)
    return clean + [(_orthogonal(config.noisy, density, seed), noise) for density, noise, seed in cells]


def _exact(config: Config) -> list[tuple[Sparse, int]]:
    cells = product(config.exact, (0.1, 0.3), config.ratios, range(config.draws), (3, 4))
    return [(_orthogonal((n, ratio * n), theta, seed), order) for n, theta, ratio, seed, order in cells]


def _averaged(config: Config) -> list[tuple[Sparse, int]]:
    cells = product(config.moments, ("gaussian", "rademacher"), config.averaged)
    return [(Sparse(*shape, p, config.density, values=values), config.averages) for shape, values, p in cells]


def _landscapes(config: Config) -> list[tuple[Sparse, int, int]]:
    cells = []
    for frame, n, ratio in product(("tight", "incoherent"), config.landscape, (*config.covered, *config.beyond)):
        # An orthogonal dictionary is both.
        if ratio > 1 or frame == "tight":
            cells.append((Sparse(n, round(ratio * n), frame=frame), config.descents, config.searches))
    return cells


def _groups(rows: Sequence[Row], keys: tuple[str, ...]) -> dict[tuple, list[Row]]:
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _distances(ends: Sequence[Row]) -> list[Row]:
    found = []
    for (n, p), some in _groups(ends, ("n", "p")).items():
        usual = root_mean_square([row["distance"] for row in some if row["method"] == "power"])
        found.append({"n": n, "p": p, "distance": usual, "predicted distance": some[0]["predicted distance"]})
    return found


def _shares(rows: Sequence[Row], keys: tuple[str, ...], column: str, size: tuple[int, int]) -> list[Row]:
    """Means of a column, by the values of `keys`, over the cells of one size."""
    chosen = _groups([row for row in rows if (row["n"], row["p"]) == size], keys)
    return [
        dict(zip(keys, place, strict=True)) | {column: sum(row[column] for row in some) / len(some)}
        for place, some in chosen.items()
    ]


def _exact_shares(exact: Sequence[Row]) -> list[Row]:
    found = []
    for (n, theta, p, powers), some in _groups(exact, ("n", "theta", "p", "powers")).items():
        share = sum(row["exact"] for row in some) / len(some)
        cell = {"setting": f"n = {n}, theta = {theta:g}", "p/n": f"{p / n:g}", "powers": powers}
        found.append(cell | {"share exact": share, "draws": len(some)})
    return found


def _errors(averages: Sequence[Row]) -> list[Row]:
    """Root mean square of measured less expected, and what the variance predicts, for every p."""
    found = []
    for (frame, codes, n, m, p), some in _groups(averages, ("frame", "codes", "n", "m", "p")).items():
        cell = {"A0 and codes": f"{frame} {m} in {n}, {codes}", "p": p, "draws": len(some)}
        error = root_mean_square([row["measured"] - row["expected"] for row in some])
        found.append(cell | {"error": error, "predicted": root_mean_square([row["deviation"] for row in some])})
    return found


def _kinds(points: Sequence[Row]) -> list[Row]:
    counts = Counter()
    for row in points:
        counts[tuple(row[key] for key in ("frame", "n", "m", "found by", "kind"))] += row["starts"]
    return [
        dict(zip(("frame", "n", "m", "found by", "kind", "starts"), (*place, count), strict=True))
        for place, count in counts.items()
    ]


def _elsewhere(points: Sequence[Row]) -> list[Row]:
    found = []
    descents = [row for row in points if row["found by"] == "descent"]
    for (frame, n, ratio), some in _groups(descents, ("frame", "n", "m/n")).items():
        total = sum(row["starts"] for row in some)
        away = sum(row["starts"] for row in some if row["kind"] != "column")
        cell = {"frame": frame, "n": n, "m/n": f"{ratio:g}", "columns": f"n = {n}", "coherence": some[0]["coherence"]}
        found.append(cell | {"share elsewhere": away / total, "local minima elsewhere": _other(some)})
    return found


def _other(rows: Sequence[Row]) -> int:
    return sum(row["kind"] == "other" for row in rows)


def _answer(ends: Sequence[Row], averages: Sequence[Row], points: Sequence[Row]) -> str:
    starts = sum(row["starts"] for row in ends)
    near = sum(row["starts"] * row["share within 1e-2"] for row in ends)
    counts = Counter(row["kind"] for row in points)
    where = [row for row in points if row["kind"] == "other"]
    least = min(((row["m/n"], row["n"], row["frame"]) for row in where), default=None)
    third = (
        "none of another kind"
        if least is None
        else (
            f"{counts['other']} of another kind, away from columns and without a way down, the first at "
            f"m/n = {least[0]:g} with n = {least[1]} ({least[2]})"
        )
    )
    alike = root_mean_square([(row["measured"] - row["expected"]) / row["deviation"] for row in averages])
    return (
        f"Of {starts} random starts, {near:.0f} end within 1e-2 (1 - |cosine|) of a column of an orthogonal "
        f"dictionary. Averages over p samples differ from c1 |A^T q|_4^4 + c2 |A^T q|^4 by {alike:.2f} of the standard "
        f"deviation in closed form. Of the expected power, {counts['column']} critical points near columns were found, "
        f"{counts['strict saddle']} strict saddles, and {third}."
    )


EXPERIMENT = Study(entry("l4-columns"), PRESETS, investigate)
