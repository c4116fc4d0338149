"""`DeepLinearNetwork`: a chain of matrices, from small starts of three kinds of one size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.geometry.frames import haar_columns

Init = Literal["orthogonal", "normal", "uniform"]


class DeepLinearNetwork(nn.Module):
    r"""A deep linear network: layers without bias and without anything between them.

    .. math:: f(x) = W_L \cdots W_1 x, \qquad \|W_l(0)\|_F = \epsilon \sqrt{\min(d_l, d_{l-1})}

    where
        d_0, ..., d_L are `widths`, epsilon is `scale`, and W_l (d_l, d_{l-1}) is the weight of `layers[l - 1]`.

    An orthogonal start has all singular values of W_l equal to epsilon. The entries of the two others are independent
    up to one factor per layer, which gives them exactly the Frobenius norm of an orthogonal start.

    Args:
        widths: d_0 to d_L, at least two numbers.
        init: "orthogonal" (Haar), "normal" or "uniform".
        scale: epsilon, above zero.
        seed: Seed of the start.

    Raises:
        InputError: Fewer than two widths, one below 1, an unknown kind of start, a scale that is not above zero.

    Example:
        >>> network = DeepLinearNetwork([5, 5, 5, 2], scale=0.1)
        >>> bool(torch.allclose(torch.linalg.svdvals(network.end_to_end()), torch.full((2,), 1e-3).double()))
        True

    Reference: [yaras2023law]; [qu2023lecture6].
    """

    def __init__(self, widths: Sequence[int], *, init: Init = "orthogonal", scale: float = 1e-2, seed: int = 0) -> None:
        super().__init__()
        widths = tuple(widths) if isinstance(widths, Iterable) else (widths,)
        if len(widths) < 2:
            raise InputError("at least two widths", got=f"{widths}", remedy="Pass those of input and output.")
        for width in widths:
            check_count(width, "a width")
        if init not in get_args(Init):
            raise InputError('init "orthogonal", "normal" or "uniform"', got=repr(init), remedy="Use one of them.")
        if not 0 < scale < math.inf:
            raise InputError("a scale above zero", got=repr(scale), remedy="Use 1e-2, or 1 for a large start.")
        draws = generator(seed)
        self._hold([scale * _unit(init, into, out, draws) for into, out in pairwise(widths)])

    @classmethod
    def of(cls, weights: Sequence[Tensor]) -> DeepLinearNetwork:
        """A network with copies of these weights, W_1 (d_1, d_0) first; `simulate` leaves W1, ..., WL in its solution.

        Raises:
            InputError: No weights, tensors that are no matrices or do not fit each other, NaN or inf.
        """
        weights = check_chain(weights)
        network = cls.__new__(cls)
        nn.Module.__init__(network)
        network._hold([weight.clone() for weight in weights])
        return network

    def _hold(self, weights: Sequence[Tensor]) -> None:
        self.layers: nn.ModuleList = nn.ModuleList()
        for weight in weights:
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            layer.weight = nn.Parameter(weight)
            self.layers.append(layer)

    @property
    def depth(self) -> int:
        """L."""
        return len(self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """d_0 to d_L."""
        return (self.layers[0].in_features, *(layer.out_features for layer in self.layers))

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """W_1 to W_L, detached."""
        return tuple(layer.weight.detach() for layer in self.layers)

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rate of every layer, as a multiple of the common one."""
        return (1.0,) * self.depth

    def end_to_end(self) -> Tensor:
        """W_L ... W_1 (d_L, d_0)."""
        product = self.layers[0].weight
        for layer in self.layers[1:]:
            product = layer.weight @ product
        return product

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (..., d_L) for inputs (..., d_0), samples in rows as everywhere in torch."""
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    def extra_repr(self) -> str:
        """Widths, for the printed form."""
        return f"widths={self.widths}"


def check_chain(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Matrices of which each can be multiplied from the left by the next, detached.

    Raises:
        InputError: None at all, something else, or NaN or inf.
    """
    weights = tuple(weights)
    if not weights or not all(isinstance(W, Tensor) and W.ndim == 2 and W.is_floating_point() for W in weights):
        got = [tuple(W.shape) if isinstance(W, Tensor) else type(W).__name__ for W in weights]
        raise InputError("floating-point matrices W_1, ..., W_L", got=f"{got}", remedy="Pass at least one tensor.")
    for lower, upper in pairwise(weights):
        if lower.shape[0] != upper.shape[1] or lower.dtype != upper.dtype or lower.device != upper.device:
            raise InputError(
                "every matrix multiplies the one before, all of one dtype on one device",
                got=f"{tuple(upper.shape)} {upper.dtype} on {upper.device} after "
                f"{tuple(lower.shape)} {lower.dtype} on {lower.device}",
                remedy="Pass W_1 first, each of shape (out, in).",
            )
    if not all(bool(torch.isfinite(W).all()) for W in weights):
        raise InputError("finite weights", got="NaN or inf", remedy="Look for divergence in whatever made them.")
    return tuple(W.detach() for W in weights)


def _unit(init: str, into: int, out: int, draws: torch.Generator) -> Tensor:
    """A matrix (out, into), float64, of Frobenius norm sqrt(min(out, into))."""
    wide, narrow = max(out, into), min(out, into)
    if init == "orthogonal":
        frame = haar_columns(wide, narrow, seed=int(torch.randint(2**62, (), generator=draws)))
        return frame.contiguous() if out >= into else frame.T.contiguous()
    if init == "normal":
        drawn = torch.randn(out, into, dtype=torch.float64, generator=draws)
    else:
        drawn = 2 * torch.rand(out, into, dtype=torch.float64, generator=draws) - 1
    return drawn * (math.sqrt(narrow) / torch.linalg.matrix_norm(drawn))
