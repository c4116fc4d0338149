"""Minimisation over products of spheres: trust regions and conjugate gradients, in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy
import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float

Columns = Float[Tensor, "d n"]
Point = Sequence[Columns]
Method = Literal["trust-regions", "conjugate-gradients"]

# Steps that improve neither the value nor the gradient before giving up: near rounding neither falls every time.
_PATIENCE = 20
_UNIT = 1e-6


def random_columns(dimension: int, count: int, *, seed: int) -> Columns:
    """Independent unit columns (d, n), uniform on the sphere, float64."""
    check_count(dimension, "dimension")
    check_count(count, "count")
    return on_spheres(torch.randn(dimension, count, dtype=torch.float64, generator=generator(seed)))


def on_spheres(columns: Columns) -> Columns:
    """Every column divided by its norm."""
    return columns / torch.linalg.vector_norm(columns, dim=0)


def tangent(columns: Columns, vectors: Columns) -> Columns:
    r"""The part of every vector that is tangent to the sphere at its column: (I - x x^T) v."""
    return vectors - columns * (columns * vectors).sum(0)


def tangent_vectors(columns: Columns, coordinates: Float[Tensor, "m n"]) -> Columns:
    """Tangent vectors (d, n) from their coordinates (d - 1, n) in an orthonormal basis of every tangent space.

    The basis is that of the Householder reflection which takes the first axis to the column, or to minus it.
    """
    mirror, scale = _mirrors(columns)
    padded = torch.cat([torch.zeros_like(coordinates[:1]), coordinates])
    return padded - mirror * (scale * (mirror * padded).sum(0))


def tangent_coordinates(columns: Columns, vectors: Columns) -> Float[Tensor, "m n"]:
    """Coordinates (d - 1, n) of tangent vectors (d, n): the inverse of `tangent_vectors`."""
    mirror, scale = _mirrors(columns)
    return (vectors - mirror * (scale * (mirror * vectors).sum(0)))[1:]


def minimize_on_spheres(
    value: Callable[..., float],
    gradient: Callable[..., Point],
    product: Callable[..., Point],
    start: Mapping[str, Columns],
    *,
    method: Method = "trust-regions",
    gradient_tolerance: float = 1e-10,
    max_iterations: int = 1000,
    observe: Callable[..., Mapping[str, float]] | None = None,
) -> Solution:
    r"""Minimise a function of matrices with unit columns from derivatives that know nothing of the spheres.

    .. math:: \min f(X_1, \dots, X_r) \quad\text{over}\quad X_j \in \mathrm{OB}(d_j, n_j) = \{X : \|x_i\| = 1\}

    The gradient on the spheres is (I - x x^T) g column by column, the Hessian (I - x x^T) D g[v] - <x, g> v, and a step
    ends by dividing every column by its norm.

    Args:
        value: f(X_1, ..., X_r).
        gradient: Euclidean gradients (G_1, ..., G_r) at (X_1, ..., X_r).
        product: Euclidean Hessian at (X_1, ..., X_r) times a direction: product(X_1, ..., X_r, V_1, ..., V_r).
        start: X_1, ..., X_r by name, in the order in which the functions take them, with unit columns.
        method: "trust-regions" (second order, superlinear) or "conjugate-gradients" (first order, cheap steps).
        gradient_tolerance: Norm of the gradient on the spheres at which to stop.
        max_iterations: At most this many steps.
        observe: Called with the number of accepted steps and X_1, ..., X_r after each; what it returns is traced too.

    Returns:
        Solution with the names of `start`, the best point that was seen, its value and a trace of "objective" and
        "gradient norm" over the accepted steps. No certificate: a critical point can be a saddle.

    Raises:
        InputError: Columns that are not of unit norm, NaN, an unknown method, a tolerance or a number of steps that is
            not above zero.

    Example:
        >>> A = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
        >>> found = minimize_on_spheres(
        ...     lambda x: float((x * (A @ x)).sum()) / 2,
        ...     lambda x: [A @ x],
        ...     lambda x, v: [A @ v],
        ...     {"x": random_columns(3, 1, seed=0)},
        ... )
        >>> found.status.converged, round(found.objective, 12), round(abs(found.x[2, 0].item()), 9)
        (True, 0.5, 1.0)

    Reference: [absil2007trust], [boumal2023introduction]; the methods are those of [townsend2016pymanopt].
    """
    check_count(max_iterations, "max_iterations")
    if method not in ("trust-regions", "conjugate-gradients"):
        raise InputError(
            'method="trust-regions" or "conjugate-gradients"', got=repr(method), remedy="Use one of the two."
        )
    if not gradient_tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(gradient_tolerance), remedy="Use 1e-10.")
    columns = [_checked(name, part) for name, part in start.items()]
    run = _Run((value, gradient, product), columns, gradient_tolerance, observe)
    outcome = run.outcome(method, max_iterations)
    variables = dict(zip(start, run.best, strict=True))
    return Solution(run.status(outcome, max_iterations), run.value_at_best, variables, run.trace)


class _Stop(Exception):  # noqa: N818
    """Ends a run from within one of its functions; its argument is the outcome."""


class _Run:
    """The state of one call: the functions in numpy, the best point so far and the trace."""

    def __init__(
        self,
        functions: tuple[Callable, Callable, Callable],
        start: list[Columns],
        tolerance: float,
        observe: Callable[..., Mapping[str, float]] | None,
    ) -> None:
        self.value, self.gradient, self.product = functions
        self.tolerance, self.observe, self.device = tolerance, observe, start[0].device
        self.trace, self.steps, self.idle = Trace(), 0, 0
        self.counts = [part.shape[1] for part in start]
        arrays = [part.cpu().numpy() for part in start]
        # Spheres of one dimension are one manifold: most of the time goes into the bookkeeping of a product.
        self.joined = len({len(array) for array in arrays}) == 1
        if self.joined:
            arrays = [numpy.concatenate(arrays, axis=1)]
        self.start = arrays[0] if self.joined else arrays
        self.manifold = _manifold([array.shape for array in arrays])
        self.best, self.value_at_best, self.norm_at_best = start, float("inf"), float("inf")
        # The optimisers ask for everything at one point several times over, in the same arrays.
        self.arrays: tuple[numpy.ndarray, ...] = ()
        self.point: list[Tensor] = []
        self.slopes: list[numpy.ndarray] | numpy.ndarray | None = None

    def outcome(self, method: Method, max_iterations: int) -> str:
        """Run the optimiser to its end, however it comes."""
        import pymanopt  # late: it imports every framework for differentiation that is installed
        from pymanopt.optimizers import ConjugateGradient, TrustRegions

        decorate = pymanopt.function.numpy(self.manifold)
        problem = pymanopt.Problem(
            self.manifold,
            decorate(lambda *point: self._value(*point)),
            euclidean_gradient=decorate(lambda *point: self._gradient(*point)),
            euclidean_hessian=decorate(lambda *both: self._product(*both)),
        )
        options = {
            "max_iterations": max_iterations,
            "min_gradient_norm": self.tolerance,
            "min_step_size": 0.0,
            "max_time": float("inf"),
            "max_cost_evaluations": float("inf"),
            "verbosity": 0,
        }
        optimizer = (TrustRegions if method == "trust-regions" else ConjugateGradient)(**options)
        try:
            self._gradient(*([self.start] if self.joined else self.start))
            with numpy.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimizer.run(problem, initial_point=self.start)
        except _Stop as stop:
            return str(stop)
        return "budget spent"

    def status(self, outcome: str, budget: int) -> Status:
        """What happened, in words."""
        norm = f"the gradient has norm {self.norm_at_best:.2e}, asked was {self.tolerance:.1e}"
        advice = {
            "converged": f"{norm}, after {self.steps} steps",
            "budget spent": f"{norm}, after {budget} steps; raise max_iterations",
            "stalled": f"{norm}: rounding stops the descent; raise gradient_tolerance",
            "diverged": f"the objective is not a number after {self.steps} steps; start elsewhere",
        }
        return Status(outcome, advice[outcome])

    def _tensors(self, arrays: Sequence[numpy.ndarray]) -> list[Tensor]:
        tensors = [torch.from_numpy(array).to(self.device) for array in arrays]
        return list(tensors[0].split(self.counts, dim=1)) if self.joined else tensors

    def _arrays(self, tensors: Point) -> list[numpy.ndarray] | numpy.ndarray:
        if self.joined:
            return torch.cat(list(tensors), dim=1).cpu().numpy()
        return [part.cpu().numpy() for part in tensors]

    def _at(self, arrays: tuple[numpy.ndarray, ...]) -> list[Tensor]:
        if len(self.arrays) != len(arrays) or any(a is not b for a, b in zip(self.arrays, arrays, strict=True)):
            self.arrays, self.point, self.slopes = arrays, self._tensors(arrays), None
        return self.point

    def _value(self, *arrays: numpy.ndarray) -> float:
        found = float(self.value(*self._at(arrays)))
        if not numpy.isfinite(found):
            raise _Stop("diverged")
        return found

    def _gradient(self, *arrays: numpy.ndarray) -> list[numpy.ndarray] | numpy.ndarray:
        point = self._at(arrays)
        if self.slopes is None:
            slopes = list(self.gradient(*point))
            self.slopes = self._arrays(slopes)
            self._look(point, slopes)
        return self.slopes

    def _product(self, *arrays: numpy.ndarray) -> list[numpy.ndarray] | numpy.ndarray:
        count = len(arrays) // 2
        point, direction = self._at(arrays[:count]), self._tensors(arrays[count:])
        return self._arrays(self.product(*point, *direction))

    def _look(self, point: list[Tensor], slopes: list[Tensor]) -> None:
        value = float(self.value(*point))
        if not numpy.isfinite(value):
            raise _Stop("diverged")
        norm = sum(float(tangent(x, g).square().sum()) for x, g in zip(point, slopes, strict=True)) ** 0.5
        # Neither what the value falls by rounding nor the last bits of the gradient are progress.
        falls = value < self.value_at_best - 1e-14 * abs(self.value_at_best)
        self.idle = 0 if falls or norm < 0.9 * self.norm_at_best else self.idle + 1
        if falls or norm < self.norm_at_best:
            self.best, self.value_at_best, self.norm_at_best = point, value, norm
        seen = self.observe(self.steps, *point) if self.observe else {}
        self.trace.record(self.steps, {"objective": value, "gradient norm": norm, **seen})
        if norm <= self.tolerance:
            raise _Stop("converged")
        if self.idle >= _PATIENCE:
            raise _Stop("stalled")
        self.steps += 1


def _manifold(shapes: Sequence[tuple[int, int]]):
    """Pymanopt's spheres of unit columns, with an inner product that costs a tenth of its own."""
    from pymanopt.manifolds import Oblique, Product

    class Spheres(Oblique):
        def inner_product(self, point, tangent_vector_a, tangent_vector_b):
            return numpy.vdot(tangent_vector_a, tangent_vector_b)

    spheres = [Spheres(*shape) for shape in shapes]
    return spheres[0] if len(spheres) == 1 else Product(spheres)


def _mirrors(columns: Columns) -> tuple[Columns, Tensor]:
    mirror = columns.clone()
    mirror[0] += torch.where(columns[0] < 0, -1.0, 1.0)
    return mirror, 2 / mirror.square().sum(0)


def _checked(name: str, columns: Tensor) -> Columns:
    if not isinstance(columns, Tensor) or columns.ndim != 2 or not columns.is_floating_point():
        got = f"shape {tuple(columns.shape)}" if isinstance(columns, Tensor) else type(columns).__name__
        raise InputError(f"{name} is a (d, n) floating-point tensor", got=got, remedy="Pass one column per sphere.")
    columns = columns.detach().double()
    norms = torch.linalg.vector_norm(columns, dim=0)
    if not bool(((norms - 1).abs() <= _UNIT).all()):
        wrong = float(norms[(norms - 1).abs().argmax()]) if bool(norms.isfinite().all()) else float("nan")
        raise InputError(
            f"the columns of {name} have unit norm", got=f"a column of norm {wrong:.6g}", remedy="Use on_spheres(X)."
        )
    return columns / norms
