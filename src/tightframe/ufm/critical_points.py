"""Critical points of the model, by construction from its symmetries and by Newton's method from any start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.core.threads import on_few_threads
from tightframe.core.typing import Float
from tightframe.optimize.smooth import lbfgs, newton_steps
from tightframe.optimize.stationary import stationary_point
from tightframe.ufm.certificate import best_bias
from tightframe.ufm.landscape import CriticalPoint, Landscape, classify
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm
from tightframe.ufm.solvers import solve

Vector = Float[Tensor, " n"]

# Steps of L-BFGS within a symmetric subspace, and the norm of the gradient that Newton's method is asked for.
_MOST_STEPS, _GRADIENT = 5000, 1e-12
# Objectives that differ by more than this, relatively, are those of different ends.
_APART = 1e-6
# Eigenvalues above this share of sqrt(lambda_W lambda_H) are not zero.
_STIFF = 1e-3


def symmetric_point(
    problem: UnconstrainedFeatures,
    *,
    rank: int | None = None,
    groups: Sequence[Sequence[int]] = (),
    seed: int = 0,
) -> CriticalPoint:
    r"""A critical point of low rank, or with classes merged, or both; the origin for rank 0.

    .. math:: \min_{\hat A, \hat B, \hat b} \Phi(P \hat A Q^\top,\; Q \hat B P^\top,\; P \hat b)

    over the points that some symmetries of the model leave unchanged: reflections in the directions orthogonal to the
    columns of Q (d, r), and permutations of the classes of each group, whose indicators, of unit length, are the
    columns of P (k, g). The gradient at such a point is itself unchanged, so that a critical point among them is a
    critical point of the model (the principle of symmetric criticality). Q is drawn at random.

    Args:
        problem: The model.
        rank: r, at most d; d where not given.
        groups: Merged classes, each with equally many samples; classes that are not named stay on their own.
        seed: Seed of the start and of Q.

    Returns:
        CriticalPoint, "not critical" where the minimisation did not reach the precision of one.

    Raises:
        InputError: A rank outside of 0..d; groups that overlap, name an unknown class or have classes of unequal sizes.

    Example:
        >>> from tightframe.ufm import UnconstrainedFeatures
        >>> problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> symmetric_point(problem, groups=[(0, 1)]).kind
        'strict saddle'

    Reference: [palais1979principle].
    """
    rank = problem.features if rank is None else rank
    if check_count(rank, "rank", least=0) > problem.features:
        raise InputError(f"a rank from 0 to d = {problem.features}", got=repr(rank), remedy="Lower rank.")
    P = _indicators(problem, groups)
    start = NormalForm.of_point(problem, problem.start(seed=seed), collapse=True)
    if rank == 0:
        origin = best_bias(start.moved(torch.zeros_like(start.A), torch.zeros_like(start.B), torch.zeros_like(start.b)))
        return classify(problem, origin.point)
    normal = torch.randn(problem.features, problem.features, dtype=torch.float64, generator=generator(seed))
    Q = torch.linalg.qr(normal).Q[:, :rank]
    whole, small = Landscape(start), Landscape(start.moved(P.T @ start.A @ Q, Q.T @ start.B @ P, P.T @ start.b))

    def embed(vector: Vector) -> Vector:
        A, B, b = small.parts(vector)
        return whole.joined((P @ A @ Q.T, Q @ B @ P.T, P @ b))

    def restrict(vector: Vector) -> Vector:
        A, B, b = whole.parts(vector)
        return small.joined((P.T @ A @ Q, Q.T @ B @ P, P.T @ b))

    def value(vector: Vector) -> tuple[float, Vector]:
        found, gradient = whole.value(embed(vector))
        return found, restrict(gradient)

    reached, _ = lbfgs(value, small.vector, max_iterations=_MOST_STEPS)
    polished = newton_steps(
        lambda v: value(v)[1], lambda v, direction: restrict(whole.product(embed(v), embed(direction))), reached
    )
    return classify(problem, whole.at(embed(polished)).point)


def reductions(problem: UnconstrainedFeatures) -> dict[str, dict[str, object]]:
    """Arguments of `symmetric_point` by name: the origin, all ranks below that of the simplex, merged classes.

    Example:
        >>> from tightframe.ufm import UnconstrainedFeatures
        >>> list(reductions(UnconstrainedFeatures(classes=4, features=2)))
        ['origin', 'rank 1', 'two classes merged', 'two halves merged', 'all but one merged']
    """
    classes = problem.classes
    named = {f"rank {r}" if r else "origin": {"rank": r} for r in range(min(problem.features, classes - 1))}
    alike = max(([k for k in range(classes) if problem.counts[k] == n] for n in problem.counts), key=len)
    if len(alike) > 1:
        named["two classes merged"] = {"groups": [alike[:2]]}
    if problem.balanced and classes > 2:
        half = classes // 2
        named["two halves merged"] = {"groups": [range(half), range(half, classes)]}
        named["all but one merged"] = {"groups": [range(1, classes)]}
    return named


@on_few_threads
def newton_point(
    problem: UnconstrainedFeatures, *, seed: int = 0, start: Point | None = None, max_steps: int = 500
) -> CriticalPoint:
    r"""A critical point of whatever kind is near a random start, by damped Newton steps on the gradient.

    .. math:: x \leftarrow x - (\mathcal H^2 + \mu I)^{-1} \mathcal H \nabla\Phi(x)

    Args:
        problem: The model.
        seed: Seed of the start (W, H, b standard normal).
        start: A start of your own.
        max_steps: Steps at most.

    Returns:
        CriticalPoint, "not critical" where the steps did not get there.

    Raises:
        InputError: A start that does not fit the problem.

    Reference: [marquardt1963algorithm].
    """
    start = problem.start(seed=seed) if start is None else problem.point(start.W, start.H, start.b)
    landscape = Landscape(NormalForm.of_point(problem, start, collapse=problem.loss.convex))
    found = stationary_point(
        landscape.gradient, landscape.product, landscape.vector, tolerance=_GRADIENT, max_steps=max_steps
    )
    return classify(problem, landscape.at(found.x).point)


def survey(problem: UnconstrainedFeatures, searches: int, *, seed: int = 0) -> list[tuple[str, CriticalPoint]]:
    """Critical points by descent, by construction and by Newton's method, each with which of the three found it.

    Args:
        problem: The model.
        searches: Starts of Newton's method. Their lengths run over a decade: short ones come to the origin, long ones
            to higher ranks.
        seed: Of the first start; each further one has the next.

    Returns:
        ("descent", the end of `solve`), then ("construction", ...) for all `reductions`, then ("Newton", ...).
    """
    solution = solve(problem, seed=seed)
    found = [("descent", classify(problem, Point(solution.W, solution.H, solution.b)))]
    found += [("construction", symmetric_point(problem, **options)) for options in reductions(problem).values()]
    for search in range(searches):
        start = problem.start(seed=seed + search, scale=0.5 * 10 ** (search % 10 / 9))
        found.append(("Newton", newton_point(problem, start=start)))
    return found


@dataclass(frozen=True)
class End:
    """Where several descents end.

    Args:
        point: One of their ends.
        starts: How many end at its objective.
        stiffness: Smallest eigenvalue of the Hessian beside the zeros of rotations of the features, d(d-1)/2 of them
            less m(m-1)/2 within the null space of W, of dimension m; None where Lanczos did not converge.
        isolated: Whether that is above zero by more than rounding: the end is then a local minimum, isolated up to
            rotations.
    """

    point: CriticalPoint
    starts: int
    stiffness: float | None
    isolated: bool


def ends(problem: UnconstrainedFeatures, starts: int, *, seed: int = 0) -> list[End]:
    """The different objectives at which descents from random starts end, lowest first.

    Args:
        problem: The model.
        starts: Random starts.
        seed: Of the first start; each further one has the next.
    """
    check_count(starts, "starts")
    solutions = sorted((solve(problem, seed=seed + i) for i in range(starts)), key=lambda found: found.objective)
    groups: list[list[Solution]] = []
    for solution in solutions:
        if not groups or solution.objective - groups[-1][0].objective > _APART * abs(solution.objective):
            groups.append([])
        groups[-1].append(solution)
    return [_end(problem, group) for group in groups]


def _end(problem: UnconstrainedFeatures, group: list[Solution]) -> End:
    solution = group[0]
    point = classify(problem, Point(solution.W, solution.H, solution.b))
    rotations = math.comb(problem.features, 2) - math.comb(problem.features - point.rank, 2)
    form = NormalForm.of_point(problem, point.point)
    pairs = Landscape(form).extreme(count=rotations + 1)
    if not pairs.status.converged:
        return End(point, len(group), None, False)
    stiffness = float(pairs.values[rotations])
    return End(point, len(group), stiffness, stiffness > _STIFF * problem.nuclear_decay)


def _indicators(problem: UnconstrainedFeatures, groups: Sequence[Sequence[int]]) -> Float[Tensor, "k g"]:
    """Unit indicator vectors of the groups and of every class on its own."""
    named = [k for group in groups for k in group]
    known = all(isinstance(k, int) and 0 <= k < problem.classes for k in named)
    if not known or len(set(named)) < len(named) or not all(groups):
        raise InputError(
            f"groups of different classes from 0 to {problem.classes - 1}",
            got=repr([list(group) for group in groups]),
            remedy="Name each class once at most; a class that is not named stays on its own.",
        )
    for group in groups:
        counts = [problem.counts[k] for k in group]
        if len(set(counts)) > 1:
            raise InputError(
                "merged classes of equal sizes",
                got=f"classes {list(group)} with {counts} samples",
                remedy="Merge equal classes: only these may be exchanged without changing the model.",
            )
    alone = [(k,) for k in range(problem.classes) if k not in named]
    P = torch.zeros(problem.classes, len(groups) + len(alone), dtype=torch.float64)
    for g, group in enumerate([*groups, *alone]):
        P[list(group), g] = len(group) ** -0.5
    return P
