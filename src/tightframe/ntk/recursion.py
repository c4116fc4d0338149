"""The exact recursions of the two kernels of a ReLU network, for pairs of inputs of any norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Tensor
from tightframe.ntk.arccos import Angles, check_angles, versine_after

Which = Literal["tangent", "covariance"]


@dataclass(frozen=True)
class Architecture:
    """A fully connected ReLU network in the limit of infinite width.

    Args:
        depth: L, hidden layers (matrices followed by a ReLU), at least 1.
        weight_variance: Variance of the hidden weights times their number of inputs; 2 keeps norms.
        bias_variance: Variance of the biases.
        readout: Whether the last linear map is trained too, which adds the covariance kernel.

    Raises:
        InputError: A depth below 1, a weight variance not above zero, a negative bias variance.
    """

    depth: int
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    readout: bool = False

    def __post_init__(self) -> None:
        check_count(self.depth, "depth")
        if not (_is_finite(self.weight_variance) and self.weight_variance > 0):
            raise InputError("weight_variance above 0", got=repr(self.weight_variance), remedy="Use 2.0.")
        if not (_is_finite(self.bias_variance) and self.bias_variance >= 0):
            raise InputError("bias_variance of at least 0", got=repr(self.bias_variance), remedy="Use 0.0.")

    @property
    def homogeneous(self) -> bool:
        """Whether scaling an input scales the kernel, so that the angle alone matters."""
        return self.bias_variance == 0


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


@dataclass(frozen=True)
class Pairs:
    """Pairs of inputs, described so that neither close nor opposite ones lose digits.

    Args:
        left: Squared norms of the first ones, of any shape that broadcasts.
        right: Squared norms of the second ones.
        near: |x||z| - <x, z>.
        far: |x||z| + <x, z>.
    """

    left: Tensor
    right: Tensor
    near: Tensor
    far: Tensor

    @classmethod
    def at_angles(cls, angle: Angles, norm: float = 1.0) -> Pairs:
        """Pairs of one norm at these angles."""
        square = torch.full((), norm**2, dtype=angle.dtype, device=angle.device)
        half = angle / 2
        # cos(v / 2) from its complement: v / 2 itself is not exact enough at pi.
        return cls(square, square, 2 * square * half.sin().square(), 2 * square * half.cos().square())


def recursion(pairs: Pairs, network: Architecture) -> tuple[Tensor, Tensor]:
    r"""Covariance kernel and tangent kernel.

    .. math::
        q_l = \sigma_w^2 s_{l-1} + \sigma_b^2, \qquad
        s_l = \tfrac{1}{2} (q_l(x,x) q_l(z,z))^{1/2} \cos\varphi(\nu_l), \qquad
        T_l = q_l + \sigma_w^2 T_{l-1} \tfrac{1}{2} (1 - \nu_{l-1} / \pi)

    where
        s_{-1} is the inner product, nu_l the angle of q_l, and l runs from 0 to L - 1; the covariance kernel is
        s_{L-1} and the tangent kernel T_{L-1} (1 - nu_{L-1} / pi) / 2, plus s_{L-1} with `readout`.

    Only sums of terms of one sign stand in it, apart from that of `versine_after`.
    """
    w, b = network.weight_variance, network.bias_variance
    left, right, near, far = pairs.left, pairs.right, pairs.near, pairs.far
    tangent = slope = torch.zeros_like(near)
    for _ in range(network.depth):
        near, far, product = _affine(left, right, near, far, w, b)
        left, right = w * left + b, w * right + b
        angle = 2 * torch.atan2(near.sqrt(), far.sqrt())
        inner = product - near
        tangent = inner + w * tangent * slope
        slope = (1 - angle / math.pi) / 2
        left, right, product = left / 2, right / 2, product / 2
        half_versine = versine_after(angle)
        near, far = product * half_versine, product * (2 - half_versine)
    covariance = product - near
    tangent = tangent * slope
    return covariance, tangent + covariance if network.readout else tangent


def _affine(left: Tensor, right: Tensor, near: Tensor, far: Tensor, w: float, b: float) -> tuple[Tensor, ...]:
    """near, far and the product of norms after multiplication by w and addition of b to all inner products."""
    product = ((w * left + b) * (w * right + b)).sqrt()
    if b == 0:
        return w * near, w * far, product
    before = w * (left * right).sqrt()
    apart = w * b * (left.sqrt() - right.sqrt()).square() / (product + before + b)
    grown = (w * b * (left + right) + b * b) / (product + before)
    return w * near + apart, w * far + grown + b, product


def kernel_of_angle(angle: Angles, depth: int, *, kind: Which = "tangent", readout: bool = False) -> Angles:
    r"""The kernel of unit vectors as a function of their angle, without biases, by its exact recursion.

    .. math::
        \psi(\nu) = \sum_{l=0}^{L-1} \cos(\varphi^l \nu) \prod_{l'=l}^{L-1} \Bigl(1 - \frac{\varphi^{l'}\nu}{\pi}\Bigr)

    where
        phi is `angle_map` and L is `depth`; a network of width n has the tangent kernel (n / 2) psi to first order.

    Args:
        angle: Of any shape, in [0, pi].
        depth: L, at least 1.
        kind: "tangent" for psi, "covariance" for cos(phi^L nu).
        readout: Whether the last linear map is trained too, which adds cos(phi^L nu).

    Example:
        >>> float(kernel_of_angle(torch.zeros((), dtype=torch.float64), 10))
        10.0

    Reference: [buchanan2021deep], equation 2.4.
    """
    if kind not in ("tangent", "covariance"):
        raise InputError('kind is "tangent" or "covariance"', got=repr(kind), remedy="Choose one of these.")
    pairs = Pairs.at_angles(check_angles(angle))
    covariance, tangent = recursion(pairs, Architecture(depth, readout=readout))
    return tangent if kind == "tangent" else covariance
