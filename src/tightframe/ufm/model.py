"""`UnconstrainedFeatures`: the model, and its normal form with one column per distinct feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count, check_labels
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import ClassVector, Float, Int, Weights
from tightframe.ufm.losses import Loss, Targets, named_loss

Columns = Float[Tensor, "d n"]
Bias = Literal["none", "free"] | float


@dataclass(frozen=True, eq=False)
class Point:
    """Classifier W (k, d), features H (d, n) in the order of the labels, bias b (k,), zero where there is none."""

    W: Weights
    H: Columns
    b: ClassVector


@dataclass(frozen=True, kw_only=True)
class UnconstrainedFeatures:
    r"""The unconstrained-features model: a linear classifier whose inputs are free variables.

    .. math:: f(W, H, b) = \tfrac1N \sum_{i=1}^{N} l(W h_i + b, y_i) + \tfrac{\lambda_W}{2}\|W\|_F^2
        + \tfrac{\lambda_H}{2}\|H\|_F^2 + \tfrac{\lambda_b}{2}\|b\|^2

    where
        W (k, d) is the classifier, H (d, n) the features, one column per sample, ordered by class, and b (k,) the bias;
        l is the loss ("mse" carries a factor 1/2, so that f is |WH + b1^T - Y|^2/(2N) + ...).

    Args:
        classes: K, at least 2.
        features: d, at least 1. A simplex ETF of K vectors exists from d = K - 1 on.
        per_class: Samples per class, one number or one per class, at least 1 each.
        loss: "ce", "ls", "focal", "mse", or a Loss of `tightframe.ufm.losses`.
        weight_decay: (lambda_W, lambda_H), both above zero.
        bias: "none" (b = 0), "free" (lambda_b = 0), or lambda_b > 0.

    Raises:
        InputError: Fewer than two classes, d < 1, a class without samples, a decay that is not above zero, an unknown
            loss or bias.

    Example:
        >>> problem = UnconstrainedFeatures(classes=4, features=5, per_class=50, weight_decay=(5e-3, 5e-5))
        >>> problem.samples, round(problem.nuclear_decay, 6)
        (200, 0.0005)

    Reference: [zhu2021geometric], equation 4; [tirer2022extended], equation 3.
    """

    classes: int
    features: int
    per_class: int | Sequence[int] = 1
    loss: Loss | str = "ce"
    weight_decay: tuple[float, float] = (5e-4, 5e-4)
    bias: Bias = "none"
    counts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        check_count(self.classes, "classes", least=2)
        check_count(self.features, "features")
        several = isinstance(self.per_class, Sequence)
        counts = list(self.per_class) if several else [self.per_class] * self.classes
        if len(counts) != self.classes:
            raise InputError(
                f"per_class is one number, or one for each of {self.classes} classes",
                got=f"{len(counts)} numbers",
                remedy="Give as many as there are classes.",
            )
        for k, count in enumerate(counts):
            check_count(count, f"per_class[{k}]")
        _check_decay(self.weight_decay)
        _check_bias(self.bias)
        object.__setattr__(self, "loss", named_loss(self.loss))
        object.__setattr__(self, "counts", tuple(counts))
        object.__setattr__(self, "per_class", tuple(counts) if several else self.per_class)
        object.__setattr__(self, "weight_decay", tuple(map(float, self.weight_decay)))

    @property
    def samples(self) -> int:
        """N, the number of samples."""
        return sum(self.counts)

    @property
    def balanced(self) -> bool:
        """Whether all classes have equally many samples."""
        return len(set(self.counts)) == 1

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Class of every column of H (n,), ascending."""
        return torch.repeat_interleave(torch.arange(self.classes), torch.tensor(self.counts))

    @property
    def nuclear_decay(self) -> float:
        """sqrt(lambda_W lambda_H): the weight of the nuclear norm of WH in the equivalent convex program."""
        return (self.weight_decay[0] * self.weight_decay[1]) ** 0.5

    @property
    def bias_decay(self) -> float:
        """lambda_b; 0 for a free bias, inf where there is none."""
        return (
            {"none": float("inf"), "free": 0.0}.get(self.bias, self.bias) if isinstance(self.bias, str) else self.bias
        )

    def objective(self, W: Weights, H: Columns, b: ClassVector | None = None) -> float:
        """f(W, H, b)."""
        return float(NormalForm.of_point(self, self.point(W, H, b)).value)

    def start(self, *, seed: int = 0, scale: float = 1.0) -> Point:
        """W, H and b (unless there is none) with independent normal entries of standard deviation `scale`."""
        draws = generator(seed)
        shapes = ((self.classes, self.features), (self.features, self.samples), (self.classes,))
        W, H, b = (scale * torch.randn(shape, dtype=torch.float64, generator=draws) for shape in shapes)
        return Point(W, H, torch.zeros_like(b) if self.bias == "none" else b)

    def point(self, W: Tensor, H: Tensor, b: Tensor | None = None, *, labels: Tensor | None = None) -> Point:
        """Check a point and bring it to float64 and, where `labels` are given, to the order of the classes.

        Raises:
            InputError: Shapes that do not fit, NaN or inf, tensors on several devices, labels whose counts are not
                those of the problem, a bias where the problem has none.
        """
        W, H = (_matrix(value, name) for value, name in ((W, "W"), (H, "H")))
        b = W.new_zeros(self.classes) if b is None else _matrix(b, "b")
        shapes = {"W": (self.classes, self.features), "H": (self.features, self.samples), "b": (self.classes,)}
        for (name, shape), value in zip(shapes.items(), (W, H, b), strict=True):
            if value.shape != shape:
                raise InputError(
                    f"{name} has shape {shape}",
                    got=f"{tuple(value.shape)}",
                    remedy="W is (classes, features), H (features, samples) with one column per sample, b (classes,).",
                )
            if value.device != W.device:
                raise InputError(
                    "W, H and b are on one device",
                    got=f"{W.device} and {value.device}",
                    remedy="Move them with .to(device).",
                )
        if self.bias == "none" and bool(b.any()):
            raise InputError("no bias in this problem", got="a bias", remedy='Use bias="free", or a coefficient.')
        return Point(W, H if labels is None else H[:, self._order(labels, H.device)], b)

    def _order(self, labels: Tensor, device: torch.device) -> Tensor:
        labels = check_labels(labels, self.samples, self.classes).to(device)
        counts = torch.bincount(labels, minlength=self.classes).tolist()
        if tuple(counts) != self.counts:
            raise InputError(
                f"labels with the problem's counts {list(self.counts[:8])}",
                got=f"labels with counts {counts[:8]}",
                remedy="Build the problem with per_class=torch.bincount(labels).tolist().",
            )
        return torch.argsort(labels, stable=True)


@dataclass(frozen=True, eq=False)
class NormalForm:
    r"""The model with factors of equal weight and one column per distinct feature.

    .. math:: \Phi(A, B, b) = \sum_i \tfrac{c_i}{N} l\big(A B_i/\sqrt{c_i} + b, y_i\big)
        + \tfrac{\lambda}{2}\big(\|A\|_F^2 + \|B\|_F^2\big) + \tfrac{\lambda_b}{2}\|b\|^2

    with lambda = sqrt(lambda_W lambda_H), A = r W, B_i = sqrt(c_i) h_i / r, r = (lambda_W/lambda_H)^{1/4}, and c_i
    samples sharing the feature h_i. For a convex loss and given W and b every h_i minimises its own strongly convex
    function: all critical points are collapsed, and one column per class (c_k = n_k) loses none of them; in the
    directions left out the Hessian is positive definite.
    """

    problem: UnconstrainedFeatures
    multiplicity: Float[Tensor, " n"]
    targets: Targets
    A: Weights
    B: Columns
    b: ClassVector

    @classmethod
    def of_point(cls, problem: UnconstrainedFeatures, point: Point, *, collapse: bool = False) -> NormalForm:
        """Normal form of a point; with `collapse`, at the class means of its features."""
        device, counts = point.H.device, torch.tensor(problem.counts, device=point.H.device)
        targets, columns = problem.labels.to(device), point.H
        first = torch.cumsum(counts, 0) - counts
        if collapse:
            sums = columns.new_zeros(problem.features, problem.classes).index_add_(1, targets, columns)
            means = sums / counts
        else:
            means = columns[:, first]
        if collapse or bool((columns == means[:, targets]).all()):
            targets, columns, multiplicity = torch.arange(problem.classes, device=device), means, counts.double()
        else:
            multiplicity = torch.ones(len(targets), dtype=torch.float64, device=device)
        ratio = (problem.weight_decay[0] / problem.weight_decay[1]) ** 0.25
        return cls(
            problem, multiplicity, targets, ratio * point.W, columns * multiplicity.sqrt() / ratio, point.b.clone()
        )

    def moved(self, A: Tensor, B: Tensor, b: Tensor) -> NormalForm:
        """The same problem at another point."""
        return NormalForm(self.problem, self.multiplicity, self.targets, A, B, b)

    def with_bias(self, b: Tensor) -> NormalForm:
        """The same W and H with another bias, at no more than the price of an addition."""
        other = self.moved(self.A, self.B, b)
        other.__dict__["logits"] = self.logits + (b - self.b)[:, None]
        return other

    @property
    def multiplications(self) -> int:
        """Of the product AB."""
        return self.A.numel() * self.B.shape[1]

    @property
    def collapsed(self) -> bool:
        """Whether there is one column per class."""
        return len(self.targets) == self.problem.classes < self.problem.samples

    @property
    def point(self) -> Point:
        """W, H, b of the model."""
        ratio = (self.problem.weight_decay[0] / self.problem.weight_decay[1]) ** 0.25
        columns = self.B * ratio / self.multiplicity.sqrt()
        if len(self.targets) != self.problem.samples:
            columns = columns[:, self.problem.labels.to(columns.device)]
        return Point(self.A / ratio, columns, self.b)

    @cached_property
    def logits(self) -> Tensor:
        """A B_i / sqrt(c_i) + b (k, n)."""
        return (self.A @ self.B).div_(self.multiplicity.sqrt()).add_(self.b[:, None])

    @cached_property
    def G(self) -> Tensor:  # noqa: N802
        """Gradient of the mean loss in X = AB (k, n), and so, up to sqrt(c_i), in the logits of every sample."""
        return self.slopes(self.logits)

    @cached_property
    def value(self) -> Tensor:
        """Phi, equal to f."""
        return self.data_value(self.logits) + self.penalty

    @property
    def penalty(self) -> Tensor:
        """The decay terms."""
        decay, bias = self.problem.nuclear_decay, self.problem.bias_decay
        penalty = 0.5 * decay * (self.A.square().sum() + self.B.square().sum())
        return penalty if bias == float("inf") else penalty + 0.5 * bias * self.b.square().sum()

    def data_value(self, logits: Tensor) -> Tensor:
        """Mean loss over the samples."""
        return (self.multiplicity * self.problem.loss.value(logits, self.targets)).sum() / self.problem.samples

    def slopes(self, logits: Tensor) -> Tensor:
        """The same at other logits."""
        return self.problem.loss.gradient(logits, self.targets) * self.multiplicity.sqrt() / self.problem.samples

    def gradient(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Phi and its gradient in A, B and b (zero where there is no bias)."""
        return (self.value, *self._gradient)

    @cached_property
    def _gradient(self) -> tuple[Tensor, Tensor, Tensor]:
        G, decay = self.G, self.problem.nuclear_decay
        in_A = torch.addmm(self.A, G, self.B.T, beta=decay)
        return in_A, torch.addmm(self.B, self.A.T, G, beta=decay), self.bias_gradient

    def second(self, dA: Tensor, dB: Tensor, db: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hessian of Phi times a direction."""
        logits, root = self.logits, self.multiplicity.sqrt()
        decay, bias = self.problem.nuclear_decay, self.problem.bias_decay
        if bias == float("inf"):
            db = torch.zeros_like(db)
        G = self.G
        moved = (dA @ self.B + self.A @ dB) / root + db[:, None]
        D = self.problem.loss.curvature(logits, self.targets, moved) * root / self.problem.samples
        in_b = torch.zeros_like(db) if bias == float("inf") else (D * root).sum(1) + bias * db
        return (
            D @ self.B.T + G @ dB.T + decay * dA,
            self.A.T @ D + dA.T @ G + decay * dB,
            in_b,
        )

    def curvature_along(self, dA: Tensor, dB: Tensor, db: Tensor) -> float:
        """Second derivative of Phi along a direction, <v, Hessian v>, with half the products of `second`."""
        problem, free = self.problem, self.problem.bias != "none"
        moved = (dA @ self.B).addmm_(self.A, dB).div_(self.multiplicity.sqrt())
        if free:
            moved += db[:, None]
        bend = (problem.loss.curvature(self.logits, self.targets, moved) * moved) @ self.multiplicity
        penalty = problem.nuclear_decay * (dA.square().sum() + dB.square().sum())
        curvature = bend.sum() / problem.samples + 2 * ((self.G @ dB.T) * dA).sum() + penalty
        return float(curvature + problem.bias_decay * db.square().sum()) if free else float(curvature)

    @property
    def bias_gradient(self) -> Tensor:
        """Gradient of Phi in b; zero where there is no bias."""
        bias = self.problem.bias_decay
        return torch.zeros_like(self.b) if bias == float("inf") else self.G @ self.multiplicity.sqrt() + bias * self.b


def _matrix(value: object, name: str) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{name} is a floating-point tensor", got=got, remedy="Convert it with torch.as_tensor.")
    value = value.detach().double()
    if not bool(torch.isfinite(value).all()):
        kind = "NaN" if bool(torch.isnan(value).any()) else "inf"
        raise InputError(f"{name} is finite", got=kind, remedy="Look for divergence in whatever made it.")
    return value


def _check_decay(decay: tuple[float, float]) -> None:
    if not (isinstance(decay, tuple | list) and len(decay) == 2 and all(0 < value < float("inf") for value in decay)):
        raise InputError(
            "weight_decay = (lambda_W, lambda_H), both above zero",
            got=repr(decay),
            remedy="Without decay on both factors the model has no minimum; use for example (5e-4, 5e-4).",
        )


def _check_bias(bias: Bias) -> None:
    number = isinstance(bias, int | float) and not isinstance(bias, bool)
    if not (bias in ("none", "free") if isinstance(bias, str) else number and 0 < bias < float("inf")):
        raise InputError(
            'bias is "none", "free" or a coefficient above zero',
            got=repr(bias),
            remedy='Use "free" for a coefficient of 0.',
        )
