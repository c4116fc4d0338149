"""What a frozen trunk computes, once: the inputs of a layer for every sample, on disk and mapped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.files import replace_file
from tightframe.features.evaluation import devices_of
from tightframe.features.layer_inputs import LayerInputs, read_batches
from tightframe.features.resume import Inputs, Resumed, one_layer
from tightframe.features.shards import FeatureShards, ShardWriter

_ABOUT = "trunk.json"
_COMPARED = 4


class TrunkFeatures(Dataset[Any]):
    """Pairs (input of the layer, label) of every sample, read from memory-mapped files.

    A map-style data set with `gather`, so that training loops read a batch without a loader. `cached_trunk` makes it.

    Args:
        directory: Where the shards are.
        example: Inputs of the network for one sample, which `resumed` needs.

    Raises:
        InputError: No finished cache there, or a damaged one.
    """

    def __init__(self, directory: str | Path, example: Inputs) -> None:
        directory = Path(directory)
        shards = FeatureShards.open(directory)
        try:
            about = json.loads((directory / _ABOUT).read_text())
            self.layer: str = str(about["layer"])
            self.shape: tuple[int, ...] = tuple(int(size) for size in about["shape"])
            self.dtype: torch.dtype = getattr(torch, about["dtype"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                "a finished cache of a trunk", got=f"{directory} ({error})", remedy="Remove it and compute it again."
            ) from error
        self.example = example
        # One block per file: views of its map, no copies.
        blocks = list(shards.blocks(max(1, len(shards))))
        self._pieces = [h for h, _ in blocks]
        self.labels: Tensor = torch.cat([y for _, y in blocks])
        self._starts = torch.tensor([0, *(len(h) for h in self._pieces)]).cumsum(0)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        place = range(len(self))[index]
        inputs, labels = self.gather([place])
        return inputs[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Samples of a batch as torch's loaders ask for them."""
        return list(zip(*self.gather(indices), strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of the inputs on disk."""
        return sum(h.numel() * h.element_size() for h in self._pieces)

    def gather(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the layer (B, ...) in the precision that it computes in, and labels (B,), at `indices`."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if len(self._pieces) == 1:
            rows = self._pieces[0][chosen]
        else:
            piece = torch.bucketize(chosen, self._starts[1:], right=True)
            rows = torch.empty(len(chosen), self._pieces[0].shape[1], dtype=self._pieces[0].dtype)
            for number in piece.unique().tolist():
                here = piece == number
                rows[here] = self._pieces[number][chosen[here] - self._starts[number]]
        return rows.to(self.dtype).view(-1, *self.shape), self.labels[chosen]

    def resumed(self, model: nn.Module) -> Resumed:
        """The rest of `model`, which takes what this data set gives: the network itself, or one that wraps it.

        A wrapper holds the network as `model`, as a `Tuning` does.
        """
        inner = getattr(model, "model", None)
        path = self.layer
        if isinstance(inner, nn.Module) and path not in dict(model.named_modules()):
            path = f"model.{path}"
        return Resumed(model, path, self.example)


def cached_trunk(
    model: nn.Module,
    layer: str,
    dataset: Dataset[Any],
    path: str | Path,
    *,
    batch_size: int = 256,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> TrunkFeatures:
    """Compute the inputs of a layer for every sample of a data set, once, and keep them on disk.

    Everything before the layer must be frozen, and the data set must give the same sample every time (no random
    augmentation). A cache that is there already is used if a few samples, computed again, agree with it.

    Args:
        model: The network; what is before `layer` runs in evaluation mode, without gradients.
        layer: Path of the layer whose inputs are kept: the tuned layer, or the classifier for a linear probe.
        dataset: Map-style; pairs (input, label) or mappings with labels, as for `measure`; with
            `gather(indices) -> (inputs, labels)` it is read without a loader.
        path: A directory for the files, new or with the same cache.
        batch_size: Samples per forward pass.
        dtype: Precision on disk, float16 and bfloat16 halve it; None for the layer's own.
        device: Where to compute; None for where the model is.

    Returns:
        The data set of inputs of the layer; its `resumed(model)` computes the network's outputs from them.

    Raises:
        InputError: No such layer; a network whose later parts read more than the layer's input from before it; an
            empty data set; a directory with another cache or other files.

    Example:
        >>> import tempfile
        >>> from torch.utils.data import TensorDataset
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> data = TensorDataset(torch.ones(5, 4), torch.arange(5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached = cached_trunk(model, "1", data, f"{folder}/trunk")
        ...     h, y = cached.gather([0, 3])
        >>> tuple(h.shape), y.tolist(), cached.nbytes
        ((2, 3), [0, 3], 60)
    """
    path, layer = Path(path), one_layer(model, layer)
    check_count(batch_size, "batch_size")
    if not len(dataset):
        raise InputError("a data set with at least one sample", got="an empty one", remedy="Check the split.")
    trunk = LayerInputs(model, layer, devices_of(model)[0] if device is None else torch.device(device))
    compared = sorted({round(place) for place in torch.linspace(0, len(dataset) - 1, _COMPARED).tolist()})
    inputs, h, y = trunk.read(dataset, compared)
    trunk.check_rest(inputs, h)
    if not (path / _ABOUT).is_file():
        _write(trunk, dataset, path, h, batch_size=batch_size, dtype=h.dtype if dtype is None else dtype)
    cache = TrunkFeatures(path, inputs.first(torch.device("cpu")))
    _check_same(cache, layer, len(dataset), compared, h, y)
    return cache


def _write(
    trunk: LayerInputs, dataset: Dataset[Any], path: Path, h: Tensor, *, batch_size: int, dtype: torch.dtype
) -> None:
    shape = tuple(h.shape[1:])
    with FeatureShards.create(path, features=h[0].numel(), dtype=dtype) as writer:
        for batch in read_batches(dataset, [list(part) for part in _parts(len(dataset), batch_size)]):
            _append(writer, shape, *trunk.inputs(batch)[1:])
    about = {"layer": trunk.layer, "shape": shape, "dtype": str(h.dtype).removeprefix("torch.")}
    replace_file(path / _ABOUT, lambda target: target.write_text(json.dumps(about)))


def _append(writer: ShardWriter, shape: tuple[int, ...], h: Tensor, y: Tensor) -> None:
    if h.shape[1:] != shape:
        raise InputError(
            f"inputs of the layer of one shape, {shape}",
            got=f"{tuple(h.shape[1:])}",
            remedy="Resize or pad the samples.",
        )
    writer.append(h.flatten(1), y)


def _check_same(cache: TrunkFeatures, layer: str, samples: int, compared: list[int], h: Tensor, y: Tensor) -> None:
    alike = cache.layer == layer and len(cache) == samples and cache.shape == tuple(h.shape[1:])
    if alike:
        stored, labels = cache.gather(compared)
        # Rounding to the precision on disk, and that of kernels at another batch size.
        slack = 256 * torch.finfo(h.dtype).eps + 2 * torch.finfo(cache._pieces[0].dtype).eps
        h = h.to(stored)
        alike = torch.equal(labels, y.cpu()) and bool((stored - h).abs().max() <= slack * h.abs().max())
    if not alike:
        raise InputError(
            "a cache of this network, layer and data",
            got="one of another network, layer or data, or samples that change from one reading to the next",
            remedy="Choose another directory, and a data set without random augmentation.",
        )


def _parts(samples: int, batch_size: int) -> Iterator[range]:
    return (range(start, min(start + batch_size, samples)) for start in range(0, samples, batch_size))
