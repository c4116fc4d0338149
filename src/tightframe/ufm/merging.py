"""When classes of equal size merge: minority collapse, its threshold in closed form, and the threshold measured."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.typing import ClassVector, Float, Int
from tightframe.ufm.convex import solve_convex
from tightframe.ufm.losses import CrossEntropy, SquaredError
from tightframe.ufm.model import UnconstrainedFeatures

Square = Float[Tensor, "k k"]

# Outputs that differ by less count as equal. Below the threshold they differ by mu times the relative distance from it.
_EQUAL = 1e-9
# By which factor a bisection looks for its two ends.
_STRIDE = 8.0


def merging_decay(problem: UnconstrainedFeatures) -> ClassVector:
    r"""The value of sqrt(lambda_W lambda_H) from which on a class merges with all others of its size.

    .. math:: \lambda_k = \mu \sqrt{n_k} / N

    where mu is 1 - alpha for cross-entropy smoothed by alpha, and the target M for the squared error. From there on
    classes of equal size n_k have the same logits (columns of Z) and the same classifiers (rows of W) at every
    minimiser with d >= K. Below, their outputs o (probabilities for cross-entropy, logits for the squared error) at a
    sample of class k differ, whatever the bias and the other classes, by

    .. math:: o_k - o_j = (\lambda_k - \sqrt{\lambda_W \lambda_H})\, N / \sqrt{n_k}

    Few small classes merge among large ones where large ones do not: minority collapse.

    Proof: among the matrices whose rows and columns belong to the m classes of one size and sum to zero, the minimiser
    has a multiple of the centring projection, by symmetry, and the gradient of the mean loss has
    -(mu - o_k + o_j) sqrt(n_k)/N times that projection. By the subgradients of the nuclear norm the factor is
    -sqrt(lambda_W lambda_H) where the multiple is above zero, and no larger in size where it is zero.

    Args:
        problem: The model; its decay plays no part.

    Returns:
        One value per class (k,), meaningful where another class has the same size.

    Raises:
        InputError: A focal loss, or a squared error with scale != 1: what merges them depends on the other classes.

    Example:
        >>> problem = UnconstrainedFeatures(classes=4, features=4, per_class=(98, 98, 1, 1))
        >>> [round(float(value), 4) for value in merging_decay(problem)]
        [0.05, 0.05, 0.0051, 0.0051]

    Reference: [hong2023neural] for two sizes and cross-entropy; [fang2021exploring] for the phenomenon.
    """
    loss = problem.loss
    if isinstance(loss, CrossEntropy):
        slope = 1 - loss.smoothing
    elif isinstance(loss, SquaredError) and loss.scale == 1:
        slope = loss.target
    else:
        raise InputError(
            "cross-entropy, smoothed or not, or the squared error with scale 1",
            got=loss.name,
            remedy="Find the threshold with measured_merging_decay.",
        )
    return slope * torch.tensor(problem.counts, dtype=torch.float64).sqrt() / problem.samples


def separation(problem: UnconstrainedFeatures, Z: Square, b: ClassVector) -> float:
    r"""How far apart the smallest classes are, in the outputs o of the loss; zero where they have merged.

    .. math:: \frac{1}{m} \sum_{k \in S} \Big( o_k(k) - \frac{1}{m-1} \sum_{j \in S, j \ne k} o_j(k) \Big)

    where S holds the m classes of the smallest size and o(k) is softmax(Z_k + b) for losses of probabilities, Z_k + b
    for the squared error.

    Args:
        problem: The model.
        Z: Logits (k, k), a column for the mean of every class, without the bias.
        b: Bias (k,).

    Raises:
        InputError: Only one class has the smallest size, or shapes that do not fit the problem.

    Example:
        >>> problem = UnconstrainedFeatures(
        ...     classes=4, features=4, per_class=(98, 98, 1, 1), weight_decay=(0.006, 0.006))
        >>> found = solve_convex(problem)
        >>> bool(abs(separation(problem, found.Z, found.b)) < 1e-9)
        True
    """
    own, classes = _smallest(problem), problem.classes
    if Z.shape != (classes, classes) or b.shape != (classes,):
        raise InputError(
            f"Z of shape {(classes, classes)} and b of shape {(classes,)}",
            got=f"{tuple(Z.shape)} and {tuple(b.shape)}",
            remedy="Pass one column of logits per class.",
        )
    outputs = Z + b[:, None]
    if problem.loss.shift_invariant:
        outputs = torch.softmax(outputs, dim=0)
    block = outputs[own][:, own]
    trace = float(block.diagonal().sum())
    return (trace - (float(block.sum()) - trace) / (len(own) - 1)) / len(own)


def measured_merging_decay(problem: UnconstrainedFeatures, *, precision: float = 1e-6) -> float:
    """The decay from which on the smallest classes merge, by bisection over solutions of the convex program.

    It uses no formula for the threshold, only that classes merged at a decay stay so at a larger one.

    Args:
        problem: The model; its decay plays no part.
        precision: Relative width of the interval at which to stop.

    Returns:
        The geometric middle of the last interval.

    Raises:
        InputError: Only one class has the smallest size, a precision that is not above zero, a loss that is not convex.

    Example:
        >>> problem = UnconstrainedFeatures(classes=4, features=4, per_class=(9, 9, 1, 1), loss="mse")
        >>> round(measured_merging_decay(problem, precision=1e-3) * 20, 2)
        1.0
    """
    if not precision > 0:
        raise InputError("a precision above zero", got=repr(precision), remedy="Use 1e-6.")
    high = 1.0
    while not _merged(problem, high):
        high *= _STRIDE
    low = high / _STRIDE
    while _merged(problem, low):
        low, high = low / _STRIDE, low
    while high / low > 1 + precision:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _merged(problem, middle) else (middle, high)
    return (low * high) ** 0.5


def _merged(problem: UnconstrainedFeatures, decay: float) -> bool:
    problem = replace(problem, weight_decay=(decay, decay))
    found = solve_convex(problem, tolerance=1e-10, subgradient_tolerance=1e-10)
    return separation(problem, found.Z, found.b) <= _EQUAL


def _smallest(problem: UnconstrainedFeatures) -> Int[Tensor, " m"]:
    """The classes of the smallest size."""
    counts = torch.tensor(problem.counts)
    own = (counts == counts.min()).nonzero()[:, 0]
    if len(own) < 2:
        raise InputError(
            "two or more classes of the smallest size",
            got=f"sizes {sorted(problem.counts)[:8]}",
            remedy="A single class has nothing to merge with.",
        )
    return own
