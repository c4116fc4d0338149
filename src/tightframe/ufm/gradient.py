"""`FreeGradient`: the gradient in W, H and b as they are, made for many small steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.ufm.loss import Loss, Targets, one_hot
from tightframe.ufm.losses import CrossEntropy, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures


class FreeGradient:
    """W, H and b as views of one vector `variables`, and the gradient of the objective as another.

    No column of H is tied to another, as in the normal form they may be, and nothing is allocated that can be kept.

    Args:
        problem: The model.
        start: Where the variables begin; it is copied.
    """

    in_W: Tensor  # noqa: N815
    in_H: Tensor  # noqa: N815

    def __init__(self, problem: UnconstrainedFeatures, start: Point) -> None:
        self.problem: UnconstrainedFeatures = problem
        self.targets: Tensor = problem.labels.to(start.H.device)
        self.biased: bool = problem.bias != "none"
        parts = [start.W, start.H, *([start.b] if self.biased else [])]
        self.variables: Tensor = torch.cat([part.flatten() for part in parts])
        self.values: Tensor = torch.empty_like(self.variables)
        self.W, self.H, *bias = self._views(self.variables)
        self.in_W, self.in_H, *in_bias = self._views(self.values)
        self.b: Tensor = bias[0] if bias else start.b
        self.in_b: Tensor | None = in_bias[0] if in_bias else None
        self.slopes: Callable[[Tensor], Tensor] = _slopes(
            problem.loss, self.W.new_empty(problem.classes, problem.samples), self.targets
        )

    @property
    def point(self) -> Point:
        """A copy of where the variables are."""
        return Point(self.W.clone(), self.H.clone(), self.b.clone())

    def everywhere(self) -> Tensor:
        """Gradient of the objective."""
        problem, (in_W, in_H) = self.problem, self.problem.weight_decay
        logits = torch.addmm(self.b[:, None], self.W, self.H) if self.biased else self.W @ self.H
        R, share = self.slopes(logits), 1 / problem.samples
        torch.addmm(self.W, R, self.H.T, beta=in_W, alpha=share, out=self.in_W)
        torch.addmm(self.H, self.W.T, R, beta=in_H, alpha=share, out=self.in_H)
        if self.biased:
            torch.add(R.sum(1).mul_(share), self.b, alpha=problem.bias_decay, out=self.in_b)
        return self.values

    def at(self, batch: Tensor) -> Tensor:
        """Unbiased estimate of it from the samples of a batch."""
        problem, (in_W, in_H) = self.problem, self.problem.weight_decay
        H, share = self.H[:, batch], 1 / len(batch)
        R = problem.loss.gradient(self.W @ H + self.b[:, None], self.targets[batch])
        torch.addmm(self.W, R, H.T, beta=in_W, alpha=share, out=self.in_W)
        columns = torch.addmm(H, self.W.T, R, beta=in_H * problem.samples * share, alpha=share)
        self.in_H.zero_().index_copy_(1, batch, columns)
        if self.biased:
            torch.add(R.sum(1).mul_(share), self.b, alpha=problem.bias_decay, out=self.in_b)
        return self.values

    def _views(self, vector: Tensor) -> list[Tensor]:
        problem = self.problem
        shapes = [(problem.classes, problem.features), (problem.features, problem.samples), (problem.classes,)]
        shapes = shapes if self.biased else shapes[:2]
        parts = torch.split(vector, [math.prod(shape) for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _slopes(loss: Loss, like: Tensor, targets: Targets) -> Callable[[Tensor], Tensor]:
    """Gradient of a loss in the logits of all samples, with what does not change computed once."""
    if isinstance(loss, SquaredError):
        wanted = loss.target * one_hot(like, targets)
        weights = 1 + (loss.scale - 1) * one_hot(like, targets)
        return (lambda Z: Z.sub_(wanted)) if loss.scale == 1 else (lambda Z: Z.sub_(wanted).mul_(weights))
    if isinstance(loss, CrossEntropy):
        shares = one_hot(like, targets) * (1 - loss.smoothing) + loss.smoothing / len(like)
        return lambda Z: torch.softmax(Z, dim=0).sub_(shares)
    return lambda Z: loss.gradient(Z, targets)
