"""What the distance of a point from the minimum is made of: exact changes, and what each of them gains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.solution import Certificate
from tightframe.ufm.certificate import best_bias, certify_form, dual_bound
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm
from tightframe.ufm.optima import Square, optimum
from tightframe.ufm.solvers import solve as solve_model

_Move = Callable[[NormalForm], NormalForm]


@dataclass(frozen=True)
class Change:
    """A change of a point that keeps all else.

    Args:
        name: In short.
        meaning: In words.
        alone: Objective after this change alone.
        together: Objective after it and those before it, each kept only where it lowers the objective.
    """

    name: str
    meaning: str
    alone: float
    together: float


@dataclass(frozen=True)
class Minimum:
    """The global minimum of a model, to compare a point with.

    Args:
        source: "closed form" or "solved".
        frame: Which frame its class means form, in words.
        value: The objective there.
        bound: What no point is below: the value itself for a closed form, value less dual gap where it was solved.
        logits: W Hbar (k, k) at a minimiser, without the bias.
        bias: b (k,).
        unique: Whether W Hbar is the same at all minimisers.
    """

    source: str
    frame: str
    value: float
    bound: float
    logits: Square
    bias: Tensor
    unique: bool


@dataclass(frozen=True)
class Excess:
    """A point beside the minimum of its model.

    Args:
        problem: The model.
        certificate: What `certify` says of the point.
        changes: In the order in which they are made.
        bound: The highest value that min f is proven not to be below: by duality, from this point or from the changed
            one, or from the minimum.
        minimum: The global minimum; None where no closed form is known and solving was not asked for, or failed.
        logits: W Hbar (k, k) of the point, Hbar its class means.
        bias: b (k,).
        slopes: Singular values of grad g at the point's best bias, falling: at a minimum none is above
            sqrt(lambda_W lambda_H), and those on the range of WH are equal to it.
    """

    problem: UnconstrainedFeatures
    certificate: Certificate
    changes: tuple[Change, ...]
    bound: float
    minimum: Minimum | None
    logits: Square
    bias: Tensor
    slopes: Tensor

    @property
    def value(self) -> float:
        """f at the point."""
        return self.certificate.evidence["value"]

    @property
    def gap(self) -> float:
        """Rigorous upper bound on f - min f."""
        return self.value - self.bound

    @property
    def distance(self) -> float | None:
        """|W Hbar - its minimiser| over the norm of the latter; None where there is none, several, or zero."""
        if self.minimum is None or not self.minimum.unique:
            return None
        size = float(torch.linalg.matrix_norm(self.minimum.logits))
        return float(torch.linalg.matrix_norm(self.logits - self.minimum.logits)) / size if size else None

    @property
    def cosine(self) -> float | None:
        """Cosine between W Hbar and its minimiser: 1 where they differ in scale alone; None as for `distance`."""
        if self.minimum is None or not self.minimum.unique:
            return None
        size = float(torch.linalg.matrix_norm(self.logits) * torch.linalg.matrix_norm(self.minimum.logits))
        return float((self.logits * self.minimum.logits).sum()) / size if size else None


def decompose(
    problem: UnconstrainedFeatures,
    W: Tensor,
    H: Tensor,
    b: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    solve: bool = True,
    tolerance: float = 1e-9,
) -> Excess:
    r"""How far a point is from the minimum of its model, and which changes of the point would close the distance.

    Five changes, each exact and computed, are made one after another (and each alone):

    - class means: every feature becomes the mean of its class. By convexity of the loss the objective falls, the more
      the features vary within classes (NC1).
    - sizes: W becomes sW and H becomes H/s with the best s, which leaves all logits as they are.
    - alignment: W and H become :math:`U\sqrt S` and :math:`\sqrt S V^\top`, with :math:`WH = USV^\top` in the units of
      equal decay. All logits stay, and the decay terms fall to :math:`\sqrt{\lambda_W\lambda_H}\|WH\|_*`; it closes
      what misalignment of classifier and class means (NC3) costs.
    - bias: the best bias for these logits.
    - scale: the best multiple of WH.

    What then remains above the minimum is the form of the logits WH: unequal lengths and angles (NC2).

    Args:
        problem: The model.
        W: Classifier (k, d).
        H: Features (d, n), one column per sample.
        b: Bias (k,), or None for zero.
        labels: Class of every column; None where they are ordered by class.
        solve: Solve the model from the class means where no closed form of its minimum is known.
        tolerance: Gap up to which the certificate holds.

    Raises:
        InputError: The point does not fit the problem, or the tolerance is not above zero.

    Example:
        >>> from tightframe.ufm import UnconstrainedFeatures, optimum
        >>> problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> best = optimum(problem).point()
        >>> found = decompose(problem, 1.5 * best.W, best.H)
        >>> [change.name for change in found.changes]
        ['class means', 'sizes', 'alignment', 'scale']
        >>> found.changes[-1].together - found.minimum.value < 1e-12
        True
    """
    if not tolerance > 0:
        raise InputError("a tolerance above zero", got=repr(tolerance), remedy="Use 1e-9.")
    point = problem.point(W, H, b, labels=labels)
    form = NormalForm.of_point(problem, point)
    means = NormalForm.of_point(problem, point, collapse=True)
    certificate, minimum = certify_form(form, tolerance=tolerance), _minimum(problem, means.point, solve)
    changes, changed = _changes(form)
    # A bound from any point bounds the minimum: one near it gives more than one far away.
    bounds = [certificate.evidence["bound"], dual_bound(changed)[0]]
    return Excess(
        problem,
        certificate,
        changes,
        max(bounds if minimum is None else [*bounds, minimum.bound]),
        minimum,
        means.logits - point.b[:, None],
        point.b,
        _slopes(form),
    )


def _changes(form: NormalForm) -> tuple[tuple[Change, ...], NormalForm]:
    moves: dict[str, tuple[str, _Move]] = {
        "class means": ("every feature becomes the mean of its class", _to_class_means),
        "sizes": ("W is multiplied and H divided by one number, the logits as they are", _with_equal_sizes),
        "alignment": ("W and H turn to the singular vectors of WH, the logits as they are", _aligned),
        "bias": ("the bias becomes the best one for W and H", best_bias),
        "scale": ("WH becomes its best multiple", _rescaled),
    }
    if form.problem.bias == "none":
        del moves["bias"]
    current, lowest, changes = form, float(form.value), []
    for name, (meaning, move) in moves.items():
        alone, moved = float(move(form).value), move(current)
        # A loss that is not convex may rise towards the class means.
        if float(moved.value) < lowest:
            current, lowest = moved, float(moved.value)
        changes.append(Change(name, meaning, alone, lowest))
    return tuple(changes), current


def _to_class_means(form: NormalForm) -> NormalForm:
    return NormalForm.of_point(form.problem, form.point, collapse=True)


def _with_equal_sizes(form: NormalForm) -> NormalForm:
    sizes = [torch.linalg.matrix_norm(factor) for factor in (form.A, form.B)]
    if not all(map(float, sizes)):
        return form.moved(0 * form.A, 0 * form.B, form.b)
    ratio = (sizes[1] / sizes[0]).sqrt()
    return form.moved(form.A * ratio, form.B / ratio, form.b)


def _aligned(form: NormalForm) -> NormalForm:
    basis, triangle = torch.linalg.qr(form.B.T)
    left, values, right = torch.linalg.svd(form.A @ triangle.T, full_matrices=False)
    A, B = torch.zeros_like(form.A), torch.zeros_like(form.B)
    A[:, : len(values)] = left * values.sqrt()
    B[: len(values)] = values.sqrt()[:, None] * (right @ basis.T)
    return form.moved(A, B, form.b)


def _rescaled(form: NormalForm) -> NormalForm:
    """W and H times the root of the factor c >= 0 at which the objective, as a function of c, has its minimum."""
    product = form.A @ form.B
    spread = product / form.multiplicity.sqrt()
    cost = 0.5 * form.problem.nuclear_decay * float(form.A.square().sum() + form.B.square().sum())
    if not cost:
        return form

    def slope(factor: float) -> float:
        return float((form.slopes(factor * spread + form.b[:, None]) * product).sum()) + cost

    low = high = 1.0
    while slope(low) > 0 and low > 0:
        low, high = (low / 2 if low > 1e-12 else 0.0), low
    while slope(high) < 0:
        low, high = high, 2 * high
    factor = low if low == high or slope(low) >= 0 else brentq(slope, low, high, xtol=1e-15, rtol=1e-14)
    return form.moved(form.A * factor**0.5, form.B * factor**0.5, form.b)


def _minimum(problem: UnconstrainedFeatures, means: Point, solve: bool) -> Minimum | None:
    known, device = optimum(problem), means.W.device
    if known.known:
        logits, bias = known.logits.to(device), known.bias.to(device)
        return Minimum("closed form", known.frame, known.value, known.value, logits, bias, known.unique)
    solution = solve_model(problem, start=means) if solve else None
    if solution is None or not solution.status.converged:
        return None
    found = NormalForm.of_point(problem, Point(solution.W, solution.H, solution.b), collapse=True)
    return Minimum(
        "solved",
        "no closed form" if problem.balanced else "classes of unequal size",
        solution.objective,
        solution.objective - solution.certificate.gap,
        found.logits - solution.b[:, None],
        solution.b,
        problem.loss.convex,
    )


def _slopes(form: NormalForm) -> Tensor:
    best = best_bias(form)
    return torch.linalg.svdvals(torch.linalg.qr(best.slopes(best.logits).T, mode="r").R)
