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


def match_kernels(found: Float[Tensor, "p channels *kernel"], truth: Float[Tensor, "q channels *size"]) -> KernelMatch:
    r"""The assignment of true kernels to found ones with the largest sum of shift-maximal correlations.

    .. math:: s_{kl} = \max_j \frac{\big|\sum_{c,i} a_{kc}[i + j]\, a^*_{lc}[i]\big|}{\|a_k\|\,\|a^*_l\|}

    Shifts do not wrap around: what leaves the window counts as lost. The two sets may have windows of different size.

    Args:
        found: a (p, channels, *kernel_shape), p >= q.
        truth: a* (q, channels, *shape).

    Raises:
        InputError: Fewer kernels found than true ones, or other channels or axes.
        DegenerateError: A kernel of zero.

    Example:
        >>> truth = torch.tensor([[[0.0, 3.0, 4.0]], [[5.0, 0.0, 0.0]]])
        >>> found = torch.tensor([[[0.0, 0.0, 2.0]], [[-3.0, -4.0, 0.0]]])
        >>> match = match_kernels(found, truth)
        >>> match.order.tolist(), match.shifts.flatten().tolist(), match.signs.tolist()
        ([1, 0], [-1, 2], [-1.0, 1.0])

    Reference: [lau2020short], section 4, for the metric.
    """
    _check(found, truth)
    found, truth = found.detach().double(), truth.detach().double()
    axes = tuple(range(-(found.ndim - 2), 0))
    lengths = [a + b - 1 for a, b in zip(found.shape[2:], truth.shape[2:], strict=True)]
    norms = [torch.linalg.vector_norm(kernels.flatten(1), dim=1) for kernels in (found, truth)]
    if not all(bool((norm > 0).all()) for norm in norms):
        raise DegenerateError("kernels that are not zero", got="one of norm zero", remedy="Leave it out.")
    spectra = [torch.fft.rfftn(kernels, s=lengths, dim=axes) for kernels in (found, truth)]
    products = torch.einsum("pc...,qc...->pq...", spectra[0], spectra[1].conj())
    correlations = torch.fft.irfftn(products, s=lengths, dim=axes).flatten(2)
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
    """The matched kernels in the order, windows, places and signs of the true ones `like`."""
    moved = like.new_zeros((len(match.order), *like.shape[1:]))
    for place, (source, shift, sign) in enumerate(
        zip(match.order.tolist(), match.shifts.tolist(), match.signs.tolist(), strict=True)
    ):
        into, out = [slice(None)], [slice(None)]
        for displaced, length, wanted in zip(shift, found.shape[2:], like.shape[2:], strict=True):
            low, high = max(0, -displaced), min(wanted, length - displaced)
            into.append(slice(low, max(low, high)))
            out.append(slice(low + displaced, max(low, high) + displaced))
        moved[(place, *into)] = (sign * found[(source, *out)]).to(moved)
    return moved


def _check(found: Tensor, truth: Tensor) -> None:
    check_same_device(found, truth, "the kernels")
    if found.ndim != truth.ndim or found.ndim < 3 or found.shape[1] != truth.shape[1]:
        raise InputError(
            "kernels (p, channels, *shape) with the same channels and axes",
            got=f"shapes {tuple(found.shape)} and {tuple(truth.shape)}",
            remedy="Insert the missing axes with unsqueeze.",
        )
    if len(found) < len(truth) or not len(truth):
        raise InputError(
            "at least as many kernels found as true ones",
            got=f"{len(found)} and {len(truth)}",
            remedy="Swap the arguments, or learn more kernels.",
        )
