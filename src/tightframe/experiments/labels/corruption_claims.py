"""Claims about the linear model of sparse over-parameterisation, judged by what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy

from tightframe.experiments.labels.recovery import METHODS, SHARE, Row
from tightframe.runs.record import Claim, Relation

_SOURCE = "L4, linear model of SOP, informal theorem"
_RECOVERY = "L4, linear model of SOP: exact recovery for incoherent J"
_BEYOND = "beyond the sources: derived at tightframe.optimize.discrepant.descend_discrepant"
_CONES = "beyond the sources: Amelunxen et al. 2014"
# Relative distances that count as none: where theta is recovered whatever the weight, and where it depends on it.
_EXACT, _CLOSE = 1e-4, 1e-2
# Of fitted powers, and of the share of corruption at which recovery ends (besides half a step of the grid).
_POWER, _CROSSING = 0.1, 0.05
# Predicted powers of the scale from which on 1e-100 leaves 1e-5, enough to tell that the limit is the truth, and from
# which on descent from 1e-6 should recover theta to 1e-2 many times over.
_TELLING, _FIRM = 0.05, 1.0
_HELD, _STATED = "log(1/scale)/(2 weight)", "1/weight"

Rows = Mapping[str, Sequence[Row]]


def claims_of(rows: Rows) -> tuple[Claim, ...]:
    """All claims, from the tables of the experiment by name."""
    return (*_limit_claims(rows["approach"], rows["flow"]), *_law_claims(rows), *_recovery_claims(rows))


def answer(claims: Sequence[Claim]) -> str:
    """Two sentences from the numbers."""
    found = {claim.id.removeprefix("R2."): claim.observed for claim in claims}
    distances = f"{found['recovered']:.1e} under exact recovery, {found['held']:.1e} otherwise"
    return (
        f"With a ratio of step sizes log(1/scale)/(2 weight) descent tends to the solution of the convex program "
        f"(distance at the smallest scale {distances}), "
        f"but with the ratio 1/weight that the source states it ends {found['stated']:.2f} away where the solution "
        f"depends on the weight. Exact recovery ends within {found['transition']:.2f} of the predicted share of "
        f"corruption. Of the draws that the convex program recovered descent from 1e-6 missed "
        f"{found['beside.finite']:.0f}, of which {found['beside.firm']:.0f} well inside; its limit missed "
        f"{found['beside']:.0f}."
    )


def _limit_claims(approaches: Sequence[Row], flows: Sequence[Row]) -> list[Claim]:
    tall, wide = ([row for row in approaches if row["J"] == shape] for shape in ("tall", "wide"))
    last = min(row["scale"] for row in approaches)
    least = min(row["scale"] for row in flows)
    at_last = [row for row in tall if row["scale"] == last]
    at_least = [row for row in flows if row["scale"] == least]
    where = f"limit of the flow from scale {least:g}, wide J"
    recovered = f"limit of the flow from scale {last:g}, tall J, theta recovered"
    return [
        _none(
            "R2.recovered",
            "Descent with ratio log(1/a)/(2 lambda) ends at the solution of weight lambda, under exact recovery",
            (_worst(at_last, "distance, flow", _HELD), _EXACT),
            recovered,
            _BEYOND,
        ),
        _none(
            "R2.recovered.descent",
            "Descent as it can be run comes near that solution, under exact recovery",
            (_worst(at_last, "distance", _HELD), _CLOSE),
            f"scale {last:g}, at most {max(row['steps'] for row in at_last)} steps: its tail is about 1 / steps",
            _BEYOND,
        ),
        _none(
            "R2.recovered.stated",
            "Descent with ratio alpha ends at the solution of weight 1/alpha, under exact recovery",
            (_worst(at_last, "distance, flow", _STATED), _EXACT),
            recovered,
        ),
        _none(
            "R2.held",
            "Descent with ratio log(1/a)/(2 lambda) tends to the solution of weight lambda, without exact recovery",
            (_worst(at_least, "distance, flow", _HELD), _CLOSE),
            where,
            _BEYOND,
        ),
        _none(
            "R2.stated",
            "Descent with ratio alpha tends to the solution of weight 1/alpha, without exact recovery",
            (_worst(at_least, "distance, flow", _STATED), _CLOSE),
            f"{where}. The weight at ratio alpha is log(1/a)/(2 alpha): at a fixed ratio it grows without bound",
        ),
        *(
            _none(
                f"R2.falls.{name}",
                f"The distance of descent falls with every smaller scale, {name} J: exceptions",
                (_rises(some), 0),
                "ratio log(1/a)/(2 lambda), every draw",
            )
            for name, some in (("tall", tall), ("wide", wide))
        ),
    ]


def _law_claims(rows: Rows) -> list[Claim]:
    held = [row for row in rows["flow"] if row["ratio of steps"] == _HELD]
    rates = [_power(some, "log(1/scale)", "distance, flow") for some in _by_seed(held)]
    steps = [_power(some, "step share", "descent to flow") for some in _by_seed(rows["steps"])]
    powers = [abs(row["measured power"] - row["predicted power"]) for row in rows["powers"]]
    misses = [row for row in rows["weights"] if row["nearest"] and row["descent"] != row["convex"]]
    return [
        _claim(
            "R2.rate",
            "Without exact recovery the distance falls as 1 / log(1/a): power of log(1/a) furthest from -1",
            (max(rates, key=lambda rate: abs(rate + 1)), -1.0, _POWER),
            f"least squares over the scales, {len(rates)} draws",
        ),
        _claim(
            "R2.power",
            "Under exact recovery it falls as the power of a that a linear program predicts: largest difference",
            (max(powers, default=None), 0.0, _POWER),
            f"{len(powers)} draws" if powers else "theta was recovered in no draw",
        ),
        _claim(
            "R2.step",
            "Descent differs from the limit of its flow in proportion to the step: power furthest from 1",
            (max(steps, key=lambda power: abs(power - 1)), 1.0, 2 * _POWER),
            f"least squares over the steps, {len(steps)} draws",
        ),
        _claim(
            "R2.weight",
            "Of several weights that of the formula gives the convex solution nearest to descent: exceptions",
            (len(misses), 0.0, 0.0),
            f"{sum(row['nearest'] for row in rows['weights'])} descents, wide J",
        ),
    ]


def _recovery_claims(rows: Rows) -> list[Claim]:
    exact = [row for row in rows["transition"] if row["method"] == METHODS["convex"]]
    gaps = [abs(row["recovery ends at"] - row["predicted"]) for row in exact]
    coherent = rows["coherence"]
    least, most = (ends(row["spread"] for row in coherent) for ends in (min, max))
    found = [row[SHARE] for row in coherent if row["spread"] == least]
    at_ends = [
        next(row[SHARE] for row in coherent if row["spread"] == spread and row["method"] == METHODS["convex"])
        for spread in (least, most)
    ]
    return [
        _claim(
            "R2.incoherent",
            "For incoherent J theta is recovered exactly: share of the draws, both methods",
            (min(found), 1.0, 0.05),
            "Gaussian J, well below the transition",
            _RECOVERY,
            relation=">=",
        ),
        _claim(
            "R2.coherent",
            "Coherence decides: recovered less often from J with rows of very different lengths, difference of shares",
            (at_ends[0] - at_ends[1], 0.5, 0.0),
            f"convex program, {at_ends[1]:.2f} recovered at the largest spread; columns and corruption are the same",
            _RECOVERY,
            relation=">=",
        ),
        _claim(
            "R2.transition",
            "The convex program recovers up to the share of corruption of its statistical dimension: difference",
            (max(gaps), 0.0, _CROSSING + exact[0]["width of grid"] / 2),
            f"{len(gaps)} dimensions, Gaussian J; the tolerance has half a step of the grid",
            _CONES,
        ),
        *_beside(rows["trials"]),
    ]


def _beside(trials: Sequence[Row]) -> list[Claim]:
    convex = [row for row in trials if row["recovered, convex"]]
    telling, firm = (
        [row for row in convex if row["predicted power"] is not None and row["predicted power"] >= least]
        for least in (_TELLING, _FIRM)
    )
    count = f"{len(convex)} of {len(trials)} draws recovered by the convex program; theta within 1e-2"
    limit = f"flow from 1e-100 or above, {len(convex) - len(telling)} draws too near the transition left out; {count}"
    return [
        _claim(
            f"R2.beside{part}",
            f"Where the convex program recovers theta, {whom} does: exceptions",
            (sum(not row[f"recovered, {method}"] for row in some), 0.0, 0.0),
            note,
            source,
        )
        for part, whom, method, some, note, source in (
            (
                "",
                "descent with infinitely small steps from an infinitely small scale",
                "limit",
                telling,
                limit,
                _SOURCE,
            ),
            (".finite", "descent as it can be run", "descent", convex, f"scale 1e-6; {count}", _SOURCE),
            (
                ".firm",
                "descent as it can be run, with a predicted power of the scale of 1 or more,",
                "descent",
                firm,
                f"scale 1e-6; {len(firm)} draws",
                _BEYOND,
            ),
        )
    ]


def _claim(
    name: str,
    statement: str,
    found: tuple[float | None, float, float],
    note: str,
    source: str = _BEYOND,
    *,
    relation: Relation = "==",
) -> Claim:
    """`found` is what was observed, what was expected, and the tolerance."""
    observed, expected, slack = found
    return Claim(
        id=name,
        statement=statement,
        source=source,
        expected=expected,
        observed=observed,
        relation=relation,
        tolerance=slack,
        note=note,
    )


def _none(name: str, statement: str, found: tuple[float, float], note: str, source: str = _SOURCE) -> Claim:
    """That something is zero."""
    return _claim(name, statement, (found[0], 0.0, found[1]), note, source)


def _worst(rows: Sequence[Row], column: str, ratio: str) -> float:
    return max(row[column] for row in rows if row["ratio of steps"] == ratio)


def _by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row["seed"] == seed] for seed in sorted({row["seed"] for row in rows})]


def _rises(rows: Sequence[Row]) -> int:
    """How often a smaller scale does not bring descent nearer."""
    count = 0
    for some in _by_seed([row for row in rows if row["ratio of steps"] == _HELD]):
        distances = [row["distance"] for row in sorted(some, key=lambda row: -row["scale"])]
        count += sum(after >= before for before, after in pairwise(distances))
    return count


def _power(rows: Sequence[Row], x: str, y: str) -> float:
    """The slope of log y over log x."""
    return float(numpy.polyfit([math.log(row[x]) for row in rows], [math.log(row[y]) for row in rows], 1)[0])
