"""A trained network as an unconstrained-features model: its last layer and its features, taken as free variables."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.checks import check_classifier, check_features, check_labels, check_same_device
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import ClassVector, Features, Labels, Weights
from tightframe.ufm.loss import Loss
from tightframe.ufm.model import Point, UnconstrainedFeatures


def of_features(
    features: Features,
    labels: Labels,
    *,
    weight: Weights,
    bias: ClassVector | None = None,
    weight_decay: float,
    feature_decay: float | None = None,
    bias_decay: float | None = None,
    loss: Loss | str = "ce",
) -> tuple[UnconstrainedFeatures, Point]:
    r"""The model that a network's last layer and features are a point of, and that point.

    .. math:: f(W, H, b) = \tfrac1N \sum_{i=1}^{N} l(W h_i + b, y_i) + \tfrac{\lambda_W}{2}\|W\|_F^2
        + \tfrac{\lambda_H}{2}\|H\|_F^2 + \tfrac{\lambda_b}{2}\|b\|^2

    where
        h_i are the rows of `features` (n, d), y_i the `labels` (n,), W the `weight` (k, d) and b the `bias` (k,).

    A network that decays its weights alone has no explicit lambda_H. Critical points of the model are balanced,
    lambda_W W^T W = lambda_H H H^T, and so it is taken as lambda_H = lambda_W |W|^2 / |H|^2 unless given.

    Args:
        features: Input of the classifier, one row per training sample; half precision is converted exactly.
        labels: Class of every row; each of the k classes must occur.
        weight: Classifier W.
        bias: Its bias; None for a classifier without one.
        weight_decay: lambda_W.
        feature_decay: lambda_H; None for the balanced value. A penalty (c/2) mean |h_i|^2 is lambda_H = c/N.
        bias_decay: lambda_b; 0 for a free bias, None for lambda_W, as torch's optimisers decay all parameters alike.
        loss: "ce", "ls", "focal", "mse", or a Loss of `tightframe.ufm.losses`.

    Returns:
        The problem, and the point in float64 with its columns ordered by class, ready for `certify`.

    Raises:
        InputError: Shapes, types or devices that do not fit, NaN, a class without samples, a decay below zero.
        DegenerateError: Balanced decay where weight or features are all zero.

    Example:
        >>> W = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        >>> problem, point = of_features(2 * W, torch.tensor([0, 1]), weight=W, weight_decay=1e-2)
        >>> problem.weight_decay, problem.bias
        ((0.01, 0.0025), 'none')

    Reference: [zhu2021geometric], for the balance of critical points.
    """
    features = check_features(features)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        got = f"shape {tuple(weight.shape)}" if isinstance(weight, Tensor) else type(weight).__name__
        raise InputError(
            f"the classifier weight is a tensor of shape (k, {features.shape[1]})",
            got=got,
            remedy="Pass the weight of the last linear layer, one row per class.",
        )
    classes, width = len(weight), features.shape[1]
    check_same_device(features, weight, "features and classifier")
    W, b = check_classifier(weight, bias, classes, width)
    labels = check_labels(labels, len(features), classes).to(features.device)
    if not bool(torch.isfinite(features).all()):
        raise InputError("features are finite", got="NaN or inf", remedy="Look for divergence in training.")
    H = features.double().T
    problem = UnconstrainedFeatures(
        classes=classes,
        features=width,
        per_class=_counts(labels, classes),
        loss=loss,
        weight_decay=(weight_decay, _balanced(W, H, weight_decay) if feature_decay is None else feature_decay),
        bias=_bias(bias, weight_decay if bias_decay is None else bias_decay),
    )
    return problem, problem.point(W, H, b, labels=labels)


def _counts(labels: Tensor, classes: int) -> list[int]:
    counts = torch.bincount(labels, minlength=classes).tolist()
    absent = [k for k, count in enumerate(counts) if not count]
    if absent:
        shown = ", ".join(map(str, absent[:8])) + (", ..." if len(absent) > 8 else "")
        raise InputError(
            f"samples of each of the {classes} classes",
            got=f"none of {'class' if len(absent) == 1 else 'classes'} {shown}",
            remedy="Take data that hold all classes, or drop the rows of the others from weight and bias.",
        )
    return counts


def _balanced(W: Tensor, H: Tensor, weight_decay: float) -> float:
    sizes = {"weight": float(W.square().sum()), "features": float(H.square().sum())}
    empty = [name for name, size in sizes.items() if not size]
    if empty:
        raise DegenerateError(
            "weight and features that differ from zero, for a balanced feature decay",
            got=f"{empty[0]} of zeros",
            remedy="Give feature_decay a number, or look for collapse to zero (too strong a weight decay).",
        )
    return weight_decay * sizes["weight"] / sizes["features"]


def _bias(bias: Tensor | None, decay: float) -> str | float:
    if bias is None:
        return "none"
    return "free" if decay == 0 else decay
