"""`NormalForm`: the model with factors of equal weight and one column per distinct feature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tightframe.core.typing import ClassVector, Float, Weights
from tightframe.ufm.loss import Targets
from tightframe.ufm.model import Columns, Point, UnconstrainedFeatures


@dataclass(frozen=True, eq=False)
class NormalForm:
    r"""The model with factors of equal weight and one column per distinct feature.

    .. math:: \Phi(A, B, b) = \sum_i \tfrac{c_i}{N} l\big(A B_i/\sqrt{c_i} + b, y_i\big)
        + \tfrac{\lambda}{2}\big(\|A\|_F^2 + \|B\|_F^2\big) + \tfrac{\lambda_b}{2}\|b\|^2

    with lambda = sqrt(lambda_W lambda_H), A = r W, B_i = sqrt(c_i) h_i / r, r = (lambda_W/lambda_H)^{1/4}, and c_i
    samples sharing the feature h_i. For a convex loss and given W and b every h_i minimises its own strongly convex
    function: all critical points are collapsed, and one column per class (c_k = n_k) loses none of them; in the
    directions left out the Hessian is positive definite.
    """

    problem: UnconstrainedFeatures
    multiplicity: Float[Tensor, " n"]
    targets: Targets
    A: Weights
    B: Columns
    b: ClassVector

    @classmethod
    def of_point(cls, problem: UnconstrainedFeatures, point: Point, *, collapse: bool = False) -> NormalForm:
        """Normal form of a point; with `collapse`, at the class means of its features."""
        device, counts = point.H.device, torch.tensor(problem.counts, device=point.H.device)
        targets, columns = problem.labels.to(device), point.H
        first = torch.cumsum(counts, 0) - counts
        if collapse:
            sums = columns.new_zeros(problem.features, problem.classes).index_add_(1, targets, columns)
            means = sums / counts
        else:
            means = columns[:, first]
        if collapse or bool((columns == means[:, targets]).all()):
            targets, columns, multiplicity = torch.arange(problem.classes, device=device), means, counts.double()
        else:
            multiplicity = torch.ones(len(targets), dtype=torch.float64, device=device)
        ratio = (problem.weight_decay[0] / problem.weight_decay[1]) ** 0.25
        return cls(
            problem, multiplicity, targets, ratio * point.W, columns * multiplicity.sqrt() / ratio, point.b.clone()
        )

    def moved(self, A: Tensor, B: Tensor, b: Tensor) -> NormalForm:
        """The same problem at another point."""
        return NormalForm(self.problem, self.multiplicity, self.targets, A, B, b)

    def with_bias(self, b: Tensor) -> NormalForm:
        """The same W and H with another bias, at no more than the price of an addition."""
        other = self.moved(self.A, self.B, b)
        other.__dict__["logits"] = self.logits + (b - self.b)[:, None]
        return other

    @property
    def multiplications(self) -> int:
        """Of the product AB."""
        return self.A.numel() * self.B.shape[1]

    @property
    def collapsed(self) -> bool:
        """Whether there is one column per class."""
        return len(self.targets) == self.problem.classes < self.problem.samples

    @property
    def point(self) -> Point:
        """W, H, b of the model."""
        ratio = (self.problem.weight_decay[0] / self.problem.weight_decay[1]) ** 0.25
        columns = self.B * ratio / self.multiplicity.sqrt()
        if len(self.targets) != self.problem.samples:
            columns = columns[:, self.problem.labels.to(columns.device)]
        return Point(self.A / ratio, columns, self.b)

    @cached_property
    def logits(self) -> Tensor:
        """A B_i / sqrt(c_i) + b (k, n)."""
        return (self.A @ self.B).div_(self.multiplicity.sqrt()).add_(self.b[:, None])

    @cached_property
    def G(self) -> Tensor:  # noqa: N802
        """Gradient of the mean loss in X = AB (k, n), and so, up to sqrt(c_i), in the logits of every sample."""
        return self.slopes(self.logits)

    @cached_property
    def value(self) -> Tensor:
        """Phi, equal to f."""
        return self.data_value(self.logits) + self.penalty

    @property
    def penalty(self) -> Tensor:
        """The decay terms."""
        decay, bias = self.problem.nuclear_decay, self.problem.bias_decay
        penalty = 0.5 * decay * (self.A.square().sum() + self.B.square().sum())
        return penalty if bias == float("inf") else penalty + 0.5 * bias * self.b.square().sum()

    def data_value(self, logits: Tensor) -> Tensor:
        """Mean loss over the samples."""
        return (self.multiplicity * self.problem.loss.value(logits, self.targets)).sum() / self.problem.samples

    def slopes(self, logits: Tensor) -> Tensor:
        """The same at other logits."""
        return self.problem.loss.gradient(logits, self.targets) * self.multiplicity.sqrt() / self.problem.samples

    def gradient(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Phi and its gradient in A, B and b (zero where there is no bias)."""
        return (self.value, *self._gradient)

    @cached_property
    def _gradient(self) -> tuple[Tensor, Tensor, Tensor]:
        G, decay = self.G, self.problem.nuclear_decay
        in_A = torch.addmm(self.A, G, self.B.T, beta=decay)
        return in_A, torch.addmm(self.B, self.A.T, G, beta=decay), self.bias_gradient

    def second(self, dA: Tensor, dB: Tensor, db: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hessian of Phi times a direction."""
        logits, root = self.logits, self.multiplicity.sqrt()
        decay, bias = self.problem.nuclear_decay, self.problem.bias_decay
        if bias == float("inf"):
            db = torch.zeros_like(db)
        G = self.G
        moved = (dA @ self.B + self.A @ dB) / root + db[:, None]
        D = self.problem.loss.curvature(logits, self.targets, moved) * root / self.problem.samples
        in_b = torch.zeros_like(db) if bias == float("inf") else (D * root).sum(1) + bias * db
        return (
            D @ self.B.T + G @ dB.T + decay * dA,
            self.A.T @ D + dA.T @ G + decay * dB,
            in_b,
        )

    def curvature_along(self, dA: Tensor, dB: Tensor, db: Tensor) -> float:
        """Second derivative of Phi along a direction, <v, Hessian v>, with half the products of `second`."""
        problem, free = self.problem, self.problem.bias != "none"
        moved = (dA @ self.B).addmm_(self.A, dB).div_(self.multiplicity.sqrt())
        if free:
            moved += db[:, None]
        bend = (problem.loss.curvature(self.logits, self.targets, moved) * moved) @ self.multiplicity
        penalty = problem.nuclear_decay * (dA.square().sum() + dB.square().sum())
        curvature = bend.sum() / problem.samples + 2 * ((self.G @ dB.T) * dA).sum() + penalty
        return float(curvature + problem.bias_decay * db.square().sum()) if free else float(curvature)

    @property
    def bias_gradient(self) -> Tensor:
        """Gradient of Phi in b; zero where there is no bias."""
        bias = self.problem.bias_decay
        return torch.zeros_like(self.b) if bias == float("inf") else self.G @ self.multiplicity.sqrt() + bias * self.b
