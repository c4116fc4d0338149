"""`ClassSpread`: counts, means and second moments of labelled features, all in groups that can be drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tightframe.collapse.means import Absent, CentredMeans
from tightframe.core.typing import ClassMeans, ClassVector, Features, Float, Labels, Square
from tightframe.features.moments import ClassMoments
from tightframe.features.replicates import GroupedMoments

# The second moments of every class in every group are kept up to this many numbers (1 GB of float64).
MOST_KEPT = 1 << 27


@dataclass(frozen=True)
class ClassSpread:
    r"""What the transferability scores are functions of, in float64, for the classes that have samples.

    .. math:: A = [\sqrt{n_k}\,(\mu_k - \mu)]_k, \qquad T = S + A A^\top, \qquad F^\top F = T + N \mu\mu^\top

    Args:
        count: n_k (k,), above zero.
        mean: Class means mu_k (k, d).
        scatter: Within-class scatter S (d, d).
        scatters: That of each class S_k (k, d, d), or None.
        quartic: Sum of |h - mu|^4 over the samples, or None.
    """

    count: ClassVector
    mean: ClassMeans
    scatter: Square
    scatters: Float[Tensor, "k d d"] | None = None
    quartic: float | None = None

    @property
    def total(self) -> float:
        """Number N of samples."""
        return float(self.count.sum())

    @cached_property
    def origin(self) -> Float[Tensor, " d"]:
        """Global mean mu, summed about the first class mean so that a common offset costs no digits."""
        first = self.mean[0]
        return first + self.count @ (self.mean - first) / self.count.sum()

    @cached_property
    def between(self) -> Float[Tensor, "d k"]:
        """A (d, k), a factor of the between-class scatter."""
        return ((self.mean - self.origin) * self.count.sqrt()[:, None]).T

    @cached_property
    def covariance(self) -> Square:
        """Total scatter T (d, d), not divided by N."""
        return torch.addmm(self.scatter, self.between, self.between.T)

    @cached_property
    def product(self) -> Square:
        """F^T F (d, d)."""
        return torch.addmm(self.covariance, self.origin[:, None] * self.total, self.origin[None])

    def moments(self) -> ClassMoments:
        """As class moments; the traces of single classes, which NC1 does not read, are shares of the whole."""
        within = self.scatter.trace() * self.count / self.total
        return ClassMoments.from_statistics(self.count, self.mean, within=within, scatter=self.scatter)


@dataclass(frozen=True)
class GroupedSpread:
    """A ClassSpread in G parts, which merge to that of all rows or, drawn with replacement, to that of a replicate.

    Args:
        count: (g, k).
        mean: (g, k, d).
        scatter: (g, d, d).
        scatters: (g, k, d, d), or None.
        tails: Sums of |r|^4 and of |r|^2 r, (g, 1 + d), with r = h - `pivot`; or None.
        pivot: A point near the global mean (d,).
    """

    count: Float[Tensor, "g k"]
    mean: Float[Tensor, "g k d"]
    scatter: Float[Tensor, "g d d"]
    scatters: Float[Tensor, "g k d d"] | None
    tails: Float[Tensor, "g e"] | None
    pivot: Float[Tensor, " d"] | None

    @property
    def groups(self) -> int:
        """Number G of parts."""
        return len(self.count)

    @property
    def complete(self) -> bool:
        """Whether there are several parts, and every class is in each of them, so that no replicate misses one."""
        return self.groups > 1 and bool((self.count > 0).all())

    def merged(self, times: Float[Tensor, " g"] | None = None) -> ClassSpread:
        """Each part as often as `times` says, or once."""
        times = torch.ones_like(self.count[:, 0]) if times is None else times.to(self.count)
        weights = times[:, None] * self.count
        count = weights.sum(0)
        mean = (weights[..., None] * self.mean).sum(0) / count[:, None]
        delta = (self.mean - mean) * weights.sqrt()[..., None]
        if self.scatters is None:
            rows = delta.flatten(0, 1)
            scatter, scatters = torch.addmm(torch.tensordot(times, self.scatter, 1), rows.T, rows), None
        else:
            scatters = torch.einsum("gkd,gke->kde", delta, delta) + torch.tensordot(times, self.scatters, 1)
            scatter = scatters.sum(0)
        spread = ClassSpread(count, mean, scatter, scatters)
        return spread if self.tails is None else _with_quartic(spread, times @ self.tails, self.pivot)


def spread_of(moments: ClassMoments | GroupedMoments, *, absent: Absent = "error") -> GroupedSpread:
    """The statistics of class moments; those of single classes are not among them."""
    parts = moments.groups if isinstance(moments, GroupedMoments) else [moments]
    parts = [part for part in parts if part.total]
    whole = moments.total() if isinstance(moments, GroupedMoments) else moments
    present = CentredMeans(whole, absent=absent).index
    return GroupedSpread(
        torch.stack([part.count[present].double() for part in parts]),
        torch.stack([part.mean[present].double() for part in parts]),
        torch.stack([part.scatter.double() for part in parts]),
        *(None, None, None),
    )


def spread_of_rows(features: Features, labels: Labels, *, classes: int, groups: int = 1) -> GroupedSpread:
    """The statistics of rows whose labels are all of 0..classes-1; row j of class k is in group (j + k) mod G.

    The second moments of single classes are kept where there are several groups and they take at most 1 GB.
    """
    count = torch.bincount(labels, minlength=classes)
    order = labels.argsort(stable=True)
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels), device=labels.device) - (count.cumsum(0) - count)[labels[order]]
    share = (rank + labels) % groups
    d = features.shape[1]
    kept = groups > 1 and groups * classes * d * d <= MOST_KEPT
    pivot = features.mean(0, dtype=torch.float64)
    parts = [_part(features[share == g], labels[share == g], classes, kept) for g in range(groups)]
    tails = torch.stack([_tails(features[share == g], pivot) for g in range(groups)])
    count, mean, scatter = (torch.stack(column) for column in list(zip(*parts, strict=True))[:3])
    scatters = torch.stack([part[3] for part in parts]) if kept else None
    return GroupedSpread(count, mean, scatter, scatters, tails, pivot)


def class_rows(features: Features, labels: Labels, classes: int) -> Sequence[Features]:
    """The rows of each class, in order."""
    sizes = torch.bincount(labels, minlength=classes).tolist()
    return features[labels.argsort(stable=True)].split(sizes)


def _part(features: Features, labels: Labels, classes: int, kept: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    d = features.shape[1]
    new = {"dtype": torch.float64, "device": features.device}
    mean, scatter = torch.zeros(classes, d, **new), torch.zeros(d, d, **new)
    scatters = torch.zeros(classes, d, d, **new) if kept else None
    count = torch.bincount(labels, minlength=classes).double()
    for k, rows in enumerate(class_rows(features, labels, classes)):
        if len(rows):
            rows = rows.double()
            mean[k] = rows.mean(0)
            target = scatter if scatters is None else scatters[k]
            target.addmm_((rows - mean[k]).T, rows - mean[k])
    return count, mean, scatter if scatters is None else scatters.sum(0), scatters


def _tails(features: Features, pivot: Tensor) -> Tensor:
    rows = features.double() - pivot
    squares = rows.square().sum(1)
    return torch.cat([squares.square().sum()[None], squares @ rows])


def _with_quartic(spread: ClassSpread, tails: Tensor, pivot: Tensor) -> ClassSpread:
    """Sum of |r - delta|^4, from the sums of |r|^4 and |r|^2 r and the second moments."""
    delta, total = spread.origin - pivot, spread.total
    length = delta @ delta
    spent = spread.covariance.trace()
    # Terms of |r|^2 - 2 <r, delta> + |delta|^2 squared, with sums of r = N delta, of r r^T = T + N delta delta^T.
    quartic = tails[0] - 4 * (tails[1:] @ delta) + 4 * (delta @ spread.covariance @ delta + total * length**2)
    quartic = quartic + 2 * length * (spent + total * length) + total * length**2 - 4 * total * length**2
    return ClassSpread(spread.count, spread.mean, spread.scatter, spread.scatters, float(quartic))
