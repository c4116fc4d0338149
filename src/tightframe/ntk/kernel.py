"""Infinite-width kernels of fully connected ReLU networks, for any points, in blocks of bounded memory."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike

from tightframe.core.errors import InputError
from tightframe.core.typing import Tensor
from tightframe.ntk.angles import blocks
from tightframe.ntk.points import Points, read_pair
from tightframe.ntk.recursion import Architecture, Pairs, Which, recursion
from tightframe.ntk.tabulated import TOLERANCE, AngleTable, kernel_table


def relu_ntk(
    X: ArrayLike | Tensor,
    Z: ArrayLike | Tensor | None = None,
    *,
    depth: int,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
    readout: bool = False,
    exact: bool = False,
) -> Any:
    r"""Tangent kernel of an infinitely wide fully connected ReLU network.

    .. math:: \Theta(x, z) = |x| |z| \Bigl(\frac{\sigma_w^2}{2}\Bigr)^L \psi(\nu), \qquad
        \psi(\nu) = \sum_{l=0}^{L-1} \cos(\varphi^l \nu) \prod_{l'=l}^{L-1} \Bigl(1 - \frac{\varphi^{l'}\nu}{\pi}\Bigr)

    where
        L is `depth` (hidden layers), sigma_w^2 `weight_variance` over the number of inputs of a layer, except that
        the first layer takes the inner products of the inputs as they are; nu is the angle of x and z and phi
        `angle_map`. The last linear map has unit variance over its inputs. With biases of variance sigma_b^2 the
        kernel follows the recursion of `recursion`.

    The derivatives are those by standard Gaussian weights (W = sigma_w n^(-1/2) omega). A network of width n trained
    on W itself has n / sigma_w^2 times this kernel (n / 2 by default) from its hidden layers; its readout then
    adds only the covariance kernel once, which is why `readout` is False here.

    Points of one norm, and all points without biases, are looked up in a table of the angle whose deviation is at
    most 1e-10 of the kernel at angle zero; its cost does not grow with depth. Points of several norms with biases
    take the exact recursion. All is computed in float64 and returned in the precision and on the device of X (half
    precision in float32), without gradients by the points.

    Args:
        X: Points (n, d).
        Z: Points (m, d); X when None, and then half of the pairs are computed.
        depth: L, at least 1.
        weight_variance: sigma_w^2; 2 keeps the norm of an input from layer to layer.
        bias_variance: sigma_b^2 of every hidden layer's biases.
        readout: Whether the last linear map is trained too (libraries in the tangent parameterisation count it).
        exact: The recursion for every pair, as reference.

    Returns:
        (n, m), array or tensor as X.

    Raises:
        InputError: Points of other shapes, zero vectors without biases, values that are not finite, arguments
            outside their range.

    Example:
        >>> relu_ntk([[1.0, 0.0], [0.0, 1.0]], depth=2)[0].round(4).tolist()
        [2.0, 0.192]

    Reference: [jacot2018neural]; [buchanan2021deep], equation 2.4.
    """
    network = Architecture(depth, weight_variance, bias_variance, readout)
    return _kernel(X, Z, network, "tangent", exact)


def relu_nngp(
    X: ArrayLike | Tensor,
    Z: ArrayLike | Tensor | None = None,
    *,
    depth: int,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
    exact: bool = False,
) -> Any:
    r"""Covariance of the outputs of an infinitely wide ReLU network over its random weights.

    .. math:: s_L(x, z) = |x| |z| \Bigl(\frac{\sigma_w^2}{2}\Bigr)^L \cos(\varphi^L \nu)

    where
        the symbols are those of `relu_ntk`; with biases the kernel follows `recursion`.

    Args:
        X: Points (n, d).
        Z: Points (m, d); X when None.
        depth: L, at least 1.
        weight_variance: sigma_w^2.
        bias_variance: sigma_b^2.
        exact: The recursion for every pair, as reference.

    Returns:
        (n, m), array or tensor as X.

    Raises:
        InputError: As `relu_ntk`.

    Example:
        >>> round(float(relu_nngp([[1.0, 0.0]], [[0.0, 2.0]], depth=1)[0, 0]), 6)
        0.63662

    Reference: [cho2009kernel], equation 6.
    """
    return _kernel(X, Z, Architecture(depth, weight_variance, bias_variance), "covariance", exact)


def _kernel(X: Any, Z: Any, network: Architecture, kind: Which, exact: bool) -> Any:
    left, right = read_pair(X, Z, zeros=not network.homogeneous)
    values = kernel_matrix(left, right, network, kind, exact=exact)
    return left.returned(values)


def kernel_matrix(left: Points, right: Points | None, network: Architecture, kind: Which, *, exact: bool) -> Tensor:
    """The kernel of two sets of points, in the precision of the first."""
    symmetric = right is None
    other = left if right is None else right
    table = None if exact else table_of(left, other, network, kind)
    values = torch.empty(len(left.rows), len(other.rows), dtype=left.dtype, device=left.rows.device)
    for down, over, square, opposite in blocks(left.rows, other.rows, symmetric=symmetric):
        part = pair_values(square, opposite, left.norms[down], other.norms[over], network, kind, table)
        if symmetric and down == over:
            # Rounding is not symmetric, and solvers check that kernels are.
            part = part.triu() + part.triu(1).T
        values[down, over] = part
        if symmetric and down != over:
            values[over, down] = part.T
    # The sum is a cheap screen: where it is finite every entry is.
    if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
        raise InputError(
            "a kernel within the range of its precision",
            got=f"an overflow at depth {network.depth} with weight_variance {network.weight_variance}",
            remedy="Use weight_variance=2.0, or float64.",
        )
    return values


def table_of(left: Points, right: Points, network: Architecture, kind: Which) -> AngleTable | None:
    """The table that serves these points, or None where only the recursion does."""
    norm: float | None = 1.0
    if not network.homogeneous:
        norm = left.norm
        other = right.norm
        if norm is None or other is None or abs(norm - other) > 1e-14 * norm or norm == 0:
            return None
    table = kernel_table(network, kind, norm, left.rows.device)
    return table if table.error <= TOLERANCE else None


def pair_values(
    square: Tensor,
    opposite: Tensor,
    left: Tensor,
    right: Tensor,
    network: Architecture,
    kind: Which,
    table: AngleTable | None,
) -> Tensor:
    """The kernel of a block of pairs from their half angles and their norms, by table or recursion."""
    if table is not None:
        values = table.at(square, opposite)
        return values.mul_(left[:, None]).mul_(right) if network.homogeneous else values
    product = left[:, None] * right
    short, long = 2 * product * square, 2 * product * (1 - square)
    near, far = torch.where(opposite, long, short), torch.where(opposite, short, long)
    covariance, tangent = recursion(Pairs(left.square()[:, None], right.square(), near, far), network)
    return tangent if kind == "tangent" else covariance
