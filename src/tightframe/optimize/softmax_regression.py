"""Softmax regression with weight decay, solved by Newton steps to a stated gradient and certified by its dual."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.threads import threads_for
from tightframe.core.typing import Float, Labels
from tightframe.optimize.ridge import Principal

# The last row is the bias: r + 1 in all.
Point = Float[Tensor, "rows k"]

GAP = 1e-9
_PRODUCTS = 500
_HALVINGS = 40
_ROUNDING = 1e-14


@dataclass(frozen=True)
class _Place:
    """A point (r + 1, k), its last row the bias, with what the next step needs."""

    point: Tensor
    value: float
    gradient: Tensor
    probabilities: Tensor

    @property
    def size(self) -> float:
        return float(torch.linalg.vector_norm(self.gradient))


class SoftmaxRegression:
    r"""The problem of a linear probe, in principal coordinates.

    .. math:: \min_{W, b}\ \frac1n \sum_i \Bigl( \log \sum_k e^{w_k^\top h_i + b_k} - w_{y_i}^\top h_i - b_{y_i} \Bigr)
        + \frac\lambda2 \|W\|_F^2

    where h_i are the features, y_i `labels` and lambda is the `decay` of `solve`; b is free.

    Args:
        features: Principal coordinates of the features.
        labels: (n,), int64 in [0, k); every class occurs.
        classes: k.
    """

    def __init__(self, features: Principal, labels: Labels, classes: int) -> None:
        self.features: Principal = features
        self.labels: Labels = labels
        self.classes: int = classes
        self._variances = torch.cat([features.variances, features.variances.new_ones(1)])
        self._shares = torch.bincount(labels, minlength=classes).double() / len(labels)

    def start(self) -> Point:
        """No weights, and the bias of the class shares: the optimum of infinite decay."""
        point = self._variances.new_zeros(len(self._variances), self.classes)
        point[-1] = self._shares.log()
        return point

    def solve(self, decay: float, start: Point, *, tolerance: float, max_iterations: int) -> tuple[Point, Solution]:
        """Truncated Newton steps from `start` (r + 1, k); the last point, and it as a Solution of W, b and decay."""
        with threads_for(self.features.rows.numel() * self.classes):
            place, status, trace = self._descend(decay, start, tolerance, max_iterations)
            certificate = self._certificate(place, decay)
        point = place.point - place.point.mean(1, keepdim=True)
        weight, bias = self.features.map(point[:-1], point[-1])
        variables = {"W": weight, "b": bias, "decay": weight.new_tensor(decay)}
        return point, Solution(status, place.value, variables, trace, certificate)

    def _descend(self, decay: float, start: Tensor, tolerance: float, budget: int) -> tuple[_Place, Status, Trace]:
        penalty = self._penalty(decay)
        place, trace, products = self._place(start, penalty), Trace(), 0
        first = max(place.size, tolerance)
        for step in range(budget + 1):
            size = place.size
            trace.record(step, {"objective": place.value, "gradient": size, "products": products})
            if size <= tolerance:
                return place, Status("converged", f"gradient {size:.1e} after {step} Newton steps"), trace
            if step == budget:
                break
            accuracy = min(0.25, math.sqrt(size / first))
            direction, used = self._direction(place, penalty, accuracy)
            products += used
            moved = self._along(place, direction, penalty)
            if moved is None:
                return place, _stalled(size, tolerance), trace
            place = moved
        return place, _spent(place.size, budget), trace

    def _place(self, point: Tensor, penalty: Tensor) -> _Place:
        logits = self._logits(point)
        chosen = logits.gather(1, self.labels[:, None])[:, 0]
        loss = (logits.logsumexp(1) - chosen).mean()
        probabilities = logits.softmax(1)
        errors = probabilities.scatter_add(1, self.labels[:, None], probabilities.new_full((len(logits), 1), -1.0))
        gradient = self._pulled(errors) + penalty * point
        return _Place(point, float(loss + 0.5 * (penalty * point.square()).sum()), gradient, probabilities)

    def _direction(self, place: _Place, penalty: Tensor, accuracy: float) -> tuple[Tensor, int]:
        likely = place.probabilities

        def product(vector: Tensor) -> Tensor:
            change = likely * self._logits(vector)
            change -= likely * change.sum(1, keepdim=True)
            return self._pulled(change) + penalty * vector

        # The diagonal of the Hessian if features and confidence were independent; principal axes make that count.
        spread = (likely * (1 - likely)).mean(0).clamp(min=1e-12)
        return _conjugate_gradients(product, -place.gradient, self._variances[:, None] * spread + penalty, accuracy)

    def _along(self, place: _Place, direction: Tensor, penalty: Tensor) -> _Place | None:
        """The first of the steps 1, 1/2, 1/4, ... that lowers the objective enough, or the gradient at its floor."""
        slope = float((place.gradient * direction).sum())
        length, floor = 1.0, _ROUNDING * max(1.0, abs(place.value))
        for _ in range(_HALVINGS):
            moved = self._place(place.point + length * direction, penalty)
            if moved.value <= place.value + 1e-4 * length * slope:
                return moved
            # At the end the decrease is lost in rounding, and the gradient still tells.
            if abs(moved.value - place.value) <= floor and moved.size < place.size:
                return moved
            length /= 2
        return None

    def _certificate(self, place: _Place, decay: float) -> Certificate:
        r"""Gap to the dual value of the probabilities, made feasible: class shares q equal to those of the labels.

        .. math:: \frac1n \sum_i H(q_i) - \frac{1}{2 \lambda} \Bigl\| \frac1n \sum_i (e_{y_i} - q_i) h_i^\top \Bigr\|^2
        """
        penalty = decay / self.features.radius**2
        likely = place.probabilities
        # Each is a lower bound; the tilted one is far closer unless the tilt itself is ill-conditioned.
        value = max(self._dual_value(likely, penalty), self._dual_value(self._tilted(likely), penalty))
        evidence = {"gradient": place.size, "dual value": value, "decay": decay}
        return Certificate("dual gap", place.value - value, GAP, evidence)

    def _dual_value(self, likely: Tensor, penalty: float) -> float:
        means = likely.mean(0)
        mixed = float(((means - self._shares) / means).max().clamp(min=0.0))
        # Where the division rounds below zero, an entropy would be minus infinity.
        target = (means + (self._shares - means) / mixed).clamp(min=0.0) if mixed > 0 else means
        dual = (1 - mixed) * likely + mixed * target
        pull = -self.features.rows.T @ dual
        pull.index_add_(1, self.labels, self.features.rows.T)
        entropy = torch.special.entr(dual).sum(1).mean()
        return float(entropy - (pull / len(dual)).square().sum() / (2 * penalty))

    def _tilted(self, likely: Tensor) -> Tensor:
        """Probabilities after one Newton step of the bias alone, whose class shares are nearly those of the labels."""
        means = likely.mean(0)
        # The bias is free along the all-ones vector; adding that direction makes its Hessian regular.
        hessian = torch.diag(means) - likely.T @ likely / len(likely) + 1 / self.classes
        step = torch.linalg.pinv(hessian, hermitian=True) @ (self._shares - means)
        return (likely.log() + step).softmax(1)

    def _penalty(self, decay: float) -> Tensor:
        penalty = self._variances.new_full((len(self._variances), 1), decay / self.features.radius**2)
        penalty[-1] = 0.0
        return penalty

    def _logits(self, point: Tensor) -> Tensor:
        return torch.addmm(point[-1], self.features.rows, point[:-1])

    def _pulled(self, errors: Tensor) -> Tensor:
        """The adjoint of `_logits` over n: from (n, k) to (r + 1, k)."""
        return torch.cat([self.features.rows.T @ errors, errors.sum(0, keepdim=True)]) / len(errors)


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor, accuracy: float
) -> tuple[Tensor, int]:
    """Solve product(x) = right to a residual of `accuracy` times |right|; the solution and the products it took."""
    solution, residual = torch.zeros_like(right), right.clone()
    scaled = residual / diagonal
    search, energy = scaled, (residual * scaled).sum()
    goal = accuracy * torch.linalg.vector_norm(right)
    for used in range(_PRODUCTS):
        image = product(search)
        curvature = (search * image).sum()
        if not curvature > 0:
            return (solution if used else scaled), used + 1
        length = energy / curvature
        solution, residual = solution + length * search, residual - length * image
        if torch.linalg.vector_norm(residual) <= goal:
            return solution, used + 1
        scaled = residual / diagonal
        before, energy = energy, (residual * scaled).sum()
        search = scaled + (energy / before) * search
    return solution, _PRODUCTS


def _stalled(size: float, tolerance: float) -> Status:
    return Status(
        "stalled",
        f"gradient {size:.1e} above the tolerance {tolerance:.1e}, and rounding hides any decrease; raise tolerance",
    )


def _spent(size: float, budget: int) -> Status:
    return Status(
        "budget spent",
        f"gradient {size:.1e} after {budget} Newton steps; raise max_iterations, or decay, which is cheaper to solve",
    )
