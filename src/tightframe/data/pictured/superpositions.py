"""Images made of kernels at random places, with everything known: simulated topographs and the like."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import Values, sparse_codes


@dataclass(frozen=True, eq=False)
class SuperpositionTruth:
    """An image and what it is made of.

    Args:
        image: (height, width), with bias and noise.
        clean: (height, width), without noise: the sum of the kernels at their places, and the bias.
        kernels: (kernels, h, w), as they went in.
        maps: (kernels, height, width): the top left corner of kernel k lies at (i, j) with weight `maps[k, i, j]`.
        bias: The constant.
    """

    image: np.ndarray
    clean: np.ndarray
    kernels: np.ndarray
    maps: np.ndarray
    bias: float

    def boxes(self) -> np.ndarray:
        """(n, 4): top, left, height, width of every occurrence of a kernel; past the border where it wraps around."""
        places = np.argwhere(self.maps != 0)[:, 1:]
        return np.concatenate((places, np.broadcast_to(self.kernels.shape[1:], places.shape)), axis=1).astype(
            np.float64
        )


def superposition(
    kernels: ArrayLike,
    shape: tuple[int, int] = (256, 256),
    *,
    density: float = 3e-3,
    values: Values = "one",
    noise: float = 0.05,
    streaks: float = 0.0,
    bias: float | None = None,
    seed: int = 0,
) -> SuperpositionTruth:
    r"""Kernels at random places of an image that wraps around at its borders.

    .. math:: y = b + \sum_k a_k \circledast x_k + \varepsilon

    where
        a_k (h, w) are `kernels`, x_k is zero except with probability theta (`density`) at every pixel, and the noise
        is Gaussian and independent: of standard deviation `noise` for every pixel and `streaks` for every row, as
        tips that jump leave it.

    Args:
        kernels: (kernels, h, w), usually of unit norm.
        shape: Height and width, at least those of the kernels.
        density: theta in [0, 1], of every kernel.
        values: Distribution of the weights, as in `sparse_codes`.
        noise: At least 0.
        streaks: At least 0.
        bias: b; drawn from the standard normal distribution when None.
        seed: Of everything random.

    Raises:
        InputError: Kernels of another shape, larger than the image or not finite; an argument outside its range.

    Example:
        >>> truth = superposition([[[1.0]]], (8, 8), density=0.5, noise=0.0, bias=2.0)
        >>> bool((truth.image == truth.maps[0] + 2).all())
        True

    Reference: [lau2020short], whose simulated topographs this follows.
    """
    parts = np.array(kernels, dtype=np.float64)
    if parts.ndim != 3 or not parts.size or not np.isfinite(parts).all():
        raise InputError(
            "finite kernels (kernels, h, w)", got=f"shape {parts.shape}", remedy="Use kernel[None] for one."
        )
    if len(shape) != 2 or parts.shape[1] > shape[0] or parts.shape[2] > shape[1]:
        raise InputError(
            f"an image at least as large as the kernels, {parts.shape[1:]}", got=repr(shape), remedy="Enlarge it."
        )
    for name, value in (("noise", noise), ("streaks", streaks)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} of at least 0", got=repr(value), remedy=f"Use {name}=0.05.")
    source = generator(seed)
    maps = sparse_codes((len(parts), *shape), density, values=values, seed=source).numpy()
    level = float(torch.randn((), generator=source, dtype=torch.float64)) if bias is None else float(bias)
    clean = _convolved(parts, maps) + level
    pixels, rows = (torch.randn(size, generator=source, dtype=torch.float64).numpy() for size in (shape, (shape[0], 1)))
    return SuperpositionTruth(clean + noise * pixels + streaks * rows, clean, parts, maps, level)


def _convolved(kernels: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The sum of circular convolutions, added up place by place: exact, and cheap for few places."""
    total = np.zeros(maps.shape[1:])
    _, tall, wide = kernels.shape
    for index, top, left in np.argwhere(maps):
        rows, columns = np.arange(top, top + tall) % total.shape[0], np.arange(left, left + wide) % total.shape[1]
        total[np.ix_(rows, columns)] += maps[index, top, left] * kernels[index]
    return total
