"""Blind deconvolution as estimators: short kernels of sparse events, and long ones common to many channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Trace
from tightframe.dictionary.arrays import Kind, axis_sizes, read_signals, shape_of
from tightframe.dictionary.blind.multichannel import Loss, convolved, deconvolve_channels
from tightframe.dictionary.blind.short_and_sparse import Border, code_short, deconvolve_short


class ShortAndSparseDeconvolution(TransformerMixin, BaseEstimator):
    """`deconvolve_short` as an estimator: `fit` finds the kernel, `transform` the activations of any such signals.

    For calcium traces and other events of one sign set `positive=True` and `boundary="valid"`; give all traces of one
    indicator at once, as at low signal-to-noise ratios only the pool of them shows the kernel.

    Args:
        kernel_size: Length of the kernel, or its size by axis.
        alpha: Penalty in the units of the signals, or "auto", from the measured noise.
        positive: Whether activations are at least zero.
        boundary: "circular", or "valid" for signals cut from longer ones.
        bias: Whether every signal has an unknown constant.
        reweightings: Rounds of reweighting at the last penalty.
        n_starts: Starts at most; the search ends where a residual is as white as noise.
        seed: Seed of the random starts.

    `transform` measures the noise in all signals that it is given, so that those of a part may differ a little.

    Attributes:
        kernel_: (*kernel_size,), unit norm.
        components_: (1, *kernel_size), the kernel as a dictionary of one.
        activations_: Of the shape of the signals: where the kernel begins, and how large.
        bias_: Constant of every signal.
        noise_: Standard deviation of the noise of every signal.
        reconstruction_: Of the shape of the signals.
        solution_: The `Solution`, with its status.
        trace_: Information criterion, residual, activations, whiteness and seconds by start.

    Signals have shape (n, time), (n, height, width), or those with channels after n, all of the same kernel; arrays in
    give arrays out, tensors give tensors.

    Example:
        >>> from tightframe.data.sparse import sparse_codes
        >>> decay = torch.exp(-torch.arange(20.0) / 5)
        >>> codes = sparse_codes((1, 2000), 0.01, values="one", seed=0).float()
        >>> spectra = torch.fft.rfft(codes) * torch.fft.rfft(decay, n=2000)
        >>> noise = 0.05 * torch.randn(1, 2000, generator=torch.Generator().manual_seed(0))
        >>> model = ShortAndSparseDeconvolution(20, positive=True).fit(torch.fft.irfft(spectra, n=2000) + noise)
        >>> bool(model.kernel_ @ decay / decay.norm() > 0.99), 0.04 < float(model.noise_) < 0.06
        (True, True)

    Reference: [lau2020short]; [kuo2020geometry].
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        *,
        alpha: float | Literal["auto"] = "auto",
        positive: bool = False,
        boundary: Border = "circular",
        bias: bool = True,
        reweightings: int = 6,
        n_starts: int = 6,
        seed: int = 0,
    ) -> None:
        self.kernel_size = kernel_size
        self.alpha = alpha
        self.positive = positive
        self.boundary = boundary
        self.bias = bias
        self.reweightings = reweightings
        self.n_starts = n_starts
        self.seed = seed

    def fit(self, X: ArrayLike | Tensor, y: None = None) -> ShortAndSparseDeconvolution:
        """Find the kernel of the signals X and their activations.

        Raises:
            InputError: As `deconvolve_short`, or values that are not finite real numbers.
            DegenerateError: A constant signal.
        """
        signals, kind = read_signals(X, self._axes())
        self.solution_: Solution = deconvolve_short(
            signals.flatten(0, 1), self.kernel_size, n_starts=self.n_starts, seed=self.seed, **self._options()
        )
        self.n_features_in_: int = signals.shape[-1]
        self.kernel_: Any = kind.returned(self.solution_.kernel)
        self.components_: Any = self.kernel_[None]
        self.activations_: Any = _shaped(self.solution_.activations, X, kind)
        self.reconstruction_: Any = _shaped(self.solution_.reconstruction, X, kind)
        self.bias_: Any = kind.returned(self.solution_.bias)
        self.noise_: Any = kind.returned(self.solution_.noise)
        self.trace_: Trace = self.solution_.trace
        return self

    def transform(self, X: ArrayLike | Tensor) -> Any:
        """Activations of signals under the kernel found, of the shape of X."""
        signals, kind = read_signals(X, self._axes())
        return _shaped(self.code(signals.flatten(0, 1)).activations, X, kind)

    def code(self, signals: Tensor) -> Solution:
        """The `Solution` behind `transform`, for signals (n, *shape)."""
        check_is_fitted(self)
        return code_short(signals, self.solution_.kernel.to(signals), **self._options())

    def inverse_transform(self, X: ArrayLike | Tensor) -> Any:
        """Signals of activations, circular and without constants, of the shape of X."""
        check_is_fitted(self)
        maps, kind = read_signals(X, self._axes())
        kernel = self.solution_.kernel.to(maps)
        axes = tuple(range(2, maps.ndim))
        if any(side > length for side, length in zip(kernel.shape, maps.shape[2:], strict=True)):
            raise InputError(
                f"activations no shorter than the kernel, {tuple(kernel.shape)}",
                got=f"shape {tuple(maps.shape)}",
                remedy="Pass whole signals.",
            )
        response = torch.fft.rfftn(kernel, s=maps.shape[2:], dim=tuple(range(kernel.ndim)))
        signals = torch.fft.irfftn(torch.fft.rfftn(maps, dim=axes) * response, s=maps.shape[2:], dim=axes)
        return _shaped(signals.flatten(0, 1), X, kind)

    def _axes(self) -> int:
        return len(axis_sizes(self.kernel_size))

    def _options(self) -> dict[str, Any]:
        names = ("alpha", "positive", "boundary", "bias", "reweightings")
        return {name: getattr(self, name) for name in names}


class MultichannelBlindDeconvolution(TransformerMixin, BaseEstimator):
    """`deconvolve_channels` as an estimator: `fit` finds the kernel, `transform` the activations of any such signals.

    Args:
        loss: "huber", "l1", "l3" or "l4".
        mu: Of the Huber function, in units of the root mean square of whitened data.
        n_starts: Starts at most; the first that is exact ends the search.
        max_iter: Steps of descent per start.
        rounding: Steps of l1 rounding per start; 0 leaves it out.
        seed: Seed of the starts.

    Attributes:
        kernel_: (*shape,), unit norm, its largest entry first and positive.
        components_: (1, *shape), the kernel as a dictionary of one.
        inverse_: (*shape,), the filter from signals to activations.
        activations_: (p, *shape), of the signals fitted.
        solution_: The `Solution`, with its status and certificate.
        trace_: Objective, zeros, kurtosis and seconds by start.
        n_iter_: Starts made.

    Signals have shape (p, time), (p, height, width) or (p, *shape), are circular, and share one kernel as long as they
    are; arrays in give arrays out, tensors give tensors.

    Example:
        >>> from tightframe.data.sparse import sparse_codes
        >>> kernel, codes = torch.randn(20, generator=torch.Generator().manual_seed(0)), sparse_codes((60, 20), 0.1)
        >>> spectra = torch.fft.rfft(kernel.double()) * torch.fft.rfft(codes)
        >>> model = MultichannelBlindDeconvolution().fit(torch.fft.irfft(spectra, n=20))
        >>> model.solution_.certificate.holds, bool((model.activations_.abs() > 1e-6).sum() == codes.count_nonzero())
        (True, True)

    Reference: [qu2019nonconvex].
    """

    def __init__(
        self,
        *,
        loss: Loss = "huber",
        mu: float = 0.3,
        n_starts: int = 5,
        max_iter: int = 100,
        rounding: int = 300,
        seed: int = 0,
    ) -> None:
        self.loss = loss
        self.mu = mu
        self.n_starts = n_starts
        self.max_iter = max_iter
        self.rounding = rounding
        self.seed = seed

    def fit(self, X: ArrayLike | Tensor, y: None = None) -> MultichannelBlindDeconvolution:
        """Find the kernel common to the signals X (p, *shape).

        Raises:
            InputError: As `deconvolve_channels`, or values that are not finite real numbers.
        """
        signals, kind = self._read(X)
        self.solution_: Solution = deconvolve_channels(
            signals,
            loss=self.loss,
            mu=self.mu,
            n_starts=self.n_starts,
            max_iterations=self.max_iter,
            rounding=self.rounding,
            seed=self.seed,
        )
        self.n_features_in_: int = signals.shape[1]
        self.kernel_: Any = kind.returned(self.solution_.kernel)
        self.components_: Any = self.kernel_[None]
        self.inverse_: Any = kind.returned(self.solution_.inverse)
        self.activations_: Any = kind.returned(self.solution_.activations)
        self.trace_: Trace = self.solution_.trace
        self.n_iter_: int = len(self.trace_)
        return self

    def transform(self, X: ArrayLike | Tensor) -> Any:
        """Activations (p, *shape) of signals (p, *shape), by the inverse filter."""
        signals, kind = self._fitted(X)
        return kind.returned(convolved(signals, self.solution_.inverse.to(signals)))

    def inverse_transform(self, X: ArrayLike | Tensor) -> Any:
        """Signals (p, *shape) of activations (p, *shape)."""
        activations, kind = self._fitted(X)
        return kind.returned(convolved(activations, self.solution_.kernel.to(activations)))

    def _read(self, X: ArrayLike | Tensor) -> tuple[Tensor, Kind]:
        signals, kind = read_signals(X, max(len(shape_of(X)) - 1, 1))
        return signals[:, 0], kind

    def _fitted(self, X: ArrayLike | Tensor) -> tuple[Tensor, Kind]:
        check_is_fitted(self)
        signals, kind = self._read(X)
        if signals.shape[1:] != self.solution_.kernel.shape:
            raise InputError(
                f"signals of shape (p, {', '.join(map(str, self.solution_.kernel.shape))}), as fitted",
                got=f"shape {tuple(signals.shape)}",
                remedy="The kernel is as long as the signals it was found in; cut or pad to that length.",
            )
        return signals, kind


def _shaped(values: Tensor, like: ArrayLike | Tensor, kind: Kind) -> Any:
    return kind.returned(values.reshape(shape_of(like)))
