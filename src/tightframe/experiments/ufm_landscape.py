"""N2: only global minima and strict saddles, from random starts, by construction and by Newton's method."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.certificate import Direction
from tightframe.ufm.critical_points import newton_point, symmetric_point
from tightframe.ufm.landscape import CriticalPoint, classify
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.solvers import solve

_SOURCES = {
    "theorem": "Q21, theorem 3.2 (d > K); Zhou et al. 2022 for label smoothing and focal loss",
    "conjecture": "L4, conjecture that d >= K - 1 is enough",
}
_KINDS = ("global", "strict saddle", "other", "not critical")
# Relative departure from the quadratic that the proof allows at the step where the decrease is compared.
_DEPARTURE = 0.01
_STEPS = tuple(2.0**power for power in range(-6, 7))

Row = Mapping[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Config:
    """What is solved, built and searched.

    Args:
        classes: K.
        features: Values of d.
        losses: By name.
        weight_decay: (lambda_W, lambda_H) of random starts and saddles.
        models: (name, bias, samples per class, starts) of random starts and saddles.
        searches: Starts of Newton's method for each loss and d.
        searched_samples: Samples per class there: every column is a variable of its own where the loss is not convex.
        searched_decay: (lambda_W, lambda_H) there.
    """

    classes: int = 4
    features: tuple[int, ...] = (3, 4, 5, 8)
    losses: tuple[str, ...] = ("ce", "ls", "focal", "mse")
    weight_decay: tuple[float, float] = (5e-3, 5e-4)
    models: tuple[tuple[str, str | float, int | tuple[int, ...], int], ...] = (
        ("equal classes", "none", 10, 200),
        ("free bias", "free", 10, 40),
        ("unequal classes", "none", (20, 10, 10, 5), 40),
    )
    searches: int = 100
    searched_samples: int = 2
    searched_decay: tuple[float, float] = (5e-3, 5e-3)


PRESETS = {
    "smoke": Config(
        models=(("equal classes", "none", 10, 12), ("unequal classes", "none", (20, 10, 10, 5), 4)), searches=8
    ),
    "quick": Config(),
    "paper": Config(
        classes=10,
        features=(9, 10, 11, 20),
        models=(
            ("equal classes", "none", 20, 500),
            ("free bias", "free", 20, 200),
            ("regularised bias", 0.02, 20, 200),
            ("unequal classes", "none", (100, 50, 50, 20, 20, 20, 10, 10, 5, 5), 200),
        ),
        searches=500,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Random starts, saddles by construction and the way out of them, and Newton's method, for every loss and d."""
    cells = [(loss, d) for loss in config.losses for d in config.features]
    items = [(config, index, *cell) for index in range(len(config.models)) for cell in cells]
    starts = sweep(started, items)
    saddles = [row for rows in sweep(built, items) for row in rows]
    points = [row for rows in sweep(searched, [(config, *cell) for cell in cells]) for row in rows]
    falls = sweep(fallen, [item for item in items if item[1] == 0 and item[3] == config.features[-1]])
    claims = (*_start_claims(config, starts), *_saddle_claims(saddles), *_point_claims(config, points, saddles))
    tables = {
        "starts": table_of(starts),
        "saddles": table_of(saddles),
        "decrease": table_of([row for rows in falls for row in rows]),
        "critical points": table_of(points),
        "kinds": table_of(_counted(points)),
    }
    return Findings(claims, _answer(starts, saddles, points), tables, _panels(config))


def started(item: tuple[Config, int, str, int]) -> Row:
    """How many random starts of one cell end at a certified global minimum."""
    config, index, loss, features = item
    name, _, _, starts = config.models[index]
    problem = _model(config, index, loss, features)
    solutions = [solve(problem, seed=seed) for seed in range(starts)]
    certified = sum(solution.certificate.holds for solution in solutions)
    return {
        "model": name,
        "loss": loss,
        "d": features,
        "dimension": _relative(features, config.classes),
        "starts": starts,
        "certified": certified,
        "share": certified / starts,
        "largest gap": max(solution.certificate.gap for solution in solutions),
        "spread of objectives": max(s.objective for s in solutions) - min(s.objective for s in solutions),
    }


def built(item: tuple[Config, int, str, int]) -> list[Row]:
    """The constructed critical points of one cell: their kind, curvatures, and what the way out leads to."""
    config, index, loss, features = item
    problem = _model(config, index, loss, features)
    rows = []
    for name, options in _constructions(problem):
        found = symmetric_point(problem, **options)
        cell = {"model": config.models[index][0], "loss": loss, "d": features, "construction": name}
        rows.append(cell | _described(found) | _left(problem, found))
    return rows


def fallen(item: tuple[Config, int, str, int]) -> list[Row]:
    """The decrease along the certified direction over many lengths of the step."""
    problem = _model(*item)
    rows = []
    for name, options in _constructions(problem):
        found = symmetric_point(problem, **options)
        if found.direction is None or found.direction.predicted is None:
            continue
        for factor in _STEPS:
            step = factor * _compared_step(problem, found)
            fall = found.value - _objective(problem, _moved(found.point, found.direction, step))
            rows.append(
                {
                    "loss": item[2],
                    "saddle": name,
                    "step": step,
                    "decrease": fall if fall > 0 else None,
                    "quadratic prediction": found.excess * step**2,
                }
            )
    return rows


def searched(item: tuple[Config, str, int]) -> list[Row]:
    """Critical points by Newton's method, by construction and by descent, all of the same model."""
    config, loss, features = item
    shape = {"classes": config.classes, "features": features, "per_class": config.searched_samples}
    problem = UnconstrainedFeatures(**shape, loss=loss, weight_decay=config.searched_decay)
    solution = solve(problem, seed=0)
    found = [("descent", classify(problem, Point(solution.W, solution.H, solution.b)))]
    found += [("construction", symmetric_point(problem, **options)) for _, options in _constructions(problem)]
    for seed in range(config.searches):
        # Lengths of starts over a decade: short ones fall into the origin, long ones to higher rank.
        start = problem.start(seed=seed, scale=0.5 * 10 ** (seed % 10 / 9))
        found.append(("Newton", newton_point(problem, start=start)))
    least = min(point.value for _, point in found)
    return [
        {"loss": loss, "d": features, "found by": how} | _described(point) | {"objective above": point.value - least}
        for how, point in found
    ]


def _described(found: CriticalPoint) -> Row:
    rank = int(torch.linalg.matrix_rank(found.point.W, rtol=1e-6)) if bool(found.point.W.any()) else 0
    way = found.direction
    bends = way is not None and way.kind == "negative curvature"
    return {
        "kind": found.kind,
        "rank": rank,
        "what": f"saddle of rank {rank}" if found.kind == "strict saddle" else found.kind,
        "objective": found.value,
        "gradient norm": found.gradient_norm,
        "smallest eigenvalue": None if math.isnan(found.smallest) else found.smallest,
        "steepest": None if math.isnan(found.smallest) or found.smallest >= 0 else -found.smallest,
        "excess": found.excess if found.excess > 0 else None,
        "curvature": way.curvature if bends else None,
        "predicted curvature": way.predicted if bends else None,
    }


def _left(problem: UnconstrainedFeatures, found: CriticalPoint) -> Row:
    """What a step along the direction gains, beside the quadratic prediction, and where the descent from there ends."""
    if found.kind != "strict saddle":
        return {"decrease error": None, "left": None}
    step = _compared_step(problem, found)
    point = _moved(found.point, found.direction, step)
    error = None
    if found.direction.predicted is not None:
        expected = found.excess * step**2
        error = abs(found.value - _objective(problem, point) - expected) / expected
    solution = solve(problem, start=point)
    return {"decrease error": error, "left": solution.certificate.holds and solution.objective < found.value}


def _compared_step(problem: UnconstrainedFeatures, found: CriticalPoint) -> float:
    """WH moves by -t^2 u v^T, so f falls by e t^2 up to t^4 L/(2N): the t for which that is the allowed departure."""
    return (2 * _DEPARTURE * found.excess * problem.samples / problem.loss.smoothness) ** 0.5


def _constructions(problem: UnconstrainedFeatures) -> list[tuple[str, dict]]:
    """The origin, all lower ranks than that of the simplex, and classes of equal size merged."""
    classes = problem.classes
    ranks = [("origin" if r == 0 else f"rank {r}", {"rank": r}) for r in range(min(problem.features, classes - 1))]
    equal = max(([k for k in range(classes) if problem.counts[k] == n] for n in set(problem.counts)), key=len)
    merged = [("two classes merged", [equal[:2]])]
    if problem.balanced:
        half = classes // 2
        merged += [
            ("two halves merged", [range(half), range(half, classes)]),
            ("all but one merged", [range(1, classes)]),
        ]
    return ranks + [(name, {"groups": [tuple(group) for group in groups]}) for name, groups in merged]


def _start_claims(config: Config, starts: Sequence[Row]) -> list[Claim]:
    claims = []
    for loss in config.losses:
        for features in config.features:
            rows = [row for row in starts if (row["loss"], row["d"]) == (loss, features)]
            note = "; ".join(f"{row['model']}: {row['certified']} of {row['starts']}" for row in rows)
            claims.append(
                Claim(
                    id=f"N2.{loss}.d{features}",
                    statement=f"Share of random starts that end at a certified global minimum, {loss}, d = {features}",
                    source=_source(features, config.classes),
                    expected=1.0,
                    observed=min(row["share"] for row in rows),
                    relation=">=",
                    note=f"{note}; largest gap {max(row['largest gap'] for row in rows):.1e}",
                )
            )
    return claims


def _saddle_claims(saddles: Sequence[Row]) -> list[Claim]:
    bent = [row for row in saddles if row["predicted curvature"] is not None]
    strict = [row for row in saddles if row["kind"] == "strict saddle"]
    errors = [abs(row["curvature"] / row["predicted curvature"] - 1) for row in bent]
    falls = [row["decrease error"] for row in bent]
    stated = {
        "curvature": ("Curvature along the certified direction, relative to -2 (|G| - lambda)", max(errors), 1e-9),
        "decrease": ("Decrease after a step, relative to the quadratic prediction", max(falls), _DEPARTURE),
        "escaped": ("Strict saddles not left for a certified minimum", sum(not row["left"] for row in strict), 0.0),
    }
    return [
        Claim(
            id=f"N2.saddles.{key}",
            statement=f"{what}: largest" if key != "escaped" else what,
            source="Q21, proof of theorem 3.2",
            expected=0.0,
            observed=observed,
            tolerance=tolerance,
            note=f"{len(strict)} strict saddles of {len(saddles)} points built, {len(bent)} with a null vector of W",
        )
        for key, (what, observed, tolerance) in stated.items()
    ]


def _point_claims(config: Config, points: Sequence[Row], saddles: Sequence[Row]) -> list[Claim]:
    """No critical point of another kind, and no direction steeper than the certified one."""
    everything = [*points, *saddles]
    claims = []
    for key, within in (("theorem", lambda d: d > config.classes), ("conjecture", lambda d: d <= config.classes)):
        rows = [row for row in everything if within(row["d"])]
        counts = Counter(row["kind"] for row in rows)
        claims.append(
            Claim(
                id=f"N2.kinds.{key}",
                statement="Critical points that are neither certified global minima nor strict saddles, "
                + ("d > K" if key == "theorem" else "d = K - 1 and d = K"),
                source=_SOURCES[key],
                expected=0,
                observed=counts["other"] if rows else None,
                note=", ".join(f"{kind}: {counts[kind]}" for kind in _KINDS),
            )
        )
    convex = [row for row in everything if row["predicted curvature"] is not None and row["loss"] != "focal"]
    claims.append(
        Claim(
            id="N2.saddles.steepest",
            statement="Smallest eigenvalue of the Hessian relative to -(|G| - lambda), convex losses: largest departure",
            source="the bound <v, Hv> >= -(|G| - lambda) |v|^2 for a convex loss",
            expected=0.0,
            observed=max(abs(row["smallest eigenvalue"] / row["excess"] + 1) for row in convex),
            tolerance=1e-6,
            note=f"{len(convex)} saddles where W has a null vector",
        )
    )
    return claims


def _answer(starts: Sequence[Row], saddles: Sequence[Row], points: Sequence[Row]) -> str:
    total, certified = sum(row["starts"] for row in starts), sum(row["certified"] for row in starts)
    counts = Counter(row["kind"] for row in [*points, *saddles])
    left = sum(bool(row["left"]) for row in saddles)
    return (
        f"{certified} of {total} random starts end at a certified global minimum, for all losses, d = K - 1 and d = K "
        f"included. Of {counts.total() - counts['not critical']} critical points found, {counts['global']} are global, "
        f"{counts['strict saddle']} strict saddles and {counts['other']} anything else; {left} of the built saddles were "
        "left for a certified minimum along the direction of the proof or, without a null vector of W, an eigenvector."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    return (
        Panel(
            kind="matrix",
            title="Random starts that end at a certified global minimum",
            caption="Share of the starts. The theorem asks for d > K; that d = K - 1 and d = K are enough is conjectured.",
            table="starts",
            x="dimension",
            y="loss",
            value="share",
            facet="model",
        ),
        Panel(
            kind="scatter",
            title="All critical points found",
            caption="Smallest eigenvalue of the Hessian against the objective above its minimum, for all d. A local "
            "minimum other than the global ones would lie on the line zero, to the right.",
            table="critical points",
            x="objective above",
            y="smallest eigenvalue",
            color="what",
            facet="loss",
            where={"kind": ["global", "strict saddle", "other"]},
        ),
        Panel(
            kind="scatter",
            title="How steep the steepest way down is",
            caption="Size of the smallest eigenvalue against |G| - lambda. On the dashed line it is that of the certified "
            "direction. Off it, W has no null vector, or the loss is not convex.",
            table="critical points",
            x="excess",
            y="steepest",
            color="loss",
            reference="excess",
            x_scale="log",
            y_scale="log",
            where={"kind": "strict saddle"},
        ),
        Panel(
            kind="curves",
            title="Leaving a saddle",
            caption=f"Decrease of the objective along the certified direction, d = {config.features[-1]}, and "
            "(|G| - lambda) t^2 as dashed lines. Lengths t are in the variables of the normal form.",
            table="decrease",
            x="step",
            y="decrease",
            color="saddle",
            facet="loss",
            reference="quadratic prediction",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="matrix",
            title="What Newton's method found",
            caption="Number of random starts by what they came to. Those that are not critical ended where the length of "
            "the gradient has a minimum above zero.",
            table="kinds",
            x="kind",
            y="loss",
            value="count",
            facet="dimension",
        ),
    )


def _counted(points: Sequence[Row]) -> list[Row]:
    """Newton's findings by kind, with the number of different objectives among them."""
    cells = dict.fromkeys((row["loss"], row["d"]) for row in points)
    rows = []
    for loss, features in cells:
        found = [row for row in points if (row["loss"], row["d"], row["found by"]) == (loss, features, "Newton")]
        for kind in _KINDS:
            values = [row["objective"] for row in found if row["kind"] == kind]
            cell = {"loss": loss, "dimension": f"d = {features}", "kind": kind, "count": len(values)}
            rows.append(cell | {"different objectives": len({round(value, 8) for value in values})})
    return rows


def _model(config: Config, index: int, loss: str, features: int) -> UnconstrainedFeatures:
    _, bias, counts, _ = config.models[index]
    shape = {"classes": config.classes, "features": features, "per_class": counts}
    return UnconstrainedFeatures(**shape, loss=loss, weight_decay=config.weight_decay, bias=bias)


def _moved(point: Point, way: Direction, step: float) -> Point:
    return Point(point.W + step * way.W, point.H + step * way.H, point.b + step * way.b)


def _objective(problem: UnconstrainedFeatures, point: Point) -> float:
    return problem.objective(point.W, point.H, point.b)


def _relative(features: int, classes: int) -> str:
    name = {-1: "K - 1", 0: "K"}.get(features - classes)
    return f"{name or f'K + {features - classes}'} = {features}"


def _source(features: int, classes: int) -> str:
    return _SOURCES["theorem" if features > classes else "conjecture"]


EXPERIMENT = Study(entry("ufm-landscape"), PRESETS, investigate)
