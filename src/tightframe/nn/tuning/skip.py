"""`SkipConnection`: the output of an intermediate layer, pooled and zero-padded, joined to the penultimate features."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.features.layers import Layer, first_tensor
from tightframe.features.layers import layer as layer_at

Tokens = Literal["class", "mean"]


class SkipConnection:
    r"""What a layer computes is added to what the classifier reads.

    $$z = W\,(\mathrm{pad}(h) + \mathrm{pad}(\mathrm{pool}(a))) + b$$

    where h (n, d) are the penultimate features, a the output of the layer, pool(a) (n, p) one row per sample, and
    pad fills the narrower of the two with zeros up to max(d, p), the width of the classifier.

    The two hooks are methods of one object, so that copying or pickling the model copies the connection with it.

    Args:
        model: The network.
        layer: Path of the layer.
        head: Its classifier, which reads max(d, p) features.
        tokens: Sequences (n, t, p) give their first position ("class") or their mean; maps are averaged.

    Raises:
        InputError: Another choice of tokens, or a layer that has a skip connection already.

    Reference: [li2022principled]; its code is not published, and its pooling and padding may differ in details.
    """

    def __init__(self, model: nn.Module, layer: str, head: nn.Module, *, tokens: Tokens = "class") -> None:
        self.entry: Layer = layer_at(model, layer)
        self.tokens = tokens
        self._row: Tensor | None = None
        check_free(self.entry.module, layer, tokens)
        self.entry.module.register_forward_hook(self.keep)
        head.register_forward_pre_hook(self.join)

    def forget(self) -> None:
        """Drop what an interrupted pass has left."""
        self._row = None

    def keep(self, _module: nn.Module, _args: Any, output: Any) -> None:
        """Hook of the layer: remember its output as rows (n, p)."""
        # A copy: what follows the layer may work in place.
        self._row = pooled(self.entry, first_tensor(output, self.entry.name), tokens=self.tokens).clone()

    def join(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Hook of the classifier: its input (n, d) and the rows, padded to its width and added."""
        row, self._row = self._row, None
        if row is None:
            raise InputError(
                f"the layer {self.entry.name!r} runs before the classifier",
                got="a pass that reached the classifier without it",
                remedy="Choose a layer that every forward pass runs.",
            )
        # Sizes are compared as they are: len() would fix the batch size of an exported network.
        if len(args) != 1 or args[0].ndim != 2 or args[0].shape[0] != row.shape[0]:
            shapes = [tuple(value.shape) for value in args]
            raise InputError(
                f"a classifier that reads one row per sample, ({row.shape[0]}, d)",
                got=f"inputs of shape {shapes}",
                remedy="Tune a model that gives one row of logits per sample.",
            )
        width = max(row.shape[1], args[0].shape[1])
        if width != getattr(head, "in_features", width):
            raise InputError(
                f"a classifier of {width} features, the wider of the layer ({row.shape[1]}) and the penultimate "
                f"features ({args[0].shape[1]})",
                got=f"one of {head.in_features}",
                remedy="Pass classes= for a new classifier, and inputs=, an example batch, to find its width.",
            )
        return (padded(args[0], width) + padded(row, width).to(args[0].dtype),)


def check_free(module: nn.Module, name: str, tokens: str) -> None:
    """A choice of tokens that there is, and a layer without a skip connection."""
    if tokens not in get_args(Tokens):
        raise InputError(f"tokens is one of {', '.join(get_args(Tokens))}", got=repr(tokens), remedy="Choose one.")
    if any(isinstance(getattr(hook, "__self__", None), SkipConnection) for hook in module._forward_hooks.values()):
        raise InputError(
            f"a layer {name!r} without a skip connection",
            got="one that has it already",
            remedy="Start from the model as it was, or go on with the tuning that you have.",
        )


def pooled(entry: Layer, output: Tensor, *, tokens: Tokens) -> Tensor:
    """Rows (n, p) of a layer's output, with gradients; FeatureTap reads the same."""
    if output.ndim == 2:
        return output
    if not entry.is_sequence(output):
        return output.flatten(2).mean(2) if entry.channel_axis(output) == 1 else output.flatten(1, -2).mean(1)
    if isinstance(entry.module, nn.TransformerEncoderLayer) and not entry.module.self_attn.batch_first:
        output = output.transpose(0, 1)
    return output[:, 0] if tokens == "class" else output.mean(1)


def padded(rows: Tensor, width: int) -> Tensor:
    """Rows (n, p) with zeros up to `width` columns.

    >>> import torch
    >>> padded(torch.ones(1, 2), 3)
    tensor([[1., 1., 0.]])
    """
    missing = width - rows.shape[1]
    return functional.pad(rows, (0, missing)) if missing else rows
