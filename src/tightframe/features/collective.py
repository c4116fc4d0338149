"""Class moments over the ranks of a process group: one all-reduce, exact where a plain sum of moments is not."""

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

    Within-class scatters about each rank's own means simply add; the scatter of these means needs every rank's
    means. So the buffer of the one SUM all-reduce has a slot per rank for counts and means, zero but for the own,
    beside the scatter: K + world K (d + 1) + d (d + 1) / 2 numbers. A preceding exchange of a few integers makes all
    ranks agree on shapes, so that a rank without samples can take part and a mismatch is an error instead of a hang.
    """
    dimension, wide = _agree(sums, classes, full, device, group)
    if dimension == 0:
        return None
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    anchor = torch.empty(0, dtype=torch.float64 if wide else torch.float32, device=device)
    sizes = [world * classes, world * classes * dimension, classes, dimension * (dimension + 1) // 2 * full]
    buffer = torch.zeros(sum(sizes), dtype=dtype, device=device)
    counts, means, within, packed = buffer.split(sizes)
    counts, means = counts.view(world, classes), means.view(world, classes, dimension)
    upper = torch.triu_indices(dimension, dimension, device=device) if full else None
    if sums is not None:
        counts[rank] = sums.count.to(dtype)
        means[rank] = sums.mean_rows(0, classes)
        within.copy_(sums.within())
        if full:
            packed.copy_(sums.scatter()[upper[0], upper[1]])
    dist.all_reduce(buffer, group=group)
    total = AnchoredSums.zeros(classes, dimension, like=anchor, dtype=dtype, full=full)
    for other in range(world):
        total.absorb_means(slice(None), means[other], counts[other].round().long())
    total.square.add_(within)
    if full:
        total.gram[upper[0], upper[1]] += packed
        below = upper[0] < upper[1]  # blocks on the diagonal are kept whole
        total.gram[upper[1, below], upper[0, below]] += packed[below]
    total.recentre()
    return total


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
