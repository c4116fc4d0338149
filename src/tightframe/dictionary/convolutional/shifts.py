"""Kernels compared up to shift, sign and order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tightframe.core.checks import check_same_device
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float, Int


@dataclass(frozen=True)
class KernelMatch:
    """Which kernel found is which true one.

    Args:
        order: Place (q,) in the found kernels of the one matched to each true kernel.
        similarity: Its normalised correlation (q,) at the best shift, in [0, 1].
        shifts: How far the found one is displaced from the true one, (q, axes).
        signs: 1 or -1 (q,).
    """

    order: Int[Tensor, " q"]
    similarity: Float[Tensor, " q"]
    shifts: Int[Tensor, "q axes"]
    signs: Float[Tensor, " q"]

    @property
    def errors(self) -> Float[Tensor, " q"]:
        r"""Distance (q,) of kernels of norm one at the best shift and sign, sqrt(2 - 2 similarity)."""
        return (2 - 2 * self.similarity).clamp(min=0).sqrt()


def match_kernels(
    found: Float[Tensor, "p *kernel"], truth: Float[Tensor, "q *size"], *, axes: int | None = None
) -> KernelMatch:
    r"""The assignment of true kernels to found ones with the largest sum of shift-maximal correlations.

    .. math:: s_{kl} = \max_j \frac{\big|\sum_{c,i} a_{kc}[i + j]\, a^*_{lc}[i]\big|}{\|a_k\|\,\|a^*_l\|}

    Shifts do not wrap around: what leaves the window counts as lost. The two sets may have windows of different size.

    Args:
        found: a (p, channels, *kernel_shape), p >= q; or (p, *kernel_shape) of one channel.
        truth: a* (q, channels, *shape), or (q, *shape) of one channel.
        axes: Axes along which kernels shift, as many as `kernel_size` of the estimators has numbers. Unless given,
            the second axis of kernels with three axes or more is that of channels, as it is where one set has an axis
            more than the other.

    Raises:
        InputError: Fewer kernels found than true ones, or other channels or axes.
        DegenerateError: A kernel of zero.

    Example:
        >>> truth = torch.tensor([[[0.0, 3.0, 4.0]], [[5.0, 0.0, 0.0]]])
        >>> found = torch.tensor([[[0.0, 0.0, 2.0]], [[-3.0, -4.0, 0.0]]])
        >>> match = match_kernels(found, truth)
        >>> match.order.tolist(), match.shifts.flatten().tolist(), match.signs.tolist()
        ([1, 0], [-1, 2], [-1.0, 1.0])
        >>> match_kernels(found[:, 0], truth[:, 0]).order.tolist()
        [1, 0]

    Reference: [lau2020short], section 4, for the metric.
    """
    found, truth = _with_channels(found.detach().double(), truth.detach().double(), axes)
    shifted = tuple(range(-(found.ndim - 2), 0))
    lengths = [a + b - 1 for a, b in zip(found.shape[2:], truth.shape[2:], strict=True)]
    norms = [torch.linalg.vector_norm(kernels.flatten(1), dim=1) for kernels in (found, truth)]
    if not all(bool((norm > 0).all()) for norm in norms):
        raise DegenerateError("kernels that are not zero", got="one of norm zero", remedy="Leave it out.")
    spectra = [torch.fft.rfftn(kernels, s=lengths, dim=shifted) for kernels in (found, truth)]
    products = torch.einsum("pc...,qc...->pq...", spectra[0], spectra[1].conj())
    correlations = torch.fft.irfftn(products, s=lengths, dim=shifted).flatten(2)
    correlations = correlations / (norms[0][:, None, None] * norms[1][:, None])
    best, places = correlations.abs().max(2)
    rows, columns = linear_sum_assignment(best.T.cpu().numpy(), maximize=True)
    true, order = torch.from_numpy(rows).to(found.device), torch.from_numpy(columns).to(found.device)
    places = places[order, true]
    shifts = torch.stack(torch.unravel_index(places, lengths), 1)
    sizes = torch.tensor(found.shape[2:], device=found.device)
    shifts = torch.where(shifts >= sizes, shifts - torch.tensor(lengths, device=found.device), shifts)
    signs = correlations[order, true, places].sign()
    return KernelMatch(order, best[order, true].clamp(max=1), shifts, signs)


def aligned_kernels(found: Tensor, match: KernelMatch, like: Tensor) -> Tensor:
    """The matched kernels in the order, windows, places and signs of the true ones `like`, both as matched."""
    axes = match.shifts.shape[1]
    moved = like.new_zeros((len(match.order), *like.shape[1:]))
    for place, (source, shift, sign) in enumerate(
        zip(match.order.tolist(), match.shifts.tolist(), match.signs.tolist(), strict=True)
    ):
        into, out = [], []
        for displaced, length, wanted in zip(shift, found.shape[-axes:], like.shape[-axes:], strict=True):
            low, high = max(0, -displaced), min(wanted, length - displaced)
            into.append(slice(low, max(low, high)))
            out.append(slice(low + displaced, max(low, high) + displaced))
        window = sign * found[(source, ..., *out)]
        moved[(place, ..., *into)] = window.reshape(moved[(place, ..., *into)].shape).to(moved)
    return moved


def _with_channels(found: Tensor, truth: Tensor, axes: int | None) -> tuple[Tensor, Tensor]:
    """Both sets as (p, channels, *shape)."""
    check_same_device(found, truth, "the kernels")
    given = f"shapes {tuple(found.shape)} and {tuple(truth.shape)}"
    if axes is None:
        axes = max(found.ndim, truth.ndim, 3) - 2
    found, truth = (each.unsqueeze(1) if each.ndim == axes + 1 else each for each in (found, truth))
    if axes < 1 or not found.ndim == truth.ndim == axes + 2 or found.shape[1] != truth.shape[1]:
        raise InputError(
            f"kernels (p, channels, *shape) or (p, *shape) with the same channels and {axes} axes of shape",
            got=given,
            remedy="Insert the missing axes with unsqueeze, or say by axes= how many there are.",
        )
    if len(found) < len(truth) or not len(truth):
        raise InputError(
            "at least as many kernels found as true ones",
            got=f"{len(found)} and {len(truth)}",
            remedy="Swap the arguments, or learn more kernels.",
        )
    return found, truth
