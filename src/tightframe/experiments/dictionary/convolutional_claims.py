"""Claims about kernels from fourth powers: recovery, starts, the region and its landscape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from tightframe.experiments.dictionary.circulant_runs import NEAR
from tightframe.experiments.dictionary.circulant_scenes import Row
from tightframe.runs.record import Claim, Relation

THREE = 3
"""Kernels in the sets that the claims are about, as in the figure of the source."""
_SOURCE = "Q21, convolutional dictionary learning"
_BEYOND = "beyond the sources: the bilinear Lasso from where fourth powers end"
# A start that is a column already may end at a column of the sample's objective, which is off by its sampling error:
# this share of its depth.
_OFF = 0.05
# The share of starts that may fail where the theory promises success with high probability.
_SELDOM = 0.05
# What the refinement should reach: some times its penalty of 0.05 over the square root of the number of events.
_FINE = 0.01


def claims_of(rows: Mapping[str, Sequence[Row]]) -> tuple[Claim, ...]:
    """All claims, from the tables of sets of three kernels."""
    return (*_recovery_claims(rows), *_start_claims(rows), *_landscape_claims(rows))


def _recovery_claims(rows: Mapping[str, Sequence[Row]]) -> list[Claim]:
    alone, deflated, last = (
        [row for row in rows["kernels"] if row["state"] == state] for state in ("trials", "deflation", "refined")
    )
    what = f"{len(alone)} kernels, {len(alone) // THREE} sets of three"
    return [
        _claim(
            "D6.kernels",
            "Three random filters are recovered up to shift and sign: least |cosine|, fourth powers alone",
            (min(row["similarity"] for row in deflated), ">=", 1 - NEAR),
            f"{what}; samples as starts, kernels found are deflated",
        ),
        _claim(
            "D6.kernels.trials",
            "Independent trials find all of them: share of kernels",
            (sum(row["similarity"] >= 1 - NEAR for row in alone) / len(alone), ">=", 1.0),
            f"{what}; kernels of smaller preconditioned norm attract fewer starts",
        ),
        _claim(
            "D6.refined",
            "The bilinear Lasso that starts there removes the bias of fourth powers: largest error",
            (max(row["error"] for row in last), "<=", _FINE),
            what,
            source=_BEYOND,
        ),
    ]


def _start_claims(rows: Mapping[str, Sequence[Row]]) -> list[Claim]:
    kinds = {kind: [row for row in rows["starts"] if row["start"] == kind] for kind in ("data", "random")}
    data = kinds["data"]
    share = {kind: sum(row["found"] for row in some) / len(some) for kind, some in kinds.items()}
    steps = {kind: _median_steps(some) for kind, some in kinds.items()}
    note = f"{len(data)} starts of either kind; random ones: {share['random']:.3f}"
    return [
        _claim(
            "D6.start",
            "From a preconditioned sample, one shift of one kernel is found: share of starts",
            (share["data"], ">=", 1.0, _SELDOM),
            note,
        ),
        _claim(
            "D6.start.depth",
            "A sample is deeper in the region than a random point: ratio of median depths",
            (_ratio(data, kinds["random"], "depth"), ">=", 1.0),
            note,
        ),
        _claim(
            "D6.start.steps",
            "From a sample fewer iterations are needed than from a random point: ratio of median numbers",
            (steps["data"] / max(steps["random"], 1.0), "<=", 1.0),
            f"{steps['data']:g} and {steps['random']:g} iterations to 1 - |cosine| <= {NEAR:g}; inf where none arrive",
        ),
        _claim(
            "D6.region",
            "All future iterates stay in the region of the start: least depth later, over that of the start",
            (min(row["least depth later"] for row in data), ">=", 1.0, _OFF),
            f"{len(data)} paths; depth is |A^T q|_4^4 / (mu^(2/3) |A^T q|_3^2)",
        ),
    ]


def _landscape_claims(rows: Mapping[str, Sequence[Row]]) -> list[Claim]:
    data = [row for row in rows["starts"] if row["start"] == "data"]
    ends = [row["curvature at the end"] for row in data if row["found"]]
    points = [row for row in rows["critical points"] if row["in the region"]]
    saddles = sum(row["kind"] == "strict saddle" for row in points)
    return [
        _claim(
            "D6.landscape",
            "Every critical point in the region is near a column or a strict saddle: exceptions",
            (sum(row["kind"] == "other" for row in points) if points else None, "<=", 0),
            f"{len(points)} found by Newton's method, {saddles} of them strict saddles"
            if points
            else "needs searched > 0 and a search that converges",
        ),
        _claim(
            "D6.landscape.paths",
            "Every iterate is near a column, or has negative curvature or a slope: exceptions",
            (sum(row["of no kind"] for row in data), "<=", 0),
            f"{len(data)} paths from samples",
        ),
        _claim(
            "D6.landscape.ends",
            "Where a column is found the landscape is strongly convex: least curvature over the objective",
            (min(ends, default=None), ">=", 0.0),
            f"{len(ends)} ends" if ends else "no start found a column",
        ),
    ]


def _median_steps(rows: Sequence[Row]) -> float:
    return float(median(float("inf") if row["steps"] is None else row["steps"] for row in rows))


def _ratio(first: Sequence[Row], second: Sequence[Row], name: str) -> float:
    return median(row[name] for row in first) / median(row[name] for row in second)


def _claim(
    name: str, statement: str, numbers: tuple[float | None, Relation, float, *tuple[float, ...]], note: str, **more: str
) -> Claim:
    """A claim from (observed, relation, expected) and, where there is one, its tolerance."""
    observed, relation, expected, *slack = numbers
    return Claim(
        id=name,
        statement=statement,
        source=more.get("source", _SOURCE),
        expected=expected,
        observed=observed,
        relation=relation,
        tolerance=slack[0] if slack else 0.0,
        note=note,
    )
