"""The losses: cross-entropy with label smoothing, focal loss, squared error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tightframe.core.errors import InputError
from tightframe.ufm.loss import Logits, Loss, Targets, Values, less_at, one_hot, picked

# Entries this far below zero are rounding of the sums that make up a distribution.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class CrossEntropy(Loss):
    r"""Cross-entropy with label smoothing.

    .. math:: l(z, y) = \log \sum_j e^{z_j} - \langle q, z\rangle, \qquad
        q = (1-\alpha) e_y + \tfrac{\alpha}{K}\mathbf 1

    with conjugate sum_j p_j log p_j at p = u + q in the simplex.

    Args:
        smoothing: alpha in [0, 1), as `label_smoothing` of torch.nn.CrossEntropyLoss. The form that puts alpha'/(K-1)
            on each other class is alpha = alpha' K/(K-1).

    Reference: [zhou2022all].
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise InputError("smoothing in [0, 1)", got=repr(self.smoothing), remedy="Use 0.1, or 0 for plain CE.")

    @property
    def name(self) -> str:
        """How tables and messages call it."""
        return "cross-entropy" if self.smoothing == 0 else f"label smoothing {self.smoothing:g}"

    @property
    def smoothness(self) -> float:
        """Upper bound on the largest eigenvalue of the Hessian."""
        return 0.5

    def value(self, logits: Logits, targets: Targets) -> Values:
        """Loss of every column."""
        # As a sum of -log p over the classes, so that no digits cancel where p_y is near 1.
        own = picked(logits, targets)
        value = torch.logsumexp(logits - own, dim=0)
        if self.smoothing:
            value = value - self.smoothing * (logits - own).mean(0)
        return value

    def gradient(self, logits: Logits, targets: Targets) -> Logits:
        """Gradient in the logits, column by column."""
        return less_at(torch.softmax(logits, dim=0), targets, 1 - self.smoothing).sub_(self.smoothing / len(logits))

    def curvature(self, logits: Logits, targets: Targets, direction: Logits) -> Logits:
        """Hessian in the logits times `direction`, column by column."""
        shares = torch.softmax(logits, dim=0)
        product = shares * direction
        return product - shares * product.sum(0)

    def total_curvature(self, logits: Logits, targets: Targets, weights: Values) -> Tensor:
        """Weighted sum of the Hessians of all columns."""
        shares = torch.softmax(logits, dim=0)
        return torch.diag(shares @ weights) - (shares * weights) @ shares.T

    def conjugate(self, slopes: Logits, targets: Targets) -> Values:
        """Conjugate of every column."""
        shares = less_at(slopes + self.smoothing / len(slopes), targets, self.smoothing - 1)
        entropy = torch.xlogy(shares.clamp(min=0), shares.clamp(min=0)).sum(0)
        outside = (shares.amin(0) < -_ROUNDING) | (slopes.sum(0).abs() > _ROUNDING * len(slopes))
        return entropy.masked_fill(outside, torch.inf)

    def margin_within(self, value: float) -> float:
        """Bound on max_j z_j - z_y where the loss is at most `value`."""
        # l >= (1 - alpha) (-log p_y), and -log p_y >= max_j z_j - z_y.
        return value / (1 - self.smoothing)


@dataclass(frozen=True)
class Focal(Loss):
    r"""Focal loss.

    .. math:: l(z, y) = -(1-p_y)^\gamma \log p_y = \psi(m), \qquad m = z_y - \log\sum_{j\ne y} e^{z_j}

    with psi(m) = (1 - s)^gamma log(1 + e^{-m}), s the logistic function of m. It is not convex in the logits where p_y
    is small. Its conjugate is sum_{j != y} u_j log(u_j/S) + psi*(-S) with S = -u_y, finite for 0 <= S <= 1.

    Args:
        gamma: At least 0; 0 is cross-entropy.

    Reference: [lin2017focal]; [zhou2022all] for its collapse.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < float("inf"):
            raise InputError("a finite gamma of at least 0", got=repr(self.gamma), remedy="Use 2, the usual value.")

    @property
    def name(self) -> str:
        """How tables and messages call it."""
        return f"focal {self.gamma:g}"

    @property
    def convex(self) -> bool:
        """Only where gamma is 0."""
        return self.gamma == 0

    @property
    def smoothness(self) -> float:
        """Upper bound on the largest eigenvalue of the Hessian."""
        # |psi''| <= p q^gamma (gamma^2 p L + gamma q L + (2 gamma + 1) q) with p L <= 1/e; |psi'| <= 1 + gamma/e.
        curvature = self.gamma**2 / 4 + self.gamma / 2.718281828459045 + (2 * self.gamma + 1) / 4
        return 2 * curvature + (1 + self.gamma / 2.718281828459045) / 2

    def value(self, logits: Logits, targets: Targets) -> Values:
        """Loss of every column."""
        return self.of_margin(self._margin(logits, targets)[0])

    def gradient(self, logits: Logits, targets: Targets) -> Logits:
        """Gradient in the logits, column by column."""
        margin, toward = self._margin(logits, targets)
        return self.slope(margin) * toward

    def curvature(self, logits: Logits, targets: Targets, direction: Logits) -> Logits:
        """Hessian in the logits times `direction`, column by column."""
        margin, toward = self._margin(logits, targets)
        others = one_hot(logits, targets) - toward
        along = (toward * direction).sum(0)
        spread = others * direction - others * (others * direction).sum(0)
        return self.bend(margin) * along * toward - self.slope(margin) * spread

    def total_curvature(self, logits: Logits, targets: Targets, weights: Values) -> Tensor:
        """Weighted sum of the Hessians of all columns."""
        margin, toward = self._margin(logits, targets)
        others = one_hot(logits, targets) - toward
        slopes = -weights * self.slope(margin)
        spread = torch.diag(others @ slopes) - (others * slopes) @ others.T
        return (toward * (weights * self.bend(margin))) @ toward.T + spread

    def conjugate(self, slopes: Logits, targets: Targets) -> Values:
        """Conjugate of every column."""
        total = -picked(slopes, targets)
        others = slopes.masked_fill(one_hot(slopes, targets) > 0, 0.0)
        share = others.clamp(min=0)
        entropy = (torch.xlogy(share, share)).sum(0) - torch.xlogy(share.sum(0), share.sum(0))
        outside = (others.amin(0) < -_ROUNDING) | (slopes.sum(0).abs() > _ROUNDING * len(slopes)) | (total > 1)
        margin = self.margin_at(total.clamp(0, 1))
        # Where S = 0 the supremum is 0, in the limit of a large margin.
        along = torch.where(total > 0, -total * margin - self.of_margin(margin), 0.0)
        return (entropy + along).masked_fill(outside, torch.inf)

    def shrink(self, slopes: Logits, targets: Targets) -> float:
        """Largest s in (0, 1] that brings the slopes into the domain of the conjugate."""
        return 1.0 / max(1.0, float((-picked(slopes, targets)).max()) * (1 + 1e-15))

    def margin_within(self, value: float) -> float:
        """Bound on max_j z_j - z_y where the loss is at most `value`."""
        # psi falls; found on the doubled grid, which is enough for a bound.
        if not value < float("inf"):
            return float("inf")
        margin = -1.0
        while float(self.of_margin(torch.tensor(margin, dtype=torch.float64))) <= value:
            margin *= 2
        return -margin

    def of_margin(self, margin: Tensor) -> Tensor:
        """psi(m)."""
        return torch.sigmoid(-margin) ** self.gamma * -logsigmoid(margin)

    def slope(self, margin: Tensor) -> Tensor:
        """psi'(m), below zero."""
        p, q, log = torch.sigmoid(margin), torch.sigmoid(-margin), -logsigmoid(margin)
        return -(q**self.gamma) * (self.gamma * p * log + q)

    def bend(self, margin: Tensor) -> Tensor:
        """psi''(m); negative where p is small."""
        p, q, log = torch.sigmoid(margin), torch.sigmoid(-margin), -logsigmoid(margin)
        g = self.gamma
        return p * q**g * (g * g * p * log - g * q * log + (2 * g + 1) * q)

    def margin_at(self, slope: Tensor) -> Tensor:
        """The margin m with psi'(m) = -slope, for slopes in (0, 1): the global maximiser of -slope m - psi(m).

        psi' falls from -1 to its minimum and then rises to 0: each such slope occurs once, right of the minimum.
        """
        low, high = torch.full_like(slope, -60.0), torch.full_like(slope, 60.0)
        for _ in range(80):
            middle = (low + high) / 2
            steeper = self.slope(middle) < -slope
            # Left of the minimum of psi' a slope between -1 and 0 does not occur, so "steeper" means: go right.
            low, high = torch.where(steeper, middle, low), torch.where(steeper, high, middle)
        return (low + high) / 2

    def _margin(self, logits: Logits, targets: Targets) -> tuple[Values, Logits]:
        """Margins m, and their gradients e_y - r with r the softmax over the other classes."""
        here = one_hot(logits, targets)
        others = logits.masked_fill(here > 0, -torch.inf)
        margin = picked(logits, targets) - torch.logsumexp(others, dim=0)
        return margin, here - torch.softmax(others, dim=0)


@dataclass(frozen=True)
class SquaredError(Loss):
    r"""(Rescaled) squared error.

    .. math:: l(z, y) = \tfrac12 \Big[\kappa (z_y - M)^2 + \sum_{j \ne y} z_j^2\Big]

    Args:
        scale: kappa > 0, weight of the true class.
        target: M > 0, target of the true class.

    Reference: [hui2021evaluation]; scale = target = 1 is the loss of [tirer2022extended].
    """

    scale: float = 1.0
    target: float = 1.0
    shift_invariant = False

    def __post_init__(self) -> None:
        if not (0 < self.scale < float("inf") and 0 < self.target < float("inf")):
            raise InputError(
                "finite scale and target above 0",
                got=f"scale={self.scale}, target={self.target}",
                remedy="Use 1 for both.",
            )

    @property
    def name(self) -> str:
        """How tables and messages call it."""
        plain = self.scale == self.target == 1
        return "squared error" if plain else f"squared error, scale {self.scale:g}, target {self.target:g}"

    @property
    def smoothness(self) -> float:
        """Upper bound on the largest eigenvalue of the Hessian."""
        return max(1.0, self.scale)

    def value(self, logits: Logits, targets: Targets) -> Values:
        """Loss of every column."""
        return 0.5 * (self._weights(logits, targets) * self._residual(logits, targets).square()).sum(0)

    def gradient(self, logits: Logits, targets: Targets) -> Logits:
        """Gradient in the logits, column by column."""
        return self._weights(logits, targets) * self._residual(logits, targets)

    def curvature(self, logits: Logits, targets: Targets, direction: Logits) -> Logits:
        """Hessian in the logits times `direction`, column by column."""
        return self._weights(logits, targets) * direction

    def total_curvature(self, logits: Logits, targets: Targets, weights: Values) -> Tensor:
        """Weighted sum of the Hessians of all columns."""
        return torch.diag(self._weights(logits, targets) @ weights)

    def conjugate(self, slopes: Logits, targets: Targets) -> Values:
        """Conjugate of every column."""
        square = (slopes.square() / self._weights(slopes, targets)).sum(0)
        return 0.5 * square + self.target * picked(slopes, targets)

    def _weights(self, like: Logits, targets: Targets) -> Logits:
        return 1 + (self.scale - 1) * one_hot(like, targets)

    def _residual(self, logits: Logits, targets: Targets) -> Logits:
        return less_at(logits.clone(), targets, self.target)


_NAMED = {"ce": CrossEntropy(), "ls": CrossEntropy(0.1), "focal": Focal(), "mse": SquaredError()}


def named_loss(loss: str | Loss) -> Loss:
    """A loss by name: "ce", "ls" (smoothing 0.1), "focal" (gamma 2), "mse"; a Loss is returned as it is."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in _NAMED:
        raise InputError(
            "a loss of this model",
            got=repr(loss),
            remedy=f"Use {', '.join(map(repr, _NAMED))}, or CrossEntropy(smoothing), Focal(gamma), "
            "SquaredError(scale, target).",
        )
    return _NAMED[loss]
