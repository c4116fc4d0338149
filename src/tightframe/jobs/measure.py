"""Measure a network of one's own, or features saved by anybody."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tightframe.collapse.monitor import Monitor
from tightframe.collapse.monitor import measure as measure_model
from tightframe.collapse.summary import CollapseSummary
from tightframe.core.errors import InputError, TightframeError
from tightframe.core.rng import preserved_rng
from tightframe.data.source import load
from tightframe.features.store import read_features
from tightframe.jobs.options import MeasureOptions
from tightframe.nn.networks import NAMES
from tightframe.runs.environment import describe
from tightframe.runs.record import Panel, Record, Table, series_table
from tightframe.runs.store import RunDirectory
from tightframe.training.checkpoint import load_into
from tightframe.training.config import TrainConfig
from tightframe.training.fabric import connect
from tightframe.trials.shard import Shard
from tightframe.trials.trial import TrialConfig, initial_model

_BLOCK = 4096
# What a run directory knows of its network and data.
_SUBJECT = ("data", "model", "width", "depth", "limit", "size")
_PLACES = ("checkpoint", "features", "data_root", "out", "workers", "accelerator", "format")


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
    _check(options)
    first = os.environ.get("RANK", "0") == "0"
    if options.features is not None and not first:
        return None
    config, weights = (None, None) if options.features is not None else _described(options)
    kept = _config(options, config)
    directory = RunDirectory.create(options.out, config=kept) if options.out is not None and first else None
    try:
        if config is None:
            summaries: tuple[CollapseSummary, ...] = (_measure_features(options),)
        else:
            summaries = tuple(_measure_network(options, config, weights))
    except TightframeError:
        if directory is not None:
            directory.release()
        raise
    if not first:
        return None
    record = _record(kept, summaries, started, time.perf_counter() - clock)
    if directory is not None:
        directory.save_record(record)
    return Measured(summaries, record)


def imported_model(path: str) -> nn.Module:
    """Call the factory `IMPORT.PATH:name`, looked up from the working directory too.

    Raises:
        InputError: There is no such module or name, or it does not return an nn.Module.
    """
    module_name, _, name = path.partition(":")
    sys.path.insert(0, "")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "a model as IMPORT.PATH:factory",
            got=f"{path!r} ({error})",
            remedy=f"Name a function that returns the network, or one of {', '.join(NAMES)}.",
        ) from error
    finally:
        sys.path.remove("")
    if not callable(factory):
        raise InputError(
            "a model as IMPORT.PATH:factory",
            got=f"{path!r}, a {type(factory).__name__}",
            remedy="Name a function that returns the network.",
        )
    with preserved_rng():
        # Weights that no checkpoint replaces are the same in every process, and every time.
        torch.manual_seed(0)
        model = factory if isinstance(factory, nn.Module) else factory()
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{path} returns an nn.Module", got=type(model).__name__, remedy="Return the network from the factory."
        )
    return model


def _check(options: MeasureOptions) -> None:
    if (options.features is None) == (options.checkpoint is None and options.model is None):
        raise InputError(
            "either --features FILE, or --model and --checkpoint",
            got="both" if options.features else "neither",
            remedy="Give the network or its features.",
        )
    if options.bootstrap < 0:
        raise InputError(
            "0 or more bootstrap replicates", got=f"bootstrap={options.bootstrap}", remedy="Use 200, or 0 for none."
        )


def _measure_network(options: MeasureOptions, config: TrialConfig, weights: Path | None) -> Iterator[CollapseSummary]:
    fabric = connect(accelerator=options.accelerator)
    data = load(config.data, root=options.data_root, limit=config.limit, size=config.size)
    model = imported_model(config.model) if ":" in config.model else initial_model(config, data)
    if weights is not None:
        load_into(model, weights)
    model = model.to(fabric.device)
    for split in ("train", "test") if options.split == "both" else (options.split,):
        yield measure_model(
            model,
            Shard(getattr(data, split), fabric.global_rank, fabric.world_size, options.workers, options.batch_size),
            layers=options.layers,
            split=split,
            classifier=options.classifier,
            pool=options.pool,
            tokens=options.tokens,
            absent=options.absent,
            bootstrap=options.bootstrap,
        )


def _described(options: MeasureOptions) -> tuple[TrialConfig, Path | None]:
    """Network, data and weights: from a run directory, or from the options."""
    if options.checkpoint is not None and options.checkpoint.is_dir():
        directory = RunDirectory(options.checkpoint)
        return _run_config(options, directory), directory.checkpoint_path
    if options.model is None:
        raise InputError(
            "a network for the weights",
            got="--checkpoint without --model",
            remedy=f"Add --model IMPORT.PATH:factory, or one of {', '.join(NAMES)}.",
        )
    return TrialConfig(**{name: getattr(options, name) for name in _SUBJECT}), options.checkpoint


def _run_config(options: MeasureOptions, directory: RunDirectory) -> TrialConfig:
    stored = directory.config()
    try:
        config = TrialConfig(**stored | {"train": TrainConfig(**stored["train"])})
    except (TypeError, KeyError) as error:
        raise InputError(
            "the run directory of `tightframe train`",
            got=f"{directory.path}, of another kind of run ({error})",
            remedy="Name a checkpoint file, with --model.",
        ) from error
    given = {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != f.default}
    other = [name for name in _SUBJECT if name in given and given[name] != getattr(config, name)]
    if other:
        raise InputError(
            "the network and the data of the run directory",
            got="; ".join(f"--{name} {given[name]} for {getattr(config, name)}" for name in other),
            remedy=f"Leave these out, or name {directory.checkpoint_path} itself and describe its network by --model.",
        )
    return config


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


def _config(options: MeasureOptions, config: TrialConfig | None) -> dict[str, Any]:
    """What was measured, and how; a file of features knows neither network nor data."""
    how = {key: value for key, value in asdict(options).items() if key not in (*_PLACES, *_SUBJECT)}
    subject = {} if config is None else {name: getattr(config, name) for name in _SUBJECT}
    file = options.features or options.checkpoint
    return subject | how | {"file": "" if file is None else file.name}


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
