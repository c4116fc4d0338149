"""What a loss is given besides logits and labels: sample indices, a second view, the last features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError

LossFunction = Callable[..., Tensor]


class Batch(NamedTuple):
    """Samples of one backward pass: inputs (views of all samples one after another), labels (N,) and indices (N,).

    The indices are on the device where the loss asks for them.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor


class Criterion:
    """A loss called with what it declares to need.

    Every loss gets logits (N, K) and labels (N,) and returns their mean loss. These attributes, all optional, ask for
    more:

    - `needs_index = True`: the keyword `index`, the positions (N,) of the samples in the data set;
    - `views = 2`: the keyword `logits2`, logits of the same samples transformed a second time;
    - `needs_features = True`: the keyword `features`, the input of the classifier (N, d).

    A module is moved to the device, and its state is part of every checkpoint. After every epoch parts with a method
    `synchronize` are asked to exchange what they know among the processes.

    Args:
        function: The loss.
        device: Where the batches are.
    """

    def __init__(self, function: LossFunction, device: torch.device) -> None:
        self.function: nn.Module | LossFunction = function.to(device) if isinstance(function, nn.Module) else function
        self.needs_index: bool = getattr(function, "needs_index", False)
        self.needs_features: bool = getattr(function, "needs_features", False)
        self.views: int = getattr(function, "views", 1)

    @property
    def name(self) -> str:
        """Name of the function, or of the module's class."""
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)

    def __call__(self, logits: Tensor, batch: Batch, features: list[Tensor]) -> Tensor:
        """The loss of one batch.

        Raises:
            InputError: It is not one number.
        """
        samples = len(batch.labels)
        more: dict[str, Tensor] = {}
        if self.needs_index:
            more["index"] = batch.index
        if self.views > 1:
            more["logits2"] = logits[samples:]
        if self.needs_features:
            more["features"] = features[0][:samples]
        loss = self.function(logits[:samples], batch.labels, **more)
        if loss.ndim > 0:
            raise InputError(
                "a loss that is one number, the mean over the batch",
                got=f"shape {tuple(loss.shape)}",
                remedy="Return the mean of the losses of the samples.",
            )
        return loss

    def state(self) -> dict[str, Any]:
        """State of the loss; empty for a function."""
        return self.function.state_dict() if isinstance(self.function, nn.Module) else {}

    def synchronize(self) -> None:
        """Let every part of the loss that has a method `synchronize` exchange what its process alone knows."""
        for part in self.function.modules() if isinstance(self.function, nn.Module) else ():
            if callable(getattr(part, "synchronize", None)):
                part.synchronize()

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        if isinstance(self.function, nn.Module):
            self.function.load_state_dict(state)
