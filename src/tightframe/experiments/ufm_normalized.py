"""N14: features and classifiers on spheres, within the proven temperatures, beyond them, and with fewer dimensions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.geometry.frames import ideal_gram
from tightframe.optimize.curvature import extreme_eigenpairs
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.model import Point
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm
from tightframe.ufm.normalized_landscape import classify_normalized
from tightframe.ufm.normalized_optima import normalized_optimum, proven_temperature
from tightframe.ufm.normalized_saddles import (
    merged_classes,
    nearby_critical_point,
    opposite_features,
    polygon,
    single_classifier,
)
from tightframe.ufm.normalized_solvers import solve_normalized

_GLOBAL = "YN, theorem 3.1"
_STRICT = "YN, theorem 3.2 (d > K, bounded temperature)"
_BEYOND = "beyond YN, theorem 3.2; derived in tightframe.ufm.normalized_landscape"
# The step from a curvature to its formula: rounding of sums of terms of size tau.
_ROUNDING = 1e-8
_BOUND = "proven below this temperature"

Row = Mapping[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Config:
    """What is solved, built and searched.

    Args:
        cells: (K, d) of random starts; the first one, with d > K, is also that of the constructed saddles.
        temperatures: tau of random starts.
        starts: Random starts per cell and temperature.
        per_class: n of random starts.
        saddle_temperatures: tau of constructed saddles, first, last and how many, evenly spaced in the logarithm.
        saddle_per_class: n there; at least d, so that the features can span the space.
        searched: (K, d) of Newton's method from random starts, d >= K.
        searched_temperatures: tau there.
        searches: Starts there, for each K, d and tau.
        plane_temperatures: tau, first, last and how many, of one feature opposite to its classifier, K = 3 and d = 2.
        plane_per_class: n there; many, to hold the classifiers in place.
        crowded: (K, d) with d < K - 1.
        crowded_starts: Random starts of each, at every temperature.
    """

    cells: tuple[tuple[int, int], ...] = ((4, 6), (4, 4), (4, 3), (3, 2))
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0, 7.5, 9.0, 12.0, 15.0)
    starts: int = 100
    per_class: int = 3
    saddle_temperatures: tuple[float, float, int] = (0.5, 32.0, 19)
    saddle_per_class: int = 40
    searched: tuple[tuple[int, int], ...] = ((3, 4), (3, 3))
    searched_temperatures: tuple[float, ...] = (0.7, 1.5, 2.5)
    searches: int = 20
    plane_temperatures: tuple[float, float, int] = (1.2, 4.0, 15)
    plane_per_class: int = 200
    crowded: tuple[tuple[int, int], ...] = ((4, 2), (5, 3), (6, 3), (8, 4))
    crowded_starts: int = 10


PRESETS = {
    "smoke": Config(
        cells=((4, 6), (3, 2)),
        temperatures=(2.0, 7.5, 12.0),
        starts=6,
        saddle_temperatures=(0.5, 32.0, 7),
        searched=((3, 4),),
        searched_temperatures=(0.7,),
        searches=4,
        plane_temperatures=(1.6, 3.0, 5),
        plane_per_class=60,
        crowded=((4, 2), (6, 3)),
        crowded_starts=3,
    ),
    "quick": Config(),
    "paper": Config(
        cells=((10, 16), (4, 6), (10, 10), (10, 9), (5, 4), (3, 2)),
        temperatures=(1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 26.0),
        starts=500,
        per_class=5,
        saddle_temperatures=(0.5, 64.0, 40),
        searched=((3, 4), (3, 3), (4, 5), (4, 4)),
        searches=200,
        plane_per_class=500,
        crowded=((4, 2), (5, 3), (6, 3), (8, 4), (16, 8)),
        crowded_starts=50,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Random starts, saddles by construction, Newton's method, a feature held on the wrong side, too few dimensions."""
    starts = sweep(started, [(config, *cell, tau) for cell in config.cells for tau in config.temperatures])
    saddles = [row for rows in sweep(built, [(config, tau) for tau in _spaced(*config.saddle_temperatures)]) for row in rows]
    points = [
        row
        for rows in sweep(
            searched, [(config, *cell, tau) for cell in config.searched for tau in config.searched_temperatures]
        )
        for row in rows
    ]
    plane = sweep(held, [(config, tau) for tau in _spaced(*config.plane_temperatures)])
    crowded = sweep(crowd, [(config, *cell, tau) for cell in config.crowded for tau in config.temperatures[:-1]])
    bound = proven_temperature(*config.cells[0])
    tables = {
        "starts": table_of(starts),
        "saddles": table_of([*saddles, *_marked(saddles, bound, "depth")]),
        "one classifier": table_of(_directions(saddles, bound)),
        "critical points": table_of(points),
        "opposite feature": table_of(plane),
        "few dimensions": table_of(crowded),
    }
    claims = (*_start_claims(starts), *_saddle_claims(saddles, bound), *_search_claims(points), *_plane_claims(plane))
    return Findings(claims, _answer(starts, saddles, points, plane, bound), tables, tuple(_panels(config)))


def started(item: tuple[Config, int, int, float]) -> Row:
    """How many random starts of one cell end at a certified global minimum, and how collapsed they are."""
    config, classes, features, temperature = item
    problem = _model(classes, features, config.per_class, temperature)
    solutions = [solve_normalized(problem, seed=seed) for seed in range(config.starts)]
    certified = [solution for solution in solutions if solution.certificate.holds]
    others = [solution.certificate for solution in solutions if not solution.certificate.holds]
    bound = proven_temperature(classes, features)
    ideal = ideal_gram(classes)
    return {
        "cell": f"K = {classes}, d = {features}",
        "K": classes,
        "d": features,
        "temperature": temperature,
        "proven": temperature < bound,
        "starts": config.starts,
        "certified": len(certified),
        "share": len(certified) / config.starts,
        "minimum": normalized_optimum(problem).value,
        "largest gap": max((solution.certificate.gap for solution in certified), default=None),
        "lowest gap": min(solution.certificate.gap for solution in solutions),
        "largest error of a cosine": max(
            (float((found.W @ found.W.T - ideal).abs().max()) for found in certified), default=None
        ),
        "median steps": statistics.median(solution.trace["step"][-1] for solution in solutions),
        "gap of the others": max((found.gap for found in others), default=None),
        "smallest eigenvalue of the others": min((found.evidence["smallest eigenvalue"] for found in others), default=None),
        "other outcomes": ", ".join(sorted({s.status.outcome for s in solutions if not s.certificate.holds})),
    }


def built(item: tuple[Config, float]) -> list[Row]:
    """Constructed critical points at one temperature: their kind, and the curvature of the way down."""
    config, temperature = item
    classes, features = config.cells[0]
    problem = _model(classes, features, config.saddle_per_class, temperature)
    rows = []
    for name, point in _constructed(problem).items():
        found = classify_normalized(problem, point.W, point.H)
        curvature, predicted = (found.direction.curvature, found.direction.predicted) if found.direction else (None, None)
        rows.append(
            {
                "point": name,
                "temperature": temperature,
                "kind": found.kind,
                "gradient norm": found.gradient_norm,
                "smallest eigenvalue": found.smallest_eigenvalue,
                "depth": -found.smallest_eigenvalue,
                "way down": found.construction,
                "curvature": curvature,
                "predicted": predicted,
                "fixed mixture": fixed_mixture(problem, point) if name == "one classifier" else None,
            }
        )
    return rows


def fixed_mixture(problem: NormalizedFeatures, point: Point) -> float:
    """Curvature at a single classifier along (u b^T, (I - h h^T) b u_y), per squared length, for the best b."""
    form = SphereForm(problem, point.W, point.H)
    half = problem.classes // 2
    u = torch.zeros(problem.classes, dtype=torch.float64)
    u[:half], u[half : 2 * half] = 1.0, -1.0
    plane = torch.linalg.svd(form.W[:1], full_matrices=True).Vh[1:]  # orthogonal to the one classifier

    def direction(b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.outer(u, b), (b[:, None] - form.H * (b @ form.H)) * u[form.targets]

    # The curvature is a quadratic form in b: its matrix by polarisation.
    count = len(plane)
    directions = [direction(b) for b in plane]
    bent = [form.second(*each) for each in directions]
    pairs = [(i, j) for i in range(count) for j in range(count)]
    form_in_b = torch.tensor([_inner(directions[i], bent[j]) for i, j in pairs]).double().view(count, count)
    lengths = torch.tensor([_inner(directions[i], directions[j]) for i, j in pairs]).double().view(count, count)
    root = torch.linalg.cholesky(lengths)
    scaled = torch.linalg.solve(root, torch.linalg.solve(root, form_in_b).T)
    return float(torch.linalg.eigvalsh((scaled + scaled.T) / 2)[0])


def searched(item: tuple[Config, int, int, float]) -> list[Row]:
    """Critical points near random starts, and their kinds."""
    config, classes, features, temperature = item
    problem = _model(classes, features, 2, temperature)
    rows = []
    for seed in range(config.searches):
        found = nearby_critical_point(problem, seed=seed)
        if not found.status.converged:
            continue
        point = classify_normalized(problem, found.W, found.H)
        rows.append(
            {
                "cell": f"K = {classes}, d = {features}",
                "temperature": temperature,
                "seed": seed,
                "objective": found.objective,
                "kind": point.kind,
                "way down": point.construction or "none",
                "smallest eigenvalue": point.smallest_eigenvalue,
                "depth": -point.smallest_eigenvalue,
            }
        )
    return rows


def held(item: tuple[Config, float]) -> Row:
    """The lowest eigenvalue, other than the rotation's, where one feature of each class is opposite to its classifier."""
    config, temperature = item
    problem = _model(3, 2, config.plane_per_class, temperature)
    point = opposite_features(problem, 1)
    form = SphereForm(problem, point.W, point.H)
    # The rotation of the plane is a known eigenvector of eigenvalue zero: move it out of the way.
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    rotation = form.coordinates(form.W @ turn.T, turn @ form.H)
    rotation = rotation / torch.linalg.vector_norm(rotation)
    found = extreme_eigenpairs(lambda v: form.product(v) + rotation * (rotation @ v), form.dimension)
    return {
        "temperature": temperature,
        "smallest eigenvalue": float(found.values[0]) if found.status.converged else None,
        "zero": 0.0,
        "gradient norm": form.gradient_norm,
        "objective": float(form.value),
        "minimum": normalized_optimum(problem).value,
    }


def crowd(item: tuple[Config, int, int, float]) -> Row:
    """The lowest objective found with fewer dimensions than a simplex needs, and how far apart its classes are."""
    config, classes, features, temperature = item
    problem = _model(classes, features, 1, temperature)
    best = min(
        (solve_normalized(problem, seed=seed) for seed in range(config.crowded_starts)), key=lambda found: found.objective
    )
    cosines = (best.W @ best.W.T)[~torch.eye(classes, dtype=torch.bool)]
    known = normalized_optimum(problem)
    return {
        "K": classes,
        "d": features,
        "temperature": temperature,
        "lowest objective": best.objective,
        "minimum with d >= K - 1": known.bound,
        "largest cosine": float(cosines.max()),
        "largest |cosine|": float(cosines.abs().max()),
        "Welch bound": known.welch,
        "gap": best.certificate.gap,
    }


def _model(classes: int, features: int, per_class: int, temperature: float) -> NormalizedFeatures:
    return NormalizedFeatures(classes=classes, features=features, per_class=per_class, temperature=float(temperature))


def _constructed(problem: NormalizedFeatures) -> dict[str, Point]:
    points = {
        "one classifier": single_classifier(problem),
        "all classes merged": merged_classes(problem, 1),
        "one feature opposite": opposite_features(problem, 1),
        "all features opposite": opposite_features(problem, problem.counts[0]),
    }
    if problem.classes >= 4:
        points["polygon"] = polygon(problem)
    if problem.classes % 2 == 0 and problem.classes > 2:
        points["classes merged in pairs"] = merged_classes(problem, problem.classes // 2)
    return points


def _inner(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, other, strict=True))


def _spaced(first: float, last: float, count: int) -> list[float]:
    return [first * (last / first) ** (i / (count - 1)) for i in range(count)]


def _marked(rows: Sequence[Row], bound: float, name: str) -> list[Row]:
    """Two points of a vertical line at the bound, from the lowest to the highest value of a column."""
    values = [row[name] for row in rows if row.get(name)]
    return [{"point": _BOUND, "direction": _BOUND, "temperature": bound, name: end} for end in (min(values), max(values))]
