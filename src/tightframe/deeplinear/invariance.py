"""The law of parsimony on a network at hand: its invariant frames, and how far weights are from that structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float
from tightframe.deeplinear.frames import InvariantFrames, check_layer, check_room
from tightframe.deeplinear.network import DeepLinearNetwork, check_chain
from tightframe.deeplinear.objective import Objective, as_objective

# Relative departure from W^T W = eps^2 I at which a start no longer counts as orthogonal (float64).
_ORTHOGONAL = 1e-10


@dataclass(frozen=True, eq=False)
class Deviation:
    r"""How far every layer is from the structure of the invariant frames, in Frobenius norms; each (l,).

    .. math:: [U_l, U_l']^\top W_l\, [V_l, V_l'] = \begin{pmatrix} \widetilde W_l & * \\ * & R_l \end{pmatrix}, \qquad
        R_l \approx \rho_l I

    Args:
        off_diagonal: The two blocks marked with a star, together.
        spread: |R_l - rho_l I|, zero for the last layer in case 1, where R_l counts as off-diagonal.
        rho: tr(R_l) / m, which is the nearest multiple of the identity.
        relative: Both deviations together over |W_l|.
    """

    off_diagonal: Float[Tensor, " l"]
    spread: Float[Tensor, " l"]
    rho: Float[Tensor, " l"]
    relative: Float[Tensor, " l"]

    @property
    def largest(self) -> float:
        """The largest of all deviations."""
        return float(torch.maximum(self.off_diagonal, self.spread).max())


@dataclass(frozen=True, eq=False)
class NetworkFrames(InvariantFrames):
    """Frames of a network that exists.

    Args:
        isometries: Q_1 to Q_L, the layers at the start over epsilon.
    """

    isometries: tuple[Tensor, ...] = ()

    def frame(self, number: int) -> Tensor:
        """V_l for l = `number` from 1 to L, and U_L for L + 1."""
        check_layer(number, self.depth + 1)
        if number == self.depth + 1:
            return self.left
        frame = self.right
        for turn in self.isometries[: number - 1]:
            frame = turn @ frame
        return frame

    def isometry(self, number: int) -> Tensor:
        """Q_l, l = `number` from 1 to L."""
        check_layer(number, self.depth)
        return self.isometries[number - 1]

    def bases(self, number: int) -> tuple[Tensor, Tensor]:
        """The orthogonal matrices [U_l, U_l'] and [V_l, V_l'] of a layer (1 to L); in case 1 U_L is the identity."""
        check_layer(number, self.depth)
        right = torch.linalg.qr(self.right, mode="complete").Q[:, self.right.shape[1] :]
        for turn in self.isometries[: number - 1]:
            right = turn @ right
        V, last = torch.cat([self.frame(number), right], dim=1), self.case == 1 and number == self.depth
        return self.left if last else torch.cat([self.frame(number + 1), self.isometry(number) @ right], dim=1), V

    def small(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The small layers U_l^T W_l V_l of weights on their way."""
        return tuple(self.frame(number + 1).T @ W @ self.frame(number) for number, W in enumerate(weights, start=1))

    def deviation(self, weights: Sequence[Tensor]) -> Deviation:
        r"""How far weights are from the structure, whatever moved them there.

        Args:
            weights: W_1 to W_L.

        Raises:
            InputError: Weights of other shapes.
        """
        if [W.shape for W in weights] != [Q.shape for Q in self.isometries]:
            raise InputError(
                f"weights of shapes {[tuple(Q.shape) for Q in self.isometries]}",
                got=f"{[tuple(W.shape) for W in weights]}",
                remedy="Pass those of the network that was decomposed.",
            )
        rows = [self._of_layer(number, W) for number, W in enumerate(weights, start=1)]
        off, spread, rho, size = torch.stack([torch.stack(row) for row in rows], dim=1)
        return Deviation(off, spread, rho, torch.hypot(off, spread) / size)

    def _of_layer(self, number: int, W: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # Residuals of projections, so that nothing of the size of the weights cancels and no complement is formed.
        V, U, norm = self.frame(number), self.frame(number + 1), torch.linalg.matrix_norm
        inside = U.T @ W @ V
        below, beside = W @ V - U @ inside, U.T @ W - inside @ V.T
        off = torch.hypot(norm(below), norm(beside))
        if self.case == 1 and number == self.depth:
            return off, torch.zeros_like(off), torch.zeros_like(off), norm(W)
        Q = self.isometry(number)
        beyond = W - U @ (U.T @ W) - below @ V.T
        free = Q - U @ (U.T @ Q @ V) @ V.T
        rho = (free * beyond).sum() / max(self.complement, 1)
        return off, norm(beyond - rho * free), rho, norm(W)


def decompose(
    network: DeepLinearNetwork | Sequence[Tensor],
    X: Tensor | Objective,
    Y: Tensor | None = None,
    *,
    rank: int | None = None,
) -> NetworkFrames:
    r"""Invariant frames of a network before training, by the recipe of the theorem.

    .. math:: \Phi = Y X^\top = U S V^\top, \quad Q = W_{L:1}(0)/\epsilon^L, \qquad
        V_1 = \mathrm{orth}\,[V, Q^\top U], \quad U_l = W_l(0) V_l / \epsilon, \quad V_{l+1} = U_l

    With Gamma = W_{L:2}(0)^T Phi, the gradient of the first layer leaves ker Gamma and ker Gamma^T W_1(0) alone; the
    complement of their intersection is spanned by V and Q^T U, or by V and Q^T where there are fewer outputs than d.
    Gradient descent from an orthogonal start, also with weight decay and heavy-ball momentum, moves nothing across the
    frames where X X^T = I. Elsewhere (other inputs, adaptive methods, observed entries) `NetworkFrames.deviation` tells
    by how much it does.

    Args:
        network: The network at its start, or its weights: all widths d but the last, which may be smaller.
        X: Inputs (d, n); or the matrix Phi alone; or an objective alone.
        Y: Outputs (d_y, n).
        rank: Of the target, where small singular values are noise; None for all that are above rounding.

    Raises:
        InputError: Another shape, a start that is not epsilon times orthogonal layers, frames that do not fit.
        DegenerateError: A target of zero.

    Example:
        >>> network = DeepLinearNetwork([9, 9, 9, 9], scale=0.1)
        >>> frames = decompose(network, torch.diag(torch.arange(9.0).double().clamp(max=1)), rank=2)
        >>> frames.right.shape, frames.deviation(network.weights).largest < 1e-14
        (torch.Size([9, 4]), True)

    Reference: [yaras2023law], the theorem on invariant subspaces and its proof.
    """
    weights = network.weights if isinstance(network, DeepLinearNetwork) else check_chain(network)
    objective = as_objective(X, Y)
    Phi = objective.target.to(weights[0].dtype)
    scale = _check_start(weights, Phi)
    isometries = tuple(W / scale for W in weights)
    U, V = _singular_frames(Phi, rank)
    Q = isometries[0]
    for turn in isometries[1:]:
        Q = turn @ Q
    d, narrow = weights[0].shape[1], len(Phi) < weights[0].shape[1]
    spanning = torch.cat([V, Q.T if narrow else Q.T @ U], dim=1)
    check_room(d, spanning.shape[1])
    right = torch.linalg.qr(spanning).Q
    left = torch.eye(len(Phi)).to(Phi) if narrow else Q @ right
    eye = torch.eye(right.shape[1]).to(right)
    starts = [scale * eye] * (len(weights) - 1) + [scale * (Q @ right if narrow else eye)]
    return NetworkFrames(scale, right, left, tuple(starts), left.T @ Phi @ right, isometries)


def _singular_frames(Phi: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(Phi, full_matrices=False)
    found = int(S.gt(max(Phi.shape) * torch.finfo(S.dtype).eps * S[0]).sum())
    if not found:
        raise DegenerateError("a target Y X^T that is not zero", got="zero", remedy="Look at the data.")
    kept = found if rank is None else check_count(rank, "rank")
    if kept > found:
        raise InputError(f"a rank of at most {found}, that of Y X^T", got=f"{kept}", remedy="Lower it, or pass None.")
    return U[:, :kept], Vh[:kept].T


def _check_start(weights: Sequence[Tensor], Phi: Tensor) -> float:
    d, shapes = weights[0].shape[1], [tuple(W.shape) for W in weights]
    square = all(W.shape == (d, d) for W in weights[:-1]) and weights[-1].shape[1] == d and len(weights[-1]) <= d
    if not square or len(weights) < 2 or Phi.shape != (len(weights[-1]), d):
        raise InputError(
            "at least two layers, d x d but the last, (d_y, d) with d_y <= d, and a target (d_y, d)",
            got=f"layers {shapes} and a target {tuple(Phi.shape)}",
            remedy="The theorem is about such networks: pad the target with zeros, or choose such widths.",
        )
    scale = float(torch.linalg.matrix_norm(weights[0])) / d**0.5
    allowed = max(_ORTHOGONAL, 100 * torch.finfo(Phi.dtype).eps)
    for index, W in enumerate(weights, start=1):
        defect = float((W @ W.T / scale**2 - torch.eye(len(W)).to(W)).abs().max()) if scale else 1.0
        if not defect <= allowed:
            raise InputError(
                "a start of one scale times matrices with orthonormal rows",
                got=f"layer {index}, off by {defect:.1e}",
                remedy='Use DeepLinearNetwork(widths, init="orthogonal") before any training.',
            )
    return scale
