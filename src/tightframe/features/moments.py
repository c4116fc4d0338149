"""`ClassMoments`: counts, means and within-class scatter of labelled features in one mergeable pass."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from tightframe.core.checks import check_count, check_features, check_finite, check_labels, check_same_device, kept_rows
from tightframe.core.errors import InputError
from tightframe.core.precision import full_precision
from tightframe.core.typing import ClassCounts, ClassMeans, ClassVector, Square
from tightframe.features.anchored import AnchoredSums
from tightframe.features.collective import all_reduce_sums

Mode = Literal["full", "trace"]


class ClassMoments:
    r"""One-pass, mergeable class moments of features h with labels y.

    .. math::
        n_k, \qquad \mu_k = \tfrac1{n_k}\sum_{i: y_i = k} h_i, \qquad
        S = \sum_k \sum_{i: y_i = k} (h_i - \mu_k)(h_i - \mu_k)^\top, \qquad t_k = \sum_{i:y_i=k} \|h_i-\mu_k\|^2

    Each class keeps an anchor a_k near its mean. A batch is stored as residuals r = h - a_k: one GEMM adds
    sum r r^T, and T_k = sum r is kept beside it, so that S = sum r r^T - sum_k T_k T_k^T / n_k. The difference of
    nearby floating-point numbers is exact, so nothing is lost where means are large and spreads small (raw second
    moments, the special case a_k = 0, lose everything there). Whenever a batch doubles the count of a class, its
    anchor moves to its mean if |T_k|^2 / n_k would exceed 5/8 of sum |r|^2. By (a + b)^2 / 2 <= (1 + c)/2 (a^2/c + b^2)
    the subtracted term then stays below 13/16 of what it is subtracted from, in whatever order the data come: at
    most 2.5 bits are ever lost.

    The state is float64, or float32 on a device without float64 (Apple MPS), where NC1 keeps a relative error below
    1e-6 up to a million samples (benchmarks/results/accuracy.md); `dtype` chooses explicitly. The GEMM runs in float64
    for float64 features, else in float32 (TF32 and autocast are switched off around it).

    Args:
        classes: Number K of classes, at least 2.
        mode: "full" keeps S (d x d) and serves every metric; "trace" keeps only the K traces t_k, for layers so
            wide that d x d does not fit.
        ignore_index: Rows with this label are left out, as in torch.nn.CrossEntropyLoss; None for no such label.
        dtype: Type of the state; None for the rule above.

    Raises:
        InputError: Fewer than two classes or an unknown mode.

    Example:
        >>> import torch
        >>> moments = ClassMoments(classes=2)
        >>> moments.update(torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0]]), torch.tensor([0, 0, 1]))
        >>> moments.mean.tolist(), moments.scatter.tolist()
        ([[1.0, 1.0], [5.0, 5.0]], [[2.0, 0.0], [0.0, 0.0]])

    Reference: [chan1983algorithms], equation 2.1, the pairwise update.
    """

    def __init__(
        self,
        classes: int,
        mode: Mode = "full",
        *,
        ignore_index: int | None = -100,
        dtype: torch.dtype | None = None,
    ) -> None:
        if mode not in ("full", "trace"):
            raise InputError('mode is "full" or "trace"', got=repr(mode), remedy="Use one of the two.")
        self.classes: int = check_count(classes, "classes", least=2)
        self.mode: Mode = mode
        self.ignore_index = ignore_index
        self._dtype = dtype
        self._batches = 0
        self._sums: AnchoredSums | None = None

    @classmethod
    @torch.inference_mode(False)
    def from_statistics(
        cls, count: Tensor, mean: Tensor, *, within: Tensor, scatter: Tensor | None = None
    ) -> ClassMoments:
        """Moments from known counts (k,), means (k, d), traces (k,) and, for mode "full", the scatter (d, d)."""
        moments = cls(len(count), "trace" if scatter is None else "full", dtype=mean.dtype)
        count = count.long()
        moments._sums = AnchoredSums(
            anchor=mean.clone(),
            offset=torch.zeros_like(mean),
            square=within.clone(),
            gram=None if scatter is None else scatter.clone(),
            count=count.clone(),
            checked=count.clone(),
        )
        return moments

    @property
    def features(self) -> int:
        """Feature dimension d."""
        return self._state.anchor.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the state."""
        return self._state.anchor.device

    @property
    def total(self) -> int:
        """Number N of samples counted so far."""
        return 0 if self._sums is None else int(self._sums.count.sum())

    @property
    def count(self) -> ClassCounts:
        """Samples per class n_k (k,), int64."""
        return self._state.count

    @property
    def mean(self) -> ClassMeans:
        """Class means (k, d); the row of a class without samples is zero."""
        return self._state.mean_rows(0, self.classes)

    @property
    def scatter(self) -> Square:
        """Within-class scatter S (d, d), not divided by N; needs mode "full"."""
        self._check_full()
        return self._state.scatter()

    def scatter_times(self, columns: Tensor) -> Tensor:
        """S times a (d, r) matrix of the state's type, without forming S; needs mode "full"."""
        self._check_full()
        return self._state.scatter_times(columns)

    @property
    def within(self) -> ClassVector:
        """Traces t_k of the within-class scatter (k,), not divided by n_k; never negative."""
        return self._state.within()

    def mean_rows(self, start: int, stop: int) -> ClassMeans:
        """Means of classes start..stop-1, for callers that walk over many classes in blocks."""
        return self._state.mean_rows(start, stop)

    def to(self, device: torch.device | str) -> ClassMoments:
        """Move the state to `device`, in place."""
        for name, value in self._tensors().items():
            setattr(self._sums, name, value.to(device))
        return self

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            features: (n, d), floating point of any precision; any n, contiguous or not.
            labels: (n,) integers in [0, classes), or `ignore_index`.

        Raises:
            InputError: Wrong shapes, types or devices, labels out of range, NaN or inf (batch and row are named).
                The state is then as it was before the call.
        """
        features, labels = self.checked(features, labels)
        if len(labels):
            with full_precision(features.device):
                self._allocated(features).add(features, labels)
        self._batches += 1

    @torch.no_grad()
    def checked(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The rows and labels that `update` would add; raises what it would raise, and changes nothing."""
        features = check_features(features)
        labels = check_labels(labels, features.shape[0], self.classes, ignore_index=self.ignore_index)
        check_same_device(features, labels, "features and labels")
        check_finite(features, labels, batch=self._batches, ignore_index=self.ignore_index)
        if self._sums is not None:
            self._check_alike(features.shape[1], features.device)
        return kept_rows(features, labels, self.ignore_index)

    @torch.no_grad()
    def merge(self, other: ClassMoments) -> ClassMoments:
        r"""Add the samples of `other`, which is left unchanged, by Chan's rule, and return self.

        .. math:: S = S_a + S_b + \sum_k \tfrac{n_a n_b}{n_a+n_b} \delta_k\delta_k^\top, \quad \delta_k=\mu_k^b-\mu_k^a

        Associative and order-free up to rounding.

        Raises:
            InputError: The two differ in classes, dimension, mode or device.
        """
        if (self.classes, self.mode) != (other.classes, other.mode):
            raise InputError(
                f"moments of classes={self.classes}, mode={self.mode!r}",
                got=f"classes={other.classes}, mode={other.mode!r}",
                remedy="Build all parts with the same arguments.",
            )
        if other._sums is not None:
            if self._sums is not None:
                self._check_alike(other.features, other.device)
            with full_precision(other.device):
                self._allocated(other._sums.anchor).absorb(other._sums)
        self._batches += other._batches
        return self

    @torch.no_grad()
    def all_reduce(self, group: Any = None, *, device: torch.device | str | None = None) -> ClassMoments:
        """Make this object hold the samples of all ranks of a torch.distributed process group; return self.

        Two all-reduces, 2 K (d + 1) + d (d + 1) / 2 numbers for any number of ranks, and seven integers by which these
        agree on shapes. Equal to the single-process moments up to rounding however the samples are spread, also over
        ranks without any. Call it once, when all batches are in: a second call would count every sample again.

        Args:
            group: Process group; None for the default one. Without an initialised group nothing happens.
            device: Where a rank without samples puts its part; needed only for backends without CPU tensors.

        Raises:
            InputError: The ranks differ in classes, mode or dimension (raised on every rank).
        """
        if dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1:
            where = torch.device(device or "cpu") if self._sums is None else self.device
            dtype = self._dtype or torch.float64
            with full_precision(where):
                self._sums = all_reduce_sums(
                    self._sums,
                    classes=self.classes,
                    full=self.mode == "full",
                    device=where,
                    dtype=dtype,
                    group=group,
                )
        return self

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly where this object stands: tensors and plain numbers."""
        meta = {"version": 1, "classes": self.classes, "mode": self.mode, "batches": self._batches}
        return meta | {name: value.clone() for name, value in self._tensors().items()}

    @torch.inference_mode(False)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the restored object goes on bit for bit.

        Raises:
            InputError: The state is of other classes or another mode, or incomplete.
        """
        expected = {"version": 1, "classes": self.classes, "mode": self.mode}
        got = {key: state.get(key) for key in expected}
        names = [entry.name for entry in fields(AnchoredSums)]
        missing = [n for n in names if "anchor" in state and n not in state and (n != "gram" or self.mode == "full")]
        if got != expected or missing:
            raise InputError(
                f"a state of ClassMoments with {expected}",
                got=f"{got}" + (f" without {missing}" if missing else ""),
                remedy="Load it into an object built with the same classes and mode.",
            )
        tensors = {name: state[name].clone() if name in state else None for name in names}
        sums = AnchoredSums(**tensors) if "anchor" in state else None
        if sums is not None and not sums.consistent(self.classes):
            raise InputError(
                "a state whose arrays fit each other",
                got=f"shapes { {name: tuple(v.shape) for name, v in tensors.items() if v is not None} }",
                remedy="Take the state of state_dict() unchanged.",
            )
        self._sums, self._batches = sums, int(state.get("batches", 0))

    @property
    def _state(self) -> AnchoredSums:
        if self._sums is None:
            raise InputError(
                "moments of at least one sample",
                got="none yet",
                remedy="Call update(features, labels) first.",
            )
        return self._sums

    def _check_full(self) -> None:
        if self._state.gram is None:
            raise InputError(
                'the scatter matrix needs ClassMoments(mode="full")',
                got='mode="trace"',
                remedy="Use metrics of traces, or WideVariability with a second pass over the features.",
            )

    def _tensors(self) -> dict[str, Tensor]:
        if self._sums is None:
            return {}
        values = {entry.name: getattr(self._sums, entry.name) for entry in fields(AnchoredSums)}
        return {name: value for name, value in values.items() if value is not None}

    def _allocated(self, like: Tensor) -> AnchoredSums:
        if self._sums is None:
            dtype = self._dtype or (torch.float32 if like.device.type == "mps" else torch.float64)
            self._sums = AnchoredSums.zeros(
                self.classes, like.shape[1], like=like, dtype=dtype, full=self.mode == "full"
            )
        return self._sums

    def _check_alike(self, dimension: int, device: torch.device) -> None:
        if (dimension, device) != (self.features, self.device):
            raise InputError(
                f"features of dimension {self.features} on {self.device}, as before",
                got=f"dimension {dimension} on {device}",
                remedy="Use one ClassMoments per layer, and .to(device) to move one.",
            )
