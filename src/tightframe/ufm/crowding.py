"""Classes in fewer dimensions than their frame needs: the best of several descents, and how near rows come."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tightframe.core.checks import check_count
from tightframe.core.solution import Solution
from tightframe.geometry.coherence import coherence, cosine_bound, largest_cosine, welch_bound
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.solvers import solve

# Objectives that differ by less, relatively, count as one.
_SAME = 1e-8
# A row shorter than this, relative to the longest, has no direction, nor have any where logits are smaller.
_SHORT = 1e-6


@dataclass(frozen=True, eq=False)
class Crowd:
    """The lowest point of several descents.

    Args:
        solution: It.
        share: Share of the starts that ended as low.
        largest_cosine: Between two rows of W, sign included; None where a row is zero.
        cosine_bound: What no configuration of K directions is below.
        coherence: Largest |cos| between two rows of W; None where a row is zero.
        welch_bound: What no coherence is below.
        evenness: Length of the shortest row of W over that of the longest.
    """

    solution: Solution
    share: float
    largest_cosine: float | None
    cosine_bound: float
    coherence: float | None
    welch_bound: float
    evenness: float


def crowd(
    problem: UnconstrainedFeatures, *, starts: int = 8, tolerance: float = 1e-11, max_iterations: int = 5000
) -> Crowd:
    """Solve a model from several starts and measure the angles of the best classifier found.

    With d < K - 1 no simplex ETF exists and no closed form is known but for squared error, which keeps d dimensions of
    its frame. The convex bound then lies below the minimum, so that nothing certifies the point found: it is the best
    that is known. The angles can be compared with what directions allow at all.

    Args:
        problem: The model.
        starts: Random starts, with seeds 0, 1, ...
        tolerance: Dual gap at which a descent stops, for the dimensions where it can be reached.
        max_iterations: At most this many steps of each.

    Raises:
        InputError: No start.

    Example:
        >>> found = crowd(UnconstrainedFeatures(classes=5, features=2, weight_decay=(1e-3, 1e-3)), starts=2)
        >>> round(found.largest_cosine, 6), round(found.cosine_bound, 6)  # a regular pentagon
        (0.309017, 0.309017)
    """
    check_count(starts, "starts")
    ends = [solve(problem, seed=seed, tolerance=tolerance, max_iterations=max_iterations) for seed in range(starts)]
    best = min(ends, key=lambda end: end.objective)
    lengths = torch.linalg.vector_norm(best.W, dim=1)
    longest, farthest = float(lengths.max()), float(torch.linalg.vector_norm(best.H, dim=0).max())
    directed = longest * farthest > _SHORT and float(lengths.min()) > _SHORT * longest
    return Crowd(
        best,
        sum(end.objective <= best.objective * (1 + _SAME) for end in ends) / starts,
        largest_cosine(best.W) if directed else None,
        cosine_bound(problem.classes, problem.features),
        coherence(best.W) if directed else None,
        welch_bound(problem.classes, problem.features),
        float(lengths.min()) / longest if longest else 0.0,
    )
