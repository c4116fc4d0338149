"""P8: which matrices are recovered, over rank and share observed, by methods that are or are not told the rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

from tightframe.experiments.catalog import entry
from tightframe.experiments.deeplinear.completion_methods import (
    DEEP,
    NUCLEAR,
    OURS,
    RECOVERED,
    TOLD,
    Case,
    methods,
    recover,
)
from tightframe.experiments.deeplinear.completion_runs import Matrix, Row
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L6, benefits of depth in matrix completion"
_BEYOND = "beyond the source"
# Shares of matrices of size 100 and rank 5 that the method was seen to recover elsewhere, by share observed.
_REFERENCE = {0.15: 0.8, 0.2: 1.0, 0.25: 1.0, 0.3: 1.0, 0.4: 1.0}
_REFERENCE_SIZE, _REFERENCE_RANK = 100, 5


@dataclass(frozen=True)
class Config:
    """What is completed.

    Args:
        size: d of the square matrices of the diagram.
        ranks: r, ascending.
        shares: Of the entries that are observed, ascending.
        seeds: Matrices per rank and share.
        deep_steps: Of deep descent alone at most.
        nuclear_steps: Of the nuclear norm at most.
        reference_shares: Shares, of the five, at which the success at d = 100, r = 5 is counted.
        reference_seeds: Matrices per such share.
    """

    size: int = 30
    ranks: tuple[int, ...] = (1, 2, 4)
    shares: tuple[float, ...] = (0.2, 0.35, 0.5, 0.7)
    seeds: tuple[int, ...] = (0, 1)
    deep_steps: int = 1500
    nuclear_steps: int = 500
    reference_shares: tuple[float, ...] = (0.25, 0.4)
    reference_seeds: tuple[int, ...] = (100, 101, 102)


_ALL = {"reference_shares": tuple(_REFERENCE), "reference_seeds": tuple(range(100, 120))}
PRESETS = {
    "smoke": Config(),
    "quick": Config(50, (1, 2, 3, 5, 8), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0, 1), 3000, 1000, **_ALL),
    "paper": Config(
        100,
        (1, 2, 3, 5, 7, 10, 14, 20),
        (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7),
        tuple(range(10)),
        30_000,
        10_000,
        **_ALL,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every method on every matrix of the diagram, then the success at the reference's sizes."""
    places = product(config.ranks, config.shares, config.seeds)
    drawn = [Matrix(config.size, rank, share, "factors", seed) for rank, share, seed in places]
    budget = (config.deep_steps, config.nuclear_steps)
    rows = sweep(recover, [Case(matrix, method, *budget) for matrix, method in product(drawn, methods())])
    cells = _cells(rows)
    fixed = product(config.reference_shares, config.reference_seeds)
    drawn = [Matrix(_REFERENCE_SIZE, _REFERENCE_RANK, share, "factors", seed) for share, seed in fixed]
    known = sweep(recover, [Case(matrix, OURS, *budget) for matrix in drawn])
    success = _success(known, config)
    tables = {
        "completions": table_of(rows),
        "diagram": table_of(cells),
        "methods": table_of(_totals(rows)),
        "d = 100, r = 5": table_of(success),
    }
    claims = (*_diagram_claims(rows, cells), *_reference_claims(success))
    return Findings(claims, _answer(rows, success), tables, _panels(config))


def _cells(rows: Sequence[Row]) -> list[Row]:
    found = []
    for method, rank, share in dict.fromkeys((row["method"], row["rank"], row["share"]) for row in rows):
        some = [row for row in rows if (row["method"], row["rank"], row["share"]) == (method, rank, share)]
        line = {
            "method": method,
            "rank": rank,
            "share": share,
            "freedom per entry": mean(_of(some, "freedom per entry")),
        }
        found.append(line | {"recovered": mean(_of(some, "recovered"))})
    return found


def _totals(rows: Sequence[Row]) -> list[Row]:
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        some = [row for row in rows if row["method"] == method]
        line = {"method": method, "recovered": sum(_of(some, "recovered")), "of": len(some)}
        found.append(line | {"CPU (s) where recovered": _mean([row["CPU (s)"] for row in some if row["recovered"]])})
    return found


def _of(rows: Sequence[Row], column: str) -> list[float]:
    return [float(row[column]) for row in rows]


def _mean(numbers: Sequence[float]) -> float | None:
    return mean(numbers) if numbers else None


def _success(rows: Sequence[Row], config: Config) -> list[Row]:
    found = []
    for share in config.reference_shares:
        errors = [row["error"] for row in rows if row["share"] == share]
        line: Row = {"share": share, "recovered": mean(float(error < RECOVERED) for error in errors)}
        spent = mean(row["CPU (s)"] for row in rows if row["share"] == share)
        found.append(line | {"reference": _REFERENCE.get(share), "matrices": len(errors), "CPU (s)": spent})
    return found


def _diagram_claims(rows: Sequence[Row], cells: Sequence[Row]) -> list[Claim]:
    totals = {line["method"]: line["recovered"] / line["of"] for line in _totals(rows)}
    grid = {(cell["method"], cell["rank"], cell["share"]): cell["recovered"] for cell in cells}
    pairs = (
        ("told", OURS, TOLD, _BEYOND),
        ("nuclear", OURS, NUCLEAR, _BEYOND),
        ("descent", DEEP, NUCLEAR, _SOURCE),
    )
    claims = [
        Claim(
            id=f"P8.recovers.{name}",
            statement=f"{first} recovers no fewer matrices than {second}: lead in the share recovered",
            source=source,
            expected=0.0,
            observed=totals[first] - totals[second],
            relation=">=",
            note=f"{totals[first]:.3f} and {totals[second]:.3f} over {len(grid) // len(totals)} cells",
        )
        for name, first, second, source in pairs
    ]
    leads = {
        (rank, share): value - max(grid[method, rank, share] for method in totals)
        for (first, rank, share), value in grid.items()
        if first == OURS
    }
    worst = min(leads, key=leads.__getitem__)
    return [
        *claims,
        Claim(
            id="P8.recovers.everywhere",
            statement=f"{OURS} recovers as much as any method at every rank and share: lead in the worst cell",
            source=_BEYOND,
            expected=0.0,
            observed=leads[worst],
            relation=">=",
            note=f"rank {worst[0]}, share {worst[1]:g}; behind in {sum(v < 0 for v in leads.values())} of {len(leads)}",
        ),
    ]


def _reference_claims(rows: Sequence[Row]) -> list[Claim]:
    return [
        Claim(
            id=f"P8.success.p={row['share']:g}",
            statement=f"Without the rank it recovers matrices of d = 100, r = 5 from {row['share']:.0%} of the entries",
            source=_BEYOND,
            expected=row["reference"],
            observed=row["recovered"],
            relation=">=",
            note=f"share of {row['matrices']} matrices with an error below {RECOVERED:g}",
        )
        for row in rows
        if row["reference"] is not None
    ]


def _answer(rows: Sequence[Row], success: Sequence[Row]) -> str:
    counts = "; ".join(f"{line['method']}: {line['recovered']:.0f} of {line['of']}" for line in _totals(rows))
    found = ", ".join(f"{row['recovered']:.0%} at {row['share']:.0%}" for row in success)
    return f"Matrices recovered over the diagram: {counts}. At d = 100, r = 5 without the rank: {found} observed."


def _panels(config: Config) -> tuple[Panel, ...]:
    return (
        Panel(
            kind="matrix",
            title="Recovery over rank and share observed",
            caption=f"Share of matrices with an error below {RECOVERED:g}; d = {config.size}, Gaussian factors, "
            f"{len(config.seeds)} matrices a cell, every method until it stops on observed entries.",
            table="diagram",
            x="share",
            y="rank",
            value="recovered",
            facet="method",
        ),
        Panel(
            kind="scatter",
            title="Recovery over degrees of freedom per observed entry",
            caption="Every cell a point; at 1 there are as many unknowns as entries.",
            table="diagram",
            x="freedom per entry",
            y="recovered",
            color="method",
            x_scale="log",
        ),
        Panel(
            kind="scatter",
            title="Time by error",
            caption="Every matrix a point, CPU seconds; 10^6 stands for values that left the numbers.",
            table="completions",
            x="error",
            y="CPU (s)",
            color="method",
            x_scale="log",
            y_scale="log",
        ),
    )


EXPERIMENT = Study(entry("completion-phases"), PRESETS, investigate)
