"""What a trial can vary: loss, head and feature dimension, by short names such as "focal:gamma=3" and "etf"."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.nn.heads.alignment import AlignedETFHead, aligning
from tightframe.nn.heads.surgery import reduce_features, replace_head
from tightframe.nn.losses.losses import FocalLoss, LabelSmoothingLoss, RescaledMSELoss
from tightframe.nn.losses.robust import EarlyLearningLoss, GeneralizedCrossEntropyLoss
from tightframe.nn.rate.rate_reduction import MCR2Loss
from tightframe.nn.sop.sop import SOPLoss

HEADS = ("linear", "etf", "normalized", "aligned")


class RateReductionObjective(nn.Module):
    """MCR2 on the last features, and cross-entropy of a classifier that reads them without moving them.

    Args:
        head: The network's classifier.
        options: Keyword arguments of `MCR2Loss`.
    """

    needs_features = True

    def __init__(self, head: nn.Module, **options: float) -> None:
        super().__init__()
        self.rates: MCR2Loss = MCR2Loss(**options)
        # The classifier belongs to the network, so it is kept out of this module's parameters and state.
        self._head = (head,)

    def forward(self, logits: Tensor, target: Tensor, *, features: Tensor) -> Tensor:
        """The sum of both, for logits (N, K) that are not used."""
        read = nn.functional.cross_entropy(self._head[0](features.detach()), target)
        return self.rates(features, target) + read


def build_head(model: nn.Module, name: str, *, feature_dim: int | None = None, seed: int = 0) -> nn.Module:
    """Give `model`, with a module `classifier`, another head and another feature dimension; it is changed in place.

    Args:
        model: The network.
        name: One of `HEADS`.
        feature_dim: Dimension that the last block is reduced to; None leaves it.
        seed: Of the placement of a fixed frame.

    Raises:
        InputError: An unknown head.
    """
    if name not in HEADS:
        raise InputError(f"a head, one of {', '.join(HEADS)}", got=repr(name), remedy="Choose one of these.")
    if feature_dim is not None:
        reduce_features(model, feature_dim, classifier="classifier")
    if name != "linear":
        options = {} if name == "normalized" else {"seed": seed}
        replace_head(model, name, classifier="classifier", **options)
    return model


def build_loss(spec: str, *, samples: int, model: nn.Module) -> nn.Module:
    """The loss that `spec` names, for `samples` training samples and the classes of `model.classifier`.

    Args:
        spec: A name of `LOSSES`, with options after a colon: "ls:smoothing=0.05", "sop:rate=3,balance=0.1".
        samples: N, which losses with one row per sample need.
        model: The network, whose classifier is `classifier`.

    Raises:
        InputError: Unknown name or option, or a value that is not a number.
    """
    name, options = parse_loss(spec)
    head = model.get_submodule("classifier")
    loss = _MAKERS[name](samples, head, options)
    return aligning(loss, head) if isinstance(head, AlignedETFHead) else loss


def parse_loss(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a loss: "focal:gamma=3" is ("focal", {"gamma": 3}).

    Raises:
        InputError: Unknown name or option, or a value that is not a number.
    """
    name, _, text = spec.partition(":")
    if name not in _CLASSES:
        raise InputError(f"a loss, one of {', '.join(LOSSES)}", got=repr(spec), remedy="Choose one of these.")
    known = _known(name)
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        key = key.replace("-", "_")
        if key not in known:
            raise InputError(
                f"an option of the loss {name!r}, one of {', '.join(known) or 'none'}",
                got=repr(key),
                remedy="Write options as name=value, separated by commas.",
            )
        options[key] = value if isinstance(known[key], str) and value else _number(name, key, value)
    return name, options


def _number(name: str, key: str, text: str) -> int | float:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError as error:
        raise InputError(
            f"a number for {key} of the loss {name!r}", got=repr(text), remedy=f"Write {name}:{key}=1, for example."
        ) from error


def _known(name: str) -> dict[str, Any]:
    """Options of a loss and their defaults; its reduction is none: training takes the mean."""
    parameters = inspect.signature(_CLASSES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "reduction"}


_CLASSES: dict[str, type[nn.Module]] = {
    "ce": nn.CrossEntropyLoss,
    "ls": LabelSmoothingLoss,
    "focal": FocalLoss,
    "mse": RescaledMSELoss,
    "gce": GeneralizedCrossEntropyLoss,
    "elr": EarlyLearningLoss,
    "sop": SOPLoss,
    "sop+": SOPLoss,
    "mcr2": MCR2Loss,
}
LOSSES = tuple(_CLASSES)

Maker = Callable[[int, nn.Module, dict[str, Any]], nn.Module]


def _plain(name: str) -> Maker:
    return lambda samples, head, options: _CLASSES[name](**options)


def _per_sample(name: str, **defaults: float) -> Maker:
    return lambda samples, head, options: _CLASSES[name](samples, head.out_features, **{**defaults, **options})


_MAKERS: dict[str, Maker] = {
    **{name: _plain(name) for name in ("ce", "ls", "focal", "mse", "gce")},
    "elr": _per_sample("elr"),
    "sop": _per_sample("sop"),
    "sop+": _per_sample("sop+", balance=0.1, consistency=0.9),
    "mcr2": lambda samples, head, options: RateReductionObjective(head, **options),
}
