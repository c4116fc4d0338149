"""A kernel matrix that is never stored: products with it, tile by tile."""

from __future__ import annotations

from numpy.typing import ArrayLike

from tightframe.core.checks import check_same_device
from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Tensor
from tightframe.ntk.angles import blocks
from tightframe.ntk.kernel import pair_values, table_of
from tightframe.ntk.points import read_points
from tightframe.ntk.recursion import Architecture, Which


class KernelOperator:
    r"""The kernel of points with themselves as a linear map, D^{1/2} K D^{1/2} where weights D are given.

    Every product computes the kernel anew, half of it, in tiles: for 20,000 points memory is a few megabytes.

    Args:
        X: Points (n, d), array or tensor.
        network: The network whose kernel it is.
        kind: "tangent" or "covariance".
        weights: (n,), at least zero; ones when None.

    Raises:
        InputError: As `relu_ntk`; weights of another shape, negative or not finite.
    """

    def __init__(
        self,
        X: ArrayLike | Tensor,
        network: Architecture,
        *,
        kind: Which = "tangent",
        weights: Float[Tensor, " n"] | None = None,
    ) -> None:
        self._points = read_points(X, zeros=not network.homogeneous)
        self._network, self._kind = network, kind
        self._table = table_of(self._points, self._points, network, kind)
        n = len(self._points.rows)
        self.shape: tuple[int, int] = (n, n)
        self._roots = None if weights is None else _weights(weights, self._points.rows).sqrt()

    def __matmul__(self, vectors: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Product with a vector (n,) or columns (n, k), float64."""
        if vectors.shape[:1] != self.shape[:1] or vectors.ndim > 2:
            raise InputError(
                f"vectors of shape ({self.shape[0]},) or ({self.shape[0]}, k)",
                got=f"shape {tuple(vectors.shape)}",
                remedy="Pass one entry per point.",
            )
        columns = vectors.to(self._points.rows).reshape(len(vectors), -1)
        columns = columns if self._roots is None else columns * self._roots[:, None]
        total = columns.new_zeros(columns.shape)
        rows, norms = self._points.rows, self._points.norms
        for down, over, square, opposite in blocks(rows, rows, symmetric=True):
            part = pair_values(square, opposite, norms[down], norms[over], self._network, self._kind, self._table)
            total[down] += part @ columns[over]
            if down != over:
                total[over] += part.T @ columns[down]
        total = total if self._roots is None else total * self._roots[:, None]
        return total.reshape(vectors.shape)


def _weights(weights: Tensor, like: Tensor) -> Tensor:
    if not isinstance(weights, Tensor) or weights.shape != like.shape[:1]:
        got = f"shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else type(weights).__name__
        raise InputError(f"weights are a tensor of shape ({len(like)},)", got=got, remedy="One weight per point.")
    check_same_device(weights, like, "X and weights")
    weights = weights.detach().double()
    if not bool((weights >= 0).all()) or not bool(weights.isfinite().all()):
        raise InputError("weights of at least 0", got="negative ones, NaN or inf", remedy="Pass arc lengths or counts.")
    return weights
