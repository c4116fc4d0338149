"""Networks that are a chain of linear and pointwise layers, and the factors of their derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from tightframe.core.typing import Float, Tensor
from tightframe.nn.networks import MLP

POINTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Hardtanh,
    nn.ReLU6,
    nn.Identity,
    nn.Dropout,
)

Factor = tuple[Float[Tensor, "n p"], Float[Tensor, "n k q"], bool, bool]


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers applied one after the other: Linear, pointwise, or a first Flatten.

    Args:
        layers: In order.
    """

    layers: tuple[nn.Module, ...]

    def factors(self, points: Tensor) -> list[Factor]:
        """For every linear layer: its inputs, the outputs' derivatives by its outputs, and what of it is trained.

        Derivatives run backwards with the weights' matrices alone; pointwise layers scale them by their own slopes.
        """
        values = points.flatten(1)
        inputs: list[Tensor] = []
        slopes: list[Tensor] = []
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                inputs.append(values)
                values = layer(values)
            elif isinstance(layer, nn.Flatten):
                inputs.append(values)
            else:
                inputs.append(values)
                values, slope = _with_slope(layer, values)
                slopes.append(slope)
        width = values.shape[1]
        back = torch.eye(width, dtype=values.dtype, device=values.device).expand(len(values), width, width)
        found: list[Factor] = []
        for layer, entering in zip(reversed(self.layers), reversed(inputs), strict=True):
            if isinstance(layer, nn.Linear):
                trained = layer.weight.requires_grad, layer.bias is not None and layer.bias.requires_grad
                found.append((entering, back, *trained))
                back = back @ layer.weight
            elif not isinstance(layer, nn.Flatten):
                back = back * slopes.pop()[:, None]
        return found


def read_chain(model: nn.Module) -> tuple[Chain | None, str]:
    """The chain that a model is, or None and what stands in the way.

    Only `nn.Linear`, `nn.Sequential`, `MLP` without batch normalisation and the layers of POINTWISE are known to be
    what they seem: subclasses and modules with hooks may compute anything.
    """
    layers: list[nn.Module] = []
    obstacle = _collect(model, layers)
    if obstacle:
        return None, obstacle
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weights = [each for layer in linear for each in layer.parameters()]
    if len({id(each) for each in weights}) < len(weights):
        return None, "layers share weights"
    if any(isinstance(layer, nn.Flatten) for layer in layers[1:]):
        return None, "a Flatten stands behind other layers"
    return Chain(tuple(layers)), ""


def _collect(module: nn.Module, layers: list[nn.Module]) -> str:
    """Append the layers of a module; what stands in the way, or nothing."""
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"):
        return f"{kind.__name__} has hooks or parametrisations"
    if kind is MLP:
        layers.append(nn.Flatten())
        return _collect(module.blocks, layers) or _collect(module.classifier, layers)
    if kind is nn.Sequential:
        return next((found for each in module if (found := _collect(each, layers))), "")
    if kind is nn.Linear or kind in POINTWISE or (kind is nn.Flatten and module.start_dim == 1):
        layers.append(module)
        return ""
    return f"{kind.__name__} is neither Linear nor a pointwise layer"


def _with_slope(layer: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's values and derivatives: pointwise, so that one backward pass of the sum has them all."""
    with torch.enable_grad():
        entering = values.detach().requires_grad_()
        # Layers that work in place must not meet a leaf.
        leaving = layer(entering * 1)
        slope = torch.autograd.grad(leaving.sum(), entering)[0]
    return leaving.detach(), slope
