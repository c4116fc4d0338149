"""The kernels in scikit-learn's estimators, and regression against flows integrated by matrix exponentials."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from tightframe.core.errors import DegenerateError, InputError
from tightframe.ntk.estimators import ReLUKernel, TangentKernelRegressor
from tightframe.ntk.kernel import relu_nngp, relu_ntk


@pytest.fixture
def data():
    source = np.random.default_rng(0)
    X = source.standard_normal((50, 4))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2, source.standard_normal((7, 4))


@parametrize_with_checks([TangentKernelRegressor(), TangentKernelRegressor(depth=2, time=5.0)])
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def test_kernel_object_in_estimators(data):
    X, y, new = data
    kernel = ReLUKernel(3, bias_variance=0.1)
    matrix = relu_ntk(X, depth=3, bias_variance=0.1)
    across = relu_ntk(new, X, depth=3, bias_variance=0.1)
    expected = across @ np.linalg.solve(matrix + 0.5 * np.eye(50), y)
    np.testing.assert_allclose(KernelRidge(kernel=kernel, alpha=0.5).fit(X, y).predict(new), expected, rtol=1e-8)
    ready = KernelRidge(kernel="precomputed", alpha=0.5).fit(kernel(X), y)
    np.testing.assert_allclose(ready.predict(kernel(new, X)), expected, rtol=1e-8)
    process = GaussianProcessRegressor(kernel, alpha=0.5).fit(X, y)
    np.testing.assert_allclose(process.predict(new), expected, rtol=1e-7)
    _, spread = process.predict(new, return_std=True)
    variance = kernel.diag(new) - np.einsum("ij,ji->i", across, np.linalg.solve(matrix + 0.5 * np.eye(50), across.T))
    np.testing.assert_allclose(spread**2, variance, rtol=1e-6)
    labels = y > np.median(y)
    called = SVC(kernel=kernel).fit(X, labels).decision_function(new)
    given = SVC(kernel="precomputed").fit(matrix, labels).decision_function(across)
    np.testing.assert_allclose(called, given, rtol=1e-6)
    tuned = GaussianProcessRegressor(kernel + WhiteKernel(1.0)).fit(X, y)
    assert tuned.kernel_.theta.shape == (1,)


def test_kernel_object_alone(data):
    X = data[0]
    kernel = ReLUKernel(2, kind="covariance", weight_variance=1.5)
    np.testing.assert_array_equal(kernel(X), relu_nngp(X, depth=2, weight_variance=1.5))
    np.testing.assert_allclose(kernel.diag(X), kernel(X).diagonal(), rtol=1e-10)
    assert kernel(X, eval_gradient=True)[1].shape == (50, 50, 0)
    assert not kernel.is_stationary()
    assert clone(kernel).get_params() == kernel.get_params()
    with pytest.raises(InputError, match="kind"):
        ReLUKernel(2, kind="other")(X)


@pytest.mark.parametrize(("time", "ridge"), [(0.7, 0.0), (40.0, 0.0), (3.0, 0.2), (math.inf, 0.2), (math.inf, 0.0)])
def test_predictions_are_those_of_the_flow(data, time, ridge):
    X, y, new = data
    kernel = torch.from_numpy(relu_ntk(X, depth=2, bias_variance=0.1)) + ridge * torch.eye(50, dtype=torch.float64)
    across = torch.from_numpy(relu_ntk(new, X, depth=2, bias_variance=0.1))
    targets = torch.from_numpy(y)
    left = 0.0 if math.isinf(time) else torch.linalg.matrix_exp(-time / 50 * kernel) @ targets
    expected = across @ torch.linalg.solve(kernel, targets - left)
    model = TangentKernelRegressor(2, time=time, ridge=ridge).fit(X, y)
    np.testing.assert_allclose(model.predict(new), expected.numpy(), rtol=1e-6, atol=1e-8)
    tensors = TangentKernelRegressor(2, time=time, ridge=ridge).fit(torch.from_numpy(X), targets[:, None])
    found = tensors.predict(torch.from_numpy(new))
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, expected[:, None], rtol=1e-6, atol=1e-8)


def test_pipeline_and_bad_input(data):
    X, y, _ = data
    assert make_pipeline(StandardScaler(), TangentKernelRegressor(2)).fit(X, y).score(X, y) > 0.999
    twice = np.concatenate((X, X[:1]))
    with pytest.raises(DegenerateError, match="Set ridge="):
        TangentKernelRegressor(ridge=0.0).fit(twice, np.append(y, 0.0))
    for settings in ({"time": 0.0}, {"ridge": -1.0}, {"time": math.nan}):
        with pytest.raises(InputError, match="time above 0"):
            TangentKernelRegressor(**settings).fit(X, y)
    with pytest.raises(InputError, match="X \\(n, d\\)"):
        TangentKernelRegressor().fit(torch.ones(3, 2), torch.ones(4))
    model = TangentKernelRegressor().fit(torch.from_numpy(X), torch.from_numpy(y))
    with pytest.raises(InputError, match="as fitted"):
        model.predict(torch.ones(2, 3))


@pytest.mark.parametrize("kind", ["tangent", "covariance"])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_diagonals_of_all_norms_at_once(kind, bias, data):
    X = data[0] * np.geomspace(1e-5, 1e5, 50)[:, None]
    kernel = ReLUKernel(4, kind=kind, weight_variance=1.7, bias_variance=bias, readout=True)
    # The table behind the matrix is exact to 1e-10 at angle zero.
    np.testing.assert_allclose(kernel.diag(X), [kernel(row[None])[0, 0] for row in X], rtol=2e-10)
    assert kernel.diag(X.astype(np.float32)).dtype == np.float32
    with pytest.raises(InputError, match="kind"):
        ReLUKernel(2, kind="other").diag(X)


def test_a_kernel_is_shown_with_what_differs_from_the_usual():
    assert repr(ReLUKernel(2)) == "ReLUKernel(depth=2, kind='tangent')"
    shown = ReLUKernel(5, kind="covariance", bias_variance=0.25)
    assert eval(repr(shown)) == shown
    assert "bias_variance=0.25" in repr(shown)


def test_targets_that_are_not_finite_are_refused_as_tensors_too(data):
    X, y = torch.from_numpy(data[0]), torch.from_numpy(data[1].copy())
    y[3] = math.nan
    with pytest.raises(InputError, match="finite targets"):
        TangentKernelRegressor().fit(X, y)


def test_predictions_keep_the_precision_of_the_points(data):
    X, y, new = data
    model = TangentKernelRegressor(2, ridge=0.1).fit(X, y)
    single = model.predict(new.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, model.predict(new), rtol=1e-4, atol=1e-4)
    assert model.predict(torch.from_numpy(new).float()).dtype == torch.float32
    assert model.predict(np.round(new).astype(int)).dtype == np.float64
