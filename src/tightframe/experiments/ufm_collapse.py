"""N1: every loss against every bias, from d = K - 1 dimensions on; and what is found in fewer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from tightframe.core.errors import DegenerateError
from tightframe.core.solution import Solution
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.geometry.coherence import coherence, cosine_bound, largest_cosine, welch_bound
from tightframe.runs.record import Cell, Claim, Panel, table_of
from tightframe.ufm.dynamics import collapse_metrics
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import Optimum, optimum
from tightframe.ufm.solvers import solve

_SOURCE = "Q21 and L4, global optimality; theorem 3.1 of Zhu et al. 2021 and of Zhou et al. 2022"
_SQUARED = "TB, theorems 3.1 and 3.2, and the regularised bias between them"
_BEYOND = "beyond the sources, which need d >= K - 1"
# What the ledger asks of objectives and of metrics.
_EXACT, _COLLAPSED = 1e-9, 1e-6
# Gap at which descent stops: distances go with its square root.
_TOLERANCE = 1e-13
# Metrics that a frame brings to zero. Those of the simplex see centred means, so that an orthogonal frame passes too.
_ZERO = {
    "simplex ETF": ("NC1", "NC2 features", "NC2 classifier", "NC3", "NC3 Tirer-Bruna"),
    "orthogonal frame": ("NC1", "NC2 features OF", "NC3 OF", "NC3 Tirer-Bruna"),
    "between": ("NC1", "NC2 features", "NC3 Tirer-Bruna"),
    "projection": ("NC1", "NC3 Tirer-Bruna"),
}

Row = Mapping[str, Cell]


@dataclass(frozen=True)
class Config:
    """What is solved.

    Args:
        losses: By name.
        biases: "none", "free" or a coefficient.
        sizes: (K, d, n) with d from K - 1 upward.
        strengths: Values of K sqrt(n lambda_W lambda_H); zero is optimal from about 1 on.
        crowded: Numbers of classes that are placed in d = 2, ..., K dimensions.
        crowded_losses: Losses of these; squared error has a closed form there.
        crowded_biases: Biases of these.
        crowded_strength: Strength of these.
        starts: Random starts of each of these, of which the lowest counts.
    """

    losses: tuple[str, ...] = ("ce", "ls", "focal", "mse")
    biases: tuple[str | float, ...] = ("none", "free", 0.05)
    sizes: tuple[tuple[int, int, int], ...] = (
        (4, 20, 50),
        (4, 3, 50),
        (10, 9, 10),
        (10, 16, 10),
        (32, 31, 4),
        (32, 64, 4),
    )
    strengths: tuple[float, ...] = (0.02, 0.2)
    crowded: tuple[int, ...] = (6, 10)
    crowded_losses: tuple[str, ...] = ("ce", "ls", "focal")
    crowded_biases: tuple[str, ...] = ("none", "free")
    crowded_strength: float = 1e-2
    starts: int = 6


PRESETS = {
    "smoke": Config(sizes=((4, 6, 5), (4, 3, 5)), strengths=(0.05,), crowded=(6,), crowded_losses=("ce",), starts=2),
    "quick": Config(),
    "paper": Config(
        sizes=((4, 20, 50), (10, 9, 500), (10, 512, 500), (100, 99, 20), (100, 512, 20)),
        strengths=(0.005, 0.02, 0.2),
        crowded=(6, 8, 10, 14),
        starts=20,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every loss with every bias at every size, and then with fewer dimensions than the frame needs."""
    cells = list(product(config.losses, config.biases, config.sizes, config.strengths))
    solved = sweep(solved_cell, cells)
    rows = [found["row"] for found in solved]
    places = product(config.crowded_losses, config.crowded_biases, config.crowded)
    crowded = sweep(
        crowded_cell,
        [
            (loss, bias, K, d, config.crowded_strength, config.starts)
            for loss, bias, K in places
            for d in range(2, K + 1)
        ],
    )
    few = [found["row"] for found in crowded]
    first = (config.sizes[0], config.strengths[0])
    tables = {
        "solutions": table_of(rows),
        "agreement": table_of(_agreement(rows)),
        "frames": table_of([line for found in solved if found["at"] == first for line in found["frames"]]),
        "logits": table_of([line for found in solved if found["at"] == first for line in found["logits"]]),
        "few dimensions": table_of(few),
        "in the plane": table_of([line for found in crowded for line in found["plane"]]),
    }
    claims = [*_grid_claims(rows), *_crowded_claims(few)]
    return Findings(tuple(claims), _answer(rows, few), tables, _panels(config))


def solved_cell(item: tuple[str, str | float, tuple[int, int, int], float]) -> dict[str, object]:
    """A random start solved, beside the closed form."""
    loss, bias, (classes, features, per_class), strength = item
    problem = _model(loss, bias, classes, features, per_class, strength)
    best, solution = optimum(problem), solve(problem, seed=classes + features, tolerance=_TOLERANCE)
    logits = solution.W @ solution.H[:, ::per_class]
    b = solution.b - (solution.b.mean() if bias == "free" and problem.loss.shift_invariant else 0)
    found, along = _shape(logits)
    metrics = collapse_metrics(solution, problem.labels) if found != "zero" else {}
    collapse = [metrics[name] for name in _ZERO.get(found, ()) if name in metrics]
    where = {"loss": problem.loss.name, "bias": _name(bias)}
    predicted_frame, predicted_along = _shape(best.logits) if best.known else ("none known", None)
    row = {
        **where,
        "K": classes,
        "d": features,
        "n": per_class,
        "c": strength,
        "predicted frame": predicted_frame,
        "found frame": found,
        "value": solution.objective,
        "value error": abs(solution.objective - best.value) if best.known else None,
        "gap": solution.certificate.gap,
        "logits error": float((logits - best.logits).abs().max()) if best.known and best.unique else None,
        "worst metric": max(collapse, default=0.0),
        **{name: metrics.get(name) for name in ("NC1", "NC2 features", "NC2 features OF", "NC3", "NC3 OF")},
        "bias norm": float(b.norm()),
        "bias error": float((b - best.bias).norm()) if best.known else None,
        "status": solution.status.outcome,
    }
    shapes = {"closed form": predicted_along, "found": along}
    return {
        "at": item[2:],
        "row": row,
        "frames": [{**where, "of": of, "along the ones": value} for of, value in shapes.items()],
        "logits": _entries(logits / logits.abs().max().clamp(min=1e-300), ", ".join(where.values())),
    }


def crowded_cell(item: tuple[str, str, int, int, float, int]) -> dict[str, object]:
    """The lowest of several starts where the frame may not fit, one sample per class."""
    loss, bias, classes, features, strength, starts = item
    problem = _model(loss, bias, classes, features, 1, strength)
    solutions = [solve(problem, seed=seed, tolerance=1e-11, max_iterations=5000) for seed in range(starts)]
    best = min(solutions, key=lambda solution: solution.objective)
    lowest = sum(s.objective <= best.objective + 1e-8 * abs(best.objective) for s in solutions)
    lengths = torch.linalg.vector_norm(best.W, dim=1)
    row = {
        "loss": problem.loss.name,
        "bias": _name(bias),
        "K": classes,
        "d": features,
        "c": strength,
        "value": best.objective,
        "gap": best.certificate.gap,
        "gap drawn": max(best.certificate.gap, 1e-16),
        "gradient norm": best.certificate.evidence["gradient norm"],
        "share of starts": lowest / starts,
        "largest cosine": _defined(largest_cosine, best.W),
        "cosine bound": cosine_bound(classes, features),
        "coherence": _defined(coherence, best.W),
        "Welch bound": welch_bound(classes, features),
        "shortest over longest": float(lengths.min() / lengths.max()),
    }
    return {"row": row, "plane": _plane(best, f"{problem.loss.name}, bias {_name(bias)}") if features == 2 else []}


def _model(
    loss: str, bias: str | float, classes: int, features: int, per_class: int, strength: float
) -> UnconstrainedFeatures:
    # Decays for which classifier rows and features come out of equal length.
    root = per_class**0.5
    decay = strength / (classes * root)
    return UnconstrainedFeatures(
        classes=classes,
        features=features,
        per_class=per_class,
        loss=loss,
        weight_decay=(decay * root, decay / root),
        bias=bias,
    )


def _shape(logits: Tensor) -> tuple[str, float | None]:
    """Which frame W Hbar belongs to, and, for a (I - J/K) + m J/K, the ratio m/a."""
    classes, size = len(logits), float(torch.linalg.matrix_norm(logits))
    if size < _COLLAPSED:
        return "zero", None
    m = float(logits.sum()) / classes
    a = (float(logits.trace()) - m) / (classes - 1)
    eye, ones = torch.eye(classes, dtype=torch.float64), torch.full((classes, classes), 1 / classes).to(logits)
    if float(torch.linalg.matrix_norm(logits - a * (eye - ones) - m * ones)) < _COLLAPSED * size:
        frame = {0: "simplex ETF", 1: "orthogonal frame"}.get(round(m / a, 5), "between")
        return frame, m / a
    values = torch.linalg.eigvalsh((logits + logits.T) / 2)
    flat = torch.minimum(values.abs(), (values - values[-1]).abs()).max() < _COLLAPSED * size
    symmetric = torch.linalg.matrix_norm(logits - logits.T) < _COLLAPSED * size
    return ("projection" if bool(flat & symmetric) else "other"), None


def _defined(measure, rows: Tensor) -> float | None:
    """A measure of directions, or None where a row is as good as zero."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    if float(lengths.min()) <= _COLLAPSED * float(lengths.max()):
        return None
    try:
        return measure(rows)
    except DegenerateError:
        return None


def _plane(solution: Solution, name: str) -> list[Row]:
    """Features in the plane, turned so that the first class lies on the first axis."""
    angle = math.atan2(float(solution.H[1, 0]), float(solution.H[0, 0]))
    turn = torch.tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    return [
        {"model": name, "K": solution.H.shape[1], "class": str(k), "x": round(x, 5), "y": round(y, 5)}
        for k, (x, y) in enumerate((turn @ solution.H).T.tolist())
    ]


def _entries(matrix: Tensor, name: str) -> list[Row]:
    return [
        {"model": name, "output": str(i), "class": str(j), "logit": round(value, 6)}
        for i, line in enumerate(matrix.tolist())
        for j, value in enumerate(line)
    ]


def _agreement(rows: Sequence[Row]) -> list[Row]:
    """Digits to which theory and solutions agree, per loss and bias: the worst of all sizes."""
    columns = {"objective": "value error", "gap": "gap", "logits": "logits error", "NC": "worst metric"}
    columns["bias"] = "bias error"
    return [
        {"loss and bias": f"{loss}, {bias}", "quantity": quantity, "digits": min(16.0, -math.log10(max(worst, 1e-16)))}
        for loss, bias in dict.fromkeys((row["loss"], row["bias"]) for row in rows)
        for quantity, column in columns.items()
        for worst in [_worst([r for r in rows if (r["loss"], r["bias"]) == (loss, bias)], column)]
        if worst is not None
    ]


def _worst(rows: Sequence[Row], column: str) -> float | None:
    return max((abs(row[column]) for row in rows if row[column] is not None), default=None)


def _name(bias: str | float) -> str:
    return bias if isinstance(bias, str) else f"{bias:g}"
