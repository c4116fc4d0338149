"""Linear classifiers on given features, fitted to optimality: accuracy on samples held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.collapse.spread import ClassSpread, spread_of_rows
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.core.typing import ClassVector, Features, Labels, Weights
from tightframe.optimize.ridge import principal
from tightframe.optimize.softmax_regression import SoftmaxRegression

DECAYS = (1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
TOLERANCE = 1e-6
_STEPS = 200
_SHARE = 0.2

Classifier = tuple[Weights, ClassVector]


@dataclass(frozen=True)
class ProbeAccuracy:
    """What a linear classifier makes of samples that decided nothing about it.

    Args:
        accuracy: Share of right decisions on the test rows.
        tested: Number of test rows.
        decay: Coefficient of the squared weights, chosen on the validation rows.
        gap: Dual gap of the fit; 0 for a closed form.
    """

    accuracy: float
    tested: int
    decay: float
    gap: float = 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of Wilson about the draw of the test rows, the fit given."""
        z2, n, p = 1.96**2, self.tested, self.accuracy
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        spread = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
        return max(0.0, centre - spread), min(1.0, centre + spread)


def ridge_classifier(spread: ClassSpread, *, decay: float) -> Classifier:
    r"""Least squares with one-hot targets, decayed weights and a free bias, in closed form from class moments.

    .. math:: \min_{W, b} \tfrac1N \|F W^\top + 1 b^\top - Y\|_F^2 + \lambda \|W\|_F^2, \qquad
        W^\top = \big(\tfrac TN + \lambda I\big)^{-1} \tfrac1N \big[n_k (\mu_k - \mu)\big]_k, \quad
        b = \tfrac nN - W \mu

    Args:
        spread: Class moments.
        decay: lambda, above 0.

    Returns:
        W (k, d) and b (k,).

    Raises:
        InputError: decay not above 0.

    Reference: [hoerl1970ridge].
    """
    if not decay > 0:
        raise InputError("decay above 0", got=repr(decay), remedy="Use 1e-3 of the features' mean variance.")
    total = spread.total
    square = spread.covariance / total
    square.diagonal().add_(decay)
    weight = torch.linalg.solve(square, spread.between * spread.count.sqrt() / total).T
    return weight, spread.count / total - weight @ spread.origin


def linear_probes(
    features: Features, labels: Labels, *, classes: int, decays: Sequence[float] = DECAYS, seed: int = 0
) -> tuple[ProbeAccuracy, ProbeAccuracy]:
    """Held-out accuracy of logistic regression and of the ridge classifier.

    Of every class a fifth of the rows tests, a fifth chooses among `decays`, and the rest fits; with the chosen one the
    classifier is fitted again on all but the test rows. The features are first centred and divided by the root of
    their mean variance, so that `decays` have no unit.

    Args:
        features: (n, d).
        labels: (n,) of all classes 0..K-1.
        classes: K.
        decays: Coefficients of the squared weights.
        seed: Seed of the split.

    Returns:
        Accuracy of the logistic regression, and of the ridge classifier.

    Raises:
        DegenerateError: A class with fewer than three rows, or features that do not vary.
    """
    part = _parts(labels, classes, seed)
    rows = features.double()
    rows = rows - rows[part == 2].mean(0)
    scale = rows[part == 2].square().mean().sqrt()
    if not float(scale) > 0:
        raise DegenerateError("features that vary", got="a constant", remedy="Look for dead units.")
    rows = rows / scale
    fit, choose, test = ((rows[kept], labels[kept]) for kept in (part == 2, part == 1, part == 0))
    both = rows[part > 0], labels[part > 0]
    descending = sorted(decays, reverse=True)

    fits = _logistic(*fit, classes=classes, decays=descending)
    chosen = _best(descending, lambda decay: _accuracy((fits[decay].W, fits[decay].b), *choose))
    final = _logistic(*both, classes=classes, decays=[chosen])[chosen]
    gap = final.certificate.gap
    logistic = ProbeAccuracy(_accuracy((final.W, final.b), *test), len(test[1]), chosen, gap)

    small, whole = (spread_of_rows(*given, classes=classes).merged() for given in (fit, both))
    chosen = _best(descending, lambda decay: _accuracy(ridge_classifier(small, decay=decay), *choose))
    accuracy = _accuracy(ridge_classifier(whole, decay=chosen), *test)
    return logistic, ProbeAccuracy(accuracy, len(test[1]), chosen)


def _logistic(features: Features, labels: Labels, *, classes: int, decays: Sequence[float]) -> dict[float, Solution]:
    """Softmax regression at each of `decays`, which descend, each begun where the last one ended."""
    problem = SoftmaxRegression(principal(features), labels, classes)
    point, found = problem.start(), {}
    for decay in decays:
        point, found[decay] = problem.solve(decay, point, tolerance=TOLERANCE, max_iterations=_STEPS)
    return found


def _parts(labels: Labels, classes: int, seed: int) -> Tensor:
    """0 for rows that test, 1 for rows that choose, 2 for the others; every class is in all three."""
    count = torch.bincount(labels, minlength=classes)
    if int(count.min()) < 3:
        raise DegenerateError(
            "three samples of every class, to fit, to choose and to test",
            got=f"{int(count.min())} of class {int(count.argmin())}",
            remedy="Use more data.",
        )
    shuffled = torch.randperm(len(labels), generator=generator(seed)).to(labels.device)
    order = shuffled[labels[shuffled].argsort(stable=True)]
    place = torch.arange(len(labels), device=labels.device) - (count.cumsum(0) - count)[labels[order]]
    share = (count * _SHARE).round().long().clamp(min=1)[labels[order]]
    part = torch.full_like(labels, 2)
    part[order] = torch.where(place < share, 0, torch.where(place < 2 * share, 1, 2))
    return part


def _best(decays: Sequence[float], accuracy: Callable[[float], float]) -> float:
    """The decay of the highest accuracy, the largest of equals: `decays` descend, and max keeps the first."""
    return max(decays, key=accuracy)


def _accuracy(classifier: Classifier, rows: Features, labels: Labels) -> float:
    weight, bias = classifier
    return float(((rows @ weight.T + bias).argmax(1) == labels).double().mean())
