"""Where trials on the sphere find all columns of an overcomplete dictionary, and how tight preconditioning is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightframe.core.errors import DegenerateError
from tightframe.core.typing import Float
from tightframe.dictionary.linear.cumulant import FourthCumulant
from tightframe.dictionary.linear.overcomplete import all_columns, one_column
from tightframe.dictionary.linear.precondition import preconditioner, second_moment, tightness_deviation, whitening
from tightframe.dictionary.linear.recovery import nearest_atom_gaps, recovery
from tightframe.experiments.dictionary.l4_landscapes import NEAR, Atoms, Row, Sparse
from tightframe.optimize.power import sphere_power

# Steps of a trial: near the end of recovery they are slow, and those that take longer are counted by where they are.
_STEPS, _TURN = 500, 1e-4


def expected_trials(item: tuple[Sparse, int]) -> Row:
    """The share of random starts that lead to a column when samples are infinitely many."""
    cell, trials = item
    atoms = cell.dictionary

    def gradient(q: Tensor) -> Tensor:
        return (q @ atoms.T).pow(3) @ atoms

    found = sphere_power(gradient, cell.starts(trials), tolerance=_TURN, max_iterations=_STEPS)
    near = nearest_atom_gaps(found.Q, atoms) <= NEAR
    return cell.words | {"samples": "infinite", "trials": trials, "share": float(near.double().mean())}


def coupons(atoms: int) -> int:
    """Trials after which every one of m equally likely columns is found, but in one of twenty runs: m (log m + 3)."""
    return math.ceil(atoms * (math.log(atoms) + 3))


def sampled_trials(cell: Sparse) -> Row:
    """Columns found by independent trials on whitened samples, and by rounds of trials with deflation."""
    atoms = cell.dictionary
    rows = cell.rows(atoms)
    white = whitening(second_moment(rows), rank=cell.dimension)
    cumulant = FourthCumulant(white.rows(rows))
    trials = coupons(cell.atoms)
    ended = one_column(cumulant, cell.starts(trials), tolerance=_TURN, max_iterations=_STEPS // 5).Q
    directions = white.atoms(ended)
    near = nearest_atom_gaps(directions, atoms) <= NEAR
    reached = (directions[near] @ atoms.T).abs().argmax(1).unique()
    deflated, spent = _deflated(cumulant.rows, cell)
    found = 0.0
    if deflated is not None:
        found = recovery(white.atoms(deflated), atoms).share(1 - NEAR)
    return cell.words | {
        "samples": f"p = {cell.samples}",
        "trials": trials,
        "share": float(near.double().mean()),
        "found by trials": len(reached) / cell.atoms,
        "found with deflation": found,
        "trials with deflation": spent,
    }


def _deflated(rows: Float[Tensor, "p d"], cell: Sparse) -> tuple[Atoms | None, int]:
    try:
        found = all_columns(rows, cell.atoms, seed=cell.seed)
    except DegenerateError:
        return None, 0
    return found.Q, int(sum(found.trace["trials"]))


def tightness(cell: Sparse) -> Row:
    """How far P A is from a tight frame, beside what the fluctuation of a sample predicts."""
    atoms = cell.dictionary
    P = preconditioner(cell.rows(atoms), density=cell.density)
    made = atoms @ P
    moment = made.T @ made
    excess = moment * (cell.dimension / moment.trace()) - torch.eye(cell.dimension, dtype=torch.float64)
    return cell.words | {
        "before": tightness_deviation(atoms),
        "deviation": tightness_deviation(made),
        "deviation, Frobenius": float(torch.linalg.matrix_norm(excess)),
        "predicted": predicted_deviation(atoms, cell.density, cell.samples),
    }


def predicted_deviation(atoms: Atoms, density: float, samples: int) -> float:
    r"""Root mean square of the deviation of P A from a tight frame in the Frobenius norm, to first order.

    .. math:: \frac1p\left(n^2 + n + \kappa s - \frac{2 n + \kappa s}n\right), \qquad
        s = \sum_k \|b_k\|^4, \qquad \kappa = \frac3\theta - 3

    the square of it for Bernoulli-Gaussian codes, where b_k are the columns of (A A^T)^{-1/2} A.

    Args:
        atoms: Columns of A as rows (m, n).
        density: theta.
        samples: p.
    """
    left = torch.linalg.svd(atoms, full_matrices=False)[0]
    dimension, excess = left.shape[1], 3 / density - 3
    heavy = excess * float(left.square().sum(1).square().sum())
    return math.sqrt((dimension**2 + dimension + heavy - (2 * dimension + heavy) / dimension) / samples)
