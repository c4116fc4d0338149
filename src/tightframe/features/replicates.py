"""`GroupedMoments`: moments kept in a few random-like groups, so that they can be resampled without the data."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.features.moments import ClassMoments, Mode


class GroupedMoments:
    """Class moments of G equal shares of the rows: the raw material of a bootstrap without a second pass.

    Row j of class k goes to group (j + k) mod G, which spreads every class evenly over the groups in whatever order
    the data come. Merged, the groups are the moments of all rows. Resampling draws G groups with replacement.

    Args:
        classes: Number K of classes.
        mode: As for ClassMoments; memory is G times that of one.
        groups: G, at least 2.
        ignore_index: As for ClassMoments.
    """

    def __init__(self, classes: int, mode: Mode = "full", *, groups: int = 16, ignore_index: int | None = -100) -> None:
        check_count(groups, "groups", least=2)
        self.groups: list[ClassMoments] = [
            ClassMoments(classes, mode, ignore_index=ignore_index) for _ in range(groups)
        ]
        self._seen = torch.zeros(classes, dtype=torch.int64)

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch; see ClassMoments.update."""
        begun = next((group for group in self.groups if group.total), self.groups[0])
        features, labels = begun.checked(features, labels)
        self._seen = self._seen.to(labels.device)
        sizes = torch.bincount(labels, minlength=len(self._seen))
        order = labels.argsort(stable=True)
        classes = labels[order]
        place = torch.arange(len(labels), device=labels.device) - (sizes.cumsum(0) - sizes)[classes]
        share = (self._seen[classes] + place + classes) % len(self.groups)
        for index, group in enumerate(self.groups):
            rows = order[share == index]
            group.update(features[rows], labels[rows])
        self._seen = self._seen + sizes

    def total(self) -> ClassMoments:
        """Moments of all rows."""
        first = self.groups[0]
        merged = ClassMoments(first.classes, first.mode, ignore_index=first.ignore_index)
        for group in self.groups:
            merged.merge(group)
        return merged

    @property
    def complete(self) -> bool:
        """Whether every class that occurs does so in every group, so that no replicate misses one."""
        if not all(group.total for group in self.groups):
            return False
        counts = torch.stack([group.count for group in self.groups])
        return bool(((counts > 0) == (counts.sum(0) > 0)).all())

    def all_reduce(self, group: object = None) -> GroupedMoments:
        """Group g of all ranks becomes one; see ClassMoments.all_reduce."""
        for moments in self.groups:
            moments.all_reduce(group)
        return self

    @torch.no_grad()
    def resample(self, generator: torch.Generator) -> ClassMoments:
        """Moments of G groups drawn with replacement.

        Raises:
            InputError: A group is empty: fewer rows than groups.
        """
        if any(group.total == 0 for group in self.groups):
            raise InputError(
                f"at least {len(self.groups)} rows, one per group",
                got=f"{sum(group.total for group in self.groups)}",
                remedy="Use fewer groups or more data.",
            )
        drawn = torch.randint(len(self.groups), (len(self.groups),), generator=generator)
        times = torch.bincount(drawn, minlength=len(self.groups))
        parts = [(self.groups[g], int(t)) for g, t in enumerate(times.tolist()) if t]
        count = sum(t * m.count for m, t in parts)
        weight = count.clamp(min=1).to(parts[0][0].within)[:, None]
        mean = sum((t * m.count)[:, None] / weight * m.mean for m, t in parts)
        within, scatter = torch.zeros_like(weight[:, 0]), None
        if parts[0][0].mode == "full":
            scatter = mean.new_zeros(mean.shape[1], mean.shape[1])
        for moments, t in parts:
            delta = (moments.mean - mean) * (t * moments.count)[:, None].to(mean).sqrt()
            within += t * moments.within + delta.square().sum(1)
            if scatter is not None:
                scatter.add_(moments.scatter, alpha=t).addmm_(delta.T, delta)
        return ClassMoments.from_statistics(count, mean, within=within, scatter=scatter)
