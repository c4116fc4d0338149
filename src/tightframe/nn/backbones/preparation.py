"""Images of a data set as a backbone wants them: its size, its channels, its standardisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tightframe.core.errors import InputError

Statistics = Sequence[float]


class Preparation(nn.Module):
    r"""Standardised images of a data set, resized and standardised as a backbone was trained.

    .. math:: x' = \frac{R(x)\, \sigma + \mu - \mu'}{\sigma'}

    where
        x (N, C, H, W) are images standardised by mu, sigma (`mean`, `std`), R stretches them to `size`, grey ones
        repeated for each channel, and mu', sigma' are `wanted_mean`, `wanted_std`; all in units of 0..1.

    R is bilinear, smoothed where it shrinks; pipelines with another filter differ by little. It is a module, so that it
    runs on the device, inside torch.compile, and in front of a network.

    Args:
        size: (C, H, W) wanted.
        wanted_mean: Mean of each channel, or empty: values stay as they are.
        wanted_std: Standard deviation of each channel, or empty.
        mean: Mean that the data set subtracted, of one channel or as many as the images have.
        std: Standard deviation that it divided by.

    Raises:
        InputError: Statistics of the wrong length, or none of the data where the backbone wants some.

    >>> prepare = Preparation((3, 4, 4), wanted_mean=(0.5,) * 3, wanted_std=(0.5,) * 3, mean=(0.2,), std=(0.4,))
    >>> prepare(torch.zeros(1, 1, 2, 2))[0, :, 0, 0]
    tensor([-0.6000, -0.6000, -0.6000])
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        size: tuple[int, int, int],
        *,
        wanted_mean: Statistics = (),
        wanted_std: Statistics = (),
        mean: Statistics = (),
        std: Statistics = (),
    ) -> None:
        super().__init__()
        self.size: tuple[int, ...] = tuple(size)
        scale, offset = [1.0], [0.0]
        if wanted_mean:
            new_mean, new_std = _channels(wanted_mean, size[0], "wanted"), _channels(wanted_std, size[0], "wanted")
            old_mean, old_std = _channels(mean, size[0], "of the data"), _channels(std, size[0], "of the data")
            scale = [old / new for old, new in zip(old_std, new_std, strict=True)]
            offset = [(a - b) / c for a, b, c in zip(old_mean, new_mean, new_std, strict=True)]
        # Resizing leaves sums of weights at one, so that one affine map after it is exact.
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(offset).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to (N, *size).

        Raises:
            InputError: Not a batch of images, or coloured ones for a grey backbone.
        """
        channels = self.size[0]
        if images.ndim != 4 or not images.is_floating_point() or images.shape[1] not in (1, channels):
            raise InputError(
                f"floating-point images of shape (N, C, H, W) with C = {' or '.join(map(str, sorted({1, channels})))}",
                got=f"shape {tuple(images.shape)}, dtype {images.dtype}",
                remedy="Read them by tightframe.data, or choose a backbone for images with these channels.",
            )
        if images.shape[2:] != self.size[1:]:
            images = interpolate(images, self.size[1:], mode="bilinear", align_corners=False, antialias=True)
        return (images * self.scale.to(images) + self.offset.to(images)).expand(-1, channels, -1, -1)


def _channels(values: Statistics, channels: int, whose: str) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise InputError(
            f"mean and std {whose}, of one channel or {channels}",
            got=f"{len(values)} values",
            remedy="Pass mean=data.mean and std=data.std.",
        )
    return tuple(values) * (channels if len(values) == 1 else 1)
