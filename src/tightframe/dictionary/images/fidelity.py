"""How close an image is to the true one: peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from tightframe.core.errors import InputError

# Window and constants of the paper.
_RADIUS, _WIDTH = 5, 1.5
_K1, _K2 = 0.01, 0.03


def psnr(image: ArrayLike | Tensor, truth: ArrayLike | Tensor, *, data_range: float = 255.0) -> float:
    r"""Peak signal-to-noise ratio in decibels; infinite for equal images.

    .. math:: \mathrm{PSNR} = 10 \log_{10} \frac{L^2}{\frac1N \sum_i (x_i - y_i)^2}

    where x is `image` and y is `truth`, both of one shape with N entries, and L is `data_range`.

    >>> psnr([[0.0, 0.0]], [[255.0, 255.0]])
    0.0

    Raises:
        InputError: Shapes that differ, or values that are not finite.
    """
    first, second = _pair(image, truth, data_range)
    error = float((first - second).square().mean())
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(image: ArrayLike | Tensor, truth: ArrayLike | Tensor, *, data_range: float = 255.0) -> float:
    r"""Mean structural similarity, 1 for equal images; channels are averaged.

    .. math:: \mathrm{SSIM} = \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
        {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \qquad c_1 = (0.01 L)^2, \ c_2 = (0.03 L)^2

    with moments under a Gaussian window of 11 x 11 pixels and width 1.5, averaged over all its places in the image.

    Args:
        image: x, of shape (height, width) or (channels, height, width).
        truth: y, of the same shape.
        data_range: L.

    Raises:
        InputError: Shapes that differ, images smaller than the window, or values that are not finite.

    Reference: [wang2004image], eq. 13.
    """
    first, second = _pair(image, truth, data_range)
    if first.ndim not in (2, 3) or min(first.shape[-2:]) < 2 * _RADIUS + 1:
        raise InputError(
            f"images of at least {2 * _RADIUS + 1} x {2 * _RADIUS + 1} pixels, channels before height and width",
            got=f"shape {tuple(first.shape)}",
            remedy="Pass (height, width) or (channels, height, width).",
        )
    x, y = (values.reshape(-1, 1, *values.shape[-2:]) for values in (first, second))
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((similar / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))).mean())


def _blur(values: Tensor) -> Tensor:
    places = torch.arange(-_RADIUS, _RADIUS + 1, dtype=values.dtype, device=values.device)
    window = torch.exp(-0.5 * (places / _WIDTH) ** 2)
    window = window / window.sum()
    return functional.conv2d(functional.conv2d(values, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def _pair(image: ArrayLike | Tensor, truth: ArrayLike | Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    first, second = (
        (values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))).double()
        for values in (image, truth)
    )
    if first.shape != second.shape or not first.numel():
        raise InputError(
            "two images of one shape",
            got=f"{tuple(first.shape)} and {tuple(second.shape)}",
            remedy="Compare the restored image with the one it was made of.",
        )
    if first.device != second.device:
        second = second.to(first.device)
    if not (data_range > 0 and bool(torch.isfinite(first).all() & torch.isfinite(second).all())):
        raise InputError(
            "finite images and a positive data_range",
            got=f"data_range {data_range}, or NaN or infinite pixels",
            remedy="data_range is 255 for images of 8 bits and 1 for images in [0, 1].",
        )
    return first, second
