"""Convolutional sparse coding: the maps of fixed kernels, to a duality gap."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate, Outcome, Solution, Status, Trace
from tightframe.dictionary.convolutional.convolution import Boundary, Convolution, Method, checked_operator
from tightframe.dictionary.convolutional.descent import shrunk

# The gap is looked at every so many iterations; so many without a smaller one are a stall.
_EVERY, _PATIENCE = 5, 500
# The assumed curvature falls by this factor after a step and rises by the second one where it was too low.
_FORGET, _RAISE = 0.95, 1.5


def convolutional_sparse_coding(
    signals: Tensor,
    kernels: Tensor,
    *,
    alpha: float,
    boundary: Boundary = "circular",
    positive: bool = False,
    bias: bool = False,
    weights: Tensor | None = None,
    maps: Tensor | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 2000,
    method: Method = "auto",
) -> Solution:
    r"""Sparse maps of given kernels, the minimum of a convex function, by FISTA with restart.

    .. math:: \min_{x, b}\ P = \tfrac12 \Big\|y - b - \sum_k a_k * x_k\Big\|^2 + \lambda \sum_k \|w \odot x_k\|_1,
        \qquad P - P^* \le P - \langle y, \theta \rangle + \tfrac12 \|\theta\|^2

    where
        theta = s (y - b - sum a * x) with the s that is best among those with |correlations of theta with the kernels|
        <= lambda w (without the modulus for `positive`) is a point of the dual problem.

    Args:
        signals: y (n, channels, *shape).
        kernels: a (p, channels, *kernel_shape), of any norm.
        alpha: lambda > 0.
        boundary: As `Convolution` says.
        positive: x >= 0.
        bias: Whether b (n, channels) is estimated.
        weights: w > 0 of the shape of the maps, or broadcast to it.
        maps: Where to begin; zero by default.
        tolerance: Gap at which to stop, as a share of half the energy of the signals (less their mean with `bias`).
        max_iterations: At most.
        method: Of `Convolution`.

    Returns:
        Solution with maps (n, p, *map_shape) and bias; the trace has "objective", "gap" and "seconds", the certificate
        is the duality gap in the units of P.

    Raises:
        InputError: Shapes that do not fit, weights that are not positive, or numbers out of range.

    Example:
        >>> signals, kernels = torch.tensor([[[0.0, 3.0, 0.0]]]), torch.ones(1, 1, 1)
        >>> found = convolutional_sparse_coding(signals, kernels, alpha=1.0, tolerance=1e-9)
        >>> found.maps.round(decimals=3).flatten().tolist(), found.certificate.holds
        ([0.0, 2.0, 0.0], True)

    Reference: [beck2009fast], section 4; [odonoghue2015adaptive], section 3.2, for the restart; [mairal2010sparse],
    section D.2.3, for the dual point.
    """
    if not (math.isfinite(alpha) and alpha > 0 and tolerance > 0):
        raise InputError(
            "alpha and tolerance above zero", got=f"{alpha!r} and {tolerance!r}", remedy="Use 0.1 and 1e-4."
        )
    check_count(max_iterations, "max_iterations")
    operator = checked_operator(signals, kernels, boundary=boundary, method=method)
    if weights is not None and not bool((weights > 0).all()):
        raise InputError("weights above zero", got="zero, negative or NaN", remedy="Clamp them to 1e-6.")
    shape = (len(signals), len(kernels), *operator.map_shape)
    start = signals.new_zeros(shape) if maps is None else maps
    if tuple(start.shape) != shape:
        raise InputError(
            f"maps of shape {shape}", got=f"shape {tuple(start.shape)}", remedy="Use Convolution.map_shape."
        )
    penalty = alpha if weights is None else alpha * weights
    run = _Run(operator, signals, kernels, penalty, start, bias=bias, positive=positive)
    outcome, gap = run.solve(tolerance, max_iterations)
    return run.solution(outcome, gap, signals)


class _Run:
    """One call: the maps, the slope of the data term there, and the steps between them."""

    def __init__(
        self,
        operator: Convolution,
        signals: Tensor,
        kernels: Tensor,
        penalty: float | Tensor,
        maps: Tensor,
        *,
        bias: bool,
        positive: bool,
    ) -> None:
        self.products, self.penalty, self.bias, self.positive = operator.products, penalty, bias, positive
        self.kernels = self.products.kernel_form(kernels)
        self.target = self._centered(self.products.signal_form(signals))
        self.scale = 0.5 * self.products.energy(self.target)
        self.curvature = max(operator.squared_norm_of_kernels(kernels), torch.finfo(maps.dtype).tiny)
        self.maps, self.model = maps, self._model(maps)
        self.slope = self.products.to_maps(self.kernels, self.target - self.model)
        self.trace, self.begun, self.tolerance = Trace(), time.perf_counter(), 0.0
        # Energies below this are rounding of differences.
        self.rounding = 64 * torch.finfo(maps.dtype).eps ** 2 * 2 * self.scale

    def solve(self, tolerance: float, limit: int) -> tuple[Outcome, float]:
        """Iterate until the gap is small; the best point is kept."""
        self.tolerance = tolerance * self.scale
        age, steps = 1.0, (torch.zeros_like(self.maps), torch.zeros_like(self.slope), torch.zeros_like(self.model))
        least, seen = self.gap(), 0
        best = (self.maps, self.model, self.slope)
        self._record(0, least)
        outcome: Outcome = "converged" if least <= self.tolerance else "budget spent"
        for number in range(1, limit + 1) if outcome != "converged" else ():
            following = 0.5 * (1 + math.sqrt(1 + 4 * age**2))
            steps, uphill = self._advance((age - 1) / following, steps)
            age = 1.0 if uphill else following
            if number % _EVERY and number < limit:
                continue
            gap = self.gap()
            self._record(number, gap)
            if not math.isfinite(gap):
                outcome = "diverged"
                break
            if gap < least:
                best, least, seen = (self.maps, self.model, self.slope), gap, number
            if gap <= self.tolerance or number - seen > _PATIENCE:
                outcome = "converged" if gap <= self.tolerance else "stalled"
                break
        self.maps, self.model, self.slope = best
        return outcome, least

    def objective(self) -> float:
        """P at the maps."""
        data = 0.5 * self.products.energy(self.target - self.model)
        return data + float((self.penalty * self.maps.abs()).sum(dtype=torch.float64))

    def gap(self) -> float:
        """Duality gap at the maps, with the best multiple of the residual. Waits for the device."""
        residual = self.target - self.model
        reach = float(((self.slope if self.positive else self.slope.abs()) / self.penalty).max())
        energy = self.products.energy(residual)
        along = 0.5 * (self.products.energy(self.target) + energy - self.products.energy(self.model))
        best = along / energy if energy else 0.0
        multiple = min(max(best, 0.0), 1 / reach if reach > 0 else math.inf)
        return max(self.objective() - multiple * along + 0.5 * multiple**2 * energy, 0.0)

    def solution(self, outcome: Outcome, gap: float, signals: Tensor) -> Solution:
        """What is returned."""
        steps = self.trace["step"][-1]
        found = f"the gap is {gap:.2e} (asked was {self.tolerance:.1e})"
        advice = {
            "converged": f"{found}, after {steps} iterations",
            "budget spent": f"{found}; raise max_iterations from {steps}",
            "stalled": f"{found}, and rounding stops the descent; raise the tolerance or use float64",
            "diverged": f"values left the numbers at iteration {steps}; scale the signals",
        }
        certificate = Certificate("dual gap", gap, self.tolerance, {"half the energy": self.scale})
        bias = signals.new_zeros(signals.shape[:2])
        if self.bias:
            full = self.products.signals(self.products.product(self.kernels, self.products.map_form(self.maps)))
            bias = (signals - full).flatten(2).mean(2)
        variables = {"maps": self.maps, "bias": bias}
        return Solution(Status(outcome, advice[outcome]), self.objective(), variables, self.trace, certificate)

    def _advance(self, beta: float, steps: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], bool]:
        # Slope and model are affine in the maps: those of the point ahead follow without a transform.
        here = (self.maps, self.slope, self.model)
        ahead, slope, model = (value.add(step, alpha=beta) for value, step in zip(here, steps, strict=True))
        while True:
            length = 1 / self.curvature
            moved = shrunk(ahead.add(slope, alpha=length), self.penalty * length, positive=self.positive)
            at_moved, change = self._model(moved), moved - ahead
            curved, allowed = self.products.energy(at_moved - model), self.curvature * float(change.square().sum())
            if curved <= allowed * (1 + 1e-3) + self.rounding or not math.isfinite(curved):
                break
            self.curvature *= _RAISE
        self.curvature *= _FORGET
        uphill = float((change * (moved - self.maps)).sum()) < 0
        new = (moved, self.products.to_maps(self.kernels, self.target - at_moved), at_moved)
        steps = tuple(there - value for there, value in zip(new, here, strict=True))
        self.maps, self.slope, self.model = new
        return steps, uphill

    def _model(self, maps: Tensor) -> Tensor:
        return self._centered(self.products.product(self.kernels, self.products.map_form(maps)))

    def _centered(self, form: Tensor) -> Tensor:
        return self.products.centered(form) if self.bias else form

    def _record(self, number: int, gap: float) -> None:
        row = {"objective": self.objective(), "gap": gap, "seconds": time.perf_counter() - self.begun}
        self.trace.record(number, row)
