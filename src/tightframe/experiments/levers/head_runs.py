"""Networks trained with a learned classifier and with others, and what fixing and narrowing it saves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from tightframe.core.errors import InputError
from tightframe.core.rng import preserved_rng
from tightframe.experiments.measured import SIGNS, Row, epochs_of, values
from tightframe.nn.heads.shapes import ParameterCount, parameters
from tightframe.nn.heads.surgery import reduce_features, replace_head
from tightframe.nn.networks import build
from tightframe.training.config import TrainConfig
from tightframe.trials.trial import Trial, TrialConfig, run_trial

LEARNED, FRAME = "learned", "simplex frame"
# Name, head of the trial, feature dimension; every data set of the presets has ten classes.
HEADS = (
    (LEARNED, "linear", None),
    (FRAME, "etf", None),
    (f"{FRAME}, d = K", "etf", 10),
    (f"{FRAME}, d = K - 1", "etf", 9),
    (f"{LEARNED}, d = K", "linear", 10),
    ("normalised", "normalized", None),
    ("aligned frame", "aligned", None),
)
_METRICS = ("NC1", "NC2 features", "NC2 classifier", "NC3", "NC4")
# Networks with the stem for images of 224 pixels, ten classes.
_REDUCED = ("resnet18", "resnet50")


@dataclass(frozen=True)
class Setting:
    """A network on a data set, trained alike with every head.

    Args:
        data: Data set; "digits" is split anew by every seed.
        model: Network.
        width: Its width; None for its default.
        depth: Hidden layers of an MLP.
        limit: Training samples; None for all.
        train: How it is trained; the seed in it is not used.
    """

    data: str
    model: str
    train: TrainConfig
    width: int | None = None
    depth: int = 3
    limit: int | None = None

    @property
    def name(self) -> str:
        """Data set and network."""
        return f"{self.data}, {self.model}"


@dataclass(frozen=True)
class Config:
    """What is compared.

    Args:
        settings: Networks and data sets.
        heads: Name, head and feature dimension (None leaves it) of what is compared, the learned classifier first.
        seeds: Of weights, order of samples, and the split of the digits.
        observations: Epochs at which a network is measured.
    """

    settings: tuple[Setting, ...]
    heads: tuple[tuple[str, str, int | None], ...] = HEADS
    seeds: tuple[int, ...] = (0, 1, 2)
    observations: int = 8

    def __post_init__(self) -> None:
        names = [name for name, _, _ in self.heads]
        if not self.settings or not self.seeds or names[:1] != [LEARNED] or FRAME not in names:
            raise InputError(
                f"a setting, a seed, and heads with {LEARNED!r} first and {FRAME!r} among them",
                got=f"{len(self.settings)} settings, seeds={self.seeds}, heads {names}",
                remedy="Leave `heads` as it is, or drop some of the others.",
            )


Item = tuple[Setting, tuple[str, str, int | None], int, int, bool, Path | None]


def trained(item: Item) -> tuple[Row, list[Row]]:
    """One network with one head: what it reached, and, where asked for, how."""
    setting, (name, head, dim), seed, observations, drawn, root = item
    config = TrialConfig(
        data=f"digits:{seed}" if setting.data == "digits" else setting.data,
        model=setting.model,
        width=setting.width,
        depth=setting.depth,
        limit=setting.limit,
        layers="classifier",
        head=head,
        feature_dim=dim,
        observations=observations,
        train=replace(setting.train, seed=seed),
    )
    trial = run_trial(config, data_root=root)
    cell: Row = {"setting": setting.name, "head": name, "seed": seed}
    train, test = (values(trial, trial.last.epoch, split) for split in ("train", "test"))
    row = cell | {
        "d": trial.last.train.last.features,
        "trainable parameters": _trainable(trial.model),
        "of them in the classifier": _trainable(trial.model.get_submodule("classifier")),
        "test accuracy": test["accuracy"],
        "training accuracy": train["accuracy"],
        "test samples": trial.last.test.last.samples,
    }
    return row | {metric: train.get(metric) for metric in _METRICS}, _curves(trial, cell) if drawn else []


def published() -> list[Row]:
    """The networks that the sources name, at 1000 classes: what a fixed classifier saves of each."""
    named = ("resnet50", "densenet169", "shufflenet-biased", "shufflenet", "shufflenet-v2-x0.5", "shufflenet-v2-x1.0")
    return [_fixed(parameters(name, 1000)) for name in named]


def reduced() -> list[Row]:
    """ResNets with ten classes, whose classifier is fixed and whose features are reduced to ten by surgery."""
    rows = []
    for name in _REDUCED:
        model = _large_stem(name)
        before = _trainable(model)
        fixed = replace_head(model, "etf").after
        after = reduce_features(model, 10).after
        rows.append(
            _fixed(parameters(name, 10))
            | {
                "built": before,
                "with a fixed classifier": fixed,
                "and d = K": after,
                "saved": (before - after) / before,
            }
        )
    return rows


def _fixed(count: ParameterCount) -> Row:
    return {
        "network": count.name,
        "classes": count.classes,
        "d": count.features,
        "parameters": count.total,
        "weight of the classifier": count.head_weight,
        "share": count.head_weight / count.total,
    }


def _large_stem(name: str) -> nn.Module:
    """A ResNet of this library with the 7x7 stem; the pooling after it has no parameters."""
    with preserved_rng():
        model = build(name, shape=(3, 32, 32), classes=10)
        model.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    return model


def _curves(trial: Trial, cell: Row) -> list[Row]:
    rows = []
    for epoch in epochs_of(trial):
        found = {metric: values(trial, epoch, "train").get(metric) for metric in SIGNS}
        found["test error"] = 1 - values(trial, epoch, "test")["accuracy"]
        rows += [cell | {"epoch": epoch, "metric": metric, "value": value} for metric, value in found.items()]
    return rows


def _trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
