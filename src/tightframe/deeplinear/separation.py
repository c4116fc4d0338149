"""Progressive separation in deep linear networks: how D falls from layer to layer, and what theory says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tightframe.collapse.variability import trace_ratio
from tightframe.core.errors import InputError
from tightframe.core.typing import Float
from tightframe.deeplinear.network import DeepLinearNetwork, check_chain
from tightframe.deeplinear.objective import LeastSquares
from tightframe.features.moments import ClassMoments


@dataclass(frozen=True)
class SeparationLaw:
    r"""What theory says of D_{l+1} / D_l for l = 0, ..., L - 2.

    .. math:: \frac{D_{l+1}}{D_l} \approx \epsilon^2 n^{-1/L} \ll 2 (\sqrt K + 1)\, \epsilon^2

    The lecture bounds the ratio by the right side; the left one is what it is. With X X^T = I and one-hot outputs, n
    samples in each class, Phi = Y X^T has K singular values sqrt(n), which a balanced minimum splits evenly: the top K
    of every layer below the last are tau = n^{1/(2L)}, up to terms of relative order epsilon^2, all others at most
    epsilon. Class means lie in the row space of Phi, where the first l layers multiply by tau^l. Deviations from them
    lie in its complement, of dimension d - K, where d - 2K singular values are epsilon and s_1, ..., s_K smaller. So

    .. math:: \frac{D_l}{D_0} = \frac{(d - 2K)\,\epsilon^{2l} + \sum_i s_i^{2l}}{(d - K)\, \tau^{2l}}, \qquad
        \epsilon^2 \tau^{-2}\, \frac{d - 2K}{d - K} \le \frac{D_{l+1}}{D_l} \le \epsilon^2 \tau^{-2}

    up to terms of relative order epsilon^2. docs/deep_linear.md has the steps in full.

    Args:
        classes: K.
        per_class: n.
        depth: L.
        scale: epsilon.
        width: d, at least 2 K.

    Raises:
        InputError: Numbers out of range.

    Example:
        >>> law = SeparationLaw(classes=5, per_class=10, depth=4, scale=0.5, width=50)
        >>> round(law.ratio, 4), round(law.floor, 4), round(law.lecture, 3)
        (0.1406, 0.125, 1.618)

    Reference: [qu2023lecture6] and [wang2023understanding] for the bound on the right.
    """

    classes: int
    per_class: int
    depth: int
    scale: float
    width: int

    def __post_init__(self) -> None:
        sound = self.classes >= 2 and self.per_class >= 1 and self.depth >= 2 and self.scale > 0
        if not (sound and self.width >= 2 * self.classes):
            raise InputError(
                "at least 2 classes, 1 sample in each, 2 layers, a scale above zero, a width of twice the classes",
                got=f"{self}",
                remedy="The law is about such networks.",
            )

    @property
    def lecture(self) -> float:
        """2 (sqrt K + 1) epsilon^2."""
        return 2 * (self.classes**0.5 + 1) * self.scale**2

    @property
    def ratio(self) -> float:
        """epsilon^2 n^(-1/L), the limit for small epsilon and K/d."""
        return self.scale**2 * self.per_class ** (-1 / self.depth)

    @property
    def floor(self) -> float:
        """(d - 2K) / (d - K) times that: below it no ratio lies, up to terms of relative order epsilon^2."""
        return self.ratio * (self.width - 2 * self.classes) / (self.width - self.classes)


@dataclass(frozen=True)
class SeparationAssumptions:
    """The assumptions of the law, measured on a network at hand.

    Args:
        classes: K.
        per_class: n, the same for every class.
        scale: epsilon.
        loss: |W_{L:1} X - Y|_F^2 / 2, zero at a global optimum.
        whiteness: Frobenius norm of X X^T - I.
        balance: Largest Frobenius norm of W_{l+1}^T W_{l+1} - W_l W_l^T over l below L - 1; zero for the flow.
        last_balance: The same for the last two layers, at most epsilon^2 sqrt(d - K) for the flow.
        last_allowed: epsilon^2 sqrt(d - K).
        kept: Singular values within `tolerance` of epsilon, relatively, in the layer that has the fewest.
        expected: d - 2K, how many there should be.
        tolerance: For all of these.
    """

    classes: int
    per_class: int
    scale: float
    loss: float
    whiteness: float
    balance: float
    last_balance: float
    last_allowed: float
    kept: int
    expected: int
    tolerance: float

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of what does not hold within the tolerance."""
        checks = {
            "loss": self.loss <= self.tolerance,
            "whiteness": self.whiteness <= self.tolerance,
            "balance": self.balance <= self.tolerance,
            "last_balance": self.last_balance <= self.last_allowed + self.tolerance,
            "kept": self.kept >= self.expected,
        }
        return tuple(name for name, holds in checks.items() if not holds)

    @property
    def holds(self) -> bool:
        """Whether all do."""
        return not self.violated


def progressive_separation(network: DeepLinearNetwork | Sequence[Tensor], X: Tensor, Y: Tensor) -> Float[Tensor, " l"]:
    r"""D_l = tr(Sigma_W) / tr(Sigma_B) of the features W_l ... W_1 X, for l = 0 (the inputs) to L - 1.

    Args:
        network: The network, or its weights.
        X: Inputs (d_x, n), samples in columns.
        Y: One-hot outputs (K, n).

    Returns:
        D_0, ..., D_{L-1} (l,), float64.

    Raises:
        InputError: Data that do not fit, Y that is not one-hot. DegenerateError: All class means of a layer agree.

    Reference: [qu2023lecture6]; [wang2023understanding].
    """
    weights, objective = _weights(network), LeastSquares(X, Y)
    labels, features, values = one_hot_labels(objective.Y), objective.X, []
    for weight in weights:
        values.append(layer_separation(features, labels))
        features = weight @ features
    return torch.tensor(values, dtype=torch.float64)


def layer_separation(features: Float[Tensor, "d n"], labels: Tensor) -> float:
    """D of features in columns; see `tightframe.collapse.variability.trace_ratio`."""
    moments = ClassMoments(int(labels.max()) + 1, "trace")
    moments.update(features.T, labels)
    return trace_ratio(moments)


def check_separation(
    network: DeepLinearNetwork | Sequence[Tensor], X: Tensor, Y: Tensor, *, scale: float, tolerance: float = 1e-2
) -> SeparationAssumptions:
    """Measure what the law of separation assumes of a trained network.

    Descent in steps keeps layers balanced only up to terms of the order of the step, so that a tolerance is needed.

    Args:
        network: The trained network, or its weights.
        X: Inputs (d, n), samples in columns.
        Y: One-hot outputs (K, n), equally many samples in each class.
        scale: epsilon of the start.
        tolerance: For every assumption.

    Raises:
        InputError: Fewer than two layers, data that do not fit, Y that is not one-hot or not balanced.
    """
    weights, objective = _weights(network), LeastSquares(X, Y)
    labels = one_hot_labels(objective.Y)
    classes, d = len(Y), len(X)
    counts = torch.bincount(labels, minlength=classes)
    if len(weights) < 2 or int(counts.min()) != int(counts.max()):
        raise InputError(
            "at least two layers and equally many samples in every class",
            got=f"{len(weights)} layers and {counts.tolist()} samples",
            remedy="The law is about balanced classes: subsample the larger ones.",
        )
    product = weights[0]
    for weight in weights[1:]:
        product = weight @ product
    norm = torch.linalg.matrix_norm
    gaps = [float(norm(upper.T @ upper - lower @ lower.T)) for lower, upper in pairwise(weights)]
    near = [int(((torch.linalg.svdvals(W) / scale - 1).abs() <= tolerance).sum()) for W in weights[:-1]]
    return SeparationAssumptions(
        classes=classes,
        per_class=int(counts[0]),
        scale=scale,
        loss=objective.value(product),
        whiteness=float(norm(objective.X @ objective.X.T - torch.eye(d).to(X))),
        balance=max(gaps[:-1], default=0.0),
        last_balance=gaps[-1],
        last_allowed=scale**2 * (d - classes) ** 0.5,
        kept=min(near),
        expected=d - 2 * classes,
        tolerance=tolerance,
    )


def one_hot_labels(Y: Float[Tensor, "k n"]) -> Tensor:
    """Classes (n,) of one-hot columns.

    Raises:
        InputError: A column that is not a unit vector, a class without samples.
    """
    if not bool(((Y == 0) | (Y == 1)).all() and (Y.sum(0) == 1).all() and (Y.sum(1) > 0).all()):
        raise InputError(
            "one-hot columns of Y, every class with samples",
            got="other values",
            remedy="Separation is about classes: pass torch.nn.functional.one_hot(labels).T.double().",
        )
    return Y.argmax(0)


def _weights(network: DeepLinearNetwork | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return network.weights if isinstance(network, DeepLinearNetwork) else check_chain(network)
