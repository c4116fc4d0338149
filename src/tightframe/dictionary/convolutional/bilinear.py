"""The bilinear Lasso: kernels of norm one and sparse maps, by alternating descent with momentum, homotopy, weights."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Outcome, Solution, Status, Trace
from tightframe.dictionary.convolutional.convolution import Boundary, Convolution, Method, checked_operator
from tightframe.dictionary.convolutional.descent import Descent, unit_kernels

# Homotopy: the penalty begins at this share of the one that admits no activation, and falls by this factor whenever
# an iteration moves kernels and maps by less than this relative to their size.
_BEGIN, _FALL, _SETTLED = 0.5, 0.85, 0.05
# Activations of this multiple of the penalty keep half of it in the next round of reweighting.
_HALVED = 2.0
# At most so many iterations at one penalty of the homotopy.
_PATIENCE = 50
# After so many iterations at the final penalty the support is solved on its own where that is cheap.
_EVERY = 3


def bilinear_lasso(
    signals: Tensor,
    kernels: Tensor,
    *,
    alpha: float,
    maps: Tensor | None = None,
    boundary: Boundary = "circular",
    positive: bool = False,
    rank_one: bool = False,
    bias: bool = False,
    momentum: float = 0.97,
    homotopy: bool = False,
    reweightings: int = 0,
    weights: Tensor | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
    method: Method = "auto",
) -> Solution:
    r"""Kernels of norm one and sparse maps whose convolutions make up the signals.

    .. math:: \min_{a, x, b}\ F = \tfrac12 \Big\|y - b - \sum_k a_k * x_k\Big\|^2 + \lambda \sum_k \|w \odot x_k\|_1
        \quad \text{s.t.}\ \|a_k\| = 1

    where
        y (n, channels, *shape) are `signals`, a (p, channels, *kernel_shape) begins at `kernels`, x (n, p, *map_shape)
        at `maps`, b (n, channels) is zero unless `bias`, lambda is `alpha` and w `weights`.

    F has many local minima: every shift, sign and order of the kernels gives one, and a start decides which is found.
    With `homotopy` lambda falls from near its largest useful value to `alpha`, a little whenever the iterates have
    settled, which depends on the iterates alone and not on the clock. With `reweightings` the solve is followed by
    others with w = 2 lambda / (|x| + 2 lambda), which shrink large activations less.

    Where maps are so sparse that the windows of their entries hold fewer numbers than the maps, F is lowered on the
    support by quasi-Newton steps after every third iteration at `alpha`: see `support.SupportLasso`.

    Args:
        signals: y, real and finite, on any device.
        kernels: Where to begin; normalised first. With `positive` and no `maps`, those that no activation at `alpha`
            would use as they are begin with the other sign.
        alpha: lambda > 0, in the units of the signals.
        maps: Where to begin; zero by default.
        boundary: "circular", "zero" or "valid", as `Convolution` says.
        positive: x >= 0.
        rank_one: Each kernel is a vector over channels times one shape.
        bias: Estimate b.
        momentum: Cap of the momentum, in [0, 1); 0 for plain alternating descent.
        homotopy: Whether lambda falls to `alpha`.
        reweightings: Rounds of reweighting after the first solve.
        weights: w in [0, 1] of the shape of the maps, or broadcast to it.
        tolerance: The solve ends where an iteration moves kernels and maps by less, relative to their size.
        max_iterations: Iterations in all.
        method: Of `Convolution`.

    Returns:
        Solution with kernels, maps, bias and the weights of the last round. Its trace has the "objective", with the
        "alpha" and weights in use at that step, "change", the "step length" of the maps, and wall "seconds".

    Raises:
        InputError: Shapes that do not fit, a kernel longer than the signal, mixed devices, or a number out of range.

    Example:
        >>> signals = torch.tensor([[[0.0, 0.0, 2.0, 1.0, 0.0, 0.0, -2.0, -1.0]]])
        >>> found = bilinear_lasso(signals, torch.tensor([[[1.0, 0.0]]]), alpha=0.01)
        >>> found.status.converged, [round(v, 2) for v in found.kernels.flatten().tolist()]
        (True, [0.89, 0.45])

    Reference: [lau2020short], equation (3) and section 3; [pock2016inertial] for the momentum.
    """
    _check_numbers(alpha, momentum, tolerance)
    check_count(max_iterations, "max_iterations")
    check_count(reweightings, "reweightings", least=0)
    operator = checked_operator(signals, kernels, boundary=boundary, method=method)
    if maps is None:
        maps = signals.new_zeros((len(signals), len(kernels), *operator.map_shape))
        kernels = _usable(operator, signals, kernels, alpha, bias=bias) if positive else kernels
    _check_maps(maps, (len(signals), len(kernels), *operator.map_shape))
    descent = Descent(
        operator,
        signals,
        unit_kernels(kernels, rank_one=rank_one),
        maps,
        bias=bias,
        positive=positive,
        rank_one=rank_one,
        momentum=momentum,
        weights=weights,
    )
    run = _Run(descent, alpha, tolerance, max_iterations)
    outcome = run.solve(homotopy=homotopy)
    for _ in range(reweightings):
        if outcome == "diverged" or run.number >= max_iterations:
            break
        descent.reweight(sparsity_weights(descent.maps, _HALVED * alpha))
        outcome = run.solve(homotopy=False)
    return run.solution(outcome, descent.biases(signals))


def _usable(operator: Convolution, signals: Tensor, kernels: Tensor, alpha: float, *, bias: bool) -> Tensor:
    """The kernels, with the other sign where only so a non-negative map would use them."""
    signals = signals - signals.flatten(2).mean(2).view(*signals.shape[:2], *[1] * (signals.ndim - 2)) * bias
    along = operator.correlate_kernels(unit_kernels(kernels), signals).transpose(0, 1).flatten(1)
    turned = (along.amax(1) <= alpha) & (-along.amin(1) > alpha)
    return torch.where(turned.view(-1, *[1] * (kernels.ndim - 1)), -kernels, kernels)


def sparsity_weights(maps: Tensor, scale: float) -> Tensor:
    r"""Weights that shrink large activations less.

    .. math:: w = \frac{\epsilon}{|x| + \epsilon}

    Args:
        maps: x, of any shape.
        scale: epsilon > 0, the size at which half of the penalty is left.

    Reference: [candes2008enhancing], section 2.2.
    """
    return scale / (maps.abs() + scale)


class _Run:
    """The loop around `Descent`: penalties, when to stop, and what was recorded."""

    def __init__(self, descent: Descent, alpha: float, tolerance: float, max_iterations: int) -> None:
        self.descent, self.alpha, self.tolerance, self.limit = descent, alpha, tolerance, max_iterations
        self.number, self.trace, self.begun = 0, Trace(), time.perf_counter()
        self._record(alpha)

    def solve(self, *, homotopy: bool) -> Outcome:
        """Iterate to the tolerance at `alpha`, through larger penalties first with `homotopy`."""
        descent = self.descent
        alpha = max(_BEGIN * descent.largest_correlation(), self.alpha) if homotopy else self.alpha
        since = 0
        while self.number < self.limit:
            moved = descent.advance(alpha)
            self.number, since = self.number + 1, since + 1
            # A plain step is short where momentum would go far: only a solved support shows that the end is near.
            if moved and alpha <= self.alpha and (self.number % _EVERY == 0 or descent.change <= self.tolerance):
                descent.polish(alpha)
            self._record(alpha)
            if not math.isfinite(descent.objective(alpha)):
                return "diverged"
            if alpha > self.alpha:
                if not moved or descent.change <= _SETTLED or since >= _PATIENCE:
                    alpha, since = max(_FALL * alpha, self.alpha), 0
            elif not moved:
                return "converged" if descent.change <= 10 * self.tolerance else "stalled"
            elif descent.change <= self.tolerance:
                return "converged"
        return "budget spent"

    def solution(self, outcome: Outcome, bias: Tensor) -> Solution:
        """What is returned."""
        descent, change = self.descent, self.descent.change
        found = f"the last iteration moved kernels and maps by {change:.1e} (asked was {self.tolerance:.1e})"
        advice = {
            "converged": f"{found}, after {self.number} iterations",
            "budget spent": f"{found}; raise max_iterations from {self.number}",
            "stalled": f"{found}, and rounding hides any further descent; raise the tolerance or use float64",
            "diverged": f"values left the numbers at iteration {self.number}; scale the signals",
        }
        weights = descent.maps.new_ones(()) if descent.weights is None else descent.weights
        variables = {"kernels": descent.kernels, "maps": descent.maps, "bias": bias, "weights": weights}
        objective = descent.objective(self.alpha)
        return Solution(Status(outcome, advice[outcome]), objective, variables, self.trace)

    def _record(self, alpha: float) -> None:
        descent = self.descent
        row = {"objective": descent.objective(alpha), "alpha": alpha, "step length": 1 / descent.map_curvature}
        self.trace.record(self.number, {**row, "change": descent.change, "seconds": time.perf_counter() - self.begun})


def _check_maps(maps: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(maps.shape) != wanted:
        raise InputError(f"maps of shape {wanted}", got=f"shape {tuple(maps.shape)}", remedy="See map_shape.")


def _check_numbers(alpha: float, momentum: float, tolerance: float) -> None:
    if not (math.isfinite(alpha) and alpha > 0):
        raise InputError("a penalty above zero", got=f"alpha={alpha!r}", remedy="Use about twice the noise level.")
    if not 0 <= momentum < 1:
        raise InputError("a momentum in [0, 1)", got=repr(momentum), remedy="Use 0.97, or 0 for none.")
    if not tolerance > 0:
        raise InputError("a positive tolerance", got=repr(tolerance), remedy="Use 1e-4.")
