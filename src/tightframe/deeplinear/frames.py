"""Frames in which a deep linear network splits into a small network and one number, without any d x d matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float
from tightframe.deeplinear.operators import LayerOperator, Turn
from tightframe.geometry.frames import haar_columns

# Largest defect of V^T V = I at which columns count as orthonormal.
_ORTHONORMAL = 1e-8


@dataclass(frozen=True, eq=False)
class InvariantFrames(ABC):
    r"""Invariant frames of a deep linear network of width d that starts from scaled orthogonal layers.

    .. math:: W_l(t) = U_l \widetilde W_l(t) V_l^\top + \rho(t)\,\big(Q_l - U_l \widetilde Q_l V_l^\top\big), \qquad
        W_l(0) = \epsilon Q_l, \quad \widetilde Q_l = U_l^\top Q_l V_l, \quad V_{l+1} = U_l

    where V_l (d, q) has orthonormal columns. Case 1, outputs fewer than d: q is their number plus the rank, U_L is the
    identity and the last layer has no second term. Case 2, d outputs: q is twice the rank.

    Args:
        scale: epsilon.
        right: V_1 (d, q).
        left: U_L (d, q), or the identity (d_y, d_y) in case 1.
        starts: Small layers at the start, epsilon U_l^T Q_l V_l, each (q, q) but the last in case 1, (d_y, q).
        target: U_L^T Phi V_1, what the small network approximates.

    Reference: [yaras2023law], the theorem on invariant subspaces.
    """

    scale: float
    right: Float[Tensor, "d q"]
    left: Tensor
    starts: tuple[Tensor, ...]
    target: Tensor

    @property
    def depth(self) -> int:
        """L."""
        return len(self.starts)

    @property
    def case(self) -> int:
        """1 for fewer outputs than the width, 2 for as many."""
        return 1 if len(self.left) < len(self.right) else 2

    @property
    def complement(self) -> int:
        """m = d - q, the dimensions in which every layer is rho times an isometry."""
        return self.right.shape[0] - self.right.shape[1]

    @abstractmethod
    def frame(self, number: int) -> Tensor:
        """V_l for l = `number` from 1 to L, and U_L for L + 1."""

    @abstractmethod
    def isometry(self, number: int) -> Tensor | Turn:
        """Q_l, l = `number` from 1 to L; in case 1 the last one is not needed, and zero."""

    def layer(self, inner: Tensor, rho: float, number: int) -> LayerOperator:
        """W_l as an operator, from the small layer and rho, l = `number` from 1 to L."""
        check_layer(number, self.depth)
        free = self.case == 2 or number < self.depth
        start = self.starts[number - 1] / self.scale
        turns = (self.isometry(number),) if free else ()
        return LayerOperator(inner, start, rho if free else 0.0, self.frame(number + 1), self.frame(number), turns)

    def end_to_end(self, product: Tensor, rho: float) -> LayerOperator:
        """W_L ... W_1 as an operator, from the product of the small layers and rho."""
        free = self.case == 2
        turns = tuple(self.isometry(number) for number in range(1, self.depth + 1)) if free else ()
        start = self.starts[0] / self.scale
        for inner in self.starts[1:]:
            start = inner / self.scale @ start
        return LayerOperator(product, start, rho**self.depth if free else 0.0, self.left, self.right, turns)


@dataclass(frozen=True, eq=False)
class HaarFrames(InvariantFrames):
    """Frames of a random network that never exists: those between the first and the last are drawn when asked for.

    Args:
        seed: Seed of the frames in between.
    """

    seed: int = 0

    def frame(self, number: int) -> Tensor:
        """V_l for l = `number` from 1 to L, and U_L for L + 1."""
        check_layer(number, self.depth + 1)
        if number == 1:
            return self.right
        if number == self.depth + 1:
            return self.left
        return haar_columns(*self.right.shape, seed=self.seed + number).to(self.right)

    def isometry(self, number: int) -> Turn:
        """Q_l: an orthogonal map that takes V_l to U_l and moves only what these span."""
        return Turn.between(self.frame(number), self.frame(number + 1))


def haar_frames(
    U: Float[Tensor, "k r"], S: Float[Tensor, " r"], V: Float[Tensor, "d r"], *, depth: int, scale: float, seed: int = 0
) -> HaarFrames:
    r"""Frames of a network with random orthogonal layers and this target, in O(d r^2).

    .. math:: \Phi = U S V^\top, \qquad V_1 = [V, F], \quad U_L = [A, E], \qquad
        U_L^\top \Phi V_1 = \begin{pmatrix} A^\top U S & 0 \\ E^\top U S & 0 \end{pmatrix}

    where
        U (d_y, r), S (r,) and V (d, r) are the thin singular value decomposition of Phi, A is a random r-frame,
        E an orthonormal basis of the part of U outside A, and F a random r-frame orthogonal to V.

    With Q = W_{L:1}(0) / epsilon^L Haar distributed, the invariant space is spanned by V and Q^T U. A = Q V is then a
    random frame; given A, E is fixed and F = Q^T E is uniform among the frames orthogonal to V. So the small network
    has the distribution that an orthogonal start of the whole one gives it. With d_y < d, V_1 = orth[V, G] with a
    random d_y-frame G = Q^T instead.

    Args:
        U: Left singular vectors (d_y, r), d_y at most d.
        S: Singular values (r,), above zero.
        V: Right singular vectors (d, r), d at least 2 r (r + d_y where d_y < d).
        depth: L, at least 2.
        scale: epsilon, above zero.
        seed: Seed of the draws.

    Raises:
        InputError: Shapes that do not fit, columns that are not orthonormal, no room for the frames.

    Reference: [yaras2023law], the theorem on invariant subspaces.
    """
    _check_decomposition(U, S, V)
    check_start(depth, scale)
    draws = generator(seed)
    (outputs, rank), (d, _) = U.shape, V.shape
    size = 2 * rank if outputs == d else rank + outputs
    check_room(d, size)
    if outputs < d:
        rows = haar_columns(d, outputs, seed=_next(draws)).to(V)
        right, left = torch.linalg.qr(torch.cat([V, rows], dim=1)).Q, torch.eye(outputs).to(V)
        last = rows.T @ right
    else:
        right, left = outer_frames(U, V, seed=_next(draws))
        last = torch.eye(size).to(V)
    eye = torch.eye(size).to(V)
    target = (left.T @ U) * S @ (V.T @ right)
    starts = (*(scale * eye for _ in range(depth - 1)), scale * last)
    return HaarFrames(scale, right, left, starts, target, seed=_next(draws))


def outer_frames(U: Float[Tensor, "k r"], V: Float[Tensor, "d r"], *, seed: int) -> tuple[Tensor, Tensor]:
    """V_1 = [V, F] (d, 2r) and U_L = [A, E] (d_y, 2r) of a random start, for matrices of any shape with room for them.

    Raises:
        InputError: 2 r above the smaller side.
    """
    draws, rank = generator(seed), U.shape[1]
    check_room(min(len(U), len(V)), 2 * rank)
    turned = haar_columns(len(U), rank, seed=_next(draws)).to(U)
    drawn = torch.randn(len(V), rank, dtype=torch.float64, generator=draws).to(V)
    left = torch.cat([turned, _beyond(turned, U)], dim=1)
    return torch.cat([V, _beyond(V, drawn)], dim=1), left


def check_start(depth: int, scale: float) -> None:
    """At least two layers, a scale above zero.

    Raises:
        InputError: Something else.
    """
    check_count(depth, "depth", least=2)
    if not 0 < scale < float("inf"):
        raise InputError("a scale above zero", got=repr(scale), remedy="Use 1e-2.")


def check_room(d: int, size: int) -> None:
    """Frames that fit into the width.

    Raises:
        InputError: More columns than dimensions.
    """
    if size > d:
        raise InputError(
            f"a width of at least {size}, twice the rank (or the rank plus the outputs where those are fewer)",
            got=f"{d}",
            remedy="Lower the rank; a network this narrow has no part that the data leave alone.",
        )


def check_layer(number: int, last: int) -> None:
    """A layer from 1 to the last.

    Raises:
        InputError: Something else.
    """
    if check_count(number, "a layer") > last:
        raise InputError(
            f"a layer from 1 to {last}", got=f"{number}", remedy="Layers count from 1, the one at the input."
        )


def _beyond(frame: Tensor, columns: Tensor) -> Tensor:
    """Orthonormal basis of the part of these columns outside a frame."""
    return torch.linalg.qr(torch.cat([frame, columns], dim=1)).Q[:, frame.shape[1] :]


def _next(draws: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=draws))


def _check_decomposition(U: Tensor, S: Tensor, V: Tensor) -> None:
    fits = U.ndim == V.ndim == 2 and S.shape == U.shape[1:] == V.shape[1:] and len(U) <= len(V)
    if not fits or not bool((S > 0).all()):
        raise InputError(
            "U (d_y, r), S (r,) above zero and V (d, r) with d_y <= d",
            got=f"{tuple(U.shape)}, {tuple(S.shape)}, {tuple(V.shape)}",
            remedy="Pass the thin SVD cut at the rank, V not transposed; transpose the problem where d_y > d.",
        )
    for name, columns in (("U", U), ("V", V)):
        defect = columns.T @ columns - torch.eye(columns.shape[1]).to(columns)
        if not float(defect.abs().max()) <= max(_ORTHONORMAL, 1e3 * torch.finfo(columns.dtype).eps):
            raise InputError(
                f"{name} with orthonormal columns",
                got=f"a Gram matrix off by {float(defect.abs().max()):.1e}",
                remedy="Pass singular vectors.",
            )
