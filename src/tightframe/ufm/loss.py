"""`Loss`: what certificates and solvers need to know of a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from tightframe.core.typing import Float, Int

Logits = Float[Tensor, "k n"]
Targets = Int[Tensor, " n"]
Values = Float[Tensor, " n"]


class Loss(ABC):
    r"""A loss l(z, y) of logits z in R^K (one column per sample) and class y.

    The conjugate is taken in z, for each class,

    .. math:: l^*(u, y) = \sup_z \langle u, z\rangle - l(z, y)

    so that l(z, y) >= <u, z> - l*(u, y) for all z whether or not l is convex: every bound built on it is rigorous.
    """

    name: str
    convex: bool = True
    # Adding a constant to all logits of a sample changes nothing.
    shift_invariant: bool = True

    @abstractmethod
    def value(self, logits: Logits, targets: Targets) -> Values:
        """Loss of every column."""

    @abstractmethod
    def gradient(self, logits: Logits, targets: Targets) -> Logits:
        """Gradient in the logits, column by column."""

    @abstractmethod
    def curvature(self, logits: Logits, targets: Targets, direction: Logits) -> Logits:
        """Hessian in the logits times `direction`, column by column."""

    @abstractmethod
    def total_curvature(self, logits: Logits, targets: Targets, weights: Values) -> Float[Tensor, "k k"]:
        """Weighted sum of the Hessians of all columns."""

    @abstractmethod
    def conjugate(self, slopes: Logits, targets: Targets) -> Values:
        """Conjugate l*(u, y) of every column; inf outside of its domain."""

    @property
    @abstractmethod
    def smoothness(self) -> float:
        """Upper bound on the largest eigenvalue of the Hessian in z."""

    def shrink(self, slopes: Logits, targets: Targets) -> float:
        """Largest s in (0, 1] for which s * slopes, slopes being a gradient, is in the domain of the conjugate."""
        return 1.0

    def margin_within(self, value: float) -> float:
        r"""A number m such that l(z, y) <= value implies max_j z_j - z_y <= m (for losses of differences of logits)."""
        return value


def one_hot(like: Logits, targets: Targets) -> Logits:
    """One-hot columns (k, n) in the type and on the device of `like`."""
    return torch.zeros_like(like).scatter_(0, targets[None], 1.0)


def picked(logits: Logits, targets: Targets) -> Values:
    """The entry at the class of every column."""
    return logits.gather(0, targets[None])[0]


def less_at(columns: Logits, targets: Targets, amount: float) -> Logits:
    """Subtract `amount` at the class of every column, in place."""
    return columns.scatter_add_(0, targets[None], columns.new_full((1, columns.shape[1]), -amount))
