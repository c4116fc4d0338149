"""Nearest subspace: scikit-learn's rules, brute force, and the errors in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from tightframe.core.errors import InputError
from tightframe.nn.rate.nearest_subspace import NearestSubspaceClassifier


@parametrize_with_checks([NearestSubspaceClassifier(), NearestSubspaceClassifier(centre=True)])
def test_scikit_learn_rules(estimator, check):
    check(estimator)


def classes_on_subspaces(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of rank 2 in R^9 with a little noise, shuffled."""
    draw = np.random.default_rng(seed)
    rows = [draw.normal(size=(20, 2)) @ draw.normal(size=(2, 9)) for _ in range(3)]
    order = draw.permutation(60)
    noisy = np.concatenate(rows) + 1e-3 * draw.normal(size=(60, 9))
    return noisy[order], np.repeat(["ash", "birch", "oak"], 20)[order]


def test_classes_on_subspaces_are_told_apart_whatever_their_lengths():
    X, y = classes_on_subspaces()
    model = NearestSubspaceClassifier(n_components=2).fit(X[:45], y[:45])
    assert model.classes_.tolist() == ["ash", "birch", "oak"]
    assert [space.rank for space in model.subspaces_] == [2, 2, 2]
    assert (model.predict(-7 * X[45:]) == y[45:]).all()


@pytest.mark.parametrize("centre", [False, True])
def test_against_brute_force(centre):
    draw = np.random.default_rng(1)
    X, y, new = draw.normal(size=(40, 6)), np.arange(40) % 4, draw.normal(size=(50, 6))
    distances = np.zeros((50, 4))
    for k in range(4):
        mean = X[y == k].mean(0) if centre else 0
        basis = np.linalg.svd(X[y == k] - mean)[2][:3].T
        for i in range(50):
            rest = new[i] - mean
            distances[i, k] = np.linalg.norm(rest - basis @ np.linalg.solve(basis.T @ basis, basis.T @ rest))
    model = NearestSubspaceClassifier(3, centre).fit(X, y)
    assert np.allclose(model.distances(new), distances, atol=1e-12)
    assert (model.predict(new) == distances.argmin(1)).all()


def test_sizes_of_subspaces():
    X, y = classes_on_subspaces()
    assert [s.rank for s in NearestSubspaceClassifier().fit(X, y).subspaces_] == [3] * 3  # d // K
    assert [s.rank for s in NearestSubspaceClassifier(0.999).fit(X, y).subspaces_] == [2] * 3
    assert [s.rank for s in NearestSubspaceClassifier(np.int64(4)).fit(X, y).subspaces_] == [4] * 3
    # A class of one sample spans a line; with its mean subtracted, nothing, and its mean decides.
    few = NearestSubspaceClassifier(5, centre=True).fit(np.eye(7)[:3], [0, 1, 2])
    assert few.distances(np.eye(7)[:3]) == pytest.approx(2**0.5 * (1 - np.eye(3)), abs=1e-12)


def test_tensors_and_arrays_give_the_same():
    X, y = classes_on_subspaces()
    labels = np.unique(y, return_inverse=True)[1]
    model = NearestSubspaceClassifier(2).fit(torch.tensor(X, requires_grad=True), torch.tensor(labels))
    assert (model.predict(torch.tensor(X)) == NearestSubspaceClassifier(2).fit(X, labels).predict(X)).all()
    X.setflags(write=False)
    assert (clone(model).fit(X, labels).predict(X) == labels).all()


@pytest.mark.parametrize("n_components", [0, 9, 10, 1.0, -0.5, True, "all", None.__class__])
def test_sizes_that_no_subspace_has(n_components):
    X, y = classes_on_subspaces()
    with pytest.raises(InputError, match=r"n_components is an integer from 1 to d - 1.*n_features = 9"):
        NearestSubspaceClassifier(n_components).fit(X, y)


def test_other_bad_input():
    X, y = classes_on_subspaces()
    with pytest.raises(InputError, match=r"at least two classes.*got 1 class"):
        NearestSubspaceClassifier().fit(X, np.zeros(60))
    with pytest.raises(InputError, match=r"smaller than the space.*all d = 2 dimensions for class"):
        NearestSubspaceClassifier(0.9999).fit(X[:, :2], y)
    with pytest.raises(ValueError, match="NaN"):
        NearestSubspaceClassifier().fit(np.where(X > 2, np.nan, X), y)
