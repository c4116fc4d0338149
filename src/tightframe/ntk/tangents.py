"""Tangent spaces of sampled curves and of point clouds, and how near to them other points lie."""

from __future__ import annotations

import math

import torch

from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Tensor

Rows = Float[Tensor, "n d"]
Spaces = Float[Tensor, "n m d"]

# Entries of a block of differences: 32 MB in float64.
_BLOCK = 1 << 22


def tangents_along(points: Rows, closed: bool) -> Spaces:
    """Unit tangents (n, 1, d) of a sampled curve: those of the circles through each point and its two neighbours.

    Inversion about a point turns the circle through it into a line along its tangent there. The difference of the
    neighbours alone would be off by the share in which their distances differ, as in random samples.
    """
    after, before = points.roll(-1, 0) - points, points.roll(1, 0) - points
    if not closed:
        before[0], after[-1] = points[2] - points[0], points[-3] - points[-1]
    along = _inverted(after) - _inverted(before)
    return (along / torch.linalg.vector_norm(along, dim=1, keepdim=True))[:, None]


def _inverted(differences: Rows) -> Rows:
    return differences / differences.square().sum(1, keepdim=True)


def tangents_among(points: Rows, dimension: int, neighbors: int) -> tuple[Spaces, Float[Tensor, " n"]]:
    r"""Orthonormal tangent spaces of a manifold known by its points alone, and the radius they are taken from.

    Within the leading directions of the nearest points, differences are fitted by

    .. math:: x_j - x \approx A s_j + B (s_j \otimes s_j)

    where
        s_j (m,) are coordinates in these directions and the tangent space is the range of A (d, m). The quadratic
        part takes up the curvature, which would tilt the space wherever neighbours lie to one side.

    Raises:
        InputError: Fewer points than neighbours, or neighbours than coefficients; equal points.
    """
    terms = dimension * (dimension + 3) // 2
    if not terms <= neighbors < len(points) or dimension >= points.shape[1]:
        raise InputError(
            f"dimension below {points.shape[1]}, and from {terms} to {len(points) - 1} neighbours in every class",
            got=f"dimension={dimension}, neighbors={neighbors}",
            remedy="Pass more points, or set dimension= and neighbors=.",
        )
    spaces, radii = [], []
    for places in points.split(max(1, _BLOCK // points.numel())):
        apart = torch.linalg.vector_norm(points - places[:, None], dim=2)
        # The point itself is the nearest, at distance zero.
        nearest = apart.topk(neighbors + 1, largest=False)
        if not bool((nearest.values[:, 1] > 0).all()):
            raise InputError("points that differ", got="equal ones", remedy="Remove points that are there twice.")
        radius = nearest.values[:, -1]
        around = (points[nearest.indices[:, 1:]] - places[:, None]) / radius[:, None, None]
        leading = torch.linalg.svd(around, full_matrices=False).Vh[:, :dimension]
        spaces.append(_fitted(around, around @ leading.mT))
        radii.append(radius)
    return torch.cat(spaces), torch.cat(radii)


def _fitted(around: Float[Tensor, "n k d"], inside: Float[Tensor, "n k m"]) -> Spaces:
    m = inside.shape[2]
    first, second = torch.triu_indices(m, m, device=inside.device)
    design = torch.cat((inside, inside[..., first] * inside[..., second]), dim=2)
    linear = (torch.linalg.pinv(design) @ around)[:, :m]
    return torch.linalg.qr(linear.mT).Q.mT


def least_ratio(points: Rows, spaces: Spaces, least: Float[Tensor, " n"]) -> float:
    """Smallest |q - p|^2 / (2 d(q - p, T_p)) over points p and q that are more than `least` of p apart."""
    smallest = math.inf
    size = max(1, _BLOCK // points.numel())
    for places, bases, radius in zip(points.split(size), spaces.split(size), least.split(size), strict=True):
        apart = points - places[:, None]
        square = apart.square().sum(2)
        beside = apart - (apart @ bases.mT) @ bases
        ratio = square / (2 * torch.linalg.vector_norm(beside, dim=2))
        ratio[square.sqrt() <= radius[:, None]] = math.inf
        smallest = min(smallest, float(ratio.nan_to_num(math.inf).amin()))
    return smallest
