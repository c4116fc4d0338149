"""How well a dictionary is recovered: up to order and sign, as no data can tell those."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tightframe.core.checks import check_features, check_same_device
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float

Atoms = Float[Tensor, "p d"]


@dataclass(frozen=True)
class Recovery:
    """True atoms beside the estimated ones that an assignment gives them.

    Args:
        errors: |a - s a_hat| (m,) of unit vectors for the better sign s; 2^(1/2) where none is left to assign.
        cosines: |<a, a_hat>| (m,).
        assigned: Index of the estimated atom of every true one (m,), -1 for none.
        signs: s (m,).
    """

    errors: Float[Tensor, " m"]
    cosines: Float[Tensor, " m"]
    assigned: Tensor
    signs: Tensor

    @property
    def worst(self) -> float:
        """Largest error."""
        return float(self.errors.max())

    def share(self, cosine: float = 0.99) -> float:
        """Share of the true atoms whose |cosine| is above this."""
        return float((self.cosines > cosine).double().mean())


def recovery(estimated: Atoms, truth: Atoms) -> Recovery:
    """Assign estimated atoms (p, d) to true ones (m, d), one to one, for the largest sum of |cosines|.

    Lengths do not matter; p and m may differ.

    Raises:
        InputError: Matrices of different widths, NaN, or on different devices.
        DegenerateError: A true atom of length zero. An estimated one of length zero counts as missed.

    Example:
        >>> recovery(torch.tensor([[0.0, 2.0], [-1.0, 0.0]]), torch.eye(2)).errors.tolist()
        [0.0, 0.0]
    """
    estimated, truth = _pair(estimated, truth)
    cosines = truth @ estimated.T
    mine, theirs = linear_sum_assignment(-cosines.abs().cpu().numpy())
    assigned = torch.full((len(truth),), -1)
    assigned[torch.from_numpy(mine)] = torch.from_numpy(theirs)
    assigned = assigned.to(truth.device)
    found = assigned >= 0
    chosen = torch.where(found, cosines.gather(1, assigned.clamp_min(0)[:, None])[:, 0], 0.0)
    signs = torch.where(chosen < 0, -1.0, 1.0).to(chosen)
    # Differences of vectors keep the digits that 2 - 2 cos would lose.
    differences = torch.linalg.vector_norm(truth - signs[:, None] * estimated[assigned.clamp_min(0)], dim=1)
    return Recovery(torch.where(found, differences, 2**0.5), chosen.abs(), assigned, signs)


def l4_score(estimated: Atoms, truth: Atoms) -> float:
    r"""Distance of orthogonal dictionaries from each other, up to order and sign.

    .. math:: 1 - \frac1m \|\hat D D^\top\|_4^4

    Args:
        estimated: D_hat (m, d), rows scaled to length one first.
        truth: D (m, d), likewise; orthonormal rows, or nearly, for otherwise the number has no meaning.

    Returns:
        0 (up to rounding) if and only if D_hat is D with rows permuted and turned round.

    Raises:
        InputError: As `recovery`, or numbers of atoms that differ.

    Example:
        >>> l4_score(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.eye(2))
        0.0

    Reference: [zhai2020complete], section 4.
    """
    estimated, truth = _pair(estimated, truth)
    if len(estimated) != len(truth):
        raise InputError("as many atoms as there are", got=f"{len(estimated)} for {len(truth)}", remedy="Use recovery.")
    return 1 - float((estimated @ truth.T).pow(4).sum()) / len(truth)


def nearest_atom_gaps(directions: Atoms, truth: Atoms) -> Float[Tensor, " p"]:
    r"""How far every direction is from the nearest true atom.

    .. math:: \rho(q) = \min_i \left(1 - \left|\left\langle q, \tfrac{a_i}{\|a_i\|}\right\rangle\right|\right)

    Args:
        directions: q (p, d), scaled to length one first.
        truth: a (m, d).

    Returns:
        (p,), in [0, 1].

    Raises:
        InputError: As `recovery`.

    Reference: [qu2020geometric], section 5.
    """
    directions, truth = _pair(directions, truth)
    return (1 - (directions @ truth.T).abs().amax(1)).clamp(0, 1)


def _pair(estimated: Atoms, truth: Atoms) -> tuple[Tensor, Tensor]:
    estimated, truth = check_features(estimated, "estimated").double(), check_features(truth, "truth").double()
    check_same_device(estimated, truth, "estimated and true atoms")
    if estimated.shape[1] != truth.shape[1] or not len(estimated) or not len(truth):
        raise InputError(
            "atoms (p, d) and (m, d) of one d",
            got=f"shapes {tuple(estimated.shape)} and {tuple(truth.shape)}",
            remedy="Pass one atom per row.",
        )
    if not bool(torch.isfinite(estimated).all() & torch.isfinite(truth).all()):
        raise InputError("finite atoms", got="NaN or inf", remedy="Look for divergence in what made them.")
    if not bool(truth.any(dim=1).all()):
        raise DegenerateError("true atoms of positive length", got="one of length zero", remedy="Leave it out.")
    return torch.nn.functional.normalize(estimated, dim=1), torch.nn.functional.normalize(truth, dim=1)
