"""N7, for unconstrained features: four losses lead to one frame, of different sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from tightframe.collapse.simplex import frame_distance
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.losses import named_loss
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.solvers import solve

_SOURCE = "L4, are all losses created equal; [zhou2022all]"
_LOSSES = ("ce", "ls", "focal", "mse")
# Points at distance e from a minimiser have a gap of the order e^2: the gap asked for is well below this squared.
_SAME, _GAP = 1e-6, 1e-14
_HIGHEST = 2.0  # colours end here

Row = Mapping[str, float | int | str]


@dataclass(frozen=True)
class Config:
    """What is solved.

    Args:
        sizes: (K, d, n) of the models.
        strengths: Values of t K, t = sqrt(n lambda_W lambda_H); cross-entropy has its zero at 1.
        seeds: Starts of each.
        grid: Points along each side of the slices through the landscape.
    """

    sizes: tuple[tuple[int, int, int], ...] = ((4, 8, 20), (10, 9, 20), (32, 48, 10))
    strengths: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 0.6)
    seeds: int = 3
    grid: int = 41


PRESETS = {
    "smoke": Config(sizes=((4, 8, 20), (10, 9, 20)), strengths=(3e-3, 3e-2, 0.3), seeds=1, grid=25),
    "quick": Config(),
    "paper": Config(sizes=((4, 8, 20), (10, 9, 20), (32, 48, 10), (100, 128, 100)), seeds=5),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Solve every model under every loss, compare the frames, and look at the landscape around each."""
    models = [
        (size, strength, seed) for size in config.sizes for strength in config.strengths for seed in range(config.seeds)
    ]
    found = sweep(solved, models)
    rows = [row for part in found for row in part["rows"]]
    pairs = [row for part in found for row in part["pairs"]]
    slices = [row for part in sweep(sliced, [(loss, config.grid) for loss in _LOSSES]) for row in part]
    claims = tuple(judge(rows, pairs))
    apart = max(row["difference"] for row in pairs)
    sizes = {row["loss"]: row["scale"] for row in rows}
    answer = (
        f"Over {len(models)} models the class means under any two of the four losses have the same normalised Gram "
        f"matrix within {apart:.0e}, a simplex's. What differs is the size: the last model's logits have scale "
        + ", ".join(f"{scale:.3g} ({name})" for name, scale in sizes.items())
        + ". Accuracy of trained networks is another question, which this model cannot answer."
    )
    return Findings(
        claims,
        answer,
        {"frames": table_of(rows), "pairs": table_of(pairs), "slices": table_of(slices)},
        tuple(_panels()),
    )


def solved(item: tuple[tuple[int, int, int], float, int]) -> dict[str, list[Row]]:
    """One model under the four losses: its frame under each, and the differences between them."""
    (classes, features, per_class), strength, seed = item
    decay = strength / classes / per_class**0.5
    rows, grams = [], {}
    for loss in _LOSSES:
        problem = _problem(loss, classes, features, per_class, decay)
        solution = solve(problem, seed=seed, tolerance=_GAP)
        grams[loss] = _gram(solution.H[:, ::per_class])
        logits = solution.W @ solution.H[:, ::per_class]
        rows.append(
            {
                "model": f"K = {classes}, d = {features}",
                "strength": strength,
                "seed": seed,
                "loss": problem.loss.name,
                "gap": solution.certificate.gap,
                "frame distance": frame_distance(grams[loss], "etf"),
                "alignment": frame_distance(logits, "etf"),
                "scale": float(logits.trace() - logits.mean() * classes) / (classes - 1),
                "predicted": optimum(problem).scale,
            }
        )
    pairs = [
        {
            "model": rows[0]["model"],
            "strength": strength,
            "seed": seed,
            "losses": f"{named_loss(first).name} and {named_loss(second).name}",
            "difference": float(torch.linalg.matrix_norm(grams[first] - grams[second])),
        }
        for first, second in combinations(_LOSSES, 2)
    ]
    return {"rows": rows, "pairs": pairs}


def sliced(item: tuple[str, int]) -> list[Row]:
    """The objective at (x W, y H) around a minimiser (W, H), as a share of what is to be gained from zero."""
    loss, grid = item
    problem = _problem(loss, 4, 8, 20, 0.03 / 4 / 20**0.5)
    best = optimum(problem)
    at, rows = best.point(), []
    zero = problem.objective(0 * at.W, 0 * at.H, at.b)
    for x in torch.linspace(-2, 2, grid).tolist():
        for y in torch.linspace(-2, 2, grid).tolist():
            point = Point(x * at.W, y * at.H, at.b)
            share = (problem.objective(point.W, point.H, point.b) - best.value) / (zero - best.value)
            rows.append({"loss": problem.loss.name, "x": round(x, 3), "y": round(y, 3), "excess": min(share, _HIGHEST)})
    return rows


def judge(rows: Sequence[Row], pairs: Sequence[Row]) -> list[Claim]:
    """One frame for each loss, the same for all, all of it certified."""
    claims = []
    for name in dict.fromkeys(row["loss"] for row in rows):
        own = [row for row in rows if row["loss"] == name]
        claims += [
            Claim(
                id=f"N7.{_ids()[name]}.{what}",
                statement=f"{statement}, {name}",
                source=_SOURCE,
                expected=0.0,
                observed=max(row[column] for row in own),
                tolerance=_SAME,
                note=f"largest of {len(own)} certified minima",
            )
            for what, column, statement in (
                ("simplex", "frame distance", "Class means form a simplex ETF: distance of the normalised Gram matrix"),
                ("duality", "alignment", "The classifier is aligned with them: distance of the normalised W Hbar"),
            )
        ]
        claims.append(
            Claim(
                id=f"N7.{_ids()[name]}.certified",
                statement=f"Every solution is globally optimal: largest dual gap, {name}",
                source=_SOURCE,
                expected=0.0,
                observed=max(row["gap"] for row in own),
                tolerance=1e-9,
            )
        )
    claims.append(
        Claim(
            id="N7.same",
            statement="All losses lead to the same features up to size: largest difference of normalised Gram matrices",
            source=_SOURCE,
            expected=0.0,
            observed=max(row["difference"] for row in pairs),
            tolerance=_SAME,
            note=f"{len(pairs)} pairs of losses",
        )
    )
    return claims


def _panels() -> list[Panel]:
    return [
        Panel(
            kind="scatter",
            title="One frame, four sizes",
            caption="Repeated eigenvalue of W Hbar against t K = K sqrt(n lambda_W lambda_H): found, and as lines the "
            "closed forms. Where a line ends at zero the decay is so strong that all features vanish.",
            table="frames",
            x="strength",
            y="scale",
            color="loss",
            facet="model",
            reference="predicted",
            x_scale="log",
        ),
        Panel(
            kind="scatter",
            title="How equal the frames are",
            caption="Frobenius distance between the normalised Gram matrices of the class means under two losses. What "
            "is left is the accuracy of the solver.",
            table="pairs",
            x="strength",
            y="difference",
            color="losses",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="matrix",
            title="The landscape around a minimum, loss by loss",
            caption="Objective at (x W, y H), (W, H) a minimiser, above the minimum and as a share of its value at "
            "zero. Two minima at (1, 1) and (-1, -1), a saddle at zero, nothing else. Colours end at "
            f"{_HIGHEST:g}.",
            table="slices",
            x="x",
            y="y",
            value="excess",
            facet="loss",
        ),
    ]


def _problem(loss: str, classes: int, features: int, per_class: int, decay: float) -> UnconstrainedFeatures:
    shape = {"classes": classes, "features": features, "per_class": per_class}
    return UnconstrainedFeatures(**shape, loss=loss, weight_decay=(decay, decay), bias="free")


def _ids() -> dict[str, str]:
    return {named_loss(loss).name: loss for loss in _LOSSES}


def _gram(means: Tensor) -> Tensor:
    centred = means - means.mean(1, keepdim=True)
    gram = centred.T @ centred
    return gram / torch.linalg.matrix_norm(gram)


EXPERIMENT = Study(entry("ufm-losses"), PRESETS, investigate)
