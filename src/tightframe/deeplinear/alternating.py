"""Alternating least squares on observed entries: precise where the rank is right, and regularised where it is not."""

from __future__ import annotations

import math
from time import perf_counter

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.deeplinear.observations import Observations

# Numbers held at a time in the normal equations of a block of rows.
_EQUATIONS = 1 << 22
# Sweeps between which progress is judged.
_PATIENCE = 5
# Roundings to which the observed entries can be fitted, and those that a normal matrix may be short of being definite.
_ROUNDINGS, _INDEFINITE = 16, 100


def alternating_least_squares(
    observed: Observations,
    left: Float[Tensor, "m r"],
    right: Float[Tensor, "n r"],
    *,
    ridge: float = 0.0,
    tolerance: float = 1e-8,
    progress: float = 1e-4,
    max_sweeps: int = 500,
    acceleration: float = 0.8,
) -> Solution:
    r"""Fit one factor with the other fixed, in turn, with extrapolation.

    .. math:: \min_{A, B}\ \tfrac12 \sum_{(i,j) \in \Omega} (a_i^\top b_j - x_{ij})^2
        + \tfrac\lambda2 \big(\|A\|_F^2 + \|B\|_F^2\big)

    where A (m, r) and B (n, r) begin at `left` and `right`, and lambda is `ridge`.

    A sweep costs O(|Omega| r^2 + (m + n) r^3). With lambda above zero and r at least the rank of its solution the
    minimum is that of the nuclear norm times lambda (soft-impute converges to the same). Without, it needs the rank:
    at twice the rank it fits the observed entries and little else.

    Args:
        observed: Omega and x.
        left: Start of A; only its column space matters where lambda is zero.
        right: Start of B, which is fitted second.
        ridge: lambda, at least 0; a hundred roundings of the normal equations' mean diagonal are added besides, for
            rows with fewer entries than r.
        tolerance: Relative residual of the observed entries at which the fit counts as exact; see `attainable`.
        progress: Relative decrease of the objective over five sweeps below which it counts as converged.
        max_sweeps: At most so many.
        acceleration: In [0, 1): sweep k begins at B extrapolated by this times k / (k + 3) of its last change, or at B
            itself where the objective has risen. It halves the sweeps or better where they are many; 0 is plain.

    Returns:
        Solution with A and B; `residual` in its trace is relative.

    Raises:
        InputError: A ridge below zero, factors that do not fit.

    Reference: [hastie2015matrix], section 3; [srebro2005maximum], lemma 1 for the nuclear norm.
    """
    check_count(max_sweeps, "max_sweeps")
    if not 0 <= ridge < math.inf:
        raise InputError("a ridge of at least zero", got=repr(ridge), remedy="Use 0 where the rank is known.")
    if not 0 <= acceleration < 1:
        raise InputError("an acceleration in [0, 1)", got=repr(acceleration), remedy="Use 0.8, or 0 for none.")
    if (len(left), len(right)) != observed.shape or left.shape[1] != right.shape[1]:
        raise InputError(
            f"factors of {observed.shape[0]} and {observed.shape[1]} rows with as many columns",
            got=f"{tuple(left.shape)} and {tuple(right.shape)}",
            remedy="Start from a singular value decomposition.",
        )
    across, trace, began = observed.transposed, Trace(), perf_counter()
    tolerance = attainable(tolerance, observed.values.dtype)
    norm = float(observed.values.norm())
    status, objectives = Status("budget spent", f"all {max_sweeps} sweeps done; raise max_sweeps"), []
    ahead = right
    for sweep in range(1, max_sweeps + 1):
        left, before = _fitted(observed, ahead, ridge), right
        right = _fitted(across, left, ridge)
        residual = float((observed.entries(left, right) - observed.values).norm())
        penalty = float(left.square().sum() + right.square().sum()) if ridge else 0.0
        objectives.append(0.5 * residual**2 + 0.5 * ridge * penalty)
        relative = residual / norm if norm else 0.0
        trace.record(sweep, {"objective": objectives[-1], "residual": relative, "seconds": perf_counter() - began})
        ended = _judged(objectives, relative, tolerance, progress)
        if ended is not None:
            status = ended
            break
        falls = len(objectives) < 2 or objectives[-1] <= objectives[-2]
        ahead = torch.lerp(before, right, 1 + acceleration * sweep / (sweep + 3)) if falls else right
    return Solution(status, objectives[-1], {"A": left, "B": right}, trace)


def attainable(tolerance: float, dtype: torch.dtype) -> float:
    """This relative residual, or sixteen roundings where that is more: 2e-6 for float32, 4e-15 for float64."""
    return max(tolerance, _ROUNDINGS * torch.finfo(dtype).eps)


def _judged(objectives: list[float], relative: float, tolerance: float, progress: float) -> Status | None:
    now = objectives[-1]
    if not math.isfinite(now):
        return Status("diverged", "values left the numbers; raise the ridge")
    if relative <= tolerance:
        return Status("converged", f"observed entries are fitted to {relative:.1e}")
    before = objectives[-1 - _PATIENCE] if len(objectives) > _PATIENCE else math.inf
    if abs(before - now) <= progress * now:
        return Status("converged", f"the objective has settled, with a relative residual of {relative:.1e}")
    return None


def _fitted(observed: Observations, fixed: Tensor, ridge: float) -> Tensor:
    """The least squares fit of every row, given the other factor."""
    rank = fixed.shape[1]
    out = observed.times(observed.values, fixed)
    upper = torch.triu_indices(rank, rank, device=fixed.device)
    pairs = fixed[:, upper[0]] * fixed[:, upper[1]]
    size, jitter = max(1, _EQUATIONS // rank**2), _INDEFINITE * torch.finfo(fixed.dtype).eps
    for first in range(0, len(out), size):
        last = min(first + size, len(out))
        sums = observed.sums(pairs, first, last)
        normal = fixed.new_empty(last - first, rank, rank)
        normal[:, upper[0], upper[1]] = sums
        normal[:, upper[1], upper[0]] = sums
        diagonal = normal.diagonal(dim1=1, dim2=2)
        # A row without entries has a normal matrix of zeros, which the smallest number makes invertible.
        added = (ridge + jitter * diagonal.mean(1, keepdim=True)).clamp_min(torch.finfo(fixed.dtype).tiny)
        diagonal += added
        factor = torch.linalg.cholesky_ex(normal).L
        solved = torch.cholesky_solve(out[first:last].unsqueeze(2), factor)
        if fixed.dtype == torch.float32:
            # A hundred roundings are a ridge of 1e-5 here; a step of refinement leaves the square of that.
            solved = solved + torch.cholesky_solve((added - ridge).unsqueeze(2) * solved, factor)
        out[first:last] = solved.squeeze(2)
    return out
