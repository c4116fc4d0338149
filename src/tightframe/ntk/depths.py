"""Which depth the geometry of labelled data asks for, with the evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float, Labels, Tensor
from tightframe.data.curves import SampledCurve
from tightframe.ntk.certificates import certificate
from tightframe.ntk.labelled import is_cloud
from tightframe.ntk.manifold import classes_of, clover_number, curvature, separation

DEPTHS = (1, 2, 3, 5, 8, 12, 18, 25, 35, 50, 71, 100, 141, 200)
# Depths around 5 to 6 over the separation are where coaxial circles have the smallest L ||g||.
_RULE = 5.5


@dataclass(frozen=True)
class DepthRecommendation:
    """A depth and why.

    Args:
        depth: Depth tried with the smallest product of depth and certificate norm.
        rule: 5.5 over the separation, what coaxial circles ask for.
        at_end: Whether `depth` is the largest tried, so that more may be better.
        separation: Smallest angle between classes.
        curvature: Largest curvature, or None for point clouds.
        clover: Clover number at its default scales, or None for point clouds.
        depths: Depths tried.
        norms: Certificate norms at them.
        residuals: Their residuals, relative to the initial error; a large one makes a norm meaningless.
    """

    depth: int
    rule: float
    at_end: bool
    separation: float
    curvature: float | None
    clover: int | None
    depths: tuple[int, ...]
    norms: tuple[float, ...]
    residuals: tuple[float, ...]

    def __str__(self) -> str:
        shape = f", curvature {self.curvature:.3g}, clover number {self.clover}" if self.curvature is not None else ""
        lines = [
            f"depth {self.depth}" + (" or more" if self.at_end else ""),
            f"separation {self.separation:.4g} (5.5 over it: {self.rule:.0f}){shape}",
            "depth: certificate norm, times depth",
        ]
        rows = [f"{L:5d}: {g:10.4g} {L * g:10.4g}" for L, g in zip(self.depths, self.norms, strict=True)]
        return "\n".join(lines + rows)


def recommend(
    data: Sequence[SampledCurve] | Float[Tensor, "n d"] | ArrayLike,
    labels: Labels | ArrayLike | None = None,
    *,
    depths: Sequence[int] | None = None,
    max_points: int = 1000,
    seed: int = 0,
) -> DepthRecommendation:
    r"""The depth at which L times the norm of the certificate is smallest.

    The norm alone decreases with depth, in the end only slowly; the time that training needs is proportional to it,
    and the cost of a step to L. Beyond two classes the certificate is the root of the sum of squares of those of every
    class against the rest.

    Args:
        data: One curve per class, or points (n, d), tensor or array, with `labels`; points are taken as directions.
        labels: (n,), class indices; an array may hold names.
        depths: What to try; when None, fourteen from 1 to 200 and, where 5.5 over the separation is larger, that and
            twice that.
        max_points: Of a point cloud, a random part of this size is certified; its separation is that of all.
        seed: Of that part.

    Returns:
        The recommendation.

    Raises:
        InputError: One class, depths below 1.
        DegenerateError: Classes that touch, or a kernel that is singular at every depth.

    Example:
        >>> from tightframe.data.curves import coaxial_circles
        >>> recommend([each.uniform(200) for each in coaxial_circles(0.2)]).depth
        18

    Reference: [buchanan2021deep], theorem 1; [wang2021geometry].
    """
    apart = separation(data, labels)
    rule = _RULE / apart
    wanted = _depths(depths, rule)
    curves = _curves(data, labels, check_count(max_points, "max_points", least=10), seed)
    bent = loops = None
    if not is_cloud(data):
        bent = max(float(curvature(curve).amax()) for curve in curves)
        loops = clover_number(curves)
    tried, norms, residuals = [], [], []
    for depth in wanted:
        try:
            norm, residual = _norm(curves, depth)
        except DegenerateError:
            # Shallow kernels of fine samples are singular in float64; deeper ones are not.
            continue
        tried.append(depth)
        norms.append(norm)
        residuals.append(residual)
    if not tried:
        raise DegenerateError(
            "a kernel that is definite at some depth",
            got=f"singular ones at depths {wanted[0]} to {wanted[-1]}",
            remedy="Use fewer points, or greater depths.",
        )
    costs = [depth * norm for depth, norm in zip(tried, norms, strict=True)]
    best = min(range(len(tried)), key=costs.__getitem__)
    shape = (apart, bent, loops)
    return DepthRecommendation(
        tried[best], rule, best == len(tried) - 1, *shape, tuple(tried), tuple(norms), tuple(residuals)
    )


def _depths(depths: Sequence[int] | None, rule: float) -> list[int]:
    if depths is None:
        more = [round(rule), round(2 * rule)] if rule > DEPTHS[-1] / 2 else []
        return sorted({*DEPTHS, *more})
    if not depths:
        raise InputError("depths to try", got="none", remedy="Use None, or [1, 10, 100].")
    return sorted({check_count(depth, "depths") for depth in depths})


def _curves(data: Any, labels: Any, most: int, seed: int) -> list[SampledCurve]:
    """Curves as they are, or a part of a point cloud with equal weights."""
    if not is_cloud(data):
        return list(data)
    classes = classes_of(data, labels)
    share = min(1.0, most / sum(map(len, classes)))
    source = generator(seed)
    parts = []
    for rows in classes:
        chosen = torch.randperm(len(rows), generator=source)[: max(2, round(share * len(rows)))].to(rows.device)
        parts.append(SampledCurve(rows[chosen], torch.ones(len(chosen), dtype=rows.dtype, device=rows.device), False))
    return parts


def _norm(curves: list[SampledCurve], depth: int) -> tuple[float, float]:
    """Norm and relative residual of the certificate of all classes."""
    sizes = [len(curve.points) for curve in curves]
    count = 1 if len(curves) == 2 else len(curves)
    squares, initial, left = 0.0, 0.0, 0.0
    for index in range(count):
        sides = [torch.full((size,), -1.0 if index == k else 1.0, dtype=torch.float64) for k, size in enumerate(sizes)]
        zeta = torch.cat(sides).to(curves[0].points.device)
        found = certificate(curves, depth, zeta=zeta)
        squares, initial, left = squares + found.norm**2, initial + found.initial**2, left + found.residual**2
    return math.sqrt(squares), math.sqrt(left / initial)
