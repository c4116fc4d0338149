"""Where a network is changed: its classifier, the layer that is tuned, and the head put in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.features.classifier import bias_of, size_of, weight_of
from tightframe.features.evaluation import unwrapped
from tightframe.features.layers import named
from tightframe.features.tap import FeatureTap
from tightframe.nn.heads.narrowing import linear
from tightframe.nn.tuning.delta import inside


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a model: a tuple or a dict of them, or the only one.

    >>> arguments({"pixel_values": 1}), arguments(2)
    (((), {'pixel_values': 1}), ((2,), {}))
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def classifier_of(model: nn.Module, name: str | None, inputs: Any) -> tuple[str, nn.Module]:
    """Path and module of the classifier that FeatureTap finds, by structure or on example `inputs`.

    Raises:
        InputError: A wrapped model, or a classifier that cannot be a head of its own.
        AmbiguityError: Several linear maps may be the classifier.
    """
    if unwrapped(model) is not model:
        raise InputError(
            "the model itself",
            got=f"{type(model).__name__}, which holds on to the parameters inside",
            remedy="Change the model first; wrap or compile it, and build the optimiser, afterwards.",
        )
    tap = FeatureTap(model, classifier=name)
    if inputs is not None:
        placed, keywords = arguments(inputs)
        tap(*placed, **keywords)
    path, found = tap.classifier_name, tap.classifier
    if path == "" or isinstance(found, nn.Conv2d):
        raise InputError(
            "a classifier that is a linear layer inside the model",
            got="the model itself" if path == "" else f"{path}, a 1x1 convolution",
            remedy="Wrap it in nn.Sequential." if path == "" else "Pool first, then use nn.Flatten and nn.Linear.",
        )
    if tap.tied:
        raise InputError(
            "a classifier with a weight of its own",
            got=f"{path}, whose weight is also an embedding's",
            remedy="Untie them first (in Hugging Face models tie_word_embeddings=False); the embedding stays as large.",
        )
    return path, found


def checked_layer(model: nn.Module, layer: str, head: str) -> str:
    """Path of one layer with weights, before the classifier.

    Raises:
        InputError: No such layer (near names are listed), several, one without weights or one with the classifier.
    """
    paths = named(model, [layer])
    if len(paths) > 1:
        raise InputError(
            "one layer", got=f"{layer!r}, which matches {', '.join(paths[:5])}", remedy="Name the block that has them."
        )
    (path,) = paths
    module = model.get_submodule(path)
    if inside(head, path) or inside(path, head):
        raise InputError(
            f"a layer before the classifier {head!r}", got=repr(path), remedy="Name a block of the backbone."
        )
    if next(module.parameters(), None) is None:
        raise InputError(
            "a layer with weights to train",
            got=f"{path!r}, a {type(module).__name__} without",
            remedy="Name the block around it.",
        )
    return path


def declared_width(module: nn.Module) -> int | None:
    """Width of the last module inside that has weights, which is that of most blocks' outputs; None if none says."""
    parts = [part for part in module.modules() if next(part.parameters(recurse=False), None) is not None]
    for name in ("out_features", "out_channels", "num_features", "num_channels"):
        if parts and isinstance(size := getattr(parts[-1], name, None), int):
            return size
    shape = getattr(parts[-1], "normalized_shape", None) if parts else None
    return shape[-1] if shape else None


def empty_like(module: nn.Module) -> Tensor:
    """No numbers, on the device and in the precision of a linear map's weight (quantised ones: torch's default)."""
    weight = weight_of(module)
    return torch.empty(0, device=weight.device, dtype=weight.dtype if weight.is_floating_point() else None)


def new_head(old: nn.Module, features: int, classes: int, *, seed: int) -> nn.Linear:
    """A linear classifier like `old` in device, precision, bias and training flag, with new weights."""
    made = linear(features, classes, bias=bias_of(old) is not None, like=empty_like(old), seed=seed)
    return made.train(old.training)


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """`new` wherever `old` is registered."""
    places = [(parent, name) for parent in model.modules() for name, child in parent._modules.items() if child is old]
    for parent, name in places:
        setattr(parent, name, new)


def put_head(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """`new` wherever `old` is registered; a Hugging Face model learns its number of classes."""
    put(model, old, new)
    classes, _ = size_of(new)
    if hasattr(getattr(model, "config", None), "num_labels"):
        model.config.num_labels = classes
    if isinstance(getattr(model, "num_labels", None), int):
        model.num_labels = classes
