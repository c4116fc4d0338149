"""A kernel of the angle alone as a table, so that its cost per pair does not grow with depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from tightframe.core.typing import Float, Tensor
from tightframe.ntk.arccos import Angles
from tightframe.ntk.recursion import Architecture, Pairs, Which, recursion

# Largest deviation from the exact recursion, relative to the kernel's value at angle zero.
TOLERANCE = 1e-10
_NODES = 16
_CELLS = 128
_REFINEMENTS = 3
# The table's variable s = sin(v/2)^(1/2) runs from 0 to this at v = pi/2; the half beyond is its mirror image.
_WIDTH = 2**-0.25


@dataclass(frozen=True, eq=False)
class AngleTable:
    r"""Piecewise cubic polynomials in s = sin(nu/2)^(1/2) up to nu = pi/2 and in its mirror image beyond.

    The kernel is a smooth function of nu / (1 + L nu / 3 pi) near zero, so that the square root spreads the nodes
    as the kernel needs them, and no inverse trigonometric function is evaluated per pair.

    Args:
        coefficients: Four vectors, one entry per cell, constant term first.
        cells: Number of cells of either half.
        error: Largest deviation from the exact recursion at points between the nodes, over the value at zero.
    """

    coefficients: tuple[Float[Tensor, " cells"], ...]
    cells: int
    error: float

    def at(self, square: Tensor, opposite: Tensor) -> Tensor:
        """Kernel of pairs, from sin^2 (v/2) or, where `opposite`, cos^2 (v/2); either is at most 1/2."""
        position = square.sqrt().sqrt_().mul_(self.cells / _WIDTH)
        position = torch.where(opposite, 2 * self.cells - position, position)
        cell = position.int().clamp_(max=2 * self.cells - 1)
        flat = cell.reshape(-1)
        inside = (position - cell).reshape(-1)
        constant, linear, quadratic, cubic = (part.index_select(0, flat) for part in self.coefficients)
        value = cubic.mul_(inside).add_(quadratic).mul_(inside).add_(linear).mul_(inside).add_(constant)
        return value.view(square.shape)

    def at_angles(self, angle: Angles) -> Angles:
        """Kernel at these angles in [0, pi], float64."""
        opposite = angle > math.pi / 2
        half = angle / 2
        return self.at(torch.where(opposite, half.cos(), half.sin()).square(), opposite)

    def to(self, device: torch.device) -> AngleTable:
        """The table on a device."""
        return AngleTable(tuple(part.to(device) for part in self.coefficients), self.cells, self.error)


@lru_cache(maxsize=32)
def kernel_table(network: Architecture, kind: Which, norm: float, device: torch.device) -> AngleTable:
    """The table of a network's kernel for inputs of one norm; kept for later calls.

    Panels are added until the deviation is within TOLERANCE, at most a few times; `error` says what was reached.
    """

    def kernel(angle: Angles) -> Angles:
        covariance, tangent = recursion(Pairs.at_angles(angle, norm), network)
        return tangent if kind == "tangent" else covariance

    # The kernel's scale in s is that of (1 / L)^(1/2).
    panels = 8 + math.ceil(math.sqrt(network.depth))
    for _ in range(_REFINEMENTS):
        table = tabulate(kernel, panels)
        if table.error <= TOLERANCE:
            break
        panels *= 2
    return table.to(device)


def tabulate(kernel: Callable[[Angles], Angles], panels: int) -> AngleTable:
    """The table of a function of the angle with this number of panels of 16 nodes and 128 cells on either half."""
    nodes = _chebyshev(_NODES)
    between = torch.linspace(-0.97, 0.97, 7, dtype=torch.float64)
    local = torch.cat((nodes, between))
    position = (torch.arange(2 * panels, dtype=torch.float64)[:, None] + (local + 1) / 2).mul_(_WIDTH / panels)
    half = position <= _WIDTH
    side = torch.where(half, position, 2 * _WIDTH - position).square().asin().mul_(2)
    angles = torch.where(half, side, math.pi - side)
    values = kernel(angles)
    known, unseen = values.split((len(nodes), len(between)), dim=1)
    cubics = (known @ _cubics_from_nodes().T).reshape(-1, 4)
    table = AngleTable(tuple(cubics.T.contiguous().unbind()), panels * _CELLS, 0.0)
    deviation = (table.at_angles(angles[:, len(nodes) :]) - unseen).abs().amax()
    peak = values.abs().amax()
    return AngleTable(table.coefficients, table.cells, float(deviation / peak))


def _chebyshev(count: int) -> Tensor:
    return -torch.cos((torch.arange(count, dtype=torch.float64) + 0.5) * math.pi / count)


@lru_cache(maxsize=1)
def _cubics_from_nodes() -> Tensor:
    """(4 cells, nodes): coefficients of the cubics of a panel's cells in [0, 1], from its values at the nodes."""
    inner = (_chebyshev(4) + 1) / 2
    places = (torch.arange(_CELLS, dtype=torch.float64)[:, None] + inner) * (2 / _CELLS) - 1
    degrees = torch.arange(_NODES, dtype=torch.float64)
    # Chebyshev polynomials at the nodes are orthogonal, so that the interpolant needs no solve.
    weights = 2 / _NODES * torch.cos(degrees[:, None] * _chebyshev(_NODES).acos())
    weights[0] /= 2
    interpolant = torch.cos(degrees * places.reshape(-1, 1).acos()) @ weights
    powers = torch.linalg.inv(inner[:, None] ** torch.arange(4, dtype=torch.float64))
    return (powers @ interpolant.reshape(_CELLS, 4, _NODES)).reshape(-1, _NODES)
