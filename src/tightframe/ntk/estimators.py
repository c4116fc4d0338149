"""The infinite-width kernels for scikit-learn: a kernel object, and regression stopped at any time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.gaussian_process.kernels import Kernel
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from tightframe.core.errors import DegenerateError, InputError
from tightframe.ntk.dynamics import LinearDynamics
from tightframe.ntk.kernel import relu_nngp, relu_ntk
from tightframe.ntk.points import read_points
from tightframe.ntk.recursion import Architecture, Pairs, recursion


class ReLUKernel(Kernel):
    """The tangent or covariance kernel as scikit-learn's kernel object.

    Serves `KernelRidge(kernel=...)`, `SVC(kernel=...)` and `GaussianProcessRegressor(kernel=...)`, sums and products
    with other kernels among them; for `kernel="precomputed"` pass `ReLUKernel(...)(X)`. It has no parameter that a
    Gaussian process would tune.

    Args:
        depth: L, at least 1.
        kind: "tangent" or "covariance".
        weight_variance: As in `relu_ntk`.
        bias_variance: As in `relu_ntk`.
        readout: As in `relu_ntk`; of no effect on the covariance.

    Example:
        >>> ReLUKernel(2)(np.eye(2)).diagonal().round(9).tolist()
        [2.0, 2.0]
    """

    def __init__(
        self,
        depth: int = 3,
        *,
        kind: str = "tangent",
        weight_variance: float = 2.0,
        bias_variance: float = 0.0,
        readout: bool = False,
    ) -> None:
        self.depth = depth
        self.kind = kind
        self.weight_variance = weight_variance
        self.bias_variance = bias_variance
        self.readout = readout

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False) -> Any:
        """(n, m) kernel; with `eval_gradient`, as Gaussian processes ask, also its empty gradient (n, n, 0)."""
        settings = {"weight_variance": self.weight_variance, "bias_variance": self.bias_variance}
        rows = np.atleast_2d(np.asarray(X))
        others = None if Y is None else np.atleast_2d(np.asarray(Y)).astype(rows.dtype, copy=False)
        if self._kind() == "tangent":
            values = relu_ntk(rows, others, depth=self.depth, readout=self.readout, **settings)
        else:
            values = relu_nngp(rows, others, depth=self.depth, **settings)
        return (values, np.empty((*values.shape, 0))) if eval_gradient else values

    def diag(self, X: ArrayLike) -> np.ndarray:
        """(n,), the kernel of every point with itself, without the others: it depends on their norms alone."""
        points = read_points(np.atleast_2d(np.asarray(X)), zeros=self.bias_variance > 0)
        network = Architecture(self.depth, self.weight_variance, self.bias_variance, self.readout)
        squares = points.norms.square()
        covariance, tangent = recursion(Pairs(squares, squares, torch.zeros_like(squares), 2 * squares), network)
        return points.returned(tangent if self._kind() == "tangent" else covariance)

    def is_stationary(self) -> bool:
        """False: it depends on more than differences."""
        return False

    def _kind(self) -> str:
        if self.kind not in ("tangent", "covariance"):
            raise InputError('kind is "tangent" or "covariance"', got=repr(self.kind), remedy="Choose one of these.")
        return self.kind

    def __repr__(self) -> str:
        usual = ReLUKernel(self.depth, kind=self.kind).get_params()
        changed = {name: value for name, value in self.get_params().items() if value != usual[name]}
        settings = {"depth": self.depth, "kind": self.kind, **changed}
        return f"ReLUKernel({', '.join(f'{name}={value!r}' for name, value in settings.items())})"


class TangentKernelRegressor(RegressorMixin, BaseEstimator):
    r"""What gradient flow on an infinitely wide network predicts at a time, started at zero.

    .. math:: f_t(x) = \Theta(x, X)\, (\Theta + \alpha I)^{-1} \bigl(I - e^{-t (\Theta + \alpha I) / n}\bigr)\, y

    where
        Theta is `relu_ntk` of the rows of X, t is `time` (infinity for the limit) and the loss is 1 / 2n times the sum
        of squares, plus alpha / 2n (`ridge`) times the squared norm of f in the kernel's space.

    Args:
        depth: L.
        time: Above zero; infinite for the limit.
        ridge: alpha, at least zero; zero interpolates, which points that are there twice do not allow.
        weight_variance: As in `relu_ntk`.
        bias_variance: As in `relu_ntk`.

    Attributes:
        dual_coef_: (n,) or (n, k).
        X_fit_: (n, d).
        n_features_in_: d.

    Reference: [jacot2018neural], section 5.
    """

    def __init__(
        self,
        depth: int = 3,
        *,
        time: float = math.inf,
        ridge: float = 1e-8,
        weight_variance: float = 2.0,
        bias_variance: float = 0.1,
    ) -> None:
        self.depth = depth
        self.time = time
        self.ridge = ridge
        self.weight_variance = weight_variance
        self.bias_variance = bias_variance

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> TangentKernelRegressor:
        """Solve for the dual coefficients.

        Raises:
            InputError: A time not above zero, a negative ridge, targets that are not finite.
            DegenerateError: Points that are there twice, with infinite time and no ridge.
        """
        if not self.time > 0 or not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise InputError(
                "time above 0 and ridge of at least 0",
                got=f"time={self.time!r}, ridge={self.ridge!r}",
                remedy="Use time=math.inf, ridge=1e-8.",
            )
        rows, targets = self._read(X, y)
        targets = targets.to(rows.device)
        kernel = self._kernel(rows, None)
        kernel.diagonal().add_(self.ridge)
        dynamics = LinearDynamics(kernel, weights=kernel.new_ones(len(kernel)))
        rates, vectors = dynamics.rates, dynamics.vectors
        if math.isinf(self.time):
            self._check_definite(rates)
            filtered = 1 / rates
        else:
            pace = self.time / len(rows)
            # (1 - e^(-t r)) / r, whose limit at r = 0 is t.
            filtered = torch.where(rates > 0, -torch.expm1(-pace * rates) / rates.clamp(min=1e-300), pace)
        amounts = vectors.T @ targets.reshape(len(rows), -1)
        coefficients = (vectors @ (filtered[:, None] * amounts)).reshape(targets.shape)
        tensor = isinstance(X, Tensor)
        self.X_fit_: Any = X.detach() if tensor else rows.numpy()
        self.dual_coef_: Any = coefficients if tensor else coefficients.numpy()
        return self

    def predict(self, X: ArrayLike | Tensor) -> Any:
        """Predictions (n,) or (n, k), arrays or tensors as X and in its precision."""
        check_is_fitted(self)
        tensor = isinstance(X, Tensor)
        if tensor and (X.ndim != 2 or X.shape[1] != self.n_features_in_):
            raise InputError(
                f"rows of {self.n_features_in_} features, as fitted",
                got=f"shape {tuple(X.shape)}",
                remedy="Pass data of the same kind.",
            )
        given = X.detach() if tensor else torch.from_numpy(self._array(X))
        rows = given.double()
        known = torch.as_tensor(self.X_fit_).to(rows)
        values = self._kernel(rows, known) @ torch.as_tensor(self.dual_coef_).to(rows)
        values = values.to(given.dtype if given.is_floating_point() else torch.float32)
        return values if tensor else values.numpy()

    def _read(self, X: Any, y: Any) -> tuple[Tensor, Tensor]:
        if isinstance(X, Tensor):
            self.n_features_in_: int = X.shape[-1]
            targets = torch.as_tensor(y).detach().double()
            if X.ndim != 2 or targets.ndim not in (1, 2) or len(targets) != len(X):
                raise InputError(
                    "X (n, d) and y (n,) or (n, k)",
                    got=f"shapes {tuple(X.shape)} and {tuple(targets.shape)}",
                    remedy="One row per point in both.",
                )
            if not bool(targets.isfinite().all()):
                raise InputError("finite targets", got="NaN or inf", remedy="Remove such rows first.")
            return X.detach().double(), targets
        rows, targets = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        return torch.tensor(rows), torch.tensor(np.asarray(targets, dtype=np.float64))

    def _array(self, X: ArrayLike) -> np.ndarray:
        """What is to be predicted: float32 stays, all else becomes float64."""
        return np.array(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))

    def _kernel(self, rows: Tensor, others: Tensor | None) -> Tensor:
        settings = {"weight_variance": self.weight_variance, "bias_variance": self.bias_variance}
        return relu_ntk(rows, others, depth=self.depth, **settings)

    def _check_definite(self, rates: Tensor) -> None:
        floor = torch.finfo(rates.dtype).eps * len(rates) * float(rates[-1])
        if float(rates[0]) <= floor:
            raise DegenerateError(
                "a positive definite kernel, which interpolation needs",
                got=f"eigenvalues from {float(rates[0]):.1e} to {float(rates[-1]):.1e}, as equal points give",
                remedy=f"Set ridge={100 * floor:.1e}, or a finite time; or merge points that are there twice.",
            )
