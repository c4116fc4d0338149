"""The minimum that a solver finds, beside the closed form."""

from __future__ import annotations

from tightframe.core.errors import InputError
from tightframe.ufm.dynamics import collapse_metrics
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.solvers import solve


def compared(problem: UnconstrainedFeatures, *, seed: int = 0, tolerance: float = 1e-13) -> dict[str, float]:
    r"""Solve a model from a random start and say how far the solution is from the closed form, quantity by quantity.

    .. math:: W\bar H = a\,(I - \tfrac1K J) + m\,\tfrac1K J

    Args:
        problem: One with balanced classes whose optimum is known.
        seed: Seed of the start.
        tolerance: Dual gap at which the solver stops. Points at distance e have a gap of the order e^2 only in
            directions along which the model curves: ask for much less than the square of what is to be seen.

    Returns:
        "gap", the certified one; "value error", "logits error", "bias error": absolute, the largest entry; "scale" a
        and "m" as found, "predicted scale" and "predicted m"; and, where W is not zero, "NC2 simplex" of the centred
        class means and "NC3 alignment", the distance of W/|W| from Hbar^T/|Hbar|.

    Raises:
        InputError: No closed form is known, or classes are of several sizes.

    Example:
        >>> problem = UnconstrainedFeatures(classes=3, features=4, per_class=5, loss="mse", weight_decay=(1e-2, 1e-2))
        >>> found = compared(problem)
        >>> found["logits error"] < 1e-8, round(found["m"], 6)
        (True, 0.932918)
    """
    best = optimum(problem)
    if not (best.known and problem.balanced):
        raise InputError("balanced classes and a known optimum", got=best.reason, remedy="Use solve(problem).")
    solution, classes = solve(problem, seed=seed, tolerance=tolerance), problem.classes
    logits = solution.W @ solution.H[:, :: problem.counts[0]]
    m, predicted_m = (float(matrix.sum()) / classes for matrix in (logits, best.logits))
    found = {
        "gap": solution.certificate.gap,
        "value error": abs(solution.objective - best.value),
        "logits error": float((logits - best.logits).abs().max()),
        "bias error": float((solution.b - best.bias).abs().max()),
        "scale": (float(logits.trace()) - m) / (classes - 1),
        "predicted scale": best.scale,
        "m": m,
        "predicted m": predicted_m,
    }
    if best.frame == "zero":
        return found
    metrics = collapse_metrics(solution, problem.labels)
    return found | {"NC2 simplex": metrics["NC2 features"], "NC3 alignment": metrics["NC3 Tirer-Bruna"]}
