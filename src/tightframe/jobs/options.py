"""Options of the jobs: plain frozen dataclasses, read by the command line without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train a network on images and watch it collapse.

    Args:
        out: Run directory: configuration, checkpoint, record and report.
        data: digits, mnist, fashion-mnist, cifar10, folder:PATH or hf:NAME.
        model: mlp, mlp-bn, resnet18, resnet34 or resnet50.
        loss: ce (cross-entropy).
        epochs: Passes over the data.
        optimizer: Training algorithm.
        lr: Step size.
        momentum: Momentum of sgd.
        weight_decay: Coefficient of the squared weights.
        feature_decay: Coefficient of the mean squared norm of the last features.
        decay: Decay all weights, or those of the classifier alone.
        batch_size: Largest batch of one process.
        milestones: Epochs after which the step size is multiplied by lr-factor.
        lr_factor: That factor.
        accumulate: Backward passes per step.
        precision: Precision as Lightning Fabric names it.
        seed: Seed of initial weights and of the order of samples.
        width: Hidden width of an MLP, or channels of a ResNet's stem.
        depth: Hidden layers of an MLP.
        limit: Use this many training samples, balanced over the classes.
        size: Resize images of folder: and hf: data to this height and width.
        layers: Measure every block, or the classifier's input alone.
        observations: Number of epochs at which the network is measured, evenly spaced in log(epoch).
        checkpoint_every: Epochs between checkpoints.
        data_root: Folder of the data sets (default: TIGHTFRAME_DATA).
        workers: Loader processes, for images decoded while they are read.
        accelerator: auto, cpu, cuda or mps.
        resume: Go on from the checkpoint in the run directory.
        quiet: Show no progress.
    """

    out: Path
    data: str = "digits"
    model: str = "mlp-bn"
    loss: Literal["ce"] = "ce"
    epochs: int = 200
    optimizer: Literal["sgd", "adam", "lbfgs"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    feature_decay: float = 0.0
    decay: Literal["all", "last"] = "all"
    batch_size: int = 128
    milestones: tuple[int, ...] = ()
    lr_factor: float = 0.1
    accumulate: int = 1
    precision: str = "32-true"
    seed: int = 0
    width: int | None = None
    depth: int = 4
    limit: int | None = None
    size: int | None = None
    layers: Literal["auto", "classifier"] = "auto"
    observations: int = 24
    checkpoint_every: int = 1
    data_root: Path | None = None
    workers: int = 0
    accelerator: str = "auto"
    resume: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """Measure the collapse of a trained network, or of features saved by anybody.

    Args:
        checkpoint: Weights (safetensors, or a torch.save'd state dict), or a run directory of `tightframe train`.
        model: The network: IMPORT.PATH:factory (called without arguments), or a name as in train.
        features: File with features, labels and optionally weight and bias (npz, safetensors, parquet), in place of a
            model.
        data: Data set, as in train.
        split: Which part of the data.
        layers: "classifier", "auto" for every block, or a layer's name or glob.
        classifier: Name of the classifier, where it is ambiguous.
        pool: Convolutional maps: average over pixels, or flatten.
        tokens: Sequences: class token, mean, or all positions.
        absent: Classes without samples: an error, or left out.
        bootstrap: Bootstrap replicates for 95 % intervals; 0 for none.
        batch_size: Samples per batch.
        width: As in train, for a model given by name.
        depth: As in train, for a model given by name.
        limit: As in train.
        size: As in train.
        data_root: Folder of the data sets (default: TIGHTFRAME_DATA).
        workers: Loader processes.
        accelerator: auto, cpu, cuda or mps.
        out: Run directory for the record and the report.
        format: What is printed.
    """

    checkpoint: Path | None = None
    model: str | None = None
    features: Path | None = None
    data: str = "digits"
    split: Literal["train", "test", "both"] = "both"
    layers: str = "classifier"
    classifier: str | None = None
    pool: Literal["mean", "flatten"] = "mean"
    tokens: Literal["class", "mean", "all"] = "class"
    absent: Literal["error", "drop"] = "error"
    bootstrap: int = 0
    batch_size: int = 512
    width: int | None = None
    depth: int = 4
    limit: int | None = None
    size: int | None = None
    data_root: Path | None = None
    workers: int = 0
    accelerator: str = "auto"
    out: Path | None = None
    format: Literal["text", "json"] = "text"
