"""`LoRATuning`: low-rank adapters from peft, beside the methods of this library."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError, missing_package
from tightframe.features.layers import named
from tightframe.nn.tuning.delta import inside
from tightframe.nn.tuning.tuning import TrainableShare, Tuning

_MARK = ".lora_"


class LoRATuning(Tuning):
    r"""Low-rank adapters in linear and convolutional layers, and the head, are trained; needs peft.

    $$W' = W + \frac{\alpha}{r} B A$$

    where W (d, p) is frozen, and A (r, p), B (d, r) are trained; B begins at zero.

    Args:
        model: As for `Tuning`; its layers are wrapped in place.
        rank: r.
        alpha: Strength alpha; None for 2 r.
        dropout: Of the adapters' inputs.
        targets: Names or globs of the adapted layers; None for every linear map but the head, or, where the backbone
            has none, every ungrouped convolution.

    Raises:
        MissingDependencyError: Without peft.
        InputError: Nothing to adapt, or layers that are no linear maps or convolutions.

    Reference: [hu2022lora], equation 3.
    """

    method = "lora"

    def __init__(
        self,
        model: nn.Module,
        *,
        rank: int = 8,
        alpha: float | None = None,
        dropout: float = 0.0,
        targets: Sequence[str] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.rank: int = check_count(rank, "rank")
        self.alpha: int | float = 2 * rank if alpha is None else alpha
        self.dropout: float = dropout
        self.targets, self._seed = targets, seed
        super().__init__(model, seed=seed, **options)

    def trained_modules(self) -> list[nn.Module]:
        """The adapters' matrices and dropout, and the head."""
        adapters = [module for name, module in self.model.named_modules() if _is_adapter(name)]
        return [*adapters, self.head]

    def is_trained(self, name: str) -> bool:
        """Whether an entry of the network's state is an adapter's or the head's."""
        return _MARK in name or inside(name, self.head_path)

    def describe(self) -> TrainableShare:
        """Trainable and total parameters; the adapters count in both."""
        head = sum(parameter.numel() for parameter in self.head.parameters())
        adapters = sum(p.numel() for name, p in self.model.named_parameters() if _MARK in name)
        total = sum(parameter.numel() for parameter in self.model.parameters())
        return TrainableShare(self.method, (("adapters", adapters), (self.head_path, head)), total)

    def settings(self) -> dict[str, Any]:
        """The arguments of `tune` that rebuild this method on the base."""
        own = {"rank": self.rank, "alpha": self.alpha, "dropout": self.dropout, "targets": list(self.targets)}
        return {**super().settings(), **own}

    def merged(self) -> nn.Module:
        """A copy of the network in evaluation mode with the adapters added to the weights and taken away."""
        copy = deepcopy(self.model).eval()
        for name, module in list(copy.named_modules()):
            if hasattr(module, "base_layer") and hasattr(module, "merge"):
                module.merge()
                parent, _, child = name.rpartition(".")
                setattr(copy.get_submodule(parent), child, module.get_base_layer())
        return copy

    def _prepare(self) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise missing_package("the package `peft`, for low-rank adapters", "hf", error) from error
        self.targets: tuple[str, ...] = _targets(self.model, self.targets, self.head_path)
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=list(self.targets)
        )
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            inject_adapter_in_model(config, self.model)


def _targets(model: nn.Module, asked: Sequence[str] | None, head: str) -> tuple[str, ...]:
    if asked is not None:
        paths = named(model, [asked] if isinstance(asked, str) else list(asked))
        wrong = [path for path in paths if not _adaptable(model.get_submodule(path)) or inside(path, head)]
        if wrong:
            raise InputError(
                "targets that are linear maps or convolutions of the backbone",
                got=", ".join(wrong[:5]),
                remedy="Name the linear layers inside a block, for example with a glob.",
            )
        return paths
    candidates = [(name, module) for name, module in model.named_modules() if not inside(name, head)]
    for kind in (nn.Linear, nn.Conv2d):
        found = tuple(name for name, module in candidates if isinstance(module, kind) and _adaptable(module))
        if found:
            return found
    raise InputError("a linear map or a convolution to adapt", got="none besides the head", remedy="Name targets=.")


def _adaptable(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _is_adapter(name: str) -> bool:
    parent, _, last = name.rpartition(".")
    return last.startswith("lora_") and _MARK not in parent
