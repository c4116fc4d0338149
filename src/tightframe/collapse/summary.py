"""`CollapseSummary`: every metric of every measured layer, each with the formula it follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tightframe.collapse.conventions import Convention
from tightframe.collapse.rendering import aligned_text, html_table
from tightframe.collapse.separation import SeparationFit
from tightframe.core.errors import InputError

_LAYER_COLUMNS = ("NC1", "D", "CDNV", "NC2 features", "NC4", "effective rank within")


@dataclass(frozen=True)
class Measurement:
    """One value and what it means.

    Args:
        value: The number, or None where it is undefined on this data; `note` then says why.
        convention: The formula it follows.
        floor: Least value possible for these K and d, where that is above zero.
        interval: 95 % bootstrap interval, if asked for.
        note: Why there is no value, or how it was obtained.
    """

    value: float | None
    convention: Convention
    floor: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""

    def __str__(self) -> str:
        return "undefined" if self.value is None else f"{self.value:.4g}"


@dataclass(frozen=True)
class LayerCollapse:
    """The metrics of one layer.

    Args:
        layer: Name of the layer; "features" is the input of the classifier.
        classes: K, classes with samples.
        features: d.
        samples: N.
        measurements: By name ("NC1", "NC2 features", ...).
    """

    layer: str
    classes: int
    features: int
    samples: int
    measurements: Mapping[str, Measurement] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return _value(self.measurements, name, f"layer {self.layer!r}")


@dataclass(frozen=True)
class CollapseSummary:
    """What `measure` returns: the layers in order of depth, and the decisions of the network.

    `summary["NC1"]` is the value at the last layer; `summary.layers[name]["NC1"]` at any other. `str()` gives an
    aligned table, notebooks show HTML, `to_dict()` gives plain numbers, `rows()` the long table of a Record.

    Args:
        layers: LayerCollapse by layer name, in forward order.
        decisions: Accuracy and loss.
        separation: Line of log D over depth, where at least three layers were measured.
        split: Name of the data ("train", "test"), shown beside the values.
    """

    layers: Mapping[str, LayerCollapse]
    decisions: Mapping[str, Measurement] = field(default_factory=dict)
    separation: SeparationFit | None = None
    split: str = ""

    @property
    def last(self) -> LayerCollapse:
        """The deepest measured layer."""
        return next(reversed(self.layers.values()))

    def __getitem__(self, name: str) -> float:
        return _value(self.decisions, name, "the output") if name in self.decisions else self.last[name]

    def rows(self, *, run: str = "", epoch: int = 0) -> list[dict[str, Any]]:
        """Rows (run, epoch, split, layer, metric, value) of everything that has a value."""
        parts = [(layer.layer, layer.measurements) for layer in self.layers.values()]
        parts.append(("output", self.decisions))
        return [
            {"run": run, "epoch": epoch, "split": self.split, "layer": layer, "metric": name, "value": m.value}
            for layer, measurements in parts
            for name, m in measurements.items()
            if m.value is not None
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain nested numbers: {"layers": {name: {metric: value}}, "accuracy": ..., "separation": {...}}."""
        plain: dict[str, Any] = {
            "split": self.split,
            "layers": {
                name: {metric: m.value for metric, m in layer.measurements.items()}
                for name, layer in self.layers.items()
            },
        }
        plain |= {name: m.value for name, m in self.decisions.items()}
        if self.separation is not None:
            fit = self.separation
            plain["separation"] = {"slope": fit.slope, "decay ratio": fit.decay_ratio, "R2": fit.r_squared}
        return plain

    def __str__(self) -> str:
        parts = [self._heading()]
        if len(self.layers) > 1:
            parts += [aligned_text(self._layer_table(), left=(0,)), self._separation()]
        metrics = self._metric_table()
        parts.append(aligned_text(metrics, left=(0, len(metrics[0]) - 1)))
        return "\n\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{escape(self._heading())}</strong></p>"]
        if len(self.layers) > 1:
            parts += [html_table(self._layer_table()), f"<p>{escape(self._separation())}</p>"]
        return "".join([*parts, html_table(self._metric_table())])

    def _heading(self) -> str:
        split = f" on {self.split}" if self.split else ""
        last = self.last
        return f"Neural collapse{split}: K = {last.classes} classes, d = {last.features}, N = {last.samples} samples"

    def _separation(self) -> str:
        fit = self.separation
        if fit is None:
            return ""
        ratio = f"log D over depth: a factor {fit.decay_ratio:.3g} per layer"
        return f"{ratio}, R^2 = {fit.r_squared:.3f} ({len(self.layers)} layers)"

    def _layer_table(self) -> list[tuple[str, ...]]:
        rows = [("layer", "d", *_LAYER_COLUMNS)]
        for layer in self.layers.values():
            cells = (str(layer.measurements.get(name, "")) for name in _LAYER_COLUMNS)
            rows.append((layer.layer, str(layer.features), *cells))
        return rows

    def _metric_table(self) -> list[tuple[str, ...]]:
        measurements = {**self.last.measurements, **self.decisions}
        with_interval = any(m.interval for m in measurements.values())
        rows = [("metric", "value", "floor", *(("95 % interval",) if with_interval else ()), "formula")]
        for name, m in measurements.items():
            interval = "" if m.interval is None else f"[{m.interval[0]:.4g}, {m.interval[1]:.4g}]"
            formula = m.convention.formula + (f" ({m.note})" if m.note else "")
            floor = f"{m.floor:.4g}" if m.floor else ""
            rows.append((name, str(m), floor, *((interval,) if with_interval else ()), formula))
        return rows


def _value(measurements: Mapping[str, Measurement], name: str, where: str) -> float:
    measurement = measurements.get(name)
    if measurement is None or measurement.value is None:
        raise InputError(
            f"a measured value {name!r} of {where}",
            got="no such metric" if measurement is None else f"none: {measurement.note}",
            remedy=f"Use one of {', '.join(n for n, m in measurements.items() if m.value is not None)}.",
        )
    return measurement.value
