"""Measure a network of one's own, or features saved by anybody."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from tightframe.collapse.monitor import Monitor
from tightframe.collapse.monitor import measure as measure_model
from tightframe.collapse.summary import CollapseSummary
from tightframe.core.errors import InputError
from tightframe.features.store import read_features
from tightframe.jobs.options import MeasureOptions
from tightframe.jobs.subject import Network, described, network_of
from tightframe.runs.console import watched
from tightframe.runs.environment import describe
from tightframe.runs.record import Panel, Record, Table, series_table
from tightframe.runs.store import begin
from tightframe.training.fabric import connect
from tightframe.trials.shard import Shard

_BLOCK = 4096


@dataclass(frozen=True)
class Measured:
    """Summaries by split, and the Record made of them."""

    summaries: tuple[CollapseSummary, ...]
    record: Record


def measure(options: MeasureOptions) -> Measured | None:
    """Measure what the options name, and save the record if `options.out` is given.

    Under torchrun every process measures its share of the data; the values are those of the whole. A file of features
    is read by the first process alone.

    Returns:
        Summaries and Record; None on all processes but the first.

    Raises:
        InputError, UnsafeFileError, AmbiguityError: What does not fit, and what to do.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    network = network_of(options)
    _check(options)
    first = os.environ.get("RANK", "0") == "0"
    if network is None and not first:
        return None
    kept = described(options, network)
    with begin(options.out if first else None, config=kept) as directory:
        if network is None:
            summaries: tuple[CollapseSummary, ...] = (_measure_features(options),)
        else:
            summaries = tuple(_measure_network(options, network))
        if not first:
            return None
        record = _record(kept, summaries, started, time.perf_counter() - clock)
        if directory is not None:
            directory.save_record(record)
    return Measured(summaries, record)


def _check(options: MeasureOptions) -> None:
    if options.bootstrap < 0:
        raise InputError(
            "0 or more bootstrap replicates", got=f"bootstrap={options.bootstrap}", remedy="Use 200, or 0 for none."
        )


def _measure_network(options: MeasureOptions, network: Network) -> Iterator[CollapseSummary]:
    fabric = connect(accelerator=options.accelerator)
    model, data = network.load(options, fabric)
    for split in ("train", "test") if options.split == "both" else (options.split,):
        own = Shard(getattr(data, split), fabric.global_rank, fabric.world_size, options.workers, options.batch_size)
        yield measure_model(
            model,
            watched(own, own.steps, f"measuring, {split}", enabled=fabric.is_global_zero and not options.quiet),
            layers=options.layers,
            split=split,
            classifier=options.classifier,
            pool=options.pool,
            tokens=options.tokens,
            absent=options.absent,
            bootstrap=options.bootstrap,
        )


def _measure_features(options: MeasureOptions) -> CollapseSummary:
    file = read_features(options.features)
    weight, bias = file.weight, file.bias
    if weight is not None:
        # Logits in the finest precision of the file, and in float32 at least.
        kind = torch.promote_types(torch.promote_types(file.features.dtype, weight.dtype), torch.float32)
        weight, bias = weight.to(kind), None if bias is None else bias.to(kind)
    classes = int(file.labels.max()) + 1 if weight is None else len(weight)
    monitor = Monitor(max(classes, 2), absent=options.absent, bootstrap=options.bootstrap)
    for start in range(0, len(file.labels), _BLOCK):
        features = torch.as_tensor(file.features[start : start + _BLOCK])
        logits = None
        if weight is not None:
            logits = features.to(kind) @ weight.T + (0 if bias is None else bias)
        monitor.update(features, file.labels[start : start + _BLOCK], logits=logits)
    return monitor.compute(weight=weight, bias=bias)


def _record(config: dict[str, Any], summaries: tuple[CollapseSummary, ...], started: str, seconds: float) -> Record:
    several = len(summaries[0].layers) > 1
    layers = _layer_table(summaries)
    panel = Panel(
        kind="layers",
        title="Separation layer by layer",
        caption="D = tr(S_W) / tr(S_B) of every measured layer, and the straight line of log D.",
        table="layers",
        x="layer",
        y="D",
        color="split",
        y_scale="log",
    )
    values = "; ".join(f"{s.split or 'features'}: NC1 {s.last.measurements['NC1']}" for s in summaries)
    return Record(
        name="measure",
        title="Collapse of a trained network",
        question="How collapsed are these features?",
        answer=f"{values}.",
        config=config,
        environment=describe(),
        series=series_table([row for summary in summaries for row in summary.rows(run="measure")]),
        tables={"layers": layers} | {f"metrics {s.split}".strip(): _metric_table(s) for s in summaries},
        panels=(panel,) if several else (),
        started=started,
        seconds=seconds,
    )


def _layer_table(summaries: tuple[CollapseSummary, ...]) -> Table:
    table: Table = {name: [] for name in ("split", "depth", "layer", "width", "D", "fit")}
    for summary in summaries:
        for depth, layer in enumerate(summary.layers.values()):
            fit = None if summary.separation is None else summary.separation.at(depth)
            values = (summary.split, depth, layer.layer, layer.features, layer.measurements["D"].value, fit)
            for column, value in zip(table.values(), values, strict=True):
                column.append(value)
    return table


def _metric_table(summary: CollapseSummary) -> Table:
    measurements = {**summary.last.measurements, **summary.decisions}
    return {
        "metric": list(measurements),
        "value": [m.value for m in measurements.values()],
        "floor": [m.floor for m in measurements.values()],
        "low": [m.interval and m.interval[0] for m in measurements.values()],
        "high": [m.interval and m.interval[1] for m in measurements.values()],
        "formula": [m.convention.formula for m in measurements.values()],
        "note": [m.note for m in measurements.values()],
    }
