"""What completes a matrix in the diagram of phases, told its rank or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.nuclear_norm import least_nuclear_norm
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.path import balanced, descend_observed, leading_components, spectral_network
from tightframe.deeplinear.recipe import Recipe
from tightframe.experiments.deeplinear.completion_runs import Matrix, Row, bounded

# Relative error of the unobserved entries of a recovered matrix.
RECOVERED = 1e-3
OURS, DEEP, TOLD, OVER, NUCLEAR = (
    "DeepMatrixCompletion, rank unknown",
    "deep descent alone, rank unknown",
    "least squares, rank told",
    "least squares, twice the rank",
    "nuclear norm",
)
# Start, rate of the outer factors and momentum of deep descent alone; from so small a start components come one after
# another.
_SMALL, _RATE, _MOMENTUM = 0.003, 1.0, 0.9


@dataclass(frozen=True)
class Case:
    """One matrix and one method.

    Args:
        matrix: What is completed.
        method: A key of `methods()`.
        deep_steps: Of deep descent alone at most.
        nuclear_steps: Of the nuclear norm at most.
    """

    matrix: Matrix
    method: str
    deep_steps: int
    nuclear_steps: int


def recover(case: Case) -> Row:
    """Error and CPU seconds of a method on a matrix."""
    matrix = case.matrix
    problem = matrix.drawn()
    found = problem.observations
    begun = time.process_time()
    error = bounded(problem.error(methods()[case.method](found, case)))
    spent = time.process_time() - begun
    freedom = matrix.rank * (2 * matrix.size - matrix.rank) / len(found)
    row = {"method": case.method, "rank": matrix.rank, "share": matrix.share, "seed": matrix.seed, "error": error}
    return row | {"freedom per entry": freedom, "recovered": error < RECOVERED, "CPU (s)": spent}


def methods() -> dict[str, Callable[[Observations, Case], Tensor]]:
    """Every method, from what is observed to the whole matrix."""
    return {
        OURS: _estimated,
        DEEP: _descended,
        TOLD: lambda found, case: _fitted(found, case.matrix.rank),
        OVER: lambda found, case: _fitted(found, 2 * case.matrix.rank),
        NUCLEAR: lambda found, case: least_nuclear_norm(found, max_steps=case.nuclear_steps).X,
    }


def _estimated(found: Observations, _case: Case) -> Tensor:
    model = DeepMatrixCompletion().fit(found)
    return model.left_ @ model.right_.T


def _descended(found: Observations, case: Case) -> Tensor:
    _, width = Recipe().sizes(found)
    network, top = spectral_network(found, width, scale=_SMALL, gamma=_RATE)
    done = descend_observed(found, network, top, momentum=_MOMENTUM, residual=1e-6, max_steps=case.deep_steps)
    return done.A @ done.B.T


def _fitted(found: Observations, rank: int) -> Tensor:
    start = balanced(*leading_components(found, rank), rank)
    done = alternating_least_squares(found, *start, progress=1e-5)
    return done.A @ done.B.T
