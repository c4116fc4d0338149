"""Unions of orthonormal bases in which rows are sparse: thresholding and Procrustes rotation in turn."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float


def cosine_basis(channels: int, size: int) -> Float[Tensor, "d d"]:
    r"""Orthonormal discrete cosine basis of patches, one atom per row; d = channels size^2.

    .. math:: D = C_c \otimes C_p \otimes C_p, \qquad
        (C_p)_{jk} = \sqrt{\tfrac{2 - [j = 0]}{p}} \cos \frac{\pi (2k + 1) j}{2p}

    >>> basis = cosine_basis(3, 4)
    >>> bool(torch.allclose(basis @ basis.T, torch.eye(48), atol=1e-6))
    True
    """
    plane = _cosines(check_count(size, "patch_size"))
    return torch.kron(_cosines(check_count(channels, "channels")), torch.kron(plane, plane)).float()


def _cosines(size: int) -> Tensor:
    places = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * places + 1) * places[:, None] / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def learn_bases(
    rows: Float[Tensor, "n d"],
    threshold: float,
    *,
    start: Float[Tensor, "k d d"],
    steps: int = 20,
    tolerance: float = 1e-4,
) -> Solution:
    r"""Orthonormal bases, for each row one of which has few coefficients above a threshold.

    .. math:: \min_{D_1, \dots, D_k \in O(d)} \ \frac1n \sum_{i=1}^n \min_j \min_x
        \big\| y_i - D_j^\top x \big\|_2^2 + t^2 \|x\|_0
        = \frac1n \sum_{i=1}^n \min_j \sum_{a=1}^d \min\big( (D_j y_i)_a^2, t^2 \big)

    where y_i are the `rows`, t is `threshold`, and the rows of D_j are the atoms of a basis.

    Choosing the basis of every row, keeping the coefficients of modulus above t, and rotating each basis to the nearest
    of its rows (an orthogonal Procrustes problem: the polar factor of the coefficients' correlations with the rows) are
    exact minimisations in turn, so the objective never rises. It has many local minima: the start matters.

    Args:
        rows: (n, d), float32 or float64.
        threshold: t > 0; 2.6 standard deviations of white noise in the rows, or 1 where they have been cleaned once.
        start: First bases (k, d, d), orthonormal rows.
        steps: Most rounds.
        tolerance: Relative decrease of the objective per round at which to stop.

    Returns:
        Solution with `bases` (k, d, d) and the `choice` (n,) of a basis for every row at the last objective recorded;
        the trace has objective and seconds. A basis that no row chooses stays as it is.

    Raises:
        InputError: No positive threshold, or a start that does not fit the rows.

    Reference: [lesage2005learning] for k > 1; [ravishankar2013learning], section 2, for thresholding and rotation.
    """
    _check(rows, threshold, start)
    bases, trace, clock = start.to(rows), Trace(), time.perf_counter()
    choice, value = choose_basis(rows, bases, threshold)
    trace.record(0, {"objective": value, "seconds": time.perf_counter() - clock})
    outcome = Status("budget spent", f"{steps} steps taken; raise steps= for a lower objective.")
    for step in range(1, check_count(steps, "steps") + 1):
        bases = torch.stack([_rotated(rows, bases, choice, index, threshold) for index in range(len(bases))])
        before, (choice, value) = value, choose_basis(rows, bases, threshold)
        trace.record(step, {"objective": value, "seconds": time.perf_counter() - clock})
        if before - value <= tolerance * before:
            outcome = Status("converged", f"relative decrease below {tolerance:g} after {step} steps.")
            break
    return Solution(outcome, value, {"bases": bases, "choice": choice}, trace)


def choose_basis(rows: Float[Tensor, "n d"], bases: Float[Tensor, "k d d"], threshold: float) -> tuple[Tensor, float]:
    """The basis (n,) in which each of the rows costs least, and the mean cost: the objective of `learn_bases`."""
    costs = torch.stack([(rows @ basis.T).square_().clamp_(max=threshold**2).sum(1) for basis in bases])
    least = costs.min(dim=0)
    # One number per call comes to the host: the stopping rule needs it.
    return least.indices, float(least.values.double().mean())


def split_basis(
    rows: Float[Tensor, "n d"], basis: Float[Tensor, "d d"], count: int, threshold: float, *, draws: torch.Generator
) -> Float[Tensor, "k d d"]:
    """Bases to start from: `basis`, rotated to each of `count` groups of rows that point the same way up to sign.

    The groups gather around rows drawn with probabilities proportional to their norms; there are no more of them than
    rows.
    """
    count = min(count, len(rows))
    norms = torch.linalg.vector_norm(rows, dim=1)
    seeds = torch.multinomial((norms + torch.finfo(norms.dtype).tiny).to(draws.device), count, generator=draws)
    seeds = seeds.to(rows.device)
    group = (rows @ rows[seeds].T / norms[seeds].clamp_min(torch.finfo(norms.dtype).tiny)).abs().argmax(dim=1)
    copies = basis.to(rows).expand(count, *basis.shape)
    return torch.stack([_rotated(rows, copies, group, index, threshold) for index in range(count)])


def _rotated(rows: Tensor, bases: Tensor, choice: Tensor, index: int, threshold: float) -> Tensor:
    members = rows if len(bases) == 1 else rows[choice == index]
    codes = members @ bases[index].T
    codes[codes.abs() <= threshold] = 0
    correlations = codes.T @ members
    if not bool(correlations.any()):
        return bases[index]
    left, _, right = torch.linalg.svd(correlations)
    return left @ right


def _check(rows: Tensor, threshold: float, start: Tensor) -> None:
    if not (math.isfinite(threshold) and threshold > 0):
        raise InputError("a positive threshold", got=repr(threshold), remedy="Use 2.6 times the noise.")
    if rows.ndim != 2 or not len(rows) or start.ndim != 3 or start.shape[1:] != 2 * rows.shape[1:] or not len(start):
        raise InputError(
            "rows (n, d) and a start (k, d, d)",
            got=f"shapes {tuple(rows.shape)} and {tuple(start.shape)}",
            remedy="Start from cosine_basis(channels, patch_size)[None].",
        )
