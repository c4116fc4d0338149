"""Completion by the nuclear norm, penalised or exact, on whole matrices: what deep descent is measured against."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.deeplinear.observations import Observations
from tightframe.optimize.proximal import accelerated_proximal_gradient, singular_value_threshold

# Steps between two looks at the gap, each of which takes two more singular value decompositions.
_LOOK = 10
# Residuals of the splitting that differ by more than the one change its scale by the other, this often at most.
_UNEQUAL, _SCALE, _CHANGES = 5.0, 1.5, 30
# Thresholds of a path, each this share of the one before, and how many worse ones end it.
_FALL, _THRESHOLDS, _WORSE = 0.6, 18, 2


@dataclass(frozen=True)
class HeldOutThreshold:
    """What held-out entries say of thresholds.

    Args:
        threshold: lambda of the least error, for all entries.
        errors: Root mean square error of held-out entries by threshold.
    """

    threshold: float
    errors: dict[float, float]


def soft_impute(
    observed: Observations,
    threshold: float,
    *,
    start: Float[Tensor, "m n"] | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
) -> Solution:
    r"""Completion with a nuclear norm penalty.

    .. math:: \min_X\ \tfrac12 \sum_{(i,j) \in \Omega} (X_{ij} - x_{ij})^2 + \lambda \|X\|_*, \qquad
        \mathrm{gap}(X) = P(X) - \langle x, s R \rangle + \tfrac12 \|s R\|^2, \quad
        R = x - X_\Omega,\ s = \min(1, \lambda / \|R\|_2)

    where lambda is `threshold`, P the objective, and R zero where nothing is observed. By singular value thresholding
    with the acceleration of FISTA; the duality gap ends it. A step decomposes an m x n matrix: for large ones use
    `alternating_least_squares` with a ridge, which has the same solution.

    Args:
        observed: Omega and x.
        threshold: lambda, above zero.
        start: Where to begin (m, n); zero by default.
        tolerance: Gap, as a share of the objective at zero.
        max_steps: At most so many.

    Returns:
        Solution with X (m, n), and a certificate of kind "dual gap".

    Raises:
        InputError: A threshold, a tolerance or a number of steps out of range, a start of another shape.
        DegenerateError: Observed entries that are all zero.

    Reference: [mazumder2010spectral]; [cai2010singular] for the thresholding; [beck2009fast] for the acceleration.
    """
    if not 0 < threshold < math.inf:
        raise InputError("a threshold above zero", got=repr(threshold), remedy="Use a share of the top singular value.")
    zero = torch.zeros(observed.shape, dtype=observed.values.dtype, device=observed.values.device)
    if start is not None and (start.shape != zero.shape or start.dtype != zero.dtype):
        got = f"{start.dtype} {tuple(start.shape)}"
        raise InputError(f"a start of {zero.dtype} {tuple(zero.shape)}", got=got, remedy="Pass X of another threshold.")
    level = 0.5 * _square(observed)

    def smooth(point: Tensor) -> tuple[float, Tensor]:
        rest = point[observed.rows, observed.columns] - observed.values
        return 0.5 * float(rest.square().sum()), _scattered(observed, rest)

    def gap(point: Tensor) -> float:
        value, slope = smooth(point)
        share = min(1.0, threshold / max(float(torch.linalg.matrix_norm(slope, 2)), 1e-300))
        dual = -share * float((slope[observed.rows, observed.columns] * observed.values).sum()) - share**2 * value
        return value + threshold * float(torch.linalg.svdvals(point).sum()) - dual

    found = accelerated_proximal_gradient(
        smooth,
        lambda point, step: _penalised(point, step, threshold),
        zero if start is None else start,
        gap=gap,
        step=1.0,
        tolerance=tolerance * level,
        max_iterations=max_steps,
        every=_LOOK,
    )
    return Solution(found.status, found.objective, {"X": found.x}, found.trace, found.certificate)


def threshold_by_held_out(observed: Observations, *, share: float = 0.1, seed: int = 0) -> HeldOutThreshold:
    """The threshold of `soft_impute` by entries held out, along a falling path, each fit from the one before.

    Args:
        observed: Omega and x.
        share: Of the entries to hold out.
        seed: Of the choice of these.

    Returns:
        HeldOutThreshold; for all entries the threshold grows as the root of their number, as what noise adds does.

    Raises:
        InputError: A share outside (0, 1), or too few observations. DegenerateError: Entries that are all zero.
    """
    train, held = observed.split(share, seed=seed)
    errors, worse = {}, 0
    for threshold, X in threshold_path(train):
        rest = X[held.rows, held.columns] - held.values
        errors[threshold] = math.sqrt(float(rest.square().mean()))
        worse = worse + 1 if errors[threshold] > min(errors.values()) else 0
        if worse == _WORSE:
            break
    best = min(errors, key=errors.__getitem__)
    return HeldOutThreshold(best * math.sqrt(len(observed) / len(train)), errors)


def threshold_path(observed: Observations) -> Iterator[tuple[float, Float[Tensor, "m n"]]]:
    """Thresholds of `soft_impute`, falling from the one at which all is zero, and their fits, each from the last.

    Raises:
        DegenerateError: Observed entries that are all zero.
    """
    _square(observed)
    threshold, X = float(torch.linalg.matrix_norm(_scattered(observed, observed.values), 2)), None
    for _ in range(_THRESHOLDS):
        threshold *= _FALL
        X = soft_impute(observed, threshold, start=X, tolerance=1e-4, max_steps=300).X
        yield threshold, X


def least_nuclear_norm(observed: Observations, *, tolerance: float = 1e-6, max_steps: int = 3000) -> Solution:
    r"""The matrix of least nuclear norm with the observed entries.

    .. math:: \min_X\ \|X\|_* \ \ \text{with}\ X_\Omega = x; \qquad
        \mathrm{gap}(X) = \|X\|_* - \langle x, Y \rangle / \max(1, \|Y\|_2)

    By alternating directions, whose scaled multiplier is the dual point Y, zero where nothing is observed; its scale
    follows the residuals of the two constraints. The gap, as a share of the norm, ends it.

    Args:
        observed: Omega and x.
        tolerance: Gap, as a share of the nuclear norm of the point.
        max_steps: At most so many.

    Returns:
        Solution with X (m, n), whose observed entries are x exactly, and a certificate of kind "dual gap".

    Raises:
        InputError: A tolerance or a number of steps out of range. DegenerateError: Observed entries that are all zero.

    Reference: [candes2009exact], program (1.5); [boyd2011distributed], sections 3.4.1 and 6.
    """
    check_count(max_steps, "max_steps")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-6.")
    _square(observed)
    state, trace, began = _Splitting(observed), Trace(), perf_counter()
    status = Status("budget spent", f"all {max_steps} steps taken; raise max_steps or the tolerance")
    for number in range(1, max_steps + 1):
        state.move()
        if number % _LOOK and number < max_steps:
            continue
        norm, gap = state.norm_and_gap()
        trace.record(number, {"objective": norm, "gap": gap, "seconds": perf_counter() - began})
        if gap <= tolerance * norm:
            status = Status("converged", f"the gap is {gap / norm:.1e} of the norm after {number} steps")
            break
        state.rescale()
    certificate = Certificate("dual gap", gap, tolerance * norm, {"relative gap": gap / norm})
    return Solution(status, norm, {"X": state.point}, trace, certificate)


class _Splitting:
    """Alternating directions between the nuclear norm and the observed entries."""

    def __init__(self, observed: Observations) -> None:
        self.observed = observed
        self.point = _scattered(observed, observed.values)
        self.amount = 0.1 * float(torch.linalg.matrix_norm(self.point, 2)) / observed.share
        self.multiplier, self.changes = torch.zeros_like(self.point), 0
        self.residuals = (0.0, 0.0)

    def move(self) -> None:
        low, _ = singular_value_threshold(self.point - self.multiplier, self.amount)
        before, self.point = self.point, low + self.multiplier
        self.point[self.observed.rows, self.observed.columns] = self.observed.values
        apart = low - self.point
        self.multiplier += apart
        self.residuals = (float(apart.norm()), float((self.point - before).norm()))

    def norm_and_gap(self) -> tuple[float, float]:
        """Nuclear norm of the point, and how far it may be above the least."""
        norm = float(torch.linalg.svdvals(self.point).sum())
        Y = self.multiplier / -self.amount
        pairing = float((Y[self.observed.rows, self.observed.columns] * self.observed.values).sum())
        return norm, norm - pairing / max(1.0, float(torch.linalg.matrix_norm(Y, 2)))

    def rescale(self) -> None:
        """Bring the residuals nearer to each other; not for ever, since convergence needs a last scale."""
        primal, dual = self.residuals
        if self.changes == _CHANGES or not max(primal, dual) > _UNEQUAL * min(primal, dual):
            return
        factor = 1 / _SCALE if primal > dual else _SCALE
        self.amount, self.changes = self.amount * factor, self.changes + 1
        self.multiplier *= factor


def _penalised(point: Tensor, step: float, threshold: float) -> tuple[Tensor, float]:
    moved, norm = singular_value_threshold(point, step * threshold)
    return moved, threshold * norm


def _scattered(observed: Observations, values: Tensor) -> Tensor:
    """A matrix with these values at the observed entries and zero elsewhere."""
    matrix = torch.zeros(observed.shape, dtype=values.dtype, device=values.device)
    matrix[observed.rows, observed.columns] = values
    return matrix


def _square(observed: Observations) -> float:
    total = float(observed.values.square().sum())
    if not total > 0:
        raise DegenerateError("observed entries that are not all zero", got="zeros", remedy="There is nothing to fit.")
    return total
