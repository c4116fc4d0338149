"""`deep_optimum`: the minimum of a chain in closed form, or its best collapsed point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum

Square = Float[Tensor, "k k"]

# Scales at which a collapsed point is looked for; logits beyond a thousand are beyond every loss.
_SCALES = torch.logspace(-4, 3, 701, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class DeepOptimum:
    r"""The best collapsed point of a chain, and whether it is known to be the global minimum.

    Args:
        known: Whether `value` is proven to be the global minimum; `reason` says by what, or why not.
        reason: In words.
        value: Objective of the best collapsed point; None where none is known.
        logits: W_M H_M there (k, k), one column per class.
        frame: "orthogonal frame", "simplex ETF", "general orthogonal frame" (unequal norms), "projection" (a width
            below the rank of the frame: a part of it), or "zero".
        scale: Largest singular value of the logits.
        threshold: The number that must be below 1 for the point to differ from zero; None where it is not known.
        source: Theorem or equation.
        problem: The model.
    """

    known: bool
    reason: str
    value: float | None = None
    logits: Square | None = None
    frame: str | None = None
    scale: float | None = None
    threshold: float | None = None
    source: str = ""
    problem: DeepUnconstrainedFeatures | None = None

    def point(self, *, seed: int = 0) -> DeepPoint:
        """The point: balanced factors, every level in a random position (with ReLU: on random coordinate axes)."""
        if self.value is None:
            raise InputError("a model with a known collapsed point", got=self.reason, remedy="Use solve_deep.")
        problem, counts = self.problem, torch.tensor(self.problem.counts, dtype=torch.float64)
        left, values, right = torch.linalg.svd(self.logits * counts.sqrt())
        if not problem.linear:  # a multiple of the identity: classes on axes, so that no factor has a negative entry
            left = right = torch.eye(problem.classes, dtype=torch.float64)
        rank = min(problem.classes, *problem.widths)
        values = values[:rank] * (values[:rank] > 1e-13 * values[0])
        sizes = _balanced(problem.decays, values)
        frames = [_axes(problem, width, rank, seed + m) for m, width in enumerate(problem.widths)]
        bases = [left[:, :rank], *frames]
        weights = [(a * size) @ b.T for a, b, size in zip(bases, frames, sizes, strict=False)]
        means = (frames[-1] * sizes[-1]) @ right[:rank] / counts.sqrt()
        return DeepPoint(tuple(weights), means[:, problem.labels])


def deep_optimum(problem: DeepUnconstrainedFeatures) -> DeepOptimum:
    r"""The minimum of a chain in closed form where one is proven, else its best collapsed point.

    By the inequality of the means, L factors with product Z cost at least a power of a Schatten quasi-norm,

    .. math:: \tfrac12\sum_l \lambda_l \|F_l\|_F^2 \ge \tfrac{L}{2} C^{1/L} \sum_k s_k^{2/L}, \qquad
        C = \prod_l \lambda_l,\quad s_k = \sigma_k\big(Z\, \mathrm{diag}(\sqrt{n})\big)

    with equality for balanced factors. For squared error without activation the whole objective is at least a sum over
    singular values, by von Neumann's inequality, and each is minimised on its own,

    .. math:: \min_{s \ge 0}\; \tfrac{1}{2N}(s - \sqrt{n_k})^2 + \tfrac L2 C^{1/L} s^{2/L},

    the larger root of s^{1-2/L} (sqrt(n_k) - s) = N C^{1/L}, or zero. It is zero where N C^{1/L} is at least
    n_k^{1-1/L} ((L-2)/(L-1))^{1-2/L} / (L-1): `threshold` is the ratio of the two for the largest class. This holds for
    any widths and class sizes, and is global. In q = lambda_l a_l^2, equal for all factors, it is the minimum of
    (q^{L/2}/sqrt(nC) - 1)^2/2 + LKq/2 for equal classes.

    - With ReLU the same value is attained, on axes; it is the minimum for two classes, and for three factors under the
      condition of theorem 4.2. Points of low rank are better for three factors and 15 classes, for four and 8, and for
      five and 6 or fewer: see `subset_point`.
    - For cross-entropy, label smoothing and focal loss without activation the best multiple of a simplex ETF is given.
      For three factors or more it is not known to be global, and is not for many classes or factors.

    Returns:
        The optimum; its `known` says whether its value is proven to be the minimum.

    Example:
        >>> problem = DeepUnconstrainedFeatures(classes=4, widths=(20, 20), per_class=50, decays=(5e-3, 2.5e-3, 1e-5))
        >>> found = deep_optimum(problem)
        >>> found.known, round(found.value, 10), round(found.scale, 8)
        (True, 0.0110248833, 0.99261371)

    Reference: [tirer2022extended], theorems 4.1 and 4.2; [sukenik2023deep] for two classes; [sukenik2024neural] for low
    rank.
    """
    plain = isinstance(problem.loss, SquaredError) and problem.loss.scale == 1
    if problem.layers == 1 and not plain:
        return _single(problem)
    if not problem.linear and not (plain and problem.balanced and min(problem.widths) >= problem.classes):
        reason = "with ReLU a collapsed point is known for squared error, equal classes and widths of at least K only"
        return DeepOptimum(False, reason, problem=problem)
    if plain:
        return _squared_error(problem)
    if isinstance(problem.loss, SquaredError) or not problem.balanced or min(problem.widths) < problem.classes - 1:
        reason = "without activation: for equal classes, widths of at least K - 1, and a loss of differences of logits"
        return DeepOptimum(False, reason, problem=problem)
    return _simplex(problem)


def collapsed_value(problem: DeepUnconstrainedFeatures, cost: float) -> tuple[float, float]:
    r"""Squared error of equal classes along a ray of points whose logits are a multiple a of the identity.

    .. math:: \min_{a \ge 0}\; \tfrac12 (a - M)^2 + \tfrac L2 \Big(n c \prod_l \lambda_l\Big)^{1/L} a^{2/L}

    Args:
        problem: A chain of squared error with target M.
        cost: c, the product of the squared norms of the factors at a = 1; K^L for a collapsed point.

    Returns:
        The minimum, and the a where it is.
    """
    strength = (cost * problem.counts[0] * math.prod(problem.decays)) ** (1 / problem.factors)
    scale, value, _ = _shrunk(problem.loss.target, strength, problem.factors)
    return value, scale


def _single(problem: DeepUnconstrainedFeatures) -> DeepOptimum:
    """One layer: the plain model."""
    plain = UnconstrainedFeatures(
        classes=problem.classes,
        features=problem.widths[0],
        per_class=problem.counts,
        loss=problem.loss,
        weight_decay=problem.decays,
    )
    found = optimum(plain)
    return DeepOptimum(
        found.known,
        found.reason,
        found.value,
        found.logits,
        found.frame,
        found.scale,
        found.threshold,
        found.source,
        problem,
    )


def _squared_error(problem: DeepUnconstrainedFeatures) -> DeepOptimum:
    counts = torch.tensor(problem.counts, dtype=torch.float64)
    aims = problem.loss.target * counts.sqrt()
    order = torch.argsort(aims, descending=True, stable=True)
    values, costs, ratios = zip(*(_singular_value(problem, float(aim)) for aim in aims), strict=True)
    room = min(problem.widths)
    kept = torch.zeros(problem.classes, dtype=torch.bool)
    kept[order[:room]] = True
    singular = torch.where(kept, torch.tensor(values, dtype=torch.float64), 0.0)
    value = float(
        torch.where(kept, torch.tensor(costs, dtype=torch.float64), aims.square() / (2 * problem.samples)).sum()
    )
    known, reason, source = _standing(problem)
    return DeepOptimum(
        known,
        reason,
        value=value,
        logits=torch.diag(singular / counts.sqrt()),
        frame=_frame_name(problem, singular, min(ratios) < 1, int(sum(ratio < 1 for ratio in ratios)) > room),
        scale=float((singular / counts.sqrt()).max()),
        threshold=min(ratios),
        source=source,
        problem=problem,
    )


def _standing(problem: DeepUnconstrainedFeatures) -> tuple[bool, str, str]:
    """Whether the collapsed value is the minimum, why, and the source."""
    if problem.linear:
        return True, "squared error without activation: thresholded singular values", "tirer2022extended, theorem 4.1"
    if problem.classes == 2:
        return True, "squared error with ReLU and two classes", "sukenik2023deep"
    if problem.factors == 3:
        reason = "with ReLU it is the minimum if the minimiser satisfies the nuclear norm condition"
        return False, f"{reason}, which 15 classes do not", "tirer2022extended, theorem 4.2"
    return False, "with ReLU and four factors or more, points of low rank can be better", "sukenik2024neural"


def _frame_name(problem: DeepUnconstrainedFeatures, singular: Tensor, nonzero: bool, cut: bool) -> str:
    if not nonzero or float(singular.max()) == 0:
        return "zero"
    if cut:
        return "projection"
    return "orthogonal frame" if problem.balanced else "general orthogonal frame"


def _singular_value(problem: DeepUnconstrainedFeatures, aim: float) -> tuple[float, float, float]:
    """The best singular value for a target, its share of the objective, and the ratio that must be below 1."""
    strength = problem.samples * math.prod(problem.decays) ** (1 / problem.factors)
    value, cost, ratio = _shrunk(aim, strength, problem.factors)
    return value, cost / problem.samples, ratio


def _shrunk(aim: float, strength: float, factors: int) -> tuple[float, float, float]:
    """Where (s - aim)^2/2 + (L/2) strength s^(2/L) is least, its value, and the strength over the one that gives 0."""
    power = 1 - 2 / factors
    ratio = strength * (factors - 1) / (aim ** (1 + power) * ((factors - 2) / (factors - 1)) ** power)
    if ratio >= 1:
        return 0.0, aim**2 / 2, ratio
    # s^(1-2/L) (aim - s) falls from its maximum on; the larger root lies right of it.
    top = aim * power / (1 + power)
    value = brentq(lambda s: s**power * (aim - s) - strength, top, aim, xtol=1e-300, rtol=1e-15)
    return value, (value - aim) ** 2 / 2 + 0.5 * factors * strength * value ** (2 / factors), ratio


def _simplex(problem: DeepUnconstrainedFeatures) -> DeepOptimum:
    rank, frame = frame_of(problem)
    value, scale = best_scale(problem, cost=lambda scale: rank * scale ** (2 / problem.factors))
    reason = "for three factors or more and this loss, the best simplex ETF is not known to be global"
    logits, name = scale * frame, "simplex ETF" if scale > 0 else "zero"
    return DeepOptimum(False, reason, value, logits, name, scale, source="tirer2022extended, remark", problem=problem)


def frame_of(problem: DeepUnconstrainedFeatures) -> tuple[int, Square]:
    """The projection that the best logits are a multiple of, and its rank."""
    eye = torch.eye(problem.classes, dtype=torch.float64)
    if isinstance(problem.loss, SquaredError):
        return problem.classes, eye
    return problem.classes - 1, eye - 1 / problem.classes


def best_scale(problem: DeepUnconstrainedFeatures, *, cost: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Minimum over a >= 0 of loss(a F) + L/2 (n C)^(1/L) cost(a), and where it is."""
    column = frame_of(problem)[1][:, :1]
    strength = 0.5 * problem.factors * (problem.counts[0] * math.prod(problem.decays)) ** (1 / problem.factors)

    def objective(scales: Tensor) -> Tensor:
        targets = torch.zeros(len(scales), dtype=torch.long)
        return problem.loss.value(column * scales, targets) + strength * cost(scales)

    def slope(scale: float) -> float:
        at = torch.tensor([scale], dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            tilt = problem.loss.gradient((column * at).detach(), torch.zeros(1, dtype=torch.long))
            (grade,) = torch.autograd.grad(cost(at).sum(), at)
        return float((tilt * column).sum() + strength * grade)

    values = objective(_SCALES)
    best = int(values.argmin())
    at_zero = float(objective(torch.zeros(1, dtype=torch.float64)))
    if best in (0, len(_SCALES) - 1):
        return at_zero, 0.0
    low, high = float(_SCALES[best - 1]), float(_SCALES[best + 1])
    scale = brentq(slope, low, high, xtol=1e-300, rtol=1e-15)
    value = float(objective(torch.tensor([scale], dtype=torch.float64)))
    return (value, scale) if value < at_zero else (at_zero, 0.0)


def _balanced(decays: tuple[float, ...], values: Tensor) -> list[Tensor]:
    """Singular values of the factors: lambda_l a_l^2 is the same for all, and their product is given."""
    q = (values * math.sqrt(math.prod(decays))) ** (2 / len(decays))
    return [(q / decay).sqrt() for decay in decays]


def _axes(problem: DeepUnconstrainedFeatures, width: int, rank: int, seed: int) -> Tensor:
    """Orthonormal columns (width, rank): coordinate axes with ReLU, else in a random position."""
    draws = generator(seed)
    if problem.linear:
        return torch.linalg.qr(torch.randn(width, rank, dtype=torch.float64, generator=draws)).Q
    return torch.eye(width, dtype=torch.float64)[:, torch.randperm(width, generator=draws)[:rank]]
