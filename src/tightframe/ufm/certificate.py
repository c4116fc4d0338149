"""Certificates: how far any point can be from the global minimum, or a direction in which the objective falls."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Certificate
from tightframe.core.threads import threads_for
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm
from tightframe.ufm.optima import optimum

# A point counts as critical where the gradient, relative to the decay times the point, is below this.
_CRITICAL = 1e-7
# What rounding leaves of U1 at the best bias; far below what conjugates allow for.
_REST = 1e-15


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction (W, H, b) in which the objective falls, its columns in the order of the point's.

    Args:
        kind: "gradient" where the point is not critical (the direction is the negative gradient), or
            "negative curvature" where it is.
        slope: Directional derivative.
        curvature: Second derivative along it.
        predicted: What theory says of the curvature, -2 (|G| - sqrt(lambda_W lambda_H)); None for a gradient.
    """

    kind: Literal["gradient", "negative curvature"]
    W: Tensor
    H: Tensor
    b: Tensor
    slope: float
    curvature: float
    predicted: float | None = None


def certify(
    problem: UnconstrainedFeatures,
    W: Tensor,
    H: Tensor,
    b: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    tolerance: float = 1e-9,
) -> Certificate:
    r"""A rigorous bound on f(W, H, b) - min f, and a way down where the point is not optimal.

    .. math:: f(W, H, b) - f^\star \le f(W, H, b) + g^*(U), \qquad
        U = s\,\nabla g(WH + b\mathbf 1^\top),\; s = \min\Big(1, \frac{\sqrt{\lambda_W\lambda_H}}{\|\nabla g\|_2}\Big)

    by Fenchel duality for the convex program min g(Z + b1^T) + sqrt(lambda_W lambda_H) |Z|_* + (lambda_b/2)|b|^2, whose
    minimum is at most that of the model. The bound needs neither a convex loss nor equal classes, nor any property of
    the point. With a bias, U is taken at the bias that is best for W and H: a regularised bias adds
    |U1|^2/(2 lambda_b), a free one |U1| times a bound on the norm of optimal biases (U1 is zero up to rounding).
    Where fewer dimensions than the convex program needs keep the two minima apart, and a closed form of the minimum is
    known, that is the bound.

    At a critical point with |grad g| > sqrt(lambda_W lambda_H) and a unit a in the null space of W the direction

    .. math:: dW = (\lambda_H/\lambda_W)^{1/4} u a^\top, \qquad dH = -(\lambda_W/\lambda_H)^{1/4} a v^\top

    (u, v the top singular pair of grad g) has curvature -2 (|grad g| - sqrt(lambda_W lambda_H)): a strict saddle.

    Args:
        problem: The model.
        W: Classifier (k, d).
        H: Features (d, n), one column per sample.
        b: Bias (k,), or None for zero.
        labels: Class of every column; None where they are ordered by class.
        tolerance: Gap up to which the certificate holds.

    Returns:
        Certificate of kind "dual gap" (or "closed form"). Its evidence: "value", "bound", "spectral norm" of grad g,
        "nuclear decay" sqrt(lambda_W lambda_H), "gradient norm", and, unless it holds, "direction", a `Direction`, or
        None where neither gradient nor null space gives one.

    Raises:
        InputError: The point does not fit the problem, or a tolerance that is not above zero.

    Example:
        >>> from tightframe.ufm import UnconstrainedFeatures, optimum
        >>> problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> best = optimum(problem).point()
        >>> certify(problem, best.W, best.H).holds
        True

    Reference: [zhu2021geometric], theorem 3.2 and its proof, for critical points and curvature.
    """
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-9.")
    form = NormalForm.of_point(problem, problem.point(W, H, b, labels=labels))
    with threads_for(form.multiplications):
        found = certify_form(form, tolerance=tolerance)
    direction = found.evidence.get("direction")
    if labels is None or direction is None:
        return found
    back = torch.argsort(torch.argsort(labels.to(direction.H.device), stable=True))
    return replace(found, evidence={**found.evidence, "direction": replace(direction, H=direction.H[:, back])})


def certify_form(form: NormalForm, *, tolerance: float, direction: bool = True) -> Certificate:
    """The same from the normal form; without looking for a direction where that is not wanted."""
    problem = form.problem
    value, in_A, in_B, in_b = form.gradient()
    bound, norm = dual_bound(form)
    kind = "dual gap"
    if problem.features < problem.classes and float(value) - bound > tolerance:
        known = optimum(problem)
        if known.frame == "projection":
            bound, kind = known.value, "closed form"
    gradient = torch.cat([part.flatten() for part in (in_A, in_B, in_b)])
    gap = float(value) - bound
    evidence = {
        "value": float(value),
        "bound": bound,
        "spectral norm": norm,
        "nuclear decay": problem.nuclear_decay,
        "gradient norm": float(torch.linalg.vector_norm(gradient)),
    }
    if direction and not gap <= tolerance:
        evidence["direction"] = way_down(form)
    return Certificate(kind, gap, tolerance, evidence)


def dual_bound(form: NormalForm) -> tuple[float, float]:
    """The dual bound that a point gives, and the spectral norm of grad g there."""
    problem, loss = form.problem, form.problem.loss
    best = best_bias(form)
    logits = best.logits
    gradient = loss.gradient(logits, form.targets)
    scaled = best.G
    norm = spectral_norm(scaled)
    shrink = min(1.0, problem.nuclear_decay / norm if norm else 1.0, loss.shrink(gradient, form.targets))
    root = form.multiplicity.sqrt()
    rest = scaled @ root
    # With a free bias take what is left of U1 out, which shortens U, unless U might leave the domain of the conjugate.
    if problem.bias == "free" and (not loss.shift_invariant or float(rest.abs().max()) <= _REST):
        scaled = scaled - torch.outer(rest, root) / problem.samples
        gradient = scaled * problem.samples / root
    conjugate = (form.multiplicity * loss.conjugate(shrink * gradient, form.targets)).sum() / problem.samples
    sums = shrink * (scaled @ root)
    return -float(conjugate) - _bias_term(form, sums), norm


def best_bias(form: NormalForm, *, tolerance: float = 1e-17) -> NormalForm:
    """The bias that minimises the objective for these W and H, by Newton's method, to a norm of its gradient."""
    problem = form.problem
    if problem.bias == "none" or not math.isfinite(form.value):
        return form
    gradient = form.bias_gradient
    for _ in range(50):
        if float(torch.linalg.vector_norm(gradient)) <= tolerance:
            break
        found = _shorter(form, _newton_step(form), gradient)
        if found is None:
            break
        form, gradient = found, found.bias_gradient
    return form


def way_down(form: NormalForm) -> Direction | None:
    """A direction in which the objective falls: the negative gradient, or one of negative curvature."""
    _, *gradient = form.gradient()
    size = sum(float(part.square().sum()) for part in gradient) ** 0.5
    if not math.isfinite(size):
        return None
    point = sum(float(part.square().sum()) for part in (form.A, form.B)) ** 0.5
    if size > _CRITICAL * form.problem.nuclear_decay * max(point, 1.0):
        return _direction(form, "gradient", [-part for part in gradient], None)
    return negative_curvature(form)


def negative_curvature(form: NormalForm) -> Direction | None:
    """The direction of theorem 3.2, where |grad g| is above sqrt(lambda_W lambda_H) and W has a null space."""
    excess = top_singular(form.G)[1] - form.problem.nuclear_decay
    parts = escaping(form)
    if parts is None or excess <= 0:
        return None
    return _direction(form, "negative curvature", parts, -2 * excess)


def escaping(form: NormalForm) -> list[Tensor] | None:
    """u a^T, -a v^T and a zero bias, in the variables of the normal form; None where W has no null space."""
    missing = _null_vector(form)
    if missing is None:
        return None
    left, _, right = top_singular(form.G)
    return [torch.outer(left, missing), -torch.outer(missing, right), torch.zeros_like(form.b)]


def spectral_norm(matrix: Tensor) -> float:
    """Largest singular value, an upper bound up to the rounding of its smaller Gram matrix."""
    unit = float(matrix.abs().max())
    if not 0 < unit < math.inf:
        return unit
    matrix = matrix / unit  # squares neither overflow nor vanish
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    largest = float(torch.linalg.eigvalsh(gram)[-1])
    return unit * (largest * (1 + 4 * len(gram) * torch.finfo(gram.dtype).eps)) ** 0.5


def top_singular(matrix: Tensor) -> tuple[Tensor, float, Tensor]:
    """The top singular pair (u, sigma, v)."""
    wide = matrix.shape[0] <= matrix.shape[1]
    vector = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix).eigenvectors[:, -1]
    other = matrix.T @ vector if wide else matrix @ vector
    size = torch.linalg.vector_norm(other)
    other = other / size if float(size) else other
    return (vector, float(size), other) if wide else (other, float(size), vector)


def _direction(form: NormalForm, kind: str, parts: list[Tensor], predicted: float | None) -> Direction:
    _, *gradient = form.gradient()
    slope = float(sum((a * b).sum() for a, b in zip(gradient, parts, strict=True)))
    moved = form.moved(*parts).point
    return Direction(kind, moved.W, moved.H, moved.b, slope, form.curvature_along(*parts), predicted)


def _null_vector(form: NormalForm) -> Tensor | None:
    """A unit vector orthogonal to the rows of A (and, with room, the columns of B); None where A has rank d."""
    dimension = form.problem.features
    draw = torch.randn(dimension, dtype=torch.float64, generator=generator(0)).to(form.A.device)
    rows = torch.cat([form.A, form.B.T]) if len(form.A) + form.B.shape[1] <= dimension else form.A
    basis = _range(rows.T)
    if basis.shape[1] >= dimension:
        return None
    for _ in range(2):  # once more for what rounding left
        draw = draw - basis @ (basis.T @ draw)
    return draw / torch.linalg.vector_norm(draw)


def _range(columns: Tensor) -> Tensor:
    """Orthonormal basis of the range of (d, m) columns."""
    left, values, _ = torch.linalg.svd(columns, full_matrices=False)
    return left[:, values > 1e-8 * max(float(values[0]), 1e-300)]


def _bias_term(form: NormalForm, sums: Tensor) -> float:
    """What the bias takes from the dual bound, from U1."""
    problem, size = form.problem, float(torch.linalg.vector_norm(sums))
    if problem.bias == "none":
        return 0.0
    if problem.bias_decay > 0:
        return size**2 / (2 * problem.bias_decay)
    if not problem.loss.shift_invariant:
        return 0.0
    # With e = f - inf l, at a minimum some sample of each class k has a loss of at most inf l + e N/n_k, and |Z|_F is
    # at most e/sqrt(lambda_W lambda_H): differences of biases, and so the norm of a centred bias, are bounded.
    least = -float(problem.loss.conjugate(torch.zeros_like(form.logits[:, :1]), form.targets[:1]))
    excess = float(form.value) - least
    margin = problem.loss.margin_within(least + problem.samples / min(problem.counts) * excess)
    widest = margin + 2 * excess / problem.nuclear_decay
    return size * widest * problem.classes**0.5


def _newton_step(form: NormalForm) -> Tensor:
    """-H^+ g in the bias; directions of no curvature (a shift of all logits) are left, negative ones turned."""
    hessian = form.problem.loss.total_curvature(form.logits, form.targets, form.multiplicity / form.problem.samples)
    values, vectors = torch.linalg.eigh(hessian)
    values = (values + form.problem.bias_decay).abs()
    inverse = torch.where(values > 1e-12 * values.max(), 1 / values, 0.0)
    return -vectors @ (inverse * (vectors.T @ form.bias_gradient))


def _shorter(form: NormalForm, step: Tensor, gradient: Tensor) -> NormalForm | None:
    """The point after the step, halved until objective and gradient both are smaller; None where no step is.

    The objective may rise by its rounding: close to the minimum only the gradient still tells points apart.
    """
    value, size = float(form.value), float(torch.linalg.vector_norm(gradient))
    for _ in range(30):
        moved = form.with_bias(form.b + step)
        shorter = float(torch.linalg.vector_norm(moved.bias_gradient)) < size
        if shorter and float(moved.value) <= value + 1e-15 * abs(value):
            return moved
        if float(step.abs().max()) <= 1e-15 * (1 + float(form.b.abs().max())):
            break
        step = step / 2
    return None
