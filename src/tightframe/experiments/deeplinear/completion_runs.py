"""Matrices to complete, and descents of deep networks on them that stop on observed entries alone."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.threads import threads_for
from tightframe.deeplinear.compression import CompressedNetwork
from tightframe.deeplinear.descent import ChainDescent, Settings
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion
from tightframe.deeplinear.observations import Observations, observe
from tightframe.deeplinear.stability import stable_step
from tightframe.runs.record import Cell

Kind = Literal["truncated", "factors"]
KINDS = {"truncated": "truncated Gaussian", "factors": "product of Gaussian factors"}

Row = dict[str, Cell]


@dataclass(frozen=True)
class Matrix:
    """A matrix of low rank, some entries of which are observed.

    Args:
        size: d, of rows and of columns.
        rank: r.
        share: p, of the entries that are observed.
        kind: "truncated", a Gaussian matrix cut to its leading r components (singular values near 2 sqrt(d)), or
            "factors", the product of Gaussian factors (near d).
        seed: Of both.
    """

    size: int
    rank: int
    share: float
    kind: Kind = "truncated"
    seed: int = 0

    def drawn(self) -> Problem:
        """The matrix and what is observed of it.

        Raises:
            InputError: A kind that is not known, a rank that is not below the size.
        """
        if self.kind not in KINDS or not 0 < self.rank < self.size:
            raise InputError(
                f"a kind among {', '.join(KINDS)} and a rank below the size",
                got=f"{self.kind!r}, rank {self.rank} of {self.size}",
                remedy="Choose others.",
            )
        draws = generator(self.seed)
        if self.kind == "truncated":
            whole = torch.randn(self.size, self.size, dtype=torch.float64, generator=draws)
            U, S, Vh = torch.linalg.svd(whole)
            matrix = U[:, : self.rank] * S[: self.rank] @ Vh[: self.rank]
        else:
            A, B = (torch.randn(self.size, self.rank, dtype=torch.float64, generator=draws) for _ in range(2))
            matrix = A @ B.T
        return Problem(matrix, torch.rand(self.size, self.size, generator=draws) < self.share)


@dataclass(frozen=True, eq=False)
class Problem:
    """A matrix (d, d) and the mask of its observed entries."""

    matrix: Tensor
    mask: Tensor

    @property
    def observations(self) -> Observations:
        """The observed entries."""
        return observe(torch.where(self.mask, self.matrix, torch.nan))

    @property
    def top(self) -> float:
        """sigma_1."""
        return float(torch.linalg.matrix_norm(self.matrix, 2))

    def error(self, found: Tensor) -> float:
        """Relative error of the entries that are not observed."""
        return _relative(found, self.matrix, ~self.mask)

    def residual(self, found: Tensor) -> float:
        """Relative error of those that are."""
        return _relative(found, self.matrix, self.mask)


@dataclass(frozen=True)
class Effort:
    """When a descent ends, and how it steps.

    Args:
        tolerance: Relative residual of the observed entries at which it ends.
        max_steps: At most so many.
        step: As a share of the largest stable one, 2 / ||Hessian||.
        momentum: mu of the heavy ball.
        every: Steps between two looks.
    """

    tolerance: float = 1e-5
    max_steps: int = 20_000
    step: float = 0.25
    momentum: float = 0.0
    every: int = 25


@dataclass(frozen=True)
class Descended:
    """How a descent went.

    Args:
        steps: Taken.
        seconds: CPU seconds of the steps, without the looks between.
        residual: Of the observed entries at the end, relative; inf where values left the numbers.
        error: Of the others.
        path: A row for every look: "steps", "seconds", "residual" and "error".
    """

    steps: int
    seconds: float
    residual: float
    error: float
    path: tuple[Row, ...]

    def first(self, name: str, below: float) -> Row | None:
        """The first look at which this was below a level."""
        return next((row for row in self.path if row[name] < below), None)


def descend(network: DeepLinearNetwork, problem: Problem, effort: Effort) -> Descended:
    """Train a wide, narrow or compressed network on the observed entries until they are fitted."""
    objective = Completion(problem.matrix, problem.mask)
    # Outer factors of a compressed network are no layers of the original, whose stability sets the step.
    depth = network.depth - 2 if isinstance(network, CompressedNetwork) else network.depth
    settings = Settings(effort.step * stable_step(objective, depth=depth), effort.momentum)
    chain, spent, path = ChainDescent(network.weights, objective, settings, network.rates), 0.0, []
    with threads_for(network.widths[0] * max(network.widths[1:]) * network.widths[-1]), torch.no_grad():
        for steps in range(effort.every, effort.max_steps + effort.every, effort.every):
            begun = time.process_time()
            sound = chain.advance(effort.every)
            spent += time.process_time() - begun
            product = chain.products()[-1]
            residual, error = problem.residual(product), problem.error(product)
            if not sound or not max(residual, error) < 1e6:
                return Descended(steps, spent, math.inf, math.inf, tuple(path))
            path.append({"steps": steps, "seconds": spent, "residual": residual, "error": error})
            if residual <= effort.tolerance:
                break
    return Descended(steps, spent, residual, error, tuple(path))


def thinned(path: tuple[Row, ...], most: int = 60) -> list[Row]:
    """At most about so many rows of a path, evenly, the last always."""
    stride = max(1, len(path) // most)
    return [row for number, row in enumerate(path) if number % stride == 0 or number == len(path) - 1]


def bounded(value: float, bound: float = 1e6) -> float:
    """A number that a table can hold: what diverged is shown at the bound."""
    return min(value, bound) if not math.isnan(value) else bound


def _relative(found: Tensor, true: Tensor, places: Tensor) -> float:
    size = float(true[places].norm())
    return float((found - true)[places].norm()) / size if size else 0.0
