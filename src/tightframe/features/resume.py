"""`Resumed`: a network run from one of its layers on, what comes before it left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.features.evaluation import devices_of, evaluation, unwrapped
from tightframe.features.layers import named


@dataclass(frozen=True)
class Inputs:
    """Arguments of a model's forward."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Any) -> Inputs:
        """A tuple of arguments, a dict of them, or the only one."""
        if isinstance(inputs, Inputs):
            return inputs
        if isinstance(inputs, Mapping):
            return cls((), dict(inputs))
        return cls(inputs if isinstance(inputs, tuple) else (inputs,))

    def first(self, device: torch.device) -> Inputs:
        """The first sample alone, on `device`."""
        return Inputs(
            tuple(_first(value, device) for value in self.args),
            {name: _first(value, device) for name, value in self.kwargs.items()},
        )

    def run(self, model: nn.Module) -> Any:
        """Output of the model."""
        return model(*self.args, **self.kwargs)


class Resumed(nn.Module):
    r"""The rest of a network: from the inputs of a layer to the network's outputs.

    $$\mathrm{model} = \mathrm{rest} \circ \mathrm{trunk}$$

    The network's own forward runs. Every module that finishes before the layer begins gives back what it gave for one
    example sample instead of computing, and the layer gets the inputs passed here; what the network computes between
    modules before the layer is computed for that one sample. This is right if nothing after the layer reads anything
    from before it but the layer's first input; `cached_trunk` compares outputs to make sure. Parameters, hooks and
    training flags are the network's: a skip connection that starts at the layer works, and gradients reach all that
    runs.

    Args:
        model: Any network, a `Tuning` among them.
        layer: Path of the layer.
        example: Inputs of at least one sample: a tensor, a tuple of arguments or a dict of them.

    Raises:
        InputError: No such layer, or one that a forward pass does not run with a tensor.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> x = torch.ones(5, 4)
    >>> bool(torch.equal(Resumed(model, "2", x)(model[:2](x)), model(x)))
    True
    """

    def __init__(self, model: nn.Module, layer: str, example: Any) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.layer: str = one_layer(model, layer)
        self._example = Inputs.of(example)
        self._device: torch.device | None = None
        self._record(devices_of(model)[0])

    def forward(self, inputs: Tensor) -> Any:
        """Output of the network for inputs of the layer (n, ...)."""
        if inputs.device != self._device:
            self._record(inputs.device)
        with self._replayed(), given(self.model.get_submodule(self.layer), inputs):
            return self._one.run(self.model)

    def _record(self, device: torch.device) -> None:
        self._device, self._one = device, self._example.first(device)
        self._outputs = _before(self.model, self.layer, self._one)

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module, outputs in self._outputs:
                stack.callback(_restore, module, module.__dict__.get("forward"))
                module.forward = _Replay(outputs)
            yield


def one_layer(model: nn.Module, layer: str) -> str:
    """Path of one layer inside the model.

    Raises:
        InputError: No such layer (near names are listed), several, or a wrapped model.
    """
    if unwrapped(model) is not model:
        raise InputError("the model itself", got=type(model).__name__, remedy="Pass the module inside the wrapper.")
    paths = named(model, [layer])
    if len(paths) > 1:
        raise InputError("one layer", got=f"{layer!r}, which matches {', '.join(paths[:5])}", remedy="Name one.")
    return paths[0]


@contextmanager
def given(module: nn.Module, inputs: Tensor) -> Iterator[None]:
    """The first call of `module` gets `inputs` for its first tensor."""
    pending = [inputs]

    def swap(_module: nn.Module, args: tuple[Any, ...], kwargs: dict) -> tuple[tuple, dict] | None:
        if not pending:
            return None
        place = first_place(args, kwargs)
        new = pending.pop()
        if isinstance(place, int):
            return (*args[:place], new, *args[place + 1 :]), kwargs
        return args, {**kwargs, place: new}

    handle = module.register_forward_pre_hook(swap, with_kwargs=True, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def first_place(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | str:
    """Where the first tensor among the arguments of a layer is: its position or its name.

    Raises:
        InputError: There is none.
    """
    for place, value in [*enumerate(args), *kwargs.items()]:
        if isinstance(value, Tensor):
            return place
    raise InputError("a layer that is called with a tensor", got="one that is not", remedy="Name another layer.")


class _Replay:
    """Gives recorded outputs in turn, and again from the start."""

    def __init__(self, outputs: list[Any]) -> None:
        self._left = deque(outputs)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        output = self._left[0]
        self._left.rotate(-1)
        return output


@dataclass
class _Call:
    module: nn.Module
    around: tuple[int, ...]
    output: Any = None
    ended: bool = False


def _before(model: nn.Module, layer: str, one: Inputs) -> list[tuple[nn.Module, list[Any]]]:
    """Outermost modules all of whose calls end before the layer is called, and what they returned."""
    calls: list[_Call] = []
    running: list[_Call] = []
    reached: list[list[_Call]] = []

    def enter(module: nn.Module, _args: Any) -> None:
        if module is chosen and not reached:
            reached.append([call for call in calls if call.ended])
        running.append(_Call(module, tuple(id(call.module) for call in running)))
        calls.append(running[-1])

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        call = running.pop()
        call.output, call.ended = output, True

    chosen = model.get_submodule(layer)
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(evaluation(model))
        one.run(model)
    if not reached:
        raise InputError(
            f"a layer {layer!r} that runs in a forward pass", got="one that does not", remedy="Name another."
        )
    (ended,) = reached
    before = {id(call) for call in ended}
    late = {id(call.module) for call in calls if id(call) not in before}
    outputs: dict[int, tuple[nn.Module, list[Any]]] = {}
    for call in ended:
        if id(call.module) not in late and late.issuperset(call.around):
            outputs.setdefault(id(call.module), (call.module, []))[1].append(call.output)
    return list(outputs.values())


def _restore(module: nn.Module, forward: Any) -> None:
    if forward is None:
        del module.__dict__["forward"]
    else:
        module.forward = forward


def _first(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    return (value[:1] if value.ndim else value).to(device)
