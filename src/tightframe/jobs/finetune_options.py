"""Options of `tightframe finetune`, read by the command line without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """Fine-tune a part of a pretrained network on other data, and save what changed.

    Args:
        model: Run directory of `tightframe train`, IMPORT.PATH:factory, hf:NAME_OR_PATH or timm:NAME.
        data: Data set, as in train.
        method: linear (the best head, solved for), layer (one block and the head), scl (the same with a skip connection
            between them), full, or lora (adapters and the head; needs peft).
        layer: Block that layer and scl tune; auto tries each for a few steps and takes the best on samples held out.
        candidates: Names or globs of the layers that auto chooses among; every block unless given.
        delta: File that an earlier fine-tuning saved: put it on the model and measure, train nothing.
        shots: Training samples of every class; all of them unless given.
        epochs: Passes over the data; by default 20, or more where those are fewer than 500 steps. linear needs none.
        optimizer: Training algorithm.
        lr: Step size of the first epoch, which falls as a cosine; by default one that suits method and optimizer.
        weight_decay: Coefficient of the squared weights that are trained.
        batch_size: Largest batch.
        rank: Rank of lora's adapters.
        held_out: Share of every class held out to choose the layer, or the weight decay of linear.
        probe_steps: Steps that auto gives each candidate.
        observations: Number of epochs at which accuracy is recorded, evenly spaced in log(epoch).
        tokens: What a skip connection reads of a sequence: class token, or mean.
        classifier: Name of the classifier, where it is ambiguous.
        start: What the new head begins as: new (random), or probe, the best one for the features before training,
            which is ahead after few steps and seldom after many.
        keep_head: Go on with the model's own classifier instead of a new one.
        cached: Compute what comes before the tuned layer once and keep it on disk.
        cache: Folder for that; a temporary one unless given.
        compare_speed: Time an epoch that computes it again, too.
        export: Write the tuned network, too, as a program for torch.export or for ONNX runtimes (needs --out).
        seed: Seed of the new head, of the order of samples and of those held out.
        limit: Use this many training samples, balanced over the classes.
        size: As in train.
        hub_size: Height and width of the images for hf: and timm: networks that do not say which they want.
        data_root: Folder of the data sets; by default the one that TIGHTFRAME_DATA names.
        workers: Loader processes.
        accelerator: auto, cpu, cuda or mps.
        out: Run directory for what changed (delta.safetensors), the record and the report.
        format: What is printed.
        quiet: Show no progress.
    """

    model: str
    data: str = "digits"
    method: Literal["linear", "layer", "scl", "full", "lora"] = "scl"
    layer: str = "auto"
    candidates: tuple[str, ...] = ()
    delta: Path | None = None
    shots: int | None = None
    epochs: int | None = None
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float | None = None
    weight_decay: float = 0.0
    batch_size: int = 128
    rank: int = 8
    held_out: float = 0.2
    probe_steps: int = 100
    observations: int = 8
    tokens: Literal["class", "mean"] = "class"
    classifier: str | None = None
    start: Literal["new", "probe"] = "new"
    keep_head: bool = False
    cached: bool = True
    cache: Path | None = None
    compare_speed: bool = False
    export: Literal["torch", "onnx"] | None = None
    seed: int = 0
    limit: int | None = None
    size: int | None = None
    hub_size: int | None = None
    data_root: Path | None = None
    workers: int = 0
    accelerator: str = "auto"
    out: Path | None = None
    format: Literal["text", "json"] = "text"
    quiet: bool = False
