"""`NeuralCollapse`: the class moments as a torchmetrics Metric."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from tightframe.collapse.evaluate import evaluate_layer
from tightframe.collapse.means import Absent
from tightframe.core.checks import check_count, check_features
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.classifier import bias_of, weight_of
from tightframe.features.moments import ClassMoments, Mode
from tightframe.features.packing import merged, packed, packed_size, unpacked


class NeuralCollapse(Metric):
    """Collapse metrics of features, accumulated over batches, merged over processes.

    In a MetricCollection pass keyword arguments, and every metric takes its own:
    `collection(features=h, preds=logits, target=y)`. The value of `forward` is that of its batch alone: classes that
    the batch lacks and metrics that are undefined on it are left out of it, whatever `absent` and `undefined` say.

    Args:
        classes: Number K of classes.
        features: Dimension d of the features.
        metrics: Names of the metrics, as in a CollapseSummary.
        classifier: The linear layer that reads the features, for NC3 and its kin; it is read in `compute` and stays
            shared when the metric is cloned.
        mode: As for ClassMoments; "trace" for features too wide for a d x d matrix.
        ignore_index: Label of rows to leave out.
        absent: "error" or "drop" classes that never occur.
        undefined: "error", or "omit" metrics that are undefined on the data.
        kwargs: As for every torchmetrics Metric.

    Example:
        >>> import torch
        >>> metric = NeuralCollapse(2, features=2, metrics=["D"])
        >>> metric.update(torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]]), torch.tensor([0, 0, 1]))
        >>> {name: round(float(value), 4) for name, value in metric.compute().items()}
        {'D': 0.0075}
    """

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False

    def __init__(
        self,
        classes: int,
        *,
        features: int,
        metrics: Sequence[str] = ("NC1", "D", "CDNV", "NC2 features"),
        classifier: nn.Module | None = None,
        mode: Mode = "full",
        ignore_index: int | None = -100,
        absent: Absent = "error",
        undefined: Literal["error", "omit"] = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes: int = classes
        self.features: int = check_count(features, "features")
        self.mode = mode
        self.metrics: tuple[str, ...] = tuple(metrics)
        self.absent = absent
        self.undefined = undefined
        self.ignore_index: int | None = ignore_index
        self._head = _Shared(classifier)
        self._single_batch = False
        self._moments = ClassMoments(classes, mode, ignore_index=ignore_index)
        self._shape = {"classes": classes, "features": features, "mode": mode}
        self._size = packed_size(**self._shape)
        none_yet = torch.zeros(self._size, dtype=torch.float64)
        self.add_state("statistics", none_yet, dist_reduce_fx=partial(merged, **self._shape))
        # A layer of two classes, only to refuse what could not be computed later.
        sample = ClassMoments(2, mode)
        sample.update(torch.eye(2), torch.arange(2))
        evaluate_layer(sample, weight=None if classifier is None else torch.eye(2), absent=absent, only=self.metrics)
        if undefined not in ("error", "omit"):
            raise InputError('undefined is "error" or "omit"', got=repr(undefined), remedy="Use one of the two.")

    @property
    def statistics(self) -> Tensor:
        """The state that torchmetrics moves, stores, gathers and merges: all moments as one vector."""
        if not self._moments.total:
            return torch.zeros(self._size, dtype=torch.float64, device=self.device)
        return packed(self._moments)

    @statistics.setter
    def statistics(self, value: Tensor) -> None:
        if value.shape != (self._size,):
            raise InputError(
                f"a state of {self._size} numbers, as of {self._shape}",
                got=f"shape {tuple(value.shape)}",
                remedy="Take the state of a metric built with the same arguments.",
            )
        fresh = not bool(value[: self.classes].any())
        self._moments = ClassMoments(self.classes, self.mode) if fresh else unpacked(value, **self._shape)
        self._moments.ignore_index = self.ignore_index
        self._computed = None  # a value computed before merge_state or load_state_dict holds no longer

    def update(self, features: Tensor, target: Tensor) -> None:
        """Add features (n, d) and class indices (n,); a batch in error changes nothing."""
        if check_features(features).shape[1] != self.features:
            raise InputError(
                f"features of dimension {self.features}",
                got=f"dimension {features.shape[1]}",
                remedy="Pass what enters the classifier, or build the metric with features= of this width.",
            )
        self._moments.update(features, target)

    def compute(self) -> dict[str, Tensor]:
        """Scalars by name of the metric.

        Raises:
            InputError: No sample, or a class that never occurred (with absent="error").
            DegenerateError: A metric that is undefined on the data (with undefined="error").
        """
        head = self._head.module
        if self._single_batch and int((self._moments.count > 0).sum()) < 2:
            return {}
        layer = evaluate_layer(
            self._moments,
            weight=None if head is None else weight_of(head),
            bias=None if head is None else bias_of(head),
            absent="drop" if self._single_batch else self.absent,
            only=self.metrics,
        )
        undefined = {name: m.note for name, m in layer.measurements.items() if m.value is None}
        if undefined and self.undefined == "error" and not self._single_batch:
            raise DegenerateError(
                f"data on which {', '.join(undefined)} is defined",
                got="; ".join(dict.fromkeys(undefined.values())),
                remedy='Leave it out of metrics=, or pass undefined="omit".',
            )
        device = self._moments.device
        values = {name: layer.measurements[name].value for name in self.metrics if name not in undefined}
        return {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Add a batch and return its own metrics; a batch in error loses nothing of what was accumulated."""
        before = dict(self.__dict__)
        self._single_batch = True
        try:
            return super().forward(*args, **kwargs)
        except Exception:
            self.__dict__.update(before)
            raise
        finally:
            self._single_batch = False


class _Shared:
    """A module that is not registered as a part, and that copies of its holder refer to as well."""

    def __init__(self, module: nn.Module | None) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        # Where the whole model is being copied, the copy of the metric reads the copy of the layer.
        return _Shared(memo.get(id(self.module), self.module))
