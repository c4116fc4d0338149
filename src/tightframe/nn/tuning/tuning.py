"""Fine-tuning of a part of a network: its head, one layer, one layer with a skip connection, or all of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from tightframe.core.checks import check_count
from tightframe.features.classifier import size_of
from tightframe.features.tap import FeatureTap
from tightframe.nn.tuning.delta import inside, write_delta
from tightframe.nn.tuning.placement import arguments, checked_layer, classifier_of, declared_width, new_head, put_head
from tightframe.nn.tuning.skip import SkipConnection, Tokens, check_free


@dataclass(frozen=True)
class TrainableShare:
    """How much of a network is trained: `parts` are (name, trainable parameters), `total` counts all of them.

    >>> print(TrainableShare("layer", (("layer3.0", 60), ("fc", 10)), 1000))
    layer: 70 of 1,000 parameters are trained (7.00%)
      layer3.0  60  6.00%
      fc        10  1.00%
    """

    method: str
    parts: tuple[tuple[str, int], ...]
    total: int

    @property
    def trainable(self) -> int:
        """Trainable parameters."""
        return sum(count for _, count in self.parts)

    @property
    def share(self) -> float:
        """Trainable parameters as part of the total."""
        return self.trainable / self.total if self.total else 0.0

    def __str__(self) -> str:
        first = f"{self.method}: {self.trainable:,} of {self.total:,} parameters are trained ({self.share:.2%})"
        wide = max((len(name) for name, _ in self.parts), default=0)
        most = max((len(f"{count:,}") for _, count in self.parts), default=0)
        rows = (f"  {name:<{wide}}  {count:>{most},}  {count / max(self.total, 1):.2%}" for name, count in self.parts)
        return "\n".join((first, *rows))


class Tuning(nn.Module):
    """A network of which some parts are trained; the rest is frozen and stays in evaluation mode.

    The base of the five methods, which `tune` builds by name. The network is changed in place: a new head where
    `classes` is given, `requires_grad` of every parameter, the hooks of a skip connection. The output is the network's.
    Frozen parts are in evaluation mode whatever `train()` is told (batch normalisation uses its stored statistics,
    dropout is off), so that what comes before the tuned layer can be computed once and kept: see `cached_trunk`.

    Args:
        model: Any network whose classifier FeatureTap finds, not wrapped or compiled.
        layer: Path of the tuned layer, or None.
        classes: Size of a new head; None keeps the head there is, which is trained on.
        classifier: Path of the classifier, to settle an ambiguity.
        inputs: One example batch to find the classifier with: a tensor, a tuple of arguments or a dict of them.
        in_features: Features that a new head reads; None for those of the old one, or what a skip connection needs.
        seed: Seed of the new head.
    """

    head_path: str

    method: ClassVar[str] = ""

    def __init__(
        self,
        model: nn.Module,
        layer: str | None = None,
        *,
        classes: int | None = None,
        classifier: str | None = None,
        inputs: Any = None,
        in_features: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.head_path, old = classifier_of(model, classifier, inputs)
        self.layer: str | None = None if layer is None else checked_layer(model, layer, self.head_path)
        self.model: nn.Module = model
        self.classes: int | None = classes
        self._check()
        if classes is not None:
            classes = check_count(classes, "classes", least=2)
            width = self._width(old, inputs) if in_features is None else check_count(in_features, "in_features")
            put_head(model, old, new_head(old, width, classes, seed=seed))
        self._prepare()
        model.requires_grad_(False)
        for part in self.trained_modules():
            part.requires_grad_(True)
        self.train(model.training)

    @property
    def head(self) -> nn.Module:
        """The classifier."""
        return self.model.get_submodule(self.head_path)

    @property
    def trained_paths(self) -> tuple[str, ...]:
        """Paths of what is trained, in forward order."""
        return (self.head_path,) if self.layer is None else (self.layer, self.head_path)

    def trained_modules(self) -> list[nn.Module]:
        """The modules that are trained and follow `train()`."""
        return [self.model.get_submodule(path) for path in self.trained_paths]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Output of the network."""
        return self.model(*args, **kwargs)

    def train(self, mode: bool = True) -> Tuning:
        """Training mode for the trained parts; everything else stays in evaluation mode."""
        super().train(False)
        self.training = mode
        for part in self.trained_modules():
            part.train(mode)
        return self

    def describe(self) -> TrainableShare:
        """Trainable and total parameters, by part; printed, a line each with its percentage."""
        parts = tuple((path or "all", _trainable(self.model.get_submodule(path))) for path in self.trained_paths)
        return TrainableShare(self.method, parts, sum(parameter.numel() for parameter in self.model.parameters()))

    def is_trained(self, name: str) -> bool:
        """Whether an entry of the network's state belongs to what is trained (buffers of trained parts do)."""
        return any(inside(name, path) for path in self.trained_paths)

    def delta_state_dict(self) -> dict[str, Tensor]:
        """The entries of the network's state that training changes, detached."""
        state = self.model.state_dict().items()
        return {name: value for name, value in state if isinstance(value, Tensor) and self.is_trained(name)}

    def save_delta(self, path: str | Path) -> Path:
        """Write what training changed, as safetensors, with a fingerprint of the frozen rest.

        Raises:
            InputError: Parameters on the meta device, or a place that cannot be written.
        """
        return write_delta(path, self)

    def settings(self) -> dict[str, Any]:
        """The arguments of `tune` that rebuild this method on the base."""
        width = None if self.classes is None else self.head.in_features
        where = {"layer": self.layer, "classifier": self.head_path}
        return {"method": self.method, **where, "classes": self.classes, "in_features": width}

    def merged(self) -> nn.Module:
        """A copy of the network alone, in evaluation mode: for torch.export, ONNX, or to run without this library's
        wrapper. Its outputs are those of this module in evaluation mode."""
        return deepcopy(self.model).eval()

    def _width(self, head: nn.Module, inputs: Any) -> int:
        """Features that a new head reads."""
        return size_of(head)[1]

    def _check(self) -> None:
        """What must hold before the network is changed."""

    def _prepare(self) -> None:
        """What the method adds to the network, before parameters are frozen."""


class HeadTuning(Tuning):
    """The head is trained, nothing else."""

    method = "linear"


class FullTuning(Tuning):
    """Everything is trained."""

    method = "full"

    @property
    def trained_paths(self) -> tuple[str, ...]:
        """The whole network."""
        return ("",)


class LayerTuning(Tuning):
    """One layer and the head are trained; see `SkipConnectionTuning`, which joins the two as well.

    >>> from tightframe.nn.networks import MLP
    >>> print(LayerTuning(MLP(64, 10, widths=(32, 32)), "blocks.1", classes=5).describe())
    layer: 1,221 of 3,301 parameters are trained (36.99%)
      blocks.1    1,056  31.99%
      classifier    165  5.00%
    """

    method = "layer"

    def __init__(self, model: nn.Module, layer: str, **options: Any) -> None:
        super().__init__(model, layer, **options)


class SkipConnectionTuning(LayerTuning):
    r"""One layer and the head are trained, and the layer's output is added to what the head reads.

    $$z = W\,(h + \mathrm{pad}(\mathrm{pool}(a))) + b$$

    where h (n, d) are the penultimate features, computed from a through the frozen rest of the network, and pool(a)
    (n, p) averages a convolutional map over its pixels and takes the class token (or the mean) of a sequence. The
    narrower of h and pool(a) is padded with zeros; for p > d the head must be new, of p features.

    Which layer: choose by accuracy on held-out samples. The layer with the smallest NC1 of the training features after
    tuning is not the best one. Measured gains over `LayerTuning` are small, and seen with few samples per class only.

    Args:
        model: Any network with a linear classifier, Hugging Face models among them.
        layer: Path of the layer, a block usually.
        classes: Size of a new head; None keeps the head there is.
        classifier: Path of the classifier, to settle an ambiguity.
        inputs: One example batch, to find the classifier and the layer's width where structure does not show them.
        in_features: Features that a new head reads, the wider of h and pool(a); None to find them.
        tokens: Sequences give their first position ("class") or their mean ("mean"); CLIP's classifier reads a mean.
        seed: Seed of the new head.

    Raises:
        InputError: A layer that does not exist (near names are listed), has no weights, or contains the classifier; a
            wrapped model, a tied classifier, a 1x1 convolution; a layer wider than a head that is kept.
        AmbiguityError: Several linear maps may be the classifier.

    Example:
        >>> import torch
        >>> from tightframe.nn.networks import MLP
        >>> tuned = SkipConnectionTuning(MLP(64, 10, widths=(32, 16)), "blocks.0", classes=5)
        >>> tuned(torch.zeros(2, 64)).shape, tuned.head
        (torch.Size([2, 5]), Linear(in_features=32, out_features=5, bias=True))

    Reference: [li2022principled].
    """

    method = "scl"

    def __init__(self, model: nn.Module, layer: str, *, tokens: Tokens = "class", **options: Any) -> None:
        self._tokens = tokens
        super().__init__(model, layer, **options)

    def settings(self) -> dict[str, Any]:
        """The arguments of `tune` that rebuild this method on the base."""
        return {**super().settings(), "tokens": self._tokens}

    def merged(self) -> nn.Module:
        """A copy of the network alone, in evaluation mode; the skip connection is part of it, as two hooks."""
        self.skip.forget()
        return super().merged()

    def _width(self, head: nn.Module, inputs: Any) -> int:
        features = size_of(head)[1]
        if inputs is None:
            return max(features, declared_width(self.model.get_submodule(self.layer)) or 0)
        tap = FeatureTap(self.model, self.layer, classifier=self.head_path, tokens=self._tokens)
        placed, named = arguments(inputs)
        return max(features, tap(*placed, **named).features[self.layer].shape[1])

    def _check(self) -> None:
        check_free(self.model.get_submodule(self.layer), self.layer, self._tokens)

    def _prepare(self) -> None:
        self.skip: SkipConnection = SkipConnection(self.model, self.layer, self.head, tokens=self._tokens)


def _trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
