"""Global optima in closed form, where one is known."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import ClassVector, Float
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures

Square = Float[Tensor, "k k"]


@dataclass(frozen=True, eq=False)
class Optimum:
    r"""The global minimum of a model, or the statement that none is known.

    Args:
        known: Whether a closed form covers this model; `reason` says which, or why not.
        reason: In words.
        value: Minimum of the objective.
        logits: W Hbar at a minimiser (k, k), Hbar the class means; without the bias.
        bias: b (k,).
        frame: "simplex ETF", "orthogonal frame", "between" (both parts of the logits differ from zero and from each
            other), "general orthogonal frame" (orthogonal, of unequal norms), "projection" (rank d below that of the
            frame: any d-dimensional part of it), or "zero".
        scale: The repeated eigenvalue of W Hbar on the vectors that sum to zero.
        threshold: The number that must be below 1 for the minimiser to differ from zero.
        unique: Whether W Hbar is the same at all minimisers (W and Hbar themselves are free up to a rotation).
        source: Theorem or equation.
    """

    known: bool
    reason: str
    value: float | None = None
    logits: Square | None = None
    bias: ClassVector | None = None
    frame: str | None = None
    scale: float | None = None
    threshold: float | None = None
    unique: bool = False
    source: str = ""
    problem: UnconstrainedFeatures | None = None

    def point(self, *, seed: int = 0) -> Point:
        """A minimiser: balanced factors U sqrt(S), sqrt(S) V of the logits, placed by a Haar-random rotation."""
        if not self.known:
            raise InputError("a model with a known optimum", got=self.reason, remedy="Use solve(problem).")
        problem, counts = self.problem, torch.tensor(self.problem.counts, dtype=torch.float64)
        left, values, right = torch.linalg.svd(self.logits * counts.sqrt())
        rank = min(problem.features, problem.classes)
        left, values, right = left[:, :rank], values[:rank], right[:rank]
        # The square root of a rounding error is not one.
        values = values * (values > 1e-13 * values[0])
        normal = torch.randn(problem.features, rank, dtype=torch.float64, generator=generator(seed))
        frame = torch.linalg.qr(normal).Q
        ratio = (problem.weight_decay[0] / problem.weight_decay[1]) ** 0.25
        W = (left * values.sqrt()) @ frame.T / ratio
        means = frame @ (values.sqrt()[:, None] * right) * ratio / counts.sqrt()
        return Point(W, means[:, problem.labels], self.bias)


def optimum(problem: UnconstrainedFeatures) -> Optimum:
    r"""The global minimum in closed form.

    With balanced classes the minimiser is invariant under permutations of the classes, so W Hbar = a (I - J/K) + m J/K:

    .. math:: \min_{a, m, b}\; l(a, m, b) + t\,\big((K-1)|a| + |m|\big) + \tfrac{\lambda_b}{2} K b^2,
        \qquad t = \sqrt{n \lambda_W \lambda_H}

    - cross-entropy, smoothed by alpha: a = log((K-1)p/(1-p)), p = 1 - alpha (1 - 1/K) - t (K-1), m = b = 0; zero where
      t >= (1 - alpha)/K.
    - focal: the root of psi'(a - log(K-1)) = -t (K-1), bracketed; zero where that is not above 0. For t (K-1) >= 1 and
      many classes (|psi'(-log(K-1))| > 1, from 7 on for gamma = 2) none is known: no plane that touches the loss at
      zero lies below it, and the dual bound is loose.
    - squared error, any bias coefficient and rescaling: a quadratic in (a, m, b) with signs; for the plain loss
      a = 1 - c, m = max(0, 1 - c (1 + 1/lambda_b)), b = (1 - m)/(K (1 + lambda_b)), c = K t.

    Squared error without bias, or with a free one, is solved for any class sizes and any d by thresholding the singular
    values of diag(sqrt n_k), or of its part orthogonal to sqrt(n_k), at N sqrt(lambda_W lambda_H), and keeping d.

    Returns:
        The optimum; `known` is False where no closed form covers the model, and `reason` says why.

    Example:
        >>> problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> found = optimum(problem)
        >>> found.frame, round(found.scale, 9), round(found.value, 9)
        ('simplex ETF', 5.634227704, 0.070423262)

    Reference: [zhu2021geometric], theorem 3.1; [tirer2022extended], theorems 3.1 and 3.2; [zhou2022all].
    """
    loss = problem.loss
    plain_mse = isinstance(loss, SquaredError) and loss.scale == 1
    if plain_mse and problem.bias in ("none", "free") and (not problem.balanced or problem.features < problem.classes):
        return _thresholded(problem)
    if not problem.balanced:
        return Optimum(False, "no closed form is known for unequal classes with this loss and bias", problem=problem)
    needed = _rank_needed(problem)
    if problem.features < needed:
        reason = f"no closed form is known for d = {problem.features}: the frame needs d = {needed}"
        return Optimum(False, reason, problem=problem)
    if isinstance(loss, SquaredError):
        return _squared_error(problem)
    if isinstance(loss, CrossEntropy):
        return _cross_entropy(problem)
    if isinstance(loss, Focal):
        return _focal(problem)
    return Optimum(False, f"no closed form is known for {loss.name}", problem=problem)


def _rank_needed(problem: UnconstrainedFeatures) -> int:
    """Rank of W Hbar at the minimiser without a bound on d: K where m > 0, else K - 1."""
    if not isinstance(problem.loss, SquaredError):
        return problem.classes - 1
    return problem.classes - (_squared_error(problem).frame in ("simplex ETF", "zero"))


def _strength(problem: UnconstrainedFeatures) -> float:
    """t = sqrt(n lambda_W lambda_H)."""
    return problem.counts[0] ** 0.5 * problem.nuclear_decay


def _simplex(problem: UnconstrainedFeatures, scale: float, value: float, threshold: float, source: str) -> Optimum:
    classes = problem.classes
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    frame = "simplex ETF" if scale > 0 else "zero"
    return Optimum(
        True,
        "balanced classes, d >= K - 1",
        value=value,
        logits=scale * centred,
        bias=torch.zeros(classes, dtype=torch.float64),
        frame=frame,
        scale=scale,
        threshold=threshold,
        unique=True,
        source=source,
        problem=problem,
    )


def _cross_entropy(problem: UnconstrainedFeatures) -> Optimum:
    classes, t, smoothing = problem.classes, _strength(problem), problem.loss.smoothing
    wrong = smoothing * (1 - 1 / classes) + t * (classes - 1)  # 1 - p_y at the optimum
    scale = (
        max(0.0, float(torch.log(torch.tensor((classes - 1) * (1 - wrong) / wrong, dtype=torch.float64))))
        if (wrong < 1 - 1 / classes)
        else 0.0
    )
    value = float(_along_simplex(problem, torch.tensor(scale, dtype=torch.float64)))
    source = "zhu2021geometric, theorem 3.1" if smoothing == 0 else "zhou2022all"
    return _simplex(problem, scale, value, t * classes / (1 - smoothing), source)


def _focal(problem: UnconstrainedFeatures) -> Optimum:
    """The root, where the tangent of psi lies below psi everywhere: there the dual bound is tight."""
    classes, t, loss = problem.classes, _strength(problem), problem.loss
    slope, apart = t * (classes - 1), float(torch.log(torch.tensor(classes - 1.0, dtype=torch.float64)))
    steepness = -float(loss.slope(torch.tensor(-apart, dtype=torch.float64)))  # at W = H = 0
    if slope >= 1 and steepness > 1:
        reason = f"no closed form is known for focal loss where t (K - 1) = {slope:.3g} >= 1 and |psi'(-log(K-1))| > 1"
        return Optimum(False, reason, problem=problem)
    scale = 0.0
    if slope < 1:
        scale = max(0.0, float(loss.margin_at(torch.tensor(slope, dtype=torch.float64))) + apart)
    value = float(_along_simplex(problem, torch.tensor(scale, dtype=torch.float64)))
    return _simplex(
        problem, scale, value, slope / min(1.0, steepness), "zhou2022all; for the range of t, the dual bound"
    )


def _along_simplex(problem: UnconstrainedFeatures, scale: Tensor) -> Tensor:
    """Objective at W Hbar = scale (I - J/K) with balanced factors."""
    classes = problem.classes
    column = -scale / classes * torch.ones(classes, 1, dtype=torch.float64)
    column[0] += scale
    loss = problem.loss.value(column, torch.zeros(1, dtype=torch.long))[0]
    return loss + _strength(problem) * (classes - 1) * scale.abs()


def _squared_error(problem: UnconstrainedFeatures) -> Optimum:
    classes, t = problem.classes, _strength(problem)
    value, (scale, mean, bias) = min(
        (_signed_quadratic(problem, signs) for signs in product((0, 1, -1), repeat=2)), key=lambda found: found[0]
    )
    eye = torch.eye(classes, dtype=torch.float64)
    ones = torch.full_like(eye, 1 / classes)
    return Optimum(
        True,
        "balanced classes, d at least the rank of the frame",
        value=value,
        logits=scale * (eye - ones) + mean * ones,
        bias=torch.full((classes,), bias, dtype=torch.float64),
        frame=_frame_name(scale, mean),
        scale=scale,
        threshold=classes * t / _pull(problem),
        unique=True,
        source="tirer2022extended, theorems 3.1 and 3.2, and the split into 1 and its complement for the rest",
        problem=problem,
    )


def _pull(problem: UnconstrainedFeatures) -> float:
    """K times the slope of the mean loss in a at W = H = 0, with the bias that is best there."""
    loss, decay = problem.loss, problem.bias_decay
    if decay == float("inf"):
        return loss.scale * loss.target
    bias = loss.scale * loss.target / (loss.scale + problem.classes - 1 + decay * problem.classes)
    return loss.scale * (loss.target - bias) + bias


def _frame_name(scale: float, mean: float) -> str:
    if scale == 0 == mean:
        return "zero"
    if mean == 0:
        return "simplex ETF"
    return "orthogonal frame" if abs(scale - mean) <= 1e-12 * abs(scale) else "between"


def _signed_quadratic(
    problem: UnconstrainedFeatures, signs: tuple[int, int]
) -> tuple[float, tuple[float, float, float]]:
    r"""Minimum over (a, m, b) with the signs of a and m given (0 for a zero), or inf where that is not where it lies.

    .. math:: \tfrac12\big[\kappa (a + \tfrac{m-a}{K} + b - M)^2 + (K-1)(\tfrac{m-a}{K} + b)^2\big]
        + t\,\big((K-1)|a| + |m|\big) + \tfrac{\lambda_b}{2} K b^2
    """
    classes, t, loss, decay = problem.classes, _strength(problem), problem.loss, problem.bias_decay
    f64 = {"dtype": torch.float64}
    true, other = (
        torch.tensor([1 - 1 / classes, 1 / classes, 1], **f64),
        torch.tensor([-1 / classes, 1 / classes, 1], **f64),
    )
    free = [signs[0] != 0, signs[1] != 0, decay != float("inf")]
    quadratic = loss.scale * torch.outer(true, true) + (classes - 1) * torch.outer(other, other)
    if free[2]:
        quadratic[2, 2] += decay * classes
    linear = loss.scale * loss.target * true - t * torch.tensor([signs[0] * (classes - 1), signs[1], 0], **f64)
    solved = torch.zeros(3, **f64)
    if any(free):
        # With a free bias and m != 0 the part along 1 is undetermined by the loss: the decay then forbids m != 0.
        if free[1] and decay == 0:
            return float("inf"), (0.0, 0.0, 0.0)
        solved[free] = torch.linalg.solve(quadratic[free][:, free], linear[free])
    if any(solved[i] * signs[i] < 0 for i in range(2)):
        return float("inf"), (0.0, 0.0, 0.0)
    value = 0.5 * loss.scale * loss.target**2 + 0.5 * solved @ quadratic @ solved - linear @ solved
    return float(value), tuple(solved.tolist())


def _thresholded(problem: UnconstrainedFeatures) -> Optimum:
    """Plain squared error, no or free bias: singular values of the target, thresholded, the d largest kept."""
    counts = torch.tensor(problem.counts, dtype=torch.float64)
    samples, target, decay = problem.samples, problem.loss.target, problem.nuclear_decay
    root = counts.sqrt()
    wanted = target * torch.diag(root)
    if problem.bias == "free":
        wanted = wanted - target * counts[:, None] * root / samples
    left, values, right = torch.linalg.svd(wanted)
    kept = (values - samples * decay).clamp(min=0)
    positive = int((kept > 0).sum())
    kept[problem.features :] = 0
    scaled = (left * kept) @ right
    logits = scaled / root
    bias = target * counts / samples - (scaled @ root) / samples if problem.bias == "free" else torch.zeros_like(counts)
    residual = ((values - kept).square().sum()) / (2 * samples)
    cut = positive > problem.features
    boundary = cut and bool(values[problem.features - 1] - values[problem.features] <= 1e-12 * values[0])
    frame = "zero" if not positive else "projection" if cut else _gram_name(problem)
    return Optimum(
        True,
        "plain squared error without or with a free bias: thresholded singular values of the target",
        value=float(residual + decay * kept.sum()),
        logits=logits,
        bias=bias,
        frame=frame,
        scale=float(kept[0] / root.max()) if problem.balanced else None,
        threshold=float(samples * decay / values[0]),
        unique=not boundary,
        source="tirer2022extended, theorems 3.1 and 3.2; Eckart and Young for fewer dimensions",
        problem=problem,
    )


def _gram_name(problem: UnconstrainedFeatures) -> str:
    if problem.balanced:
        return "orthogonal frame" if problem.bias == "none" else "simplex ETF"
    return "general orthogonal frame" if problem.bias == "none" else "between"
