"""Depth-3 compressed adapters of frozen linear layers, from frames of the first gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.deeplinear.compression import CompressedNetwork, compress
from tightframe.deeplinear.frames import check_start, outer_frames
from tightframe.features.layers import named
from tightframe.geometry.frames import haar_columns

Loss = Callable[[nn.Module], Tensor]


class CompressedAdapter(nn.Module):
    r"""A frozen linear layer and a compressed deep linear network beside it.

    .. math:: y = W x + b + U\, \widetilde W_L \cdots \widetilde W_1 V^\top x

    Args:
        base: The layer W, b, whose parameters are frozen.
        network: The compressed network, from d_in to d_out.

    Raises:
        InputError: A layer that is no nn.Linear, a network of other widths, of another dtype or on another device.

    Reference: [yaras2024compressible], section 4.
    """

    def __init__(self, base: nn.Linear, network: CompressedNetwork) -> None:
        super().__init__()
        if not isinstance(base, nn.Linear):
            raise InputError("an nn.Linear to adapt", got=type(base).__name__, remedy="Name the linear layers.")
        ends, weight = (network.widths[0], network.widths[-1]), network.layers[0].weight
        if ends != (base.in_features, base.out_features) or (weight.dtype, weight.device) != (
            base.weight.dtype,
            base.weight.device,
        ):
            raise InputError(
                f"a network from {base.in_features} to {base.out_features} like the layer, {base.weight.dtype} on"
                f" {base.weight.device}",
                got=f"{ends[0]} to {ends[1]}, {weight.dtype} on {weight.device}",
                remedy="Build it with `adapt`.",
            )
        self.base: nn.Linear = base
        self.network: CompressedNetwork = network
        base.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (..., d_out) for inputs (..., d_in)."""
        return self.base(inputs) + self.network(inputs)

    def merged(self) -> nn.Linear:
        """One linear layer that does the same, a copy."""
        layer = nn.Linear(self.base.in_features, self.base.out_features, self.base.bias is not None, device="meta")
        layer.weight = nn.Parameter((self.base.weight + self.network.end_to_end()).detach().clone())
        if self.base.bias is not None:
            layer.bias = nn.Parameter(self.base.bias.detach().clone())
        return layer


def adapt(
    model: nn.Module,
    *,
    rank: int,
    targets: Sequence[str] | None = None,
    loss: Loss | None = None,
    depth: int = 3,
    scale: float = 1e-3,
    gamma: float = 1e-2,
    seed: int = 0,
) -> dict[str, CompressedAdapter]:
    r"""Put a compressed adapter beside linear layers of a network, in place; everything else is frozen.

    .. math:: \Delta W = U \widetilde W_L \cdots \widetilde W_1 V^\top, \qquad
        -\nabla_W f \approx U_r S_r V_r^\top, \quad V = [V_r, F], \; U = [A, E]

    where the layers between the factors begin at epsilon I (2r, 2r), A is a random frame of r columns, E spans what of
    U_r lies outside A, and F is random: the frames in which a wide deep linear network with a random orthogonal start
    would move, though no square matrix of the width of a layer is formed. Without `loss` all frames are random, and the
    factors have to find their spaces at a rate of gamma.

    An adapter has 2r (d_in + d_out) + 4 L r^2 numbers; LoRA of rank 2r has 2r (d_in + d_out).

    Args:
        model: The network, changed in place.
        rank: r, at most half of both sides of each layer.
        targets: Names or globs of linear layers; None for all of them.
        loss: Called once with the network, gives the loss on a first batch. The gradients of the weights are reduced to
            their leading singular vectors and dropped as they come, one layer at a time.
        depth: L, layers between the factors.
        scale: epsilon.
        gamma: Rate of the factors over that of the layers between; see `parameter_groups`.
        seed: Of the frames.

    Returns:
        The adapters by the name of the layer.

    Raises:
        InputError: Nothing to adapt, layers that are not linear or too narrow, a loss that does not reach a layer.

    Reference: [yaras2024compressible], algorithm 2.
    """
    check_start(depth, scale)
    check_count(rank, "rank")
    layers = _linear_layers(model, targets)
    for name, layer in layers.items():
        if 2 * rank > min(layer.in_features, layer.out_features):
            raise InputError(
                f"a rank of at most half of both sides of {name}, {layer.in_features} and {layer.out_features}",
                got=f"rank={rank}",
                remedy="Lower it, or leave this layer out of targets=.",
            )
    start = {"depth": depth, "rank": rank, "scale": scale, "gamma": gamma}
    if loss is None:
        networks = {
            name: _random_network(layer, **start, seed=seed + number)
            for number, (name, layer) in enumerate(layers.items())
        }
    else:
        networks = _gradient_networks(model, layers, loss, start | {"seed": seed})
    model.requires_grad_(False)
    adapters = {}
    for name, layer in layers.items():
        adapters[name] = CompressedAdapter(layer, networks[name].to(layer.weight.device, layer.weight.dtype))
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, adapters[name])
    return adapters


def parameter_groups(model: nn.Module, step: float) -> list[dict[str, Any]]:
    """Groups for an optimiser of torch: layers between the factors at this step, the factors at gamma times it, and
    whatever else is trained at this step.

    Args:
        model: A network with adapters.
        step: Learning rate.
    """
    groups: list[dict[str, Any]] = []
    taken: set[int] = set()
    for module in model.modules():
        if isinstance(module, CompressedAdapter):
            groups += module.network.parameter_groups(step)
            taken |= {id(parameter) for parameter in module.network.parameters()}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    return [*groups, {"params": others, "lr": step}] if others else groups


def merge(model: nn.Module) -> nn.Module:
    """Put merged linear layers in the place of all adapters, in place; returns the network."""
    for name, module in list(model.named_modules()):
        if isinstance(module, CompressedAdapter):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.merged())
    return model


def _linear_layers(model: nn.Module, targets: Sequence[str] | None) -> dict[str, nn.Linear]:
    if targets is not None:
        found = {name: model.get_submodule(name) for name in named(model, list(targets))}
        wrong = [name for name, layer in found.items() if not isinstance(layer, nn.Linear)]
        if wrong:
            raise InputError("targets that are nn.Linear", got=", ".join(wrong[:5]), remedy="Name linear layers.")
    else:
        found = {name: layer for name, layer in model.named_modules() if name and isinstance(layer, nn.Linear)}
    if not found:
        raise InputError("a linear layer inside the network", got="none", remedy="Wrap a single layer in Sequential.")
    return found


def _random_network(
    layer: nn.Linear, *, depth: int, rank: int, scale: float, gamma: float, seed: int
) -> CompressedNetwork:
    sides = (layer.out_features, layer.in_features)
    U, V = (haar_columns(side, rank, seed=2 * seed + at) for at, side in enumerate(sides))
    right, left = outer_frames(U, V, seed=seed)
    return CompressedNetwork(left, [scale * torch.eye(2 * rank).to(right)] * depth, right, gamma=gamma)


def _gradient_networks(
    model: nn.Module, layers: dict[str, nn.Linear], loss: Loss, start: dict[str, Any]
) -> dict[str, CompressedNetwork]:
    """Compressed networks of minus the gradient of every weight, float64."""
    networks: dict[str, CompressedNetwork] = {}

    def reduce(weight: Tensor, *, name: str) -> None:
        networks[name] = compress(-weight.grad.double(), **start)
        weight.grad = None

    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    handles = []
    try:
        for name, layer in layers.items():
            layer.weight.requires_grad_(True)
            handles.append(layer.weight.register_post_accumulate_grad_hook(partial(reduce, name=name)))
        with torch.enable_grad():
            loss(model).backward()
    finally:
        for handle in handles:
            handle.remove()
        for parameter, wanted in before.items():
            parameter.requires_grad_(wanted)
    missed = [name for name in layers if name not in networks]
    if missed:
        raise InputError("a loss that every adapted layer enters", got=f"none of {missed[0]}", remedy="Set targets=.")
    return networks
