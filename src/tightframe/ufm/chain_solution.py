"""The `Solution` of a chain at a point, with a status that says what is known and what is not."""

from __future__ import annotations

import math

from torch import Tensor

from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.ufm.chain_certificate import certify_deep
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures

# A gradient this far below the decay times the point counts as zero.
_CRITICAL = 1e-7


def described(
    problem: DeepUnconstrainedFeatures,
    point: DeepPoint,
    trace: Trace,
    tolerance: float,
    budget: str,
    *,
    spent: bool = True,
) -> Solution:
    """The solution at a point, with an honest status."""
    certificate = certify_deep(problem, point, tolerance=tolerance)
    status = _status(problem, point, certificate, budget, spent)
    return Solution(status, problem.objective(point), named(problem, point), trace, certificate)


def _status(
    problem: DeepUnconstrainedFeatures, point: DeepPoint, certificate: Certificate | None, budget: str, spent: bool
) -> Status:
    exact = certificate is not None and certificate.kind == "closed form"
    gap = f"the gap is {certificate.gap:.2e}" if exact else "no minimum is known for this chain"
    if exact and certificate.holds:
        return Status("converged", f"{gap}: globally optimal, by the closed form")
    slope = _relative_gradient(problem, point)
    if slope > _CRITICAL:
        if spent:
            return Status("budget spent", f"{gap}, and the relative gradient {slope:.1e}, after {budget}")
        return Status("stalled", f"{gap}, and no step falls at a relative gradient of {slope:.1e}; try other seeds")
    if exact:
        return Status("stalled", f"critical, but {gap}: a saddle or a local minimum; try other seeds, or raise starts")
    return Status(
        "converged", f"a critical point, relative gradient {slope:.1e}; {gap}: raise starts to look for better"
    )


def _relative_gradient(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> float:
    """The gradient over the gradient of the decay term, in factors of equal decay."""
    gradient = problem.gradient(point)[1]
    over, under = 0.0, 0.0
    for decay, slope, factor in zip(problem.decays, gradient.factors, point.factors, strict=True):
        over += float(slope.square().sum()) / decay
        under += decay * float(factor.square().sum())
    return math.sqrt(over / under) if under else 0.0


def named(problem: DeepUnconstrainedFeatures, point: DeepPoint) -> dict[str, Tensor]:
    """Its factors by name, W1 first and H1 last."""
    weights = {f"W{problem.layers - i}": W for i, W in enumerate(point.weights)}
    return dict(reversed(weights.items())) | {"H1": point.H}
