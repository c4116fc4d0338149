"""How the part of a network that ends in its features is rebuilt with fewer of them."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tightframe.core.rng import generator, preserved_rng

_NORMS_1D = (nn.BatchNorm1d, nn.LayerNorm)


@dataclass(frozen=True)
class Swap:
    """`parent.name` becomes `new`."""

    parent: nn.Module
    name: str
    new: nn.Module | None

    def apply(self) -> Swap:
        """Put it in; returns the swap that takes it out again."""
        undo = Swap(self.parent, self.name, getattr(self.parent, self.name))
        setattr(self.parent, self.name, self.new)
        return undo


@dataclass(frozen=True)
class Narrowing:
    """The swaps that leave `dim` features, and what they do in words."""

    swaps: tuple[Swap, ...]
    words: str


@dataclass(frozen=True)
class _Residual:
    """A block relu(norm(conv(...)) + shortcut(x)): where its last convolution, norm and shortcut are."""

    block: nn.Module
    convolution: tuple[nn.Module, str]
    norm: tuple[nn.Module, str]
    shortcut: str


def narrowing(model: nn.Module, classifier: nn.Module, features: int, dim: int, *, seed: int) -> Narrowing | None:
    """Swaps that make the layers before the classifier end in `dim` of `features` features, or None.

    A residual block of a ResNet gets a narrower last convolution, norm and projected shortcut; in a chain of layers
    (nn.Sequential all the way up) the last linear map and its norm are narrowed. Weights are new, drawn from `seed`.
    """
    modules = list(model.modules())
    before = modules[: next(i for i, module in enumerate(modules) if module is classifier)]
    weighted = [module for module in before if next(module.parameters(recurse=False), None) is not None]
    if not weighted:
        return None
    names = {id(module): name for name, module in model.named_modules()}
    for block in reversed(before):
        parts = _residual(block) if any(part is weighted[-1] for part in block.modules()) else None
        if parts is not None and (swaps := _narrow_block(parts, features, dim, seed)):
            return Narrowing(swaps, f"last convolution, norm and shortcut of {names[id(block)]} narrowed to {dim}")
    return _narrow_chain(model, weighted, names, features, dim, seed)


def linear(inputs: int, outputs: int, *, bias: bool, like: Tensor, seed: int) -> nn.Linear:
    """A new linear map with the usual initial weights, from a seed."""
    with preserved_rng():
        made = nn.Linear(inputs, outputs, bias=bias)
    draws, bound = generator(seed), inputs**-0.5
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=draws)
    return made.to(like)


def _residual(block: nn.Module) -> _Residual | None:
    shortcut = next((name for name in ("shortcut", "downsample") if hasattr(block, name)), None)
    if shortcut is None:
        return None
    inner = getattr(block, "layer", None)
    if isinstance(inner, nn.Sequential) and len(inner) and {"convolution", "normalization"} <= set(inner[-1]._modules):
        return _Residual(block, (inner[-1], "convolution"), (inner[-1], "normalization"), shortcut)
    weighted = {name for name, child in block.named_children() if next(child.parameters(), None) is not None}
    numbers = [int(name[4:]) for name in weighted if re.fullmatch(r"conv\d", name)]
    # Anything else with weights (attention over channels, say) has a width that would have to follow.
    expected = {f"{kind}{number}" for kind in ("conv", "bn") for number in numbers}
    if not numbers or weighted - {shortcut} != expected:
        return None
    return _Residual(block, (block, f"conv{max(numbers)}"), (block, f"bn{max(numbers)}"), shortcut)


def _narrow_block(parts: _Residual, features: int, dim: int, seed: int) -> tuple[Swap, ...]:
    convolution, norm = (getattr(*place) for place in (parts.convolution, parts.norm))
    first = next(module for module in parts.block.modules() if isinstance(module, nn.Conv2d))
    if not _fit(convolution, norm, features):
        return ()
    main = (
        Swap(*parts.convolution, _convolution_like(convolution, convolution.in_channels, dim, seed)),
        Swap(*parts.norm, _norm_like(norm, dim)),
    )
    shortcut = getattr(parts.block, parts.shortcut)
    if shortcut is None or next(shortcut.parameters(), None) is None:
        with preserved_rng():
            straight = nn.Conv2d(first.in_channels, dim, 1, bias=False)
        projection = _drawn(straight, convolution.weight, seed + 1)
        built = nn.Sequential(OrderedDict(conv=projection, norm=_norm_like(norm, dim)))
        return (*main, Swap(parts.block, parts.shortcut, built.train(parts.block.training)))
    children = [(name, child) for name, child in shortcut.named_children() if isinstance(child, nn.Conv2d)]
    norms = [(name, child) for name, child in shortcut.named_children() if isinstance(child, nn.BatchNorm2d)]
    if len(children) != 1 or len(norms) != 1 or not _fit(children[0][1], norms[0][1], features):
        return ()
    name, projection = children[0]
    narrow = _convolution_like(projection, projection.in_channels, dim, seed + 1)
    return (*main, Swap(shortcut, name, narrow), Swap(shortcut, norms[0][0], _norm_like(norms[0][1], dim)))


def _fit(convolution: nn.Module, norm: nn.Module, features: int) -> bool:
    plain = isinstance(convolution, nn.Conv2d) and convolution.groups == 1 and convolution.out_channels == features
    return plain and isinstance(norm, nn.BatchNorm2d) and norm.num_features == features


def _narrow_chain(
    model: nn.Module, weighted: list[nn.Module], names: dict[int, str], features: int, dim: int, seed: int
) -> Narrowing | None:
    parents = {id(child): (parent, name) for parent in model.modules() for name, child in parent.named_children()}
    swaps = []
    for module in reversed(weighted):
        if module is model or not _in_chain(model, module, parents):
            return None
        parent, name = parents[id(module)]
        if isinstance(module, _NORMS_1D) and _width(module) == features:
            swaps.append(Swap(parent, name, _norm_like(module, dim)))
        elif isinstance(module, nn.Linear) and module.out_features == features:
            bias = module.bias is not None
            narrow = linear(module.in_features, dim, bias=bias, like=module.weight, seed=seed)
            return Narrowing(
                (*swaps, Swap(parent, name, narrow.train(module.training))),
                f"last linear map {names[id(module)]} narrowed to {dim}",
            )
        else:
            return None
    return None


def _in_chain(model: nn.Module, module: nn.Module, parents: dict[int, tuple[nn.Module, str]]) -> bool:
    """Whether all that contains the module is nn.Sequential, up to the model itself."""
    parent, _ = parents[id(module)]
    if parent is model:
        return isinstance(model, nn.Sequential)
    while parent is not model:
        if type(parent) is not nn.Sequential:
            return False
        parent, _ = parents[id(parent)]
    return True


def _width(norm: nn.Module) -> int | None:
    if isinstance(norm, nn.LayerNorm):
        return norm.normalized_shape[0] if len(norm.normalized_shape) == 1 else None
    return norm.num_features


def _convolution_like(old: nn.Conv2d, inputs: int, outputs: int, seed: int) -> nn.Conv2d:
    with preserved_rng():
        new = nn.Conv2d(
            inputs,
            outputs,
            old.kernel_size,
            stride=old.stride,
            padding=old.padding,
            dilation=old.dilation,
            bias=old.bias is not None,
            padding_mode=old.padding_mode,
        )
    return _drawn(new, old.weight, seed).train(old.training)


def _drawn(convolution: nn.Conv2d, like: Tensor, seed: int) -> nn.Conv2d:
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu", generator=generator(seed))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution.to(like)


def _norm_like(old: nn.Module, dim: int) -> nn.Module:
    if isinstance(old, nn.LayerNorm):
        bias = old.bias is not None
        new = nn.LayerNorm(dim, eps=old.eps, elementwise_affine=old.elementwise_affine, bias=bias)
    else:
        settings = {"momentum": old.momentum, "affine": old.affine, "track_running_stats": old.track_running_stats}
        new = type(old)(dim, eps=old.eps, **settings)
    like = next(iter([*old.parameters(), *old.buffers()]), torch.empty(0))
    return new.to(device=like.device, dtype=like.dtype).train(old.training)
