"""Least squares for a kernel that may be smooth: how smooth is decided by the evidence of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.typing import Float

# Lengths over which a kernel may vary: in points, and in the logarithm of the points since its beginning.
_EVEN, _SLOWING = (1.5, 3.0, 6.0, 12.0, 24.0), (0.25, 0.5, 1.0, 2.0)
# Standard deviations of the kernel, as multiples of what its unit norm makes it on the average.
_AMPLITUDES = (1.0, 4.0)
# Directions of a covariance below this share of its largest eigenvalue are left out.
_KEPT = 1e-7
# What may be said of the smoothness of a kernel.
Kind = Literal["rough", "even", "slowing"]
# Longest kernel for which dense matrices of its size are worth the while.
LONGEST = 512


@dataclass(frozen=True)
class SmoothFit:
    """A kernel and how smooth it was taken to be.

    Args:
        kernel: (size,).
        evidence: Logarithm of the marginal likelihood, less that of the zero kernel.
        kind: "rough" for independent entries, "even" for as smooth everywhere, "slowing" for smoother as it goes on.
    """

    kernel: Tensor
    evidence: float
    kind: Kind


def smooth_kernel(lags: Float[Tensor, " size"], wanted: Float[Tensor, " size"]) -> SmoothFit:
    r"""The kernel of greatest posterior probability under the Gaussian prior of the greatest evidence.

    .. math:: \hat a = (T + C^{-1})^{-1} w, \qquad
        \log p(y \mid C) = \tfrac12 w^\top (T + C^{-1})^{-1} w - \tfrac12 \log\det(I + C T) + \mathrm{const}

    where
        T is the Toeplitz matrix of `lags`, w `wanted`, both in units of the noise, and C one of: s^2 times the
        identity; s^2 exp(-(t - t')^2 / 2 l^2) for t the points themselves, as bumps want; or for t the logarithm
        of one plus the points, as transients want, which change fast at first and slowly later.

    For n activations of size x, plain least squares leave an error of standard deviation 1 / sqrt(n x^2) in every one
    of the entries; a smooth prior in as many directions as the kernel needs.

    Args:
        lags: Autocorrelation of the activations over the noise variance, at 0, ..., size - 1.
        wanted: Correlation of the signals with the activations over the noise variance.

    Reference: [rasmussen2006gaussian], section 5.4.1, for the evidence.
    """
    size = len(lags)
    steps = torch.arange(size)
    lags, wanted = lags.detach().double().cpu(), wanted.detach().double().cpu()
    toeplitz = lags[(steps[:, None] - steps).abs()]
    best = SmoothFit(torch.zeros_like(wanted), -math.inf, "rough")
    for kind, basis in _bases(size):
        gram, image = basis.T @ toeplitz @ basis, basis.T @ wanted
        for amplitude in _AMPLITUDES:
            matrix = amplitude**2 * gram
            matrix.diagonal().add_(1)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if int(failed):
                continue
            half = torch.linalg.solve_triangular(factor, amplitude * image[:, None], upper=False)
            evidence = 0.5 * float(half.square().sum()) - float(factor.diagonal().log().sum())
            if evidence > best.evidence:
                weights = torch.linalg.solve_triangular(factor.T, half, upper=True)[:, 0]
                best = SmoothFit(amplitude * basis @ weights, evidence, kind)
    return best


@lru_cache(maxsize=8)
def _bases(size: int) -> tuple[tuple[Kind, Tensor], ...]:
    """Square roots of the covariances, each of trace one."""
    points = torch.arange(size, dtype=torch.float64)
    bases: list[tuple[Kind, Tensor]] = [("rough", torch.eye(size, dtype=torch.float64) / size**0.5)]
    grids: list[tuple[Kind, Tensor, tuple[float, ...]]] = [
        ("even", points, _EVEN),
        ("slowing", points.log1p(), _SLOWING),
    ]
    for kind, places, lengths in grids:
        for length in lengths:
            distance = (places[:, None] - places) / length
            values, vectors = torch.linalg.eigh(torch.exp(-0.5 * distance.square()))
            kept = values > _KEPT * values[-1]
            bases.append((kind, vectors[:, kept] * (values[kept] / size).sqrt()))
    return tuple(bases)
