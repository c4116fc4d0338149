"""`CentredMeans`: the class means about the global mean, walked over in blocks of classes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from tightframe.core import linalg
from tightframe.core.errors import InputError
from tightframe.core.typing import ClassMeans, ClassVector, Square
from tightframe.features.moments import ClassMoments

# Up to this many classes a K x K matrix is formed; beyond, the d x d identities are used.
DENSE = 4096
# Rows are walked over in blocks of this many elements, 4 MB of float64, which stay in the cache; of up to eight times
# as many where features are wide, for adding up a d x d product would else take longer than making it.
_BLOCK = 1 << 19

Centre = Literal["sample", "class"]
Absent = Literal["error", "drop"]


class CentredMeans:
    r"""Rows c_k = mu_k - mu_G in float64, block by block, so that K x d need not be held twice.

    .. math:: \mu_G = \sum_k \tfrac{n_k}{N}\mu_k \ \text{(sample)}, \qquad \mu_G = \tfrac1K\sum_k \mu_k \ \text{(class)}

    Args:
        moments: Class moments.
        centre: Which global mean.
        absent: A class without samples has no mean: "error" refuses, "drop" leaves such classes out of K.

    Raises:
        InputError: A class has no sample (with absent="error"), or fewer than two classes have.
    """

    def __init__(self, moments: ClassMoments, *, centre: Centre = "sample", absent: Absent = "error") -> None:
        if absent not in ("error", "drop") or centre not in ("sample", "class"):
            raise InputError(
                'absent is "error" or "drop" and centre is "sample" or "class"',
                got=f"absent={absent!r}, centre={centre!r}",
                remedy="Use one of the two for each.",
            )
        if moments.device.type == "mps":  # no float64 there
            moments = copy.deepcopy(moments).to("cpu")
        present = moments.count > 0
        self.index: Tensor = present.nonzero().squeeze(1)
        missing = (~present).nonzero().squeeze(1)
        if len(missing) and absent == "error":
            shown = ", ".join(map(str, missing[:8].tolist())) + (", ..." if len(missing) > 8 else "")
            raise InputError(
                f"samples of all {moments.classes} classes",
                got=f"none of {len(missing)} of them (class {shown})",
                remedy='Measure on data that has every class, or pass absent="drop" to leave these classes out.',
            )
        if len(self.index) < 2:
            raise InputError(
                "samples of at least two classes",
                got=f"samples of {len(self.index)}",
                remedy="Collapse is a relation between classes; measure on data that has more of them.",
            )
        self.moments = moments
        self.classes: int = len(self.index)
        self.features: int = moments.features
        self.count: ClassVector = moments.count[self.index].double()
        self.total: float = float(self.count.sum())
        self.centre: Centre = centre
        self.absent: Absent = absent
        self._complete = self.classes == moments.classes

    @property
    def weights(self) -> ClassVector:
        """Weights of the classes in the global mean: n_k/N or 1/K."""
        return self.count / self.total if self.centre == "sample" else torch.full_like(self.count, 1 / self.classes)

    @cached_property
    def origin(self) -> Tensor:
        """Global mean mu_G (d,), summed about the first class mean so that a common offset costs no digits."""
        first = self._rows(0, 1)[0]
        total = torch.zeros_like(first)
        for start, stop in self.ranges():
            total += self.weights[start:stop] @ self._rows(start, stop).sub_(first)
        return first + total

    def rows(self, start: int, stop: int) -> ClassMeans:
        """Centred means of classes start..stop-1 (among those present)."""
        return self._rows(start, stop).sub_(self.origin)

    @cached_property
    def all(self) -> ClassMeans:
        """All centred means at once (k, d)."""
        return self.rows(0, self.classes)

    @cached_property
    def gram(self) -> Tensor:
        """Inner products <c_i, c_j> (k, k), for a number of classes that allows it."""
        return linalg.gram(self.all.T)

    def uncentred(self, start: int, stop: int) -> ClassMeans:
        """Means mu_k of classes start..stop-1."""
        return self._rows(start, stop)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Ranges of classes that make a block."""
        step = max(1, _BLOCK // self.features, min(self.features // 4, 8 * _BLOCK // self.features))
        for start in range(0, self.classes, step):
            yield start, min(start + step, self.classes)

    @cached_property
    def norms(self) -> ClassVector:
        """Norms |c_k| (k,)."""
        norms = torch.empty_like(self.count)
        for start, stop in self.ranges():
            norms[start:stop] = torch.linalg.vector_norm(self.rows(start, stop), dim=1)
        return norms

    @cached_property
    def within(self) -> ClassVector:
        """Mean square distance of a sample from its class mean, V_k = t_k / n_k (k,)."""
        return self.moments.within[self.index].double() / self.count

    def scatter_times(self, columns: Tensor) -> Tensor:
        """S times a (d, r) matrix, in float64; needs moments in mode "full"."""
        # Without S the product takes 4 K d r operations more; forming S takes 1.2 K d^2.
        if "scatter" in self.__dict__ or 3 * columns.shape[1] > self.features:
            return self.scatter @ columns
        return self.moments.scatter_times(columns.to(self.moments.within.dtype)).double()

    @cached_property
    def scatter(self) -> Square:
        """Within-class scatter S (d, d) in float64; needs moments in mode "full"."""
        return self.moments.scatter.double()

    def _rows(self, start: int, stop: int) -> ClassMeans:
        """Means of classes start..stop-1 among those present, newly made: callers may write to them."""
        if self._complete:
            return self.moments.mean_rows(start, stop).double()
        index = self.index[start:stop]
        low, high = int(index[0]), int(index[-1]) + 1
        return self.moments.mean_rows(low, high)[index - low].double()


def as_means(
    source: ClassMoments | CentredMeans, *, centre: Centre = "sample", absent: Absent = "error"
) -> CentredMeans:
    """Centred means of moments; given ones are used again where they have this centre."""
    if isinstance(source, CentredMeans):
        if source.centre == centre:
            return source
        source, absent = source.moments, source.absent
    return CentredMeans(source, centre=centre, absent=absent)
