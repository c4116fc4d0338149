"""What is recorded during one forward pass, and how it becomes features and logits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.features import classifier as heads
from tightframe.features.layers import FEATURES, Layer, Pool, Tokens, first_tensor

_REMEMBERED = 8


@dataclass(frozen=True)
class Taps:
    """What one forward pass gave: `features` by layer name (rows, d), `logits` (n, k) or (n, t, k)."""

    features: dict[str, Tensor]
    logits: Tensor


class Recorder:
    """Hooks that turn each forward pass of `root` into `taps`, and that find the classifier on the first one.

    Args:
        root: The unwrapped model.
        layers: Layers whose outputs are recorded.
        named: Path of the classifier, if the caller gave it.
        auto: Whether the layers were chosen by us: then those that do not run, or run after the classifier, are
            left out without complaint.
        wants_features: Whether the classifier's input is recorded.
        pool: See FeatureTap.
        tokens: See FeatureTap.
    """

    def __init__(
        self,
        root: nn.Module,
        layers: tuple[Layer, ...],
        *,
        named: str | None,
        auto: bool,
        wants_features: bool,
        pool: Pool,
        tokens: Tokens,
    ) -> None:
        self.root: nn.Module = root
        self.layers: tuple[Layer, ...] = layers
        self.named: str | None = named
        self.auto: bool = auto
        self.wants_features: bool = wants_features
        self.pool, self.tokens = pool, tokens
        self.candidates: dict[str, nn.Module] = dict(heads.linear_maps(root))
        self.verified: str | None = None
        self.unmatched = ""
        self.taps: Taps | None = None
        self._repeated: str | None = None
        self.begin()

    def begin(self) -> None:
        """Forget the calls of an earlier or interrupted pass."""
        self._outputs: dict[str, tuple[Layer, Tensor]] = {}
        self._calls: dict[str, list[heads.Call]] = {}
        self._recent: deque[heads.Call] = deque(maxlen=_REMEMBERED)

    def hooks(self) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Attach everything, one handle at a time."""
        yield self.root.register_forward_pre_hook(self._start)
        # The classifier's hook comes first, so that its own output counts as recorded after the call.
        chosen = self.verified or self.named
        likely = chosen or heads.structural_guess(self.root)
        for name in [chosen] if chosen is not None else self.candidates:
            hook = self._classifier_hook(name, keep=name == likely)
            yield self.candidates[name].register_forward_hook(hook, with_kwargs=True)
        for entry in self.layers:
            yield entry.module.register_forward_hook(self._layer_hook(entry))
        yield self.root.register_forward_hook(self._finish)

    def _start(self, *_: object) -> None:
        self.taps = None
        self.begin()

    def _layer_hook(self, entry: Layer) -> Callable[..., None]:
        def record(_module: nn.Module, _args: Any, output: Any) -> None:
            tensor = first_tensor(output, entry.name).detach()
            key, number = entry.name, 1
            while key in self._outputs:
                number += 1
                key = f"{entry.name}#{number}"
            # Sequences wait for the logits, which tell the positions; maps are reduced at once to save memory.
            waits = entry.is_sequence(tensor)
            kept = tensor.clone() if waits else entry.to_rows(tensor, pool=self.pool, tokens=self.tokens)
            self._outputs[key] = (entry, kept)

        return record

    def _classifier_hook(self, name: str, *, keep: bool) -> Callable[..., None]:
        def record(_module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            entered = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
            if self.verified not in (None, name) or entered is None or not isinstance(output, Tensor):
                return
            version = None if entered.is_inference() else entered._version
            call = heads.Call(name, entered.detach(), output.detach(), version, len(self._outputs))
            if keep or name == self.verified:
                self._calls.setdefault(name, []).append(call)
            else:
                self._recent.append(call)

        return record

    def _finish(self, _module: nn.Module, _args: Any, output: Any) -> None:
        tensors = heads.output_tensors(output)
        if not tensors:
            raise InputError(
                "the model returns logits (n, classes) or (n, positions, classes), or a tuple or mapping with them",
                got=_described(output),
                remedy="Wrap the model in a module that returns such logits.",
            )
        calls = [*self._recent, *(call for made in self._calls.values() for call in made)]
        hits = heads.match(calls, tensors, named=self.named is not None)
        hit = hits[0] if len(hits) == 1 else None
        if hit is None:
            self.unmatched = f"{len(hits)} that fit" if hits else "none that fits"
            if self.wants_features or len(tensors) > 1:
                raise heads.ambiguous(self.root, self.unmatched)
        else:
            self._check_unchanged(hit.call)
        logits = (tensors[0] if hit is None else hit.logits).detach()
        features = self._collected(hit, logits)
        self._check_rows(features, logits)
        if hit is not None:
            self.verified = hit.call.name
            self.unmatched: str = ""
        self.taps = Taps(features, logits)
        self.begin()

    def _collected(self, hit: heads.Match | None, logits: Tensor) -> dict[str, Tensor]:
        every = logits.ndim == 3 or (hit is not None and hit.positions is None and hit.call.input.ndim == 3)
        tokens: Tokens = "all" if every else self.tokens
        positions = None if hit is None else hit.positions
        features = {}
        for number, (key, (entry, tensor)) in enumerate(self._outputs.items()):
            if self.auto and number >= hit.call.before:
                break
            waited = tensor.ndim == 3
            rows = entry.to_rows(tensor, pool=self.pool, tokens=tokens, positions=positions) if waited else tensor
            features[key] = rows
        missing = [entry.name for entry in self.layers if entry.name not in self._outputs]
        if missing and not self.auto:
            raise InputError(
                "every layer asked for runs in the forward pass",
                got=f"no call of {', '.join(missing)}",
                remedy="Leave it out, or name a layer that runs in evaluation mode.",
            )
        if self.wants_features:
            self._leave_out_repetition(features, hit.features)
            features[FEATURES] = hit.features
        return features

    def _leave_out_repetition(self, features: dict[str, Tensor], last: Tensor) -> None:
        if self.verified is None and self.auto and features:
            key, rows = list(features.items())[-1]
            self._repeated = key if _alike(rows, last) else None
        if self._repeated is not None:
            features.pop(self._repeated, None)

    def _check_rows(self, features: dict[str, Tensor], logits: Tensor) -> None:
        wanted = logits.shape[:-1].numel()
        per_position = self.tokens == "all" and logits.ndim == 2
        for name, rows in features.items():
            fits = len(rows) % wanted == 0 if per_position and wanted else len(rows) == wanted
            if not fits:
                raise InputError(
                    f"layer {name!r} gives one row per row of the logits, {wanted}",
                    got=f"{len(rows)} rows of length {rows.shape[1]}",
                    remedy="Name another layer; the first axis of its output must be the batch.",
                )

    def _check_unchanged(self, call: heads.Call) -> None:
        if call.version is not None and call.input._version != call.version:
            raise InputError(
                "the input of the classifier is left as it is during the forward pass",
                got=f"the input of {call.name!r}, changed in place afterwards",
                remedy="Replace the in-place operation after the classifier by one that makes a new tensor.",
            )


def _alike(rows: Tensor, last: Tensor) -> bool:
    if rows.shape != last.shape or rows.dtype != last.dtype or not rows.numel():
        return False
    slack = 64 * torch.finfo(rows.dtype).eps * float(last.abs().max())
    return torch.allclose(rows, last, rtol=0.0, atol=slack, equal_nan=True)


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return f"{type(output).__name__} without such a tensor"
