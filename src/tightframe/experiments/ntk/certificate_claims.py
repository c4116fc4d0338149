"""What is claimed of certificates, from the rows that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tightframe.experiments.ntk.certificate_runs import RULE, Row
from tightframe.experiments.ntk.scaling import parallel_optimum
from tightframe.runs.record import Claim

_SOURCE = "L4, certificates from depth"
_LEMMA = "L4, lemma: the error decays as L log L / t"
_REFERENCE = "norms computed independently for coaxial circles, three digits"
_BEYOND = "beyond the sources: the limit of great depth at L times the separation fixed"

_DEPTHS = (1, 2, 5, 10, 25, 50, 125, 250, 500)
_PUBLISHED = {
    0.8: (10.6, 6.12, 3.23, 2.14, 1.34, 0.998, 0.723, 0.587, 0.480),
    0.4: (34.9, 17.6, 7.42, 4.04, 2.01, 1.32, 0.868, 0.674, 0.534),
    0.2: (129.0, 56.8, 20.1, 9.28, 3.60, 2.00, 1.12, 0.811, 0.612),
    0.1: (468.0, 192.0, 60.7, 24.8, 7.84, 3.64, 1.66, 1.07, 0.745),
    0.05: (1700.0, 669.0, 195.0, 73.6, 20.0, 8.00, 2.88, 1.59, 0.98),
}
# Half a unit of the third digit of 10.6, and of 1.00.
_DIGITS = 0.005
# Between these, in units of the separation, lies the least cost of coaxial circles in the reference.
_RANGE = (4.0, 7.0)


def norm_claims(rows: Sequence[Row]) -> list[Claim]:
    """Norms of the published table, and that they fall."""
    known = {
        (apart, depth): value
        for apart, values in _PUBLISHED.items()
        for depth, value in zip(_DEPTHS, values, strict=True)
    }
    beside = [(row["norm"], known.get((row["separation"], row["depth"]))) for row in rows]
    shared = [abs(found / value - 1) for found, value in beside if value is not None]
    grown = [
        after["norm"] / before["norm"]
        for before, after in pairwise(rows)
        if before["separation"] == after["separation"]
    ]
    return [
        Claim(
            id="K4.norms",
            statement="Norms of certificates of coaxial circles are those of the table: largest relative difference",
            source=_REFERENCE,
            expected=0.0,
            observed=max(shared, default=None),
            tolerance=_DIGITS,
            note=f"{len(shared)} pairs of separation and depth" if shared else "needs a pair of the table",
        ),
        Claim(
            id="K4.depth",
            statement="Deeper networks admit smaller certificates: largest ratio of a norm to that of the depth before",
            source=_SOURCE,
            expected=1.0,
            observed=max(grown),
            note=f"{len(grown)} steps of depth",
        ),
    ]


def rule_claims(best: Sequence[Row]) -> list[Claim]:
    """Where the depth of least cost lies, kind by kind."""
    middle, half = sum(_RANGE) / 2, (_RANGE[1] - _RANGE[0]) / 2
    claims = []
    for name, parallel, what in (
        ("parallel", True, "curves at constant distance"),
        ("others", False, "curves that come near at some places only"),
    ):
        some = [row for row in best if row["parallel"] is parallel]
        found = [row["depth times separation"] for row in some]
        seen = ", ".join(f"{row['curves']} {row['depth times separation']:.2g}" for row in some)
        claims.append(
            Claim(
                id=f"K4.rule.{name}",
                statement=f"L ||g|| is least between 4 and 7 over the separation, {what}: largest distance from 5.5",
                source="the reference's rule for coaxial circles, on other curves",
                expected=0.0,
                observed=max((abs(value - middle) for value in found), default=None),
                tolerance=half,
                note=seen or "needs such curves",
            )
        )
    return claims


def law_claims(best: Sequence[Row], rule: Sequence[Row], rows: Sequence[Row]) -> list[Claim]:
    """What the limit of great depth says of parallel and of other curves, and what the rule costs."""
    parallel = [row for row in best if row["parallel"]]
    limit = parallel_optimum()[1]
    nearest = min((row["separation"] for row in parallel), default=0.0) * 1.2
    ratios = [row["cost times separation over length"] / limit for row in parallel if row["separation"] <= nearest]
    deep = [row for row in rows if row["depth times separation"] >= 4]
    local, ends = ([row["norm over local law"] for row in deep if row["closed"] is closed] for closed in (True, False))
    furthest = max(local, key=lambda ratio: abs(ratio - 1), default=None)
    return [
        Claim(
            id="K4.rule.cost",
            statement="Taking 5.5 over the separation costs little on any curves: L ||g|| there over the least",
            source="beyond the sources",
            expected=1.1,
            observed=max(row["cost over least"] for row in rule),
            note=f"{len(rule)} pairs",
        ),
        Claim(
            id="K4.limit",
            statement=f"The least L ||g|| of parallel curves is {limit:.4g} times length over separation",
            source=_BEYOND,
            expected=1.0,
            observed=max(ratios, key=lambda ratio: abs(ratio - 1), default=None),
            relation="==",
            tolerance=0.06,
            note="the smallest separation of every kind" if ratios else "needs parallel curves",
        ),
        Claim(
            id="K4.local",
            statement="Distances to the other class alone give the norm of closed curves: norm over prediction",
            source=_BEYOND,
            expected=1.0,
            observed=furthest,
            relation="==",
            tolerance=0.1,
            note=f"{len(local)} norms from a depth of 4 over the separation on; the ends of open curves add to theirs, "
            f"up to a ratio of {max(ends):.3g}"
            if local and ends
            else f"{len(local)} norms, and {len(ends)} of open curves",
        ),
    ]


def error_claims(rows: Sequence[Row]) -> list[Claim]:
    """Errors over time beside both bounds."""
    deep = [row for row in rows if row["depth"] * row["separation"] >= RULE / 1.2]
    shallow = max(row["error over L log L / t"] for row in rows)
    return [
        Claim(
            id="K4.bound",
            statement="The error is at most ||g|| / (e t) plus the residual: largest share of the bound",
            source="elementary: lambda exp(-lambda t) is at most 1 / (e t)",
            expected=1.0,
            observed=max(row["error over bound"] for row in rows),
            # Lanczos' method stops at 1e-8.
            tolerance=1e-7,
            note=f"{len(rows)} errors of the linear dynamics",
        ),
        Claim(
            id="K4.rate",
            statement="The error is at most L log L / t where the depth suits the separation: largest share",
            source=_LEMMA,
            expected=1.0,
            observed=max((row["error over L log L / t"] for row in deep), default=None),
            note=f"at L of at least 4.6 over the separation; at all depths, {shallow:.3g}, n/2 = 1 in both",
        ),
    ]


def curvature_claim(rows: Sequence[Row]) -> Claim:
    """Norms of the curves that bend most over those that bend least, deepest against shallowest."""
    most, least = (pick(rows, key=lambda row: row["curvature"])["waves"] for pick in (max, min))
    norms = {(row["waves"], row["depth"]): row["norm"] for row in rows}
    shallow, deep = (norms[most, depth] / norms[least, depth] for depth in (rows[0]["depth"], rows[-1]["depth"]))
    return Claim(
        id="K4.curvature",
        statement="Depth takes away what curvature costs: ratio of norms, most to least bent, deepest over shallowest",
        source=_SOURCE,
        expected=0.5,
        observed=deep / shallow,
        note=f"the ratio falls from {shallow:.3g} to {deep:.3g}",
    )
