"""`LayerInputs`: what enters a layer, and whether the rest of the network needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from tightframe.core.errors import InputError
from tightframe.features.batches import BatchReader, forward_parameters
from tightframe.features.evaluation import evaluation, unwrapped
from tightframe.features.resume import Inputs, Resumed, first_place


class _ReachedError(Exception):
    """The layer is reached, and the rest of the network need not run."""


class LayerInputs:
    """Reads the inputs of a layer of a network that is in evaluation mode meanwhile; the rest of it does not run."""

    def __init__(self, model: nn.Module, layer: str, device: torch.device) -> None:
        self.model: nn.Module = model
        self.layer: str = layer
        self.device: torch.device = device
        self._reader = BatchReader(
            parameters=forward_parameters(unwrapped(model)),
            device=device,
            labels_key=None,
            mask_key=None,
            shift=False,
            ignore_index=None,
        )

    def read(self, dataset: Dataset[Any], indices: Sequence[int]) -> tuple[Inputs, Tensor, Tensor]:
        """Inputs of the network and of the layer, and labels, of some samples."""
        return self.inputs(next(read_batches(dataset, [list(indices)])))

    def inputs(self, batch: Any) -> tuple[Inputs, Tensor, Tensor]:
        """Inputs of the network and of the layer, and labels, of one batch."""
        args, kwargs, labels, _ = self._reader.parts(batch)
        inputs, found = Inputs(args, kwargs), []

        def stop(_module: nn.Module, args: tuple, kwargs: dict) -> None:
            place = first_place(args, kwargs)
            found.append((args[place] if isinstance(place, int) else kwargs[place]).detach())
            raise _ReachedError

        handle = self.model.get_submodule(self.layer).register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with evaluation(self.model):
                inputs.run(self.model)
        except _ReachedError:
            return inputs, self._checked(found[0], labels), labels
        finally:
            handle.remove()
        raise InputError(
            f"a layer {self.layer!r} that runs in a forward pass", got="one that does not", remedy="Name another."
        )

    def check_rest(self, inputs: Inputs, h: Tensor) -> None:
        """The network from the layer on, given `h`, computes what the whole network does."""
        with evaluation(self.model):
            whole = _tensors(inputs.run(self.model))
        resumed = Resumed(self.model, self.layer, inputs)
        try:
            with evaluation(resumed):
                rest = _tensors(resumed(h))
        except RuntimeError as error:
            raise self._unsplit(f"a pass that fails from there ({error})") from error
        # Kernels may round differently for other batch sizes, hence a slack of some hundred roundings.
        slack = 256 * max((torch.finfo(value.dtype).eps for value in whole), default=0.0)
        alike = len(whole) == len(rest) and all(
            a.shape == b.shape and bool((a - b).abs().max() <= slack * a.abs().max())
            for a, b in zip(whole, rest, strict=True)
        )
        if not alike:
            raise self._unsplit("other outputs from there than from the start")

    def _unsplit(self, got: str) -> InputError:
        return InputError(
            f"a network whose parts after {self.layer!r} read nothing from before it but its first input",
            got=got,
            remedy="Name a whole block, or train without the cache.",
        )

    def _checked(self, h: Tensor, labels: Tensor) -> Tensor:
        if h.ndim < 2 or not h.is_floating_point() or labels.shape != (len(h),):
            raise InputError(
                "a layer with inputs (n, ...) in floating point, and one label per sample",
                got=f"inputs {h.dtype} of shape {tuple(h.shape)}, labels of shape {tuple(labels.shape)}",
                remedy="Name a block whose first input has one entry per sample.",
            )
        return h


def read_batches(dataset: Dataset[Any], places: Sequence[list[int]]) -> Iterator[Any]:
    """The samples at `places`, a list per batch: by the data set's `gather`, or through torch's loader."""
    gather = getattr(dataset, "gather", None)
    if gather is not None:
        yield from (tuple(gather(torch.tensor(part))) for part in places)
        return
    order = [place for part in places for place in part]
    yield from DataLoader(Subset(dataset, order), batch_size=max(map(len, places)))


def _tensors(output: Any) -> list[Tensor]:
    """The logits, or all floating-point tensors of an output."""
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [tensor for value in values for tensor in _tensors(value) if tensor.is_floating_point()]
