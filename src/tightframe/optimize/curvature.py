"""Extreme eigenpairs of a Hessian that is only known by its products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Status
from tightframe.core.typing import Float

Vector = Float[Tensor, " n"]
Product = Callable[[Vector], Vector]

# Vectors of the Lanczos basis: as many as take 512 MiB, from 16 to 100.
_FEWEST, _MOST, _NUMBERS = 16, 100, 2**26
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of one end of the spectrum, the most extreme first.

    Args:
        values: Eigenvalues (r,). Where the status says "budget spent" there may be fewer than asked for, and one of
            them is an estimate, as its residual shows.
        vectors: Unit eigenvectors (n, r), orthogonal to each other.
        residuals: |A v - value v| of every pair (r,), a bound on the error of the value as an eigenvalue.
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
    r"""The smallest or largest eigenvalues of a symmetric matrix, from its products with vectors.

    .. math:: A v_i = \mu_i v_i, \qquad \mu_1 \le \mu_2 \le \dots \le \mu_r \le \text{all others}

    (or with >= for the largest), by Lanczos' method with thick restarts and full orthogonalisation. A Krylov space
    holds a single vector of a repeated eigenvalue, and may miss an eigenvalue altogether; so pairs are searched one by
    one, each from another start in the complement of those before, until the search finds nothing more extreme than
    what is returned. Accuracy is relative to the norm of A: an eigenvalue 0, which every symmetry of an objective
    causes, is no harder than another.

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
        >>> found.status.converged, [round(value, 9) + 0.0 for value in found.values.tolist()]
        (True, [-2.0, -1.0, 0.0])

    Reference: [wu2000thick].
    """
    check_count(max_products, "max_products")
    _check_options(size, count, which, tolerance)
    sign = 1.0 if which == "smallest" else -1.0
    if size <= max(dense_below, 2 * count, _FEWEST):
        matrix = dense_matrix(product, size, device=device)
        values, vectors = torch.linalg.eigh(sign * matrix)
        values, vectors = sign * values[:count], vectors[:, :count]
        residuals = torch.linalg.vector_norm(matrix @ vectors - values * vectors, dim=0)
        return Eigenpairs(values, vectors, residuals, Status("converged", "computed from the whole matrix"), size)
    lanczos = _Lanczos(lambda vector: sign * product(vector), size, tolerance, max_products, seed, device)
    values, vectors, residuals, converged = lanczos.lowest(count)
    if converged:
        status = Status("converged", f"after {lanczos.taken} products; a search in the complement found no other")
    else:
        short = f"{len(values)} of {count} pairs, not all of them converged, after {lanczos.taken} products"
        status = Status("budget spent", f"{short}; raise max_products")
    return Eigenpairs(sign * values, vectors, residuals, status, lanczos.taken)


def dense_matrix(product: Product, size: int, *, device: torch.device | str = "cpu") -> Float[Tensor, "n n"]:
    """The symmetric matrix of a product, from its products with all unit vectors at once (under torch.vmap)."""
    rows = torch.vmap(product)(torch.eye(size, dtype=torch.float64, device=device))
    return (rows + rows.T) / 2


class _Lanczos:
    """Searches for lowest eigenpairs, each in the complement of those found before."""

    def __init__(
        self, product: Product, size: int, tolerance: float, budget: int, seed: int, device: torch.device | str
    ) -> None:
        self.product, self.tolerance, self.budget, self.device = product, tolerance, budget, device
        self.draws, self.width = generator(seed), max(_FEWEST, min(_MOST, _NUMBERS // size))
        self.values = torch.zeros(0, dtype=torch.float64, device=device)
        self.residuals = self.values.clone()
        self.vectors = torch.zeros(size, 0, dtype=torch.float64, device=device)
        self.taken, self.norm = 0, 0.0

    def lowest(self, count: int) -> tuple[Tensor, Tensor, Tensor, bool]:
        """The lowest pairs with their residuals, and whether all converged and a further search confirmed them."""
        while True:
            value, vector, residual = self._search()
            converged = residual <= self.tolerance * self.norm
            enough = len(self.values) >= count
            if enough and (not converged or value >= self.values[count - 1] - self.tolerance * self.norm):
                break
            order = torch.argsort(torch.cat([self.values, value[None]]), stable=True)
            self.values = torch.cat([self.values, value[None]])[order]
            self.residuals = torch.cat([self.residuals, residual[None]])[order]
            self.vectors = torch.cat([self.vectors, vector[:, None]], dim=1)[:, order]
            if not converged:
                break
        return self.values[:count], self.vectors[:, :count], self.residuals[:count], bool(converged)

    def _search(self) -> tuple[Tensor, Tensor, Tensor]:
        """The lowest pair in the complement, or an estimate of it where the budget ends, with its residual."""
        width = min(self.width, len(self.vectors) - self.vectors.shape[1])
        basis = self.vectors.new_zeros(len(self.vectors), width + 1)
        projected, kept = basis.new_zeros(width, width), 0
        draw = torch.randn(len(basis), dtype=torch.float64, generator=self.draws).to(self.device)
        _, draw = _orthogonalized(draw, self.vectors)
        basis[:, 0] = draw / torch.linalg.vector_norm(draw)
        while True:
            size, left_over = self._extend(basis, projected, kept)
            values, parts = torch.linalg.eigh(projected[:size, :size])
            self.norm = max(self.norm, float(values.abs().max()))
            residual = left_over * parts[-1, 0].abs()
            if size < width or residual <= self.tolerance * self.norm or self.taken >= self.budget:
                return values[0], basis[:, :size] @ parts[:, 0], residual
            kept = width // 2
            basis[:, :kept], basis[:, kept] = basis[:, :width] @ parts[:, :kept], basis[:, width].clone()
            projected.zero_().diagonal()[:kept] = values[:kept]

    def _extend(self, basis: Tensor, projected: Tensor, kept: int) -> tuple[int, Tensor]:
        """Fill the basis after column `kept`; its size, less where the space is invariant, and what sticks out."""
        for j in range(kept, len(projected)):
            self.taken += 1
            coefficients, rest = _orthogonalized(self.product(basis[:, j]), basis[:, : j + 1])
            projected[: j + 1, j] = projected[j, : j + 1] = coefficients
            _, rest = _orthogonalized(rest, self.vectors)
            left_over = torch.linalg.vector_norm(rest)
            self.norm = max(self.norm, float(coefficients.abs().max()))
            if left_over <= 10 * _EPS * self.norm:
                return j + 1, torch.zeros_like(left_over)
            basis[:, j + 1] = rest / left_over
        return len(projected), left_over


def _orthogonalized(vector: Vector, basis: Tensor) -> tuple[Tensor, Vector]:
    """Coefficients in an orthonormal basis, and the rest; twice, for what rounding leaves the first time."""
    first = basis.T @ vector
    vector = vector - basis @ first
    second = basis.T @ vector
    return first + second, vector - basis @ second


def _check_options(size: int, count: int, which: str, tolerance: float) -> None:
    check_count(size, "size")
    check_count(count, "count")
    if count > size:
        raise InputError(f"at most {size} eigenpairs", got=f"count={count}", remedy="Ask for fewer.")
    if which not in ("smallest", "largest"):
        raise InputError('which="smallest" or "largest"', got=repr(which), remedy="Use one of the two.")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-10.")
