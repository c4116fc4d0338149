"""Tangent kernels of random networks, drawn from their exact law without drawing the networks' weights."""

from __future__ import annotations

import math

import torch

from tightframe.core.typing import Float, Tensor


def drawn_kernel(
    points: Float[Tensor, "n d"], *, depth: int, width: int, source: torch.Generator
) -> Float[Tensor, "n n"]:
    r"""Tangent kernel of the hidden layers of one `relu_network`, divided by half its width.

    .. math::
        W Q = G, \qquad W^T B = Q G^T B + (I - Q Q^T)\, G' S

    where
        Q is an orthonormal basis of a layer's inputs, B = U S the derivatives by its outputs, U orthonormal, and G
        and G' are independent Gaussian matrices of W's variance: B depends on W through G alone, so that W is as
        random as ever beyond Q. Of W (`width` squared) as many columns are drawn as there are points, twice, and the
        kernel has the distribution of that of a network whose weights are drawn.

    Args:
        points: In float64.
        depth: L.
        width: n of the network.
        source: Of the Gaussian numbers.
    """
    scale = math.sqrt(2 / width)
    entering = points.T
    layers = []
    for _ in range(depth):
        basis, within = torch.linalg.qr(entering)
        image = scale * _gaussian(width, basis.shape[1], source)
        values = image @ within
        layers.append((entering, basis, image, values > 0))
        entering = values.clamp(min=0)
    back = _gaussian(width, 1, source).expand(width, len(points))
    total = points.new_zeros(len(points), len(points))
    for entering, basis, image, active in reversed(layers):
        back = back * active
        total += (entering.T @ entering) * (back.T @ back)
        within = torch.linalg.qr(back, mode="r").R
        fresh = scale * _gaussian(len(basis), len(within), source)
        back = basis @ (image.T @ back) + (fresh - basis @ (basis.T @ fresh)) @ within
    return total / (width / 2)


def _gaussian(rows: int, columns: int, source: torch.Generator) -> Tensor:
    return torch.randn((rows, columns), generator=source, dtype=torch.float64)
