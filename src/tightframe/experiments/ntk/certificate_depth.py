"""K4: certificates shrink with depth, what depth a pair of curves asks for, and what they say of the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.ntk.certificate_claims import (
    curvature_claim,
    error_claims,
    law_claims,
    norm_claims,
    rule_claims,
)
from tightframe.experiments.ntk.certificate_panels import PANELS
from tightframe.experiments.ntk.certificate_runs import (
    RULE,
    DecayCell,
    NormCell,
    Row,
    WavyCell,
    bent,
    cheapest,
    decay,
    norm,
)
from tightframe.experiments.ntk.curve_pairs import KINDS, CurvePair
from tightframe.experiments.ntk.scaling import parallel_optimum
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import table_of

# Those of the published table.
_DEPTHS = (1, 2, 5, 10, 25, 50, 125, 250, 500)


@dataclass(frozen=True)
class Config:
    """What is solved.

    Args:
        separations: Of the coaxial circles whose norms are followed over `depths`.
        depths: Ascending.
        points: On every circle.
        pairs: Separations of the pairs of every kind whose least cost is looked for; small ones, as at 0.2 and above a
            depth of one or two can win.
        kinds: Of these pairs.
        density: Of their points.
        followed: Depths at which errors are followed over time, for every one of `separations`.
        times: Ascending.
        waves: Of the wavy circles.
    """

    separations: tuple[float, ...] = (0.8, 0.4, 0.2, 0.1, 0.05)
    depths: tuple[int, ...] = _DEPTHS
    points: int = 400
    pairs: tuple[float, ...] = (0.1,)
    kinds: tuple[str, ...] = KINDS
    density: float = 8.0
    followed: tuple[int, ...] = (2, 10, 50, 250)
    times: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
    waves: tuple[int, ...] = (0, 3, 6, 12)

    def __post_init__(self) -> None:
        if len(self.depths) < 2 or min(self.followed) < 2:
            raise InputError(
                "two depths or more, and errors followed from depth 2 on",
                got=f"depths {self.depths}, followed {self.followed}",
                remedy="At depth 1 the rate L log L / t is zero.",
            )


PRESETS = {
    "smoke": Config(),
    "quick": Config(pairs=(0.1, 0.05), density=10.0),
    "paper": Config(pairs=(0.1, 0.05, 0.025), points=1600, density=6.0),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Norms over depth, then the depth of least cost kind by kind, then errors over time."""
    cells = [NormCell(apart, depth, config.points) for apart in config.separations for depth in config.depths]
    norms = sweep(norm, cells)
    costs = sweep(cheapest, [CurvePair(kind, apart, config.density) for apart in config.pairs for kind in config.kinds])
    decays = sweep(
        decay,
        [
            DecayCell(apart, depth, config.points, config.times)
            for apart in config.separations
            for depth in config.followed
        ],
    )
    wavy = sweep(bent, [WavyCell(waves, depth, config.points) for waves in config.waves for depth in config.depths])
    best = [next(row for row in rows if row["cost over least"] == 1.0) for rows in costs]
    rule = [min(rows, key=lambda row: abs(row["depth times separation"] - RULE)) for rows in costs]
    followed = [row for rows in decays for row in rows]
    tables = {
        "norms": table_of(norms),
        "costs": table_of([row for rows in costs for row in rows]),
        "least": table_of([_least(*both) for both in zip(best, rule, strict=True)]),
        "errors": table_of(followed),
        "wavy circles": table_of(wavy),
    }
    claims = (
        *norm_claims(norms),
        *rule_claims(best),
        *law_claims(best, rule, [row for rows in costs for row in rows]),
        *error_claims(followed),
        curvature_claim(wavy),
    )
    return Findings(claims, _answer(best, rule), tables, PANELS)


def _least(best: Row, rule: Row) -> Row:
    kept = ("curves", "parallel", "separation", "depth", "depth times separation", "cost times separation over length")
    return {name: best[name] for name in kept} | {"cost of the rule": rule["cost over least"]}


def _answer(best: Sequence[Row], rule: Sequence[Row]) -> str:
    places = {
        parallel: [row["depth times separation"] for row in best if row["parallel"] is parallel]
        for parallel in (True, False)
    }
    said = "; ".join(
        f"{name} {min(found):.2g} to {max(found):.2g}"
        for name, found in (("at constant distance", places[True]), ("others", places[False]))
        if found
    )
    worst = max(row["cost over least"] for row in rule)
    return (
        f"Norms fall with depth. Depth times norm is least at these multiples of one over the separation: {said}; "
        f"theory for parallel curves says {parallel_optimum()[0]:.2f}. The minimum is flat: 5.5 costs at most "
        f"{100 * (worst - 1):.1f} per cent more than the best depth."
    )


EXPERIMENT = Study(entry("certificate-depth"), PRESETS, investigate)
