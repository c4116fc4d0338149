"""N2: only global minima and strict saddles, from random starts, by construction and by Newton's method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.critical_points import reductions, survey, symmetric_point
from tightframe.ufm.departures import leave
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.solvers import solve

_THEOREM = "Q21, theorem 3.2 (d > K); Zhou et al. 2022 for label smoothing and focal loss"
_CONJECTURE = "L4, conjecture that d >= K - 1 is enough"
_PROOF = "Q21, proof of theorem 3.2"
_KINDS = ("global", "strict saddle", "other", "not critical")
_DECADES = tuple(2.0**power for power in range(-6, 6))  # of the step at which the decrease is compared
_EXACT = 1e-9  # rounding, relative to curvatures that are at least a millionth

Row = Mapping[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Config:
    """What is solved, built and searched.

    Args:
        classes: K.
        features: Values of d; claims are made from K - 1 on.
        losses: By name.
        weight_decay: (lambda_W, lambda_H) of random starts and saddles.
        models: (name, bias, samples per class, starts) of random starts and saddles.
        searches: Starts of Newton's method for each loss and d.
        searched_samples: Samples per class there, each a variable where the loss is not convex.
        searched_decay: (lambda_W, lambda_H) there.
    """

    classes: int = 4
    features: tuple[int, ...] = (2, 3, 4, 5, 8)
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
    "smoke": Config(features=(2, 3, 5), models=(("equal classes", "none", 10, 8),), searches=8),
    "quick": Config(),
    "paper": Config(
        classes=10,
        features=(8, 9, 10, 11, 20),
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
    falls = sweep(fallen, [(config, 0, loss, config.features[-1]) for loss in config.losses])
    tables = {
        "starts": table_of(starts),
        "saddles": table_of(saddles),
        "decrease": table_of([row for rows in falls for row in rows]),
        "critical points": table_of(points),
        "kinds": table_of(_counted(points)),
    }
    wide = [row for row in [*saddles, *points] if row["d"] >= config.classes - 1]
    claims = [*_start_claims(config, starts), *_saddle_claims(config, saddles), *_point_claims(config, wide)]
    enough = [row for row in starts if row["d"] >= config.classes - 1]
    return Findings(tuple(claims), _answer(enough, wide), tables, _panels(config))


def started(item: tuple[Config, int, str, int]) -> Row:
    """How many random starts of one cell end at a certified global minimum."""
    config, index, loss, features = item
    name, _, _, starts = config.models[index]
    solutions = [solve(_model(*item), seed=seed) for seed in range(starts)]
    certified = sum(solution.certificate.holds for solution in solutions)
    values = [solution.objective for solution in solutions]
    return {
        "model": name,
        "loss": loss,
        "d": features,
        "dimension": _relative(features, config.classes),
        "starts": starts,
        "certified": certified,
        "share": certified / starts,
        "largest gap": max(solution.certificate.gap for solution in solutions),
        "lowest objective": min(values),
        "spread of objectives": max(values) - min(values),
    }


def built(item: tuple[Config, int, str, int]) -> list[Row]:
    """The constructed critical points of one cell: kind, curvatures, a step along the way down, where that leads."""
    config, index, loss, features = item
    problem, rows = _model(*item), []
    for name, options in reductions(problem).items():
        found = symmetric_point(problem, **options)
        row = {"model": config.models[index][0], "loss": loss, "d": features, "construction": name}
        row |= found.numbers() | {"departure": None, "slack": None, "left": None}
        if found.certified:
            left = leave(problem, found)
            solution = solve(problem, start=left.point)
            row["departure"] = abs(left.decrease / left.predicted - 1)
            row["slack"] = left.slack / left.predicted
            row["left"] = solution.certificate.holds and solution.objective < found.value
        rows.append(row)
    return rows


def fallen(item: tuple[Config, int, str, int]) -> list[Row]:
    """The decrease along the certified direction over many lengths of the step."""
    problem, rows = _model(*item), []
    for name, options in reductions(problem).items():
        found = symmetric_point(problem, **options)
        for factor in _DECADES if found.certified else ():
            left = leave(problem, found, step=factor * leave(problem, found).step)
            row = {"loss": item[2], "saddle": name, "step": left.step, "quadratic prediction": left.predicted}
            rows.append(row | {"decrease": left.decrease if left.decrease > 0 else None})
    return rows


def searched(item: tuple[Config, str, int]) -> list[Row]:
    """Critical points by Newton's method, by construction and by descent, all of the same model."""
    config, loss, features = item
    shape = {"classes": config.classes, "features": features, "per_class": config.searched_samples}
    problem = UnconstrainedFeatures(**shape, loss=loss, weight_decay=config.searched_decay)
    rows = []
    for how, found in survey(problem, config.searches):
        name = f"saddle of rank {found.rank}" if found.kind == "strict saddle" else found.kind
        rows.append({"loss": loss, "d": features, "found by": how, "point": name} | found.numbers())
    least = min(row["objective"] for row in rows)
    return [row | {"objective above the lowest": row["objective"] - least} for row in rows]


def _start_claims(config: Config, starts: Sequence[Row]) -> list[Claim]:
    claims = []
    for loss, features in dict.fromkeys((row["loss"], row["d"]) for row in starts if row["d"] >= config.classes - 1):
        rows = [row for row in starts if (row["loss"], row["d"]) == (loss, features)]
        shares = "; ".join(f"{row['model']}: {row['certified']} of {row['starts']}" for row in rows)
        claims.append(
            Claim(
                id=f"N2.{loss}.d{features}",
                statement=f"Share of random starts that end at a certified global minimum, {loss}, d = {features}",
                source=_THEOREM if features > config.classes else _CONJECTURE,
                expected=1.0,
                observed=min(row["share"] for row in rows),
                relation=">=",
                note=f"{shares}; largest gap {max(row['largest gap'] for row in rows):.1e}",
            )
        )
    return claims


def _saddle_claims(config: Config, saddles: Sequence[Row]) -> list[Claim]:
    certified = [row for row in saddles if row["predicted curvature"] is not None]
    enough = [row for row in certified if row["d"] >= config.classes - 1]
    note = f"{len(certified)} of {len(saddles)} constructed points are saddles where W has a null vector"
    bend = max((abs(row["curvature"] / row["predicted curvature"] - 1) for row in certified), default=None)
    fall = max((row["departure"] - row["slack"] for row in certified), default=None)
    kept = sum(not row["left"] for row in enough) if enough else None
    return [
        _zero("saddles.curvature", "Curvature along the certified direction, from -2 (|G| - lambda)", bend, note),
        _zero("saddles.decrease", "Decrease after a step, from the quadratic, beyond its bound", fall, note),
        _zero("saddles.escaped", f"Of {len(enough)} saddles, those not left for a certified minimum", kept, note),
    ]


def _point_claims(config: Config, rows: Sequence[Row]) -> list[Claim]:
    """No critical point of another kind; no direction steeper than the certified one, if the loss is convex."""
    claims = []
    for key, source, where in (("theorem", _THEOREM, "d > K"), ("conjecture", _CONJECTURE, "d = K - 1 and d = K")):
        counts = Counter(row["kind"] for row in rows if (row["d"] > config.classes) is (key == "theorem"))
        what = f"Critical points that are neither certified global minima nor strict saddles, {where}"
        note = ", ".join(f"{kind}: {counts[kind]}" for kind in _KINDS)
        claims.append(_zero(f"kinds.{key}", what, counts["other"] if counts else None, note, source))
    convex = [row for row in rows if row["predicted curvature"] is not None and row["loss"] != "focal"]
    apart = max((abs(row["steepness"] / row["|G| - lambda"] - 1) for row in convex), default=None)
    what = "Smallest eigenvalue of the Hessian, from -(|G| - lambda), convex losses"
    return [*claims, _zero("saddles.steepest", what, apart, f"{len(convex)} saddles where W has a null vector")]


def _zero(key: str, what: str, observed: float | None, note: str, source: str = _PROOF) -> Claim:
    values = {"expected": 0.0, "observed": observed, "tolerance": _EXACT}
    return Claim(id=f"N2.{key}", statement=what, source=source, note=note, **values)


def _answer(starts: Sequence[Row], rows: Sequence[Row]) -> str:
    total, certified = sum(row["starts"] for row in starts), sum(row["certified"] for row in starts)
    counts = Counter(row["kind"] for row in rows)
    full = sum(row["kind"] == "strict saddle" and row["predicted curvature"] is None for row in rows)
    return (
        f"From d = K - 1 on, {certified} of {total} random starts end at a certified global minimum. Of "
        f"{counts.total() - counts['not critical']} critical points found there, {counts['global']} are global, "
        f"{counts['strict saddle']} strict saddles ({full} of them with a classifier of full rank, which the theorem "
        f"does not cover), and {counts['other']} anything else."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    both, shown = {"x_scale": "log", "y_scale": "log"}, ", ".join(map(str, config.features))
    return (
        Panel(
            kind="matrix",
            title="Random starts that end at a certified global minimum",
            caption="Share of the starts. Proven for d > K, conjectured for d = K - 1 and d = K. Below, where the "
            "simplex has no room, only the squared error has a known minimum to be compared with.",
            table="starts",
            x="dimension",
            y="loss",
            value="share",
            facet="model",
        ),
        Panel(
            kind="scatter",
            title="All critical points found",
            caption=f"Smallest eigenvalue of the Hessian against the objective, d = {shown}. A local minimum that is "
            "not global would lie on the line zero, to the right of zero.",
            table="critical points",
            x="objective above the lowest",
            y="smallest eigenvalue",
            color="point",
            facet="loss",
            where={"kind": list(_KINDS[:3])},
        ),
        Panel(
            kind="scatter",
            title="How steep the steepest way down is",
            caption="Size of the smallest eigenvalue at every saddle that was built. On the dashed line it is that of "
            "the certified direction, |G| - lambda. Below the line, W has no null vector.",
            table="saddles",
            x="|G| - lambda",
            y="steepness",
            color="loss",
            reference="|G| - lambda",
            where={"kind": "strict saddle"},
            **both,
        ),
        Panel(
            kind="curves",
            title="Leaving a saddle",
            caption=f"Decrease along the certified direction, d = {config.features[-1]}; dashed, (|G| - lambda) t^2. "
            "Steps t are those of the normal form, in which W and H weigh equally.",
            table="decrease",
            x="step",
            y="decrease",
            color="saddle",
            facet="loss",
            reference="quadratic prediction",
            **both,
        ),
    )


def _counted(points: Sequence[Row]) -> list[Row]:
    """What Newton's method found by kind, with the number of different objectives."""
    rows = []
    for loss, features in dict.fromkeys((row["loss"], row["d"]) for row in points):
        found = [row for row in points if (row["loss"], row["d"], row["found by"]) == (loss, features, "Newton")]
        for kind in _KINDS:
            values = [round(row["objective"], 8) for row in found if row["kind"] == kind]
            cell = {"loss": loss, "d": features, "kind": kind, "starts": len(values)}
            rows.append(cell | {"different objectives": len(set(values))})
    return rows


def _model(config: Config, index: int, loss: str, features: int) -> UnconstrainedFeatures:
    _, bias, counts, _ = config.models[index]
    shape = {"classes": config.classes, "features": features, "per_class": counts}
    return UnconstrainedFeatures(**shape, loss=loss, weight_decay=config.weight_decay, bias=bias)


def _relative(features: int, classes: int) -> str:
    named = f"K {features - classes:+d} = {features}".replace(" +0", "")
    return named.replace("+", "+ ").replace("-", "− ")


EXPERIMENT = Study(entry("ufm-landscape"), PRESETS, investigate)
