"""Classification by the nearest class subspace, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.geometry.subspaces import Subspace, class_subspaces, subspace_distances


class NearestSubspaceClassifier(ClassifierMixin, BaseEstimator):
    r"""Assigns a sample to the class whose principal subspace is nearest.

    .. math:: \hat y(z) = \arg\min_k \| (I - V_k V_k^\top)(z - m_k) \|

    where
        V_k (d, r) are the first r right singular vectors of the training samples of class k, and m_k is their mean if
        `centre`, else zero.

    It reads features whose classes lie on subspaces, those of rate reduction in particular. Features that have
    collapsed to one direction per class are read as well by the nearest class mean.

    Args:
        n_components: Dimension r of every class subspace, below d; or, as a fraction in (0, 1), the share of the energy
            of a class that its subspace holds; or None for d // K, the dimension that K orthogonal subspaces of equal
            size have. A class of fewer samples spans less.
        centre: Subtract the class means: affine subspaces.

    Attributes:
        classes_: The labels, sorted.
        subspaces_: One `tightframe.geometry.subspaces.Subspace` per class, float64.

    Arrays and tensors on any device are read, and arrays returned; `subspace_distances` of
    `tightframe.geometry.subspaces` is the same on tensors and stays on their device.

    Example:
        >>> points = [[1.0, 0.1], [-2.0, 0.1], [0.1, 3.0], [0.0, -1.0]]
        >>> NearestSubspaceClassifier(n_components=1).fit(points, ["x", "x", "y", "y"]).predict([[9.0, 2.0]])
        array(['x'], dtype='<U1')

    Reference: [yu2020learning], section 3.
    """

    def __init__(self, n_components: int | float | None = None, centre: bool = False) -> None:
        self.n_components = n_components
        self.centre = centre

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> NearestSubspaceClassifier:
        """Find the subspace of every class.

        Args:
            X: Features (n, d).
            y: Labels (n,), numbers or strings.

        Raises:
            InputError: One class only, or a subspace as large as the space, to which every distance is zero.
        """
        X, y = validate_data(self, on_host(X), on_host(y), dtype=[np.float64, np.float32])
        self.classes_: NDArray[Any]
        self.classes_, labels = encoded(y)
        size = self._size(X.shape[1])
        self.subspaces_: tuple[Subspace, ...] = class_subspaces(
            as_tensor(X),
            torch.from_numpy(labels),
            centre=self.centre,
            **size,
        )
        full = [k for k, space in enumerate(self.subspaces_) if space.rank == X.shape[1]]
        if full:
            raise InputError(
                "class subspaces smaller than the space of the features",
                got=f"all d = {X.shape[1]} dimensions for class {self.classes_[full[0]]!r}",
                remedy="Lower n_components.",
            )
        return self

    def distances(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Distance (n, k) of every sample to the subspace of every class, in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, on_host(X), dtype=[np.float64, np.float32], reset=False)
        return subspace_distances(as_tensor(X), self.subspaces_).numpy()

    def predict(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Label (n,) of the nearest subspace; of several at one distance, the first in `classes_`."""
        nearest = self.distances(X).argmin(1)
        return self.classes_[nearest]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Subspaces through the origin tell directions apart, not the blobs on which accuracy is otherwise demanded.
        tags.classifier_tags.poor_score = True
        return tags

    def _size(self, features: int) -> dict[str, Any]:
        wanted = self.n_components
        if wanted is None:
            wanted = max(1, features // len(self.classes_))
        if isinstance(wanted, float | np.floating) and 0 < wanted < 1:
            return {"energy": float(wanted)}
        if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer) or not 1 <= wanted < features:
            raise InputError(
                "n_components is an integer from 1 to d - 1, or a share of energy in (0, 1)",
                got=f"n_components={self.n_components!r} with n_features = {features}",
                remedy="Lower it, or pass features of more dimensions.",
            )
        return {"rank": int(wanted)}


def on_host(values: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def encoded(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted labels, and the position among them of every sample's.

    Raises:
        InputError: Fewer than two classes.
    """
    check_classification_targets(y)
    classes, positions = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise InputError("samples of at least two classes", got=f"{len(classes)} class", remedy="Add the others.")
    return classes, positions


def as_tensor(X: np.ndarray) -> Tensor:
    """The array as a tensor, copied only where its memory may not be written to or has gaps."""
    return torch.from_numpy(np.require(X, requirements=["C", "W"]))
