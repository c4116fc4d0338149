"""What of the data's geometry the tangent kernel answers to: separation, curvature, clover number, reach."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float, Labels, Tensor
from tightframe.data.curves import SampledCurve
from tightframe.ntk.covering import cover_count
from tightframe.ntk.gaps import closest_pair
from tightframe.ntk.labelled import is_cloud, read_cloud, read_curve, read_curves
from tightframe.ntk.points import read_points
from tightframe.ntk.tangents import least_ratio, tangents_along, tangents_among

# Chords of points at equal distances differ by less than this, relatively; then derivatives are spectral.
_EVEN = 0.02

Rows = Float[Tensor, "n d"]


def separation(data: Sequence[SampledCurve] | Rows | ArrayLike, labels: Labels | ArrayLike | None = None) -> float:
    r"""Smallest angle between points of different classes.

    .. math:: \Delta = \min_{y(x) \ne y(x')} \angle(x, x')

    Between samples of curves it exceeds that of the curves by at most the sum of half their largest gaps, and by a
    square of the gaps over twice Delta where the curves run side by side. Curves that cross between their samples
    therefore have one of the order of the gaps: where more samples go on lowering it, they touch.

    Args:
        data: One curve for every class, or points (n, d), tensor or array, with `labels`; points are taken as
            directions.
        labels: (n,), class indices; an array may hold names.

    Raises:
        InputError: One class only, zero vectors, values that are not finite.
        DegenerateError: Classes that touch, with an angle below 1e-12.

    Example:
        >>> from tightframe.data.curves import coaxial_circles
        >>> round(separation([each.uniform(100) for each in coaxial_circles(0.3)]), 9)
        0.3

    Reference: [buchanan2021deep], section 2.
    """
    classes = classes_of(data, labels)
    if len(classes) < 2:
        raise InputError("points of two classes or more", got=f"{len(classes)}", remedy="Pass all classes.")
    smallest = math.inf
    for index, left in enumerate(classes[:-1]):
        angle = closest_pair(left, torch.cat(classes[index + 1 :]))[0]
        smallest = min(smallest, angle)
    if smallest < 1e-12:
        raise DegenerateError(
            "classes that are apart",
            got=f"points of two classes at an angle of {smallest:.1e}",
            remedy="Merge such classes or remove points that carry two labels.",
        )
    return smallest


def curvature(curve: SampledCurve) -> Float[Tensor, " n"]:
    r"""Curvature within the sphere at every point of a sampled curve; its largest value is the source's kappa.

    .. math:: \kappa(x) = \| (I - x x^T)\, \ddot x \|_2

    where
        the derivatives are by arc length. Closed curves with even gaps are differentiated by FFT, to rounding where
        the samples resolve them; others take the circle through three points in turn, with an error of the order of
        the square of the gap (end points of an open curve take their neighbour's value).

    Args:
        curve: At least 5 points.

    Raises:
        InputError: Fewer points, or points that repeat.

    Reference: [buchanan2021deep], section 2.
    """
    points = _unit_rows(read_curve(curve).points)
    if len(points) < 5:
        raise InputError("at least 5 points", got=str(len(points)), remedy="Sample the curve more finely.")
    chords = torch.linalg.vector_norm(points.roll(-1, 0) - points, dim=1)
    chords = chords if curve.closed else chords[:-1]
    if not bool((chords > 0).all()):
        raise InputError("points that differ from the next", got="equal ones", remedy="Remove points that repeat.")
    if curve.closed and float(chords.amax() / chords.amin()) < 1 + _EVEN:
        return _spectral(points)
    return _by_circles(points, curve.closed)


def _spectral(points: Rows) -> Tensor:
    n = len(points)
    frequencies = torch.fft.rfftfreq(n, 1 / n, dtype=torch.float64, device=points.device)[:, None]
    if n % 2 == 0:
        # The derivative of the highest frequency of an even number of samples is not defined.
        frequencies[-1] = 0
    spectrum = torch.fft.rfft(points, dim=0)
    first = torch.fft.irfft(1j * frequencies * spectrum, n=n, dim=0)
    second = torch.fft.irfft(-(frequencies**2) * spectrum, n=n, dim=0)
    square = first.square().sum(1, keepdim=True)
    for axis, scale in ((points, 1.0), (first, square)):
        second = second - (second * axis).sum(1, keepdim=True) / scale * axis
    return torch.linalg.vector_norm(second, dim=1) / square[:, 0]


def _by_circles(points: Rows, closed: bool) -> Tensor:
    before, after = points.roll(1, 0), points.roll(-1, 0)
    a, b, c = after - points, points - before, after - before
    product = (a.square().sum(1) * b.square().sum(1) - (a * b).sum(1).square()).clamp(min=0.0)
    lengths = a.square().sum(1) * b.square().sum(1) * c.square().sum(1)
    # One over the squared radius of the circle in space; it is 1 more than the square within the sphere.
    within = (4 * product / lengths - 1).clamp(min=0.0).sqrt()
    if not closed:
        within[0], within[-1] = within[1], within[-2]
    return within


def clover_number(
    curves: Sequence[SampledCurve],
    *,
    far: float | None = None,
    near: float | None = None,
    radius: float | None = None,
) -> int:
    r"""How often curves loop back: most balls needed to cover what is near a point though far along the curve.

    .. math:: \max_x N_M\bigl( \{x' : d_M(x, x') > \tau_1,\ \angle(x, x') < \tau_2\},\ \delta \bigr)

    where
        d_M is arc length, infinite between different curves, N_M the number of balls of radius delta in d_M, centred on
        the curves, that cover a set: exact for the samples, by intervals. With kappa the largest curvature the
        defaults are tau_1 = delta = (1 + kappa^2)^(-1/2) and tau_2 = tau_1 / 20; the source leaves the first two open.

    Args:
        curves: All curves, of all classes.
        far: tau_1.
        near: tau_2.
        radius: delta.

    Raises:
        InputError: No curves, or scales that are not above zero.

    Example:
        >>> from tightframe.data.curves import circle
        >>> clover_number([circle().uniform(50)])
        0

    Reference: [wang2021geometry], definition of the clover number.
    """
    curves = read_curves(curves)
    if not curves:
        raise InputError("at least one curve", got="none", remedy="Pass a list of sampled curves.")
    scales = (far, near, radius)
    if any(scale is None for scale in scales):
        kappa = max(float(curvature(curve).amax()) for curve in curves)
        natural = 1 / math.sqrt(1 + kappa**2)
        defaults = (natural, natural / 20, natural)
        scales = tuple(default if scale is None else scale for scale, default in zip(scales, defaults, strict=True))
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise InputError("scales above 0", got=repr(scales), remedy="Leave far, near and radius at None.")
    return cover_count([_with_rows(curve) for curve in curves], *scales)


def reach(
    data: Sequence[SampledCurve] | Rows | ArrayLike,
    labels: Labels | ArrayLike | None = None,
    *,
    dimension: int = 1,
    neighbors: int | None = None,
) -> float:
    r"""Distance in space up to which every point has one nearest point on the manifolds.

    .. math:: \min_{p \ne q} \frac{\|q - p\|^2}{2\, d(q - p, T_p)}

    where
        T_p is the tangent space at p. The minimum over samples exceeds the reach, towards which it decreases; a circle
        of radius r has reach r, two parallel ones half their distance where that is less.

    Curves take their tangents from the points before and after. Point clouds take them from a quadratic fit to the
    nearest points of the same class, and pairs nearer than those are left out: what bends within that distance, and
    noise of its size, is not seen.

    Args:
        data: All curves, or points (n, d), tensor or array; points are taken as directions.
        labels: (n,), which manifold a point is on; one manifold when None.
        dimension: m, of the manifolds of a point cloud.
        neighbors: Nearest points of a fit, at least m (m + 3) / 2, of which twice as many are taken when None.

    Raises:
        InputError: No curves, fewer than 5 points on one, fewer points in a class than a fit needs, equal points.

    Example:
        >>> from tightframe.data.curves import circle
        >>> points = circle(math.pi / 3).sample(200, seed=0).points
        >>> round(reach(points), 2), round(reach([circle(math.pi / 3).uniform(200)]), 2)
        (0.5, 0.5)

    Reference: [aamari2019estimating], equation 4.
    """
    if is_cloud(data):
        classes = read_cloud(data, labels)
        check_count(dimension, "dimension")
        count = dimension * (dimension + 3) if neighbors is None else check_count(neighbors, "neighbors")
        spaces, least = zip(*(tangents_among(rows, dimension, count) for rows in classes), strict=True)
        return least_ratio(torch.cat(classes), torch.cat(spaces), torch.cat(least))
    curves = read_curves(data)
    if not curves or any(len(curve.points) < 5 for curve in curves):
        raise InputError("curves of at least 5 points", got=f"{len(curves)} curves", remedy="Sample them more finely.")
    rows = [_unit_rows(curve.points) for curve in curves]
    tangents = torch.cat([tangents_along(row, curve.closed) for row, curve in zip(rows, curves, strict=True)])
    return least_ratio(torch.cat(rows), tangents, tangents.new_zeros(len(tangents)))


def classes_of(data: Sequence[SampledCurve] | Rows | ArrayLike, labels: Labels | ArrayLike | None) -> list[Rows]:
    """Unit rows of every class, in float64."""
    if is_cloud(data):
        if labels is None:
            raise InputError("labels for points (n, d)", got="none", remedy="Pass labels=, or one curve per class.")
        return read_cloud(data, labels)
    return [_unit_rows(curve.points) for curve in read_curves(data)]


def _with_rows(curve: SampledCurve) -> SampledCurve:
    return SampledCurve(_unit_rows(curve.points), curve.weights, curve.closed)


def _unit_rows(points: Tensor) -> Rows:
    return read_points(points).rows
