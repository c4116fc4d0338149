"""scikit-learn's discriminant analysis and nearest centroids agree with the moments."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from definitions import gaussian_classes
from tightframe.collapse.decision import nearest_class
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.spectrum import variability_index
from tightframe.collapse.variability import nc1
from tightframe.features.moments import ClassMoments

COUNTS = [[40] * 4, [80, 11, 35, 20]]


def fitted(counts, dimension, *, dtype=torch.float64, solver="eigen"):
    features, labels = gaussian_classes(counts, dimension, seed=1, spread=1.0, offset=3.0, dtype=dtype)
    moments = ClassMoments(len(counts))
    for start in range(0, len(labels), 32):
        moments.update(features[start : start + 32], labels[start : start + 32])
    options = {"store_covariance": True} if solver == "svd" else {}
    analysis = LinearDiscriminantAnalysis(solver=solver, **options)
    return features, moments, analysis.fit(features.double().numpy(), labels.numpy())


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("solver", ["eigen", "lsqr", "svd"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_scatter_is_the_pooled_covariance_of_discriminant_analysis(counts, solver, dtype, tolerance):
    _, moments, analysis = fitted(counts, 6, dtype=dtype, solver=solver)
    scale = np.abs(analysis.covariance_).max()
    assert np.abs(moments.scatter.numpy() / moments.total - analysis.covariance_).max() <= tolerance * scale
    assert np.abs(moments.mean.numpy() - analysis.means_).max() <= tolerance * np.abs(analysis.means_).max()
    origin = CentredMeans(moments).origin.numpy()
    assert np.abs(origin - analysis.priors_ @ analysis.means_).max() <= tolerance * np.abs(origin).max()


@pytest.mark.parametrize("counts", COUNTS)
def test_generalised_eigenvalues_give_the_explained_ratios_and_the_variability_index(counts):
    _, moments, analysis = fitted(counts, 6)
    means = CentredMeans(moments)
    rows = means.all * (means.count / means.total).sqrt()[:, None]
    between, within = (rows.T @ rows).numpy(), moments.scatter.numpy() / moments.total
    values = np.sort(scipy.linalg.eigh(between, within, eigvals_only=True))[::-1][:3]
    assert np.allclose(analysis.explained_variance_ratio_, values / values.sum(), rtol=1e-9)
    # tr(S_T^-1 S_B) = sum v / (1 + v): the squared canonical correlations.
    assert variability_index(means) == pytest.approx(1 - (values / (1 + values)).mean(), abs=1e-11)


@pytest.mark.parametrize("counts", COUNTS)
def test_nc1_is_the_trace_of_the_inverse_ratios_where_classes_fill_the_space(counts):
    # With d = K - 1 both covariances are invertible, and tr(S_W inv(S_B)) is the sum of 1/v.
    _, moments, analysis = fitted(counts, 3)
    means = CentredMeans(moments)
    rows = means.all * (means.count / means.total).sqrt()[:, None]
    values = scipy.linalg.eigh((rows.T @ rows).numpy(), analysis.covariance_, eigvals_only=True)
    assert nc1(moments, "lecture6") == pytest.approx((1 / values).sum(), rel=1e-10)


@pytest.mark.parametrize("counts", COUNTS)
def test_nearest_centroids(counts):
    features, moments, _ = fitted(counts, 6)
    labels = gaussian_classes(counts, 6, seed=1, spread=1.0, offset=3.0)[1]
    expected = NearestCentroid().fit(features.numpy(), labels.numpy()).predict(features.numpy())
    assert nearest_class(features, CentredMeans(moments)).tolist() == expected.tolist()
