"""Skip-connection tuning as a method of peft: `get_peft_model(model, SkipTuningConfig(...))`, save and load included.

peft's list of methods is closed: importing this module adds one entry to it, "SCL_FT", in this process. Import it
before adapters of this kind are loaded.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tightframe.core.errors import InputError, missing_package
from tightframe.nn.tuning.placement import classifier_of
from tightframe.nn.tuning.skip import SkipConnection

try:
    from peft import PeftConfig, PeftType
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
    from peft.utils import ModulesToSaveWrapper, register_peft_method
except ImportError as _error:
    raise missing_package("the package `peft`, with register_peft_method", "hf", _error) from _error

NAME = "SCL_FT"
_LAYERS = "scl_ft_layers"


@dataclass
class SkipTuningConfig(PeftConfig):
    """Skip-connection tuning of one block and the head; see `SkipConnectionTuning`.

    Args:
        target_modules: The tuned block: a list with its path, or a regular expression for it.
        head: Path of the classifier; None to find it.
        tokens: Sequences give their first position ("class") or their mean ("mean").
        modules_to_save: What is trained and saved besides; None for the head.
        exclude_modules: Names that target_modules shall not match.

    Reference: [li2022principled].
    """

    target_modules: list[str] | str | None = field(default=None)
    head: str | None = field(default=None)
    tokens: str = field(default="class")
    modules_to_save: list[str] | None = field(default=None)
    exclude_modules: list[str] | str | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type: PeftType = PeftType(NAME)


class SkipTuningLayer(nn.Module, BaseTunerLayer):
    """A block beside its trained copies, one per adapter."""

    adapter_layer_names: tuple[str, ...] = (_LAYERS,)

    base_layer: nn.Module

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.scl_ft_layers: nn.ModuleDict = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.add(adapter_name)

    def add(self, adapter_name: str, *, inference_mode: bool = False) -> None:
        """A copy of the block for one more adapter."""
        self.scl_ft_layers[adapter_name] = deepcopy(self.get_base_layer())
        self.set_adapter(adapter_name, inference_mode=inference_mode)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """The trained copy takes the block's place."""
        names = check_adapters_to_merge(self, adapter_names)
        if len(names) > 1:
            raise InputError("one adapter to merge", got=", ".join(names), remedy="Merge one.")
        for name in names:
            self.base_layer, self.scl_ft_layers[name] = self.scl_ft_layers[name], self.base_layer
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """The block is put back."""
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            self.base_layer, self.scl_ft_layers[name] = self.scl_ft_layers[name], self.base_layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Output of the active copy, or of the block where adapters are off."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.disable_adapters or self.merged or not self.active_adapters:
            return self.base_layer(*args, **kwargs)
        return self.scl_ft_layers[self.active_adapters[0]](*args, **kwargs)


class _SwitchedSkip(SkipConnection):
    """A skip connection that is off where adapters are."""

    def join(self, head: nn.Module, args: tuple) -> tuple | None:
        if self.entry.module.disable_adapters:
            self.forget()
            return None
        return super().join(head, args)


class SkipTuningModel(BaseTuner):
    """The network with one tuned block; made by `get_peft_model`."""

    prefix = "scl_ft_"
    tuner_layer_cls: type[SkipTuningLayer] = SkipTuningLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - peft reads a plain class attribute

    def train(self, mode: bool = True) -> SkipTuningModel:
        """Training mode for what is trained; the frozen rest stays in evaluation mode."""
        super().train(False)
        self.training = mode
        for module in self.modules():
            if isinstance(module, SkipTuningLayer | ModulesToSaveWrapper):
                module.train(mode)
                (module.base_layer if isinstance(module, SkipTuningLayer) else module.original_module).eval()
        return self

    def _pre_injection_hook(self, model: nn.Module, config: SkipTuningConfig, adapter_name: str) -> None:
        if config.head is None:
            config.head, _ = classifier_of(model, None, None)
        if config.modules_to_save is None:
            config.modules_to_save = [config.head]

    def _post_injection_hook(self, model: nn.Module, config: SkipTuningConfig, adapter_name: str) -> None:
        # peft calls the network itself, and wraps the head only after this: the two are joined when a pass begins.
        if "_begin" not in self.__dict__:
            self._begin = model.register_forward_pre_hook(self._joined)

    def _joined(self, *_: Any) -> None:
        if "_skip" not in self.__dict__:
            path, _ = self._block()
            config = self.peft_config[self.active_adapters[0]]
            head = self.model.get_submodule(config.head)
            self._skip = _SwitchedSkip(self.model, path, head, tokens=config.tokens)

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, SkipTuningLayer):
            target.add(adapter_name, inference_mode=peft_config.inference_mode)
            return
        made = SkipTuningLayer(target, adapter_name)
        made.requires_grad_(adapter_name == self.active_adapter)
        setattr(parent, target_name, made)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> nn.Module:
        path, block = self._block()
        (adapter,) = adapter_names or self.active_adapters
        config = self.peft_config[adapter]
        if merge:
            block.merge(adapter_names=[adapter])
        self._begin.remove()
        _put(self.model, path, block.get_base_layer())
        for name, part in list(self.model.named_modules()):
            if isinstance(part, ModulesToSaveWrapper):
                _put(self.model, name, part.modules_to_save[adapter] if merge else part.original_module)
        if merge:
            SkipConnection(self.model, path, self.model.get_submodule(config.head), tokens=config.tokens)
        if hasattr(self.model, "peft_config"):
            del self.model.peft_config
        return self.model

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Copies of a block keep its precision."""

    def _block(self) -> tuple[str, SkipTuningLayer]:
        found = [(name, part) for name, part in self.model.named_modules() if isinstance(part, SkipTuningLayer)]
        if len(found) != 1:
            raise InputError(
                "target_modules that match one block",
                got=", ".join(name for name, _ in found) or "none",
                remedy="Give its whole path.",
            )
        return found[0]


def _put(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


def _register() -> None:
    if NAME in PeftType.__members__:
        return
    member = str.__new__(PeftType, NAME)
    member._name_ = member._value_ = NAME
    PeftType._member_map_[NAME] = member
    PeftType._value2member_map_[NAME] = member
    PeftType._member_names_.append(NAME)
    register_peft_method(name=NAME.lower(), config_cls=SkipTuningConfig, model_cls=SkipTuningModel)


_register()
