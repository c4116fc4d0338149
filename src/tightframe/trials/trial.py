"""`run_trial`: train a network on images, measure every layer on the way, keep the first and the last picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tightframe.collapse.means import CentredMeans
from tightframe.collapse.monitor import measure
from tightframe.collapse.summary import CollapseSummary
from tightframe.core.errors import InputError
from tightframe.core.rng import preserved_rng
from tightframe.data.labelled.images import ImageData
from tightframe.features.extract import stream
from tightframe.features.moments import ClassMoments
from tightframe.nn.networks import build
from tightframe.training.config import TrainConfig
from tightframe.training.fabric import connect
from tightframe.training.loop import fit
from tightframe.trials.audit import LabelAudit, audit, estimates_noise
from tightframe.trials.labels import LabelledData, labelled_data
from tightframe.trials.levers import build_head, build_loss
from tightframe.trials.shard import Shard

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_PROJECTED_PER_CLASS = 100


@dataclass(frozen=True)
class TrialConfig:
    """What decides the outcome of a trial.

    Args:
        data: Data set, as `data.source.load` names it.
        model: Network, one of `nn.networks.NAMES`.
        width: Width of the network (channels of the stem, or of every hidden block); None for its default.
        depth: Number of hidden layers of an MLP, or of blocks of a vit.
        limit: Number of training samples; None for all.
        size: Height and width to which images of folders are resized.
        layers: Layers to measure: "auto" or "classifier".
        noise: Noise put on the training labels, as `data.noise` names it; "none" for none.
        validation: Share of the (noisy) training samples held out to select by.
        head: Classifier, one of `trials.levers.HEADS`.
        feature_dim: Dimension to which the last block is reduced; None leaves it.
        observations: Number of epochs at which the network is measured, spaced evenly in log(epoch), the first (before
            training) and the last included.
        train: How it is trained.
    """

    data: str = "digits"
    model: str = "mlp-bn"
    width: int | None = None
    depth: int = 4
    limit: int | None = None
    size: int | None = None
    layers: str = "auto"
    noise: str = "none"
    validation: float = 0.0
    head: str = "linear"
    feature_dim: int | None = None
    observations: int = 24
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, nested, as a Record keeps them."""
        plain = asdict(self)
        return plain | {"train": plain["train"] | {"milestones": list(self.train.milestones)}}


@dataclass(frozen=True)
class Picture:
    """The features at one moment of training.

    Args:
        epoch: When.
        train: Summary on the training set.
        test: Summary on the test set.
        cosines: Cosines between centred class means (k, k).
        projection: Rows (class index, x, y): training features of three classes in the plane of their means.
        validation: Summary on the samples held out, None where none are.
    """

    epoch: int
    train: CollapseSummary
    test: CollapseSummary
    cosines: Tensor
    projection: tuple[tuple[int, float, float], ...]
    validation: CollapseSummary | None = None


@dataclass(frozen=True)
class Trial:
    """A finished trial: the network, the measured series, the features before and after, the labels judged.

    `labels` is None where no noise was put on them and the loss looks for none.
    """

    config: TrialConfig
    model: nn.Module
    classes: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    first: Picture
    last: Picture
    data: LabelledData
    labels: LabelAudit | None = None


def run_trial(
    config: TrialConfig,
    *,
    name: str = "train",
    data_root: Path | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    workers: int = 0,
    fabric: Fabric | None = None,
    progress: bool = False,
) -> Trial:
    """Run a trial.

    Args:
        config: What to do.
        name: Name of the run in the rows.
        data_root: Folder of the data sets; the environment variable TIGHTFRAME_DATA unless given.
        checkpoint: File that keeps the state of training.
        resume: Go on from the checkpoint where there is one.
        workers: Loader processes for data sets that decode while they are read.
        fabric: A launched Fabric.
        progress: Show progress on the error stream.

    Returns:
        A Trial; its rows follow `runs.record.SERIES_COLUMNS`.

    Raises:
        InputError: Unknown data, model or layers; files missing; too few observations; a checkpoint of another
            configuration.
        DegenerateError: Training diverged.
    """
    labelled = read_data(config, data_root)
    data = labelled.data
    fabric = connect(precision=config.train.precision) if fabric is None else fabric
    watcher = _Watcher(config, labelled, fabric, workers)
    when = observed_epochs(config.train.epochs, config.observations)
    model = initial_model(config, data).to(fabric.device)
    loss = build_loss(config.train.loss, samples=len(data.train), model=model)
    first = watcher.picture(model, 0)
    result = fit(
        model,
        data.train,
        config=config.train,
        fabric=fabric,
        checkpoint=checkpoint,
        resume=resume,
        loss_function=loss,
        on_epoch=lambda epoch, network: watcher.rows(network, epoch, name) if epoch in when else [],
        run=name,
        workers=workers,
        progress=progress,
    )
    last = watcher.picture(result.model, result.epochs)
    judged = audit(result.model, labelled, loss) if labelled.noisy or estimates_noise(loss) else None
    return Trial(config, result.model, data.classes, result.history, first, last, labelled, judged)


def read_data(config: TrialConfig, data_root: Path | None = None) -> LabelledData:
    """The data of a trial, with the noise it trains on."""
    return labelled_data(
        config.data,
        noise=config.noise,
        validation=config.validation,
        seed=config.train.seed,
        root=data_root,
        limit=config.limit,
        size=config.size,
    )


def initial_model(config: TrialConfig, data: ImageData) -> nn.Module:
    """The network before training: a function of the configuration and its seed alone."""
    with preserved_rng():
        seed, classes = config.train.seed, len(data.classes)
        torch.manual_seed(seed)
        model = build(config.model, shape=data.shape, classes=classes, width=config.width, depth=config.depth)
        return build_head(model, config.head, feature_dim=config.feature_dim, seed=seed)


def observed_epochs(epochs: int, count: int) -> frozenset[int]:
    """Epoch 0, the last one, and up to `count` in all, spaced evenly in log(epoch).

    Raises:
        InputError: `count` is below two.

    Example:
        >>> sorted(observed_epochs(100, 4))
        [0, 1, 10, 100]
    """
    if count < 2:
        raise InputError(
            "at least two observations, before and after training",
            got=f"observations={count}",
            remedy="Use 24, or 2 for these two.",
        )
    steps = count - 2
    return frozenset({0, epochs, *(round(epochs ** (step / steps)) for step in range(steps + 1) if steps)})


@dataclass(frozen=True)
class _Watcher:
    """Measures a network on this process's share of the data; the values are those of the whole."""

    config: TrialConfig
    labelled: LabelledData
    fabric: Fabric
    workers: int

    def rows(self, model: nn.Module, epoch: int, run: str) -> list[dict[str, Any]]:
        summaries = [self.summary(model, split) for split in self._sets()]
        return [row for summary in summaries for row in summary.rows(run=run, epoch=epoch)]

    def summary(self, model: nn.Module, split: str) -> CollapseSummary:
        return measure(model, self._shard(model, split), layers=self.config.layers, split=split)

    def picture(self, model: nn.Module, epoch: int) -> Picture:
        train, test = self.summary(model, "train"), self.summary(model, "test")
        moments = ClassMoments(len(self.labelled.data.classes))
        for batch in stream(model, self._shard(model, "train")):
            moments.update(batch.features["features"], batch.labels)
        means = CentredMeans(moments.all_reduce())
        unit = means.all / means.norms[:, None].clamp(min=torch.finfo(torch.float64).tiny)
        held = self.summary(model, "validation") if "validation" in self._sets() else None
        return Picture(epoch, train, test, (unit @ unit.T).cpu(), self._projection(model, means), held)

    def _projection(self, model: nn.Module, means: CentredMeans) -> tuple[tuple[int, float, float], ...]:
        """Features of the first three classes in the plane through their means, in units of the means' radius."""
        shown = min(3, means.classes)
        centre = means.all[:shown].mean(0)
        spread = means.all[:shown] - centre
        axes = torch.linalg.svd(spread, full_matrices=False).Vh[: min(2, means.features)]
        radius = spread.square().sum(1).mean().sqrt().clamp(min=torch.finfo(torch.float64).tiny)
        left, points = [_PROJECTED_PER_CLASS] * shown, []
        for batch in stream(model, self._shard(model, "train", whole=True)):
            features, labels = batch.features["features"].double() - means.origin - centre, batch.labels
            places = features @ axes.T / radius
            for label, place in zip(labels.tolist(), places.tolist(), strict=True):
                if label < shown and left[label]:
                    left[label] -= 1
                    points.append((label, place[0], place[1] if len(place) > 1 else 0.0))
        return tuple(points)

    def _shard(self, model: nn.Module, split: str, *, whole: bool = False) -> Shard:
        # With a precision such as "64-true" Fabric converts the model.
        dtype = next(model.parameters()).dtype
        rank, processes = (0, 1) if whole else (self.fabric.global_rank, self.fabric.world_size)
        return Shard(self._sets()[split], rank, processes, self.workers, dtype=dtype)

    def _sets(self) -> dict[str, Dataset[Any]]:
        """What is measured: under noise also the training samples with their clean labels."""
        labelled = self.labelled
        sets = {"train": labelled.data.train, "test": labelled.data.test}
        if labelled.noisy:
            sets["train, clean labels"] = labelled.clean_train
        if labelled.validation is not None:
            sets["validation"] = labelled.validation
        return sets
