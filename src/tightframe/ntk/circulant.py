"""Kernel matrices that are circulant in blocks, as uniform points of coaxial circles give: solved by FFT."""

from __future__ import annotations

import torch

from tightframe.core.typing import Float, Tensor
from tightframe.ntk.kernel import relu_ntk

# Points are one orbit of a rotation where it maps each to the next to this distance.
_ORBIT = 1e-10


class BlockCirculant:
    r"""Matrix of k x k circulant blocks of size n: entry (a i, b j) is c_ab((i - j) mod n).

    Args:
        columns: (n, k, k): columns[i, a, b] = c_ab(i).

    Example:
        >>> matrix = BlockCirculant(torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)[:, None, None])
        >>> matrix.solve(torch.tensor([4.0, 4.0, 4.0], dtype=torch.float64)).tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, columns: Float[Tensor, "n k k"]) -> None:
        self._size, self._blocks = columns.shape[:2]
        self._symbols = torch.fft.rfft(columns.double(), dim=0)
        self.shape: tuple[int, ...] = (self._size * self._blocks,) * 2

    def scaled(self, factors: Float[Tensor, " k"]) -> BlockCirculant:
        """The matrix with block (a, b) times factors[a] factors[b]."""
        copy = BlockCirculant.__new__(BlockCirculant)
        copy._size, copy._blocks, copy.shape = self._size, self._blocks, self.shape
        copy._symbols = self._symbols * factors[:, None] * factors
        return copy

    def __matmul__(self, vector: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Product with a vector (k n,)."""
        return self._back(self._symbols @ self._there(vector))

    def solve(self, vector: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        """The solution of A x = vector."""
        return self._back(torch.linalg.solve(self._symbols, self._there(vector)))

    def eigenvalues(self) -> Float[Tensor, " m"]:
        """Smallest first, for a symmetric matrix; those of pairs of conjugate frequencies stand once."""
        return torch.linalg.eigvalsh(self._symbols).reshape(-1).sort().values

    def _there(self, vector: Tensor) -> Tensor:
        return torch.fft.rfft(vector.double().reshape(self._blocks, self._size).T, dim=0)[..., None]

    def _back(self, values: Tensor) -> Tensor:
        return torch.fft.irfft(values[..., 0], n=self._size, dim=0).T.reshape(-1)


def circulant_kernel(curves: list[Float[Tensor, "n d"]], depth: int) -> BlockCirculant | None:
    """Tangent kernel of points that one rotation maps each to the next on all curves; None where none does."""
    n = len(curves[0])
    if any(len(curve) != n for curve in curves):
        return None
    stacked = torch.stack(curves, dim=1).double()
    following = stacked.roll(-1, dims=0)
    u, _, vh = torch.linalg.svd(stacked.reshape(-1, stacked.shape[2]).T @ following.reshape(-1, stacked.shape[2]))
    if float((stacked @ (u @ vh) - following).abs().amax()) > _ORBIT:
        return None
    k = len(curves)
    values = relu_ntk(torch.cat(curves), stacked[0], depth=depth).reshape(k, n, k)
    return BlockCirculant(values.transpose(0, 1))
