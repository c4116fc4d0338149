"""`UnconstrainedFeatures`: the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count, check_labels
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.typing import ClassVector, Float, Int, Weights
from tightframe.ufm.loss import Loss
from tightframe.ufm.losses import named_loss

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
    def multiplications(self) -> int:
        """Of the largest product of matrices in one evaluation."""
        return self.classes * self.features * self.samples

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
        point, (decay_w, decay_h) = self.point(W, H, b), self.weight_decay
        logits = point.W @ point.H + point.b[:, None]
        value = self.loss.value(logits, self.labels.to(logits.device)).mean()
        value += (decay_w * point.W.square().sum() + decay_h * point.H.square().sum()) / 2
        return float(value if self.bias == "none" else value + self.bias_decay * point.b.square().sum() / 2)

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
