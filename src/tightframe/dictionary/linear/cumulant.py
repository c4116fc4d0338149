"""The fourth cumulant of data as a symmetric tensor, never formed: its contractions, and its decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.typing import Float
from tightframe.optimize.power import power_gradient

Rows = Float[Tensor, "n d"]
Directions = Float[Tensor, "p d"]

# Added to the diagonal of cubed cosines, so that two atoms that run into each other are told apart afterwards.
_RIDGE = 1e-3


class FourthCumulant:
    r"""Contractions of the fourth cumulant of rows, less that of atoms already found.

    .. math:: C(q, q, q, \cdot) = \frac1n \sum_j (z_j^\top q)^3 z_j - 3\,(q^\top \Sigma q)\,\Sigma q
        - \sum_k \kappa_k \langle f_k, q\rangle^3 f_k, \qquad \Sigma = \frac1n \sum_j z_j z_j^\top

    where
        z_j (d,) are the rows, f_k the unit vectors of `atoms` (p, d), and kappa_k > 0 their `weights` (p,).

    For z = A x with independent entries of x of cumulant kappa, the expectation of the first two terms is that of
    sum_k kappa <a_k, q>^3 a_k: Gaussian noise and the coherence of second moments drop out, and what is left over
    after subtraction are the atoms not found yet.

    Args:
        rows: z (n, d).
        atoms: f (p, d), unit, or None.
        weights: kappa (p,), with `atoms`.

    Reference: [anandkumar2014tensor], section 3; [qu2020geometric], for the landscape of the form.
    """

    def __init__(self, rows: Rows, atoms: Directions | None = None, weights: Float[Tensor, " p"] | None = None) -> None:
        if (atoms is None) != (weights is None):
            raise InputError("atoms together with their weights", got="one of the two", remedy="Pass both.")
        self.rows: Rows = rows
        self.atoms: Directions | None = atoms
        self.weights: Tensor | None = weights
        self._moment: Tensor | None = None

    def without(self, atoms: Directions, weights: Float[Tensor, " p"]) -> FourthCumulant:
        """The same less these atoms, and no others."""
        smaller = FourthCumulant(self.rows, atoms, weights)
        smaller._moment = self._moment
        return smaller

    @property
    def moment(self) -> Float[Tensor, "d d"]:
        """Sigma (d, d)."""
        if self._moment is None:
            self._moment = self.rows.T @ self.rows / len(self.rows)
        return self._moment

    def contract(self, directions: Directions) -> Directions:
        """C(q, q, q, .) (p, d) of every direction."""
        found = power_gradient(self.rows, directions, order=4)
        smeared = directions @ self.moment
        found -= 3 * (smeared * directions).sum(1, keepdim=True) * smeared
        if self.atoms is not None:
            found -= ((directions @ self.atoms.T).pow(3) * self.weights) @ self.atoms
        return found

    def derivative(self, directions: Directions, moves: Directions) -> Directions:
        """Derivative of `contract` along `moves` (p, d), one for every direction."""
        across = self.rows @ directions.T
        found = 3 * (across.square() * (self.rows @ moves.T)).T @ self.rows / len(self.rows)
        smeared, moved = directions @ self.moment, moves @ self.moment
        found -= 6 * (smeared * moves).sum(1, keepdim=True) * smeared
        found -= 3 * (smeared * directions).sum(1, keepdim=True) * moved
        if self.atoms is not None:
            weights = (directions @ self.atoms.T).square() * (moves @ self.atoms.T)
            found -= 3 * (weights * self.weights) @ self.atoms
        return found

    def value(self, directions: Directions) -> Float[Tensor, " p"]:
        """C(q, q, q, q) (p,)."""
        return (self.contract(directions) * directions).sum(1)


def alternating_least_squares(
    cumulant: FourthCumulant, start: Directions, *, iterations: int = 10
) -> tuple[Directions, Float[Tensor, " p"]]:
    r"""Unit atoms and weights that explain the cumulant together: each step solves one linear system for all atoms.

    .. math:: B \leftarrow \left((F F^\top)^{\circ 3}\right)^{-1} G, \qquad g_i = C(f_i, f_i, f_i, \cdot), \qquad
        \kappa_k = \|b_k\|, \quad f_k = b_k / \kappa_k

    A single direction that maximises the form is drawn towards its neighbours by the cubes of their cosines. The
    system takes this bias out, and what remains is the error of the sample.

    Args:
        cumulant: Of the data; its `atoms` should be None.
        start: F (p, d), unit rows, no two of them alike.
        iterations: Steps, at a cost of one pass over the rows each.

    Returns:
        F (p, d) and kappa (p,).

    Raises:
        InputError: A start that is no matrix.

    Reference: [sharan2017orthogonalized], section 2, for the alternating step; [delathauwer2007fourth], for
        overcomplete mixtures.
    """
    if start.ndim != 2 or not start.numel():
        raise InputError("directions (p, d)", got=f"shape {tuple(start.shape)}", remedy="Pass one per row.")
    atoms, weights = start, start.new_ones(len(start))
    ridge = _RIDGE * torch.eye(len(start), dtype=start.dtype, device=start.device)
    for _ in range(iterations):
        mixed = torch.linalg.solve((atoms @ atoms.T).pow(3) + ridge, cumulant.contract(atoms))
        weights = torch.linalg.vector_norm(mixed, dim=1)
        atoms = unit_rows(mixed)
    return atoms, weights
