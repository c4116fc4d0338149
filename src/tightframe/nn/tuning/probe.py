"""Linear probes to optimality: softmax regression and least squares on features, by decay or by a path of decays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from tightframe.core.checks import check_count, check_features, check_finite, check_labels, check_same_device
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution
from tightframe.core.typing import Features, Float, Int, Labels
from tightframe.data.labelled.images import stratified_split
from tightframe.nn.rate.nearest_subspace import as_tensor, encoded, on_host
from tightframe.optimize.ridge import principal, ridge
from tightframe.optimize.softmax_regression import SoftmaxRegression

DECAYS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
Method = Literal["logistic", "ridge"]
Validation = float | tuple[Float[Tensor, "held d"], Int[Tensor, " held"]]


def linear_probe(
    features: Features,
    labels: Labels,
    *,
    decay: float | Sequence[float] = 1e-3,
    validation: Validation | None = None,
    method: Method = "logistic",
    classes: int | None = None,
    seed: int = 0,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
) -> Solution:
    r"""The best linear classifier of features: softmax regression with weight decay, solved to its optimum.

    .. math:: \min_{W, b}\ \frac1n \sum_i \ell(W h_i + b, y_i) + \frac\lambda2 \|W\|_F^2

    where
        h_i (d,) are the rows of `features` (n, d), y_i `labels`, lambda is `decay`, and the loss l is cross-entropy, or
        half the squared distance to the one-hot row for `method="ridge"`.

    scikit-learn's LogisticRegression has C = 1 / (n lambda). The optimum does not change with the optimiser's seed or
    step size, as that of a probe trained by SGD does. For features that do not fit in memory, train the head instead.

    Args:
        features: (n, d), on any device; solved in float64.
        labels: (n,), class indices from 0; every class occurs.
        decay: lambda > 0; or several, of which `validation` chooses.
        validation: Features and labels to choose by, or the share of every class held out for it, in (0, 1); the
            chosen decay is then fitted to all samples again. The highest accuracy wins, then the lowest loss.
        method: "logistic" by Newton steps, or "ridge" in closed form.
        classes: k, by default the largest label plus one.
        seed: Seed of the samples held out.
        tolerance: Norm of the gradient at which a solve ends, for features moved to their mean and scaled to a radius
            (root mean square) of one: moving or scaling the features does not change when it ends.
        max_iterations: Newton steps at most, for each decay.

    Returns:
        Solution with W (k, d), b (k,) and the decay used, float64; b sums to zero where the loss is cross-entropy. Its
        certificate bounds how far the objective is above the minimum; "gradient" in its evidence is what the solve
        ended at.

    Raises:
        InputError: NaN, one class, a class without samples, a decay that is not positive, several without
            `validation`, or one sample of a class where a share is to be held out.

    Example:
        >>> solution = linear_probe(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1, 1]))
        >>> solution.status.outcome, solution.certificate.holds, tuple(solution.W.shape)
        ('converged', True, (2, 1))

    Reference: [alain2016understanding].
    """
    features, labels, classes = _checked(features, labels, classes)
    options = {"method": method, "classes": classes, "tolerance": tolerance, "max_iterations": max_iterations}
    decays = (decay,) if isinstance(decay, int | float) else tuple(decay)
    if validation is None:
        if len(decays) != 1:
            raise InputError(
                "validation data to choose among several decays",
                got=f"{len(decays)} decays and validation=None",
                remedy="Set validation=0.2, or pass (features, labels).",
            )
        return probe_path(features, labels, decays, **options)[0]
    if isinstance(validation, int | float):
        kept, held = _split(labels, validation, seed)
        path = probe_path(features[kept], labels[kept], decays, **options)
        chosen = _best(path, features[held], labels[held])
        return probe_path(features, labels, (decays[chosen],), **options)[0]
    path = probe_path(features, labels, decays, **options)
    held_features, held_labels = validation
    return path[_best(path, *_held(held_features, held_labels, features, classes))]


def probe_path(
    features: Features,
    labels: Labels,
    decays: Sequence[float] = DECAYS,
    *,
    method: Method = "logistic",
    classes: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
) -> tuple[Solution, ...]:
    """The probes of several decays, in the order given; each solve begins at the optimum of the next larger decay.

    Arguments and errors are those of `linear_probe`.
    """
    features, labels, classes = _checked(features, labels, classes)
    wanted = tuple(float(decay) for decay in decays)
    if not wanted or not all(0 < decay < math.inf for decay in wanted):
        raise InputError(
            "positive and finite decays",
            got=repr(wanted),
            remedy="Without decay separable classes have no optimum; use 1e-6 for little.",
        )
    if method not in get_args(Method):
        raise InputError(f"method is one of {', '.join(get_args(Method))}", got=repr(method), remedy="Choose one.")
    if not tolerance > 0:
        raise InputError("a positive tolerance", got=repr(tolerance), remedy="Use 1e-10.")
    check_count(max_iterations, "max_iterations")
    coordinates = principal(features)
    if method == "ridge":
        return tuple(ridge(coordinates, labels, classes, decay=decay) for decay in wanted)
    problem, found = SoftmaxRegression(coordinates, labels, classes), {}
    point = problem.start()
    for decay in sorted(set(wanted), reverse=True):
        point, found[decay] = problem.solve(decay, point, tolerance=tolerance, max_iterations=max_iterations)
    return tuple(found[decay] for decay in wanted)


class LinearProbe(ClassifierMixin, BaseEstimator):
    """`linear_probe` as a scikit-learn classifier.

    Args:
        decay: lambda, or several of which `validation` chooses.
        validation: Share of every class held out to choose a decay; None with one decay.
        method: "logistic" or "ridge".
        tolerance: Norm of the gradient at which a solve ends, in the units of `linear_probe`.
        max_iter: Newton steps at most.
        seed: Seed of the samples held out.

    Attributes:
        classes_: The labels, sorted.
        coef_: W (k, d).
        intercept_: b (k,).
        decay_: lambda used.
        solution_: The `Solution`, with its certificate.

    Arrays and tensors on any device are read, and arrays returned.

    Example:
        >>> model = LinearProbe().fit([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"])
        >>> model.predict([[0.2]])
        array(['low'], dtype='<U4')

    Reference: [alain2016understanding].
    """

    def __init__(
        self,
        decay: float | Sequence[float] = 1e-3,
        validation: float | None = None,
        method: Method = "logistic",
        tolerance: float = 1e-10,
        max_iter: int = 100,
        seed: int = 0,
    ) -> None:
        self.decay = decay
        self.validation = validation
        self.method = method
        self.tolerance = tolerance
        self.max_iter = max_iter
        self.seed = seed

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> LinearProbe:
        """Solve for W (k, d) and b (k,) on features (n, d) and labels (n,), numbers or strings.

        Raises:
            InputError: As `linear_probe`.
        """
        X, y = validate_data(self, on_host(X), on_host(y), dtype=[np.float64, np.float32])
        self.classes_: NDArray[Any]
        self.classes_, labels = encoded(y)
        self.solution_: Solution = linear_probe(
            as_tensor(X),
            torch.from_numpy(labels),
            decay=self.decay,
            validation=self.validation,
            method=self.method,
            seed=self.seed,
            tolerance=self.tolerance,
            max_iterations=self.max_iter,
        )
        self.coef_: NDArray[Any] = self.solution_.W.numpy()
        self.intercept_: NDArray[Any] = self.solution_.b.numpy()
        self.decay_: float = float(self.solution_.decay)
        self.n_iter_: float = max(1, self.solution_.trace["step"][-1])
        return self

    def decision_function(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Logits (n, k); with two classes the second's minus the first's, (n,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Softmax (n, k) of the logits, for `method="ridge"` too, where they are no log-probabilities."""
        return torch.from_numpy(self._logits(X)).softmax(1).numpy()

    def predict(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Label (n,) of the largest logit."""
        chosen = self._logits(X).argmax(1)
        return self.classes_[chosen]

    def _logits(self, X: ArrayLike | Tensor) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, on_host(X), dtype=[np.float64, np.float32], reset=False)
        return X.astype(np.float64, copy=False) @ self.coef_.T + self.intercept_


def _best(path: Sequence[Solution], features: Tensor, labels: Tensor) -> int:
    """Place of the probe of highest accuracy, of equals that of lowest cross-entropy, of equals the first."""
    scores = []
    for solution in path:
        logits = features.double() @ solution.W.T + solution.b
        accuracy = (logits.argmax(1) == labels).double().mean()
        scores.append((float(accuracy), -float(torch.nn.functional.cross_entropy(logits, labels))))
    return scores.index(max(scores))


def _checked(features: Tensor, labels: Tensor, classes: int | None) -> tuple[Tensor, Tensor, int]:
    features = check_features(features)
    largest = int(labels.max()) if isinstance(labels, Tensor) and labels.numel() else 0
    classes = max(largest, 0) + 1 if classes is None else check_count(classes, "classes")
    labels = check_labels(labels, len(features), classes)
    check_same_device(features, labels, "features and labels")
    check_finite(features, labels, batch=0)
    counts = torch.bincount(labels, minlength=classes)
    if classes < 2:
        raise InputError("samples of at least two classes", got=f"{classes} class", remedy="Add the others.")
    if bool((counts == 0).any()):
        missing = (counts == 0).nonzero()[:5, 0].tolist()
        raise InputError(
            f"samples of each of the {classes} classes; the bias of an empty one has no optimum",
            got=f"none of class {', '.join(map(str, missing))}",
            remedy="Renumber the labels, or add samples.",
        )
    return features, labels, classes


def _split(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    if not 0 < share < 1:
        raise InputError("a share held out in (0, 1)", got=f"validation={share!r}", remedy="Set validation=0.2.")
    kept, held = stratified_split(labels.cpu(), held_out=share, seed=seed)
    return kept.to(labels.device), held.to(labels.device)


def _held(features: Tensor, labels: Tensor, like: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    features = check_features(features, "validation features")
    if features.shape[1] != like.shape[1]:
        raise InputError(
            f"validation features of the same dimension, {like.shape[1]}",
            got=f"shape {tuple(features.shape)}",
            remedy="Take both from one layer.",
        )
    labels = check_labels(labels, len(features), classes)
    check_finite(features, labels, batch=0)
    return features, labels
