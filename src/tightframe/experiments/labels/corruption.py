"""Corrupted linear measurements, and what is measured of one draw: descent, its limit and the convex program."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy
import torch
from scipy.optimize import linprog
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.core.typing import Float
from tightframe.experiments.labels.recovery import Row, row_coherence
from tightframe.optimize.discrepant import descend_discrepant, flow_limit, ratio_of_weight
from tightframe.optimize.sparse_corruption import separate_corruption

# Relative error of theta up to which it counts as recovered.
RECOVERED = 1e-2
# Of the convex program, as a share of its objective.
_EXACT = 1e-14
# In place of an infinitely small scale.
_TINY = (1e-12, 1e-25, 1e-50, 1e-100)


@dataclass(frozen=True)
class Corruption:
    """One draw of y = J theta + s, and how it is solved.

    Args:
        samples: Rows of J.
        dimension: Columns of J.
        corrupted: Rows with corruption, of modulus 1 to 3 and random sign; J theta has entries of variance 1.
        weight: Of the l1 norm.
        scale: Of the start of u and v.
        seed: Of the draw.
        spread: Standard deviation of the logarithm of the lengths of the rows of J; 0 leaves it Gaussian.
        stated: Take the ratio 1 / weight, whatever the scale, in place of log(1/scale) / (2 weight).
        step_share: Of `descend_discrepant`.
        tolerance: Of it.
        max_steps: Of it.
    """

    samples: int
    dimension: int
    corrupted: int
    weight: float
    scale: float = 1e-6
    seed: int = 0
    spread: float = 0.0
    stated: bool = False
    step_share: float = 0.1
    tolerance: float = 1e-8
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        if not 0 <= self.corrupted <= self.samples or self.dimension < 1:
            raise InputError(
                "at least one column, and corrupted rows among those there are",
                got=f"{self.corrupted} corrupted of {self.samples} rows, {self.dimension} columns",
                remedy="Corrupt fewer rows.",
            )

    @property
    def ratio(self) -> float:
        """Step size of u and v over that of theta."""
        return 1 / self.weight if self.stated else ratio_of_weight(self.weight, scale=self.scale)

    @property
    def words(self) -> dict[str, float | int | str]:
        """What tells it from others, for tables."""
        return {
            "samples": self.samples,
            "dimension": self.dimension,
            "corrupted": self.corrupted,
            "dimension/samples": self.dimension / self.samples,
            "share corrupted": self.corrupted / self.samples,
            "J": "wide" if self.dimension > self.samples else "tall",
            "ratio of steps": "1/weight" if self.stated else "log(1/scale)/(2 weight)",
            "weight": self.weight,
            "scale": self.scale,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Draw:
    """J (m, d), y (m,), and theta (d,) and s (m,) behind it."""

    J: Float[Tensor, "m d"]
    y: Float[Tensor, " m"]
    theta: Float[Tensor, " d"]
    s: Float[Tensor, " m"]


def draw(cell: Corruption) -> Draw:
    """The measurements of a cell."""
    source = generator(cell.seed)
    lengths = torch.exp(cell.spread * _normal(source, cell.samples, 1)) / cell.dimension**0.5
    J = _normal(source, cell.samples, cell.dimension) * lengths
    theta, s = _normal(source, cell.dimension), torch.zeros(cell.samples, dtype=torch.float64)
    rows = torch.randperm(cell.samples, generator=source)[: cell.corrupted]
    sizes = 1 + 2 * torch.rand(cell.corrupted, generator=source, dtype=torch.float64)
    s[rows] = sizes * torch.sign(_normal(source, cell.corrupted))
    return Draw(J, J @ theta + s, theta, s)


def recover(cell: Corruption) -> Row:
    """Whether the convex program and descent find theta, beside how coherent J is.

    Where the convex program does, also the power of the scale that is predicted, and whether the limit of the flow
    finds theta from some scale down to 1e-100; it is computed where descent does not.
    """
    drawn = draw(cell)
    convex, found = _convex(cell, drawn), _descent(cell, drawn)
    errors = {"convex": _error(convex, drawn), "descent": _error(found, drawn)}
    row = cell.words | {"spread": cell.spread, "coherence": row_coherence(drawn.J), "steps": found.trace["step"][-1]}
    row |= {f"error, {name}": error for name, error in errors.items()}
    row |= {f"recovered, {name}": error <= RECOVERED for name, error in errors.items()}
    row |= {"predicted power": None, "recovered, limit": None}
    if row["recovered, convex"]:
        row |= {"predicted power": predicted_power(cell), "recovered, limit": True}
        if not row["recovered, descent"]:
            # One after the other: the smaller the scale, the harder the equation, and most need none of the smallest.
            limits = (_flow(replace(cell, scale=scale), drawn, tolerance=1e-4) for scale in _TINY)
            row["recovered, limit"] = any(_error(limit, drawn) <= RECOVERED for limit in limits)
    return row


def approach(cell: Corruption) -> Row:
    """Distances between descent, the limit of its flow, and the convex solution."""
    drawn = draw(cell)
    convex, flow, found = _convex(cell, drawn), _flow(cell, drawn), _descent(cell, drawn)
    return cell.words | {
        "step share": cell.step_share,
        "distance": distance(found, convex),
        "distance, flow": distance(flow, convex),
        "descent to flow": distance(found, flow),
        "error": _error(found, drawn),
        "error, convex": _error(convex, drawn),
        "gap": convex.certificate.gap,
        "steps": found.trace["step"][-1],
        "residual": found.trace["residual"][-1],
    }


def follow_flow(cell: Corruption) -> Row:
    """Distance of the limit of the flow to the convex solution, without descent."""
    drawn = draw(cell)
    return cell.words | {"distance, flow": distance(_flow(cell, drawn), _convex(cell, drawn))}


def nearest(cell: Corruption, weights: tuple[float, ...]) -> list[Row]:
    """Distance of descent at the cell's weight to the convex solutions of several weights."""
    drawn = draw(cell)
    found = _descent(cell, drawn)
    solved = [separate_corruption(drawn.J, drawn.y, weight=weight, tolerance=_EXACT) for weight in weights]
    distances = [distance(found, convex) for convex in solved]
    return [
        cell.words
        | {"descent": f"{cell.weight:g}", "convex": f"{weight:g}"}
        | {"ratio": cell.ratio, "distance": apart, "nearest": apart == min(distances)}
        for weight, apart in zip(weights, distances, strict=True)
    ]


def distance(found: Solution, other: Solution) -> float:
    """|(theta, s) - (theta', s')| / |(theta', s')|."""
    gap = torch.cat([found.theta - other.theta, found.s - other.s])
    return float(torch.linalg.vector_norm(gap) / torch.linalg.vector_norm(torch.cat([other.theta, other.s])))


def predicted_power(cell: Corruption) -> float | None:
    r"""The power of the scale by which descent approaches the truth under exact recovery: 2 (1 - rho).

    .. math:: \rho = \min_\nu \max_{i:\, s_i = 0} |\nu_i| / \lambda
        \quad\text{s.t.}\quad J^\top \nu = \theta, \quad \nu_i = \lambda\,\mathrm{sign}(s_i) \ \text{where}\ s_i \ne 0

    by linear programming: rows without corruption are left with about a^(2 (1 - |nu_i| / lambda)), and of all nu the
    flow chooses one with the least such maximum as the scale a tends to zero.

    Args:
        cell: Its weight is lambda; the scale does not matter.

    Returns:
        The power, or None where no such nu exists or rho >= 1: the convex program does not recover theta then.
    """
    drawn = draw(cell)
    J, sign = drawn.J.numpy(), numpy.sign(drawn.s.numpy())
    free = J[sign == 0]
    rest = drawn.theta.numpy() / cell.weight - J.T @ sign
    count = len(free)
    upper = numpy.block([[numpy.eye(count), -numpy.ones((count, 1))], [-numpy.eye(count), -numpy.ones((count, 1))]])
    found = linprog(
        numpy.append(numpy.zeros(count), 1.0),
        A_ub=upper,
        b_ub=numpy.zeros(2 * count),
        A_eq=numpy.hstack([free.T, numpy.zeros((J.shape[1], 1))]),
        b_eq=rest,
        bounds=[(None, None)] * count + [(0, None)],
    )
    return 2 * (1 - float(found.fun)) if found.status == 0 and found.fun < 1 else None


def _normal(source: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def _convex(cell: Corruption, drawn: Draw) -> Solution:
    return separate_corruption(drawn.J, drawn.y, weight=cell.weight, tolerance=_EXACT)


def _flow(cell: Corruption, drawn: Draw, *, tolerance: float = 1e-12) -> Solution:
    return flow_limit(drawn.J, drawn.y, ratio=cell.ratio, scale=cell.scale, tolerance=tolerance)


def _descent(cell: Corruption, drawn: Draw) -> Solution:
    return descend_discrepant(
        drawn.J,
        drawn.y,
        ratio=cell.ratio,
        scale=cell.scale,
        step_share=cell.step_share,
        tolerance=cell.tolerance,
        max_steps=cell.max_steps,
    )


def _error(found: Solution, drawn: Draw) -> float:
    return float(torch.linalg.vector_norm(found.theta - drawn.theta) / torch.linalg.vector_norm(drawn.theta))
