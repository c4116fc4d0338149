"""Linear chains: about the strength of decay beyond which all is zero, and beside the simplex with cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.runs.record import Claim, Panel
from tightframe.ufm.chain_solvers import disturbed, solve_deep
from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepUnconstrainedFeatures
from tightframe.ufm.levels import ranks

_EXACT = 1e-9
_REMARK = "TB, section 4.1, remark on the choice of loss function"

Row = Mapping[str, float | int | str | bool | None]

THRESHOLDS = Panel(
    kind="scatter",
    title="Linear chains about their threshold",
    caption="Singular values of the logits found from several starts, against the strength of decay over that beyond "
    "which all is zero. Lines: the minimum, which jumps from three factors on. Points off the lines are local minima, "
    "where some singular values are zero and some are not.",
    table="chains",
    x="ratio",
    y="singular value",
    color="factors",
    reference="predicted",
)

SIMPLEX = Panel(
    kind="curves",
    title="Cross-entropy without activation",
    caption="Lowest objective found of linear chains over that of the best simplex ETF, which is optimal for two "
    "factors. Below the dashed line the simplex is beaten.",
    table="cross-entropy",
    x="classes",
    y="ratio",
    color="factors",
    reference="one",
)


def thresholded(item: tuple[int, float, int]) -> list[Row]:
    """A linear chain of squared error, its decay `ratio` times as strong as that beyond which all is zero."""
    factors, ratio, seeds = item
    shape = {"classes": 4, "widths": (6,) * (factors - 1), "per_class": 5}
    base = DeepUnconstrainedFeatures(**shape, decays=tuple(1e-3 / 2**i for i in range(factors)))
    scale = ratio / deep_optimum(base).threshold
    problem = DeepUnconstrainedFeatures(**shape, decays=tuple(scale * decay for decay in base.decays))
    known = deep_optimum(problem)
    found = [solve_deep(problem, seed=seed) for seed in range(seeds)]
    # A singular value that begins too small ends at zero, a local minimum: two starts on either side as well.
    about = disturbed(known.point(), 0.2, draws=generator(0))
    found += [solve_deep(problem, start=start) for start in (about, problem.start(scale=1e-3))]
    named = {"factors": f"{factors} factors", "ratio": ratio, "predicted": known.scale}
    return [
        named | {"singular value": value, "excess": solution.objective - known.value}
        for solution in found
        for value in _distinct(problem, solution)
    ]


def _distinct(problem: DeepUnconstrainedFeatures, solution: Solution) -> list[float]:
    """Singular values of the logits of one sample per class, each once."""
    point = problem.point_of(solution)
    logits = point.weights[0] @ problem.levels(point)[-1]
    return sorted({round(float(value), 4) for value in torch.linalg.svdvals(logits[:, :: problem.counts[0]])})


def threshold_claims(chains: Sequence[Row]) -> list[Claim]:
    """The closed form is never undercut, is reached, and has the singular values that are found."""
    lowest: dict[tuple, float] = {}
    for row in chains:
        chain = (row["factors"], row["ratio"])
        lowest[chain] = min(row["excess"], lowest.get(chain, math.inf))
    best = [row for row in chains if row["excess"] <= lowest[row["factors"], row["ratio"]] + _EXACT]
    # The larger root is flat near the threshold: singular values are known to half the digits of the objective.
    stated = {
        "minimum": ("lowest objective found less the closed form, at most", max(map(abs, lowest.values())), _EXACT),
        "values": (
            "singular values of the logits at the minima, less the closed form",
            max(abs(row["singular value"] - row["predicted"]) for row in best),
            1e-3,
        ),
    }
    return [
        Claim(
            id=f"N11.chains.{key}",
            statement=f"Linear chains of any number of factors: {what}",
            source="closed form for L factors, after TB, theorem 4.1",
            expected=0.0,
            observed=observed,
            tolerance=tolerance,
            note=f"{len(lowest)} chains below and beyond their threshold",
        )
        for key, (what, observed, tolerance) in stated.items()
    ]


def beside_simplex(item: tuple[int, int, int]) -> Row:
    """The best point found of a linear chain with cross-entropy, beside the best simplex ETF."""
    factors, classes, starts = item
    shape = {"classes": classes, "widths": (classes,) * (factors - 1), "decays": (5e-3,) * factors}
    problem = DeepUnconstrainedFeatures(**shape, loss="ce")
    best, simplex = solve_deep(problem, starts=starts, max_iterations=2000), deep_optimum(problem).value
    named = {"L": factors, "factors": f"{factors} factors", "classes": classes, "one": 1.0}
    rank = ranks(problem, problem.point_of(best))[f"H{problem.layers}"]
    return named | {"ratio": best.objective / simplex, "rank": rank, "rank of the simplex": classes - 1}


def simplex_claims(linear: Sequence[Row]) -> list[Claim]:
    """No point of two factors is below the simplex, a theorem; nor of three, a remark of the source."""
    return [
        Claim(
            id=f"X1.cross-entropy.L{row['L']}.K{row['classes']}",
            statement=f"{row['factors']}, linear, cross-entropy, {row['classes']} classes: lowest objective found over "
            "that of the best simplex",
            source=_REMARK if row["L"] > 2 else "zhu2021geometric, theorem 3.1",
            expected=1.0,
            observed=row["ratio"],
            relation=">=",
            tolerance=1e-9,
            note=f"rank {row['rank']} where the simplex has {row['rank of the simplex']}",
        )
        for row in linear
        if row["L"] <= 3
    ]
