"""One iteration of the bilinear Lasso: a proximal gradient step in the maps, then one in the kernels, with momentum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.dictionary.convolution import Convolution

# The curvature that is assumed falls by this factor after each step and rises by the second one where it was too low.
_FORGET, _RAISE = 0.97, 1.5
# Momentum begins again at every restart and grows as in Nesterov's method, up to the caller's cap.
_DELAY = 3.0
# Kernels without activations keep a curvature of this share of the largest, so that nothing is divided by zero.
_IDLE = 1e-6


class Descent:
    r"""Kernels and maps of the bilinear Lasso, moved by alternating proximal gradient steps that cannot go up.

    .. math:: F(a, x) = \tfrac12 \Big\|y - b - \sum_k a_k * x_k\Big\|^2 + \lambda \sum_k \|w \odot x_k\|_1,
        \qquad \|a_k\| = 1

    The bias b, one number for each signal and channel, is eliminated: it is the mean of what the kernels leave, and
    all that is left of it is that residuals are centred. The data term is quadratic in each block, so a step of length
    1 / L is safe where ||A d||^2 <= L ||d||^2 for the step d that was made, and this is what is checked; the curvature
    of each kernel is taken in units of its map's energy. A step with momentum that would raise F is taken back and
    repeated without.

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

    Reference: [pock2016inertial], algorithm 1; [lau2020short], section 3.
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
        self.products, self.momentum = operator.products, momentum
        self.bias, self.positive, self.rank_one, self.weights = bias, positive, rank_one, weights
        self.target = self._centered(self.products.signal_form(signals))
        self.kernels, self.maps = kernels, maps
        self.kernel_form, self.map_form = self.products.kernel_form(kernels), self.products.map_form(maps)
        self.before = (maps, self.map_form, kernels, self.kernel_form)
        self.map_curvature, self.kernel_curvature = operator.squared_norm_of_kernels(kernels), 1.0
        self.age, self.change = 0, math.inf
        self.data = self._data(self.products.product(self.kernel_form, self.map_form))
        self.penalty = self._penalty(maps)
        # Differences of squares below this are rounding.
        self.rounding = 64 * torch.finfo(signals.dtype).eps ** 2 * self.products.energy(self.target)

    def objective(self, alpha: float) -> float:
        """F at the current point."""
        return self.data + alpha * self.penalty

    def advance(self, alpha: float) -> bool:
        """One iteration; False where no step without momentum lowers F any more, and the point is kept."""
        before = self.objective(alpha)
        tolerance = 8 * torch.finfo(self.maps.dtype).eps * abs(before)
        while True:
            beta = min(self.momentum, self.age / (self.age + _DELAY))
            maps, map_form = self._moved_maps(alpha, beta)
            kernels, kernel_form, model = self._moved_kernels(maps, map_form, beta)
            data, penalty = self._data(model), self._penalty(maps)
            after = data + alpha * penalty
            if after <= before + tolerance:
                break
            if beta == 0:
                return False
            self.age = 0
        self._accept(maps, map_form, kernels, kernel_form)
        self.data, self.penalty, self.age = data, penalty, self.age + 1
        return True

    def forget(self) -> None:
        """Begin the momentum again, where the problem has changed."""
        self.age = 0

    def reweight(self, weights: Tensor) -> None:
        """Go on with other weights of the penalty."""
        self.weights = weights
        self.penalty = self._penalty(self.maps)
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
        self.change = math.sqrt(max(moved, _square(kernels - self.kernels) / len(kernels)))
        self.before = (self.maps, self.map_form, self.kernels, self.kernel_form)
        self.maps, self.map_form, self.kernels, self.kernel_form = maps, map_form, kernels, kernel_form

    def _moved_maps(self, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
        products = self.products
        ahead, form = self.maps, self.map_form
        if beta:
            ahead, form = _ahead(self.before[0], ahead, beta), _ahead(self.before[1], form, beta)
        model = self._centered(products.product(self.kernel_form, form))
        slope = products.to_maps(self.kernel_form, self.target - model)
        amount = alpha if self.weights is None else alpha * self.weights
        while True:
            length = 1 / self.map_curvature
            moved = shrunk(ahead.add(slope, alpha=length), amount * length, positive=self.positive)
            moved_form = products.map_form(moved)
            curved = products.energy(self._centered(products.product(self.kernel_form, moved_form)) - model)
            allowed = self.map_curvature * _square(moved - ahead)
            if curved <= allowed * (1 + 1e-3) + self.rounding or not math.isfinite(curved):
                self.map_curvature *= _FORGET
                return moved, moved_form
            self.map_curvature *= _RAISE

    def _moved_kernels(self, maps: Tensor, map_form: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        products = self.products
        ahead, form = self.kernels, self.kernel_form
        if beta:
            ahead, form = _ahead(self.before[2], ahead, beta), _ahead(self.before[3], form, beta)
        model = self._centered(products.product(form, map_form))
        slope = products.to_kernels(map_form, self.target - model)
        energies = maps.square().transpose(0, 1).flatten(1).sum(1)
        largest = float(energies.max())
        if largest == 0:
            kernels = self.kernels
            form = self.kernel_form
            return kernels, form, self._centered(products.product(form, map_form))
        energies = energies.clamp(min=_IDLE * largest).view(-1, *[1] * (ahead.ndim - 1))
        while True:
            moved = self._unit(ahead + slope / (self.kernel_curvature * energies))
            moved_form = products.kernel_form(moved)
            product = self._centered(products.product(moved_form, map_form))
            curved = products.energy(product - model)
            allowed = self.kernel_curvature * float((energies * (moved - ahead).square()).sum())
            if curved <= allowed * (1 + 1e-3) + self.rounding or not math.isfinite(curved):
                self.kernel_curvature *= _FORGET
                return moved, moved_form, product
            self.kernel_curvature *= _RAISE

    def _unit(self, kernels: Tensor) -> Tensor:
        return unit_kernels(kernels, rank_one=self.rank_one)

    def _centered(self, form: Tensor) -> Tensor:
        return self.products.centered(form) if self.bias else form

    def _data(self, model: Tensor) -> float:
        return 0.5 * self.products.energy(self.target - self._centered(model))

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


def _ahead(before: Tensor, now: Tensor, beta: float) -> Tensor:
    """now + beta (now - before), in one pass over memory."""
    if now.is_complex():
        return torch.view_as_complex(_ahead(torch.view_as_real(before), torch.view_as_real(now), beta))
    return torch.lerp(before, now, 1 + beta)


def _square(values: Tensor) -> float:
    flat = values.flatten()
    return float(torch.dot(flat, flat))
