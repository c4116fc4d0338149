"""Extreme eigenpairs of a Hessian that is only known by its products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Status
from tightframe.core.typing import Float

Vector = Float[Tensor, " n"]
Product = Callable[[Vector], Vector]

# Vectors of the Lanczos basis between restarts: as many as take 256 MiB, from 20 to 100.
_SMALLEST, _LARGEST, _NUMBERS = 20, 100, 2**25
# Restarts granted to a search that begins when the budget is almost spent.
_FEWEST = 8


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of one end of the spectrum, the most extreme first.

    Args:
        values: Eigenvalues (r,). Where the status says "budget spent" there may be fewer than asked for, and the last
            may be an estimate, as its residual shows.
        vectors: Unit eigenvectors (n, r), orthogonal to each other.
        residuals: |A v - value v| of every pair (r,).
        status: "converged", or "budget spent".
        products: Products with the matrix that were taken.
    """

    values: Float[Tensor, " r"]
    vectors: Float[Tensor, "n r"]
    residuals: Float[Tensor, " r"]
    status: Status
    products: int


def extreme_eigenpairs(
    product: Product,
    size: int,
    *,
    count: int = 1,
    which: Literal["smallest", "largest"] = "smallest",
    tolerance: float = 1e-10,
    max_products: int = 20_000,
    dense_below: int = 200,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Eigenpairs:
    r"""The smallest or largest eigenvalues of a symmetric matrix, by Lanczos' method from products with vectors.

    .. math:: A v_i = \mu_i v_i, \qquad \mu_1 \le \mu_2 \le \dots \le \mu_r \le \text{all others}

    (or with >= for the largest). The matrix is shifted by its norm, so that the accuracy is relative to the norm and an
    eigenvalue 0, which every symmetry of an objective causes, is no harder than another. A Krylov space holds a single
    vector of a repeated eigenvalue, and may miss an eigenvalue altogether; so pairs are searched one by one, each from
    another start in the complement of those before, until the search finds nothing more extreme than what is returned.

    Args:
        product: A times a vector (n,), float64. Built from torch operations where n <= `dense_below`, because it then
            runs under torch.vmap.
        size: n.
        count: r, at most n.
        which: Which end of the spectrum.
        tolerance: Residual at which a pair has converged, relative to the norm of A.
        max_products: At most about this many products.
        dense_below: Up to this size the matrix is built and its whole spectrum computed.
        seed: Seed of the start vectors.
        device: Where `product` expects its vectors.

    Returns:
        Eigenpairs; its status is "converged" only where all asked for did, and the search in the complement found no
        further one.

    Raises:
        InputError: A count below 1 or above n, an unknown end of the spectrum, a tolerance or a budget not above zero.

    Example:
        >>> scale = torch.arange(1000, dtype=torch.float64) - 2
        >>> found = extreme_eigenpairs(lambda v: scale * v, 1000, count=3)
        >>> found.status.converged, [round(value, 9) for value in found.values.tolist()]
        (True, [-2.0, -1.0, 0.0])

    Reference: [lehoucq1998arpack].
    """
    check_count(max_products, "max_products")
    _check_options(size, count, which, tolerance)
    sign = 1.0 if which == "smallest" else -1.0
    if size <= max(dense_below, 4 * count, _SMALLEST):
        values, vectors = torch.linalg.eigh(sign * dense_matrix(product, size, device=device))
        found = _Found(values[:count].cpu().numpy(), vectors[:, :count].cpu().numpy())
        return _pairs(product, sign, found, Status("converged", "computed from the whole matrix"), size, device)
    matrix = _Shifted(product, size, sign, max_products, device)
    found, complete = _search(matrix, count, tolerance, numpy.random.default_rng(seed))
    if complete:
        status = Status("converged", f"after {matrix.taken} products; a search in the complement found no other")
    else:
        short = f"{len(found.values)} of {count} pairs, unverified, after {matrix.taken} products"
        status = Status("budget spent", f"{short}; raise max_products")
    return _pairs(product, sign, found, status, matrix.taken, device)


def dense_matrix(product: Product, size: int, *, device: torch.device | str = "cpu") -> Float[Tensor, "n n"]:
    """The symmetric matrix of a product, from its products with all unit vectors at once (under torch.vmap)."""
    rows = torch.vmap(product)(torch.eye(size, dtype=torch.float64, device=device))
    return (rows + rows.T) / 2


@dataclass(frozen=True)
class _Found:
    """Eigenvalues, ascending, and vectors as columns."""

    values: numpy.ndarray
    vectors: numpy.ndarray

    def joined(self, other: _Found) -> _Found:
        """Both, in order."""
        values = numpy.concatenate([self.values, other.values])
        order = numpy.argsort(values, kind="stable")
        # What projection leaves of an overlap is rounding; orthonormal to rounding is what the complement needs.
        return _Found(values[order], numpy.hstack([self.vectors, other.vectors])[:, order])


class _Shifted:
    """sign A - norm I, none of whose eigenvalues is above 0, for SciPy; it counts its products."""

    def __init__(self, product: Product, size: int, sign: float, budget: int, device: torch.device | str) -> None:
        self.product, self.size, self.sign, self.budget, self.device = product, size, sign, budget, device
        self.taken, self.norm = 0, 0.0
        self.width = min(size, max(_SMALLEST, min(_LARGEST, _NUMBERS // size)))

    def times(self, vector: numpy.ndarray) -> numpy.ndarray:
        """The matrix times a vector."""
        self.taken += 1
        moved = self.product(torch.from_numpy(numpy.ascontiguousarray(vector)).to(self.device))
        return self.sign * moved.cpu().numpy() - self.norm * vector

    def extreme(
        self, start: numpy.ndarray, tolerance: float, *, basis: numpy.ndarray, which: str = "SA"
    ) -> tuple[_Found, bool]:
        """One pair by ARPACK in the complement of a basis, and whether it converged within the budget."""

        def project(vector: numpy.ndarray) -> numpy.ndarray:
            return vector - basis @ (basis.T @ vector)

        shape = (self.size, self.size)
        operator = LinearOperator(shape, matvec=lambda v: project(self.times(project(v))), dtype=numpy.float64)
        restarts = max(_FEWEST, (self.budget - self.taken) // self.width)
        try:
            run = eigsh(operator, 1, which=which, v0=project(start), tol=tolerance, maxiter=restarts, ncv=self.width)
            return _Found(*run), True
        except ArpackNoConvergence as stopped:
            return _Found(stopped.eigenvalues, stopped.eigenvectors), False


def _search(matrix: _Shifted, count: int, tolerance: float, draws: numpy.random.Generator) -> tuple[_Found, bool]:
    """The lowest `count` pairs, and whether a search in their complement confirmed them."""

    def start() -> numpy.ndarray:
        return draws.standard_normal(matrix.size)

    if not matrix.times(start()).any():
        return _Found(numpy.zeros(count), numpy.eye(matrix.size, count)), True
    nothing = _Found(numpy.zeros(0), numpy.zeros((matrix.size, 0)))
    largest, known = matrix.extreme(start(), 1e-2, which="LM", basis=nothing.vectors)
    if not known:
        return nothing, False
    matrix.norm = 1.1 * abs(float(largest.values[0]))  # the estimate is from below, within 1e-2
    found, complete = nothing, True
    # One more than asked for: it must not lie below the ones that are returned.
    while complete:
        more, complete = matrix.extreme(start(), tolerance, basis=found.vectors)
        enough = len(found.values) >= count
        if enough and complete and more.values[0] >= found.values[count - 1] - tolerance * matrix.norm:
            break
        found = found.joined(more)
    if len(found.values) < count:  # an estimate, whose residual says how good it is
        found = found.joined(matrix.extreme(start(), tolerance**0.5, basis=found.vectors)[0])
    return _Found(found.values[:count] + matrix.norm, found.vectors[:, :count]), complete


def _pairs(
    product: Product, sign: float, found: _Found, status: Status, taken: int, device: torch.device | str
) -> Eigenpairs:
    values = torch.from_numpy(sign * found.values).to(device)
    vectors = torch.from_numpy(numpy.ascontiguousarray(found.vectors)).to(device)
    residuals = torch.empty_like(values)
    for i, value in enumerate(values):
        residuals[i] = torch.linalg.vector_norm(product(vectors[:, i]) - value * vectors[:, i])
    return Eigenpairs(values, vectors, residuals, status, taken + len(values))


def _check_options(size: int, count: int, which: str, tolerance: float) -> None:
    check_count(size, "size")
    check_count(count, "count")
    if count > size:
        raise InputError(f"at most {size} eigenpairs", got=f"count={count}", remedy="Ask for fewer.")
    if which not in ("smallest", "largest"):
        raise InputError('which="smallest" or "largest"', got=repr(which), remedy="Use one of the two.")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-10.")
