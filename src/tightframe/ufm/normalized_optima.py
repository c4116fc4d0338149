"""Global optima on spheres in closed form, where one is known, and what is proven of the landscape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.geometry.frames import simplex_etf
from tightframe.ufm.losses import CrossEntropy, Focal
from tightframe.ufm.model import Point
from tightframe.ufm.normalized import NormalizedFeatures

# Agreement of two roots that bisection found.
_SAME = 1e-9


@dataclass(frozen=True)
class NormalizedOptimum:
    r"""The global minimum on spheres, or the statement that none is known.

    Args:
        known: Whether a closed form covers this model; `reason` says which, or why not.
        reason: In words.
        value: Minimum of the objective; None where it is not known.
        bound: What no point is below: `value`, or that of more dimensions; None where no closed form covers these.
        margin: Logit of the true class less that of any other at the minimiser (or at that of more dimensions).
        cosine: <w_j, w_k> of two classes at the minimiser; features equal classifiers there.
        welch: Welch's bound on the largest |<w_j, w_k>| of any K unit vectors in R^d; 0 from d = K on.
        source: Theorem or equation.
    """

    known: bool
    reason: str
    value: float | None = None
    bound: float | None = None
    margin: float | None = None
    cosine: float | None = None
    welch: float = 0.0
    source: str = ""
    problem: NormalizedFeatures | None = None

    def point(self, *, seed: int = 0) -> Point:
        """A minimiser W = Hbar^T, placed by a Haar-random rotation."""
        if not self.known:
            raise InputError("a model with a known optimum", got=self.reason, remedy="Use solve_normalized(problem).")
        classes, features = self.problem.classes, self.problem.features
        part = (1 - self.cosine) * (classes - 1) / classes
        if part > 1 - 1e-15:
            W = simplex_etf(classes, features, seed=seed)
        else:
            frame = torch.linalg.qr(simplex_etf(features + 1, features, seed=seed).T[:, :features]).Q
            simplex = simplex_etf(classes, classes - 1) @ frame[:, 1:classes].T
            W = part**0.5 * simplex + (1 - part) ** 0.5 * frame[:, 0]
        return self.problem.point(W, W.T[:, self.problem.labels])


def normalized_optimum(problem: NormalizedFeatures) -> NormalizedOptimum:
    r"""The global minimum in closed form.

    With balanced classes the mean margin of the true class is at most tau K/(K-1), with equality only for
    W = Hbar^T = simplex ETF, and the losses covered here are, along the margin, above their tangents where it matters:

    .. math:: f^\star = \log\big(1 + (K-1) e^{-\tau K/(K-1)}\big) \quad\text{for cross-entropy, } d \ge K - 1

    - label smoothing by alpha adds alpha (1 - 1/K) tau K/(K-1), up to the temperature at which the margin reaches
      log((K-1)p/(1-p)), p = 1 - alpha (1 - 1/K). Beyond, that margin is the optimum; the classes then share a common
      direction, which takes d >= K.
    - focal loss: psi(tau K/(K-1) - log(K-1)), where psi is there on its convex hull.

    Returns:
        The optimum; `known` is False where no closed form covers the model, and `reason` says why.

    Example:
        >>> found = normalized_optimum(NormalizedFeatures(classes=4, features=8, temperature=5.0))
        >>> round(found.value, 14), round(found.cosine, 6)
        (0.00381063171588, -0.333333)

    Reference: [yaras2022neural], theorem 3.1 (there for d > K; the bound above needs d >= K - 1 alone).
    """
    classes, features = problem.classes, problem.features
    welch = math.sqrt((classes - features) / (features * (classes - 1))) if features < classes else 0.0
    if not problem.balanced:
        return NormalizedOptimum(False, "no closed form is known for unequal classes", welch=welch, problem=problem)
    margin = _best_margin(problem)
    if margin is None:
        reason = f"no closed form is known for {problem.loss.name} at this temperature"
        return NormalizedOptimum(False, reason, welch=welch, problem=problem)
    value = _along_margin(problem, margin)
    cosine = 1 - margin / problem.temperature
    shared = cosine > -1 / (classes - 1) + 1e-15
    needed = classes if shared else classes - 1
    if features < needed:
        reason = f"no closed form is known for d = {features}: the frame needs d = {needed}"
        return NormalizedOptimum(False, reason, bound=value, margin=margin, welch=welch, problem=problem)
    return NormalizedOptimum(
        True,
        f"balanced classes, d >= {'K' if shared else 'K - 1'}",
        value=value,
        bound=value,
        margin=margin,
        cosine=cosine,
        welch=welch,
        source="yaras2022neural, theorem 3.1",
        problem=problem,
    )


def proven_temperature(classes: int, features: int) -> float:
    r"""The temperature below which the source proves that every critical point is global or a strict saddle.

    .. math:: \tau < \frac{2(d-2)}{1 + (K \bmod 2)/K}, \qquad d > K

    Args:
        classes: K, at least 2.
        features: d, at least 2.

    Returns:
        The bound; 0 for d <= K, of which the theorem says nothing.

    Example:
        >>> proven_temperature(4, 8), round(proven_temperature(5, 8), 6), proven_temperature(4, 4)
        (12.0, 10.0, 0.0)

    Reference: [yaras2022neural], theorem 3.2.
    """
    check_count(classes, "classes", least=2)
    check_count(features, "features", least=2)
    return 2 * (features - 2) / (1 + classes % 2 / classes) if features > classes else 0.0


def _best_margin(problem: NormalizedFeatures) -> float | None:
    """Margin at the minimum over all dimensions, or None where that is not known."""
    loss, classes = problem.loss, problem.classes
    largest = problem.temperature * classes / (classes - 1)
    if isinstance(loss, CrossEntropy):
        wrong = loss.smoothing * (1 - 1 / classes)
        return min(largest, math.log((classes - 1) * (1 - wrong) / wrong)) if wrong else largest
    if isinstance(loss, Focal):
        # Where the loss is convex the root is unique; elsewhere a tangent that supports it globally is enough.
        at = torch.tensor(largest - math.log(classes - 1), dtype=torch.float64)
        slope = -loss.slope(at)
        supported = loss.gamma == 0 or (slope < 1 and abs(float(loss.margin_at(slope) - at)) < _SAME * max(1, abs(at)))
        return largest if supported else None
    return None


def _along_margin(problem: NormalizedFeatures, margin: float) -> float:
    """Loss of a sample whose true logit is `margin` above all others."""
    column = torch.zeros(problem.classes, 1, dtype=torch.float64)
    column[0] = margin
    return float(problem.loss.value(column, torch.zeros(1, dtype=torch.long))[0])
