"""What the tangent kernel becomes as depth grows, and the depth that two near curves ask for in that limit."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from tightframe.core.typing import Float, Tensor

Values = Float[Tensor, "..."]

_NODES = 400


def limit_kernel(s: Values) -> Values:
    r"""The kernel over depth, as a function of s = L nu / (3 pi).

    .. math:: \frac{1}{L} \psi_L(\nu) \to F(s) = \frac{(1 + s)^4 - 1}{4 s (1 + s)^3}

    Iterated angles approach nu / (1 + l nu / (3 pi)), which turns the product of the kernel's definition into
    ((1 + l c) / (1 + L c))^3 with c = nu / (3 pi), and its sum into an integral. F falls from 1 to 1/4.

    Reference: [buchanan2021deep], equation 2.4, in the limit of large L at fixed s.
    """
    return (4 + s * (6 + s * (4 + s))) / (4 * (1 + s) ** 3)


def limit_half_width() -> float:
    """L times the angle at which the limit kernel has fallen half of the way: the root of 3 s^3 + 7 s^2 + 3 s = 3."""
    roots = np.roots([3.0, 7.0, 3.0, -3.0])
    return 3 * math.pi * float(roots[(abs(roots.imag) < 1e-12) & (roots.real > 0)].real[0])


def contrast(s: Values) -> Values:
    r"""How much more a point's own line weighs than a parallel line at the scaled distance s.

    .. math:: G(s) = \int_{-\infty}^{\infty} F(|u|) - F(\sqrt{u^2 + s^2})\, du

    Two parallel curves of total length Lambda at an angle Delta have the eigenvalue 3 pi G(s) / Lambda, s = L Delta /
    (3 pi), for labels of opposite sign, so that the norm of their certificate is Lambda / (3 pi G(s)).
    """
    places, weights = _quadrature()
    apart = torch.sqrt(places**2 + s[..., None] ** 2)
    return 2 * ((limit_kernel(places) - limit_kernel(apart)) * weights).sum(-1)


def local_norm(gaps: Float[Tensor, " n"], weights: Float[Tensor, " n"], depth: int) -> float:
    r"""Norm of the certificate if every point saw two parallel lines at its own distance to the other class.

    .. math:: \|g\|^2 = \frac{1}{\Lambda} \int \Bigl( \frac{\Lambda}{3\pi\, G(L \delta(x) / 3\pi)} \Bigr)^2 dx

    Args:
        gaps: delta, least angle of every point to the other class.
        weights: Arc length that every point stands for; Lambda is their sum.
        depth: L.
    """
    length = weights.sum()
    strength = 3 * math.pi * contrast(depth * gaps.double() / (3 * math.pi)) / length
    return float((weights / length / strength**2).sum().sqrt())


@lru_cache(maxsize=1)
def parallel_optimum() -> tuple[float, float]:
    """L Delta at which L ||g|| of parallel curves is least in the limit, and L ||g|| Delta / Lambda there."""
    s = torch.linspace(0.4, 0.8, 4001, dtype=torch.float64)
    costs = s / contrast(s)
    best = int(costs.argmin())
    return 3 * math.pi * float(s[best]), float(costs[best])


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes on [0, infinity), by u = t / (1 - t)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    t = torch.from_numpy((nodes + 1) / 2)
    return t / (1 - t), torch.from_numpy(weights / 2) / (1 - t) ** 2
