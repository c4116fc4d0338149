"""Certificates: functions g with Theta g = zeta, whose norm bounds the training error at every time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.typing import Float, Tensor
from tightframe.data.curves import SampledCurve
from tightframe.ntk.circulant import BlockCirculant, circulant_kernel
from tightframe.ntk.dynamics import check_vector
from tightframe.ntk.gaps import closest_pair
from tightframe.ntk.kernel import relu_ntk
from tightframe.ntk.labelled import read_curves
from tightframe.ntk.operator import KernelOperator
from tightframe.ntk.recursion import Architecture

Vector = Float[Tensor, " n"]
Method = Literal["auto", "cholesky", "circulant", "conjugate gradients"]

_DENSE_UP_TO = 5000
_UNIT = 1e-6
# What Cholesky factors of a singular kernel need on the diagonal, over its trace: that of unit mass is the depth.
_JITTER = 1e-13


@dataclass(frozen=True, eq=False)
class TangentCertificate:
    r"""A function g on the data with Theta_mu g = zeta up to a residual.

    .. math:: \|\zeta_t\|_{L^2(\mu)} \le \frac{\|g\|_{L^2(\mu)}}{e\,t} + \|\Theta_\mu g - \zeta\|_{L^2(\mu)}

    The bound is exact for the linear dynamics of this kernel: the largest value of lambda e^(-lambda t) is 1 / (e t).
    Times are those of gradient flow on half the mean squared error with n / 2 = 1; a network of width n is n / 2
    times as fast.

    Args:
        g: (n,), float64, points of the first curve first.
        norm: Its norm in L2(mu).
        residual: Norm of Theta g - zeta in L2(mu), by an independent product.
        initial: Norm of zeta in L2(mu).
        depth: L.
        method: How it was solved.
        reason: Why so.
        solution: Status, objective (the norm), trace and the residual as core certificate.
    """

    g: Vector
    norm: float
    residual: float
    initial: float
    depth: int
    method: str
    reason: str
    solution: Solution

    def bound(self, time: float) -> float:
        """||g|| / (e t) + residual, or the initial error where that is smaller; the residual at `math.inf`."""
        _check_time(time)
        return min(self.initial, self.norm / (math.e * time) + self.residual)

    def source_rate(self, time: float) -> float:
        """L log L / t, the form of the bound in the source, which leaves its constant open (zero at L = 1)."""
        _check_time(time)
        return self.depth * math.log(self.depth) / time

    def __str__(self) -> str:
        return (
            f"certificate of norm {self.norm:.6g} at depth {self.depth}, residual {self.residual:.1e} ({self.method})"
        )


def certificate(
    curves: Sequence[SampledCurve],
    depth: int,
    *,
    zeta: Vector | None = None,
    method: Method = "auto",
    tolerance: float = 1e-8,
    max_iterations: int = 2000,
) -> TangentCertificate:
    r"""The certificate of labelled curves, or point sets, at a depth.

    .. math:: \int \Theta(x, x') g(x') d\mu(x') = \zeta(x)

    where
        Theta is `relu_ntk` of this depth, mu has mass one spread by the curves' weights, and zeta is the initial error:
        minus the labels, -1 on the first of two curves and 1 on the second, for a network that starts near zero.

    Uniform points that one rotation maps to each other give blocks that are circulant, solved by FFT; other sets are
    solved by Cholesky factors up to 5,000 points, and beyond by conjugate gradients without storing the kernel.

    Args:
        curves: Sampled curves of unit vectors; two unless `zeta` is given.
        depth: L, at least 1.
        zeta: (n,), values at all points in the curves' order.
        method: One of those named, or "auto".
        tolerance: Residual relative to zeta up to which it counts as solved.
        max_iterations: Of conjugate gradients.

    Returns:
        The certificate; `solution.status` says where the residual is above the tolerance.

    Raises:
        InputError: Points off the sphere, curves of several dimensions, a number of curves other than two without
            zeta, a method that does not serve these curves.
        DegenerateError: Curves that touch, or points that are there twice (a singular kernel).

    Example:
        >>> from tightframe.data.curves import coaxial_circles
        >>> found = certificate([each.uniform(400) for each in coaxial_circles(0.8)], 5)
        >>> round(found.norm, 2)
        3.24

    Reference: [buchanan2021deep], definition 3.1; [wang2021geometry], section 2.
    """
    curves = read_curves(curves)
    check_count(depth, "depth")
    points, mass, target = _problem(curves, zeta)
    _check_apart(points, depth)
    chosen, reason, matrix = _choose(curves, mass, depth, method)
    roots = mass.sqrt()
    trace = Trace()
    right = roots * target
    if isinstance(matrix, BlockCirculant):
        h = matrix.solve(right)
        product = matrix @ h
    elif chosen == "cholesky":
        scaled = roots[:, None] * relu_ntk(points, depth=depth) * roots
        h = _cholesky_solve(scaled, right)
        product = scaled @ h
    else:
        operator = KernelOperator(points, Architecture(depth), weights=mass)
        h = _conjugate_gradients(operator, right, tolerance, max_iterations, trace)
        product = operator @ h
    initial, norm = (float(torch.linalg.vector_norm(each)) for each in (right, h))
    residual = float(torch.linalg.vector_norm(product - right))
    trace.record(len(trace), {"objective": norm, "residual": residual})
    solved = residual <= tolerance * initial
    message = f"residual {residual:.1e} of {initial:.1e}"
    status = Status("converged", message)
    if not solved:
        status = Status("budget spent", f"{message}; raise max_iterations, or tolerance={tolerance:g}")
    evidence = {"norm": norm, "initial error": initial}
    proof = Certificate("residual", residual, tolerance * initial, evidence)
    solution = Solution(status, norm, {"g": h / roots, "zeta": target}, trace, proof)
    return TangentCertificate(h / roots, norm, residual, initial, depth, chosen, reason, solution)


def _problem(curves: Sequence[SampledCurve], zeta: Vector | None) -> tuple[Tensor, Vector, Vector]:
    """Points (n, d), their mass, and the initial error at them."""
    if not curves or (zeta is None and len(curves) != 2):
        raise InputError(
            "two curves, or zeta at the points of all", got=f"{len(curves)} curves", remedy="Pass zeta=, one per point."
        )
    if len({curve.points.shape[1] for curve in curves}) > 1:
        raise InputError("curves in one space", got="several dimensions", remedy="Pad the points with zeros.")
    points = torch.cat([curve.points for curve in curves]).double()
    mass = torch.cat([curve.weights for curve in curves]).double()
    away = float((torch.linalg.vector_norm(points, dim=1) - 1).abs().amax())
    if not away <= _UNIT:
        raise InputError(
            "points on the unit sphere", got=f"a norm {away:.3g} away from 1", remedy="Divide each point by its norm."
        )
    if zeta is None:
        first, second = (points.new_ones(len(curve.points)) for curve in curves)
        zeta = torch.cat((-first, second))
    return points, mass / mass.sum(), check_vector(zeta, mass)


def _check_apart(points: Tensor, depth: int) -> None:
    gap, first, second = closest_pair(points)
    if gap < 1e-12:
        raise DegenerateError(
            "points that differ: equal ones make the kernel singular, and curves that touch have separation zero",
            got=f"points {first} and {second} at an angle of {gap:.1e}",
            remedy="Remove one of the two, or move the curves apart. In a solve of your own, add "
            f"{_JITTER * depth:.0e} to the diagonal of the kernel times the weights.",
        )


def _choose(
    curves: Sequence[SampledCurve], mass: Vector, depth: int, method: Method
) -> tuple[str, str, BlockCirculant | None]:
    """Which solver, why, and the circulant matrix where that is it."""
    methods = ("auto", "cholesky", "circulant", "conjugate gradients")
    if method not in methods:
        raise InputError(f"method is one of {', '.join(methods)}", got=repr(method), remedy="Choose one of these.")
    n = len(mass)
    if method in ("auto", "circulant"):
        found = _orbits(curves, mass, depth)
        if found is not None:
            return "circulant", "one rotation maps each point to the next on all curves", found
        if method == "circulant":
            raise InputError(
                "uniform points that one rotation maps to each other",
                got="others",
                remedy='Use method="auto".',
            )
    if method == "auto":
        small = n <= _DENSE_UP_TO
        method = "cholesky" if small else "conjugate gradients"
        return method, f"{n} points, {'at most' if small else 'more than'} {_DENSE_UP_TO}", None
    return method, "asked for", None


def _orbits(curves: Sequence[SampledCurve], mass: Vector, depth: int) -> BlockCirculant | None:
    """The weighted kernel where it is circulant; weights may differ between curves."""
    sizes = [len(curve.points) for curve in curves]
    parts = mass.split(sizes)
    if any(float(part.amax() - part.amin()) > 1e-12 * float(part.amax()) for part in parts):
        return None
    found = circulant_kernel([curve.points for curve in curves], depth)
    return None if found is None else found.scaled(torch.stack([part[0] for part in parts]).sqrt())


def _cholesky_solve(matrix: Tensor, right: Vector) -> Vector:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        jitter = _JITTER * float(matrix.diagonal().sum())
        raise DegenerateError(
            "a kernel that is positive definite in float64",
            got="points so close that it is singular",
            remedy=f"Use fewer points or a greater depth; {jitter:.1e} on the diagonal would make it definite.",
        )
    found = torch.cholesky_solve(right[:, None], factor)[:, 0]
    # One step of refinement removes what the factor's rounding leaves.
    return found + torch.cholesky_solve((right - matrix @ found)[:, None], factor)[:, 0]


def _conjugate_gradients(matrix: KernelOperator, right: Vector, tolerance: float, limit: int, trace: Trace) -> Vector:
    point, rest = torch.zeros_like(right), right.clone()
    direction, energy = rest.clone(), float(rest @ rest)
    goal = (0.5 * tolerance) ** 2 * energy
    for step in range(limit):
        if energy <= goal:
            break
        product = matrix @ direction
        length = energy / float(direction @ product)
        point += length * direction
        rest -= length * product
        energy, before = float(rest @ rest), energy
        direction = rest + energy / before * direction
        trace.record(step, {"objective": float(torch.linalg.vector_norm(point)), "residual": math.sqrt(energy)})
    return point


def _check_time(time: float) -> None:
    if not time > 0:
        raise InputError("a time above 0", got=repr(time), remedy="At time 0 the error is `initial`.")
