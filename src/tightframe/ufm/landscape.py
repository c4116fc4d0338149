"""The landscape of the model: curvatures at a point, and what kind of critical point it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.solution import Certificate
from tightframe.core.threads import on_few_threads
from tightframe.core.typing import Float
from tightframe.optimize.curvature import Eigenpairs, extreme_eigenpairs
from tightframe.ufm.certificate import Direction, certify_form
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm

Kind = Literal["global", "strict saddle", "other", "not critical"]
Vector = Float[Tensor, " n"]

# An eigenvalue counts as negative below this, relative to sqrt(lambda_W lambda_H): an imperfect critical point has
# zero eigenvalues (rotations) wrong by about its relative gradient.
_NEGATIVE = 1e-6


@dataclass(frozen=True)
class CriticalPoint:
    r"""A point and what it is.

    Args:
        kind: "global" where the certificate holds; "not critical" where it does not and the gradient is not small;
            "strict saddle" where the smallest eigenvalue is negative; "other" where nothing of this was found: a local
            minimum that is not global, a degenerate saddle, or a global minimum that no bound reaches.
        point: W, H, b.
        value: Objective.
        gradient_norm: Norm of the gradient.
        smallest: Smallest eigenvalue of the Hessian; NaN where Lanczos did not converge.
        excess: |grad g| - sqrt(lambda_W lambda_H), in the spectral norm. With a null vector of W and a convex loss the
            smallest eigenvalue of a saddle is -excess, and the curvature along the certified direction -2 excess.
        certificate: Dual gap.
        direction: For a strict saddle, a way down: the one of the theorem where W has a null space, else the
            eigenvector of the smallest eigenvalue.

    Gradient and eigenvalues are those of the normal form, in which W and H weigh equally; signs do not depend on it.
    """

    kind: Kind
    point: Point
    value: float
    gradient_norm: float
    smallest: float
    excess: float
    certificate: Certificate
    direction: Direction | None

    @property
    def rank(self) -> int:
        """Rank of WH, and so of W at a critical point: singular values above 1e-9 of logits of order one."""
        values = torch.linalg.svdvals(self.point.W @ self.point.H)
        return int((values > 1e-9 * self.point.H.shape[1] ** 0.5).sum())

    @property
    def certified(self) -> bool:
        """Whether `direction` is the direction of negative curvature of the theorem."""
        return self.direction is not None and self.direction.predicted is not None

    def numbers(self) -> dict[str, str | int | float | None]:
        """What a table needs; None for what this point does not have."""
        bends = self.kind == "strict saddle"
        return {
            "kind": self.kind,
            "rank": self.rank,
            "objective": self.value,
            "gradient norm": self.gradient_norm,
            "smallest eigenvalue": None if math.isnan(self.smallest) else self.smallest,
            "steepness": -self.smallest if bends else None,
            "|G| - lambda": self.excess if self.excess > 0 else None,
            "curvature": self.direction.curvature if bends else None,
            "predicted curvature": self.direction.predicted if bends else None,
        }


class Landscape:
    r"""The objective around a point as a function of one vector x = (A, B, b), the variables of the normal form.

    .. math:: x = \big(r W,\; H \operatorname{diag}(\sqrt{c_i})/r,\; b\big), \qquad r = (\lambda_W/\lambda_H)^{1/4}

    with c_i samples for every distinct feature. b is left out where the model has no bias.

    Args:
        form: The normal form at some point.
    """

    def __init__(self, form: NormalForm) -> None:
        self.form = form
        self._shapes = [form.A.shape, form.B.shape, form.b.shape][: 2 if form.problem.bias == "none" else 3]

    @property
    def vector(self) -> Vector:
        """The point itself."""
        return self.joined((self.form.A, self.form.B, self.form.b))

    def at(self, vector: Vector) -> NormalForm:
        """The normal form at a vector."""
        return self.form.moved(*self.parts(vector))

    def value(self, vector: Vector) -> tuple[float, Vector]:
        """Objective and gradient."""
        value, *gradient = self.at(vector).gradient()
        return float(value), self.joined(gradient)

    def gradient(self, vector: Vector) -> Vector:
        """Gradient."""
        return self.joined(self.at(vector).gradient()[1:])

    def product(self, vector: Vector, direction: Vector) -> Vector:
        """Hessian at a vector times a direction."""
        return self.joined(self.at(vector).second(*self.parts(direction)))

    def extreme(
        self, *, count: int = 1, which: Literal["smallest", "largest"] = "smallest", seed: int = 0
    ) -> Eigenpairs:
        """Extreme eigenpairs of the Hessian at the point."""
        at = self.vector
        return extreme_eigenpairs(
            lambda v: self.product(at, v), len(at), count=count, which=which, seed=seed, device=at.device
        )

    def direction(self, vector: Vector) -> Point:
        """A direction in the variables of the model: f(W + t dW, H + t dH, b + t db) is the objective at x + t v."""
        return self.at(vector).point

    def parts(self, vector: Vector) -> list[Tensor]:
        """The parts A, B, b of a vector."""
        pieces = torch.split(vector, [shape.numel() for shape in self._shapes])
        parts = [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
        return parts if len(parts) == 3 else [*parts, torch.zeros_like(self.form.b)]

    def joined(self, parts: Sequence[Tensor]) -> Vector:
        """The vector of parts A, B, b."""
        return torch.cat([part.flatten() for part in parts[: len(self._shapes)]])


@on_few_threads
def classify(problem: UnconstrainedFeatures, point: Point, *, tolerance: float = 1e-9, seed: int = 0) -> CriticalPoint:
    r"""Say of a point whether it is a global minimum, a strict saddle, something else, or not critical.

    .. math:: \text{global: } f - f^\star \le \text{dual gap} \le \text{tolerance}; \qquad
        \text{strict saddle: } \nabla f = 0,\; \lambda_{\min}(\nabla^2 f) < 0

    Args:
        problem: The model.
        point: W (k, d), H (d, n), b (k,), ordered by class.
        tolerance: Dual gap up to which the point is a global minimum.
        seed: Seed of Lanczos' start.

    Returns:
        CriticalPoint.

    Raises:
        InputError: The point does not fit the problem.

    Example:
        >>> from tightframe.ufm import UnconstrainedFeatures, optimum
        >>> problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> classify(problem, optimum(problem).point()).kind
        'global'

    Reference: [zhu2021geometric], theorem 3.2.
    """
    # Where the samples of a class share their feature, one column stands for them and loses nothing: moving one alone
    # has the same curvature as moving all.
    form = NormalForm.of_point(problem, problem.point(point.W, point.H, point.b))
    certificate = certify_form(form, tolerance=tolerance)
    direction = certificate.evidence.get("direction")
    landscape, kind, decay = Landscape(form), "other", problem.nuclear_decay
    pairs = landscape.extreme(seed=seed)
    smallest = float(pairs.values[0]) if len(pairs.values) else float("nan")
    if certificate.holds:
        kind = "global"
    elif direction is not None and direction.kind == "gradient":
        kind = "not critical"
    elif smallest < -(_NEGATIVE * decay + float(pairs.residuals[0])):
        kind, direction = "strict saddle", direction or _bent(landscape, pairs.vectors[:, 0])
    return CriticalPoint(
        kind,
        form.point,
        certificate.evidence["value"],
        certificate.evidence["gradient norm"],
        smallest,
        certificate.evidence["spectral norm"] - decay,
        certificate,
        direction,
    )


def _bent(landscape: Landscape, vector: Vector) -> Direction:
    form, parts = landscape.form, landscape.parts(vector)
    slope = float(landscape.gradient(landscape.vector) @ vector)
    move = landscape.direction(vector)
    return Direction("negative curvature", move.W, move.H, move.b, slope, form.curvature_along(*parts))
