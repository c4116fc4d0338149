"""Orthogonal maps and layers of great width as products of thin matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.typing import Float


@dataclass(frozen=True, eq=False)
class Turn:
    r"""An orthogonal map of R^d that moves a few dimensions only.

    .. math:: Q = I + B\,(C - I)\,B^\top, \qquad B^\top B = I, \quad C^\top C = I

    Args:
        basis: B (d, p).
        core: C (p, p).
    """

    basis: Float[Tensor, "d p"]
    core: Float[Tensor, "p p"]

    @classmethod
    def between(cls, source: Float[Tensor, "d q"], image: Float[Tensor, "d q"]) -> Turn:
        """An orthogonal map that takes one orthonormal frame to another, in O(d q^2)."""
        q = source.shape[1]
        basis = torch.linalg.qr(torch.cat([source, image], dim=1)).Q
        before, after = basis.T @ source, basis.T @ image
        beyond = [torch.linalg.qr(frame, mode="complete").Q[:, q:] for frame in (before, after)]
        return cls(basis, after @ before.T + beyond[1] @ beyond[0].T)

    def __matmul__(self, other: Tensor) -> Tensor:
        seen = self.basis.T @ other
        return other + self.basis @ (self.core @ seen - seen)


@dataclass(frozen=True, eq=False)
class LayerOperator:
    r"""A layer of a network of great width, as it is on an invariant space and beyond.

    .. math:: W = U\,(\widetilde W - \rho \widetilde Q)\,V^\top + \rho\, Q

    It multiplies vectors and matrices from the left with @, in O(d q) per column where Q is a `Turn`.

    Args:
        inner: W tilde, the small layer.
        start: Q tilde = U^T Q V.
        rho: The one singular value beyond the invariant space; 0 where there is no second term.
        left: U.
        right: V.
        turns: Factors of Q, the first to act first; none where rho is zero.
    """

    inner: Tensor
    start: Tensor
    rho: float
    left: Tensor
    right: Tensor
    turns: tuple[Tensor | Turn, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return len(self.left), len(self.right)

    def __matmul__(self, other: Tensor) -> Tensor:
        inside = self.left @ ((self.inner - self.rho * self.start) @ (self.right.T @ other))
        if not self.turns:
            return inside
        for turn in self.turns:
            other = turn @ other
        return inside + self.rho * other

    def dense(self) -> Tensor:
        """The matrix itself, (d_out, d_in)."""
        return self @ torch.eye(len(self.right), dtype=self.right.dtype, device=self.right.device)

    def thin_svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """Singular vectors and values within the invariant space: U (d_out, p), S (p,) and V (d_in, p)."""
        U, S, Vh = torch.linalg.svd(self.inner, full_matrices=False)
        return self.left @ U, S, self.right @ Vh.T

    def singular_values(self) -> Tensor:
        """All min(d_out, d_in) singular values, the largest first."""
        inside = torch.linalg.svdvals(self.inner)
        beyond = inside.new_full((min(self.shape) - len(inside),), abs(self.rho))
        return torch.cat([inside, beyond]).sort(descending=True).values
