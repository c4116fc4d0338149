"""Thin factorisations that keep digits: traces of quotients without pseudo-inverses."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.errors import DegenerateError


def complement(columns: Tensor, null: Tensor) -> Tensor:
    """Drop a known null direction: an (d, k) matrix A with A v = 0 becomes (d, k-1) with the same A A^T.

    A Householder reflector that takes v to the first axis is applied from the right; the first column is then zero.
    """
    mirror = null / torch.linalg.vector_norm(null)
    mirror[0] += torch.where(mirror[0] < 0, -1.0, 1.0)
    mirror /= torch.linalg.vector_norm(mirror)
    return (columns - 2 * torch.outer(columns @ mirror, mirror))[:, 1:]


class ThinBetween:
    r"""Inverse of B = A A^T on the range of A, an (d, r) matrix with r <= d independent columns.

    .. math:: A = QR, \qquad B^\dagger = Q R^{-\top} R^{-1} Q^\top, \qquad
        \operatorname{tr}(S B^\dagger) = \operatorname{tr}(R^{-1} Q^\top S Q R^{-\top})

    QR works on A itself, so only the condition number of A is felt, not its square.

    Raises:
        DegenerateError: The columns are dependent up to rounding.
    """

    def __init__(self, columns: Tensor, what: str, remedy: str) -> None:
        self.basis, self.triangle = torch.linalg.qr(columns)
        self.singular = torch.linalg.svdvals(self.triangle)
        floor = max(columns.shape) * torch.finfo(columns.dtype).eps * self.singular[0]
        rank = int((self.singular > floor).sum())
        if rank < columns.shape[1]:
            raise DegenerateError(
                f"{what} span {columns.shape[1]} dimensions", got=f"a span of {rank} dimensions", remedy=remedy
            )

    @property
    def condition(self) -> float:
        """Ratio of the largest to the smallest singular value of A."""
        return float(self.singular[0] / self.singular[-1])

    def trace(self, product: Tensor) -> Tensor:
        """tr(S pinv(B)) from `product` = S Q (d, r)."""
        half = torch.linalg.solve_triangular(self.triangle, self.basis.T @ product, upper=True)
        return torch.linalg.solve_triangular(self.triangle, half.T, upper=True).diagonal().sum()

    def whitener(self) -> Tensor:
        """P = R^{-1} Q^T (r, d), for which x^T pinv(B) x = |P x|^2."""
        return torch.linalg.solve_triangular(self.triangle, self.basis.T, upper=True)
