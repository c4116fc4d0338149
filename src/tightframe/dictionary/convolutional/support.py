"""The bilinear Lasso on the support of its maps: a smooth problem in few numbers, by quasi-Newton steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.dictionary.convolutional.products import Product

# Pairs of steps and slopes that a direction is made of.
_MEMORY = 10
# A step is accepted at this share of the decrease that its slope promises, and is halved at most so often.
_ARMIJO, _HALVINGS = 1e-4, 12
# The solve ends where a step lowers F by less than this share of what all steps before it did.
_SPENT = 2e-3
# Kernels without entries keep a scale of the root of this share of the largest energy.
_IDLE = 1e-6


class SupportLasso:
    r"""F over kernels and the non-zero entries of maps, at fixed support and signs.

    .. math:: F(x_S, v) = \tfrac12 \Big\|y - \sum_{i \in S} x_i\, T_i \frac{v_{k(i)}}{\|v_{k(i)}\|}\Big\|^2
        + \lambda \sum_{i \in S} w_i |x_i|, \qquad \sigma_i x_i \geq 0

    where
        S are the places of non-zero entries, sigma_i their signs, T_i puts a kernel at place i and v_k is a multiple
        of kernel k, whose length F does not see.

    A value and its slope read and write one window of the signals for each entry of S, which for sparse maps is far
    less than the transforms of all maps. An entry that reaches zero stays there unless the slope leads back.

    Args:
        products: Boundary and shapes.
        target: y (n, channels, *shape), less its means with `bias`.
        kernels: Of norm one (p, channels, *kernel_shape).
        maps: (n, p, *map_shape).
        penalty: lambda w, a number or a tensor that broadcasts to the maps.
        bias: Whether residuals are centred.

    Reference: [andrew2007scalable], section 3, for the signs; [nocedal2006numerical], algorithm 7.4.
    """

    def __init__(
        self,
        products: Product,
        target: Tensor,
        kernels: Tensor,
        maps: Tensor,
        penalty: float | Tensor,
        *,
        bias: bool = False,
    ) -> None:
        self.products, self.target, self.bias = products, target, bias
        self.like_kernels, self.like_maps = kernels, maps
        # Kernel by kernel, so that the entries of each are a slice.
        owners, samples, *rest = maps.transpose(0, 1).nonzero(as_tuple=True)
        self.places: tuple[Tensor, ...] = (samples, owners, *rest)
        self.values: Tensor = maps[self.places]
        self.signs: Tensor = self.values.sign()
        self.counts: list[int] = torch.bincount(owners, minlength=len(kernels)).tolist()
        self.penalty: Tensor | float = (
            penalty.expand_as(maps)[self.places] if isinstance(penalty, Tensor) else float(penalty)
        )
        sizes = [m + k - 1 for m, k in zip(maps.shape[2:], products.kernel_shape, strict=True)]
        self.extended: tuple[int, ...] = (*target.shape[:2], *sizes)
        self.windows: Tensor = self._windows()
        # Written anew by every value and slope: memory of this size is slow to ask for.
        self.events: Tensor = maps.new_empty((len(self.values), kernels[0].numel()))
        energies = maps.square().transpose(0, 1).flatten(1).sum(1)
        self.scales: Tensor = energies.clamp(min=_IDLE * float(energies.max())).sqrt()[:, None]

    def start(self) -> Tensor:
        """The values and the kernels, the latter in units in which both have curvatures of the same order."""
        return torch.cat([self.values, (self.like_kernels.flatten(1) * self.scales).flatten()])

    def kernels_and_maps(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels of norm one and whole maps of a point."""
        values, kernels, _ = self._parts(point)
        maps = torch.zeros_like(self.like_maps)
        maps[self.places] = values
        return kernels.view_as(self.like_kernels), maps

    def objective(self, point: Tensor) -> tuple[float, Tensor]:
        """F, and the residual that its slope is made of. Waits for the device."""
        values, kernels, _ = self._parts(point)
        for sizes, kernel, events in zip(values.split(self.counts), kernels, self._by_kernel(), strict=True):
            torch.outer(sizes, kernel, out=events)
        model = point.new_zeros(math.prod(self.extended)).scatter_add_(0, self.windows, self.events.flatten())
        residual = self.target - self._cut(model.view(self.extended))
        if self.bias:
            residual = residual - residual.mean(self.products.axes, keepdim=True)
        penalty = (self.penalty * values.abs()).sum(dtype=torch.float64)
        return float(0.5 * residual.square().sum(dtype=torch.float64) + penalty), residual

    def slope(self, point: Tensor, residual: Tensor) -> Tensor:
        """Gradient of F at a point, given its residual."""
        values, kernels, norms = self._parts(point)
        torch.index_select(self._extended(residual).flatten(), 0, self.windows, out=self.events.view(-1))
        seen = self._by_kernel()
        along = torch.cat([events @ kernel for events, kernel in zip(seen, kernels, strict=True)])
        pull = torch.stack([sizes @ events for sizes, events in zip(values.split(self.counts), seen, strict=True)])
        pull = (pull - (pull * kernels).sum(1, keepdim=True) * kernels) / norms
        return torch.cat([self.penalty * self.signs - along, -pull.flatten()])

    def kept(self, point: Tensor) -> Tensor:
        """The point with entries that changed their sign put to zero."""
        count = len(self.values)
        return torch.cat([torch.where(point[:count] * self.signs > 0, point[:count], 0.0), point[count:]])

    def freed(self, point: Tensor, direction: Tensor, slope: Tensor) -> Tensor:
        """The direction without entries that are zero and whose slope keeps them there."""
        count = len(self.values)
        stuck = (point[:count] == 0) & (slope[:count] * self.signs > 0)
        return torch.cat([direction[:count].masked_fill(stuck, 0.0), direction[count:]])

    def _parts(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = len(self.values)
        kernels = point[count:].view(len(self.scales), -1)
        norms = torch.linalg.vector_norm(kernels, dim=1, keepdim=True)
        return point[:count], kernels / norms, norms

    def _by_kernel(self) -> tuple[Tensor, ...]:
        return self.events.split(self.counts)

    def _windows(self) -> Tensor:
        """Flat index in the extended signals of every entry's window."""
        device, sizes = self.like_maps.device, self.extended[2:]
        strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        corner = self.places[0] * math.prod(self.extended[1:])
        offsets = torch.arange(self.extended[1], device=device) * math.prod(sizes)
        for place, stride, length in zip(self.places[2:], strides, self.products.kernel_shape, strict=True):
            corner = corner + place * stride
            offsets = (offsets[:, None] + stride * torch.arange(length, device=device)).flatten()
        return (corner[:, None] + offsets).flatten()

    def _cut(self, model: Tensor) -> Tensor:
        """Signals of extended ones: what lies beyond the border is dropped, or wrapped around."""
        boundary, axes = self.products.boundary, self.products.axes
        for axis, length, k in zip(axes, self.products.shape, self.products.kernel_shape, strict=True):
            if boundary == "zero":
                model = model.narrow(axis, k - 1, length)
            elif boundary == "circular" and k > 1:
                beyond = model.narrow(axis, length, k - 1)
                model = model.narrow(axis, 0, length)
                model.narrow(axis, 0, k - 1).add_(beyond)
        return model

    def _extended(self, signals: Tensor) -> Tensor:
        """The adjoint of `_cut`."""
        boundary, axes = self.products.boundary, self.products.axes
        if boundary == "zero":
            sides = [side for k in reversed(self.products.kernel_shape) for side in (k - 1, k - 1)]
            return torch.nn.functional.pad(signals, sides)
        for axis, k in zip(axes, self.products.kernel_shape, strict=True):
            if boundary == "circular" and k > 1:
                signals = torch.cat([signals, signals.narrow(axis, 0, k - 1)], axis)
        return signals


def polished(problem: SupportLasso, *, curvature: float, max_steps: int = 20) -> tuple[Tensor, Tensor]:
    """Kernels and maps lowered on their support by limited-memory quasi-Newton steps that keep the signs.

    Args:
        problem: With a support that is not empty.
        curvature: Of the maps, for the length of the first step.
        max_steps: At most.
    """
    point = problem.start()
    begin, residual = problem.objective(point)
    value, slope, pairs = begin, problem.slope(point, residual), _Pairs(1 / curvature)
    for _ in range(max_steps):
        free = problem.freed(point, slope, slope)
        direction = problem.freed(point, -pairs.times(free), slope)
        promised = float(torch.dot(direction, slope))
        if not promised < 0:
            direction, promised = -free / curvature, -float(torch.dot(free, free)) / curvature
        length = 1.0
        for _ in range(_HALVINGS):
            moved = problem.kept(point.add(direction, alpha=length))
            after, residual = problem.objective(moved)
            if after <= value + _ARMIJO * length * promised:
                break
            length *= 0.5
        else:
            break
        following = problem.slope(moved, residual)
        pairs.add(moved - point, following - slope)
        gained, value, point, slope = value - after, after, moved, following
        if gained <= _SPENT * (begin - value):
            break
    return problem.kernels_and_maps(point)


class _Pairs:
    """Steps and the changes of slope along them, newest last."""

    def __init__(self, first: float) -> None:
        self.first, self.pairs = first, []

    def add(self, step: Tensor, change: Tensor) -> None:
        """Remember a pair if the slope rises along it."""
        along = float(torch.dot(step, change))
        square = float(torch.dot(change, change))
        if along > 1e-6 * math.sqrt(square * float(torch.dot(step, step))):
            self.pairs = [*self.pairs[1 - _MEMORY :], (step, change, along)]
            self.first = along / square

    def times(self, slope: Tensor) -> Tensor:
        """The inverse curvature that the pairs show, times a slope."""
        shares = []
        for step, change, along in reversed(self.pairs):
            shares.append(float(torch.dot(step, slope)) / along)
            slope = slope.add(change, alpha=-shares[-1])
        slope = slope * self.first
        for (step, change, along), share in zip(self.pairs, reversed(shares), strict=True):
            slope = slope.add(step, alpha=share - float(torch.dot(change, slope)) / along)
        return slope
