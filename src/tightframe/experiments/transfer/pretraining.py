"""Networks pretrained on real images by different recipes, kept as safetensors, and given a new head elsewhere."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tightframe.core.errors import InputError
from tightframe.core.rng import preserved_rng
from tightframe.data.labelled.images import ImageData
from tightframe.experiments.base import Place
from tightframe.experiments.study import Config, Study
from tightframe.experiments.transfer.image_tasks import ImageTask, read_task
from tightframe.features.evaluation import evaluation
from tightframe.nn.networks import build
from tightframe.nn.rate.rate_reduction import MCR2Loss
from tightframe.runs.record import Record
from tightframe.runs.store import write_atomic
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit
from tightframe.trials.levers import RateReductionObjective, build_loss
from tightframe.trials.shard import Shard
from tightframe.trials.trial import TrialConfig, initial_model

_HEAD = "classifier"
_ABOUT = "pretraining"


@dataclass(frozen=True)
class Recipe:
    """How a network is pretrained.

    Args:
        name: What it is called.
        source: What it is trained on.
        model: Network, as for `TrialConfig`.
        width: Its width.
        depth: Hidden layers of an MLP, or blocks of a vit.
        head: Classifier, as for `TrialConfig`.
        projection: Train with a hidden layer of the features' width before the classifier; it is left out afterwards.
            The rate reduction ("mcr2") is then that of what this layer computes, as in its source: features behind a
            ReLU are lost where all their units die, and rows of zeros have no direction.
        snapshots: Epochs before the last whose networks are kept too.
        train: How it is trained: loss, epochs, decay, augmentation.
    """

    name: str
    source: ImageTask
    model: str = "resnet18"
    width: int | None = 8
    depth: int = 4
    head: str = "linear"
    projection: bool = False
    snapshots: tuple[int, ...] = ()
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "snapshots", tuple(self.snapshots))
        if self.projection and self.head != "linear":
            raise InputError(
                "a linear head behind a projection", got=f"head={self.head!r}", remedy="Leave one of the two out."
            )
        if any(not 0 < epoch < self.train.epochs for epoch in self.snapshots):
            raise InputError(
                f"snapshots between the first epoch and the last, {self.train.epochs}",
                got=repr(self.snapshots),
                remedy="The last network is always kept.",
            )

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs of the networks that are kept, ascending."""
        return (*sorted(set(self.snapshots)), self.train.epochs)


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained network without its head.

    Args:
        recipe: How it was trained.
        epoch: After which epoch.
        accuracy: On the test samples of its source, with the head it was trained with.
        state: Entries of the network's state, those of the classifier left out.
    """

    recipe: Recipe
    epoch: int
    accuracy: float
    state: Mapping[str, Tensor]

    def network(self, classes: int, *, shape: tuple[int, int, int], seed: int = 0) -> nn.Module:
        """The network with a new linear classifier of `classes` classes, in evaluation mode.

        Args:
            classes: K.
            shape: (C, H, W) of the images.
            seed: Of the classifier.
        """
        recipe = self.recipe
        with preserved_rng():
            torch.manual_seed(seed)
            model = build(recipe.model, shape=shape, classes=classes, width=recipe.width, depth=recipe.depth)
        head = {name: value for name, value in model.state_dict().items() if name.startswith(f"{_HEAD}.")}
        model.load_state_dict({**self.state, **head})
        return model.eval()


def pretrained(recipe: Recipe, *, root: Path | None = None, kept: Path | None = None) -> tuple[Checkpoint, ...]:
    """The networks of a recipe, by epoch; trained unless `kept` has them already.

    Args:
        recipe: How to train.
        root: Folder of the data sets.
        kept: Folder that networks are read from, and written to as safetensors; None keeps no files.

    Raises:
        InputError: As for `read_task`, `build` and `build_loss`; a file of another recipe.
        DegenerateError: Training diverged.
    """
    files = [kept and kept / f"{recipe.name.replace(' ', '-')}-{epoch}.safetensors" for epoch in recipe.epochs]
    if all(file is not None and file.is_file() for file in files):
        return tuple(_read(file, recipe, epoch) for file, epoch in zip(files, recipe.epochs, strict=True))
    made = _trained(recipe, read_task(recipe.source, root))
    for file, checkpoint in zip(files, made, strict=True):
        if file is not None:
            _write(file, checkpoint)
    return made


class ProjectedRates(nn.Module):
    """MCR2 on what the hidden layer of a projection computes, and cross-entropy of the classifier behind it.

    Args:
        rates: The loss on rows (n, d).
        head: `hidden`, and what reads its outputs without moving them.
    """

    needs_features = True

    def __init__(self, rates: MCR2Loss, head: nn.Sequential) -> None:
        super().__init__()
        self.rates: MCR2Loss = rates
        # The head belongs to the network, so it is kept out of this module's parameters and state.
        self._head = (head,)

    def forward(self, logits: Tensor, target: Tensor, *, features: Tensor) -> Tensor:
        """The sum of both, for logits (N, K) that are not used, and features (N, d) before the projection."""
        hidden, *rest = self._head[0]
        rows = hidden(features)
        return self.rates(rows, target) + cross_entropy(nn.Sequential(*rest)(rows.detach()), target)


class PretrainedStudy(Study[Config]):
    """A study that keeps its pretrained networks in its run directory, and reads them back when it is resumed.

    Its `investigate` takes the folder as the keyword `kept`.
    """

    def run(self, preset: str = "smoke", *, config: Config | None = None, place: Place | None = None) -> Record:
        """As `Study.run`."""
        kept = None if place is None or place.out is None else place.out / "checkpoints"
        keeping = Study(self.entry, self.presets, partial(self.investigate, kept=kept))
        return keeping.run(preset, config=config, place=place)


def _trained(recipe: Recipe, data: ImageData) -> tuple[Checkpoint, ...]:
    config = TrialConfig(
        data=recipe.source.data,
        model=recipe.model,
        width=recipe.width,
        depth=recipe.depth,
        head=recipe.head,
        train=recipe.train,
    )
    model = initial_model(config, data)
    if recipe.projection:
        _project(model, seed=recipe.train.seed)
    found: list[Checkpoint] = []

    def keep(epoch: int, network: nn.Module) -> list:
        if epoch in recipe.epochs:
            state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items() if not _of_head(k)}
            found.append(Checkpoint(recipe, epoch, _accuracy(network, data), state))
        return []

    loss = build_loss(recipe.train.loss, samples=len(data.train), model=model)
    if recipe.projection and isinstance(loss, RateReductionObjective):
        loss = ProjectedRates(loss.rates, model.get_submodule(_HEAD))
    fit(model, data.train, config=recipe.train, loss_function=loss, on_epoch=keep, run=recipe.name)
    return tuple(found)


def _project(model: nn.Module, *, seed: int) -> None:
    head = model.get_submodule(_HEAD)
    with preserved_rng():
        torch.manual_seed(seed)
        hidden = nn.Linear(head.in_features, head.in_features)
    model.add_module(_HEAD, nn.Sequential(OrderedDict(hidden=hidden, relu=nn.ReLU(), classifier=head)))


def _accuracy(model: nn.Module, data: ImageData) -> float:
    device = next(model.parameters()).device
    with evaluation(model):
        right = [(model(x.to(device)).argmax(1).cpu() == y).double().sum() for x, y in Shard(data.test)]
    return float(sum(right)) / len(data.test)


def _of_head(name: str) -> bool:
    return name.startswith(f"{_HEAD}.")


def _about(recipe: Recipe, epoch: int) -> dict[str, object]:
    return {"recipe": json.loads(json.dumps(asdict(recipe))), "epoch": epoch}


def _write(path: Path, checkpoint: Checkpoint) -> None:
    from safetensors.torch import save

    about = _about(checkpoint.recipe, checkpoint.epoch) | {"accuracy": checkpoint.accuracy}
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in checkpoint.state.items()}
    write_atomic(path, save(state, {_ABOUT: json.dumps(about)}))


def _read(path: Path, recipe: Recipe, epoch: int) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            "a whole file of a pretrained network", got=f"{path.name} ({error})", remedy="Remove it."
        ) from error
    accuracy = about.pop("accuracy", None)
    if about != _about(recipe, epoch):
        raise InputError(
            f"the network of recipe {recipe.name!r} after {epoch} epochs",
            got=f"{path.name}, which is of another one",
            remedy="Choose another --out, or remove the file.",
        )
    return Checkpoint(recipe, epoch, accuracy, state)
