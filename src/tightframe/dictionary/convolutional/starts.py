"""Where the search for kernels begins, at windows of the data or at noise, and with what penalty."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.dictionary.blind.noise import noise_level, universal_penalty
from tightframe.dictionary.convolutional.convolution import Boundary, Convolution

Start = Literal["windows", "random"]

# The noise of signals shorter than this along an axis is not measured.
_MEASURABLE = 8


def first_kernels(
    start: Start | ArrayLike | Tensor,
    signals: Tensor,
    *,
    count: int,
    size: tuple[int, ...],
    boundary: Boundary = "circular",
    seed: int = 0,
) -> Tensor:
    """Kernels (p, channels, *size) to begin with: of a named kind, or those given, with or without channels.

    Raises:
        InputError: More kernels than samples, kernels of another shape, zero, or longer than the signals, or an unknown
            kind.
        DegenerateError: Constant signals.
    """
    places = signals[:, 0].numel()
    if check_count(count, "n_components") > places:
        raise InputError(
            f"at most n_components = {places}, one for every sample of the signals",
            got=f"{count}",
            remedy="Ask for fewer components, or pass longer signals.",
        )
    # The operator says what is wrong with the sizes.
    Convolution(signals.shape[2:], size, boundary=boundary)
    wanted = (count, signals.shape[1], *size)
    if isinstance(start, str):
        if start not in get_args(Start):
            raise InputError("start, 'windows', 'random' or kernels", got=repr(start), remedy="Choose one.")
        windows = data_windows(signals, count, size, seed=seed)
        return windows if start == "windows" else random_kernels(*wanted[:2], size, seed=seed, like=signals)
    kernels = torch.as_tensor(start).to(signals)
    kernels = kernels.unsqueeze(1) if kernels.ndim == len(size) + 1 else kernels
    if tuple(kernels.shape) != wanted:
        raise InputError(f"a start of shape {wanted}", got=f"shape {tuple(kernels.shape)}", remedy="Reshape it.")
    norms = torch.linalg.vector_norm(kernels.flatten(1), dim=1)
    if not bool((norms.isfinite() & (norms > 0)).all()):
        raise InputError(
            "a start of finite kernels that are not zero", got=f"norms {norms.tolist()}", remedy="Leave out dead ones."
        )
    return kernels


def data_windows(signals: Tensor, count: int, kernel_shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    r"""Windows of the signals at random places, of norm one: every one is a sum of few shifted kernels.

    A window is drawn with probability proportional to its energy less what is left to noise (the median over windows),
    so that silent stretches of a recording give no start. Each signal and channel is centred first.

    Args:
        signals: y (n, channels, *shape).
        count: p.
        kernel_shape: Of a window.
        seed: Of the places.

    Returns:
        Kernels (p, channels, *kernel_shape).

    Raises:
        DegenerateError: Constant signals.

    Reference: [lau2020short], section 3.1; [qu2020geometric], section 3.2, for the start in a convolutional dictionary.
    """
    check_count(count, "n_components")
    axes = tuple(range(2, signals.ndim))
    centered = signals - signals.mean(axes, keepdim=True)
    energies = window_energies(centered.square().sum(1, dtype=torch.float64), kernel_shape)
    flat = energies.flatten().cpu()
    # Rounding of the mean leaves energies of this order in a constant signal.
    least = (8 * torch.finfo(signals.dtype).eps) ** 2 * float(signals.double().square().sum())
    if not float(flat.max()) > least:
        raise DegenerateError(
            "signals that vary", got="constant or all-zero data", remedy="Check how the data were read."
        )
    excess = (flat - flat.median()).clamp(min=0)
    odds = (excess if bool((excess > 0).any()) else flat).cumsum(0)
    draws = torch.rand(count, generator=generator(seed), dtype=torch.float64) * odds[-1]
    places = torch.searchsorted(odds, draws).clamp(max=len(odds) - 1)
    corners = torch.stack(torch.unravel_index(places, energies.shape), 1).tolist()
    windows = [
        centered[(sample, slice(None), *(slice(i, i + k) for i, k in zip(corner, kernel_shape, strict=True)))]
        for sample, *corner in corners
    ]
    kernels = torch.stack(windows)
    return kernels / torch.linalg.vector_norm(kernels.flatten(1), dim=1).view(-1, *[1] * (kernels.ndim - 1))


def random_kernels(
    count: int, channels: int, kernel_shape: tuple[int, ...], *, seed: int = 0, like: Tensor | None = None
) -> Tensor:
    """Independent kernels (p, channels, *kernel_shape), uniform on the sphere."""
    kernels = torch.randn((count, channels, *kernel_shape), generator=generator(seed), dtype=torch.float64)
    kernels /= torch.linalg.vector_norm(kernels.flatten(1), dim=1).view(-1, *[1] * (kernels.ndim - 1))
    return kernels if like is None else kernels.to(like)


def automatic_penalty(
    signals: Tensor,
    kernels: Tensor,
    ratio: float,
    *,
    boundary: Boundary = "circular",
    positive: bool = False,
    bias: bool = False,
) -> float:
    r"""A penalty from the noise of the signals, but no less than a share of the one that admits no activation.

    .. math:: \lambda = \min\Big(\max\big(\tfrac12 \hat\sigma \sqrt{2 \log m},\ r \lambda_{\max}\big),\
        \tfrac12 \lambda_{\max}\Big), \qquad \lambda_{\max} = \max |a_k \star y|

    where
        sigma is the median of `noise_level` over signals and channels, m the number of places of an activation and r
        `ratio`. Rough kernels leave no quiet frequency, and sigma is then too high, which costs a shrinkage of
        activations rather than kernels; the second term is for signals with little noise.

    Args:
        signals: y (n, channels, *shape), not constant.
        kernels: a (p, channels, *kernel_shape) of norm one, near those sought.
        ratio: r in (0, 1).
        boundary: Of the convolution.
        positive: Whether activations are.
        bias: Whether the mean of the signals is left to a bias.

    Reference: [donoho1994ideal], theorem 1.
    """
    size = tuple(kernels.shape[2:])
    operator = Convolution(signals.shape[2:], size, boundary=boundary, dtype=signals.dtype, device=signals.device)
    centered = signals - signals.mean(tuple(range(2, signals.ndim)), keepdim=True) if bias else signals
    found = operator.correlate_kernels(kernels, centered)
    largest = max(float((found if positive else found.abs()).max()), 0.0)
    noise = 0.0
    if min(signals.shape[2:]) >= _MEASURABLE:
        level = float(noise_level(signals.flatten(0, 1), size).median())
        noise = 0.5 * level * universal_penalty(found[0].numel())
    return min(max(noise, ratio * largest), 0.5 * largest)


def window_energies(values: Tensor, window: tuple[int, ...]) -> Tensor:
    """Sums of values (n, *shape) over all windows, (n, *(shape - window + 1))."""
    for axis, length in enumerate(window, start=values.ndim - len(window)):
        edge = values.new_zeros([*values.shape[:axis], 1, *values.shape[axis + 1 :]])
        sums = torch.cat([edge, values.cumsum(axis)], axis)
        places = values.shape[axis] - length + 1
        values = sums.narrow(axis, length, places) - sums.narrow(axis, 0, places)
    return values
