"""K1: separation, curvature, clover number and reach from samples, against curves of known geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.ntk.curve_pairs import PARALLEL
from tightframe.experiments.ntk.geometry_runs import (
    BENT,
    Row,
    Sampling,
    Winding,
    curvature_of,
    reach_of,
    separations_of,
    strands,
)
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L4, intrinsic structural properties"
_CLOSED_FORM = "closed form"


@dataclass(frozen=True)
class Config:
    """What is sampled.

    Args:
        counts: Points on a curve, ascending, each twice the one before.
        separations: Of pairs of curves.
        draws: Random samples of each kind.
        windings: p of the knots whose strands are counted, ascending.
        strand_points: Points on each turn of these.
    """

    counts: tuple[int, ...] = (100, 200, 400)
    separations: tuple[float, ...] = (0.4, 0.1)
    draws: int = 5
    windings: tuple[int, ...] = (1, 2, 3, 5, 9)
    strand_points: int = 100

    def __post_init__(self) -> None:
        if len(self.counts) < 2 or min(self.counts) < 20 or self.draws < 1 or min(self.windings) < 1:
            raise InputError(
                "two numbers of points of 20 or more, a draw and windings of at least 1",
                got=f"counts {self.counts}, {self.draws} draws, windings {self.windings}",
                remedy="Use (100, 200, 400) points.",
            )


PRESETS = {
    "smoke": Config(),
    "quick": Config((100, 200, 400, 800, 1600), (0.4, 0.2, 0.1, 0.05), 15, (1, 2, 3, 5, 9, 17), 200),
    "paper": Config((100, 200, 400, 800, 1600, 3200), (0.4, 0.2, 0.1, 0.05, 0.025), 50, (1, 2, 3, 5, 9, 17, 33), 200),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every estimate against its closed form."""
    pairs = [
        Sampling(kind, apart, count, config.draws)
        for kind in PARALLEL
        for apart in config.separations
        for count in config.counts
    ]
    bent = [Sampling(name, 0.0, count, 1) for name in BENT for count in config.counts]
    reached = [
        Sampling(name, apart, count, config.draws)
        for name, apart in (("circle", 0.0), *((f"circles {apart:g} apart", apart) for apart in config.separations))
        for count in config.counts
    ]
    apart = [row for rows in sweep(separations_of, pairs) for row in rows]
    curved = sweep(curvature_of, bent)
    clover = [
        row for rows in sweep(strands, [Winding(p, config.strand_points) for p in config.windings]) for row in rows
    ]
    reaches = [row for rows in sweep(reach_of, reached) for row in rows]
    tables = {
        "separation": table_of(apart),
        "curvature": table_of(curved),
        "clover number": table_of(clover),
        "reach": table_of(reaches),
    }
    most = max(config.counts)
    claims = (
        *_separation_claims(apart),
        *_curvature_claims([row for row in curved if row["points"] == most]),
        _clover_claim(clover),
        *_reach_claims([row for row in reaches if row["points"] == most]),
    )
    return Findings(claims, _answer(claims), tables, _PANELS)


def _separation_claims(rows: Sequence[Row]) -> list[Claim]:
    column = "excess over gap^2 / (2 separation)"
    return [
        Claim(
            id="K1.separation.above",
            statement="The separation of samples is at least that of the curves: least excess",
            source=_CLOSED_FORM,
            expected=0.0,
            observed=min(row["least excess"] for row in rows),
            relation=">=",
            # Rounding of unit vectors over the least separation.
            tolerance=1e-13,
            note=f"{len(rows)} cases",
        ),
        Claim(
            id="K1.separation.excess",
            statement="It exceeds it by at most the square of the gap over twice the separation: largest share",
            source=_SOURCE,
            expected=1.0,
            observed=max(row[column] for row in rows),
            note="largest of even samples half a gap apart, and of medians of random ones, "
            + ", ".join(
                f"{max(row[column] for row in rows if row['samples'] == kind):.3g}"
                for kind in ("half a gap apart", "random")
            ),
        ),
    ]


def _curvature_claims(rows: Sequence[Row]) -> list[Claim]:
    closed, opened = ([row for row in rows if row["closed"] is kind] for kind in (True, False))
    return [
        Claim(
            id=f"K1.curvature.{name}",
            statement=f"The largest curvature of {name} curves is that of the closed form: largest relative error",
            source=_CLOSED_FORM,
            expected=0.0,
            observed=max(row["error"] for row in some),
            tolerance=tolerance,
            note=", ".join(f"{row['curve']} {row['error']:.1e}" for row in some),
        )
        # Rounding times the square of the highest frequency; and the last gap over the scale of the spiral's inner end.
        for name, some, tolerance in (("closed", closed, 1e-8), ("open", opened, 0.05))
    ]


def _clover_claim(rows: Sequence[Row]) -> Claim:
    return Claim(
        id="K1.clover",
        statement="The clover number counts the other strands of a knot that winds p times: largest difference",
        source=_CLOSED_FORM,
        expected=0.0,
        observed=float(max(abs(row["known"] - row["found"]) for row in rows)),
        note=f"{len(rows)} cases, up to {max(row['found'] for row in rows)} strands",
    )


def _reach_claims(rows: Sequence[Row]) -> list[Claim]:
    kinds = (("even, ordered", 1e-8), ("random, ordered", 1e-2), ("random, points alone", 1e-2))
    return [
        Claim(
            id=f"K1.reach.{kind.replace(',', '').replace(' ', '-')}",
            statement=f"Half of the distance of parallel circles, or the radius of one, {kind}: largest relative error",
            source=_CLOSED_FORM,
            expected=0.0,
            observed=max(row["largest error"] for row in rows if row["samples"] == kind),
            tolerance=tolerance,
            note=f"{rows[0]['points']} points on a curve",
        )
        for kind, tolerance in kinds
    ]


def _answer(claims: Sequence[Claim]) -> str:
    held = sum(claim.verdict == "passed" for claim in claims)
    open_curves = next(claim for claim in claims if claim.id == "K1.curvature.open")
    return (
        f"{held} of {len(claims)} agreements hold. The largest curvature of an open curve that bends most at its end "
        f"is the least exact of the estimates, at a relative error of {open_curves.observed:.2g}."
    )


_PANELS = (
    Panel(
        kind="curves",
        title="Excess of the sampled separation",
        caption="Over the square of the gap by twice the separation. Random samples find nearer pairs than even ones "
        "half a gap apart.",
        table="separation",
        x="points",
        y="excess over gap^2 / (2 separation)",
        color="separation",
        facet="curves",
        where={"samples": "half a gap apart"},
        x_scale="log",
    ),
    Panel(
        kind="curves",
        title="Error of the largest curvature",
        caption="Closed curves are differentiated by FFT, down to rounding, open ones by circles through three points.",
        table="curvature",
        x="points",
        y="error",
        color="curve",
        x_scale="log",
    ),
    Panel(
        kind="scatter",
        title="Strands that the clover number counts",
        caption="Knots that wind p times. Dashes: the strands that are near, in closed form.",
        table="clover number",
        x="windings",
        y="found",
        color="scales",
        reference="known",
    ),
    Panel(
        kind="curves",
        title="Error of the reach",
        caption="Relative, medians over draws, by what is known of the samples.",
        table="reach",
        x="points",
        y="error",
        color="samples",
        facet="curves",
        x_scale="log",
        y_scale="log",
    ),
)

EXPERIMENT = Study(entry("curve-geometry"), PRESETS, investigate)
