"""What one cell of the study of spheres measures: starts, saddles, searches; each function takes one tuple."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import torch

from tightframe.geometry.frames import ideal_gram
from tightframe.optimize.curvature import extreme_eigenpairs
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

Row = Mapping[str, float | int | str | bool | None]
Shape = tuple[int, int, int, float]  # K, d, n, tau

ONE_CLASSIFIER = "one classifier"
_SHARE = 1e-3


def started(item: tuple[Shape, int]) -> Row:
    """How many of so many random starts end at a certified global minimum, and how collapsed they are."""
    (classes, features, per_class, temperature), starts = item
    problem = _model(item[0])
    solutions = [solve_normalized(problem, seed=seed) for seed in range(starts)]
    certified = [solution for solution in solutions if solution.certificate.holds]
    others = [solution for solution in solutions if not solution.certificate.holds]
    lowest = [found.certificate.evidence["smallest eigenvalue"] for found in others]
    ideal = ideal_gram(classes)
    return {
        "cell": cell_name(classes, features),
        "K": classes,
        "d": features,
        "n": per_class,
        "temperature": temperature,
        "proven": temperature < proven_temperature(classes, features),
        "starts": starts,
        "certified": len(certified),
        "share": len(certified) / starts,
        "minimum": normalized_optimum(problem).value,
        "largest gap": max((found.certificate.gap for found in certified), default=None),
        "lowest gap": min(found.certificate.gap for found in solutions),
        "error of cosines": max(
            (float((found.W @ found.W.T - ideal).abs().max()) for found in certified), default=None
        ),
        "median steps": statistics.median(found.trace["step"][-1] for found in solutions),
        "largest gap of the others": max((found.certificate.gap for found in others), default=None),
        "smallest eigenvalue of the others": min(lowest, default=None),
        "outcomes of the others": ", ".join(sorted({found.status.outcome for found in others})),
    }


def built(shape: Shape) -> list[Row]:
    """Constructed critical points: their kind, and the curvature of the way down."""
    problem, rows = _model(shape), []
    # At high temperatures the loss is small at most points: optimal is what is near the minimum by its own measure.
    tolerance = max(1e-15, _SHARE * normalized_optimum(problem).value)
    for name, point in _constructed(problem).items():
        found = classify_normalized(problem, point.W, point.H, tolerance=tolerance)
        way = found.direction
        rows.append(
            {
                "point": name,
                "temperature": shape[-1],
                "kind": found.kind,
                "objective": found.certificate.evidence["value"],
                "gradient norm": found.gradient_norm,
                "smallest eigenvalue": found.smallest_eigenvalue,
                "depth": -found.smallest_eigenvalue,
                "way down": found.construction,
                "curvature": None if way is None else way.curvature,
                "predicted": None if way is None else way.predicted,
                "fixed mixture": fixed_mixture(problem, point) if name == ONE_CLASSIFIER else None,
            }
        )
    return rows


def fixed_mixture(problem: NormalizedFeatures, point: Point) -> float:
    """The lowest curvature at a single classifier along (u b^T, (I - h h^T) b u_y), over all b, u balanced signs."""
    form = SphereForm(problem, point.W, point.H)
    half = problem.classes // 2
    u = torch.zeros(problem.classes, dtype=torch.float64)
    u[:half], u[half : 2 * half] = 1.0, -1.0
    across = torch.linalg.svd(form.W[:1], full_matrices=True).Vh[1:]
    ways = [(torch.outer(u, b), (b[:, None] - form.H * (b @ form.H)) * u[form.targets]) for b in across]
    bent, lengths = (
        torch.tensor([[_inner(one, other) for other in others] for one in ways], dtype=torch.float64)
        for others in ([form.second(*way) for way in ways], ways)
    )
    root = torch.linalg.cholesky(lengths)
    scaled = torch.linalg.solve(root, torch.linalg.solve(root, bent).T)
    return float(torch.linalg.eigvalsh((scaled + scaled.T) / 2)[0])


def searched(item: tuple[Shape, int]) -> list[Row]:
    """Critical points that Newton's method finds near so many random starts, and their kinds."""
    shape, searches = item
    problem, rows = _model(shape), []
    for seed in range(searches):
        found = nearby_critical_point(problem, seed=seed)
        row = {"cell": cell_name(*shape[:2]), "temperature": shape[-1], "seed": seed, "found": found.status.converged}
        if found.status.converged:
            point = classify_normalized(problem, found.W, found.H)
            row |= {
                "objective": found.objective,
                "kind": point.kind,
                "way down": point.construction or "none",
                "smallest eigenvalue": point.smallest_eigenvalue,
                "modulus of the smallest eigenvalue": -point.smallest_eigenvalue,
            }
        rows.append(row)
    return rows


def held(item: tuple[int, float]) -> Row:
    """K = 3, d = 2, one feature of each class opposite to its classifier: the lowest eigenvalue but the rotation's."""
    per_class, temperature = item
    problem = _model((3, 2, per_class, temperature))
    point = opposite_features(problem, 1)
    form = SphereForm(problem, point.W, point.H)
    # The rotation of the plane is an eigenvector of eigenvalue zero: it is moved out of the way.
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    rotation = form.coordinates(form.W @ turn.T, turn @ form.H)
    rotation = rotation / torch.linalg.vector_norm(rotation)
    found = extreme_eigenpairs(lambda v: form.product(v) + rotation * (rotation @ v), form.dimension)
    return {
        "temperature": temperature,
        "n": per_class,
        "smallest eigenvalue": float(found.values[0]) if found.status.converged else None,
        "gradient norm": form.gradient_norm,
        "objective": float(form.value),
        "minimum": normalized_optimum(problem).value,
    }


def crowded(item: tuple[Shape, int]) -> Row:
    """The lowest objective found with fewer dimensions than a simplex needs, and how far apart its classes are."""
    shape, starts = item
    problem = _model(shape)
    best = min((solve_normalized(problem, seed=seed) for seed in range(starts)), key=lambda found: found.objective)
    cosines = (best.W @ best.W.T)[~torch.eye(shape[0], dtype=torch.bool)]
    known = normalized_optimum(problem)
    return {
        "cell": cell_name(*shape[:2]),
        "temperature": shape[-1],
        "lowest objective": best.objective,
        "minimum with d >= K - 1": known.bound,
        "dual gap": best.certificate.gap,
        "largest cosine": float(cosines.max()),
        "coherence": float(cosines.abs().max()),
        "Welch bound": known.welch,
    }


def cell_name(classes: int, features: int) -> str:
    """ "K = 4, d = 6"."""
    return f"K = {classes}, d = {features}"


def _model(shape: Shape) -> NormalizedFeatures:
    classes, features, per_class, temperature = shape
    return NormalizedFeatures(classes=classes, features=features, per_class=per_class, temperature=temperature)


def _constructed(problem: NormalizedFeatures) -> dict[str, Point]:
    points = {
        ONE_CLASSIFIER: single_classifier(problem, even=True),
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
