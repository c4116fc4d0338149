"""One model per loss, bias and size: solved beside its closed form, or crowded into fewer dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from tightframe.core.solution import Solution
from tightframe.runs.record import Cell
from tightframe.ufm.crowding import crowd
from tightframe.ufm.dynamics import collapse_metrics
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.shape import shape_of
from tightframe.ufm.solvers import solve

# Gap at which descent stops: distances go with its square root.
_TOLERANCE = 1e-13
# Metrics that a frame brings to zero. Those of the simplex see centred means, so that an orthogonal frame passes some.
_ZERO = {
    "simplex ETF": ("NC1", "NC2 features", "NC2 classifier", "NC3", "NC3 Tirer-Bruna"),
    "orthogonal frame": ("NC1", "NC2 features OF", "NC3 OF", "NC3 Tirer-Bruna"),
    "between": ("NC1", "NC2 features", "NC3 Tirer-Bruna"),
    # Its gap is the distance from the closed form, of second order in that of the point: too coarse for alignment.
    "projection": ("NC1",),
}
_METRICS = ("NC1", "NC2 features", "NC2 features OF", "NC2 classifier", "NC3", "NC3 OF", "NC3 Tirer-Bruna")

Row = Mapping[str, Cell]


def solve_regime(item: tuple[str, str | float, tuple[int, int, int], float]) -> dict[str, object]:
    """A random start solved, beside the closed form."""
    loss, bias, (classes, features, per_class), strength = item
    problem = _model(loss, bias, classes, features, per_class, strength)
    best, solution = optimum(problem), solve(problem, seed=classes + features, tolerance=_TOLERANCE)
    logits = solution.W @ solution.H[:, ::per_class]
    found, predicted = shape_of(logits), shape_of(best.logits) if best.known else None
    # A constant added to a free bias changes no loss of differences.
    free = bias == "free" and problem.loss.shift_invariant
    b = solution.b - solution.b.mean() if free else solution.b
    metrics = collapse_metrics(solution, problem.labels) if found.frame != "zero" else {}
    where = {"loss": problem.loss.name, "bias": _name(bias)}
    row = {
        **where,
        **{"K": classes, "d": features, "n": per_class, "strength": strength},
        "predicted frame": predicted.frame if predicted else "none known",
        "found frame": found.frame,
        "objective": solution.objective,
        "objective error": abs(solution.objective - best.value) if best.known else None,
        "gap": solution.certificate.gap,
        "logits error": float((logits - best.logits).abs().max()) if best.unique else None,
        **{name: metrics.get(name) for name in _METRICS},
        "worst metric": max((metrics[name] for name in _ZERO.get(found.frame, ()) if name in metrics), default=None),
        "bias norm": float(b.norm()),
        "bias error": float((b - best.bias).abs().max()) if best.known else None,
        "status": solution.status.outcome,
    }
    shapes = {"closed form": predicted, "found": found}
    return {
        "row": row,
        "frames": [{**where, "of": of, "m/a": s.along / s.across} for of, s in shapes.items() if s and s.across],
        "logits": _entries(logits / logits.abs().max().clamp(min=1e-300), f"{where['loss']}, {where['bias']}"),
    }


def solve_crowd(item: tuple[str, str | float, int, int, float, int]) -> dict[str, object]:
    """The lowest of several starts, one sample per class."""
    loss, bias, classes, features, strength, starts = item
    problem = _model(loss, bias, classes, features, 1, strength)
    found = crowd(problem, starts=starts)
    row = {
        **{
            "loss": problem.loss.name,
            "bias": _name(bias),
            "regime": f"bias {_name(bias)}",
            "K": classes,
            "d": features,
            "strength": strength,
        },
        "objective": found.solution.objective,
        "gap": found.solution.certificate.gap,
        "gap, at least 1e-16": max(found.solution.certificate.gap, 1e-16),
        "gradient norm": found.solution.certificate.evidence["gradient norm"],
        "share of starts": found.share,
        "largest cosine": found.largest_cosine,
        "bound": found.cosine_bound,
        "coherence": found.coherence,
        "Welch bound": found.welch_bound,
        "shortest over longest": found.evenness,
    }
    return {"row": row, "plane": _plane(found.solution, problem.loss.name, _name(bias)) if features == 2 else []}


def agreement(rows: Sequence[Row]) -> list[Row]:
    """The worst of all sizes, in digits."""
    columns = {"objective": "objective error", "dual gap": "gap", "logits": "logits error"}
    columns |= {"collapse": "worst metric", "bias": "bias error"}
    pairs = dict.fromkeys((row["loss"], row["bias"]) for row in rows)
    found = {
        (pair, name): worst([r for r in rows if (r["loss"], r["bias"]) == pair and r["bias error"] is not None], column)
        for pair, (name, column) in product(pairs, columns.items())
    }
    return [
        {"loss": pair[0], "bias": pair[1], "quantity": name, "digits": -math.log10(max(error, 1e-16))}
        for (pair, name), error in found.items()
        if error is not None
    ]


def worst(rows: Sequence[Row], column: str) -> float | None:
    """The largest modulus in a column; None where no row has a value."""
    return max((abs(row[column]) for row in rows if row[column] is not None), default=None)


def _model(
    loss: str, bias: str | float, classes: int, features: int, per_class: int, strength: float
) -> UnconstrainedFeatures:
    # Decays for which rows of the classifier and features come out of one length.
    decay = strength / classes
    return UnconstrainedFeatures(
        classes=classes,
        features=features,
        per_class=per_class,
        loss=loss,
        weight_decay=(decay, decay / per_class),
        bias=bias,
    )


def _plane(solution: Solution, loss: str, bias: str) -> list[Row]:
    """Features in the plane, over the longest, turned so that the first class lies on the first axis."""
    angle = math.atan2(float(solution.H[1, 0]), float(solution.H[0, 0]))
    cos, sin = math.cos(angle), math.sin(angle)
    points = (torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64) @ solution.H).T
    points = (points / torch.linalg.vector_norm(points, dim=1).max()).tolist()
    return [
        {"model": f"{loss}, bias {bias}", "K": len(points), "class": str(k), "x": round(x, 5), "y": round(y, 5)}
        for k, (x, y) in enumerate(points)
    ]


def _entries(matrix: Tensor, name: str) -> list[Row]:
    return [
        {"model": name, "output": str(i), "class": str(j), "logit": round(value, 6)}
        for i, line in enumerate(matrix.tolist())
        for j, value in enumerate(line)
    ]


def _name(bias: str | float) -> str:
    return bias if isinstance(bias, str) else f"{bias:g}"
