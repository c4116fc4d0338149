"""Class moments over the ranks of a process group: two all-reduces, exact where a plain sum of moments is not."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.features.anchored import AnchoredSums


def all_reduce_sums(
    sums: AnchoredSums | None,
    *,
    classes: int,
    full: bool,
    device: torch.device,
    dtype: torch.dtype,
    group: Any,
) -> AnchoredSums | None:
    """Sums over all samples of all ranks, the same on every rank; None where no rank has a sample.

    Sums about the same anchors simply add. So one SUM all-reduce of K (d + 1) numbers makes the means of all samples
    known to every rank, which become the anchors; each rank expresses its sums about them, and a second one of
    K (d + 1) + d (d + 1) / 2 numbers adds these. Neither grows with the number of ranks. A preceding exchange of a few
    integers makes all ranks agree on shapes, so that a rank without samples can take part and a mismatch is an error
    instead of a hang.
    """
    dimension, wide = _agree(sums, classes, full, device, group)
    if dimension == 0:
        return None
    like = torch.empty(0, dtype=torch.float64 if wide else torch.float32, device=device)
    total = AnchoredSums.zeros(classes, dimension, like=like, dtype=dtype, full=full)
    if sums is not None:
        total.absorb(sums)
    count, means = _common_means(total, group)
    total.about(means)
    upper = torch.triu_indices(dimension, dimension, device=device) if full else None
    packed = total.gram[upper[0], upper[1]] if full else total.square[:0]
    buffer = torch.cat([total.offset.view(-1), total.square, packed])
    dist.all_reduce(buffer, group=group)
    offset, square, packed = buffer.split([total.offset.numel(), classes, len(packed)])
    total.offset.copy_(offset.view_as(total.offset))
    total.square.copy_(square)
    total.count.copy_(count)
    if full:
        total.gram[upper[0], upper[1]] = packed
        below = upper[0] < upper[1]  # blocks on the diagonal are kept whole
        total.gram[upper[1, below], upper[0, below]] = packed[below]
    total.recentre()
    return total


def _common_means(own: AnchoredSums, group: Any) -> tuple[Tensor, Tensor]:
    """Counts (k,) and means (k, d) of the samples of all ranks; zero for a class without any."""
    weight = own.count[:, None].to(own.offset)
    buffer = torch.cat([weight, weight * own.mean_rows(0, len(weight))], dim=1)
    dist.all_reduce(buffer, group=group)
    count, sums = buffer[:, 0].round(), buffer[:, 1:]
    return count.long(), sums / count.clamp(min=1)[:, None]


def _agree(sums: AnchoredSums | None, classes: int, full: bool, device: torch.device, group: Any) -> tuple[int, bool]:
    """Dimension and float64-ness over all ranks; an error on all of them where they do not match."""
    dimension = 0 if sums is None else sums.anchor.shape[1]
    wide = sums is not None and sums.anchor.dtype == torch.float64
    least = -dimension if dimension else -(1 << 40)
    own = [dimension, least, classes, -classes, int(full), -int(full), int(wide)]
    shared: Tensor = torch.tensor(own, dtype=torch.int64, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=group)
    most, least, classes_most, classes_least, full_most, full_least, wide_any = shared.tolist()
    if classes_most != -classes_least or full_most != -full_least or (most and most != -least):
        raise InputError(
            "moments of the same classes, mode and dimension on every rank",
            got=f"dimensions {-least} to {most}, classes {-classes_least} to {classes_most}",
            remedy="Build ClassMoments with the same arguments and feed the same layer on every rank.",
        )
    return most, bool(wide_any)
