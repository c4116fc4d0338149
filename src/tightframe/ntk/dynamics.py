"""Training error under a fixed tangent kernel: a linear system, solved exactly or by Lanczos' method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from tightframe.core.checks import check_count, check_same_device
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float, Tensor

Vector = Float[Tensor, " n"]
Kernel = Float[Tensor, "n n"]

# Eigenvalues of a positive semidefinite matrix come out this far below zero, relative to the largest, by rounding.
_ROUNDING = 1e-11


class LinearMap(Protocol):
    """What products need: a symmetric map."""

    def __matmul__(self, vectors: Vector, /) -> Vector: ...


class LinearDynamics:
    r"""Errors of gradient flow under a fixed kernel, at any time.

    .. math:: \dot\zeta = -K \zeta / n, \qquad \zeta_t = e^{-tK/n} \zeta_0

    where
        zeta (n,) are predictions minus targets, K is `kernel` (n, n) and the loss is (1 / 2n) times the sum of squares;
        with `weights` of a measure mu the product is (K zeta)(x) = sum of K(x, x') zeta(x') mu(x').

    Use `lanczos_errors` where n^3 is too much.

    Args:
        kernel: Symmetric and positive semidefinite.
        weights: (n,), above zero; 1 / n when None.

    Raises:
        InputError: A kernel that is not symmetric, finite and positive semidefinite; weights that do not fit.

    Example:
        >>> dynamics = LinearDynamics(torch.tensor([[2.0]], dtype=torch.float64))
        >>> round(float(dynamics.errors(torch.ones(1, dtype=torch.float64), [0.5])[0, 0]), 6) == round(math.exp(-1), 6)
        True
    """

    def __init__(self, kernel: Kernel, *, weights: Vector | None = None) -> None:
        matrix = check_kernel(kernel).double()
        n = len(matrix)
        self.weights: Tensor = matrix.new_full((n,), 1 / n) if weights is None else _check_weights(weights, matrix)
        self._roots = self.weights.sqrt()
        self.vectors: Tensor
        values, self.vectors = torch.linalg.eigh(self._roots[:, None] * matrix * self._roots)
        if float(values[0]) < -_ROUNDING * n * max(float(values[-1]), 0.0):
            raise InputError(
                "a positive semidefinite kernel",
                got=f"eigenvalues from {float(values[0]):.3g} to {float(values[-1]):.3g}",
                remedy="Pass the kernel of points with themselves.",
            )
        self.rates: Tensor = values.clamp(min=0.0)

    def errors(self, initial: Vector, times: Sequence[float]) -> Float[Tensor, "t n"]:
        """zeta at these times (t,), as rows; at `math.inf` what the kernel never reaches, to rounding.

        Raises:
            InputError: An initial error of another shape, times below zero.
        """
        return self._decayed(initial, self._decay(times))

    def after_steps(self, initial: Vector, step: float, steps: Sequence[int]) -> Float[Tensor, "t n"]:
        """zeta after these numbers of steps of gradient descent of this size: (I - step K / n)^steps zeta_0.

        Raises:
            InputError: A step at which this diverges, numbers of steps below zero.
        """
        factors = 1 - step * self.rates
        if not step > 0 or float(factors.abs().amax()) > 1 + 1e-12:
            raise InputError(
                f"a step in (0, {2 / float(self.rates[-1]):.3g}], two over the largest rate",
                got=repr(step),
                remedy="Take a smaller step.",
            )
        powers = check_times(steps).to(factors.device)[:, None]
        return self._decayed(initial, factors.sign() ** powers * factors.abs() ** powers)

    def _decayed(self, initial: Vector, factors: Float[Tensor, "t n"]) -> Float[Tensor, "t n"]:
        amounts = self.vectors.T @ (check_vector(initial, self._roots) * self._roots)
        return (factors * amounts) @ self.vectors.T / self._roots

    def norms(self, initial: Vector, times: Sequence[float]) -> Float[Tensor, " t"]:
        """Norm of zeta in L2(mu) at these times."""
        amounts = self.vectors.T @ (check_vector(initial, self._roots) * self._roots)
        return torch.linalg.vector_norm(self._decay(times) * amounts, dim=1)

    def _decay(self, times: Sequence[float]) -> Float[Tensor, "t n"]:
        moments = check_times(times, endless=True).to(self.rates.device)[:, None]
        # Rates within rounding of zero are zero, which infinity times them would not be.
        floor = torch.finfo(self.rates.dtype).eps * len(self.rates) * self.rates[-1]
        return torch.where(moments.isinf(), (self.rates <= floor).to(self.rates), torch.exp(-moments * self.rates))


def lanczos_errors(
    kernel: LinearMap,
    initial: Vector,
    times: Sequence[float],
    *,
    tolerance: float = 1e-8,
    max_products: int = 300,
) -> Float[Tensor, "t n"]:
    r"""exp(-t A) zeta for a symmetric positive semidefinite map known by its products, by Lanczos' method.

    .. math:: e^{-tA} \zeta \approx \|\zeta\|\, V_k e^{-t T_k} e_1

    where
        V_k is an orthonormal basis of zeta, A zeta, ..., orthogonalised twice, and T_k is A in it. It grows until the
        last two approximations, at all times, are within `tolerance` times the norm of zeta.

    Args:
        kernel: A, with `@`: a tensor, a `KernelOperator` (with weights 1 / n for the mean squared error), a
            `BlockCirculant`.
        initial: zeta (n,).
        times: At least zero and finite; `LinearDynamics` has the limit.
        tolerance: Of the stopping rule.
        max_products: Most products with A.

    Returns:
        (t, n), float64.

    Raises:
        InputError: Times below zero or infinite, a tolerance not above zero, an initial error that is not finite or
            does not fit, a matrix that is not finite and symmetric.
        DegenerateError: The rule does not hold after `max_products`.

    Reference: [hochbruck1997krylov], section 4.
    """
    start = _check_start(kernel, initial)
    if isinstance(kernel, Tensor):
        check_same_device(kernel, start, "kernel and initial")
        kernel = check_kernel(kernel).double()
    moments = check_times(times).to(start.device)
    check_count(max_products, "max_products", least=2)
    if not tolerance > 0:
        raise InputError("tolerance above 0", got=repr(tolerance), remedy="Use 1e-8.")
    size = float(torch.linalg.vector_norm(start))
    if size == 0:
        return start.expand(len(moments), -1).clone()
    basis, diagonal, beside = [start / size], [], []
    previous: Tensor | None = None
    for count in range(1, min(max_products, len(start)) + 1):
        product = kernel @ basis[-1]
        diagonal.append(float(product @ basis[-1]))
        frame = torch.stack(basis)
        # Twice is enough: rounding of the first pass is removed by the second.
        for _ in range(2):
            product = product - frame.T @ (frame @ product)
        beside.append(float(torch.linalg.vector_norm(product)))
        exhausted = beside[-1] <= 1e-14 * max(map(abs, diagonal)) or count == len(start)
        if exhausted or count % 5 == 0:
            small = _small_exponentials(diagonal, beside[:-1], moments)
            current = size * small @ frame
            if exhausted or (
                previous is not None and float((current - previous).norm(dim=1).amax()) <= tolerance * size
            ):
                return current
            previous = current
        basis.append(product / beside[-1])
    raise DegenerateError(
        f"Lanczos' method within {tolerance:.1e}",
        got=f"a larger change after {max_products} products",
        remedy="Raise max_products, or ask for smaller times.",
    )


def _check_start(kernel: LinearMap, initial: Vector) -> Vector:
    """The initial error in float64, one entry per row of the map where that says how many it has."""
    if not isinstance(initial, Tensor) or initial.ndim != 1:
        got = f"shape {tuple(initial.shape)}" if isinstance(initial, Tensor) else type(initial).__name__
        raise InputError("initial is a tensor (n,)", got=got, remedy="Pass predictions minus targets.")
    if not hasattr(kernel, "__matmul__") or isinstance(kernel, np.ndarray):
        raise InputError(
            "a tensor or a map with @", got=type(kernel).__name__, remedy="Convert arrays with torch.from_numpy."
        )
    rows = kernel.shape[0] if hasattr(kernel, "shape") else len(initial)
    return check_vector(initial, initial.new_empty(rows, dtype=torch.float64))


def _small_exponentials(diagonal: list[float], beside: list[float], times: Tensor) -> Tensor:
    """(t, k): first columns of exp(-t T) of the tridiagonal matrix."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        off = torch.diag(torch.tensor(beside, dtype=torch.float64), 1)
        matrix = matrix + off + off.T
    values, vectors = torch.linalg.eigh(matrix)
    values, vectors = values.to(times.device), vectors.to(times.device)
    return (torch.exp(-times[:, None] * values.clamp(min=0.0)) * vectors[0]) @ vectors.T


def check_kernel(kernel: Tensor) -> Tensor:
    """A finite symmetric floating-point matrix."""
    if not isinstance(kernel, Tensor) or kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not kernel.numel():
        got = f"shape {tuple(kernel.shape)}" if isinstance(kernel, Tensor) else type(kernel).__name__
        raise InputError("a kernel (n, n) as tensor", got=got, remedy="Pass relu_ntk(points, depth=...).")
    if not kernel.is_floating_point() or not bool(torch.isfinite(kernel).all()):
        raise InputError("a finite floating-point kernel", got="NaN, inf or integers", remedy="Check the points.")
    apart = float((kernel - kernel.T).abs().amax())
    if apart > 64 * torch.finfo(kernel.dtype).eps * math.sqrt(len(kernel)) * float(kernel.abs().amax()):
        raise InputError("a symmetric kernel", got=f"entries {apart:.3g} apart", remedy="Pass (K + K.T) / 2.")
    return kernel.detach()


def check_vector(vector: Tensor, like: Vector) -> Vector:
    """A vector (n,) of finite numbers, in float64."""
    if not isinstance(vector, Tensor) or vector.shape != like.shape or not bool(torch.isfinite(vector).all()):
        got = f"shape {tuple(vector.shape)}" if isinstance(vector, Tensor) else type(vector).__name__
        raise InputError(f"a finite vector ({len(like)},), one entry per point", got=got, remedy="Check its shape.")
    return vector.detach().to(like)


def check_times(times: Sequence[float], *, endless: bool = False) -> Vector:
    """Times of at least zero, float64; infinite ones where `endless`."""
    moments = torch.as_tensor(times, dtype=torch.float64).cpu()
    known = moments.ndim == 1 and len(moments) > 0 and bool((moments >= 0).all())
    if not known or (bool(moments.isinf().any()) and not endless):
        wanted = "numbers of at least 0" if endless else "finite numbers of at least 0"
        raise InputError(f"times: a sequence of {wanted}", got=repr(times), remedy="Use [0.0, 1.0, 10.0].")
    return moments


def _check_weights(weights: Tensor, matrix: Kernel) -> Vector:
    vector = check_vector(weights, matrix[0])
    if not bool((vector > 0).all()):
        raise InputError("weights above 0", got=f"a smallest of {float(vector.amin()):.3g}", remedy="Leave out others.")
    return vector
