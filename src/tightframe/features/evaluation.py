"""Running a model without leaving a trace: wrappers, training flags, grad mode and randomness are put back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from tightframe.core.errors import InputError
from tightframe.core.rng import preserved_rng


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile, DistributedDataParallel and Lightning Fabric wrappers.

    Raises:
        InputError: Not a module, or one whose parts cannot be hooked (scripted, DataParallel, fully sharded).
    """
    while isinstance(model, nn.Module):
        inside = {name: part for name, part in model._modules.items() if name in ("_orig_mod", "_original_module")}
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif inside:
            (model,) = inside.values()
        else:
            _refuse_unhookable(model)
            return model
    raise InputError(
        "the model is a torch.nn.Module",
        got=type(model).__name__,
        remedy="Pass the module itself; features of other models can be saved with write_features.",
    )


def devices_of(model: nn.Module) -> list[torch.device]:
    """Devices of the parameters and buffers, the first parameter's first; the CPU for a model without any."""
    found = dict.fromkeys(tensor.device for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
    return list(found) or [torch.device("cpu")]


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the training flag of every module and the random state are restored."""
    flags = [(module, module.training) for module in model.modules()]
    with preserved_rng(devices_of(model)), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, training in flags:
                # train() may do more than set the flag (merged adapters); it also reaches the children, which
                # come later in this list and get their own flag back.
                if module.training != training:
                    module.train(training)
                module.training = training


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Compiled modules run uncompiled, so that hooks are called; DDP does not broadcast buffers.

    That broadcast is a collective in every forward pass, and would wait for ever for a rank with fewer batches.
    """
    with ExitStack() as stack:
        if any(_is_compiled(module) for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for module in model.modules():
            if isinstance(module, DistributedDataParallel):
                stack.callback(setattr, module, "require_forward_param_sync", module.require_forward_param_sync)
                module.require_forward_param_sync = False
        yield


class PrivateRandomness:
    """A random stream of its own that begins at the current state (torch, numpy, random, and given generators).

    Within `with stream():` code draws from this stream, and goes on from there the next time; outside nothing
    has been drawn. Batches keep different randomness, and the caller's generators stay as they were.
    """

    def __init__(self, devices: list[torch.device], generators: Iterable[torch.Generator] = ()) -> None:
        self._devices, self._generators = devices, list(generators)
        self._state: tuple | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Draw from this stream inside the block."""
        with preserved_rng(self._devices):
            outside = random.getstate(), np.random.get_state(), [g.get_state() for g in self._generators]
            try:
                if self._state is not None:
                    self._set(*self._state)
                yield
            finally:
                cuda = [torch.cuda.get_rng_state(device) for device in self._cuda()]
                own = [g.get_state() for g in self._generators]
                self._state = (random.getstate(), np.random.get_state(), own, torch.get_rng_state(), cuda)
                self._set_outside_torch(*outside)

    def _cuda(self) -> list[torch.device]:
        return [device for device in self._devices if device.type == "cuda"]

    def _set_outside_torch(self, python: tuple, numpy: tuple, own: list[torch.Tensor]) -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        for generator, state in zip(self._generators, own, strict=True):
            generator.set_state(state)

    def _set(
        self, python: tuple, numpy: tuple, own: list[torch.Tensor], cpu: torch.Tensor, cuda: list[torch.Tensor]
    ) -> None:
        self._set_outside_torch(python, numpy, own)
        torch.set_rng_state(cpu)
        for device, state in zip(self._cuda(), cuda, strict=True):
            torch.cuda.set_rng_state(state, device)


def _is_compiled(module: nn.Module) -> bool:
    return "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None


def _refuse_unhookable(model: nn.Module) -> None:
    ancestry = {kind.__name__ for kind in type(model).__mro__}
    if isinstance(model, torch.jit.ScriptModule):
        kind, remedy = "a TorchScript module", "Pass the Python model it was made from."
    elif isinstance(model, DataParallel):
        kind, remedy = "nn.DataParallel, whose replicas run in threads", "Pass model.module."
    elif ancestry & {"FSDPModule", "FullyShardedDataParallel"}:
        kind, remedy = "a fully sharded model", "Gather its full state_dict into an unsharded copy and pass that."
    else:
        return
    raise InputError("the model's modules can be hooked", got=kind, remedy=remedy)
