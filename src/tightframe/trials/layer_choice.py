"""`rank_layers`: which block of a pretrained network to tune, by short probes on samples held out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ImageData, balanced_indices, stratified_split
from tightframe.features.classifier import is_linear_map, size_of
from tightframe.features.layers import blocks, named
from tightframe.nn.tuning.delta import inside
from tightframe.nn.tuning.fine_tuning import tune
from tightframe.nn.tuning.placement import classifier_of
from tightframe.nn.tuning.tuning import Tuning
from tightframe.training.fabric import connect
from tightframe.trials.best_head import start_head
from tightframe.trials.prepared import Prepare, PreparedImages, Taken
from tightframe.trials.transfer_config import PLACED, TransferConfig
from tightframe.trials.tuned_epochs import Diary, collapse_of, judged, layer_rows, task_of, train

if TYPE_CHECKING:
    from lightning.fabric import Fabric

# Samples that layers are compared on, and splits at most.
_JUDGED, _SPLITS = 500, 5


@dataclass(frozen=True)
class LayerScore:
    """One candidate.

    Args:
        layer: Its path.
        accuracy: Share of the held-out samples that short tunings of it get right, over all splits.
        nc1: NC1 of its pooled output before tuning; None where it is undefined.
        h_score: H-score of the same.
        trainable: Parameters that tuning it trains, with the head.
        share: The same as part of all.
        seconds: Seconds of the probe.
    """

    layer: str
    accuracy: float
    nc1: float | None
    h_score: float | None
    trainable: int
    share: float
    seconds: float


@dataclass(frozen=True)
class LayerChoice:
    """The candidates in forward order, and the path of the chosen one."""

    chosen: str
    scores: tuple[LayerScore, ...]

    def to_rows(self) -> list[dict[str, Any]]:
        """Plain rows, with a column that says which is chosen."""
        return [asdict(score) | {"chosen": score.layer == self.chosen} for score in self.scores]


def candidate_layers(model: nn.Module, *, classifier: str | None = None, inputs: Any = None) -> tuple[str, ...]:
    """Paths of the blocks with weights before the classifier; of the weighted layers in a network without blocks.

    Raises:
        InputError: None.

    >>> from tightframe.nn.networks import MLP
    >>> candidate_layers(MLP(4, 3, widths=(8, 8)))
    ('blocks.0', 'blocks.1')
    """
    head, _ = classifier_of(model, classifier, inputs)

    def fits(path: str, module: nn.Module) -> bool:
        apart = path and not inside(head, path) and not inside(path, head)
        return bool(apart) and next(module.parameters(), None) is not None

    members = [member for path in blocks(model) for member in _members(model, path)]
    found = [path for path in members if fits(path, model.get_submodule(path))]
    if not found:
        modules = model.named_modules()
        weighted = (nn.modules.conv._ConvNd,)
        found = [path for path, m in modules if (is_linear_map(m) or isinstance(m, weighted)) and fits(path, m)]
    if not found:
        raise InputError("a layer with weights before the classifier", got="none", remedy='Use method="linear".')
    return tuple(found)


def rank_layers(
    model: nn.Module,
    data: ImageData,
    config: TransferConfig,
    *,
    prepare: Prepare | None = None,
    layers: Sequence[str] | None = None,
    cache: Path | None = None,
    fabric: Fabric | None = None,
    progress: bool = False,
) -> LayerChoice:
    """Tune every candidate layer for a few steps and choose by accuracy on samples held out.

    The frozen trunk of a candidate runs once over at most `config.probe_samples` training samples. Few samples are
    split up to five times, until 500 are held out in all: on 100 samples an accuracy has a standard error of five
    points, more than there is between layers. Of equal accuracies that with fewer parameters wins. NC1 and H-score
    stand beside it for the record: the smallest NC1 of the training features does not say which layer is best.

    Args:
        model: The pretrained network, left as it is.
        data: Images; only the training set is read.
        config: How; its method is "layer" or "scl".
        prepare: Turns images of the data into images as the network knows them.
        layers: Names or globs of the candidates; None for `candidate_layers`.
        cache: Folder for the files of a candidate's trunk, which go with its probe; None for the system's place.
        fabric: A launched Fabric; by default one on the CPU.
        progress: Show progress on the error stream.

    Raises:
        InputError: A class with one sample, which cannot be on both sides; a method without layer; no candidates.
    """
    if config.method not in PLACED:
        raise InputError('the method "layer" or "scl"', got=repr(config.method), remedy="The others have no layer.")
    fabric = fabric_on("cpu") if fabric is None else fabric
    images = PreparedImages(data.train, prepare)
    some = images.take(balanced_indices(images.labels, max(config.probe_samples, len(images.labels.unique()))))
    splits = _splits(some.labels, config)
    example = images.gather([0])[0].to(fabric.device)
    fixed = deepcopy(model).to(fabric.device)
    if layers is None:
        layers = candidate_layers(fixed, classifier=config.classifier, inputs=example)
    paths = named(fixed, layers)
    features, labels = layer_rows(fixed, some, paths, classifier=config.classifier, tokens=config.tokens)
    scores = []
    for path in paths:
        clock = time.perf_counter()
        tuning = prepared_tuning(fixed, replace(config, layer=path), len(data.classes), example)
        accuracy = _probe(tuning, some, splits, config, fabric, cache=cache, progress=progress)
        share, seen = tuning.describe(), _geometry(features, path, labels)
        seconds = time.perf_counter() - clock
        scores.append(LayerScore(path, accuracy, *seen, share.trainable, share.share, seconds))
    best = min(scores, key=lambda score: (-score.accuracy, score.trainable))
    return LayerChoice(best.layer, tuple(scores))


def prepared_tuning(model: nn.Module, config: TransferConfig, classes: int, example: Tensor) -> Tuning:
    """A copy of the network with the method of `config` around it.

    Raises:
        InputError: As `tune`; or a head that is kept and has another number of classes than the data.
    """
    options: dict[str, Any] = {"classifier": config.classifier, "inputs": example, "seed": config.seed}
    options |= {"tokens": config.tokens} if config.method == "scl" else {}
    options |= {"rank": config.rank} if config.method == "lora" else {}
    layer = config.layer if config.method in PLACED else None
    if config.keep_head:
        _check_kept(model, config.classifier, example, classes)
    new = None if config.keep_head else classes
    return tune(deepcopy(model), config.method, layer=layer, classes=new, **options)


def fabric_on(device: torch.device | str) -> Fabric:
    """A launched Fabric on the kind of device that is named."""
    return connect(accelerator=torch.device(device).type)


def _members(model: nn.Module, path: str) -> list[str]:
    """The blocks of a stage, as transformers and timm call a group of them; a block itself otherwise."""
    module = model.get_submodule(path)
    if "stage" not in type(module).__name__.lower():
        return [path]
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            inner = [f"{path}.{name}.{key}" for key, part in child.named_children() if next(part.children(), None)]
            if inner:
                return inner
    return [path]


def _splits(labels: Tensor, config: TransferConfig) -> list[tuple[Tensor, Tensor]]:
    """Indices of the samples kept and held out, as often as it takes for `_JUDGED` to be held out."""
    first = stratified_split(labels, held_out=config.held_out, seed=config.seed)
    times = min(_SPLITS, math.ceil(_JUDGED / len(first[1])))
    seeds = range(config.seed + 1, config.seed + times)
    return [first, *(stratified_split(labels, held_out=config.held_out, seed=seed) for seed in seeds)]


def _probe(
    tuning: Tuning,
    images: Taken,
    splits: Sequence[tuple[Tensor, Tensor]],
    config: TransferConfig,
    fabric: Fabric,
    *,
    cache: Path | None,
    progress: bool,
) -> float:
    """Accuracy on what is held out, after a short tuning on what is kept, over the splits."""
    begin = {name: value.clone() for name, value in tuning.state_dict().items()}
    right = []
    with task_of(tuning, {"train": images}, cache=None, cached=config.cached, scratch=cache) as whole:
        for kept, held in splits:
            tuning.load_state_dict(begin)
            task = replace(whole, sets={"train": Taken(whole.sets["train"], kept)})
            if config.start == "probe":
                start_head(task, config, tuning.classes)
            epochs = math.ceil(config.probe_steps / math.ceil(len(kept) / config.batch_size))
            diary = Diary(task, config.method, ())
            train(task, config.train(epochs), fabric, diary, workers=0, progress=progress)
            right.append(judged(task.module, Taken(whole.sets["train"], held))[0])
    return fmean(right)


def _geometry(features: dict[str, Tensor], path: str, labels: Tensor) -> tuple[float | None, float | None]:
    rows = features.get(path)
    # Rows of all positions of a sequence have no label each.
    return (None, None) if rows is None or len(rows) != len(labels) else collapse_of(rows, labels)


def _check_kept(model: nn.Module, classifier: str | None, example: Tensor, classes: int) -> None:
    _, head = classifier_of(model, classifier, example)
    if size_of(head)[0] != classes:
        raise InputError(
            f"a head of {classes} classes, as the data have, to go on with",
            got=f"one of {size_of(head)[0]}",
            remedy="Let a new head be trained (leave keep_head out).",
        )
