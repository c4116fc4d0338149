"""One iteration of the bilinear Lasso: proximal gradient steps in the maps and kernels of one block after another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.products import Product
from tightframe.dictionary.convolutional.support import SupportLasso, polished

# The curvature that is assumed falls by this factor after each step and rises by the second one where it was too low.
_FORGET, _RAISE = 0.97, 1.5
# Momentum begins again at every restart and grows as in Nesterov's method, up to the caller's cap.
_DELAY = 3.0
# Kernels without activations keep a curvature of this share of the largest, so that nothing is divided by zero.
_IDLE = 1e-6
# Kernels of one block: few have a smaller joint curvature than all, and their spectra stay in the cache.
_TOGETHER = 4
# Steps on the support are cheap where its windows hold fewer numbers than this share of the maps.
_SPARSE = 0.75


class Descent:
    r"""Kernels and maps of the bilinear Lasso, moved by alternating proximal gradient steps that cannot go up.

    .. math:: F(a, x) = \tfrac12 \Big\|y - b - \sum_k a_k * x_k\Big\|^2 + \lambda \sum_k \|w \odot x_k\|_1,
        \qquad \|a_k\| = 1

    The bias b, one number for each signal and channel, is eliminated: it is the mean of what the kernels leave, and
    all that is left of it is that residuals are centred. The data term is quadratic in each block, so a step of length
    1 / L is safe where ||A d||^2 <= L ||d||^2 for the step d that was made, and this is what is checked; the curvature
    of each kernel is taken in units of its map's energy. Kernels are taken in blocks of a few, maps before kernels, and
    every block sees what those before it have become: the curvature of a block is a fraction of that of all. Where a
    border cuts events, or channels are many, each block would cost transforms of the signals, and blocks are larger.
    An iteration with momentum that would raise F is taken back and repeated without.

    Args:
        operator: The convolution.
        signals: y (n, channels, *shape).
        kernels: Where to begin, of norm one.
        maps: Likewise.
        bias: Whether b is estimated; zero otherwise.
        positive: Whether maps are non-negative.
        rank_one: Whether each kernel is a channel vector times one shape.
        momentum: Cap of beta, 0 for none.
        weights: w, of the shape of the maps or broadcast to it; None for one.

    Reference: [pock2016inertial], algorithm 1; [xu2013block], for several blocks; [lau2020short], section 3.
    """

    def __init__(
        self,
        operator: Convolution,
        signals: Tensor,
        kernels: Tensor,
        maps: Tensor,
        *,
        bias: bool,
        positive: bool,
        rank_one: bool,
        momentum: float,
        weights: Tensor | None = None,
    ) -> None:
        self.products: Product = operator.products
        self.momentum: float = momentum
        self.bias: bool = bias
        self.positive: bool = positive
        self.rank_one: bool = rank_one
        self.weights = weights
        self.target: Tensor = self._centered(self.products.signal_form(signals))
        self.kernels, self.maps = kernels, maps
        self.kernel_form, self.map_form = self.products.kernel_form(kernels), self.products.map_form(maps)
        self.before = (maps, self.map_form, kernels, self.kernel_form)
        self.blocks: list[slice] = _blocks(kernels, whole=operator.boundary == "zero")
        self.map_curvatures: list[float] = [operator.squared_norm_of_kernels(kernels[block]) for block in self.blocks]
        self.kernel_curvatures: list[float] = [1.0] * len(self.blocks)
        self.age, self.change = 0, math.inf
        self.residual = self._residual(self.kernel_form, self.map_form)
        self.data, self.penalty = 0.5 * self.products.energy(self.residual), self._penalty(maps)
        # Differences of squares below this are rounding.
        self.rounding: float = 64 * torch.finfo(signals.dtype).eps ** 2 * self.products.energy(self.target)

    @property
    def map_curvature(self) -> float:
        """The largest curvature assumed of a block of maps, one over the shortest step."""
        return max(self.map_curvatures)

    def objective(self, alpha: float) -> float:
        """F at the current point."""
        return self.data + alpha * self.penalty

    def advance(self, alpha: float) -> bool:
        """One iteration; False where no step without momentum lowers F any more, and the point is kept."""
        before = self.objective(alpha)
        tolerance = 8 * torch.finfo(self.maps.dtype).eps * abs(before)
        while True:
            beta = min(self.momentum, self.age / (self.age + _DELAY))
            maps, map_form, kernels, kernel_form = self._swept(alpha, beta)
            # Computed afresh: differences of differences would gather rounding.
            residual = self._residual(kernel_form, map_form)
            data, penalty = 0.5 * self.products.energy(residual), self._penalty(maps)
            after = data + alpha * penalty
            if after <= before + tolerance:
                break
            if beta == 0:
                return False
            self.age = 0
        self._accept(maps, map_form, kernels, kernel_form)
        self.residual: Tensor = residual
        self.data: float = data
        self.penalty = penalty
        self.age = self.age + 1
        return True

    def polish(self, alpha: float) -> bool:
        """Lower F on the support of the maps; False where windows of the support are no fewer numbers than the maps.

        Proximal steps find a support soon and then take long over its values, and kernels wait for them.
        """
        entries = int(torch.count_nonzero(self.maps))
        if self.rank_one or not 0 < entries * self.kernels[0].numel() <= _SPARSE * self.maps.numel():
            return False
        problem = SupportLasso(
            self.products,
            self.products.signals(self.target),
            self.kernels,
            self.maps,
            alpha if self.weights is None else alpha * self.weights,
            bias=self.bias,
        )
        kernels, maps = polished(problem, curvature=self.map_curvature)
        kernel_form, map_form = self.products.kernel_form(kernels), self.products.map_form(maps)
        residual = self._residual(kernel_form, map_form)
        data, penalty = 0.5 * self.products.energy(residual), self._penalty(maps)
        if data + alpha * penalty <= self.objective(alpha):
            change = self.change
            self._accept(maps, map_form, kernels, kernel_form)
            self.change = max(change, self.change)
            self.before = (maps, map_form, kernels, kernel_form)
            self.residual, self.data, self.penalty = residual, data, penalty
            self.forget()
        return True

    def forget(self) -> None:
        """Begin the momentum again, where the problem has changed."""
        self.age: int = 0

    def reweight(self, weights: Tensor) -> None:
        """Go on with other weights of the penalty."""
        self.weights = weights
        self.penalty: float = self._penalty(self.maps)
        self.forget()

    def largest_correlation(self) -> float:
        """The least alpha at which maps of zero are optimal for these kernels."""
        found = self.products.to_maps(self.kernel_form, self.target)
        found = found if self.weights is None else found / self.weights.clamp(min=1e-12)
        return max(float((found if self.positive else found.abs()).max()), 0.0)

    def biases(self, signals: Tensor) -> Tensor:
        """b (n, channels) at the current point."""
        if not self.bias:
            return signals.new_zeros(signals.shape[:2])
        model = self.products.signals(self.products.product(self.kernel_form, self.map_form))
        return (signals - model).flatten(2).mean(2)

    def _accept(self, maps: Tensor, map_form: Tensor, kernels: Tensor, kernel_form: Tensor) -> None:
        moved = _square(maps - self.maps) / max(_square(maps), torch.finfo(maps.dtype).tiny)
        self.change: float = math.sqrt(max(moved, _square(kernels - self.kernels) / len(kernels)))
        self.before: tuple[Tensor, Tensor, Tensor, Tensor] = (self.maps, self.map_form, self.kernels, self.kernel_form)
        self.maps: Tensor = maps
        self.map_form: Tensor = map_form
        self.kernels: Tensor = kernels
        self.kernel_form: Tensor = kernel_form

    def _swept(self, alpha: float, beta: float) -> tuple[Tensor, ...]:
        """Maps and kernels with their forms after a step of every block, each from what the others have become."""
        residual, parts = self.residual, []
        for number in range(len(self.blocks)):
            maps, map_form, residual = self._moved_maps(number, residual, alpha, beta)
            kernels, kernel_form, residual = self._moved_kernels(number, (maps, map_form), residual, beta)
            parts.append((maps, map_form, kernels, kernel_form))
        if len(parts) == 1:
            return parts[0]
        return tuple(
            torch.cat(blocks, axis) for blocks, axis in zip(zip(*parts, strict=True), (1, 1, 0, 0), strict=True)
        )

    def _moved_maps(self, number: int, residual: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        products, block = self.products, self.blocks[number]
        kernel_form, ahead, ahead_form = self.kernel_form[block], self.maps[:, block], self.map_form[:, block]
        if beta:
            here = ahead_form
            ahead = _ahead(self.before[0][:, block], ahead, beta)
            ahead_form = _ahead(self.before[1][:, block], here, beta)
            residual = residual - self._centered(products.product(kernel_form, ahead_form - here))
        slope = products.to_maps(kernel_form, residual)
        amount = alpha if self.weights is None else alpha * self.weights.expand_as(self.maps)[:, block]
        while True:
            curvature = self.map_curvatures[number]
            moved = shrunk(ahead.add(slope, alpha=1 / curvature), amount / curvature, positive=self.positive)
            moved_form = products.map_form(moved)
            change = self._centered(products.product(kernel_form, moved_form - ahead_form))
            curved, allowed = products.energy(change), curvature * _square(moved - ahead)
            if curved <= allowed * (1 + 1e-3) + self.rounding or not math.isfinite(curved):
                self.map_curvatures[number] *= _FORGET
                return moved, moved_form, residual - change
            self.map_curvatures[number] *= _RAISE

    def _moved_kernels(
        self, number: int, maps_and_form: tuple[Tensor, Tensor], residual: Tensor, beta: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        products, block, (maps, map_form) = self.products, self.blocks[number], maps_and_form
        ahead, ahead_form = self.kernels[block], self.kernel_form[block]
        energies = maps.square().transpose(0, 1).flatten(1).sum(1)
        largest = float(energies.max())
        if largest == 0:
            return ahead, ahead_form, residual
        energies = energies.clamp(min=_IDLE * largest).view(-1, *[1] * (ahead.ndim - 1))
        if beta:
            here = ahead_form
            ahead = _ahead(self.before[2][block], ahead, beta)
            ahead_form = _ahead(self.before[3][block], here, beta)
            residual = residual - self._centered(products.product(ahead_form - here, map_form))
        slope = products.to_kernels(map_form, residual)
        while True:
            curvature = self.kernel_curvatures[number]
            moved = self._unit(ahead + slope / (curvature * energies))
            moved_form = products.kernel_form(moved)
            change = self._centered(products.product(moved_form - ahead_form, map_form))
            curved, allowed = products.energy(change), curvature * float((energies * (moved - ahead).square()).sum())
            if curved <= allowed * (1 + 1e-3) + self.rounding or not math.isfinite(curved):
                self.kernel_curvatures[number] *= _FORGET
                return moved, moved_form, residual - change
            self.kernel_curvatures[number] *= _RAISE

    def _unit(self, kernels: Tensor) -> Tensor:
        return unit_kernels(kernels, rank_one=self.rank_one)

    def _centered(self, form: Tensor) -> Tensor:
        return self.products.centered(form) if self.bias else form

    def _residual(self, kernel_form: Tensor, map_form: Tensor) -> Tensor:
        return self.target - self._centered(self.products.product(kernel_form, map_form))

    def _penalty(self, maps: Tensor) -> float:
        size = maps.abs() if self.weights is None else maps.abs() * self.weights
        return float(size.sum())


def shrunk(values: Tensor, amount: float | Tensor, *, positive: bool) -> Tensor:
    """Values moved towards zero by `amount`, as far as zero; negative ones become zero with `positive`."""
    if positive:
        return (values - amount).clamp_(min=0)
    if isinstance(amount, Tensor):
        return values - values.clamp(-amount, amount)
    return torch.nn.functional.softshrink(values, amount)


def unit_kernels(kernels: Tensor, *, rank_one: bool = False) -> Tensor:
    """The nearest kernels (p, channels, *kernel_shape) of norm one, and of rank one in channels x shape if asked.

    A kernel of zero becomes constant.
    """
    flat = kernels.flatten(2)
    if rank_one and min(flat.shape[1:]) > 1:
        left, _, right = torch.linalg.svd(flat, full_matrices=False)
        return (left[:, :, :1] * right[:, :1]).view_as(kernels)
    norms = torch.linalg.vector_norm(flat, dim=(1, 2), keepdim=True)
    even = 1 / math.sqrt(flat.shape[1] * flat.shape[2])
    return torch.where(norms > 0, flat / norms.clamp(min=torch.finfo(flat.dtype).tiny), even).view_as(kernels)


def _blocks(kernels: Tensor, *, whole: bool) -> list[slice]:
    """Kernels taken together, in order."""
    count, size = len(kernels), max(_TOGETHER, kernels.shape[1])
    return [slice(0, count)] if whole else [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _ahead(before: Tensor, now: Tensor, beta: float) -> Tensor:
    """now + beta (now - before), in one pass over memory."""
    if now.is_complex():
        return torch.view_as_complex(_ahead(torch.view_as_real(before), torch.view_as_real(now), beta))
    return torch.lerp(before, now, 1 + beta)


def _square(values: Tensor) -> float:
    flat = values.flatten()
    return float(torch.dot(flat, flat))
