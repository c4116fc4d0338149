"""The landscape of fourth powers on the sphere: their expectation in closed form, and critical points of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.checks import check_features
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float
from tightframe.data.sparse import Values
from tightframe.optimize.curvature import dense_matrix
from tightframe.optimize.riemannian import tangent_vectors
from tightframe.optimize.stationary import stationary_point

Atoms = Float[Tensor, "p d"]
Directions = Float[Tensor, "q d"]

# Second and fourth moments of the entries that are not zero; those of all "one" or "uniform" have no mean of zero.
_MOMENTS: dict[str, tuple[float, float]] = {"gaussian": (1.0, 3.0), "rademacher": (1.0, 1.0)}


def power_constants(density: float, *, values: Values = "gaussian") -> tuple[float, float]:
    r"""The constants of the expected fourth power of sparse codes in a direction.

    .. math:: c_1 = \theta\, \mathbb E g^4 - 3 \theta^2 (\mathbb E g^2)^2, \qquad c_2 = 3 \theta^2 (\mathbb E g^2)^2

    which for Gaussian g is c_1 = 3 theta (1 - theta) and c_2 = 3 theta^2.

    Args:
        density: theta in [0, 1].
        values: Distribution of g, "gaussian" or "rademacher".

    Returns:
        c_1 and c_2.

    Raises:
        InputError: A density outside [0, 1], or a distribution whose mean is not zero.

    Example:
        >>> [round(number, 12) for number in power_constants(0.1)]
        [0.27, 0.03]

    Reference: [qu2020geometric], section 2.
    """
    if not (math.isfinite(density) and 0 <= density <= 1):
        raise InputError("a density in [0, 1]", got=repr(density), remedy="Use 0.1.")
    if values not in _MOMENTS:
        raise InputError(f"values, one of {', '.join(_MOMENTS)}", got=repr(values), remedy="Choose one.")
    second, fourth = _MOMENTS[values]
    rest = 3 * density**2 * second**2
    return density * fourth - rest, rest


def expected_fourth_power(
    atoms: Atoms, directions: Directions, density: float, *, values: Values = "gaussian"
) -> Float[Tensor, " q"]:
    r"""Expectation of the fourth power of a sample's projection on a direction.

    .. math:: \mathbb E\,(y^\top q)^4 = c_1 \|A^\top q\|_4^4 + c_2 \|A^\top q\|_2^4, \qquad y = A x

    where
        the columns of A are the rows of `atoms` (p, d), the entries of x are zero but with probability theta, and c_1
        and c_2 are `power_constants`. For a tight frame the second term is a constant on the sphere.

    Args:
        atoms: (p, d), of any length.
        directions: q, one per row, of any length.
        density: theta.
        values: Distribution of the entries that are not zero, "gaussian" or "rademacher".

    Returns:
        One number per direction, float64.

    Raises:
        InputError: As `power_constants`, or matrices of different widths.

    Example:
        >>> expected_fourth_power(torch.eye(2), torch.eye(2), 0.1).tolist()
        [0.30000000000000004, 0.30000000000000004]

    Reference: [qu2020geometric], section 2.
    """
    first, second = power_constants(density, values=values)
    projections = _projections(atoms, directions)
    squares = projections.square()
    return first * squares.square().sum(1) + second * squares.sum(1).square()


@dataclass(frozen=True)
class SpherePoints:
    """Critical points of minus the fourth power of projections on a dictionary's atoms.

    Args:
        points: Unit vectors (q, d).
        values: -|A^T q|_4^4 / 4 (q,).
        gradients: Norm of the Riemannian gradient (q,).
        curvatures: Least eigenvalue of the Riemannian Hessian (q,), divided by |A^T q|_4^4.
        gaps: 1 - the largest |cosine| with an atom (q,).
    """

    points: Directions
    values: Float[Tensor, " q"]
    gradients: Float[Tensor, " q"]
    curvatures: Float[Tensor, " q"]
    gaps: Float[Tensor, " q"]

    def kinds(self, *, near: float = 0.05, strict: float = 1e-6) -> list[str]:
        """ "column" where an atom is within `near`, "strict saddle" where a curvature is below -`strict`, else "other".

        A point that is both counts as a column.
        """
        pairs = zip(self.gaps.tolist(), self.curvatures.tolist(), strict=True)
        return ["column" if gap <= near else "strict saddle" if bend < -strict else "other" for gap, bend in pairs]


def sphere_critical_points(
    atoms: Atoms, starts: Directions, *, tolerance: float = 1e-12, max_steps: int = 200
) -> SpherePoints:
    r"""The critical point of -|A^T q|_4^4 / 4 on the sphere that Newton's method finds from each start.

    .. math:: x = \sum_k a_k \langle a_k, x\rangle^3, \qquad q = \frac{x}{\|x\|}

    The critical points of |x|^2 / 2 - |A^T x|_4^4 / 4 other than zero lie on the same rays, so that `stationary_point`
    can look for them without the sphere; their Hessians agree on the tangent space. Saddles attract it like minima.

    Args:
        atoms: A (p, d), rows of unit norm.
        starts: (q, d), scaled to the sphere first.
        tolerance: Norm of the gradient at which a search ends.
        max_steps: Steps of each search.

    Returns:
        SpherePoints of the searches that converged away from zero.

    Raises:
        InputError: Matrices of different widths.
        DegenerateError: No search converged.

    Reference: [qu2020geometric], theorem 2.1, for what kinds there are.
    """
    _projections(atoms, starts)
    atoms, starts = atoms.double(), torch.nn.functional.normalize(starts.double(), dim=1)

    def gradient(x: Tensor) -> Tensor:
        return x - (atoms @ x).pow(3) @ atoms

    def product(x: Tensor, v: Tensor) -> Tensor:
        return v - 3 * ((atoms @ x).square() * (atoms @ v)) @ atoms

    points = []
    for start in starts:
        scale = (atoms @ start).pow(4).sum().sqrt()
        found = stationary_point(gradient, product, start / scale, tolerance=tolerance, max_steps=max_steps)
        if found.status.converged and float(found.x.square().sum()) > 0.5 / len(atoms):
            points.append(found.x)
    if not points:
        raise DegenerateError(
            "a search that converges", got=f"none of {len(starts)}", remedy="Start elsewhere, or raise max_steps."
        )
    bends = [_least_curvature(x, product) for x in points]
    Q = torch.nn.functional.normalize(torch.stack(points), dim=1)
    projections = Q @ atoms.T
    powers = projections.pow(4).sum(1)
    slopes = projections.pow(3) @ atoms - powers[:, None] * Q
    units = torch.nn.functional.normalize(atoms, dim=1)
    gaps = 1 - (Q @ units.T).abs().amax(1)
    return SpherePoints(Q, -powers / 4, torch.linalg.vector_norm(slopes, dim=1), torch.stack(bends), gaps)


def _least_curvature(x: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Least eigenvalue of the Hessian on the tangent space at x / |x|."""
    column = (x / torch.linalg.vector_norm(x))[:, None]
    basis = torch.cat(
        [tangent_vectors(column, unit[:, None]) for unit in torch.eye(len(x) - 1, dtype=x.dtype, device=x.device)], 1
    )
    whole = dense_matrix(lambda v: product(x, v), len(x), device=x.device)
    return torch.linalg.eigvalsh(basis.T @ whole @ basis)[0]


def _projections(atoms: Atoms, directions: Directions) -> Tensor:
    atoms, directions = check_features(atoms, "atoms").double(), check_features(directions, "directions").double()
    if atoms.shape[1] != directions.shape[1]:
        raise InputError(
            "atoms and directions of one dimension",
            got=f"shapes {tuple(atoms.shape)} and {tuple(directions.shape)}",
            remedy="Pass one per row.",
        )
    return directions @ atoms.T
