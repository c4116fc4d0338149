"""One door to pretrained image networks: "hf:NAME", "timm:NAME", and factories of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from tightframe.core.checks import check_count
from tightframe.core.errors import AmbiguityError, InputError
from tightframe.core.rng import generator
from tightframe.features.evaluation import evaluation
from tightframe.features.tap import FeatureTap
from tightframe.nn.backbones.preparation import Preparation, Statistics
from tightframe.nn.backbones.pretrained import Pretrained, Size, read_factory, read_timm, read_transformers
from tightframe.nn.heads.narrowing import linear

SPECS = ("hf:NAME_OR_PATH", "timm:NAME", "IMPORT.PATH:factory")
_READERS = {"hf": read_transformers, "timm": read_timm}


@dataclass(frozen=True)
class Backbone:
    """A pretrained network and what it wants of its images.

    Args:
        model: Maps images (N, C, H, W) to logits (N, K), or to features (N, d) where `classes` is None. In evaluation
            mode.
        features: d, the dimension of what enters the classifier.
        size: (C, H, W) of the images wanted.
        mean: Mean that the images are to be standardised by, of each channel in units of 0..1; empty where nothing
            tells, and the images are taken as they are.
        std: Standard deviation, likewise.
        classes: K, or None without a classifier.
        name: What was asked for.
        classifier: Path of the linear classifier in the model, or None.
    """

    model: nn.Module = field(repr=False)
    features: int
    size: Size
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: int | None = None
    name: str = ""
    classifier: str | None = None

    def preparation(self, *, mean: Statistics = (), std: Statistics = ()) -> Preparation:
        """The module that makes images of a data set standardised by `mean` and `std` into what this one wants.

        Raises:
            InputError: No statistics of the data where the backbone has its own.
        """
        return Preparation(self.size, wanted_mean=self.mean, wanted_std=self.std, mean=mean, std=std)

    def prepared(self, images: Tensor, *, mean: Statistics = (), std: Statistics = ()) -> Tensor:
        """Images (N, C, H, W), standardised by `mean` and `std`, resized and standardised as this backbone wants.

        For a whole data set, build `preparation` once and put it in front of the model.
        """
        return self.preparation(mean=mean, std=std)(images)

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, d) of prepared images, in evaluation mode and without gradients.

        Raises:
            InputError: Images of another size or number of channels.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.size:
            raise InputError(
                f"images of shape (N, C, H, W) with (C, H, W) = {self.size}, as {self.name or 'the backbone'} wants",
                got=f"shape {tuple(images.shape)}",
                remedy="Pass them through prepared(images, mean=data.mean, std=data.std).",
            )
        if self.classifier is not None:
            return FeatureTap(self.model, classifier=self.classifier)(images).features["features"]
        with evaluation(self.model):
            return self.model(images)


class Headed(nn.Module):
    """A trunk that gives features (N, d), and a linear classifier on them: `classifier(forward_features(x))`."""

    def __init__(self, trunk: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.trunk: nn.Module = trunk
        self.classifier: nn.Module = classifier

    def forward_features(self, x: Tensor) -> Tensor:
        """Features (N, d) of images (N, C, H, W)."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.classifier(self.trunk(x))


def backbone(spec: str, *, classes: int | None = None, size: Size | None = None, seed: int = 0) -> Backbone:
    """Read the pretrained network that `spec` names.

    Args:
        spec: "hf:NAME" (a network of transformers on the Hugging Face hub, or a directory of `save_pretrained`; of CLIP
            and its relatives, the image side), "timm:NAME" (a network of timm), or "IMPORT.PATH:factory" (a function
            without arguments that returns an nn.Module, or a `Backbone` that says more).
        classes: K of a new, untrained linear classifier in place of the checkpoint's; None keeps what there is.
        size: (C, H, W) of the images, where neither the checkpoint nor its architecture says (factories), or where the
            network takes several sizes (convolutions) and another is wanted.
        seed: Seed of the new classifier.

    Returns:
        Backbone with the network in evaluation mode, those of transformers in float32. Reading is silent; networks of
        the hub are kept in its cache, so that a second reading needs no connection.

    Raises:
        InputError: No such network, no image network, weights missing, an unknown size, or a size that it cannot take.
        MissingDependencyError: "hf:" without transformers, "timm:" without timm and torchvision.
    """
    kind, _, place = spec.partition(":")
    if not kind or not place:
        raise InputError(f"a backbone, one of {', '.join(SPECS)}", got=repr(spec), remedy="Name one like these.")
    if classes is not None:
        check_count(classes, "classes", least=2)
    found = _READERS[kind](place) if kind in _READERS else read_factory(spec)
    if isinstance(found, nn.Module):
        found = Pretrained(found, None)
    if isinstance(found, Backbone):
        # The network is read again below, so that what the factory says of it is checked.
        found = Pretrained(found.model, found.size, found.mean, found.std)
    if not isinstance(found, Pretrained):
        raise InputError(
            f"{spec} returns an nn.Module or a Backbone", got=type(found).__name__, remedy="Return the network."
        )
    described = _described(found, _size(found, size, spec), spec)
    return described if classes is None else _with_classifier(described, classes, seed)


def _size(found: Pretrained, asked: Size | None, name: str) -> Size:
    if asked is not None:
        if len(asked) != 3 or min(asked) < 1:
            raise InputError("a size (C, H, W), each 1 or more", got=repr(asked), remedy="Pass size=(3, 224, 224).")
        return tuple(asked)
    if found.size is None:
        raise InputError(
            f"the size of the images that {name} wants",
            got="none in the checkpoint or the network",
            remedy="Pass size=(C, H, W), for example size=(3, 224, 224).",
        )
    return tuple(found.size)


def _described(found: Pretrained, size: Size, name: str) -> Backbone:
    """The backbone, from a forward pass of two random images: is there a classifier, and how many features enter it?"""
    network = found.network.eval()
    like = _like(network)
    images = torch.randn(2, *size, generator=generator(0)).to(like)
    tap = FeatureTap(network)
    try:
        rows = tap(images).features["features"]
        path, classes = tap.classifier_name, tap.classes
    except AmbiguityError:
        if callable(getattr(network, "reset_classifier", None)):
            # timm: the features that several heads share, and not the mean of their logits.
            network.reset_classifier(0)
        with evaluation(network):
            rows, path, classes = network(images), None, None
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:  # whatever its layers raise
        raise InputError(
            f"a network that takes images of {size}",
            got=f"{name}: {(str(error).splitlines() or [type(error).__name__])[0]}",
            remedy="Pass the size it was built for, size=(C, H, W).",
        ) from error
    if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != 2:
        got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise InputError(
            f"{name} gives logits, or features of shape (n, d)", got=got, remedy="Pool its output to one row per image."
        )
    return Backbone(network, rows.shape[1], size, found.mean, found.std, classes, name, path)


def _with_classifier(found: Backbone, classes: int, seed: int) -> Backbone:
    """The backbone with a new linear classifier, in place of its own or behind its features."""
    made = linear(found.features, classes, bias=True, like=_like(found.model), seed=seed)
    if found.classifier is None:
        return replace(found, model=Headed(found.model, made).eval(), classes=classes, classifier="classifier")
    old = found.model.get_submodule(found.classifier)
    for parent in found.model.modules():
        for name in [name for name, child in parent.named_children() if child is old]:
            setattr(parent, name, made.eval())
    inner = getattr(found.model, "network", None)
    if hasattr(getattr(inner, "config", None), "num_labels"):
        # What transformers saves of it can be read back.
        inner.config.num_labels = classes
    return replace(found, classes=classes)


def _like(network: nn.Module) -> Tensor:
    """A tensor of the network's device and dtype; raw pixels, a baseline, come from a network without parameters."""
    return next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
