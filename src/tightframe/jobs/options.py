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
        data: digits, gaussian:CLASSESxSAMPLES, mnist, fashion-mnist, cifar10, textures, folder:PATH or hf:NAME.
        model: mlp, mlp-bn, resnet18, resnet34, resnet50, or vit (vit/4 for patches of 4 pixels).
        loss: ce, ls (label smoothing), focal, mse, mcr2, sop, sop+, gce or elr, with options after a colon, as in
            ls:smoothing=0.05 or sop:rate=3.
        head: Classifier: linear; etf, a fixed simplex; normalized; or aligned, the simplex nearest to the class means.
        feature_dim: Reduce the last features to this dimension, for example to the number of classes.
        noise: Noise put on the training labels: none, symmetric:0.4, asymmetric:0.4, random, or file:labels.npz.
        validation: Share of the training samples held out, with noise like the others.
        augment: Random transforms of training images: none, noise:0.15, crop-flip.
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
        schedule: Step size by milestones, or falling as a cosine.
        accumulate: Backward passes per step.
        precision: Precision as Lightning Fabric names it.
        seed: Seed of initial weights and of the order of samples.
        width: Hidden width of an MLP or a vit, or channels of a ResNet's stem.
        depth: Hidden layers of an MLP, blocks of a vit.
        limit: Use this many training samples, balanced over the classes.
        size: Resize images of folder: and hf: data to this height and width.
        layers: Measure every block, or the classifier's input alone.
        observations: Number of epochs at which the network is measured, evenly spaced in log(epoch).
        checkpoint_every: Epochs between checkpoints.
        data_root: Folder of the data sets; by default the one that TIGHTFRAME_DATA names.
        workers: Loader processes, for images decoded while they are read.
        accelerator: auto, cpu, cuda or mps.
        resume: Go on from the checkpoint in the run directory.
        quiet: Show no progress.
    """

    out: Path
    data: str = "digits"
    model: str = "mlp-bn"
    loss: str = "ce"
    head: Literal["linear", "etf", "normalized", "aligned"] = "linear"
    feature_dim: int | None = None
    noise: str = "none"
    validation: float = 0.0
    augment: str = "none"
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
    schedule: Literal["step", "cosine"] = "step"
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
class SweepOptions(TrainOptions):
    """Train the same network in several ways and put them side by side.

    All other options are those of `tightframe train`.

    Args:
        vary: What differs, as NAME=VALUE, every combination of the values given for each name: --vary loss=ce loss=sop
            head=linear head=etf seed=0 seed=1.
        processes: Runs at the same time.
    """

    vary: tuple[str, ...] = ()
    processes: int = 1


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
        data_root: Folder of the data sets; by default the one that TIGHTFRAME_DATA names.
        workers: Loader processes.
        accelerator: auto, cpu, cuda or mps.
        out: Run directory for the record and the report.
        format: What is printed.
        quiet: Show no progress.
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
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Certify how far the last layer of a trained network, and its features, are from the best there are.

    Args:
        checkpoint: Weights (safetensors, or a torch.save'd state dict), or a run directory of `tightframe train`.
        model: The network: IMPORT.PATH:factory (called without arguments), or a name as in train.
        features: File with features, labels, weight and optionally bias (npz, safetensors, parquet), in place of a
            model.
        data: Data set, as in train; its training part is read.
        loss: What the network was trained with: ce, ls (label smoothing), focal or mse; the run's own, or ce.
        smoothing: Of ls, 0.1 unless given.
        gamma: Of focal, 2 unless given.
        scale: Weight of the true class of mse, 1 unless given.
        target: Target of the true class of mse, 1 unless given.
        weight_decay: Coefficient of the squared weights; the run's own, or 5e-4, unless given.
        feature_decay: Coefficient of the squared features, summed over the samples, or "balanced", the value that
            balances it with that of the classifier; the run's own where it has one, or balanced, unless given.
        bias: Decay of the bias: a coefficient, "free", or "none" for a model without bias; as the weights unless given.
        solve: Solve the model for its minimum where no closed form is known.
        tolerance: Gap up to which the point counts as optimal.
        classifier: Name of the classifier, where it is ambiguous.
        pool: Convolutional maps: average over pixels, or flatten.
        tokens: Sequences: class token, mean, or all positions.
        batch_size: Samples per batch.
        width: As in train, for a model given by name.
        depth: As in train, for a model given by name.
        limit: As in train.
        size: As in train.
        data_root: Folder of the data sets; by default the one that TIGHTFRAME_DATA names.
        workers: Loader processes.
        accelerator: auto, cpu, cuda or mps.
        out: Run directory for the record and the report.
        format: What is printed.
        quiet: Show no progress.
    """

    checkpoint: Path | None = None
    model: str | None = None
    features: Path | None = None
    data: str = "digits"
    loss: Literal["ce", "ls", "focal", "mse"] | None = None
    smoothing: float | None = None
    gamma: float | None = None
    scale: float | None = None
    target: float | None = None
    weight_decay: float | None = None
    feature_decay: float | Literal["balanced"] | None = None
    bias: float | Literal["free", "none"] | None = None
    solve: bool = True
    tolerance: float = 1e-9
    classifier: str | None = None
    pool: Literal["mean", "flatten"] = "mean"
    tokens: Literal["class", "mean", "all"] = "class"
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
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Rank pretrained networks by how well their features suit a data set that they were not trained for.

    Args:
        models: Run directories of `tightframe train`, IMPORT.PATH:factory, hf:NAME_OR_PATH or timm:NAME.
        data: Data set, as in train.
        split: Which part of the data.
        by: Score to rank by: NC1, H-score, "H-score regularized", TransRate, "rate reduction", LogME, "logistic probe"
            or "ridge probe".
        probe: Fit and test linear classifiers too.
        bootstrap: Bootstrap replicates for 95 % intervals; 0 for none.
        seed: Seed of the replicates and of the rows that test the probes.
        classifier: Name of the classifier, where it is ambiguous.
        pool: Convolutional maps: average over pixels, or flatten.
        tokens: Sequences: class token, or mean.
        batch_size: Samples per batch.
        limit: Use this many training samples, balanced over the classes.
        size: As in train.
        hub_size: Height and width of the images for hf: and timm: networks that do not say which they want.
        data_root: Folder of the data sets; by default the one that TIGHTFRAME_DATA names.
        workers: Loader processes.
        accelerator: auto, cpu, cuda or mps.
        out: Run directory for the record and the report.
        format: What is printed.
        quiet: Show no progress.
    """

    models: tuple[str, ...]
    data: str = "digits"
    split: Literal["train", "test"] = "train"
    by: str = "NC1"
    probe: bool = True
    bootstrap: int = 0
    seed: int = 0
    classifier: str | None = None
    pool: Literal["mean", "flatten"] = "mean"
    tokens: Literal["class", "mean"] = "class"
    batch_size: int = 512
    limit: int | None = None
    size: int | None = None
    hub_size: int | None = None
    data_root: Path | None = None
    workers: int = 0
    accelerator: str = "auto"
    out: Path | None = None
    format: Literal["text", "json"] = "text"
    quiet: bool = False
