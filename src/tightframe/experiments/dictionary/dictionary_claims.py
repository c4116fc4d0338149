"""Claims on whole overcomplete dictionaries and on preconditioning, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tightframe.experiments.dictionary.l4_landscapes import Row
from tightframe.experiments.dictionary.power_laws import log_slope, root_mean_square
from tightframe.runs.record import Claim

_TALK = "Q21, first half"
_BEYOND = "beyond the sources"
# Densities up to which the fourth moment tells columns apart with the samples at hand.
_SPARSE = 0.3


def claims_of(
    limits: Sequence[Row], phase: Sequence[Row], plane: Sequence[Row], tight: Sequence[Row]
) -> tuple[Claim, ...]:
    """D4 from the limits of m, the phase transition up to the m claimed and that over (theta, p); D5 from the rest."""
    return (_order(limits), *_whole(phase), _samples(plane), *_tightness(tight))


def _order(limits: Sequence[Row]) -> Claim:
    enough = len(limits) > 1
    power = log_slope([row["n"] for row in limits], [row["m"] for row in limits]) if enough else None
    note = "; ".join(f"n = {row['n']}: m = {row['m']:.0f}, {row['m/n^2']:.2f} n^2" for row in limits)
    return Claim(
        id="D4.order",
        statement="Power of n with which m grows up to which half of the trials succeed, infinitely many samples",
        source=f"{_TALK}: in practice m of the order of n^2",
        expected=2.0,
        observed=power,
        relation=">=",
        tolerance=0.25,
        note=note or "the grid does not hold the limit",
    )


def _whole(phase: Sequence[Row]) -> list[Claim]:
    most = max(row["m/n"] for row in phase)
    drawn = f"{len(phase)} dictionaries, n = {phase[0]['n']}, m up to {most:g} n, {phase[0]['samples']}"
    claims = []
    for name, what, column, source in (
        ("trials", "m (log m + 3) independent trials", "found by trials", _TALK),
        ("deflation", "trials in rounds, with deflation", "found with deflation", _BEYOND),
    ):
        whole = sum(row[column] == 1 for row in phase)
        note = f"all of them in {whole} of {drawn}"
        if column == "found by trials" and whole < len(phase):
            note += f"; were all columns as likely, {math.exp(-3):.2f} of them would be missed in each"
        what = f"Columns found by {what}: least share"
        least = min(row[column] for row in phase)
        claims.append(
            Claim(
                id=f"D4.{name}", statement=what, source=source, expected=1.0, observed=least, relation=">=", note=note
            )
        )
    spent = [sum(row[column] for row in phase) for column in ("trials with deflation", "trials")]
    claims.append(
        Claim(
            id="D4.spent",
            statement="Trials that rounds with deflation take, as a share of m (log m + 3)",
            source=_BEYOND,
            expected=1.0,
            observed=spent[0] / spent[1],
            note=f"{spent[0]} beside {spent[1]}; {drawn}",
        )
    )
    return claims


def _samples(plane: Sequence[Row]) -> Claim:
    most = max(row["p"] for row in plane)
    some = [row for row in plane if row["p"] == most and row["theta"] <= _SPARSE]
    note = "; ".join(
        f"theta = {theta:g}: {_mean([row['share'] for row in plane if row['p'] == most and row['theta'] == theta]):.2f}"
        for theta in dict.fromkeys(row["theta"] for row in plane)
    )
    return Claim(
        id="D4.samples",
        statement=f"Trials that succeed with p = {most} samples: least mean share over theta up to {_SPARSE}",
        source=_TALK,
        expected=1.0,
        observed=min(
            (_mean([row["share"] for row in some if row["theta"] == theta]) for theta in {r["theta"] for r in some}),
            default=None,
        ),
        relation=">=",
        tolerance=0.05,
        note=note,
    )


def _tightness(tight: Sequence[Row]) -> list[Claim]:
    counts = sorted({row["p"] for row in tight})
    deviations = [root_mean_square([row["deviation"] for row in tight if row["p"] == p]) for p in counts]
    last = [row for row in tight if row["p"] == counts[-1]]
    ratio = root_mean_square([row["deviation, Frobenius"] / row["predicted"] for row in last])
    note = f"{len(tight)} draws, p from {counts[0]} to {counts[-1]}"
    return [
        Claim(
            id="D5.rate",
            statement="Power of p with which the deviation of P A0 from a tight frame falls",
            source=_TALK,
            expected=-0.5,
            observed=log_slope(counts, deviations),
            relation="==",
            tolerance=0.05,
            note=note,
        ),
        Claim(
            id="D5.size",
            statement="Deviation in the Frobenius norm over its prediction to first order, root mean square",
            source=_BEYOND,
            expected=1.0,
            observed=ratio,
            relation="==",
            tolerance=0.1,
            note=f"{len(last)} draws with p = {counts[-1]}",
        ),
    ]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
