"""Preconditioning: a linear map after which a general dictionary is nearly a tight frame, or nearly orthogonal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.checks import check_count, check_features
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float

Rows = Float[Tensor, "n d"]
Atoms = Float[Tensor, "p d"]

# Numbers converted to float64 at once.
_BLOCK = 2**22


@dataclass(frozen=True)
class Whitening:
    r"""Coordinates in which the rows of a data matrix are uncorrelated and of variance one.

    .. math:: z = W y, \qquad W = \Lambda^{-1/2} V^\top, \qquad \tfrac1n \sum_j y_j y_j^\top = V \Lambda V^\top

    Args:
        matrix: W (r, d).
        inverse: W^+ transposed (r, d): a direction q (r,) in the new coordinates belongs to the atom q @ inverse.
        spectrum: All eigenvalues (d,), descending.
    """

    matrix: Float[Tensor, "r d"]
    inverse: Float[Tensor, "r d"]
    spectrum: Float[Tensor, " d"]

    def rows(self, values: Rows) -> Float[Tensor, "n r"]:
        """Rows (n, r) of the new coordinates."""
        return values @ self.matrix.to(values).T

    def atoms(self, directions: Float[Tensor, "p r"]) -> Atoms:
        """Unit atoms (p, d) from directions (p, r), whatever their length."""
        return torch.nn.functional.normalize(directions @ self.inverse.to(directions), dim=1)

    def directions(self, atoms: Atoms) -> Float[Tensor, "p r"]:
        """Images W a (p, r) of atoms (p, d)."""
        return atoms @ self.matrix.to(atoms).T


def second_moment(rows: Rows) -> Float[Tensor, "d d"]:
    """Y^T Y / n (d, d) in float64, in blocks, without moving the rows to their mean: sparse codes have mean zero."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for block in rows.split(max(1, _BLOCK // rows.shape[1])):
        block = block.double()
        total.addmm_(block.T, block)
    return total / len(rows)


def whitening(moment: Float[Tensor, "d d"], *, rank: int | None = None, precision: float | None = None) -> Whitening:
    """The coordinates in which a second moment (d, d) is the identity, in its r largest directions.

    Args:
        moment: Symmetric, float64; as `second_moment` gives it.
        rank: r; None for all directions whose variance is above rounding.
        precision: Relative size below which a variance is rounding; by default d times that of float64.

    Raises:
        DegenerateError: All zero, or of smaller rank than asked for.
        InputError: A rank that is not from 1 to d.
    """
    values, vectors = torch.linalg.eigh(moment)
    values, vectors = values.flip(0), vectors.flip(1)
    dimension = len(values)
    floor = precision if precision is not None else dimension * torch.finfo(moment.dtype).eps
    largest = float(values[0])
    present = int((values > floor * largest).sum()) if largest > 0 else 0
    if not present:
        raise DegenerateError("data that are not all zero", got="zeros only", remedy="Look at what was loaded.")
    if rank is not None and check_count(rank, "rank") > dimension:
        raise InputError(f"at most d = {dimension} directions", got=f"{rank}", remedy="Ask for fewer.")
    if rank is not None and rank > present:
        raise DegenerateError(
            f"data that span at least {rank} dimensions",
            got=f"a span of {present}",
            remedy=f"Ask for at most {present} components, or pass more samples.",
        )
    kept = present if rank is None else rank
    scale, basis = values[:kept].sqrt(), vectors[:, :kept].T
    return Whitening(basis / scale[:, None], basis * scale[:, None], values)


def preconditioner(rows: Rows, *, density: float = 1.0, noise: float = 0.0) -> Float[Tensor, "d d"]:
    r"""The symmetric preconditioner of a general dictionary, from its data.

    .. math:: P = \left(\frac{1}{\theta n}\, Y Y^\top - \frac{\sigma^2}{\theta} I\right)^{-1/2}, \qquad
        \mathbb E\, \tfrac{1}{\theta n} Y Y^\top = A A^\top + \tfrac{\sigma^2}\theta I

    where
        the columns of Y are the rows of `rows` (n, d), theta is `density`, sigma is `noise`, and A the dictionary.

    Up to the error of the sample, P A is then a tight frame, P A (P A)^T = I, and orthogonal if A is square.
    Eigenvalues that the noise would make smaller than a thousandth of the mean count as this thousandth.

    Args:
        rows: (n, d), with n at least d.
        density: theta in (0, 1]; it sets nothing but the scale of P.
        noise: Standard deviation of white noise in every entry.

    Returns:
        P (d, d), float64.

    Raises:
        InputError: No finite matrix, a density outside (0, 1] or a noise below zero.
        DegenerateError: Data that do not span R^d.

    Example:
        >>> P = preconditioner(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), density=0.5)
        >>> P.diagonal().tolist()
        [0.5, 1.0]

    Reference: [sun2017complete], section 2.3; [qu2020geometric], section 2, for overcomplete dictionaries.
    """
    rows = check_features(rows, "rows")
    if not 0 < density <= 1:
        raise InputError("a density in (0, 1]", got=repr(density), remedy="Use the share of codes that are not zero.")
    if not 0 <= noise < math.inf:
        raise InputError("a noise of at least zero", got=repr(noise), remedy="Pass its standard deviation, or 0.")
    moment = second_moment(rows)
    if not bool(torch.isfinite(moment).all()):
        raise InputError("finite rows", got="NaN or inf", remedy="Remove or fill them first.")
    found = whitening(moment, rank=rows.shape[1])
    values = found.spectrum - noise**2
    values = values.clamp_min(1e-3 * float(found.spectrum.mean()) if noise else 0.0) / density
    basis = found.matrix / torch.linalg.vector_norm(found.matrix, dim=1, keepdim=True)
    return (basis.T / values.sqrt()) @ basis


def tightness_deviation(atoms: Atoms) -> float:
    r"""How far vectors are from a tight frame, whatever their common scale.

    .. math:: \left\| \frac{d}{\|A\|_F^2}\, A A^\top - I \right\|_2

    Args:
        atoms: One vector per row (p, d).

    Returns:
        0 for a tight frame; at least 1 where the vectors do not span R^d.

    Raises:
        InputError: No matrix.
        DegenerateError: Zeros only.

    Example:
        >>> tightness_deviation(torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])) < 1e-7
        True

    Reference: [benedetto2003finite].
    """
    values = torch.linalg.svdvals(check_features(atoms, "atoms").double()).square()
    total = float(values.sum())
    if not total > 0:
        raise DegenerateError("vectors that are not all zero", got="zeros only", remedy="Look at what was passed.")
    if len(atoms) < atoms.shape[1]:
        values = torch.cat([values, values.new_zeros(1)])
    return float((atoms.shape[1] / total * values - 1).abs().max())
