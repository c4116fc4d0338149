"""Patches of an image, their weighted average back, and shrinkage of every patch in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError

# Numbers held at once while a filter runs: bands of this size stay in the caches and keep large images possible.
_BAND = 1 << 21

Shrink = Callable[[Tensor], tuple[Tensor, Tensor]]


def patch_rows(images: Tensor, size: int, *, stride: int = 1) -> Tensor:
    r"""All patches of an image, or of several, as rows.

    .. math:: r_i = R_i x, \qquad R_i \text{ cuts out the patch whose corner is } i

    where x is `images` (m, c, h, w) and r the result (m, n, c p^2) with p = `size`; corners run row by row over
    (h - p) // stride + 1 heights and likewise widths.

    Raises:
        InputError: Not of that shape, or a patch that is larger than the image.
    """
    _check(images, size, stride)
    return functional.unfold(images, size, stride=stride).transpose(1, 2)


def patch_sums(rows: Tensor, shape: tuple[int, int], size: int, *, stride: int = 1) -> Tensor:
    r"""Adjoint of `patch_rows`: images (m, c, h, w) in which every patch is added to where it was cut.

    .. math:: x = \sum_i R_i^\top r_i
    """
    return functional.fold(rows.transpose(1, 2), shape, size, stride=stride)


def patch_average(
    rows: Tensor, shape: tuple[int, int], size: int, *, weights: Tensor | None = None, stride: int = 1
) -> Tensor:
    r"""Images (m, c, h, w) in which overlapping patches are averaged; zero where no patch reaches.

    .. math:: x = \Big(\sum_i w_i R_i^\top R_i\Big)^{-1} \sum_i w_i R_i^\top r_i

    Args:
        rows: Patches r (m, n, c p^2).
        shape: Height and width of the images.
        size: p.
        weights: Positive w (m, n); ones by default.
        stride: That of `patch_rows`, whose inverse this is.

    >>> image = torch.arange(20.0).reshape(1, 1, 4, 5)
    >>> bool(torch.allclose(patch_average(patch_rows(image, 3), (4, 5), 3), image))
    True
    """
    if weights is None:
        weights = rows.new_ones(rows.shape[:2])
    total, cover = _weighted(rows, weights, shape, size, stride)
    return total / cover.clamp_min(torch.finfo(cover.dtype).tiny)


def sample_patches(images: Tensor, size: int, count: int, *, draws: torch.Generator) -> Tensor:
    """Rows (m, count, c p^2) of patches at `count` random corners, the same in all of `images` (m, c, h, w)."""
    _check(images, size, 1)
    views = images.unfold(2, size, 1).unfold(3, size, 1)
    heights, widths = views.shape[2:4]
    corners = torch.randint(heights * widths, (check_count(count, "count"),), generator=draws, device=draws.device)
    corners = corners.to(images.device)
    cut = views[:, :, corners // widths, corners % widths]
    return cut.transpose(1, 2).flatten(2)


def remove_means(rows: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Rows (..., c p^2) less the mean of every channel, and these means in the same shape as the rows."""
    parts = rows.unflatten(-1, (channels, -1))
    means = parts.mean(dim=-1, keepdim=True).expand_as(parts)
    return (parts - means).flatten(-2), means.flatten(-2)


def filter_patches(images: Tensor, size: int, shrink: Shrink, *, stride: int = 1) -> Tensor:
    """Average (c, h, w) of patches that `shrink` has changed, band by band.

    Args:
        images: (m, c, h, w): the image, and others that `shrink` looks at.
        size: p.
        shrink: From rows (m, n, c p^2) to changed rows of the first image (n, c p^2) and weights (n,).
        stride: Distance between corners; pixels that no patch reaches become zero.
    """
    _check(images, size, stride)
    count, channels, height, width = images.shape
    total = images.new_zeros(channels, height, width)
    cover = images.new_zeros(1, height, width)
    per_line = count * channels * size**2 * ((width - size) // stride + 1)
    for top, bottom in _bands(height, size, stride, lines=max(1, _BAND // per_line)):
        rows, weights = shrink(patch_rows(images[:, :, top:bottom], size, stride=stride))
        part, below = _weighted(rows[None], weights[None], (bottom - top, width), size, stride)
        total[:, top:bottom] += part[0]
        cover[:, top:bottom] += below[0]
    return total / cover.clamp_min(torch.finfo(cover.dtype).tiny)


def _weighted(rows: Tensor, weights: Tensor, shape: tuple[int, int], size: int, stride: int) -> tuple[Tensor, Tensor]:
    cover = weights[..., None].expand(*weights.shape, size**2)
    total = patch_sums(rows * weights[..., None], shape, size, stride=stride)
    return total, patch_sums(cover, shape, size, stride=stride)


def _bands(height: int, size: int, stride: int, *, lines: int) -> Iterator[tuple[int, int]]:
    """First and last line but one of the image for every `lines` lines of corners."""
    corners = (height - size) // stride + 1
    for first in range(0, corners, lines):
        last = min(first + lines, corners) - 1
        yield first * stride, last * stride + size


def _check(images: Tensor, size: int, stride: int) -> None:
    check_count(size, "patch_size")
    check_count(stride, "stride")
    if images.ndim != 4:
        raise InputError(
            "images of shape (count, channels, height, width)",
            got=f"shape {tuple(images.shape)}",
            remedy="Add the missing axes with [None].",
        )
    if size > min(images.shape[2:]):
        raise InputError(
            f"patches of {size} x {size} within the image",
            got=f"{images.shape[1]} channels of {images.shape[2]} x {images.shape[3]}",
            remedy="Use smaller patches; channels come before height and width.",
        )
