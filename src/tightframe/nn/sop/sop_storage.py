"""Where SOP keeps the weights v of N samples and K classes: a dense table, or a few slots per sample."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

_CHUNK = 1 << 16


def grown(values: Tensor, hit: Tensor, rate: float) -> Tensor:
    r"""One step of gradient descent on the squared error of v, entry by entry.

    $$v \leftarrow v + 4 r v (h - V) \, [v^2 \le 1], \qquad V = \min(v^2, 1)$$

    where v is `values`, h is one at the class that was predicted (`hit`) and zero elsewhere, and r is `rate`. The
    bracket is the derivative of the clamp: an entry that overshoots one stays where it is.
    """
    mass = values * values
    step = (hit - mass).mul_(values)
    return torch.where(mass <= 1, torch.add(values, step, alpha=4 * rate), values)


class DenseRows(nn.Module):
    """Every v_{ic}: N K numbers.

    Args:
        samples: N.
        classes: K.
        init: Value of every entry at the start.
    """

    kind = "dense"

    def __init__(self, samples: int, classes: int, *, init: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.full((samples, classes), init))

    def read(self, index: Tensor) -> Tensor:
        """Rows (B, K) of the samples `index` (B,)."""
        return self.value[index]

    def advance(self, index: Tensor, *, labels: Tensor, predicted: Tensor, rate: float, keep: Tensor) -> None:
        """One step for the rows `index`, but where `keep`: wrong classes `predicted` grow, all others decay."""
        before = self.value[index]
        # The entry of the label has no effect; it decays like the rest.
        wrong = (predicted != labels).to(before)
        hit = torch.zeros_like(before).scatter_(1, predicted[:, None], wrong[:, None])
        after = grown(before, hit, rate)
        self.value.index_copy_(0, index, torch.where(keep[:, None], before, after))

    def mass(self, labels: Tensor) -> Tensor:
        """Sum over the classes other than the label of min(v^2, 1), for all N samples: (N,)."""
        return torch.cat([self._masses(part, own).sum(1) for part, own in self._parts(labels)])

    def strongest(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Largest of these masses and its class, for all N samples: (N,), (N,)."""
        found = [self._masses(part, own).max(dim=1) for part, own in self._parts(labels)]
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])

    def _parts(self, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        # In parts, because the masses of all N K entries would be a second table.
        return list(zip(self.value.split(_CHUNK), labels.split(_CHUNK), strict=True))

    @staticmethod
    def _masses(values: Tensor, labels: Tensor) -> Tensor:
        return (values * values).clamp_(max=1).scatter_(1, labels[:, None], 0.0)


class SparseRows(nn.Module):
    """The v_{ic} of at most `slots` classes per sample, and one number for all other classes of the sample.

    Classes that were never predicted for a sample all decay alike, so one number holds them exactly: nothing is lost
    until more than `slots` wrong classes have been predicted for one sample. Then the smallest slot makes room, and its
    class falls back to the value of the others. Takes 4 + 8 m bytes per sample for m slots, whatever K is.

    Args:
        samples: N.
        classes: K.
        init: Value of every entry at the start.
        slots: m.
    """

    kind = "sparse"

    def __init__(self, samples: int, classes: int, *, init: float, slots: int) -> None:
        super().__init__()
        self.number_of_classes = classes
        self.register_buffer("rest", torch.full((samples,), init))
        self.register_buffer("value", torch.zeros(samples, slots))
        self.register_buffer("slot", torch.full((samples, slots), -1, dtype=torch.int32))

    def read(self, index: Tensor) -> Tensor:
        """Rows (B, K) of the samples `index` (B,)."""
        slot = self.slot[index].long()
        # Empty slots, numbered -1, write into a column of their own that is then cut off.
        rows = self.rest[index][:, None].repeat(1, self.number_of_classes + 1)
        rows.scatter_(1, torch.where(slot < 0, self.number_of_classes, slot), self.value[index])
        return rows[:, :-1]

    def advance(self, index: Tensor, *, labels: Tensor, predicted: Tensor, rate: float, keep: Tensor) -> None:
        """One step for the rows `index`, but where `keep`: wrong classes `predicted` grow, all others decay."""
        slot, value, rest = self.slot[index], self.value[index], self.rest[index]
        wrong = predicted != labels
        hit = (slot == predicted[:, None]) & wrong[:, None]
        missing = wrong & ~hit.any(1)
        # The slot to fill: an empty one, or else the smallest.
        place = torch.where(slot < 0, -1.0, value.abs()).argmin(1)
        filled = (torch.arange(slot.shape[1], device=slot.device) == place[:, None]) & missing[:, None]
        entering = grown(rest, torch.ones_like(rest), rate)
        new_value = torch.where(filled, entering[:, None], grown(value, hit.to(value), rate))
        new_slot = torch.where(filled, predicted[:, None].to(slot.dtype), slot)
        held = keep[:, None]
        self.value.index_copy_(0, index, torch.where(held, value, new_value))
        self.slot.index_copy_(0, index, torch.where(held, slot, new_slot))
        self.rest.index_copy_(0, index, torch.where(keep, rest, grown(rest, torch.zeros_like(rest), rate)))

    def mass(self, labels: Tensor) -> Tensor:
        """Sum over the classes other than the label of min(v^2, 1), for all N samples: (N,)."""
        others = self.number_of_classes - 1 - (self.slot >= 0).sum(1)
        return (self.value**2).clamp_(max=1).sum(1) + others * (self.rest**2).clamp_(max=1)

    def strongest(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Largest mass of a class in a slot, and that class, for all N samples: (N,), (N,); 0 and 0 without one."""
        top = (self.value**2).clamp_(max=1).max(dim=1)
        return top.values, self.slot.gather(1, top.indices[:, None])[:, 0].long().clamp(min=0)


def several_processes() -> bool:
    """Whether torch.distributed runs on more than one rank."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def exchange_rows(tables: list[Tensor], index: Tensor, *, group: dist.ProcessGroup | None = None) -> None:
    """Give the rows `index` of every table to all ranks, in place.

    Every rank passes the rows that it changed, which may be another number on every rank; where several ranks changed
    one row, that of the highest rank stays everywhere. Two collectives, and one wait for the numbers of rows.

    Args:
        tables: Tensors with one row per sample, of the same shapes on all ranks.
        index: (B,), int64, on their device: the rows of this rank.
        group: Process group; the default group when absent.
    """
    columns = [_as_bytes(index), *(_as_bytes(table[index]) for table in tables)]
    own = torch.cat(columns, dim=1)
    size = torch.tensor([len(index)], device=index.device)
    sizes = [torch.empty_like(size) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, size, group=group)
    lengths = torch.cat(sizes).tolist()
    if not any(lengths):
        return
    padded = own.new_zeros(max(lengths), own.shape[1])
    padded[: len(own)] = own
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded, group=group)
    widths = [part.shape[1] for part in columns]
    for rows, length in zip(gathered, lengths, strict=True):
        places, *values = rows[:length].split(widths, dim=1)
        places = places.clone().view(torch.int64)[:, 0]
        for table, value in zip(tables, values, strict=True):
            table.index_copy_(0, places, value.clone().view(table.dtype).view(length, *table.shape[1:]))


def _as_bytes(rows: Tensor) -> Tensor:
    """Rows (B,) or (B, k) as bytes (B, bytes of a row), also for B = 0."""
    return (rows if rows.ndim == 2 else rows[:, None]).contiguous().view(torch.uint8)
