"""The exact finish of a complete dictionary: codes that are small are set to zero, and directions solved for again."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.solution import Outcome, Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.optimize.power import polar_factor

Rows = Float[Tensor, "n d"]
Directions = Float[Tensor, "p d"]

# Median modulus of a standard normal variable.
_MEDIAN = 0.6744897501960817
# Codes below this many deviations of what surrounds zero count as zero.
_DEVIATIONS = 3.5
# Rows that are looked at for that deviation.
_LOOKED_AT = 1000
# A threshold is never below this many times the last change of the direction, nor above this share of the root mean
# square of its codes; and it falls at most by these factors in a step.
_CHANGES, _CEILING, _FASTEST, _SLOWEST = 15.0, 1.2, 0.05, 0.8
# And where the schedule begins: errors along few codes leave most of the others zero, and the median with them.
_BEGINNING = 0.6
# A direction with so many times the median share of codes is looked at again: it may mix two of the others.
_MIXED = 1.4
# Share by which the mean modulus of its codes falls where it did.
_GAINED = 1e-3


def code_noise(codes: Float[Tensor, "n p"]) -> Float[Tensor, " p"]:
    r"""Deviation of the codes around zero, from their median modulus, which sparse large ones hardly move.

    .. math:: \hat\sigma_i = \mathrm{median}_j |x_{ji}| \,/\, 0.6745

    Args:
        codes: (n, p), most of them zero but for noise. All rows, or about 1000 evenly spaced ones.

    Returns:
        (p,).

    Reference: [donoho1994ideal], for noise from a median.
    """
    # A median along rows that lie together in memory takes half the time.
    return codes[:: max(1, len(codes) // _LOOKED_AT)].T.abs().contiguous().median(1).values / _MEDIAN


def projected_thresholding(
    rows: Rows, start: Directions, *, tolerance: float = 1e-2, max_iterations: int = 50
) -> Solution:
    r"""Orthonormal directions and thresholded codes in turn: the orthogonal dictionary that explains the codes best.

    .. math:: X = H(Z Q^\top), \qquad Q \leftarrow U V^\top, \quad X^\top Z = U S V^\top

    with H setting to zero what is below 3.5 deviations of `code_noise`.

    Args:
        rows: Z, whitened (n, d).
        start: Q (p, d), orthonormal rows near those sought.
        tolerance: Length of the longest change at which to stop.
        max_iterations: Steps at most.

    Returns:
        Solution with Q, minus the mean energy of the codes that are kept as its objective, and a trace of "objective",
        "change" and "seconds".

    Raises:
        InputError: A tolerance or number of steps that is not above zero.

    Reference: [lesage2005learning], section 3, for unions of orthonormal bases.
    """
    _check(tolerance, max_iterations)
    trace, begun, Q = Trace(), time.perf_counter(), start
    for step in range(1, max_iterations + 1):
        codes = rows @ Q.T
        codes = torch.where(codes.abs() > _DEVIATIONS * code_noise(codes), codes, 0.0)
        moved = polar_factor(codes.T @ rows)
        longest, energy = torch.linalg.vector_norm(moved - Q, dim=1).amax(), codes.square().sum() / len(rows)
        change, value = (float(number) for number in torch.stack([longest, -energy]).tolist())
        Q = moved
        trace.record(step, {"objective": value, "change": change, "seconds": time.perf_counter() - begun})
        if not change > tolerance:
            break
    return Solution(_status(change, tolerance, step, max_iterations), value, {"Q": Q}, trace)


def thresholded_power(
    rows: Rows,
    start: Directions,
    *,
    tolerance: float | None = None,
    max_iterations: int = 100,
    beginning: float = _BEGINNING,
) -> Solution:
    r"""The directions whose codes are exactly sparse, each on its own, from near ones.

    .. math:: q \leftarrow \frac{q + s}{\|q + s\|}, \qquad
        s = \frac{1}{1 - \theta}\left(\frac{g}{\langle g, q\rangle} - q\right), \qquad
        g = \frac1n \sum_j H_\tau(z_j^\top q)\, z_j

    where
        z_j are the rows, whitened (n, d), H_tau sets to zero what is at most tau, and theta is the share it keeps.

    A direction w for which z^T w is sparse is a fixed point of tau = 0: then g = Z^T Z w / n = w. It need not be
    orthogonal to the others, as those of a finite sample are not. An error e along another code shrinks by theta, the
    share of rows in which both are active, and the factor 1 / (1 - theta) takes that away too, so that what is left of
    it are fluctuations of the order (d / (theta n))^(1/2). The threshold follows the largest of 3.5 deviations of
    `code_noise`, fifteen times the last change, and a schedule that falls no faster than these fluctuations: were it to
    vanish first, any direction would be a fixed point. With exact data it goes to zero, with noisy data it stays above
    the noise.

    Once the threshold is zero a mixture of two such directions is a fixed point, too, with the codes of both. One
    whose share of codes stands out goes once more from a threshold above the smaller of them, and is kept if the mean
    modulus of its codes falls.

    Args:
        rows: Z (n, d) with Z^T Z / n = I.
        start: Q (p, d), unit rows.
        tolerance: Length of the longest change at which to stop; by default 1e-10 in float64, 1e-5 in float32.
        max_iterations: Steps at most.
        beginning: Threshold that the schedule begins with; a small one where the start is known to be nearly exact.

    Returns:
        Solution with Q (p, d), `noise` (p,), the deviation around zero of codes of root mean square one, `density`
        (p,), the share of codes above the last threshold; `moduli` (p,), their mean modulus, and the mean of these as
        its objective; and a trace of "objective", "change", "threshold" and "seconds".

    Raises:
        InputError: Shapes that do not fit, a tolerance or number of steps that is not above zero.

    Reference: [spielman2012exact], for sparsest vectors in the row space; [blumensath2009iterative], for hard
        thresholds within a fixed point.
    """
    tolerance = tolerance if tolerance is not None else 1e-10 if rows.dtype == torch.float64 else 1e-5
    _check(tolerance, max_iterations)
    if rows.ndim != 2 or start.ndim != 2 or rows.shape[1] != start.shape[1]:
        shapes = f"shapes {tuple(rows.shape)} and {tuple(start.shape)}"
        raise InputError("rows (n, d) and directions (p, d)", got=shapes, remedy="Pass one per row.")
    found = _threshold_schedule(rows, unit_rows(start), tolerance, max_iterations, beginning)
    mixed = found.density > _MIXED * found.density.median()
    left = max_iterations - len(found.trace)
    if left <= 0 or not bool(mixed.any()):
        return found
    return _sparser(rows, found, mixed, _threshold_schedule(rows, found.Q[mixed], tolerance, left, _CEILING))


def _threshold_schedule(rows: Rows, Q: Directions, tolerance: float, max_iterations: int, beginning: float) -> Solution:
    """One fall of the threshold, from `beginning` to its end."""
    trace, begun = Trace(), time.perf_counter()
    samples, dimension = rows.shape
    schedule, change, step = Q.new_full((len(Q),), beginning), math.inf, 0
    while step < max_iterations and change > tolerance:
        step += 1
        codes = rows @ Q.T
        noise = code_noise(codes)
        threshold = torch.maximum(_DEVIATIONS * noise, schedule).clamp_max(_CEILING)
        value = codes.abs().mean()
        kept = codes.abs() > threshold
        density = kept.to(codes).mean(0)
        slopes = torch.where(kept, codes, 0.0).T @ rows
        gains = (slopes * Q).sum(1, keepdim=True).clamp_min(torch.finfo(Q.dtype).tiny)
        moves = (slopes / gains - Q) / (1 - density[:, None]).clamp_min(0.5)
        Q = unit_rows(Q + moves)
        changes = torch.linalg.vector_norm(moves, dim=1)
        slowly = (dimension / (density * samples).clamp_min(1)).sqrt().clamp(_FASTEST, _SLOWEST)
        schedule = torch.maximum(_CHANGES * changes, schedule * slowly)
        numbers = torch.stack([value, changes.amax(), threshold.amax()]).tolist()
        change = numbers[1]
        seconds = time.perf_counter() - begun
        trace.record(step, {"objective": numbers[0], "change": change, "threshold": numbers[2], "seconds": seconds})
    codes = rows @ Q.T
    moduli = codes.abs().mean(0)
    found = {"Q": Q, "noise": code_noise(codes), "density": density, "moduli": moduli}
    return Solution(_status(change, tolerance, step, max_iterations), float(moduli.mean()), found, trace)


def _sparser(rows: Rows, first: Solution, mixed: Tensor, second: Solution) -> Solution:
    """The first solution, with those of the second, found for `mixed`, whose codes have the smaller mean modulus."""
    places = mixed.nonzero()[:, 0]
    better = second.moduli < first.moduli[places] * (1 - _GAINED)
    variables = {name: values.clone() for name, values in first.variables.items()}
    for name, values in variables.items():
        values[places[better]] = second.variables[name][better]
    steps, seconds = len(first.trace), first.trace["seconds"][-1]
    for row in second.trace:
        values = {name: number for name, number in row.items() if name != "step"}
        first.trace.record(steps + int(row["step"]), values | {"seconds": seconds + row["seconds"]})
    status = second.status if bool(better.any()) and not second.status.converged else first.status
    return Solution(status, float(variables["moduli"].mean()), variables, first.trace)


def _check(tolerance: float, budget: int) -> None:
    check_count(budget, "max_iterations")
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-10.")


def _status(change: float, tolerance: float, step: int, budget: int) -> Status:
    found = f"the directions changed by {change:.2e} at most, asked was {tolerance:.1e}"
    outcome: Outcome = "budget spent"
    if change <= tolerance:
        return Status("converged", f"{found}, after {step} steps")
    if not math.isfinite(change):
        outcome, found = "diverged", f"{found}; whiten the rows, and start nearer"
    else:
        found += f", after {budget} steps: the codes may be too dense or the rows too few; else raise max_iterations"
    return Status(outcome, found)
