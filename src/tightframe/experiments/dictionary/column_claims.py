"""Claims on fourth powers on the sphere, from what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tightframe.experiments.dictionary.l4_landscapes import EXACT, NEAR, Row
from tightframe.experiments.dictionary.power_laws import log_slope, root_mean_square
from tightframe.runs.record import Claim

_TALK = "Q21, first half"
_MSP = "Zhai et al. 2020, algorithm 1"
_BEYOND = "beyond the sources"
# Pooled over all draws, what is fitted may be off by four of its standard errors.
_STANDARD_ERRORS = 4.0


def start_claims(ends: Sequence[Row], strict: Sequence[Row]) -> list[Claim]:
    """D1: one column from any start, how near, and exactly after refinement."""
    claims = []
    for method in dict.fromkeys(row["method"] for row in ends):
        rows = [row for row in ends if row["method"] == method]
        share = min(row["share within 1e-2"] for row in rows)
        starts = sum(row["starts"] for row in rows)
        what = f"Least share of random starts that end within 1 - |cosine| = 1e-2 of a column, {method}"
        note = f"{starts} starts over {len(rows)} draws of orthogonal dictionaries{_short_of_samples(rows)}"
        claims.append(_claim(f"D1.start.{method}", what, share, note, expected=1.0, relation=">="))
    row = strict[0]
    note = f"{row['starts']} starts, n = {row['n']}, p = {row['p']}; root mean square {row['distance']:.1e}"
    what = "Share of random starts that end within distance 1e-2 of a column, with as many samples as that takes"
    share = row["share within distance 1e-2"]
    claims.append(_claim("D1.distance", what, share, note, expected=1.0, relation=">="))
    some = [row for row in (*ends, *strict) if row["method"] == "power"]
    ratio = root_mean_square([row["distance"] / row["predicted distance"] for row in some])
    what = "Distance of these ends over (5 (n - 1) / (3 p))^(1/2) / (1 - theta), root mean square"
    claims.append(
        _claim("D1.law", what, ratio, f"{len(some)} draws", source=_BEYOND, expected=1.0, tolerance=0.15, relation="==")
    )
    worst = max(row["distance, refined"] for row in (*ends, *strict))
    what = "Largest distance of a column from its refinement, a fixed point of thresholding"
    claims.append(_claim("D1.refined", what, worst, f"{len(ends) + 1} draws", source=_BEYOND, tolerance=1e-8))
    return claims


def basis_claims(bases: Sequence[Row], exact: Sequence[Row]) -> list[Claim]:
    """D1: the whole orthogonal dictionary, and from how few samples on it is exact."""
    note = f"{len(bases)} draws, no noise; largest l4 score {max(row['l4 score'] for row in bases):.1e}"
    least = min(row["columns within 1e-2"] for row in bases)
    what = "Least share of columns that matching, stretching and projection finds to 1 - |cosine| = 1e-2"
    claims = [_claim("D1.basis", what, least, note, source=_MSP, expected=1.0, relation=">=")]
    worst = max(row["l4 score, refined"] for row in bases)
    claims.append(
        _claim("D1.exact", "Largest l4 score of these after refinement", worst, note, source=_BEYOND, tolerance=EXACT)
    )
    largest = max(row["n"] for row in exact)
    few = [row for row in exact if (row["n"], row["p"], row["theta"]) == (largest, 10 * largest, 0.1)]
    shares = {powers: _share([row for row in few if row["powers"] == powers]) for powers in ("l3", "l4")}
    drawn = f"{len(few) // 2} draws each, n = {largest}, p = 10 n, theta = 0.1"
    what = "Share of bases recovered exactly from p = 10 n samples, third powers first"
    claims.append(_claim("D1.few", what, shares["l3"], drawn, source=_BEYOND, expected=0.9, relation=">="))
    gain = None if None in shares.values() else shares["l3"] - shares["l4"]
    what = "Share recovered exactly after third powers less that after fourth powers, p = 10 n"
    claims.append(_claim("D1.third", what, gain, drawn, source=_BEYOND, relation=">="))
    return claims


def moment_claims(averages: Sequence[Row]) -> list[Claim]:
    """D2: expectation, rate and constants."""
    counts = sorted({row["p"] for row in averages})
    errors = [
        root_mean_square([_off(row) / row["p"] ** 0.5 for row in averages if row["p"] == count]) for count in counts
    ]
    ratio = root_mean_square([_off(row) for row in averages])
    note = f"{len(averages)} averages, p from {counts[0]} to {counts[-1]}"
    what = "Power of p with which the error of an average, in standard deviations of one sample, falls"
    slope = log_slope(counts, errors)
    claims = [_claim("D2.rate", what, slope, note, expected=-0.5, tolerance=0.05, relation="==")]
    what = "Error of an average over its standard deviation in closed form, root mean square"
    claims.append(_claim("D2.error", what, ratio, note, source=_BEYOND, expected=1.0, tolerance=0.1, relation="=="))
    for codes in dict.fromkeys(row["codes"] for row in averages):
        rows = [row for row in averages if row["codes"] == codes]
        fitted, errors = _constants(rows)
        for name, value, error in zip(("c1", "c2"), fitted, errors, strict=True):
            note = f"{name} = {value:.5g} +- {error:.1g} from {len(rows)} averages, {rows[0][name]:.5g} in closed form"
            what = f"Fitted {name} less its closed form, in standard errors, {codes} codes"
            off = abs(value - rows[0][name]) / error
            claims.append(_claim(f"D2.{name}.{codes}", what, off, note, expected=_STANDARD_ERRORS))
    return claims


def point_claims(points: Sequence[Row], covered: Sequence[float]) -> list[Claim]:
    """D3: columns and strict saddles alone, in the largest dimension, where m / n is one of `covered`."""
    largest = max(row["n"] for row in points)
    claims = []
    for frame in dict.fromkeys(row["frame"] for row in points):
        for ratio in covered:
            # m is rounded to a whole number.
            rows = [
                row
                for row in points
                if row["frame"] == frame and row["n"] == largest and row["m"] == round(ratio * largest)
            ]
            if not rows:
                continue
            found = [row for row in rows if row["kind"] != "not converged"]
            near = sum(row["kind"] == "column" for row in found)
            other = sum(row["kind"] == "other" for row in found)
            note = (
                f"{len(found)} points of {sum(row['starts'] for row in rows)} starts: {near} within {NEAR} of one, "
                f"{len(found) - near - other} strict saddles; coherence {rows[0]['coherence']:.2f}"
            )
            what = f"Critical points that are neither, {frame}, n = {largest}, m = {ratio:g} n"
            claims.append(_claim(f"D3.{frame}.m{ratio:g}n", what, other, note))
    return claims


def _constants(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """c1 and c2 by weighted least squares, and their standard errors."""
    design = torch.tensor([[row["l4 part"], row["l2 part"]] for row in rows], dtype=torch.float64)
    deviations = torch.tensor([row["deviation"] for row in rows], dtype=torch.float64)
    measured = torch.tensor([row["measured"] for row in rows], dtype=torch.float64)
    covariance = torch.linalg.inv((design / deviations[:, None]).T @ (design / deviations[:, None]))
    fitted = covariance @ (design / deviations[:, None]).T @ (measured / deviations)
    return fitted.tolist(), covariance.diagonal().sqrt().tolist()


def _off(row: Row) -> float:
    """Average less expectation in standard deviations."""
    return (row["measured"] - row["expected"]) / row["deviation"]


def _short_of_samples(rows: Sequence[Row]) -> str:
    """Where not all starts end as near as asked: how far off the columns typically are in a sample of that size."""
    few = {(row["n"], row["p"]): row["predicted distance"] for row in rows if row["share within 1e-2"] < 1}
    if not few:
        return ""
    told = ", ".join(f"{distance:.2f} for n = {n}, p = {p}" for (n, p), distance in few.items())
    return f"; a small sample moves its maxima, in root mean square by {told}, and some beyond the 0.14 asked"


def _share(rows: Sequence[Row]) -> float | None:
    return sum(row["exact"] for row in rows) / len(rows) if rows else None


def _claim(name: str, what: str, observed: float | None, note: str, *, source: str = _TALK, **expected) -> Claim:
    """By default a number that is zero."""
    return Claim(id=name, statement=what, source=source, observed=observed, note=note, **{"expected": 0.0} | expected)
