"""Low-rank completion of unknown rank: deep descent shows it, least squares refine it, held-out entries decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.threads import threads_for
from tightframe.deeplinear.alternating import alternating_least_squares, attainable
from tightframe.deeplinear.held_out import choose_by_held_out
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.path import balanced, descend_observed, spectral_network, thin_svd
from tightframe.deeplinear.rank_detection import (
    SpectralGap,
    agrees,
    bearable_rank,
    candidate_ranks,
    part_for_check,
    spectral_gap,
)

# Relative decrease of the objective over five sweeps below which a fit is not going to be exact: those that become so
# within 500 sweeps to eight digits fall by 0.3 in the mean, and by more than 0.1 where they are slowest.
_HOPELESS = 0.03
# Ratio of singular values of an exact fit beyond which those below are tried without; kept only if that is exact too.
_SUPERFLUOUS = 10.0
# Entries that are too few to hold any out.
_ASKED = 10
# Columns of the network where the rank is unknown.
_WIDEST = 40


@dataclass(frozen=True)
class Recipe:
    """How a matrix is completed.

    Args:
        rank: Largest rank, or None for what the number of observations can bear.
        depth: Layers, the two outer factors counted.
        width: Columns of the network, or None for twice the largest rank.
        gamma: Rate of the outer factors, as a multiple of that of the inner layers.
        scale: Size of the start.
        step: Of the inner layers; None for a quarter of 2 / ||Hessian||.
        tolerance: Relative residual at which observed entries count as fitted exactly; see `attainable`.
        validation: Share held out where none of the ranks fits exactly; 0 keeps the rank at the gap, and calls one
            exact that fits the observed entries without asking others.
        max_steps: Of the descent.
        max_sweeps: Of alternating least squares.
        seed: Of start and held-out entries.

    Raises:
        InputError: Something out of range.
    """

    rank: int | None = None
    depth: int = 3
    width: int | None = None
    gamma: float = 5.0
    scale: float = 0.1
    step: float | None = None
    tolerance: float = 1e-8
    validation: float = 0.1
    max_steps: int = 1000
    max_sweeps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank is not None:
            check_count(self.rank, "rank")
        if self.width is not None:
            check_count(self.width, "width")
        check_count(self.max_steps, "max_steps")
        check_count(self.max_sweeps, "max_sweeps")
        if not 0 <= self.validation < 1:
            raise InputError("a share in [0, 1)", got=f"validation={self.validation!r}", remedy="Use 0.1, or 0.")
        if not self.tolerance >= 0:
            raise InputError("a tolerance of at least 0", got=repr(self.tolerance), remedy="Use 1e-8.")

    def sizes(self, observed: Observations) -> tuple[int, int]:
        """The largest rank and the columns of the network.

        Raises:
            InputError: A rank or a width above the smaller dimension.
        """
        least = min(observed.shape)
        for value, name in ((self.rank, "rank"), (self.width, "width")):
            if value is not None and value > least:
                raise InputError(
                    f"{name} at most {least}, the smaller dimension",
                    got=f"{name}={value}",
                    remedy="Lower it; over-estimates up to a few times the rank do no harm.",
                )
        limit = bearable_rank(observed.shape, len(observed)) if self.rank is None else self.rank
        width = self.width
        if width is None:
            width = min(2 * limit, least) if self.rank is not None else min(2 * limit, least, _WIDEST)
        return min(limit, width), width


@dataclass(frozen=True, eq=False)
class CompletionSolution(Solution):
    """A completed matrix A B^T and how it was chosen.

    Args:
        rank: r, the columns of A (m, r) and B (n, r).
        method: "exact rank", "rank at the gap", or what held-out entries chose.
        gap: The gap of the deep network's spectrum.
        spectrum: Singular values of the deep network when the gap was read.
        held_out: Root mean square error of held-out entries by fit, where they were asked.
    """

    rank: int = 0
    method: str = ""
    gap: SpectralGap | None = None
    spectrum: Tensor = field(default_factory=lambda: torch.zeros(0))
    held_out: dict[str, float] = field(default_factory=dict)


def complete_low_rank(
    observed: Observations, recipe: Recipe, *, tell: Callable[[str], None] = lambda _line: None
) -> CompletionSolution:
    r"""Complete a matrix from some of its entries without knowing its rank.

    1. A compressed deep network of too many columns descends from a small spectral start until 95 % of the entries'
       norm is fitted. Components come one after another, so that those of noise are still near zero.
    2. Its product's singular values show the rank at their largest ratio.
    3. Alternating least squares from the components above the gap make the fit precise. Where they do not fit the
       observed entries exactly, or not the few of these that were put aside (2 %, at most 100), the next two largest
       ratios are tried. Where both are fitted, a last sweep takes all entries.
    4. Where none fits, there is noise or no gap: `choose_by_held_out` decides. Where `max_sweeps` ended the first fit
       before that could be seen, it stays as it is, and the status says so.

    A step costs O(|Omega| k + (m + n) k^2) and a sweep O(|Omega| r^2 + (m + n) r^3); no m x n matrix is formed.

    Args:
        observed: Omega and x.
        recipe: How.
        tell: Called with a line of progress now and then.

    Returns:
        CompletionSolution with A and B; the rows of its trace follow the steps of the descent, then the sweeps.

    Raises:
        InputError: A rank above the smaller dimension. DegenerateError: Observed entries that are all zero.

    Reference: [kwon2024efficient] for the network; [hastie2015matrix] for the sweeps.
    """
    limit, width = recipe.sizes(observed)
    with threads_for(len(observed) * width):
        return _completed(observed, recipe, limit, width, tell)


def _completed(
    observed: Observations, recipe: Recipe, limit: int, width: int, tell: Callable[[str], None]
) -> CompletionSolution:
    began, trace = perf_counter(), Trace()
    recipe = replace(recipe, tolerance=attainable(recipe.tolerance, observed.values.dtype))
    asked = recipe.validation > 0 and len(observed) >= _ASKED
    train, held = part_for_check(observed, seed=recipe.seed) if asked else (observed, None)
    network, top = spectral_network(
        train, width, depth=recipe.depth, scale=recipe.scale, gamma=recipe.gamma, seed=recipe.seed
    )
    descent = descend_observed(train, network, top, step=recipe.step, max_steps=recipe.max_steps)
    _copy(trace, descent.trace, 0.0)
    tell(f"descent: {descent.status}")
    U, S, V = thin_svd(descent.A, descent.B)
    gaps = candidate_ranks(S, observed, limit=limit)
    # Where the descent has stopped short of most of the entries' norm, no few components fit them.
    tried = gaps if descent.status.converged else gaps[:1]
    found, method = _by_gap(observed, train, held, recipe, [balanced(U, S, V, gap.rank) for gap in tried])
    _copy(trace, found.trace, perf_counter() - began - found.trace["seconds"][-1])
    tell(f"gap at rank {gaps[0].rank}, ratio {gaps[0].ratio:.3g}; {found.status}")
    factors, status, errors = (found.A, found.B), found.status, {}
    if not method:
        chosen = choose_by_held_out(
            observed, width=width, limit=limit, depth=recipe.depth, share=recipe.validation, seed=recipe.seed
        )
        factors, errors = chosen.factors, chosen.errors
        method = " + ".join(f"{weight:.2f} {name}" for name, weight in chosen.weights.items())
        status = Status("converged", f"no rank fits all entries exactly; those held out chose {method}")
        tell(str(status))
    if descent.status.outcome == "diverged":
        status = descent.status
    return _solution(observed, factors, status, trace, method=method, gap=gaps[0], spectrum=S, held_out=errors)


def _by_gap(
    observed: Observations,
    train: Observations,
    held: Observations | None,
    recipe: Recipe,
    starts: list[tuple[Tensor, Tensor]],
) -> tuple[Solution, str]:
    """The first fit that is exact, with the entries it has not seen too, or that from the first start; and its name,
    which is empty where entries held out are to choose.
    """
    first = None
    for left, right in starts:
        fit = _swept(train, recipe, left, right, progress=_HOPELESS)
        first = first or fit
        if fit.trace["residual"][-1] > recipe.tolerance:
            continue
        fit = _trimmed(train, recipe, fit)
        if held is None or not len(held):
            return fit, "exact rank"
        if agrees(fit.A, fit.B, train, held, tolerance=recipe.tolerance):
            whole = _joined(fit, _swept(observed, recipe, fit.A, fit.B))
            if whole.trace["residual"][-1] <= recipe.tolerance:
                return whole, "exact rank"
    if held is None or first.status.outcome == "budget spent":
        return _joined(first, _swept(observed, recipe, first.A, first.B)), "rank at the gap"
    return first, ""


def _swept(observed: Observations, recipe: Recipe, left: Tensor, right: Tensor, **options: float) -> Solution:
    return alternating_least_squares(
        observed, left, right, tolerance=recipe.tolerance, max_sweeps=recipe.max_sweeps, **options
    )


def _joined(before: Solution, after: Solution) -> Solution:
    """What came after, with the trace of both."""
    trace = Trace()
    _copy(trace, before.trace, 0.0)
    _copy(trace, after.trace, before.trace["seconds"][-1])
    return replace(after, trace=trace)


def _trimmed(observed: Observations, recipe: Recipe, fit: Solution) -> Solution:
    """The same fit with fewer components, where an exact one of too large a rank shows a gap itself."""
    components = thin_svd(fit.A, fit.B)
    if len(components[1]) < 2:
        return fit
    gap = spectral_gap(components[1], floor=0.0)
    if gap.ratio < _SUPERFLUOUS:
        return fit
    smaller = _swept(observed, recipe, *balanced(*components, gap.rank))
    return smaller if smaller.trace["residual"][-1] <= recipe.tolerance else fit


def _copy(trace: Trace, rows: Trace, clock: float) -> None:
    """Add the rows of a phase after those of the one before."""
    last = trace["step"][-1] if len(trace) else 0
    for row in rows:
        values = {"objective": row["objective"], "residual": row["residual"], "seconds": clock + row["seconds"]}
        trace.record(last + int(row["step"]), values)


def _solution(observed: Observations, factors: tuple, status: Status, trace: Trace, **found) -> CompletionSolution:
    U, S, V = thin_svd(*factors)
    kept = max(1, int(S.gt(1e-12 * S[0]).sum())) if len(S) else 0
    A, B = balanced(U, S, V, kept)
    objective = 0.5 * float((observed.entries(A, B) - observed.values).square().sum())
    return CompletionSolution(status, objective, {"A": A, "B": B, "S": S[:kept]}, trace, rank=kept, **found)
