"""Fine-tune a part of a pretrained network on images, or measure what was tuned before."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ImageData
from tightframe.data.labelled.source import load
from tightframe.features.tap import FeatureTap
from tightframe.jobs.candidates import Candidate, called, candidate, check_reads
from tightframe.jobs.finetune_options import FinetuneOptions
from tightframe.jobs.finetune_report import record_of
from tightframe.nn.backbones.exported import SUFFIXES, Exported, export
from tightframe.nn.tuning.fine_tuning import load_delta
from tightframe.runs.record import Record
from tightframe.runs.store import begin
from tightframe.training.fabric import connect
from tightframe.trials.transfer import TransferConfig, Transferred, evaluate, few_shots, transfer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

DELTA = "delta.safetensors"
_PLACES = ("out", "data_root", "workers", "accelerator", "format", "cache", "quiet")
_SETTINGS = (
    *("method", "layer", "epochs", "optimizer", "lr", "weight_decay", "batch_size", "rank", "held_out", "probe_steps"),
    *("observations", "tokens", "classifier", "start", "keep_head", "cached", "seed"),
)
_MEASURED = ("model", "data", "shots", "seed", "limit", "size", "hub_size", "tokens", "classifier", "export")
_EXAMPLES = 4


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned network, the Record made of it, and the files that were written.

    Args:
        transferred: The network and what was measured.
        record: The same for reports.
        delta: File of what changed, where a directory was given.
        exported: The exported program, where one was asked for.
        recomputed: Seconds of an epoch that computes the frozen trunk again, where it was timed.
    """

    transferred: Transferred
    record: Record
    delta: Path | None = None
    exported: Exported | None = None
    recomputed: float | None = None


def finetune(options: FinetuneOptions) -> Finetuned:
    """Fine-tune the network that the options name, or measure it with an earlier delta on; save what changed.

    Raises:
        InputError: No such network, layer, data or delta; images that the network does not read; one sample of a class
            where some are held out for a choice; a head that is kept with other classes; a delta of another base.
        MissingDependencyError: lora without peft, onnx without its packages.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    settings = TransferConfig(**{name: getattr(options, name) for name in _SETTINGS})
    if options.export is not None and options.out is None:
        raise InputError("a folder for the exported program", got="--export without --out", remedy="Add --out DIR.")
    fabric = connect(accelerator=options.accelerator)
    if fabric.world_size > 1:
        raise InputError("one process", got=f"{fabric.world_size}", remedy="Start it without torchrun.")
    data = load(options.data, root=options.data_root, limit=options.limit, size=options.size)
    if options.shots is not None:
        data = few_shots(data, options.shots, seed=options.seed)
    found = candidate(options.model, data, options, fabric, keep_head=options.keep_head)
    settings = replace(settings, classifier=options.classifier or found.classifier)
    check_reads(FeatureTap(found.model, classifier=settings.classifier), found, data)
    config = _config(options)
    with begin(options.out, config=config) as directory:
        tuned, recomputed = _tuned(options, settings, found, data, fabric)
        files = _saved(tuned, options, found, data)
        record = record_of(tuned, options, config, recomputed, started=started, seconds=time.perf_counter() - clock)
        if directory is not None:
            directory.save_record(record)
    return Finetuned(tuned, record, *files, recomputed)


def _config(options: FinetuneOptions) -> dict[str, Any]:
    """What decides the outcome; of directories and files their names, where they are says nothing."""
    config = {key: value for key, value in asdict(options).items() if key not in _PLACES}
    config |= {"model": called(options.model)}
    if options.delta is None:
        return config
    # What was tuned, and how, is the delta's.
    measured = {key: value for key, value in config.items() if key in _MEASURED}
    return measured | {"delta": options.delta.name}


def _tuned(
    options: FinetuneOptions, settings: TransferConfig, found: Candidate, data: ImageData, fabric: Fabric
) -> tuple[Transferred, float | None]:
    """The tuned network, and the seconds of an epoch without the cache where they are asked for."""
    where: dict[str, Any] = {"prepare": found.prepare, "device": fabric.device}
    if options.delta is not None:
        tuning = load_delta(found.model.cpu(), options.delta)
        return evaluate(tuning, data, tokens=options.tokens, **where), None
    tuned = transfer(
        found.model,
        data,
        settings,
        layers=options.candidates or None,
        cache=options.cache,
        workers=options.workers,
        progress=not options.quiet,
        **where,
    )
    if not options.compare_speed or tuned.layer is None:
        return tuned, None
    again = replace(tuned.config, epochs=1, observations=2, cached=False)
    return tuned, transfer(found.model, data, again, **where).epoch_seconds[0]


def _saved(
    tuned: Transferred, options: FinetuneOptions, found: Candidate, data: ImageData
) -> tuple[Path | None, Exported | None]:
    """What changed, as a file, and the exported program."""
    if options.out is None:
        return None, None
    delta = None if options.delta is not None else tuned.tuning.save_delta(options.out / DELTA)
    if options.export is None:
        return delta, None
    images = torch.stack([data.test[place][0] for place in range(min(_EXAMPLES, len(data.test)))])
    path = options.out / f"model{SUFFIXES[options.export]}"
    return delta, export(tuned.tuning, found.prepare(images), path, format=options.export)
