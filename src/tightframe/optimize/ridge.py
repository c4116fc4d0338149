"""Least squares on one-hot rows with weight decay, in closed form along the principal axes of the features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.typing import ClassVector, Features, Float, Labels, Weights

GAP = 1e-9


@dataclass(frozen=True)
class Principal:
    """Features about their mean, in units of their radius, along their principal axes: the coordinates of a solve.

    Args:
        rows: (n, r) with r = min(n, d), float64.
        variances: (r,), mean squares of the columns of `rows`, which are orthogonal.
        axes: (d, r) with orthonormal columns.
        mean: (d,).
        radius: Root mean square distance of the features from their mean; 1 where all are equal.
    """

    rows: Float[Tensor, "n r"]
    variances: Float[Tensor, " r"]
    axes: Float[Tensor, "d r"]
    mean: Float[Tensor, " d"]
    radius: float

    def map(self, weight: Float[Tensor, "r k"], bias: ClassVector) -> tuple[Weights, ClassVector]:
        """W (k, d) and b (k,) on the features themselves, from weights (r, k) and bias (k,) on `rows`."""
        full = (self.axes @ weight).T / self.radius
        return full, bias - full @ self.mean


def principal(features: Features) -> Principal:
    """The principal coordinates of features (n, d)."""
    mean = features.mean(0, dtype=torch.float64)
    centred = features - mean
    # One number leaves the device; a solve needs many.
    radius = float(torch.linalg.vector_norm(centred)) / math.sqrt(len(features)) or 1.0
    centred /= radius
    n, d = centred.shape
    # The optimum lies in the span of the samples, so that no more than n coordinates matter.
    span = torch.linalg.qr(centred.T).Q if n < d else None
    inside = centred if span is None else centred @ span
    variances, turn = torch.linalg.eigh(inside.T @ inside / n)
    axes = turn if span is None else span @ turn
    return Principal(inside @ turn, variances.clamp(min=0.0), axes, mean, radius)


def ridge(features: Principal, labels: Labels, classes: int, *, decay: float) -> Solution:
    r"""The least squares classifier with weight decay.

    .. math:: \min_{W, b}\ \frac{1}{2n} \sum_i \| W h_i + b - e_{y_i} \|^2 + \frac\lambda2 \|W\|_F^2

    Along a principal axis of variance s_j every weight is (s_j + lambda)^{-1} times its covariance with the class.

    Args:
        features: Principal coordinates of the features.
        labels: (n,), int64 in [0, k).
        classes: k.
        decay: lambda > 0.

    Returns:
        Solution with W (k, d), b (k,) and decay, float64; the certificate's gap follows from strong convexity.
    """
    penalty = decay / features.radius**2
    targets = one_hot(labels, classes).double()
    bias = targets.mean(0)
    targets = targets - bias
    curvature = (features.variances + penalty)[:, None]
    weight = features.rows.T @ targets / len(labels) / curvature
    # The axes are orthogonal up to rounding; a step with the exact gradient removes what that leaves.
    weight = weight - _gradient(features.rows, targets, weight, penalty) / curvature
    size = float(torch.linalg.vector_norm(_gradient(features.rows, targets, weight, penalty)))
    errors = features.rows @ weight - targets
    value = float(0.5 * errors.square().sum() / len(labels) + 0.5 * penalty * weight.square().sum())
    evidence = {"gradient": size, "decay": decay}
    certificate = Certificate("strong convexity", size**2 / (2 * penalty), GAP, evidence)
    status = Status("converged", f"closed form, gradient {size:.1e}")
    if not certificate.holds:
        status = Status("stalled", f"gradient {size:.1e}, which is large for this decay; raise decay")
    trace = Trace()
    trace.record(0, {"objective": value, "gradient": size})
    matrix, offset = features.map(weight, bias)
    return Solution(status, value, {"W": matrix, "b": offset, "decay": matrix.new_tensor(decay)}, trace, certificate)


def _gradient(rows: Tensor, targets: Tensor, weight: Tensor, penalty: float) -> Tensor:
    return rows.T @ (rows @ weight - targets) / len(rows) + penalty * weight
