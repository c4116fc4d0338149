"""`measure` and `Monitor`: from a model and a loader, or from batches of features, to a CollapseSummary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tightframe.collapse.conventions import convention
from tightframe.collapse.decision import nearest_class
from tightframe.collapse.evaluate import evaluate_layer, in_order, with_intervals
from tightframe.collapse.means import Absent, CentredMeans
from tightframe.collapse.outputs import Outputs, summed
from tightframe.collapse.separation import SeparationFit, fit_separation
from tightframe.collapse.summary import CollapseSummary, LayerCollapse, Measurement
from tightframe.collapse.variability import WideVariability
from tightframe.core.checks import check_count, check_features, check_labels, kept_rows
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.cache import RowCache
from tightframe.features.extract import stream
from tightframe.features.moments import ClassMoments, Mode
from tightframe.features.replicates import GroupedMoments
from tightframe.features.tap import FeatureTap

# Above this width the d x d scatter takes more than 134 MB, and NC1 comes from the dual form over kept rows.
WIDE = 4096


def measure(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    layers: str | Sequence[str] = "classifier",
    split: str = "",
    classifier: str | None = None,
    pool: Literal["mean", "flatten"] = "mean",
    tokens: Literal["class", "mean", "all"] = "class",
    labels_key: str | None = None,
    mask_key: str | None = None,
    shift: bool = False,
    ignore_index: int | None = -100,
    absent: Absent = "error",
    decisions: bool = True,
    bootstrap: int = 0,
    device: torch.device | str | None = None,
) -> CollapseSummary:
    """Measure the neural collapse of a model on the data of a loader, in one forward pass.

    The classifier is found and its input measured; `layers="auto"` measures every block as well. The model is left as
    it was (mode, gradients, random state, hooks). Under an initialised torch.distributed group every rank measures
    its share and all return the values of the whole; rows that a DistributedSampler repeats are not counted twice.

    Args:
        model: Any nn.Module with a linear classifier.
        loader: Batches (inputs, labels) or mappings with labels.
        layers: "classifier", "auto", or names and globs (see FeatureTap).
        split: Name of the data, shown beside the values.
        classifier: Path of the classifier, to settle an ambiguity.
        pool: Convolutional maps: average over pixels, or flatten.
        tokens: Sequences: class token, mean, or all positions.
        labels_key: Entry of the labels in batches that are mappings.
        mask_key: Entry of the mask of positions.
        shift: Position t predicts the label of position t + 1.
        ignore_index: Label of rows to leave out.
        absent: "error", or "drop" classes that never occur (many-class problems).
        decisions: Measure NC4 too. Rows are put aside for it, in memory up to 256 MB per layer and in a temporary file
            beyond; False saves that where the data are huge.
        bootstrap: Number of bootstrap replicates for 95 % intervals; 0 for none.
        device: Where inputs are moved; that of the model unless given.

    Returns:
        A CollapseSummary; print it.

    Raises:
        InputError, AmbiguityError: As FeatureTap, stream and ClassMoments say.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x = torch.cat([torch.eye(4)[:2], -torch.eye(4)[:2]]); y = torch.tensor([0, 0, 1, 1])
        >>> summary = measure(model, [(x, y)])
        >>> summary.last.classes, summary["NC1"] > 0
        (2, True)
    """
    tap = FeatureTap(model, layers, classifier=classifier, pool=pool, tokens=tokens)
    batches = stream(
        tap, loader, labels_key=labels_key, mask_key=mask_key, shift=shift, ignore_index=ignore_index, device=device
    )
    monitor: Monitor | None = None
    for batch in batches:
        if monitor is None:
            monitor = Monitor(
                batch.logits.shape[-1],
                ignore_index=ignore_index,
                absent=absent,
                decisions=decisions,
                bootstrap=bootstrap,
            )
        monitor.update(batch.features, batch.labels, logits=batch.logits)
    monitor.all_reduce()
    return monitor.compute(weight=tap.weight, bias=tap.bias, split=split)


class Monitor:
    """Accumulates batches of features of one or several layers, and computes a CollapseSummary at any time.

    This is `measure` for one's own loop: pass features as a tensor, or by layer name in order of depth.

    Args:
        classes: Number K of classes.
        mode: "full", "trace", or "auto": "full" up to d = 4096.
        ignore_index: Label of rows to leave out.
        absent: "error" or "drop" classes that never occur.
        decisions: Keep rows for NC4 (needs logits), and for NC1 of layers in mode "trace".
        bootstrap: Number of bootstrap replicates.

    Raises:
        InputError: An argument out of its range.

    Example:
        >>> import torch
        >>> monitor = Monitor(classes=2)
        >>> features = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
        >>> monitor.update(features, torch.tensor([0, 0, 1, 1]))
        >>> round(monitor.compute()["D"], 6)
        0.01
    """

    def __init__(
        self,
        classes: int,
        *,
        mode: Mode | Literal["auto"] = "auto",
        ignore_index: int | None = -100,
        absent: Absent = "error",
        decisions: bool = True,
        bootstrap: int = 0,
    ) -> None:
        check_count(classes, "classes", least=2)
        if bootstrap:
            check_count(bootstrap, "bootstrap", least=2)
        if absent not in get_args(Absent) or mode not in ("auto", *get_args(Mode)):
            raise InputError(
                'absent is "error" or "drop", mode is "auto", "full" or "trace"',
                got=f"{absent=}, {mode=}",
                remedy="Use one of them.",
            )
        self.classes: int = classes
        self.mode, self.absent = mode, absent
        self.ignore_index: int | None = ignore_index
        self.decisions: bool = decisions
        self.bootstrap: int = bootstrap
        self.moments: dict[str, ClassMoments] = {}
        self._groups: dict[str, GroupedMoments] = {}
        self._rows: dict[str, RowCache] = {}
        self._labels, self._outputs = RowCache(), Outputs(classes, ignore_index=ignore_index)
        self._with_logits: bool | None = None
        self._distributed = False

    @torch.no_grad()
    def update(self, features: Tensor | Mapping[str, Tensor], labels: Tensor, *, logits: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            features: (n, d), or such tensors by layer name, in order of depth; the classifier reads the last.
            labels: (n,) class indices.
            logits: (n, k), for accuracy, loss and NC4.

        Raises:
            InputError: As ClassMoments.update; other layers than before; a batch with and one without logits; logits of
                another shape, or with NaN. Nothing of the batch is then counted, in any layer.
        """
        named = features if isinstance(features, Mapping) else {"features": features}
        self._check_alike(named, logits)
        moments = {name: self.moments.get(name) or self._moments_of(h, name) for name, h in named.items()}
        labels = check_labels(labels, len(next(iter(named.values()))), self.classes, ignore_index=self.ignore_index)
        for name, values in named.items():
            moments[name].checked(values, labels)
        outcome = None if logits is None else self._outputs.outcome(logits, labels)
        # Everything that may be refused has been: from here on the batch is counted as a whole.
        self.moments, self._with_logits = moments, logits is not None
        for name, values in named.items():
            moments[name].update(values, labels)
            if self.bootstrap:
                if name not in self._groups:
                    self._groups[name] = GroupedMoments(
                        self.classes, moments[name].mode, ignore_index=self.ignore_index
                    )
                self._groups[name].update(values, labels)
        self._keep(named, labels, outcome)

    def all_reduce(self, group: Any = None) -> Monitor:
        """Join the ranks of a torch.distributed group: moments and sums now, kept rows in `compute`, which every rank
        then has to call. Without an initialised group nothing happens."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1:
            for name in self.moments:
                self.moments[name].all_reduce(group)
                if name in self._groups:
                    self._groups[name].all_reduce(group)
            self._outputs.all_reduce(self._device, group)
            self._distributed, self._group = True, group
        return self

    def compute(self, *, weight: Tensor | None = None, bias: Tensor | None = None, split: str = "") -> CollapseSummary:
        """All metrics of all layers seen so far; further updates may follow.

        Args:
            weight: Classifier W (k, d) that reads the last layer, for NC3 and its kin.
            bias: Its bias b (k,).
            split: Name of the data.

        Raises:
            InputError: No sample yet, or a class that never occurred (with absent="error").
        """
        if not any(m.total for m in self.moments.values()):
            raise InputError("at least one sample", got="none", remedy="Call update(features, labels) first.")
        layers: dict[str, LayerCollapse] = {}
        for name, moments in self.moments.items():
            head = {"weight": weight, "bias": bias} if name == next(reversed(self.moments)) else {}
            layer = evaluate_layer(moments, layer=name, absent=self.absent, **head)
            if name in self._groups:
                layer = with_intervals(layer, self._groups[name], replicates=self.bootstrap, absent=self.absent, **head)
            layers[name] = replace(layer, measurements=in_order({**layer.measurements, **self._kept_row_metrics(name)}))
        return CollapseSummary(layers, self._outputs.measurements(), _separation(layers), split)

    @property
    def _device(self) -> torch.device:
        return next((m.device for m in self.moments.values() if m.total), torch.device("cpu"))

    def _moments_of(self, features: Tensor, name: str) -> ClassMoments:
        width = check_features(features, name).shape[1]
        mode: Mode = ("full" if width <= WIDE else "trace") if self.mode == "auto" else self.mode
        return ClassMoments(self.classes, mode, ignore_index=self.ignore_index)

    def _check_alike(self, named: Mapping[str, Tensor], logits: Tensor | None) -> None:
        before = list(self.moments) or list(named)
        if not named or list(named) != before:
            raise InputError(
                f"features of the layers {before}, in every batch" if before else "features of at least one layer",
                got=f"{list(named)}",
                remedy="Pass the same layers each time, in order of depth.",
            )
        if self._with_logits not in (None, logits is not None):
            raise InputError(
                "logits with every batch or with none",
                got="a batch with" + ("out logits after one with" if logits is None else " logits after one without"),
                remedy="Accuracy, loss and NC4 are shares of all samples: pass logits= always, or never.",
            )

    def _keep(self, named: Mapping[str, Tensor], labels: Tensor, outcome: tuple[Tensor, Tensor] | None) -> None:
        """Count the decisions, and put aside what `compute` will read again: an entry per batch, even if empty."""
        if outcome is not None:
            self._outputs.add(*outcome, keep=self.decisions)
        if not self.decisions:
            return
        self._labels.append(kept_rows(labels, labels, self.ignore_index)[1])
        for name, values in named.items():
            if outcome is not None or self.moments[name].mode == "trace":
                self._rows.setdefault(name, RowCache()).append(kept_rows(values, labels, self.ignore_index)[0])

    def _kept_row_metrics(self, name: str) -> dict[str, Measurement]:
        """NC4 from the kept rows, and NC1 by the dual form where the layer is too wide for its scatter."""
        measured: dict[str, Measurement] = {}
        if name not in self._rows:
            return measured
        means = CentredMeans(self.moments[name], absent=self.absent)
        if self.moments[name].mode == "trace" and means.classes - 1 <= means.features:
            measured["NC1"] = self._wide_variability(name)
        if self._outputs.samples:
            differing = torch.zeros(2, dtype=torch.float64)
            for rows, predicted in zip(self._rows[name], self._outputs.predicted, strict=True):
                if len(rows):
                    nearest = nearest_class(rows.to(means.origin.device), means).cpu()
                    differing += torch.tensor([float((nearest != predicted).sum()), len(rows)])
            if self._distributed:
                differing = summed(differing, self._device, self._group)
            measured["NC4"] = Measurement(float(differing[0] / differing[1]), convention("NC4", "papyan"))
        return measured

    def _wide_variability(self, name: str) -> Measurement:
        formula = convention("NC1", "weighted")
        try:
            wide = WideVariability(self.moments[name], absent=self.absent)
        except DegenerateError as error:
            return Measurement(None, formula, note=str(error))
        for rows, labels in zip(self._rows[name], self._labels, strict=True):
            if len(rows):
                wide.update(rows.to(self._device), labels.to(self._device))
        if self._distributed:
            wide.all_reduce(self._group)
        return Measurement(wide.compute(), formula, note="dual form over kept rows")


def _separation(layers: Mapping[str, LayerCollapse]) -> SeparationFit | None:
    values = [layer.measurements["D"].value for layer in layers.values()]
    return fit_separation(values) if len(values) >= 3 and all(value and value > 0 for value in values) else None
