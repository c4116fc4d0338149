"""Anchored sums: the arrays behind `ClassMoments` and the arithmetic that keeps their digits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.linalg import add_gram, mirrored, strips

# A class moves its anchor when |T|^2/n exceeds this share of sum |r|^2. One sample as anchor gives 1/2 on average, so
# stationary data never pay for a move; ClassMoments states the bound that follows.
DRIFT = 0.625
# Rows are taken in blocks of about this many elements: many rows to a matrix product, and temporaries of a few MB ...
BLOCK = 1 << 22
# ... or, where there is no product, few enough to stay in the processor's cache.
CACHED = 1 << 19
# Squares of float32 that are smaller than this on average lose digits to denormal numbers.
UNDERFLOW = 1e-30


@dataclass
class AnchoredSums:
    """Sums of residuals r = h - a_k about one anchor per class.

    Args:
        anchor: a_k, (k, d), in the precision of the features.
        offset: T_k = sum r, (k, d).
        square: sum |r|^2, (k,).
        gram: sum r r^T over all classes, (d, d), kept up in its upper block triangle only; None where only traces
            are kept.
        count: n_k, (k,), int64.
        checked: n_k when the drift of class k was last looked at, (k,), int64.
    """

    anchor: Tensor
    offset: Tensor
    square: Tensor
    gram: Tensor | None
    count: Tensor
    checked: Tensor

    @classmethod
    def zeros(cls, classes: int, dimension: int, *, like: Tensor, dtype: torch.dtype, full: bool) -> AnchoredSums:
        """Sums of no sample, with anchors of the type and on the device of `like`."""
        count = torch.zeros(classes, dtype=torch.int64, device=like.device)
        return cls(
            anchor=like.new_zeros(classes, dimension),
            offset=like.new_zeros(classes, dimension, dtype=dtype),
            square=like.new_zeros(classes, dtype=dtype),
            gram=like.new_zeros(dimension, dimension, dtype=dtype) if full else None,
            count=count,
            checked=count.clone(),
        )

    def consistent(self, classes: int) -> bool:
        """Whether the arrays have the shapes that belong together."""
        dimension = self.anchor.shape[-1]
        per_class = (self.square, self.count, self.checked)
        return (
            self.anchor.shape == self.offset.shape == (classes, dimension)
            and all(array.shape == (classes,) for array in per_class)
            and (self.gram is None or self.gram.shape == (dimension, dimension))
        )

    def mean_rows(self, start: int, stop: int) -> Tensor:
        """Means of classes start..stop-1; zero for a class without samples."""
        count = self.count[start:stop].clamp(min=1).to(self.offset)
        return (self.offset[start:stop] / count[:, None]).add_(self.anchor[start:stop])

    def scatter(self) -> Tensor:
        """Within-class scatter: sum r r^T - sum_k T_k T_k^T / n_k."""
        total = self.gram.clone()
        for block in self._scaled_offsets():
            add_gram(total, block, sign=-1)
        return mirrored(total)

    def scatter_times(self, columns: Tensor) -> Tensor:
        """Scatter times a (d, r) matrix without forming the scatter; reads each stored number once."""
        product = torch.zeros_like(columns)
        for block in self._scaled_offsets():
            product.addmm_(block.T, block @ columns, alpha=-1)
        for start, stop in strips(len(self.gram)):
            strip = self.gram[start:stop, start:]
            product[start:stop].addmm_(strip, columns[start:])
            product[stop:].addmm_(strip[:, stop - start :].T, columns[start:stop])
        return product

    def _scaled_offsets(self) -> Iterator[Tensor]:
        """T_k / sqrt(n_k), in blocks of classes."""
        root = self.count.clamp(min=1).to(self.offset).sqrt()
        for start, stop in blocks(*self.offset.shape):
            yield self.offset[start:stop] / root[start:stop, None]

    def within(self) -> Tensor:
        """Trace of each class's scatter; rounding never makes it negative."""
        shift = torch.cat([block.square().sum(dim=1) for block in self._scaled_offsets()])
        return (self.square - shift).clamp_(min=0)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add finite rows with valid labels."""
        if features.dtype == torch.float64:
            self.anchor = self.anchor.double()
        for start, stop in blocks(*features.shape, size=CACHED if self.gram is None else BLOCK):
            self._add_block(features[start:stop].to(self.anchor.dtype), labels[start:stop])

    def absorb(self, other: AnchoredSums) -> None:
        """Add another's samples: its centred scatter, plus its means as seen from the anchors of self."""
        if self.gram is not None:
            self.gram.add_(other.scatter())
        self.square.add_(other.within())
        for start, stop in blocks(*self.anchor.shape):
            self.absorb_means(slice(start, stop), other.mean_rows(start, stop), other.count[start:stop])
        self.recentre()

    def absorb_means(self, rows: slice, mean: Tensor, count: Tensor) -> None:
        """Add `count` samples that all sit at `mean`, for the classes in `rows`."""
        fresh = (self.count[rows] == 0) & (count > 0)
        self.anchor[rows] = torch.where(fresh[:, None], mean.to(self.anchor), self.anchor[rows])
        weight = count.to(mean)[:, None]
        delta = torch.where(weight > 0, mean - self.anchor[rows], 0.0)
        self.offset[rows] += weight * delta
        self.square[rows] += weight[:, 0] * torch.linalg.vecdot(delta, delta)
        self.count[rows] += count
        if self.gram is not None:
            add_gram(self.gram, delta.mul_(weight.sqrt()))

    def about(self, anchor: Tensor) -> None:
        """Express the sums about other anchors (k, d); sums about the same anchors simply add."""
        index = self.count.nonzero().squeeze(1)
        for start, stop in blocks(len(index), self.anchor.shape[1]):
            part = index[start:stop]
            self._move_anchors(part, anchor[part])
        self.anchor.copy_(anchor)

    def recentre(self) -> None:
        """After merges: anchors return to the means that have left them."""
        index = (self.count > 0).nonzero().squeeze(1)
        for start, stop in blocks(len(index), self.anchor.shape[1]):
            part = index[start:stop]
            count, offset = self.count[part].to(self.offset), self.offset[part]
            left = torch.linalg.vecdot(offset, offset) > DRIFT * self.square[part] * count
            if bool(left.any()):
                self._move_anchors(part[left], self.anchor[part[left]] + offset[left] / count[left, None])
        self.checked.copy_(self.count)

    def _add_block(self, features: Tensor, labels: Tensor) -> None:
        self._anchor_new_classes(features, labels)
        residual, energy = self._residuals(features, labels)
        if self._follow_drift(residual, energy, labels):
            residual, energy = self._residuals(features, labels)
        self.count.index_add_(0, labels, torch.ones_like(labels))
        self._add_offsets(residual, labels)
        self.square.index_add_(0, labels, energy)
        if self.gram is not None:
            add_gram(self.gram, residual)

    def _add_offsets(self, residual: Tensor, labels: Tensor) -> None:
        if 4 * len(self.count) > len(labels):
            self.offset.index_add_(0, labels, residual.to(self.offset))
        else:  # few classes: sum the block in its own precision, convert K rows instead of n
            self.offset.add_(residual.new_zeros(self.anchor.shape).index_add_(0, labels, residual))

    def _residuals(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals and their squared norms; in float64 where the squares of float32 overflow or underflow."""
        residual = self.anchor.index_select(0, labels).neg_().add_(features)
        energy = torch.linalg.vecdot(residual, residual)
        least = UNDERFLOW * residual.numel() if energy.dtype == torch.float32 else 0.0
        if not least <= float(energy.sum()) < math.inf:
            residual = features.double() - self.anchor.index_select(0, labels)
            energy = torch.linalg.vecdot(residual, residual)
        return residual, energy.to(self.square)

    def _follow_drift(self, residual: Tensor, energy: Tensor, labels: Tensor) -> bool:
        """Move anchors that this block would leave behind, looking at classes whose count it doubles.

        Looking before the block is added keeps a jump of the data out of the float32 product.
        """
        count = self.count + torch.bincount(labels, minlength=len(self.count))
        due = (self.count > 0) & (count >= 2 * self.checked) & (count > self.count)
        index = due.nonzero().squeeze(1)
        if not len(index):
            return False
        self.checked[index] = count[index]
        position = due.cumsum(0) - 1
        rows = due[labels]
        target = position[labels[rows]]
        offset = self.offset[index].index_add_(0, target, residual[rows].to(self.offset))
        square = self.square[index].index_add_(0, target, energy[rows])
        total = count[index].to(self.offset)
        left = torch.linalg.vecdot(offset, offset) > DRIFT * square * total
        if not bool(left.any()):
            return False
        index = index[left]
        self._move_anchors(index, self.anchor[index] + offset[left] / total[left, None])
        return True

    def _anchor_new_classes(self, features: Tensor, labels: Tensor) -> None:
        new = self.count[labels] == 0
        if not bool(new.any()):
            return
        if not bool(new.all()):
            features, labels = features[new], labels[new]
        classes, inverse, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
        sums = features.new_zeros(len(classes), features.shape[1]).index_add_(0, inverse, features)
        anchors = sums / sizes[:, None]
        # The sum of huge finite features may overflow; any point near the class will do as its anchor.
        self.anchor[classes] = torch.where(torch.isfinite(anchors), anchors, anchors.new_zeros(()))

    def _move_anchors(self, index: Tensor, target: Tensor) -> None:
        """Put the anchors of these classes at `target` and express their sums about it."""
        count = self.count[index].to(self.offset)[:, None]
        old, anchor = self.offset[index], target.to(self.anchor)
        new = old + count * (self.anchor[index].to(old) - anchor)
        self.anchor[index], self.offset[index] = anchor, new
        old, new = old / count.sqrt(), new / count.sqrt()
        self.square[index] += torch.linalg.vecdot(new, new) - torch.linalg.vecdot(old, old)
        if self.gram is not None:
            add_gram(add_gram(self.gram, old, sign=-1), new)


def blocks(rows: int, columns: int, *, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Row ranges (start, stop) that hold about `size` elements each."""
    step = max(1, size // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
