"""The level of white noise under structured signals, and the penalty on activations that it calls for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.special import gammaincinv
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float

# Share of the frequencies that are taken to be below the noise floor.
_QUANTILE = 0.05
# Tiles wanted for an average of periodograms, and the least side of a tile.
_TILES, _LEAST = 16, 8


def noise_level(signals: Float[Tensor, "n *shape"], resolution: int | Sequence[int] = 50) -> Float[Tensor, " n"]:
    r"""Standard deviation of white noise in every signal, from the quietest twentieth of its spectrum.

    .. math:: \hat\sigma^2 = \frac{Q_{0.05}\big(\hat S(f)\big)}{G_J^{-1}(0.05)}, \qquad
        \hat S(f) = \frac{1}{J \|h\|^2} \sum_{j=1}^{J} \big|\mathcal{F}(h \cdot y_j)(f)\big|^2

    where
        y_j are J tiles of a signal, h a Hann window, and G_J the distribution function of a gamma variable of shape J
        and mean one, which is that of S(f) / sigma^2 where there is only noise.

    Signals of sparse events have little power somewhere: smooth kernels at high frequencies, rough ones in the gaps of
    their spectrum. Differences of neighbours, whose median is the common estimate, take a rough kernel for noise.
    Where the signal has power at every frequency the result is too high, by the square root of one plus its power there
    over that of the noise.

    Args:
        signals: (n, *shape).
        resolution: Length of the structure, by axis or for all: tiles are four times as long, or shorter where that
            leaves fewer than 16 of them.

    Returns:
        sigma (n,), in the precision of the signals.

    Raises:
        InputError: Signals of one axis only, or of fewer than 8 points along one.

    Example:
        >>> noise = torch.randn(1, 20000, generator=torch.Generator().manual_seed(0))
        >>> wave = 5 * torch.sin(torch.arange(20000) / 30)
        >>> abs(float(noise_level(noise + wave)) - 1) < 0.05
        True

    Reference: [welch1967use]; [donoho1994ideal], section 4, for the common estimate.
    """
    shape = signals.shape[1:]
    if signals.ndim < 2 or min(shape) < _LEAST:
        raise InputError(
            f"signals (n, *shape) of at least {_LEAST} points along every axis",
            got=f"shape {tuple(signals.shape)}",
            remedy="Give the level of the noise by hand for shorter ones.",
        )
    sides = _sides(shape, resolution)
    tiles, axes = signals, tuple(range(2, 2 + len(shape)))
    for axis, side in enumerate(sides):
        tiles = tiles.unfold(1 + axis, side, side)
    tiles = tiles.flatten(1, len(shape))
    window = _window(sides, signals)
    # Removing the mean under the window keeps the constant out of the neighbouring frequencies.
    centres = (tiles * window).sum(axes, keepdim=True) / window.sum()
    power = torch.fft.rfftn((tiles - centres) * window, dim=axes).abs().square().mean(1) / window.square().sum()
    power = power.flatten(1).sort(dim=1).values
    count, total = tiles.shape[1], power.shape[1]
    floor = power[:, round(_QUANTILE * (total - 1))]
    return (floor / (float(gammaincinv(count, _QUANTILE)) / count)).sqrt()


def universal_penalty(size: int) -> float:
    r"""Penalty, in units of the noise, under which noise alone seldom causes an activation.

    .. math:: \lambda = \sigma \sqrt{2 \log m}

    The correlations of noise with the m shifts of a kernel of unit norm are normal with standard deviation sigma, and
    their largest modulus is below this with a probability that tends to one, whatever their dependence.

    Args:
        size: m, the number of places where an activation may be.

    Returns:
        lambda / sigma.

    Example:
        >>> round(universal_penalty(10_000), 2)
        4.29

    Reference: [donoho1994ideal], theorem 1.
    """
    return math.sqrt(2 * math.log(max(check_count(size, "size"), 2)))


def significant_level(signals: Float[Tensor, "n *shape"], resolution: int | Sequence[int]) -> Float[Tensor, " n"]:
    """`noise_level`, but no less than a thousandth of the spread of a signal: signals without noise have a penalty too.

    Raises:
        DegenerateError: A signal that is constant.
    """
    spread = signals.flatten(1).std(dim=1)
    if not bool((spread > 0).all()):
        raise DegenerateError(
            "signals that vary",
            got=f"{int((spread <= 0).sum())} of {len(signals)} constant, or all zero",
            remedy="Leave those out.",
        )
    if min(signals.shape[1:]) < _LEAST:
        return 1e-3 * spread
    return torch.maximum(noise_level(signals, resolution), 1e-3 * spread)


def _sides(shape: Sequence[int], resolution: int | Sequence[int]) -> list[int]:
    lengths = [resolution] * len(shape) if isinstance(resolution, int) else list(resolution)
    sides = [min(side, max(_LEAST, 4 * length)) for side, length in zip(shape, lengths, strict=True)]
    while math.prod(s // t for s, t in zip(shape, sides, strict=True)) < _TILES and max(sides) > _LEAST:
        longest = sides.index(max(sides))
        sides[longest] = max(_LEAST, sides[longest] // 2)
    return sides


def _window(sides: Sequence[int], like: Tensor) -> Tensor:
    window = like.new_ones(())
    for side in sides:
        window = window.unsqueeze(-1) * torch.hann_window(side, dtype=like.dtype, device=like.device)
    return window
