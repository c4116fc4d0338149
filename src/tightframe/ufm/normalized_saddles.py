"""Critical points on spheres: written down, critical by symmetry at every temperature, or found by Newton's method."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution
from tightframe.core.typing import Float
from tightframe.geometry.frames import simplex_etf
from tightframe.optimize.riemannian import random_columns, tangent
from tightframe.optimize.stationary import stationary_point
from tightframe.ufm.model import Point
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm

Vector = Float[Tensor, " m"]


def single_classifier(problem: NormalizedFeatures, *, even: bool = False, seed: int = 0) -> Point:
    """One row for all classes, and the same features in every class: nothing is learned.

    All logits of a sample agree, so that features have no gradient, and what the classes ask of W cancels because their
    features are the same. With per_class >= d they leave no direction free, so that a way down has to move W and H
    within their span.

    Args:
        problem: The model.
        even: Features at plus and minus the axes orthogonal to the classifier, equally many at each, instead of uniform
            ones on the sphere. At these the direction of the source leads down exactly below its temperature 2(d - 2).
        seed: Seed of the placement.

    Raises:
        InputError: Unequal classes, a loss that is not one of differences of logits, `even` where per_class is not a
            multiple of 2(d - 1).
    """
    _check_balanced(problem)
    if not problem.loss.shift_invariant:
        raise InputError("a loss of differences of logits", got=problem.loss.name, remedy='Use "ce".')
    count, places = problem.counts[0], 2 * (problem.features - 1)
    columns = random_columns(problem.features, count + 1, seed=seed)
    row, columns = columns[:, -1:], columns[:, :-1]
    if even:
        if count % places:
            raise InputError(
                f"a multiple of 2(d - 1) = {places} samples per class", got=f"{count}", remedy="Change per_class."
            )
        across = torch.linalg.svd(row.T, full_matrices=True).Vh[1:].T
        columns = torch.cat([across, -across], dim=1).repeat(1, count // places)
    return problem.point(row.T.expand(problem.classes, -1), columns.repeat(1, problem.classes))


def merged_classes(problem: NormalizedFeatures, groups: int, *, seed: int = 0) -> Point:
    """A simplex of `groups` vectors, each shared by K/groups classes and their features; 1 for all of them together.

    Raises:
        InputError: Unequal classes, a number of groups that does not divide K or is K, d < groups - 1.
    """
    _check_balanced(problem)
    check_count(groups, "groups")
    if problem.classes % groups or groups == problem.classes:
        raise InputError(
            f"a proper divisor of K = {problem.classes}",
            got=f"groups={groups}",
            remedy="The groups must be of equal size, and larger than one class.",
        )
    vertices = (
        simplex_etf(groups, problem.features, seed=seed)
        if groups > 1
        else random_columns(problem.features, 1, seed=seed).T
    )
    return _aligned(problem, vertices.repeat_interleave(problem.classes // groups, dim=0))


def polygon(problem: NormalizedFeatures, *, seed: int = 0) -> Point:
    """The classes at the corners of a regular polygon in a plane, W = Hbar^T: the frame of two dimensions, padded.

    Raises:
        InputError: Unequal classes, or K < 4, for which the polygon is the simplex.
    """
    _check_balanced(problem)
    check_count(problem.classes, "classes", least=4)
    angles = torch.arange(problem.classes, dtype=torch.float64) * (2 * math.pi / problem.classes)
    corners = torch.stack([angles.cos(), angles.sin()], dim=1)
    plane = simplex_etf(3, problem.features, seed=seed)
    basis = torch.linalg.qr(plane.T[:, :2]).Q
    return _aligned(problem, corners @ basis.T)


def opposite_features(problem: NormalizedFeatures, count: int, *, seed: int = 0) -> Point:
    r"""The simplex ETF, with the first `count` features of every class on the side opposite to their classifier.

    For d = K - 1 and tau > K - 1 such a feature is at a strict local minimum for the classifiers given: along the
    sphere its loss has curvature tau (1 - p) K/(K-1) (tau/(K-1) - 1), p being its share of the true class. Where the
    other features are many enough to hold the classifiers in place, the whole point is a local minimum.

    Raises:
        InputError: Unequal classes, a count outside 1 ... n, fewer than K - 1 dimensions.
    """
    _check_balanced(problem)
    check_count(count, "count")
    if count > problem.counts[0]:
        raise InputError(f"at most {problem.counts[0]} features per class", got=f"{count}", remedy="Turn fewer round.")
    point = _aligned(problem, simplex_etf(problem.classes, problem.features, seed=seed))
    place = torch.arange(problem.samples) % problem.counts[0]
    return problem.point(point.W, torch.where(place < count, -point.H, point.H))


def nearby_critical_point(
    problem: NormalizedFeatures,
    *,
    seed: int = 0,
    start: Point | None = None,
    tolerance: float = 1e-12,
    max_steps: int = 100,
) -> Solution:
    r"""A critical point of whatever kind near a start, most often a saddle: damped Newton steps on grad f = 0.

    The spheres are left for free columns x by f(x/|x|) + (1/2) sum (|x| - 1)^2, which has the same critical points.
    Meant for a few hundred variables and moderate temperatures; where the loss is flat the method creeps.

    Args:
        problem: The model.
        seed: Seed of the start (uniform on the spheres).
        start: A start of your own, in place of the random one.
        tolerance: Norm of the gradient at which to stop.
        max_steps: At most this many steps.

    Returns:
        Solution with W (k, d), H (d, n), the objective there and a trace of "gradient norm"; no certificate, see
        `classify_normalized`.
    """
    start = problem.start(seed=seed) if start is None else problem.point(start.W, start.H)
    shape = (problem.features, problem.classes + problem.samples)

    def gradient(vector: Vector) -> Vector:
        form, norms, columns = _off_spheres(problem, vector.view(shape))
        return (_joined(*form.gradient) / norms + (norms - 1) * columns).flatten()

    def product(vector: Vector, along: Vector) -> Vector:
        form, norms, columns = _off_spheres(problem, vector.view(shape))
        radial = (columns * along.view(shape)).sum(0)
        turned = tangent(columns, along.view(shape)) / norms
        slopes = _joined(*form.euclidean)
        bent = _joined(*form.euclidean_second(turned[:, : problem.classes].T, turned[:, problem.classes :]))
        # The derivative of (I - y y^T) g / |x| along y, g and |x| in turn.
        bent = tangent(columns, bent) - turned * (columns * slopes).sum(0) - columns * (turned * slopes).sum(0)
        bent = bent / norms - tangent(columns, slopes) * radial / norms.square()
        return (bent + radial * columns + (norms - 1) * turned).flatten()

    found = stationary_point(
        gradient, product, _joined(start.W, start.H).flatten(), tolerance=tolerance, max_steps=max_steps
    )
    form, _, _ = _off_spheres(problem, found.x.view(shape))
    return Solution(found.status, float(form.value), {"W": form.W, "H": form.H}, found.trace)


def _off_spheres(problem: NormalizedFeatures, columns: Tensor) -> tuple[SphereForm, Tensor, Tensor]:
    """The form at the directions of free columns (rows of W first), their norms and the directions."""
    norms = torch.linalg.vector_norm(columns, dim=0)
    unit = columns / norms
    return SphereForm(problem, unit[:, : problem.classes].T, unit[:, problem.classes :]), norms, unit


def _joined(in_W: Tensor, in_H: Tensor) -> Tensor:
    return torch.cat([in_W.T, in_H], dim=1)


def _aligned(problem: NormalizedFeatures, rows: Tensor) -> Point:
    return problem.point(rows, rows.T[:, problem.labels])


def _check_balanced(problem: NormalizedFeatures) -> None:
    if not problem.balanced:
        raise InputError(
            "equally many samples in every class",
            got=f"counts {list(problem.counts[:8])}",
            remedy="Without that symmetry the point is not critical.",
        )
