"""The unconstrained-features model on spheres: unit features and classifiers, a temperature instead of decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import ClassVector, Float, Int, Weights
from tightframe.optimize.riemannian import on_spheres, random_columns, tangent, tangent_coordinates, tangent_vectors
from tightframe.ufm.loss import Loss
from tightframe.ufm.model import Columns, Point, UnconstrainedFeatures

# Norms that are this close to one are taken for unit norms.
_UNIT = 1e-6


@dataclass(frozen=True, kw_only=True)
class NormalizedFeatures:
    r"""The unconstrained-features model with features and classifiers on spheres.

    .. math:: \min f(W, H) = \tfrac1N \sum_{i=1}^{N} l(\tau W h_i, y_i)
        \quad\text{over}\quad \|w_k\| = 1,\ \|h_i\| = 1

    where
        W (k, d) is the classifier with rows w_k, H (d, n) the features, one column per sample, ordered by class, tau is
        `temperature` and l the loss. (The source writes the classifier as columns: its W is W^T here.)

    Args:
        classes: K, at least 2.
        features: d, at least 2: on the line there is nothing to move along.
        per_class: Samples per class, one number or one per class, at least 1 each.
        temperature: tau > 0.
        loss: "ce", "ls", "focal", "mse", or a Loss of `tightframe.ufm.losses`.

    Raises:
        InputError: Fewer than two classes or dimensions, a class without samples, a temperature that is not above zero
            or not finite, an unknown loss.

    Example:
        >>> problem = NormalizedFeatures(classes=4, features=8, per_class=3, temperature=5.0)
        >>> start = problem.start(seed=0)
        >>> start.W.shape, start.H.shape, problem.objective(start.W, start.H) > 0.0038
        (torch.Size([4, 8]), torch.Size([8, 12]), True)

    Reference: [yaras2022neural], equation 6.
    """

    classes: int
    features: int
    per_class: int | Sequence[int] = 1
    temperature: float = 1.0
    loss: Loss | str = "ce"
    free: UnconstrainedFeatures = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_count(self.features, "features", least=2)
        number = isinstance(self.temperature, int | float) and not isinstance(self.temperature, bool)
        if not (number and 0 < self.temperature < float("inf")):
            raise InputError(
                "a finite temperature above zero",
                got=repr(self.temperature),
                remedy="It is the factor on the cosines; 1 to 30 are usual.",
            )
        # Classes, counts, labels and the loss are those of the model without constraints.
        free = UnconstrainedFeatures(
            classes=self.classes, features=self.features, per_class=self.per_class, loss=self.loss
        )
        object.__setattr__(self, "free", free)
        object.__setattr__(self, "loss", free.loss)
        object.__setattr__(self, "per_class", free.per_class)

    @property
    def multiplications(self) -> int:
        """Of the largest product of matrices in one evaluation."""
        return self.free.multiplications

    @property
    def samples(self) -> int:
        """N, the number of samples."""
        return self.free.samples

    @property
    def counts(self) -> tuple[int, ...]:
        """n_k, samples per class."""
        return self.free.counts

    @property
    def balanced(self) -> bool:
        """Whether all classes have equally many samples."""
        return self.free.balanced

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Class of every column of H (n,), ascending."""
        return self.free.labels

    def objective(self, W: Weights, H: Columns) -> float:
        """f(W, H)."""
        return float(self.form(W, H).value)

    def start(self, *, seed: int = 0) -> Point:
        """W and H with independent rows and columns, uniform on the sphere (b is zero)."""
        both = random_columns(self.features, self.classes + self.samples, seed=seed)
        return Point(both[:, : self.classes].T.contiguous(), both[:, self.classes :].contiguous(), self._no_bias(both))

    def point(self, W: Tensor, H: Tensor, *, labels: Tensor | None = None) -> Point:
        """Check a point and bring it to float64, exact unit norms and, given `labels`, the order of the classes.

        Raises:
            InputError: Shapes that do not fit, NaN or inf, rows of W or columns of H that are not of unit norm, labels
                whose counts are not those of the problem.
        """
        point = self.free.point(W, H, labels=labels)
        for name, norms in (("rows of W", point.W.norm(dim=1)), ("columns of H", point.H.norm(dim=0))):
            worst = float(norms[(norms - 1).abs().argmax()])
            if abs(worst - 1) > _UNIT:
                raise InputError(
                    f"the {name} have unit norm",
                    got=f"one of norm {worst:.6g}",
                    remedy="Divide by the norms (torch.nn.functional.normalize); for a model with free norms use "
                    "UnconstrainedFeatures.",
                )
        return Point(on_spheres(point.W.T).T, on_spheres(point.H), point.b)

    def form(self, W: Tensor, H: Tensor, *, labels: Tensor | None = None) -> SphereForm:
        """The objective and its derivatives at a point."""
        point = self.point(W, H, labels=labels)
        return SphereForm(self, point.W, point.H)

    def _no_bias(self, like: Tensor) -> ClassVector:
        return like.new_zeros(self.classes)


@dataclass(frozen=True, eq=False)
class SphereForm:
    r"""f at a point, with its derivatives on the product of spheres.

    With P (k, n) the gradient of the mean loss in the logits, G_W = tau P H^T and G_H = tau W^T P are the Euclidean
    gradients, alpha_k = <w_k, g_k> and beta_i = <h_i, g_i> what they have along the point, and

    .. math:: \operatorname{grad} = \big(G_W - \operatorname{diag}(\alpha) W,\; G_H - H \operatorname{diag}(\beta)\big)

    .. math:: \operatorname{Hess}[V] = \Pi\big(\nabla^2 f[V]\big) -
        \big(\operatorname{diag}(\alpha) V_W,\; V_H \operatorname{diag}(\beta)\big)

    with Pi the projection on the tangent space, row by row and column by column.

    Reference: [yaras2022neural], section 3; [absil2007trust].
    """

    problem: NormalizedFeatures
    W: Weights
    H: Columns

    @property
    def point(self) -> Point:
        """W, H and a bias of zero."""
        return Point(self.W, self.H, self.W.new_zeros(self.problem.classes))

    @property
    def dimension(self) -> int:
        """(d - 1)(K + N), of the product of spheres."""
        return (self.problem.features - 1) * (self.problem.classes + self.problem.samples)

    @cached_property
    def targets(self) -> Int[Tensor, " n"]:
        """Class of every column."""
        return self.problem.labels.to(self.H.device)

    @cached_property
    def logits(self) -> Float[Tensor, "k n"]:
        """tau W H."""
        return self.problem.temperature * (self.W @ self.H)

    @cached_property
    def value(self) -> Tensor:
        """f."""
        return self.problem.loss.value(self.logits, self.targets).mean()

    @cached_property
    def slopes(self) -> Float[Tensor, "k n"]:
        """P, gradient of the mean loss in the logits."""
        return self.problem.loss.gradient(self.logits, self.targets) / self.problem.samples

    @cached_property
    def euclidean(self) -> tuple[Tensor, Tensor]:
        """G_W (k, d) and G_H (d, n)."""
        scaled = self.problem.temperature * self.slopes
        return scaled @ self.H.T, self.W.T @ scaled

    @cached_property
    def alpha(self) -> ClassVector:
        """alpha (k,)."""
        return (self.W * self.euclidean[0]).sum(1)

    @cached_property
    def beta(self) -> Float[Tensor, " n"]:
        """beta (n,)."""
        return (self.H * self.euclidean[1]).sum(0)

    @cached_property
    def gradient(self) -> tuple[Tensor, Tensor]:
        """Gradient on the spheres, (k, d) and (d, n)."""
        return self.euclidean[0] - self.alpha[:, None] * self.W, self.euclidean[1] - self.beta * self.H

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient on the spheres."""
        return sum(float(part.square().sum()) for part in self.gradient) ** 0.5

    def euclidean_second(self, dW: Tensor, dH: Tensor) -> tuple[Tensor, Tensor]:
        """Second derivative of f, as a function of free matrices, times a direction."""
        tau, problem = self.problem.temperature, self.problem
        moved = tau * (dW @ self.H + self.W @ dH)
        bent = tau * problem.loss.curvature(self.logits, self.targets, moved) / problem.samples
        slopes = tau * self.slopes
        return bent @ self.H.T + slopes @ dH.T, self.W.T @ bent + dW.T @ slopes

    def second(self, dW: Tensor, dH: Tensor) -> tuple[Tensor, Tensor]:
        """Hessian on the spheres times a tangent direction."""
        in_W, in_H = self.euclidean_second(dW, dH)
        in_W = tangent(self.W.T, in_W.T).T - self.alpha[:, None] * dW
        return in_W, tangent(self.H, in_H) - self.beta * dH

    def curvature_along(self, dW: Tensor, dH: Tensor) -> float:
        """Second derivative of f along the geodesic in a tangent direction."""
        in_W, in_H = self.second(dW, dH)
        return float((dW * in_W).sum() + (dH * in_H).sum())

    def direction(self, coordinates: Float[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        """A tangent direction from its (d - 1)(K + N) coordinates in an orthonormal basis."""
        split = coordinates.view(self.problem.features - 1, -1)
        classes = self.problem.classes
        in_W = tangent_vectors(self.W.T, split[:, :classes]).T
        return in_W, tangent_vectors(self.H, split[:, classes:])

    def coordinates(self, dW: Tensor, dH: Tensor) -> Float[Tensor, " m"]:
        """Coordinates of a tangent direction: the inverse of `direction`."""
        parts = [tangent_coordinates(self.W.T, dW.T), tangent_coordinates(self.H, dH)]
        return torch.cat(parts, dim=1).flatten()

    def product(self, coordinates: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        """The Hessian on the spheres in coordinates, times a vector."""
        return self.coordinates(*self.second(*self.direction(coordinates)))

    def moved(self, dW: Tensor, dH: Tensor) -> SphereForm:
        """The point after a step: every row and column divided by its norm."""
        return SphereForm(self.problem, on_spheres((self.W + dW).T).T, on_spheres(self.H + dH))
