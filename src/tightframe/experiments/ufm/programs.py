"""What is measured of one model by its two programs, the factored and the convex one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.solution import Solution
from tightframe.ufm.convex import factor, solve_convex
from tightframe.ufm.merging import measured_merging_decay, merging_decay, separation
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.solvers import solve

NAMES = {"ce": "cross-entropy", "ls": "label smoothing", "mse": "squared error"}
# Rows of W shorter than this share of the longest have no direction.
_NO_DIRECTION = 1e-6

Row = Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class Cell:
    """One model; its last `small` classes have equal size.

    Args:
        loss: "ce", "ls", "mse".
        bias: "none", "free", or a coefficient.
        counts: Samples of every class, descending.
        weight_decay: (lambda_W, lambda_H).
        features: d.
        small: Number of small classes, where their merging is studied.
        precision: Of the bisection.
    """

    loss: str
    bias: str | float
    counts: tuple[int, ...]
    weight_decay: tuple[float, float]
    features: int
    small: int = 0
    precision: float = 1e-6

    @property
    def problem(self) -> UnconstrainedFeatures:
        """The model."""
        return UnconstrainedFeatures(
            classes=len(self.counts),
            features=self.features,
            per_class=self.counts,
            loss=self.loss,
            weight_decay=self.weight_decay,
            bias=self.bias,
        )

    @property
    def words(self) -> dict[str, float | int | str]:
        """What tells it from others, for tables."""
        return {
            "loss": NAMES[self.loss],
            "bias": self.bias if isinstance(self.bias, str) else f"{self.bias:g}",
            "classes": f"{len(self.counts) - self.small} large, {self.small} small" if self.small else len(self.counts),
            "smallest class": self.counts[-1],
            "ratio of sizes": self.counts[0] / self.counts[-1],
        }


def compare(cell: Cell) -> Row:
    """Objective and logits of the convex program, and of the factored one from a random start."""
    problem = cell.problem
    convex = solve_convex(problem, subgradient_tolerance=1e-12)
    factored = solve(problem, seed=0, tolerance=1e-14)
    shift = factored.b - convex.b
    if cell.bias == "free" and problem.loss.shift_invariant:
        shift = shift - shift.mean()  # the loss does not see the mean of a free bias
    point = factor(problem, convex)
    return cell.words | {
        "objective, convex": convex.objective,
        "objective, factored": factored.objective,
        "objective difference": abs(convex.objective - factored.objective),
        "logits difference": max(float((_logits(cell, factored) - convex.Z).abs().max()), float(shift.abs().max())),
        "lost in factoring": abs(problem.objective(point.W, point.H, point.b) - convex.objective),
        "rank": convex.certificate.evidence["rank"],
        "gap, convex": convex.certificate.gap,
        "gap, factored": factored.certificate.gap,
    }


def bisect_decay(cell: Cell) -> Row:
    """The decay at which the small classes merge, measured and by the formula."""
    measured = measured_merging_decay(cell.problem, precision=cell.precision)
    predicted = float(merging_decay(cell.problem)[-1])
    return cell.words | {
        "measured decay": measured,
        "predicted decay": predicted,
        "relative difference": measured / predicted - 1,
    }


def follow(cell: Cell) -> Row:
    """How far apart the small classes are, by both programs and by the law, and the cosine of their classifiers."""
    problem = cell.problem
    convex = solve_convex(problem, subgradient_tolerance=1e-12)
    factored = solve(problem, seed=0, tolerance=1e-14)
    threshold = float(merging_decay(problem)[-1])
    return cell.words | {
        "decay": problem.nuclear_decay,
        "merges at decay": threshold,
        "separation": separation(problem, _logits(cell, factored), factored.b),
        "separation, convex": separation(problem, convex.Z, convex.b),
        "law": max(0.0, (threshold - problem.nuclear_decay) * problem.samples / cell.counts[-1] ** 0.5),
        "cosine": _cosine(factored.W[-cell.small :], factored.W),
        "cosine, convex": _cosine(factor(problem, convex).W[-cell.small :], factored.W),
        "gap, factored": factored.certificate.gap,
    }


def spectrum(cell: Cell) -> list[Row]:
    """Singular values of Z diag(sqrt n_k), by the differences between classes that they belong to."""
    X = solve_convex(cell.problem).Z * torch.tensor(cell.counts, dtype=torch.float64).sqrt()
    large = len(cell.counts) - cell.small
    # The mean over a group on the left and on the right leaves what tells the groups apart.
    means = torch.zeros(2, len(X), dtype=torch.float64)
    means[0, :large], means[1, large:] = large**-0.5, cell.small**-0.5
    values = {
        f"large classes ({large - 1} times)": _apart(X[:large, :large]),
        f"small classes ({cell.small - 1} times)": _apart(X[large:, large:]),
        "large from small classes": float(torch.linalg.svdvals(means @ X @ means.T)[0]),
    }
    words = cell.words | {"decay": cell.problem.nuclear_decay}
    return [words | {"tells apart": kind, "singular value": value} for kind, value in values.items()]


def logits_of(cell: Cell) -> list[Row]:
    """Z + b1^T, entry by entry."""
    found = solve_convex(cell.problem)
    sizes = f"{cell.counts[0]} : {cell.counts[-1]}"
    return [
        {"sizes": sizes, "output": f"output {j + 1}", "class": f"class {k + 1}", "logit": value}
        for j, line in enumerate((found.Z + found.b[:, None]).tolist())
        for k, value in enumerate(line)
    ]


def _logits(cell: Cell, solution: Solution) -> Tensor:
    """Of the class means; the samples of a class share their features."""
    counts = torch.tensor(cell.counts)
    return solution.W @ solution.H[:, torch.cumsum(counts, 0) - counts]


def _apart(block: Tensor) -> float:
    """The repeated singular value of a block that permutations of its classes leave as it is."""
    own, size = float(block.diagonal().sum()), len(block)
    return abs(own - (float(block.sum()) - own) / (size - 1)) / size


def _cosine(rows: Tensor, all_rows: Tensor) -> float | None:
    """Mean cosine between different rows; None where they have no direction."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    if float(lengths.min()) <= _NO_DIRECTION * float(torch.linalg.vector_norm(all_rows, dim=1).max()):
        return None
    gram = (rows @ rows.T) / torch.outer(lengths, lengths)
    return float((gram.sum() - gram.diagonal().sum()) / (len(rows) * (len(rows) - 1)))
