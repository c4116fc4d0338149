"""N2: only global minima and strict saddles, from random starts, by construction and by Newton's method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.critical_points import ends, reductions, survey, symmetric_point
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
        narrow: (K, samples per class) of models in d = K - 2 dimensions.
        narrow_starts: Random starts for each of them.
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
    narrow: tuple[tuple[int, int | tuple[int, ...]], ...] = ((4, 10), (4, (20, 10, 10, 5)), (5, 10), (6, 10))
    narrow_starts: int = 40


PRESETS = {
    "smoke": Config(
        features=(2, 3, 5), models=(("equal classes", "none", 10, 8),), searches=8, narrow=((6, 10),), narrow_starts=24
    ),
    "quick": Config(),
    "paper": Config(
        classes=10,
        features=(8, 9, 10, 11, 20),
        models=(
            ("equal classes", "none", 20, 500),
            ("free bias", "free", 20, 200),
            ("unequal classes", "none", (100, 50, 50, 20, 20, 20, 10, 10, 5, 5), 200),
        ),
        searches=500,
        narrow=tuple((classes, 10) for classes in range(4, 11)),
        narrow_starts=200,
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
    narrow = sweep(ended, [(config, loss, *model) for model in config.narrow for loss in config.losses])
    found = [row for rows in narrow for row in rows]
    kinds = Counter((row["loss"], row["d"], row["kind"]) for row in points if row["found by"] == "Newton")
    tables = {
        "starts": table_of(starts),
        "saddles": table_of(saddles),
        "decrease": table_of([row for rows in falls for row in rows]),
        "critical points": table_of(points),
        "kinds": table_of([dict(zip(("loss", "d", "kind", "starts"), (*k, n), strict=True)) for k, n in kinds.items()]),
        "ends": table_of(found),
    }
    least = config.classes - 1
    starts, rows = ([row for row in table if row["d"] >= least] for table in (starts, [*saddles, *points]))
    claims = [*_start_claims(config, starts), *_saddle_claims(config, saddles), *_point_claims(config, rows)]
    local = sum(row["above"] > 0 and row["isolated"] for row in found)
    what = "Local minima above the lowest one found, isolated up to rotations, in d = K - 2 dimensions"
    note = f"{local} among {len(found)} different ends of descents: K - 1 cannot be lowered"
    claims.append(_claim("narrow", what, local, note, source="found here", expected=1, relation=">="))
    return Findings(tuple(claims), _answer(starts, rows, found), tables, _panels(config))


def started(item: tuple[Config, int, str, int]) -> Row:
    """How many random starts of one cell end at a certified global minimum."""
    config, index, loss, features = item
    name, _, _, starts = config.models[index]
    certificates = [solve(_model(*item), seed=seed).certificate for seed in range(starts)]
    certified = sum(certificate.holds for certificate in certificates)
    return {
        "model": name,
        "loss": loss,
        "d": features,
        "dimension": f"K {features - config.classes:+d} = {features}".replace("-", "− ").replace("+", "+ "),
        "starts": starts,
        "certified": certified,
        "share": certified / starts,
        "largest gap": max(certificate.gap for certificate in certificates),
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


def ended(item: tuple[Config, str, int, int | tuple[int, ...]]) -> list[Row]:
    """The different objectives at which random starts end in d = K - 2 dimensions."""
    config, loss, classes, counts = item
    shape = {"classes": classes, "features": classes - 2, "per_class": counts}
    problem = UnconstrainedFeatures(**shape, loss=loss, weight_decay=config.weight_decay)
    sizes = f"{counts} each" if isinstance(counts, int) else ", ".join(map(str, counts))
    cell = {"loss": loss, "K": classes, "d": classes - 2, "samples": sizes}
    found = ends(problem, config.narrow_starts)
    lowest = found[0].point.value
    numbers = [{"starts": end.starts, "stiffness": end.stiffness, "isolated": end.isolated} for end in found]
    return [cell | row | {"above": end.point.value - lowest} for row, end in zip(numbers, found, strict=True)]


def _start_claims(config: Config, starts: Sequence[Row]) -> list[Claim]:
    claims = []
    for loss, features in dict.fromkeys((row["loss"], row["d"]) for row in starts):
        rows = [row for row in starts if (row["loss"], row["d"]) == (loss, features)]
        note = "; ".join(f"{row['model']}: {row['certified']} of {row['starts']}" for row in rows)
        note += f"; largest gap {max(row['largest gap'] for row in rows):.1e}"
        what = f"Share of random starts that end at a certified global minimum, {loss}, d = {features}"
        source, share = _THEOREM if features > config.classes else _CONJECTURE, min(row["share"] for row in rows)
        claims.append(_claim(f"{loss}.d{features}", what, share, note, source=source, expected=1.0, relation=">="))
    return claims


def _saddle_claims(config: Config, saddles: Sequence[Row]) -> list[Claim]:
    certified = [row for row in saddles if row["predicted curvature"] is not None]
    enough = [row for row in certified if row["d"] >= config.classes - 1]
    note = f"{len(certified)} of {len(saddles)} constructed points are saddles where W has a null vector"
    bend = max((abs(row["curvature"] / row["predicted curvature"] - 1) for row in certified), default=None)
    fall = max((row["departure"] - row["slack"] for row in certified), default=None)
    kept = sum(not row["left"] for row in enough) if enough else None
    return [
        _claim("saddles.curvature", "Curvature along the certified direction, from -2 (|G| - lambda)", bend, note),
        _claim("saddles.decrease", "Decrease after a step, from the quadratic, beyond its bound", fall, note),
        _claim("saddles.escaped", f"Of {len(enough)} saddles, those not left for a certified minimum", kept, note),
    ]


def _point_claims(config: Config, rows: Sequence[Row]) -> list[Claim]:
    """No critical point of another kind; no direction steeper than the certified one, if the loss is convex."""
    claims = []
    for key, source, where in (("theorem", _THEOREM, "d > K"), ("conjecture", _CONJECTURE, "d = K - 1 and d = K")):
        counts = Counter(row["kind"] for row in rows if (row["d"] > config.classes) is (key == "theorem"))
        what = f"Critical points that are neither certified global minima nor strict saddles, {where}"
        note = ", ".join(f"{kind}: {counts[kind]}" for kind in _KINDS)
        claims.append(_claim(f"kinds.{key}", what, counts["other"] if counts else None, note, source=source))
    convex = [row for row in rows if row["predicted curvature"] is not None and row["loss"] != "focal"]
    apart = max((abs(row["steepness"] / row["|G| - lambda"] - 1) for row in convex), default=None)
    what = "Smallest eigenvalue of the Hessian, from -(|G| - lambda), convex losses"
    return [*claims, _claim("saddles.steepest", what, apart, f"{len(convex)} saddles where W has a null vector")]


def _claim(key: str, what: str, observed: float | None, note: str, *, source: str = _PROOF, **expected) -> Claim:
    """By default a number, or a relative difference, that is zero up to rounding."""
    expected = {"expected": 0.0, "tolerance": _EXACT} | expected
    return Claim(id=f"N2.{key}", statement=what, source=source, observed=observed, note=note, **expected)


def _answer(starts: Sequence[Row], rows: Sequence[Row], found: Sequence[Row]) -> str:
    total, certified = sum(row["starts"] for row in starts), sum(row["certified"] for row in starts)
    counts = Counter(row["kind"] for row in rows)
    full = sum(row["kind"] == "strict saddle" and row["rank"] == row["d"] for row in rows)
    local = sorted({row["loss"] for row in found if row["above"] > 0 and row["isolated"]})
    return (
        f"From d = K - 1 on, {certified} of {total} random starts end at a certified global minimum. Of "
        f"{counts.total() - counts['not critical']} critical points found there, {counts['global']} are global, "
        f"{counts['strict saddle']} strict saddles ({full} of them with a classifier of full rank, which the theorem "
        f"does not cover), and {counts['other']} anything else. For d = K - 2, local minima that are not global were "
        f"found with {', '.join(local) or 'no loss'}."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    logs, shown = {"x_scale": "log", "y_scale": "log"}, ", ".join(map(str, config.features))
    share = {"x": "dimension", "y": "loss", "value": "share", "facet": "model"}
    point = {"x": "objective above the lowest", "y": "smallest eigenvalue", "color": "point", "facet": "loss"}
    steep = {"x": "|G| - lambda", "y": "steepness", "reference": "|G| - lambda", "color": "loss"} | logs
    fall = {
        "x": "step",
        "y": "decrease",
        "reference": "quadratic prediction",
        "color": "saddle",
        "facet": "loss",
    } | logs
    return (
        Panel(
            kind="matrix",
            title="Random starts that end at a certified global minimum",
            caption="Share of the starts. Proven for d > K, conjectured for d = K - 1 and d = K. Below, where the "
            "simplex has no room, only the squared error has a known minimum to be compared with.",
            table="starts",
            **share,
        ),
        Panel(
            kind="scatter",
            title="All critical points found",
            caption=f"Smallest eigenvalue of the Hessian against the objective, d = {shown}. A local minimum that is "
            "not global would lie on the line zero, to the right of zero.",
            table="critical points",
            where={"kind": list(_KINDS[:3])},
            **point,
        ),
        Panel(
            kind="scatter",
            title="How steep the steepest way down is",
            caption="Size of the smallest eigenvalue at every saddle that was built. On the dashed line it is that of "
            "the certified direction, |G| - lambda. Below the line, W has no null vector.",
            table="saddles",
            where={"kind": "strict saddle"},
            **steep,
        ),
        Panel(
            kind="curves",
            title="Leaving a saddle",
            caption=f"Decrease along the certified direction, d = {config.features[-1]}; dashed, (|G| - lambda) t^2. "
            "Steps t are those of the normal form, in which W and H weigh equally.",
            table="decrease",
            **fall,
        ),
    )


def _model(config: Config, index: int, loss: str, features: int) -> UnconstrainedFeatures:
    _, bias, counts, _ = config.models[index]
    shape = {"classes": config.classes, "features": features, "per_class": counts}
    return UnconstrainedFeatures(**shape, loss=loss, weight_decay=config.weight_decay, bias=bias)


EXPERIMENT = Study(entry("ufm-landscape"), PRESETS, investigate)
