"""Which layers of a network are recorded, and how a layer's output becomes one row per sample."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.features.classifier import is_linear_map

Pool = Literal["mean", "flatten"]
Tokens = Literal["class", "mean", "all"]

FEATURES = "features"
_PLAIN = (nn.Sequential, nn.ModuleList)
_NOT_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin)
_NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_CONVOLUTIONAL = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


def blocks(root: nn.Module) -> tuple[str, ...]:
    """Paths of the blocks of a network, for layers="auto".

    A block is a composite member of a ModuleList; a composite module whose class occurs more than once (a
    residual or a transformer block; the outermost counts); or one of several small Sequentials in a row.
    Outside of blocks every activation module counts; a network without blocks and activation modules is
    followed by its weighted layers.
    """
    counts = Counter(type(module) for module in root.modules() if _is_composite(module))
    found = list(_walk(root, "", counts))
    strong = [name for name, kind in found if kind != "weighted"]
    return tuple(strong or [name for name, _ in found])


def named(root: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Paths matched by names or globs: `*` stays within one part of a path, `**` spans parts.

    Raises:
        InputError: A pattern matches nothing; near names are listed.
    """
    paths = [name for name, _ in root.named_modules(remove_duplicate=False) if name]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        expression = re.compile(r"\.".join(map(_part_expression, pattern.split("."))))
        hits = [path for path in paths if expression.fullmatch(path)]
        if not hits:
            near = difflib.get_close_matches(pattern, paths, n=5, cutoff=0.4) or paths[:10]
            raise InputError(
                "layers names modules of the model",
                got=f"{pattern!r}, which matches none",
                remedy=f"Choose from model.named_modules(), for example {', '.join(near)}.",
            )
        if FEATURES in hits:
            raise InputError(
                f'the name "{FEATURES}" is kept for the input of the classifier',
                got=f"a request for the module {FEATURES!r}",
                remedy='Name its last child instead (for example "features.30"), or use layers="classifier".',
            )
        chosen.update(dict.fromkeys(hits))
    return tuple(chosen)


def first_tensor(output: Any, name: str) -> Tensor:
    """The hidden state in a layer's output: itself, the first of a tuple, or the only tensor of a mapping."""
    if isinstance(output, Mapping):
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        output = output.get("last_hidden_state", tensors[0] if len(tensors) == 1 else None)
    elif isinstance(output, list | tuple):
        output = output[0] if output else None
    if not isinstance(output, Tensor) or output.ndim < 2:
        shape = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"layer {name!r} returns a tensor (n, ...), or a tuple or mapping that starts with one",
            got=shape,
            remedy="Name a layer inside it whose output is a tensor.",
        )
    return output


@dataclass(frozen=True)
class Layer:
    """A recorded module, and the last module with weights inside it or before it, which tells its axes."""

    name: str
    module: nn.Module
    weighted: nn.Module | None

    def is_sequence(self, output: Tensor) -> bool:
        """Whether an output is (n, t, d), positions before channels."""
        return output.ndim == 3 and self.channel_axis(output) != 1

    def channel_axis(self, output: Tensor) -> int:
        """1 or -1: where the width of the weighted module is found; its kind decides a tie."""
        convolutional = isinstance(self.weighted, _CONVOLUTIONAL)
        usual = 1 if convolutional or output.ndim > 3 else -1
        width = _width(self.weighted)
        found = [axis for axis in (1, -1) if output.shape[axis] == width]
        if len(found) == 2:
            return 1 if convolutional else -1
        return found[0] if found else usual

    def to_rows(self, output: Tensor, *, pool: Pool, tokens: Tokens, positions: Tensor | None = None) -> Tensor:
        """Reduce an output to rows (n, d), or (n * t, d) for tokens="all"; never a view of the output.

        A map (n, c, ...) is averaged over its pixels or flattened; a sequence (n, t, d) gives the class token
        (the position `positions` (n,) that the classifier reads, else the first), the mean, or all positions.
        """
        output = output.detach()
        if output.ndim == 2:
            return output.clone()
        if not self.is_sequence(output):
            return self._pooled(output) if pool == "mean" else output.flatten(1).clone()
        if isinstance(self.module, nn.TransformerEncoderLayer) and not self.module.self_attn.batch_first:
            output = output.transpose(0, 1)
        if tokens == "mean":
            return output.mean(1)
        if tokens == "all":
            return output.flatten(0, 1).clone()
        if positions is None:
            return output[:, 0].clone()
        return output[torch.arange(len(output), device=output.device), positions]

    def _pooled(self, output: Tensor) -> Tensor:
        return output.flatten(2).mean(2) if self.channel_axis(output) == 1 else output.flatten(1, -2).mean(1)


def layer(root: nn.Module, name: str) -> Layer:
    """The layer at a path of the model."""
    module = root.get_submodule(name)
    if inside := _weighted(module):
        return Layer(name, module, inside[-1])
    before = takewhile(lambda part: part is not module, root.modules())
    return Layer(name, module, next(iter(_weighted_parts(reversed(list(before)))), None))


def _weighted(module: nn.Module) -> list[nn.Module]:
    return list(_weighted_parts(module.modules()))


def _weighted_parts(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    return (part for part in modules if next(part.parameters(recurse=False), None) is not None)


def _width(part: nn.Module | None) -> int | None:
    for name in ("out_features", "out_channels", "num_features", "num_channels"):
        if isinstance(size := getattr(part, name, None), int):
            return size
    weight = getattr(part, "weight", None)
    return weight.shape[-1] if isinstance(weight, Tensor) and weight.ndim else None


def _part_expression(part: str) -> str:
    if part == "**":
        return ".*"
    wild = {"*": "[^.]*", "?": "[^.]"}
    return "".join(wild.get(letter, re.escape(letter)) for letter in part)


def _walk(module: nn.Module, path: str, counts: Counter) -> Iterator[tuple[str, str]]:
    for name, child in module.named_children():
        where = f"{path}.{name}" if path else name
        if _is_block(child, module, counts):
            yield where, "block"
        elif _is_composite(child):
            yield from _walk(child, where, counts)
        elif type(child).__module__ == "torch.nn.modules.activation" and not isinstance(child, _NOT_ACTIVATIONS):
            yield where, "activation"
        elif is_linear_map(child) or isinstance(child, nn.modules.conv._ConvNd):
            yield where, "weighted"


def _is_composite(module: nn.Module) -> bool:
    # A normalisation that holds its activation, as timm has them, is no block.
    return not isinstance(module, _NORMALISATIONS) and next(module.children(), None) is not None


def _is_block(child: nn.Module, parent: nn.Module, counts: Counter) -> bool:
    if not _is_composite(child) or is_linear_map(child) or isinstance(child, nn.ModuleList):
        return False
    if type(child) is not nn.Sequential:
        return type(parent) is nn.ModuleList or counts[type(child)] > 1
    row = [other for other in parent.children() if type(other) is nn.Sequential and _is_shallow(other)]
    return isinstance(parent, _PLAIN) and _is_shallow(child) and len(row) > 1


def _is_shallow(sequence: nn.Module) -> bool:
    return _is_composite(sequence) and not any(map(_is_composite, sequence.children()))
