"""ReduNet on vectors: a network constructed layer by layer from data, without back propagation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from tightframe.core.checks import check_directions
from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.nn.rate.nearest_subspace import NearestSubspaceClassifier, as_tensor, encoded, on_host
from tightframe.nn.rate.redunet_layer import Ascent, classified, construct

RULES = ("subspace", "softmax")


class ReduNet(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    r"""Network whose layers are gradient steps on the coding rate reduction of the training samples.

    .. math:: z \leftarrow \operatorname{normalise}\Bigl( z + \eta \bigl( E z - \textstyle\sum_k \gamma_k \hat\pi_k(z)
        C_k z \bigr) \Bigr), \qquad E = \alpha (I + \alpha Z Z^\top)^{-1}, \quad
        C_k = \alpha_k (I + \alpha_k Z_k Z_k^\top)^{-1}

    where
        Z (d, n) holds the training features as columns of unit norm, Z_k (d, n_k) those of class k,
        alpha = d / (n epsilon^2), alpha_k = d / (n_k epsilon^2), gamma_k = n_k / n, eta is `eta`, epsilon^2 is `eps2`,
        and pi_k(z) is a softmax of -lambda |C_k z| with lambda = `softmax`.

    E spreads all features, C_k squeezes each class into a subspace. Samples are scaled to unit norm first; standardise
    columns of different units before. Features keep the dimension d, and a fit costs (K + 1) Cholesky factorisations of
    d x d matrices per layer: above d of a few thousand reduce the dimension first.

    Args:
        n_layers: Number of layers.
        eps2: Square of the distortion, in units of the squared norm of a sample. Some published codes pass epsilon.
        eta: Step size; larger ones reach the same rate reduction with fewer layers.
        softmax: lambda; the larger, the harder the memberships.
        rule: "subspace" predicts the class of the nearest subspace of the training features after the last layer,
            "softmax" that of the largest membership there.
        n_components: Dimension of these subspaces, as in `NearestSubspaceClassifier`.

    Attributes:
        classes_: The labels, sorted.
        network_: `torch.nn.Sequential` of `RateReductionLayer`; maps features (1, n, d) of unit norm.
        rates_: (n_layers + 1, 3), float64: R, R_c and the rate reduction R - R_c of the training features, before the
            first layer and after each.
        subspaces_: The fitted `NearestSubspaceClassifier`.

    Example:
        >>> points = [[1.0, 0.9], [2.0, 1.9], [0.9, 1.0], [2.8, 3.0]]
        >>> model = ReduNet(5).fit(points, ["x", "x", "y", "y"])
        >>> bool(model.rates_[-1, 2] > model.rates_[0, 2]), model.predict([[9.0, 8.0]])
        (True, array(['x'], dtype='<U1'))

    Reference: [chan2022redunet], algorithm 1.
    """

    def __init__(
        self,
        n_layers: int = 20,
        eps2: float = 0.1,
        *,
        eta: float = 0.5,
        softmax: float = 500.0,
        rule: Literal["subspace", "softmax"] = "subspace",
        n_components: int | float | None = None,
    ) -> None:
        self.n_layers = n_layers
        self.eps2 = eps2
        self.eta = eta
        self.softmax = softmax
        self.rule = rule
        self.n_components = n_components

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> ReduNet:
        """Construct the layers.

        Args:
            X: Samples (n, d), none of them zero.
            y: Labels (n,), numbers or strings.

        Raises:
            InputError: A sample of length zero, one class only, a constant out of range.
        """
        if self.rule not in RULES:
            raise InputError("a rule, subspace or softmax", got=repr(self.rule), remedy="Choose one of these.")
        ascent = Ascent(self.n_layers, self.eps2, eta=self.eta, softmax=self.softmax)
        X, y = validate_data(self, on_host(X), on_host(y), dtype=[np.float64, np.float32])
        self.classes_: NDArray[Any]
        self.classes_, labels = encoded(y)
        features = _unit(X)
        built = construct(
            features, torch.from_numpy(labels), classes=len(self.classes_), multiplicity=_one(features), ascent=ascent
        )
        self.network_: nn.Sequential = built.network
        self.rates_: NDArray[Any] = built.rates.numpy()
        self._readout = built.readout
        self._n_features_out = X.shape[1]
        self.subspaces_: NearestSubspaceClassifier = NearestSubspaceClassifier(self.n_components).fit(
            built.features[0].numpy(), y
        )
        return self

    def transform(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Features (n, d) of unit norm after the last layer, in the dtype of the training samples."""
        check_is_fitted(self)
        return self._features(X)[0].numpy()

    def predict(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Labels (n,) by the rule."""
        check_is_fitted(self)
        features = self._features(X)
        if self.rule == "subspace":
            return self.subspaces_.predict(features[0].numpy())
        return self.classes_[classified(self._readout, features).numpy()]

    @torch.no_grad()
    def _features(self, X: ArrayLike | Tensor) -> Tensor:
        X = validate_data(self, on_host(X), dtype=[np.float64, np.float32], reset=False)
        return self.network_(_unit(X).to(self._readout.expand.dtype))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.classifier_tags.poor_score = True
        return tags


def _unit(X: np.ndarray) -> Tensor:
    """Samples scaled to norm 1, (1, n, d)."""
    return unit_rows(check_directions(as_tensor(X), "samples"))[None]


def _one(features: Tensor) -> Tensor:
    return torch.ones(1, dtype=features.dtype)
