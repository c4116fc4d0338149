"""Which module of a network is its classifier: the last linear map, whose output is the model's logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import AmbiguityError, InputError

KNOWN_NAMES = ("fc", "classifier", "head", "heads", "score", "lm_head", "linear", "output", "out", "logits")


@dataclass(frozen=True)
class Call:
    """One call of a linear map during a forward pass; `before` counts the layers recorded until then."""

    name: str
    input: Tensor
    output: Tensor
    version: int | None
    before: int


@dataclass(frozen=True)
class Match:
    """A call whose output is the model's logits (n, k) or (n, t, k).

    `positions` (n,) are the token positions that the model reads its logits from, where it reads one of many.
    """

    call: Call
    logits: Tensor
    positions: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """Input of the classifier, one row per logit row: (n, d), or (n * t, d)."""
        entered = self.call.input.detach()
        if self.positions is not None:
            return entered[torch.arange(len(entered), device=entered.device), self.positions]
        if self.call.output.ndim == self.call.input.ndim == 4:
            return entered.flatten(1).clone()
        return entered.flatten(0, -2).clone()


def is_linear_map(module: nn.Module) -> bool:
    """nn.Linear, a 1x1 nn.Conv2d, or whatever has in_features, out_features and a weight.

    The last group covers adapters (LoRA), quantised layers and layers of one's own.
    """
    if isinstance(module, nn.Linear):
        return True
    if isinstance(module, nn.Conv2d):
        return all(size == 1 for size in module.kernel_size) and module.groups == 1
    sizes = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return all(isinstance(size, int) for size in sizes) and hasattr(module, "weight")


def linear_maps(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Linear maps with their paths in registration order; one inside another (an adapter's base) is left out."""
    if is_linear_map(module):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from linear_maps(child, f"{prefix}.{name}" if prefix else name)


def structural_guess(root: nn.Module) -> str | None:
    """Path of the classifier where the structure alone leaves no doubt, else None."""
    paths = {id(module): name for name, module in linear_maps(root)}
    if callable(getattr(root, "get_classifier", None)):
        declared = root.get_classifier()
        if isinstance(declared, nn.Module) and (path := paths.get(id(declared))) is not None:
            return path
    named = [child for name in KNOWN_NAMES if isinstance(child := getattr(root, name, None), nn.Module)]
    last = [inner[-1] for inner in map(_inner_linear_maps, named) if inner]
    if len(last) == 1:
        return paths.get(id(last[0]))
    if isinstance(root, nn.Sequential) or len(paths) == 1:
        return list(paths.values())[-1] if paths else None
    return None


def output_tensors(output: Any) -> list[Tensor]:
    """Tensors of a model's output that may be logits: at least two axes; the entry "logits" alone if there is one."""
    if isinstance(output, Tensor):
        found = [output]
    elif isinstance(output, Mapping):
        found = [output["logits"]] if isinstance(output.get("logits"), Tensor) else list(output.values())
    elif isinstance(output, list | tuple):
        found = list(output)
    else:
        found = [output.logits] if isinstance(getattr(output, "logits", None), Tensor) else []
    return [value for value in found if isinstance(value, Tensor) and value.ndim in (2, 3)]


def match(calls: list[Call], tensors: list[Tensor], *, named: bool) -> list[Match]:
    """Calls that produced one of the tensors: by identity of memory, else by equal values.

    A classifier the caller has `named` is taken at its word where the shapes fit (soft-capped logits, say).
    """
    pairs = [(call, tensor) for tensor in tensors for call in reversed(calls)]
    found = [Match(call, tensor) for call, tensor in pairs if _same_memory(call.output, tensor)]
    found = found or [hit for call, tensor in pairs if (hit := _same_values(call, tensor)) is not None]
    if not found and named:
        found = [Match(call, tensor) for call, tensor in pairs if _flat(call.output).shape == _flat(tensor).shape]
    first: dict[str, Match] = {}
    for hit in found:
        first.setdefault(hit.call.name, hit)
    return list(first.values())


def ambiguous(root: nn.Module, got: str) -> AmbiguityError:
    """The error that lists the linear maps a classifier can be chosen from."""
    known = [f"{name} {_shape(module)}" for name, module in linear_maps(root)]
    listed = known if len(known) <= 12 else ["...", *known[-12:]]
    return AmbiguityError(
        "one linear map whose output is the model's logits, of shape (n, classes) or (n, positions, classes)",
        got=f"{got}; candidates: {', '.join(listed) or 'none'}",
        remedy='Name the classifier with classifier="name".',
    )


def weight_of(module: nn.Module) -> Tensor:
    r"""Weight W (k, d) of a linear map, detached.

    Adapters and quantised layers do not hold W as a matrix; there it is read off the map itself,
    :math:`W e_j = f(e_j) - f(0)`.
    """
    weight = getattr(module, "weight", None)
    adapted = hasattr(module, "base_layer") and not getattr(module, "merged", False)
    if isinstance(weight, Tensor) and weight.is_floating_point() and not adapted:
        if isinstance(module, nn.Conv2d):
            weight = weight.flatten(1)
        if weight.ndim == 2 and weight.shape[0] == size_of(module)[0]:
            return weight.detach()
    return _probed_weight(module)


def bias_of(module: nn.Module) -> Tensor | None:
    """Bias b (k,), detached, or None."""
    bias = getattr(module, "bias", None)
    bias = bias() if callable(bias) and not isinstance(bias, Tensor) else bias
    return bias.detach() if isinstance(bias, Tensor) else None


def size_of(module: nn.Module) -> tuple[int, int]:
    """(k, d) of a linear map."""
    if isinstance(module, nn.Conv2d):
        return module.out_channels, module.in_channels
    return module.out_features, module.in_features


def is_tied(root: nn.Module, module: nn.Module) -> bool:
    """Whether another module of the network (an embedding) holds the same weight."""
    weight = getattr(module, "weight", None)
    owners = (other for other in root.modules() if other is not module)
    return any(
        weight is parameter for other in owners for parameter in other._parameters.values() if parameter is not None
    )


def refuse_uninitialised(root: nn.Module) -> None:
    """Lazy layers have no shape before their first batch."""
    lazy = [name for name, module in root.named_modules() if _is_lazy(module)]
    if lazy:
        raise InputError(
            "every layer of the model is initialised",
            got=f"lazy layers {lazy}",
            remedy="Run one batch through the model first.",
        )


def _is_lazy(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params()


def _inner_linear_maps(module: nn.Module) -> list[nn.Module]:
    return [inner for _, inner in linear_maps(module)]


def _shape(module: nn.Module) -> str:
    return "({}, {})".format(*size_of(module))


def _flat(tensor: Tensor) -> Tensor:
    """Logit rows (rows, k); a convolution's single pixel (n, k, 1, 1) is a row."""
    return tensor.flatten(1) if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor.flatten(0, -2)


def _same_memory(output: Tensor, tensor: Tensor) -> bool:
    return (
        _flat(output).shape == tensor.flatten(0, -2).shape
        and output.dtype == tensor.dtype
        and tensor.numel() > 0
        and output.data_ptr() == tensor.data_ptr()
    )


def _equal(a: Tensor, b: Tensor, slack: float = 0.0) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=slack, atol=slack, equal_nan=True)


def _same_values(call: Call, tensor: Tensor) -> Match | None:
    if call.output.device != tensor.device or call.output.shape[-1] == 0:
        return None
    rows, wanted = _flat(call.output).to(tensor.dtype), tensor.flatten(0, -2)
    if _equal(rows, wanted):
        return Match(call, tensor)
    if rows.shape == wanted.shape and rows.shape[-1] > 1:
        slack = 16 * torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0
        if _equal(rows.log_softmax(-1), wanted, slack) or _equal(rows.softmax(-1), wanted, slack):
            return Match(call, rows.view_as(tensor))
    if call.output.ndim == 3 and tensor.ndim == 2 and len(call.output) == len(tensor):
        return _picked(call, tensor)
    return None


def _picked(call: Call, tensor: Tensor) -> Match | None:
    """A model that classifies a sequence by one of its positions, for example its last token."""
    if call.output.shape[-1] != tensor.shape[-1]:
        return None
    hits = (call.output.to(tensor.dtype) == tensor[:, None]).all(dim=-1)
    if not bool(hits.any(dim=1).all()):
        return None
    positions = hits.int().argmax(dim=1)
    features = call.input[torch.arange(len(positions), device=positions.device), positions]
    alike = (call.input == features[:, None]).all(dim=-1)
    if bool((hits & ~alike).any()):
        raise AmbiguityError(
            "the position that a sequence is classified by can be told from the logits",
            got="several positions with equal logits and different features",
            remedy="Run the model in float32 (model.float()), where logits do not collide.",
        )
    return Match(call, tensor, positions)


@torch.no_grad()
def _probed_weight(module: nn.Module) -> Tensor:
    _, d = size_of(module)
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    training = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        origin = module(like.new_zeros(1, d))
        blocks = torch.eye(d, dtype=like.dtype, device=like.device).split(1024)
        return torch.cat([module(block) - origin for block in blocks]).T.contiguous()
    finally:
        for part, flag in training:
            part.training = flag
