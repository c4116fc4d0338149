"""Signals made of kernels and activation maps: the bilinear map, its adjoints and its norms, for three borders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.dictionary.convolutional.products import Direct, Fourier, Product

Boundary = Literal["circular", "zero", "valid"]
Method = Literal["auto", "fft", "direct"]

# Kernels with fewer entries than this share of the mean number of levels of a transform are multiplied directly: on one
# thread of a CPU the two meet at kernels of about 4 in traces and of 2 per axis in images, so that transforms win for
# all but the shortest.
_DIRECT_PER_LEVEL = 0.3


class Convolution:
    r"""The map from kernels and activation maps to signals, and its two adjoints.

    .. math:: y_{nc}[i] = \sum_k \sum_j a_{kc}[j]\, x_{nk}[i - j]

    where
        y (n, channels, *shape) are signals, a (p, channels, *kernel_shape) kernels and x (n, p, *map_shape) maps, for
        any number of axes.

    At the borders an event x[i] at place i, where its kernel begins, is

    - "circular": any place of the signal, and the kernel goes on at the other end; maps have the shape of the signals;
    - "zero": any place at which the kernel meets the signal, so that the border may cut it; maps are longer than the
      signals by kernel_shape - 1, and their first entry is place 1 - kernel_shape;
    - "valid": a place at which the whole kernel lies within the signal; maps are shorter by kernel_shape - 1.

    Products are computed by real transforms, or directly where kernels are short. Both work on `forms`, which are
    linear in what they stand for: spectra in the first case, so that an iteration that keeps them transforms nothing
    twice.

    Args:
        shape: Of one signal without its channels.
        kernel_shape: Of one kernel, no longer than the signal on any axis.
        boundary: As above.
        method: "fft", "direct" (at most three axes) or "auto", by size.
        dtype: Precision of the products.
        device: Where they are computed.

    Raises:
        InputError: A kernel longer than the signal, another number of axes, or an unknown border.

    Example:
        >>> operator = Convolution((6,), (2,), boundary="circular")
        >>> maps = torch.zeros(1, 1, 6).index_fill_(2, torch.tensor([5]), 1.0)
        >>> (operator.synthesize(torch.tensor([[[1.0, 2.0]]]), maps).round(decimals=4) + 0.0).tolist()
        [[[2.0, 0.0, 0.0, 0.0, 0.0, 1.0]]]

    Reference: [wohlberg2016efficient], section II, for the products in frequency.
    """

    def __init__(
        self,
        shape: Sequence[int],
        kernel_shape: Sequence[int],
        *,
        boundary: Boundary = "circular",
        method: Method = "auto",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape: tuple[int, ...] = tuple(shape)
        self.kernel_shape: tuple[int, ...] = tuple(kernel_shape)
        _check(self.shape, self.kernel_shape, boundary, method)
        self.boundary = boundary
        extra = {"circular": 0, "zero": 1, "valid": -1}[boundary]
        self.map_shape: tuple[int, ...] = tuple(
            s + extra * (k - 1) for s, k in zip(self.shape, self.kernel_shape, strict=True)
        )
        direct = method == "direct" or (method == "auto" and _direct_is_faster(self.shape, self.kernel_shape))
        kind = Direct if direct else Fourier
        self.method = "direct" if direct else "fft"
        self.products: Product = kind(self.shape, self.kernel_shape, boundary=boundary, dtype=dtype, device=device)

    def synthesize(self, kernels: Tensor, maps: Tensor) -> Tensor:
        """Signals (n, channels, *shape) of kernels (p, channels, *kernel_shape) and maps (n, p, *map_shape)."""
        products = self.products
        return products.signals(products.product(products.kernel_form(kernels), products.map_form(maps)))

    def correlate_kernels(self, kernels: Tensor, signals: Tensor) -> Tensor:
        """Adjoint in the maps: signals correlated with every kernel, (n, p, *map_shape)."""
        products = self.products
        return products.to_maps(products.kernel_form(kernels), products.signal_form(signals))

    def correlate_maps(self, maps: Tensor, signals: Tensor) -> Tensor:
        """Adjoint in the kernels: signals correlated with the maps, (p, channels, *kernel_shape)."""
        products = self.products
        return products.to_kernels(products.map_form(maps), products.signal_form(signals))

    def squared_norm_of_kernels(self, kernels: Tensor) -> float:
        r"""Bound on the squared norm of maps -> signals; exact for "circular".

        .. math:: \max_f \|\hat A(f)\|_2^2, \qquad \hat A(f)\ (\mathrm{channels}, p)
        """
        spectra = self._spectra(kernels)
        spectra = spectra.reshape(*spectra.shape[:2], -1).permute(2, 1, 0)
        return _largest_squared_norm(spectra)

    def squared_norm_of_maps(self, maps: Tensor) -> float:
        r"""Bound on the squared norm of kernels -> signals, which would be attained by kernels as long as the signal.

        .. math:: \max_f \|\hat X(f)\|_2^2, \qquad \hat X(f)\ (n, p)
        """
        spectra = self._spectra(maps)
        spectra = spectra.reshape(*spectra.shape[:2], -1).permute(2, 0, 1)
        return _largest_squared_norm(spectra)

    def _spectra(self, values: Tensor) -> Tensor:
        # Without wrapping, the linear product of maps and kernels has this length.
        wrapped = self.boundary == "circular"
        pairs = zip(self.map_shape, self.kernel_shape, strict=True)
        lengths = [m if wrapped else m + k - 1 for m, k in pairs]
        return torch.fft.rfftn(values, s=lengths, dim=tuple(range(-len(lengths), 0)))


def checked_operator(signals: Tensor, kernels: Tensor, *, boundary: Boundary, method: Method) -> Convolution:
    """The operator of these signals (n, channels, *shape) and kernels (p, channels, *kernel_shape), if they fit."""
    if not (isinstance(signals, Tensor) and isinstance(kernels, Tensor)):
        raise InputError("tensors", got=type(signals).__name__, remedy="Convert signals and kernels with as_tensor.")
    if signals.ndim < 3 or kernels.ndim != signals.ndim or kernels.shape[1] != signals.shape[1]:
        raise InputError(
            "signals (n, channels, *shape) and kernels (p, channels, *kernel_shape)",
            got=f"shapes {tuple(signals.shape)} and {tuple(kernels.shape)}",
            remedy="Insert the missing axes with unsqueeze.",
        )
    if signals.device != kernels.device or signals.dtype != kernels.dtype or not signals.is_floating_point():
        raise InputError(
            "signals and kernels in one floating-point precision on one device",
            got=f"{signals.dtype} on {signals.device}, {kernels.dtype} on {kernels.device}",
            remedy="Move the kernels with kernels.to(signals).",
        )
    if not bool(torch.isfinite(signals.sum() + kernels.sum())):
        raise InputError("finite signals and kernels", got="NaN or infinite values", remedy="Remove or fill them.")
    options = {"dtype": signals.dtype, "device": signals.device}
    return Convolution(signals.shape[2:], kernels.shape[2:], boundary=boundary, method=method, **options)


def moved_maps(maps: Tensor, shifts: Sequence[int], *, source: Convolution, target: Convolution) -> Tensor:
    """Maps (n, *source.map_shape) of one kernel, their places moved by `shifts`, as maps of another operator.

    Events that the other border does not know are dropped.
    """
    axes = len(source.map_shape)
    for axis, shift in enumerate(shifts):
        place = axis - axes
        length, wanted = source.map_shape[axis], target.map_shape[axis]
        first, wanted_first = _first_place(source, axis), _first_place(target, axis)
        if source.boundary == "circular" and target.boundary == "circular":
            maps = maps.roll(shift, dims=place)
            continue
        begin = first + shift - wanted_first
        moved = maps.new_zeros([*maps.shape[: maps.ndim + place], wanted, *maps.shape[maps.ndim + place + 1 :]])
        low, high = max(begin, 0), min(begin + length, wanted)
        if high > low:
            moved.narrow(place, low, high - low).copy_(maps.narrow(place, low - begin, high - low))
        maps = moved
    return maps


def _first_place(operator: Convolution, axis: int) -> int:
    return 1 - operator.kernel_shape[axis] if operator.boundary == "zero" else 0


def _largest_squared_norm(matrices: Tensor) -> float:
    """Largest squared spectral norm in a stack of matrices."""
    if 1 in matrices.shape[1:]:
        return float(matrices.abs().square().sum((1, 2)).max())
    wide = matrices.shape[1] <= matrices.shape[2]
    gram = matrices @ matrices.mH if wide else matrices.mH @ matrices
    return float(torch.linalg.eigvalsh(gram)[:, -1].max())


def _direct_is_faster(shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
    levels = sum(math.log2(max(length, 2)) for length in shape)
    return len(shape) <= 3 and math.prod(kernel_shape) < _DIRECT_PER_LEVEL * levels / len(shape)


def _check(shape: tuple[int, ...], kernel_shape: tuple[int, ...], boundary: str, method: str) -> None:
    if boundary not in get_args(Boundary):
        raise InputError(
            f"boundary, one of {', '.join(get_args(Boundary))}", got=repr(boundary), remedy="Use 'circular'."
        )
    if method not in get_args(Method):
        raise InputError(f"method, one of {', '.join(get_args(Method))}", got=repr(method), remedy="Use 'auto'.")
    if len(shape) != len(kernel_shape) or not shape:
        raise InputError(
            "kernels with as many axes as the signals",
            got=f"kernels {kernel_shape}, signals {shape}",
            remedy="Give kernel_size one number per axis.",
        )
    if any(not 1 <= k <= s for k, s in zip(kernel_shape, shape, strict=True)):
        raise InputError(
            "kernels no longer than the signals on any axis",
            got=f"kernels {kernel_shape}, signals {shape}",
            remedy="Lower kernel_size, or take longer signals.",
        )
    if method == "direct" and len(shape) > 3:
        raise InputError("at most three axes for direct products", got=f"{len(shape)}", remedy="Use method='fft'.")
