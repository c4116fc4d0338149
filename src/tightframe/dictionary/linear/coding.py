"""Sparse codes of samples in a dictionary, and a dictionary that is solved for again from its codes."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float

Rows = Float[Tensor, "n d"]
Atoms = Float[Tensor, "p d"]
Codes = Float[Tensor, "n p"]

# Penalty to begin with, as a share of the typical largest correlation; how fast it falls; deviations of the residual,
# and changes of the atoms in units of their codes, that it stays above.
_FIRST, _FALL, _DEVIATIONS, _CHANGES = 0.4, 0.8, 3.0, 10.0
# Rows with more than this many times the median squared residual are left out: their codes are wrong.
_OUTLYING = 4.0
# A dictionary that moves by less than this share of what the noise leaves uncertain has settled.
_SETTLED = 0.2
# Codes below this share of the penalty are left out of least squares: they make up for errors of the atoms.
_KEPT = 0.5
_RIDGE = 1e-8


def lasso_codes(
    rows: Rows,
    atoms: Atoms,
    penalty: float | Float[Tensor, "n 1"],
    *,
    start: Codes | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> Codes:
    r"""Sparse codes of all rows at once, by accelerated proximal gradient steps.

    .. math:: \min_x \tfrac12 \|y - A^\top x\|^2 + \lambda \|x\|_1

    Args:
        rows: y (n, d).
        atoms: A (p, d), of the same dtype and device.
        penalty: lambda > 0, one for all or one per row.
        start: Where to begin (n, p); zero by default.
        tolerance: Largest change of a code, relative to the largest code, at which to stop.
        max_iterations: Steps at most.

    Returns:
        x (n, p).

    Raises:
        InputError: A penalty that is not above zero, or shapes that do not fit.

    Example:
        >>> lasso_codes(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).tolist()
        [[2.0, 0.0]]

    Reference: [beck2009fast], section 4.
    """
    check_count(max_iterations, "max_iterations")
    if not bool((torch.as_tensor(penalty) > 0).all()):
        raise InputError("a penalty above zero", got=f"{penalty}", remedy="Use twice the deviation of the noise.")
    if rows.ndim != 2 or atoms.ndim != 2 or rows.shape[1] != atoms.shape[1]:
        shapes = f"shapes {tuple(rows.shape)} and {tuple(atoms.shape)}"
        raise InputError("rows (n, d) and atoms (p, d)", got=shapes, remedy="Pass one per row.")
    gram = atoms @ atoms.T
    curvature = float(torch.linalg.matrix_norm(gram, 2))
    if not curvature > 0:
        return rows.new_zeros(len(rows), len(atoms))
    along, amount = rows @ atoms.T / curvature, penalty / curvature
    gram = gram / curvature
    codes = torch.zeros_like(along) if start is None else start
    ahead, age = codes, 1.0
    for step in range(max_iterations):
        moved = torch.addmm(ahead + along, ahead, gram, alpha=-1)
        moved = moved - moved.clamp(-amount, amount)
        later = 0.5 * (1 + math.sqrt(1 + 4 * age**2))
        ahead = torch.lerp(codes, moved, 1 + (age - 1) / later)
        # Looked at now and then: the host waits for the device here.
        ends = step % 10 == 9 and bool((moved - codes).abs().amax() <= tolerance * moved.abs().amax())
        codes, age = moved, later
        if ends:
            break
    return codes


def debiased_codes(rows: Rows, atoms: Atoms, codes: Codes, *, iterations: int = 10) -> Codes:
    r"""Least squares over the support of each code, by conjugate gradients from the code; no other entry changes.

    .. math:: \min_x \|y - A^\top x\|^2 \quad\text{where}\quad \mathrm{supp}(x) \subseteq \mathrm{supp}(x_0)

    Args:
        rows: y (n, d).
        atoms: A (p, d).
        codes: x_0 (n, p).
        iterations: Steps; as many as a code has entries are exact.

    Returns:
        x (n, p).

    Example:
        >>> debiased_codes(torch.tensor([[3.0, 0.5]]), torch.eye(2), torch.tensor([[2.0, 0.0]])).tolist()
        [[3.0, 0.0]]
    """
    support, gram, numbers = (codes != 0).to(codes), atoms @ atoms.T, torch.finfo(codes.dtype)
    along, tiny = rows @ atoms.T, numbers.tiny
    residual = support * torch.addmm(along, codes, gram, alpha=-1)
    direction, square = residual, residual.square().sum(1, keepdim=True)
    # Below the rounding of the residual there is nothing left to explain, and quotients of roundings are no steps.
    least = (64 * numbers.eps) ** 2 * along.square().sum(1, keepdim=True) + tiny
    for _ in range(check_count(iterations, "iterations")):
        image = support * (direction @ gram)
        length = square / (direction * image).sum(1, keepdim=True).clamp_min(tiny)
        length = torch.where(square > least, length, 0.0)
        codes = codes + length * direction
        residual = residual - length * image
        before, square = square, residual.square().sum(1, keepdim=True)
        direction = residual + square / before.clamp_min(tiny) * direction
    return codes


def coded_refinement(
    rows: Rows,
    start: Atoms,
    *,
    noise: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 40,
    coding_iterations: int = 30,
) -> Solution:
    r"""A dictionary and its sparse codes in turn, from a near one: for noise, and for more atoms than dimensions.

    .. math:: X \leftarrow \text{least squares on the support of } \arg\min_X \tfrac12\|Y - X A\|_F^2 + \lambda\|X\|_1,
        \qquad A \leftarrow (X^\top X)^{-1} X^\top Y

    The penalty lambda falls by a fifth in each round, but neither below three deviations of the noise nor below ten
    times what the atoms still change: with a smaller one, more atoms than dimensions explain everything, right or
    wrong, and nothing moves any more. Without a given noise, its deviation is that of what the codes leave: where data
    are exact it goes to zero with lambda, and the error of the dictionary to 1e-5 or less, left by rows that a wrong
    support explains as well. Rows with more than four times the median squared residual are left out of the least
    squares. It works where sparse coding does: codes with so many entries that the l1 norm no longer finds them spoil
    the start. Unlike an inverse of the dictionary, codes do not amplify noise where it is ill-conditioned.

    Args:
        rows: Y (n, d).
        start: A (p, d), near the atoms sought.
        noise: sigma, or None to estimate it.
        tolerance: Length of the longest change of a unit atom at which to stop; 1e-9 in float64, 1e-5 in float32. With
            noise a fifth of the typical standard error (sigma^2 d / energy of the codes)^(1/2) is enough.
        max_iterations: Rounds at most.
        coding_iterations: Steps of `lasso_codes` in each, from the codes of the round before.

    Returns:
        Solution with `atoms` (p, d), `density` (p,), `noise` () of the residual, its mean squared length
        as objective, and a trace of "objective", "change", "penalty" and "seconds".

    Raises:
        InputError: Shapes that do not fit, a noise below zero, a tolerance or a number of rounds not above zero.

    Reference: [engan1999method], for least squares on codes; [spielman2012exact], for what can be recovered.
    """
    tolerance = tolerance if tolerance is not None else 1e-9 if rows.dtype == torch.float64 else 1e-5
    check_count(max_iterations, "max_iterations")
    if not tolerance > 0 or not (noise is None or 0 <= noise < math.inf):
        got = f"tolerance={tolerance!r} and noise={noise!r}"
        raise InputError("a tolerance above zero and a noise of at least zero", got=got, remedy="Use 1e-9 and None.")
    trace, begun, atoms = Trace(), time.perf_counter(), unit_rows(start)
    codes = rows.new_zeros(len(rows), len(atoms))
    penalty = _FIRST * float((rows @ atoms.T).abs().amax(1).median())
    if not penalty > 0:
        raise InputError("rows that are not mostly zero", got="a median of zero", remedy="Leave out empty samples.")
    for step in range(1, max_iterations + 1):
        codes = lasso_codes(rows, atoms, penalty, start=codes, max_iterations=coding_iterations)
        explained, numbers, kept = _round(rows, atoms, torch.where(codes.abs() > _KEPT * penalty, codes, 0.0))
        value, left = numbers
        moved = _dictionary(explained, rows, kept, atoms)
        lengths = torch.linalg.vector_norm(moved, dim=1)
        energies = explained.square().sum(0)
        moved, codes = unit_rows(moved), codes * lengths
        change, error = torch.stack(
            [
                torch.linalg.vector_norm(moved - atoms, dim=1).amax(),
                left * (rows.shape[1] / energies.clamp_min(torch.finfo(rows.dtype).tiny)).sqrt().median(),
            ]
        ).tolist()
        atoms, floor = moved, _DEVIATIONS * (float(left) if noise is None else noise)
        seconds = time.perf_counter() - begun
        trace.record(step, {"objective": float(value), "change": change, "penalty": penalty, "seconds": seconds})
        at_floor = penalty <= 1.05 * floor
        if change <= tolerance or (at_floor and change <= _SETTLED * error):
            break
        amplitude = _amplitude(explained)
        penalty = max(_FALL * penalty, min(penalty, max(floor, _CHANGES * change * amplitude)))
    status = _status(change, tolerance, at_floor and change <= _SETTLED * error, step, max_iterations)
    density = (codes != 0).to(codes).mean(0)
    return Solution(status, float(value), {"atoms": atoms, "density": density, "noise": left}, trace)


def _round(rows: Rows, atoms: Atoms, codes: Codes) -> tuple[Codes, tuple[Tensor, Tensor], Tensor]:
    """Codes without bias, zero in rows left out; mean squared residual and its deviation; which rows are kept."""
    codes = debiased_codes(rows, atoms, codes)
    squares = torch.addmm(rows, codes, atoms, alpha=-1).square().sum(1)
    kept = squares <= _OUTLYING * squares.median()
    codes = torch.where(kept[:, None], codes, 0.0)
    freedom = (rows.shape[1] - (codes != 0).sum(1)).clamp_min(1)
    left = (squares / freedom).median().sqrt()
    return codes, (squares.mean(), left), kept


def _amplitude(codes: Codes) -> float:
    """Root mean square of the codes that are not zero."""
    return float((codes.square().sum() / (codes != 0).sum().clamp_min(1)).sqrt())


def _dictionary(codes: Codes, rows: Rows, kept: Tensor, atoms: Atoms) -> Atoms:
    """Least squares for the atoms; one that no code uses stays as it is."""
    products = codes.T @ codes
    scale = products.diagonal().amax().clamp_min(torch.finfo(rows.dtype).tiny)
    ridge = _RIDGE if rows.dtype == torch.float64 else 1e-6
    ridge = ridge * scale * torch.eye(len(products), dtype=rows.dtype, device=rows.device)
    # Pulled towards what it was, and not towards zero, by the ridge that keeps the system regular.
    return torch.linalg.solve(products + ridge, codes.T @ torch.where(kept[:, None], rows, 0.0) + ridge @ atoms)


def _status(change: float, tolerance: float, settled: bool, step: int, budget: int) -> Status:
    found = f"the atoms changed by {change:.2e} at most, asked was {tolerance:.1e}, in round {step}"
    if change <= tolerance:
        return Status("converged", found)
    if settled:
        return Status("converged", f"{found}: a fifth of what the noise leaves uncertain")
    if not math.isfinite(change):
        return Status("diverged", f"{found}; start nearer")
    return Status("budget spent", f"{found} of {budget}; raise max_iterations, or the codes may be too dense")
