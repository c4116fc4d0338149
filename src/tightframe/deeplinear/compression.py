"""`compress`: the small network that trains as a wide deep linear network does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.deeplinear.frames import check_room, check_start, outer_frames
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion, Objective, as_objective

# Singular vectors above this many entries are found from products, with so many more columns and iterations.
_WHOLE, _MORE, _ITERATIONS = 1_000_000, 10, 4
# The rate of the outer factors where only some entries count.
_GAMMA = 0.1


class CompressedNetwork(DeepLinearNetwork):
    r"""A deep linear network between two thin factors.

    .. math:: f(x) = U\, \widetilde W_L \cdots \widetilde W_1\, V^\top x

    with `layers` V^T (q, d_x), the L inner layers (q, q), and U (d_y, q): d_x q + L q^2 + d_y q numbers. Its `rates`
    let `simulate` train the outer factors with gamma times the step of the inner ones.

    Args:
        left: U (d_y, q).
        inner: W~_1, ..., W~_L, each (q, q).
        right: V (d_x, q).
        gamma: Discrepant rate of the outer factors, at least 0; at 0 they stay.

    Raises:
        InputError: Matrices that do not fit each other, a gamma below zero.

    Reference: [yaras2024compressible]; [kwon2024efficient].
    """

    def __init__(self, left: Tensor, inner: Sequence[Tensor], right: Tensor, *, gamma: float) -> None:
        torch.nn.Module.__init__(self)
        if not 0 <= gamma < math.inf:
            raise InputError("a gamma of at least zero", got=repr(gamma), remedy="Use 0.1, or 0 for fixed factors.")
        checked = DeepLinearNetwork.of([right.T, *inner, left]).weights
        self.gamma = gamma
        self._hold(checked)
        for outer in (self.layers[0], self.layers[-1]):
            outer.weight.requires_grad_(gamma > 0)

    @property
    def rates(self) -> tuple[float, ...]:
        """gamma for the outer factors, 1 for the layers between."""
        return (self.gamma, *(1.0,) * (self.depth - 2), self.gamma)

    def parameter_groups(self, step: float) -> list[dict[str, Any]]:
        """Groups for an optimiser of torch; factors that stay fixed are left out.

        Args:
            step: Learning rate of the inner layers.

        Example:
            >>> eye = torch.eye(4, 2).double()
            >>> network = CompressedNetwork(eye, [torch.eye(2).double()] * 3, eye, gamma=0.25)
            >>> optimizer = torch.optim.SGD(network.parameter_groups(0.2))
            >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
            [(3, 0.2), (2, 0.05)]
        """
        groups = [{"params": [layer.weight for layer in self.layers[1:-1]], "lr": step}]
        if self.gamma > 0:
            outer = [self.layers[0].weight, self.layers[-1].weight]
            groups.append({"params": outer, "lr": self.gamma * step})
        return groups

    def extra_repr(self) -> str:
        """Widths and the rate, for the printed form."""
        return f"widths={self.widths}, gamma={self.gamma:g}"


def compress(
    X: Tensor | Objective,
    Y: Tensor | None = None,
    *,
    depth: int,
    rank: int,
    scale: float,
    gamma: float | None = None,
    network: DeepLinearNetwork | None = None,
    seed: int = 0,
) -> CompressedNetwork:
    r"""The compressed form of a wide network from a scaled orthogonal start.

    .. math:: -\nabla f(W_{L:1}(0)) \approx U_r S_r V_r^\top, \qquad
        V = [V_r, F] \supseteq [V_r, Q^\top U_r], \quad U = Q V, \qquad \widetilde W_l(0) = \epsilon I_{2r}

    where
        r is `rank`, L is `depth`, epsilon is `scale`, and Q = W_{L:1}(0) / epsilon^L is that of `network`, or random
        and never formed (see `haar_frames`).

    For a matrix or whitened inputs, r their rank and gamma = 0, the compressed network follows the original exactly:
    with square layers of width d the end-to-end matrices differ by rho^L times an isometry of the d - 2r other
    dimensions, whose Frobenius norm is rho^L sqrt(d - 2r). Where only some entries are observed, the gradient at the
    start shows the frames of the whole matrix only roughly, and they have to learn: gamma = 0 stalls. The published
    rate is 0.01; 0.1 takes about half the steps, and 1 may stall where few entries are observed.

    Args:
        X: Inputs (d_x, n); or the matrix Phi alone; or an objective alone.
        Y: Outputs (d_y, n).
        depth: L, at least 2.
        rank: r, at most half of d_x and of d_y; an over-estimate is allowed.
        scale: epsilon, above zero. At 1e-2 or below the start is small in the gradient.
        gamma: Rate of the outer factors; None for 0, or 0.1 for observed entries.
        network: The network to compress, all of width d; its depth and scale must be those given.
        seed: Seed of the random frames.

    Returns:
        CompressedNetwork, in the dtype and on the device of the data.

    Raises:
        InputError: Parameters out of range, data or a network that do not fit.
        DegenerateError: Data without a gradient at the start.

    Warns:
        UserWarning: gamma = 0 where only some entries are observed.

    Reference: [yaras2024compressible]; [qu2023lecture6].
    """
    objective = as_objective(X, Y)
    check_start(depth, scale)
    check_count(rank, "rank")
    partial = isinstance(objective, Completion)
    gamma = (_GAMMA if partial else 0.0) if gamma is None else gamma
    if partial and gamma == 0:
        warnings.warn(
            "gamma = 0 fixes the outer factors at what the observed entries show at the start, which completes nothing;"
            " use gamma=0.1, or 0.01 as published",
            UserWarning,
            stacklevel=2,
        )
    target = objective.target
    check_room(min(target.shape), 2 * rank)
    if network is None:
        U, V = _leading(target, rank, seed)
        right, left = outer_frames(U, V, seed=seed)
    else:
        Q = _turn(network, depth, scale, target)
        U, V = _leading(-objective.slope(scale**depth * Q), rank, seed)
        right = torch.linalg.qr(torch.cat([V, Q.T @ U], dim=1)).Q
        left = Q @ right
    inner = [scale * torch.eye(2 * rank).to(target)] * depth
    return CompressedNetwork(left, inner, right, gamma=gamma)


def _turn(network: DeepLinearNetwork, depth: int, scale: float, target: Tensor) -> Tensor:
    """Q, for a square network of this depth and scale."""
    Q = network.end_to_end().detach() / scale**depth
    fits = network.depth == depth and len(set(network.widths)) == 1 and Q.shape == target.shape
    if not fits or not bool((Q @ Q.T - torch.eye(len(Q)).to(Q)).abs().max() <= 1e-8):
        raise InputError(
            f"a network of depth {depth} with orthogonal layers times {scale:g}, of the shape {tuple(target.shape)}",
            got=f"widths {network.widths}",
            remedy='Use DeepLinearNetwork([d] * (L + 1), init="orthogonal", scale=scale); pad rectangles with zeros.',
        )
    return Q


def _leading(matrix: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Leading singular vectors, of large matrices by subspace iteration."""
    if matrix.numel() <= _WHOLE or min(matrix.shape) <= 4 * (rank + _MORE):
        U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
        U, V = U[:, :rank], Vh[:rank].T
    else:
        draws = torch.Generator(device=matrix.device).manual_seed(seed)
        drawn = torch.randn(matrix.shape[1], rank + _MORE, generator=draws, dtype=matrix.dtype, device=matrix.device)
        basis = torch.linalg.qr(matrix @ drawn).Q
        for _ in range(_ITERATIONS):
            basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
        U, S, Vh = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
        U, V = basis @ U[:, :rank], Vh[:rank].T
    if not float(S[0]) > 0:
        raise DegenerateError("data with a gradient at the start", got="zero", remedy="Look at the data.")
    return U, V
