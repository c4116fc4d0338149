"""Convolutional dictionary learning as a scikit-learn estimator, for traces, images and volumes."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution, Trace
from tightframe.dictionary.arrays import Kind, axis_sizes, read_signals, shape_of
from tightframe.dictionary.convolutional.bilinear import bilinear_lasso
from tightframe.dictionary.convolutional.convolution import Boundary, Convolution
from tightframe.dictionary.convolutional.lifting import lifted_bilinear_lasso
from tightframe.dictionary.convolutional.online import KernelStatistics, pieces
from tightframe.dictionary.convolutional.sparse_coding import convolutional_sparse_coding
from tightframe.dictionary.convolutional.starts import Start, automatic_penalty, first_kernels


class ConvolutionalDictionaryLearning(TransformerMixin, BaseEstimator):
    r"""Kernels that recur in signals at sparse places and sizes: the bilinear Lasso, started well.

    .. math:: \min_{a, x, b}\ \tfrac12 \Big\|y - b - \sum_k a_k * x_k\Big\|^2 + \lambda \sum_k \|x_k\|_1
        \quad \text{s.t.}\ \|a_k\| = 1

    where
        y (n, channels, *shape) are the signals, a (p, channels, *kernel_size) the `components_` and
        x (n, p, *map_shape) the activation maps that `transform` returns.

    By default the search begins at windows of the data, in windows of three times the size, with a penalty that falls,
    and ends with a refit in windows of the size asked for: see `lifted_bilinear_lasso`, and `bilinear_lasso` for the
    solver. With `batch_size` the first batch is solved in this way and the others are read one after another, each
    coded and counted in statistics of fixed size: for image sets and recordings too large for memory.

    Args:
        n_components: p.
        kernel_size: One number per axis of the signals; one number for signals with one axis.
        alpha: lambda, in the units of the signals; "auto" for about twice the noise level of the signals, but no less
            than `alpha_ratio` times the largest correlation of the signals with the start, above which all maps are
            zero: see `starts.automatic_penalty`.
        alpha_ratio: Used with alpha="auto"; decides where there is little noise.
        boundary: "circular", "zero" (events may be cut by the border; maps are longer than the signals) or "valid"
            (whole kernels only; maps are shorter).
        positive: x >= 0.
        rank1: Components are a vector over channels times one shape.
        bias: Estimate the mean b of every signal and channel.
        batch_size: Signals at a time; None for all at once.
        chunk_size: Length along every axis of the pieces into which long signals are cut where batch_size is given;
            pieces are coded with boundary="zero", so that no event is lost. None for whole signals.
        start: "windows" of the data, "random", or kernels (p, channels, *kernel_size) or (p, *kernel_size).
        lift: Whether to search in windows of 3 kernel_size - 2 first.
        reweightings: Rounds of reweighting, which take away most of the shrinkage of large activations.
        momentum: Cap of the momentum.
        tolerance: The fit ends where an iteration moves kernels and maps by less, relative to their size.
        max_iter: Iterations at most; those of the first batch in the online mode.
        epochs: Passes over the batches.
        forgetting: Weight of what was learned before each batch; 1 keeps all.
        coding_tolerance: Duality gap at which `transform` stops, as a share of half the signals' energy.
        seed: Of the start and of the order of the batches.
        verbose: Whether to report to stderr.

    Attributes:
        components_: Kernels of norm one (p, *kernel_size), or (p, channels, *kernel_size) where signals have channels.
        codes_: Maps (n, p, *map_shape) of the fit; not in the online mode.
        bias_: b (n, channels) of the fit; not in the online mode.
        alpha_: lambda used.
        solution_: The `Solution`, or that of the first batch in the online mode.
        trace_: Objective, penalty and seconds along the way.
        n_iter_: Iterations.

    Arrays give arrays and tensors tensors, in their precision on their device; integers are read as float32.

    Example:
        >>> signals = torch.zeros(1, 60)
        >>> signals[0, [5, 20, 41]], signals[0, [6, 21, 42]] = 2.0, 1.0
        >>> model = ConvolutionalDictionaryLearning(n_components=1, kernel_size=2, alpha=0.01).fit(signals)
        >>> [round(abs(value), 2) for value in model.components_.flatten().tolist()]
        [0.89, 0.45]
        >>> model.transform(signals).shape
        torch.Size([1, 1, 60])

    Reference: [lau2020short], section 3; [qu2020geometric], section 3; [wohlberg2016efficient] for the model.
    """

    def __init__(
        self,
        n_components: int = 8,
        kernel_size: int | Sequence[int] = 8,
        *,
        alpha: float | Literal["auto"] = "auto",
        alpha_ratio: float = 0.02,
        boundary: Boundary = "circular",
        positive: bool = False,
        rank1: bool = False,
        bias: bool = False,
        batch_size: int | None = None,
        chunk_size: int | Sequence[int] | None = None,
        start: Start | ArrayLike | Tensor = "windows",
        lift: bool = True,
        reweightings: int = 0,
        momentum: float = 0.97,
        tolerance: float = 1e-4,
        max_iter: int = 1000,
        epochs: int = 1,
        forgetting: float = 1.0,
        coding_tolerance: float = 1e-4,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.kernel_size = kernel_size
        self.alpha = alpha
        self.alpha_ratio = alpha_ratio
        self.boundary = boundary
        self.positive = positive
        self.rank1 = rank1
        self.bias = bias
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.start = start
        self.lift = lift
        self.reweightings = reweightings
        self.momentum = momentum
        self.tolerance = tolerance
        self.max_iter = max_iter
        self.epochs = epochs
        self.forgetting = forgetting
        self.coding_tolerance = coding_tolerance
        self.seed = seed
        self.verbose = verbose

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> ConvolutionalDictionaryLearning:
        """Learn the kernels of signals (n, *shape) or (n, channels, *shape).

        Raises:
            InputError: NaN, complex values, a kernel longer than the signals, or an argument out of range.
            DegenerateError: Constant signals.
        """
        signals, kind = self._read(X)
        for name in ("statistics_", "components_", "codes_", "bias_"):
            self.__dict__.pop(name, None)
        if self.batch_size is not None:
            return self._fit_online(signals, kind, channels=_has_channels(X, signals))
        solution = self._solve(signals)
        self._keep(solution.kernels, kind, channels=_has_channels(X, signals))
        self.codes_: Any = kind.returned(solution.maps)
        self.bias_: Any = kind.returned(solution.bias)
        return self

    def partial_fit(self, X: ArrayLike | Tensor, y: object = None) -> ConvolutionalDictionaryLearning:
        """Learn from one more batch of signals; the first call solves its batch as `fit` would.

        Raises:
            InputError: As `fit`, or other channels than before.
        """
        signals, kind = self._read(X, fitted=hasattr(self, "components_"))
        self._learn(signals, self.boundary)
        self._keep(self.statistics_.kernels, kind, channels=_has_channels(X, signals))
        return self

    def transform(self, X: ArrayLike | Tensor) -> Any:
        """Maps (n, p, *map_shape) of signals: the sparse codes of the kernels, to the duality gap."""
        signals, kind = self._read(X, fitted=True)
        return kind.returned(self.encode(signals).maps)

    def encode(self, X: ArrayLike | Tensor) -> Solution:
        """As `transform`, with the whole `Solution`: maps, bias, objective and the duality gap."""
        signals, _ = self._read(X, fitted=True)
        return convolutional_sparse_coding(
            signals,
            self._kernels(signals),
            alpha=self.alpha_,
            boundary=self.boundary,
            positive=self.positive,
            bias=self.bias,
            tolerance=self.coding_tolerance,
        )

    def inverse_transform(self, X: ArrayLike | Tensor) -> Any:
        """Signals of maps (n, p, *map_shape), without their bias; with channels if the fitted ones had them."""
        check_is_fitted(self)
        maps, kind = read_signals(X, len(self._size()))
        kernels = self._kernels(maps)
        extra = {"circular": 0, "zero": 1, "valid": -1}[self.boundary]
        shape = tuple(m - extra * (k - 1) for m, k in zip(maps.shape[2:], self._size(), strict=True))
        if maps.shape[1] != len(kernels):
            raise InputError(
                f"maps of {len(kernels)} kernels, (n, {len(kernels)}, *map_shape)",
                got=f"shape {tuple(maps.shape)}",
                remedy="Pass what transform returns.",
            )
        operator = Convolution(shape, self._size(), boundary=self.boundary, dtype=maps.dtype, device=maps.device)
        signals = operator.synthesize(kernels, maps)
        return kind.returned(signals if self._channels else signals.squeeze(1))

    def _read(self, X: ArrayLike | Tensor, *, fitted: bool = False) -> tuple[Tensor, Kind]:
        if fitted:
            check_is_fitted(self)
        signals, kind = read_signals(X, len(self._size()))
        if fitted and signals.shape[1] != self._kernels(signals).shape[1]:
            raise InputError(
                f"signals of {self._kernels(signals).shape[1]} channels, as fitted",
                got=f"shape {tuple(signals.shape)}",
                remedy="Transform data of the same kind.",
            )
        return signals, kind

    def _size(self) -> tuple[int, ...]:
        return axis_sizes(self.kernel_size)

    def _kernels(self, like: Tensor) -> Tensor:
        kernels = torch.as_tensor(self.components_).to(like)
        return kernels if self._channels else kernels.unsqueeze(1)

    def _keep(self, kernels: Tensor, kind: Kind, *, channels: bool) -> None:
        self._channels = channels
        self.components_: Any = kind.returned(kernels if channels else kernels.squeeze(1))

    def _solve(self, signals: Tensor) -> Solution:
        kernels = first_kernels(
            self.start, signals, count=self.n_components, size=self._size(), boundary=self.boundary, seed=self.seed
        )
        self.alpha_: float = self._alpha(signals, kernels)
        options = {
            "alpha": self.alpha_,
            "boundary": self.boundary,
            "positive": self.positive,
            "rank_one": self.rank1,
            "bias": self.bias,
            "momentum": self.momentum,
            "reweightings": self.reweightings,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iter,
            "homotopy": True,
        }
        self.solution_: Solution = (lifted_bilinear_lasso if self.lift else bilinear_lasso)(signals, kernels, **options)
        self.trace_: Trace = self.solution_.trace
        self.n_iter_: float = self.trace_["step"][-1]
        self._tell(f"{self.solution_.status}; objective {self.solution_.objective:.6g}")
        return self.solution_

    def _alpha(self, signals: Tensor, kernels: Tensor) -> float:
        if self.alpha != "auto":
            return float(self.alpha)
        if not (math.isfinite(self.alpha_ratio) and 0 < self.alpha_ratio < 1):
            raise InputError("alpha_ratio in (0, 1)", got=repr(self.alpha_ratio), remedy="Use 0.02.")
        return automatic_penalty(
            signals, kernels, self.alpha_ratio, boundary=self.boundary, positive=self.positive, bias=self.bias
        )

    def _fit_online(self, signals: Tensor, kind: Kind, *, channels: bool) -> ConvolutionalDictionaryLearning:
        batch, boundary = check_count(self.batch_size, "batch_size"), self.boundary
        if self.chunk_size is not None:
            signals, boundary = pieces(signals, self.chunk_size, self._size()), "zero"
        source = generator(self.seed)
        for _ in range(check_count(self.epochs, "epochs")):
            for chosen in torch.randperm(len(signals), generator=source).to(signals.device).split(batch):
                self._learn(signals[chosen], boundary)
        self._keep(self.statistics_.kernels, kind, channels=channels)
        return self

    def _learn(self, signals: Tensor, boundary: Boundary) -> None:
        """Count one batch."""
        if not 0 < self.forgetting <= 1:
            raise InputError("forgetting in (0, 1]", got=repr(self.forgetting), remedy="Use 1 to forget nothing.")
        options = {"dtype": signals.dtype, "device": signals.device}
        operator = Convolution(signals.shape[2:], self._size(), boundary=boundary, **options)
        if not hasattr(self, "statistics_"):
            kernels = self._kernels(signals) if hasattr(self, "components_") else self._solve(signals).kernels
            new = KernelStatistics(kernels, forgetting=self.forgetting, rank_one=self.rank1)
            self.statistics_: KernelStatistics = new
        found = convolutional_sparse_coding(
            signals,
            self.statistics_.kernels,
            alpha=self.alpha_,
            boundary=boundary,
            positive=self.positive,
            bias=self.bias,
            tolerance=self.coding_tolerance,
        )
        self.statistics_.add(operator, signals, found.maps, found.bias)
        self._tell(f"batch of {len(signals)}: objective {found.objective:.6g}, {found.status.outcome}")

    def _tell(self, text: str) -> None:
        if self.verbose:
            sys.stderr.write(f"{type(self).__name__}: {text}\n")


def _has_channels(X: ArrayLike | Tensor, signals: Tensor) -> bool:
    return len(shape_of(X)) == signals.ndim
