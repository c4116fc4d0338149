"""What a deep linear network is trained on: samples, a whole matrix, or some of its entries."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.typing import Float

EndToEnd = Float[Tensor, "k d"]

# ||X X^T - I|| up to this times the dimension is rounding: the samples count as whitened.
_WHITE = 1e-13
_PRECISIONS = (torch.float32, torch.float64)


class Objective(Protocol):
    """A loss in the end-to-end matrix W = W_L ... W_1."""

    @property
    def target(self) -> EndToEnd:
        """Minus the gradient at W = 0, (d_y, d_x): Y X^T, the whole matrix, or its observed entries."""

    @property
    def curvature(self) -> float:
        """Largest second derivative in W along a unit direction; an average one where only some entries count."""

    def slope(self, product: EndToEnd) -> EndToEnd:
        """Gradient in W."""

    def value(self, product: EndToEnd) -> float:
        """Loss."""

    def minimizer(self) -> EndToEnd:
        """A matrix W of the least loss, or an estimate of it where only some entries count."""


class LeastSquares:
    r"""Linear regression on samples in columns.

    .. math:: \tfrac12 \|W X - Y\|_F^2, \qquad \nabla = W X X^\top - Y X^\top

    Args:
        X: Inputs (d_x, n).
        Y: Outputs (d_y, n).

    Raises:
        InputError: Matrices that do not fit each other, NaN or inf.

    Example:
        >>> LeastSquares(torch.eye(2), torch.tensor([[3.0, 4.0]])).value(torch.zeros(1, 2))
        12.5

    Reference: [yaras2023law].
    """

    def __init__(self, X: Tensor, Y: Tensor) -> None:
        self.X, self.Y = _matrix(X, "X"), _matrix(Y, "Y")
        if self.X.shape[1] != self.Y.shape[1] or self.X.dtype != self.Y.dtype or self.X.device != self.Y.device:
            raise InputError(
                "X (d_x, n) and Y (d_y, n) with one column per sample, of one dtype on one device",
                got=f"{_described(self.X)} and {_described(self.Y)}",
                remedy="Pass samples in columns: transpose rows of samples.",
            )
        self._covariance = self.X @ self.X.T
        self.target: Tensor = self.Y @ self.X.T
        eye = torch.eye(len(self.X), dtype=self.X.dtype, device=self.X.device)
        allowed = max(_WHITE, 10 * torch.finfo(self.X.dtype).eps) * len(eye)
        self.whitened: bool = bool(torch.linalg.matrix_norm(self._covariance - eye) <= allowed)

    @property
    def curvature(self) -> float:
        """Largest eigenvalue of X X^T."""
        return float(torch.linalg.matrix_norm(self._covariance, 2))

    def slope(self, product: EndToEnd) -> EndToEnd:
        """Gradient (d_y, d_x) in the end-to-end matrix."""
        return (product if self.whitened else product @ self._covariance) - self.target

    def value(self, product: EndToEnd) -> float:
        """Loss."""
        return 0.5 * float((product @ self.X - self.Y).square().sum())

    def minimizer(self) -> EndToEnd:
        """The minimiser of least norm."""
        return self.Y @ torch.linalg.pinv(self.X)


class Factorization:
    r"""Approximation of a whole matrix, which regression is for whitened inputs up to a constant.

    .. math:: \tfrac12 \|W - \Phi\|_F^2

    Args:
        Phi: The matrix (d_y, d_x).

    Raises:
        InputError: Not a matrix, NaN or inf.
    """

    whitened: bool = True
    curvature: float = 1.0

    def __init__(self, Phi: Tensor) -> None:
        self.target: Tensor = _matrix(Phi, "Phi")

    def slope(self, product: EndToEnd) -> EndToEnd:
        """Gradient (d_y, d_x) in the end-to-end matrix."""
        return product - self.target

    def value(self, product: EndToEnd) -> float:
        """Loss."""
        return 0.5 * float((product - self.target).square().sum())

    def minimizer(self) -> EndToEnd:
        """Phi."""
        return self.target


class Completion:
    r"""Approximation of the observed entries of a matrix.

    .. math:: \tfrac12 \|\Omega \odot (W - \Phi)\|_F^2

    Args:
        Phi: The matrix (d_y, d_x); entries that are not observed may be anything, NaN included.
        observed: Omega, boolean, of the same shape.

    Raises:
        InputError: A mask that does not fit or is empty, observed entries with NaN or inf.
    """

    whitened = False

    def __init__(self, Phi: Tensor, observed: Tensor) -> None:
        if not isinstance(Phi, Tensor) or not isinstance(observed, Tensor) or observed.dtype != torch.bool:
            got = observed.dtype if isinstance(observed, Tensor) else type(observed).__name__
            raise InputError("a matrix and a boolean mask", got=f"a mask of {got}", remedy="Convert it with .bool().")
        if observed.shape != Phi.shape or observed.device != Phi.device:
            raise InputError(
                "a mask of the shape and on the device of the matrix",
                got=f"{tuple(observed.shape)} on {observed.device} for {tuple(Phi.shape)} on {Phi.device}",
                remedy="Pass one boolean per entry.",
            )
        if not bool(observed.any()):
            raise InputError("at least one observed entry", got="none", remedy="Look at how the mask was made.")
        self.observed = observed
        self.target: Tensor = _matrix(torch.where(observed, Phi, 0), "the observed part of Phi")

    @property
    def curvature(self) -> float:
        """Share of the entries that are observed: the average over directions of a spread-out matrix."""
        return float(self.observed.double().mean())

    def slope(self, product: EndToEnd) -> EndToEnd:
        """Gradient (d_y, d_x) in the end-to-end matrix."""
        return (product * self.observed).sub_(self.target)

    def value(self, product: EndToEnd) -> float:
        """Loss."""
        return 0.5 * float(self.slope(product).square().sum())

    def minimizer(self) -> EndToEnd:
        """The observed entries over their share, which equals Phi on average."""
        return self.target / self.curvature


def as_objective(X: Tensor | Objective, Y: Tensor | None = None) -> Objective:
    """X and Y as regression, a tensor alone as the matrix to factor, an objective as itself.

    Raises:
        InputError: An objective together with Y, or neither a tensor nor an objective.
    """
    if isinstance(X, Tensor):
        return Factorization(X) if Y is None else LeastSquares(X, Y)
    if Y is not None or not hasattr(X, "slope"):
        raise InputError(
            "samples X and Y, a matrix Phi alone, or an objective alone",
            got=f"{type(X).__name__} and {type(Y).__name__}",
            remedy="Use LeastSquares(X, Y), Factorization(Phi) or Completion(Phi, observed).",
        )
    return X


def _matrix(given: Tensor, name: str) -> Tensor:
    if not isinstance(given, Tensor) or given.ndim != 2 or given.dtype not in _PRECISIONS or 0 in given.shape:
        raise InputError(
            f"{name} is a matrix of float64 or float32, not empty",
            got=_described(given) if isinstance(given, Tensor) else type(given).__name__,
            remedy="Pass a torch.Tensor of shape (rows, columns), float64 where digits matter.",
        )
    if not bool(torch.isfinite(given).all()):
        raise InputError(f"{name} is finite", got="NaN or inf", remedy="Look for missing values, or mask them.")
    return given.detach()


def _described(given: Tensor) -> str:
    return f"{given.dtype} {tuple(given.shape)} on {given.device}"
