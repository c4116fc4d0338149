"""`FeatureTap`: the input of a model's classifier, or the outputs of named layers, during forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, get_args

from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.features import classifier as heads
from tightframe.features.evaluation import at_rest, evaluation, unwrapped
from tightframe.features.layers import FEATURES, Pool, Tokens, blocks, layer, named
from tightframe.features.recording import Recorder, Taps


class FeatureTap:
    """Record the features of a model while it runs.

    Hooks are attached on entering the `with` block, or for the duration of one call `tap(x)`, and are always
    removed. The classifier is found by its name or place and verified on the first forward pass: its output must
    be the model's logits (or the model returns their softmax or log-softmax). Its input is recorded as "features".

    A module that is called several times in one pass is recorded as `name`, `name#2`, `name#3`, ...; a layer that
    returns a tuple or a mapping is recorded by its hidden state. Where a model gives one row of logits per position,
    (n, t, k), every sequence is recorded at all positions, whatever `tokens` says, in the order of
    `logits.flatten(0, 1)`. Compiled models run uncompiled while the tap is attached, because hooks that
    come after the compilation are not called.

    Args:
        model: Any nn.Module; compiled, DDP-wrapped and Fabric-wrapped models are unwrapped to find names.
        layers: "classifier" for its input alone; "auto" for every block in forward order, then the classifier's
            input (a last block that gives the same rows is left out); a module path or a glob, or several of them
            (`*` within one part of a path, `**` across parts; "classifier" may be among them).
        classifier: Path of the classifier, to settle an ambiguity.
        pool: Convolutional maps (n, c, ...) are averaged over pixels ("mean") or flattened.
        tokens: Sequences (n, t, d) give the position the classifier reads, else the first ("class"), their mean,
            or all positions ("all": n * t rows).

    Raises:
        InputError: No such layer or classifier, an uninitialised lazy layer, a model whose modules cannot be hooked.
        AmbiguityError: On the first forward pass, when no or several linear maps give the logits.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> tap = FeatureTap(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        >>> taps = tap(torch.ones(5, 4))
        >>> tuple(taps.features["features"].shape), tuple(taps.logits.shape), tap.classifier_name
        ((5, 3), (5, 2), '2')
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str] = "classifier",
        *,
        classifier: str | None = None,
        pool: Pool = "mean",
        tokens: Tokens = "class",
    ) -> None:
        _check_choice("pool", pool, get_args(Pool))
        _check_choice("tokens", tokens, get_args(Tokens))
        self.model = model
        root = unwrapped(model)
        heads.refuse_uninitialised(root)
        auto = layers == "auto"
        asked = ("classifier",) if auto else (layers,) if isinstance(layers, str) else tuple(layers)
        paths = blocks(root) if auto else named(root, [name for name in asked if name != "classifier"])
        if not asked:
            raise InputError("at least one layer", got=repr(layers), remedy='Use layers="classifier" or "auto".')
        self._recorder = Recorder(
            root,
            tuple(layer(root, path) for path in paths),
            named=classifier,
            auto=auto,
            wants_features="classifier" in asked,
            pool=pool,
            tokens=tokens,
        )
        if classifier is not None and classifier not in self._recorder.candidates:
            raise heads.ambiguous(root, f"classifier={classifier!r}, which is no linear map of the model")
        self._names = (*paths, FEATURES) if "classifier" in asked else paths
        self._attached: ExitStack | None = None

    def __enter__(self) -> FeatureTap:
        if self._attached is not None:
            raise InputError(
                "a FeatureTap is entered once at a time",
                got="a tap that is attached already",
                remedy="Build a second tap.",
            )
        self._recorder.taps = None
        with ExitStack() as stack:
            stack.callback(self._recorder.begin)
            for handle in self._recorder.hooks():
                stack.callback(handle.remove)
            stack.enter_context(at_rest(self.model))
            self._attached = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        attached, self._attached = self._attached, None
        attached.close()

    def __call__(self, *args: Any, **kwargs: Any) -> Taps:
        """Run the model in evaluation mode without gradients and return what was recorded.

        Training flags (of every module for itself), grad mode and torch's random state are put back.
        """
        with ExitStack() as stack:
            if self._attached is None:
                stack.enter_context(self)
            stack.enter_context(evaluation(self.model))
            self._recorder.taps = None
            self.model(*args, **kwargs)
            return self._recorded()

    @property
    def features(self) -> dict[str, Tensor]:
        """Features of the last forward pass by layer name, (n, d) each, detached."""
        return self._recorded().features

    @property
    def logits(self) -> Tensor:
        """Logits of the last forward pass, (n, k) or (n, t, k), detached."""
        return self._recorded().logits

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the recorded layers; in forward order once a pass has run."""
        taps = self._recorder.taps
        return self._names if taps is None else tuple(taps.features)

    @property
    def classifier_name(self) -> str:
        """Path of the classifier.

        Raises:
            AmbiguityError: No pass has run yet and the structure alone does not tell, or no linear map gives the
                logits.
        """
        recorder = self._recorder
        name = recorder.verified or recorder.named
        if name is None and not recorder.unmatched:
            name = heads.structural_guess(recorder.root)
        if name is None:
            raise heads.ambiguous(
                recorder.root, recorder.unmatched or "several that may be it, and no forward pass yet"
            )
        return name

    @property
    def classifier(self) -> nn.Module:
        """The classifier module."""
        return self._recorder.candidates[self.classifier_name]

    @property
    def weight(self) -> Tensor:
        """Classifier weight W (k, d), detached."""
        return heads.weight_of(self.classifier)

    @property
    def bias(self) -> Tensor | None:
        """Classifier bias b (k,), detached, or None."""
        return heads.bias_of(self.classifier)

    @property
    def classes(self) -> int:
        """Number K of classes: rows of the classifier."""
        return heads.size_of(self.classifier)[0]

    @property
    def tied(self) -> bool:
        """Whether the classifier shares its weight with another module (an embedding)."""
        return heads.is_tied(self._recorder.root, self.classifier)

    def _recorded(self) -> Taps:
        if self._recorder.taps is None:
            raise InputError(
                "a forward pass while the tap is attached",
                got="none",
                remedy="Call tap(x), or model(x), not model.forward(x), inside `with tap:`.",
            )
        return self._recorder.taps


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            f"{name} is one of {', '.join(map(repr, choices))}", got=repr(value), remedy=f"Set {name}= to one of them."
        )
