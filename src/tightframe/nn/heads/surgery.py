"""Swapping the classifier of a network, and narrowing the features that enter it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.features.classifier import bias_of, size_of
from tightframe.features.tap import FeatureTap
from tightframe.nn.heads.alignment import AlignedETFHead
from tightframe.nn.heads.heads import SimplexETFHead
from tightframe.nn.heads.narrowing import Swap, linear, narrowing
from tightframe.nn.heads.normalized import NormalizedHead
from tightframe.nn.tuning.placement import arguments, classifier_of, empty_like, put

Head = Literal["etf", "normalized", "aligned"] | Callable[..., nn.Module]
_HEADS = {"etf": SimplexETFHead, "normalized": NormalizedHead, "aligned": AlignedETFHead}


@dataclass(frozen=True)
class Replacement:
    """What was changed in a network, and what that saves.

    Attributes:
        model: The network, changed in place.
        path: Where its classifier was (where it still is, but for a map put in front of it).
        change: What was done, in words.
        before: Trainable parameters before.
        after: Trainable parameters after.
    """

    model: nn.Module = field(repr=False)
    path: str
    change: str
    before: int
    after: int

    @property
    def head(self) -> nn.Module:
        """The classifier now."""
        found = self.model.get_submodule(self.path)
        return found.classifier if isinstance(found, nn.Sequential) else found

    @property
    def saved(self) -> int:
        """Trainable parameters fewer (negative: more)."""
        return self.before - self.after

    @property
    def share(self) -> float:
        """Part of the trainable parameters that is saved."""
        return self.saved / self.before if self.before else 0.0

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.change}\n"
            f"trainable parameters {self.before:,} -> {self.after:,}: {self.saved:,} saved ({self.share:.2%})"
        )


def replace_head(
    model: nn.Module,
    head: Head = "etf",
    *,
    classifier: str | None = None,
    inputs: Any = None,
    **options: Any,
) -> Replacement:
    """Swap the classifier of a network, in place, for one of this library or your own.

    Do this before the optimiser is built and before the model is compiled or wrapped. The classifier is the linear map
    that FeatureTap finds: by structure, or by a forward pass of `inputs`. The new head has the old one's sizes, device
    and dtype, and a bias where that had one (a normalised head has none); its weights are new. Fixing the classifier of
    a network with few classes saves little; `reduce_features` saves more.

    Args:
        model: Any network whose classifier is an nn.Linear or alike, Hugging Face models among them. 1x1 convolutions
            and classifiers that share their weight with an embedding are refused.
        head: "etf", "normalized", "aligned", or a function of (in_features, out_features, **options) that makes a
            module.
        classifier: Path of the classifier, to settle an ambiguity.
        inputs: One example batch to find the classifier with: a tensor, a tuple of arguments or a dict of them.
        options: Arguments for the head.

    Raises:
        InputError: A wrapped model, a tied classifier, a 1x1 convolution, a model that is the classifier itself, an
            unknown head.
        AmbiguityError: Several linear maps may be the classifier.

    Example:
        >>> print(replace_head(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))))
        2: Linear(16, 4) became SimplexETFHead(16, 4)
        trainable parameters 212 -> 148: 64 saved (30.19%)

    Reference: [zhu2021geometric], section 4.3.
    """
    path, old = classifier_of(model, classifier, inputs)
    make = _HEADS.get(head) if isinstance(head, str) else head
    if not callable(make):
        raise InputError(
            f"a head, one of {', '.join(_HEADS)}, or a function that makes one", got=repr(head), remedy="Choose one."
        )
    classes, features = size_of(old)
    if make in (SimplexETFHead, AlignedETFHead):
        options.setdefault("bias", bias_of(old) is not None)
    made = make(features, classes, **options)
    if not isinstance(made, nn.Module):
        raise InputError("a head that is an nn.Module", got=type(made).__name__, remedy="Return a module.")
    before = _trainable(model)
    put(model, old, made.to(empty_like(old)).train(old.training))
    return Replacement(model, path, f"{_named(old)} became {_named(made)}", before, _trainable(model))


def reduce_features(
    model: nn.Module, dim: int, *, classifier: str | None = None, inputs: Any = None, seed: int = 0
) -> Replacement:
    """Leave `dim` features, in place, and fit the classifier to them; the source has dim = K, the number of classes.

    The last convolution of the last block of a ResNet (this library's, torchvision's, Hugging Face's) and its norm are
    narrowed, and the shortcut becomes a projection; in a chain of layers (MLP, nn.Sequential) the last linear map and
    its norm are. In front of any other classifier comes a linear map without bias, and `change` says so. What is
    rebuilt has new weights, so train from the start or tune. A Hugging Face model no longer fits its configuration:
    call this again before loading such weights.

    Args:
        model: As for `replace_head`; a head of this library is rebuilt for the new width.
        dim: Features to leave, fewer than there are.
        classifier: Path of the classifier, to settle an ambiguity.
        inputs: One example batch. The narrowed network is then run on it, and if that fails (a skip connection that
            structure does not show) the linear map is used instead.
        seed: Seed of the new weights.

    Raises:
        InputError: Not fewer features, or what `replace_head` refuses.
        AmbiguityError: Several linear maps may be the classifier.

    Example:
        >>> from tightframe.nn.networks import MLP
        >>> print(reduce_features(MLP(64, 10, widths=(32, 32)), 10))
        classifier: last linear map blocks.1.linear narrowed to 10, Linear(32, 10) became Linear(10, 10)
        trainable parameters 3,466 -> 2,520: 946 saved (27.29%)

    Reference: [zhu2021geometric], section 4.3.
    """
    path, old = classifier_of(model, classifier, inputs)
    _, features = size_of(old)
    if check_count(dim, "dim") >= features:
        raise InputError(f"fewer than the {features} features there are", got=f"dim={dim}", remedy="Lower dim.")
    before = _trainable(model)
    like = empty_like(old)
    made = _resized(old, dim, seed=seed + 2)
    plan = narrowing(model, old, features, dim, seed=seed)
    if plan is not None and _narrowed(model, path, old, made, plan.swaps, inputs):
        words = plan.words
    else:
        front = linear(features, dim, bias=False, like=like, seed=seed)
        put(model, old, nn.Sequential(OrderedDict(reduce=front, classifier=made)).train(old.training))
        words = f"a linear map from {features} to {dim} features put in front"
    return Replacement(model, path, f"{words}, {_named(old)} became {_named(made)}", before, _trainable(model))


def _narrowed(
    model: nn.Module, path: str, old: nn.Module, made: nn.Module, swaps: tuple[Swap, ...], inputs: Any
) -> bool:
    """Apply the swaps; take them back and return False if the model then fails on the inputs."""
    undo = [swap.apply() for swap in swaps]
    put(model, old, made)
    if inputs is None:
        return True
    try:
        placed, keywords = arguments(inputs)
        FeatureTap(model, classifier=path)(*placed, **keywords)
    except (RuntimeError, InputError):
        for swap in reversed(undo):
            swap.apply()
        put(model, made, old)
        return False
    return True


def _resized(old: nn.Module, dim: int, *, seed: int) -> nn.Module:
    if callable(getattr(old, "resized", None)):
        return old.resized(dim).train(old.training)
    if type(old) is not nn.Linear and not type(old).__module__.startswith("torch.nn"):
        raise InputError(
            "a classifier that is an nn.Linear or a head of this library",
            got=type(old).__name__,
            remedy="Reduce the features first, then replace the head or add adapters.",
        )
    return linear(dim, old.out_features, bias=old.bias is not None, like=old.weight, seed=seed).train(old.training)


def _trainable(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _named(module: nn.Module) -> str:
    sizes = [getattr(module, name, None) for name in ("in_features", "out_features")]
    return f"{type(module).__name__}({sizes[0]}, {sizes[1]})" if None not in sizes else type(module).__name__
