"""`DeepUnconstrainedFeatures`: a chain of weight matrices, linear or with ReLU, on features that are free variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.core.typing import Float, Int, Weights
from tightframe.ufm.loss import Loss
from tightframe.ufm.losses import named_loss

Columns = Float[Tensor, "d n"]
Activation = Literal["identity", "relu"]


@dataclass(frozen=True, eq=False)
class DeepPoint:
    """Weights (W_M, ..., W_1), the last layer first, and the free features H_1 (d_1, n)."""

    weights: tuple[Weights, ...]
    H: Columns

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """W_M, ..., W_1, H_1 in the order of their product."""
        return (*self.weights, self.H)


@dataclass(frozen=True, kw_only=True)
class DeepUnconstrainedFeatures:
    r"""The extended unconstrained-features model: M layers of weights on free features, without biases.

    .. math:: f = \tfrac1N \sum_{i=1}^{N} l(z_i, y_i) + \sum_{m=1}^{M} \tfrac{\lambda_m}{2}\|W_m\|_F^2
        + \tfrac{\lambda_H}{2}\|H_1\|_F^2, \qquad
        Z = W_M H_M, \quad H_{m+1} = \sigma(W_m H_m)

    where
        W_M (k, d_M), ..., W_1 (d_2, d_1) are the weights, H_1 (d_1, n) the free features, one column per sample,
        ordered by class, sigma the activation, and L = M + 1 the number of factors.

    Args:
        classes: K, at least 2.
        widths: (d_M, ..., d_1): features of every level, from the one the classifier reads to the free one.
        per_class: Samples per class, one number or one per class, at least 1 each.
        loss: "ce", "ls", "focal", "mse", or a Loss of `tightframe.ufm.losses`.
        decays: (lambda_M, ..., lambda_1, lambda_H), one more than there are widths, all above zero.
        activation: "identity", or "relu" after every layer but the last.

    Raises:
        InputError: Fewer than two classes, no width, a width or class size below 1, decays of another number or not
            above zero, an unknown loss or activation.

    Example:
        >>> problem = DeepUnconstrainedFeatures(classes=4, widths=(20, 20), per_class=50, decays=(5e-3, 2.5e-3, 1e-5))
        >>> problem.factors, [tuple(factor.shape) for factor in problem.start().factors]
        (3, [(4, 20), (20, 20), (20, 200)])

    Reference: [tirer2022extended], equations 23 and 24; [sukenik2023deep] for any number of layers.
    """

    classes: int
    widths: Sequence[int]
    per_class: int | Sequence[int] = 1
    loss: Loss | str = "mse"
    decays: Sequence[float]
    activation: Activation = "identity"
    counts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        check_count(self.classes, "classes", least=2)
        object.__setattr__(self, "widths", _widths(self.widths))
        object.__setattr__(self, "counts", _counts(self.per_class, self.classes))
        object.__setattr__(self, "decays", _decays(self.decays, len(self.widths) + 1))
        object.__setattr__(self, "loss", named_loss(self.loss))
        if self.activation not in ("identity", "relu"):
            raise InputError(
                'activation is "identity" or "relu"', got=repr(self.activation), remedy="Use one of the two."
            )

    @property
    def layers(self) -> int:
        """M, the number of weight matrices."""
        return len(self.widths)

    @property
    def factors(self) -> int:
        """L = M + 1, the weights and the features."""
        return len(self.widths) + 1

    @property
    def multiplications(self) -> int:
        """Of the largest product of matrices in one evaluation."""
        return max(self.widths) ** 2 * self.samples

    @property
    def samples(self) -> int:
        """N, the number of samples."""
        return sum(self.counts)

    @property
    def balanced(self) -> bool:
        """Whether all classes have equally many samples."""
        return len(set(self.counts)) == 1

    @property
    def linear(self) -> bool:
        """Whether no activation acts: an identity, or a single layer."""
        return self.activation == "identity" or self.layers == 1

    @cached_property
    def labels(self) -> Int[Tensor, " n"]:
        """Class of every column of H_1 (n,), ascending."""
        return torch.repeat_interleave(torch.arange(self.classes), torch.tensor(self.counts))

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes of W_M, ..., W_1, H_1."""
        sizes = (self.classes, *self.widths, self.samples)
        return tuple(pairwise(sizes))

    def start(self, *, seed: int = 0, scale: float | Sequence[float] = 1.0) -> DeepPoint:
        """Normal entries of standard deviation `scale`, one number or one for each of W_M, ..., W_1, H_1."""
        scales = list(scale) if isinstance(scale, Sequence) else [scale] * self.factors
        if len(scales) != self.factors:
            raise InputError(
                f"one scale, or one for each of {self.factors} factors", got=f"{len(scales)}", remedy="Give as many."
            )
        draws = generator(seed)
        *weights, H = (
            size * torch.randn(shape, dtype=torch.float64, generator=draws)
            for size, shape in zip(scales, self.shapes, strict=True)
        )
        return DeepPoint(tuple(weights), H)

    def point(self, weights: Sequence[Tensor], H: Tensor) -> DeepPoint:
        """Check a point and bring it to float64; H_1 has a column per sample, or one per class for equal columns.

        Raises:
            InputError: Another number of weights, shapes that do not fit, NaN or inf.
        """
        names = [*(f"W{m}" for m in range(self.layers, 0, -1)), "H1"]
        given = [*weights, H]
        if len(given) != len(names):
            raise InputError(f"{self.layers} weights", got=f"{len(weights)}", remedy="Give W_M first and W_1 last.")
        for name, shape, value in zip(names, self.shapes, given, strict=True):
            allowed = {shape, (shape[0], self.classes)} if name == "H1" else {shape}
            if not isinstance(value, Tensor) or tuple(value.shape) not in allowed:
                got = str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
                raise InputError(f"{name} is a tensor of shape {shape}", got=got, remedy="See `problem.shapes`.")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{name} is finite", got="NaN or inf", remedy="Start nearer to zero.")
        *weights, H = (value.detach().double() for value in given)
        return DeepPoint(tuple(weights), H)

    def levels(self, point: DeepPoint) -> tuple[Columns, ...]:
        """Features H_1, ..., H_M of every level; the classifier reads the last."""
        found = [point.H]
        for W in reversed(point.weights[1:]):
            found.append(self.activate(W @ found[-1]))
        return tuple(found)

    def activate(self, columns: Columns) -> Columns:
        """sigma of every entry."""
        return columns if self.linear else columns.clamp(min=0)

    def columns(self, H: Columns) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
        """Samples that every column of H_1 stands for (one, or n_k with a column per class), and its class."""
        return self._columns[H.shape[1] != self.samples]

    @cached_property
    def _columns(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        counts = torch.tensor(self.counts, dtype=torch.float64)
        return (torch.ones(self.samples, dtype=torch.float64), self.labels), (counts, torch.arange(self.classes))

    def objective(self, point: DeepPoint) -> float:
        """f at a point."""
        return float(self.value(point, self.levels(point)))

    def gradient(self, point: DeepPoint) -> tuple[Tensor, DeepPoint]:
        """f and its gradient; where a pre-activation is zero, with the derivative 0 of ReLU."""
        levels = self.levels(point)
        return self.value(point, levels), self.slope(point, levels)

    def value(self, point: DeepPoint, levels: Sequence[Columns]) -> Tensor:
        """f at a point whose levels are known."""
        multiplicity, targets = self.columns(point.H)
        value = multiplicity @ self.loss.value(point.weights[0] @ levels[-1], targets) / self.samples
        for decay, W in zip(self.decays, point.weights, strict=False):
            value = value + 0.5 * decay * W.square().sum()
        return value + 0.5 * self.decays[-1] * multiplicity @ point.H.square().sum(0)

    def slope(self, point: DeepPoint, levels: Sequence[Columns]) -> DeepPoint:
        """Gradient of f at a point whose levels are known."""
        multiplicity, targets = self.columns(point.H)
        slopes = self.loss.gradient(point.weights[0] @ levels[-1], targets).mul_(multiplicity / self.samples)
        gradients = []
        for depth, (decay, W) in enumerate(zip(self.decays, point.weights, strict=False)):
            features = levels[-1 - depth]
            gradients.append(torch.addmm(W, slopes, features.T, beta=decay))
            slopes = W.T @ slopes
            if not self.linear and depth < self.layers - 1:
                slopes = slopes.mul_(features > 0)
        return DeepPoint(tuple(gradients), slopes.addcmul_(multiplicity, point.H, value=self.decays[-1]))

    def point_of(self, solution: Solution) -> DeepPoint:
        """The point that a solver found."""
        weights = tuple(solution.variables[f"W{m}"] for m in range(self.layers, 0, -1))
        return DeepPoint(weights, solution.variables["H1"])


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(widths, Sequence) or not widths:
        raise InputError("at least one width", got=repr(widths), remedy="Give (d_M, ..., d_1), for example (20, 20).")
    return tuple(check_count(width, f"widths[{m}]") for m, width in enumerate(widths))


def _counts(per_class: int | Sequence[int], classes: int) -> tuple[int, ...]:
    counts = list(per_class) if isinstance(per_class, Sequence) else [per_class] * classes
    if len(counts) != classes:
        raise InputError(
            f"per_class is one number, or one for each of {classes} classes",
            got=f"{len(counts)} numbers",
            remedy="Give as many as there are classes.",
        )
    return tuple(check_count(count, f"per_class[{k}]") for k, count in enumerate(counts))


def _decays(decays: Sequence[float], factors: int) -> tuple[float, ...]:
    fits = isinstance(decays, Sequence) and len(decays) == factors
    if not fits or not all(0 < value < math.inf for value in decays):
        raise InputError(
            f"decays are {factors} numbers above zero: one per weight, deepest first, and one for the features",
            got=repr(decays),
            remedy="Without decay on every factor the model has no minimum; use for example 5e-3 for each.",
        )
    return tuple(map(float, decays))
