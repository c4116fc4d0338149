"""What fine-tuning changed, as a file that names its base by a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError, UnsafeFileError, reason
from tightframe.core.files import is_file, replace_file

_FORMAT = "tightframe-delta-1"
_HOW = "Write it with save_delta()."
# An adapter puts the layer it adapts one level further down.
_ADAPTED = ".base_layer"


class Tuned(Protocol):
    """A network of which some entries of the state are trained."""

    model: nn.Module

    def is_trained(self, name: str) -> bool:
        """Whether an entry is trained."""

    def delta_state_dict(self) -> dict[str, Tensor]:
        """The trained entries."""

    def settings(self) -> dict[str, Any]:
        """The arguments that rebuild the method."""


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 of the frozen part of a network: its names, shapes and dtypes, and its values."""

    structure: str
    values: str


@dataclass(frozen=True)
class Delta:
    """Contents of a file of what changed: tensors by their names in the network, settings of `tune`, the base."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    base: Fingerprint


def inside(name: str, path: str) -> bool:
    """Whether a dotted name is at or below a path; "" is the root.

    >>> inside("layer3.0.conv1.weight", "layer3.0"), inside("layer3.01", "layer3.0")
    (True, False)
    """
    return path in ("", name) or name.startswith(f"{path}.")


def fingerprint(state: Mapping[str, Tensor], is_trained: Callable[[str], bool]) -> Fingerprint:
    """Fingerprint of the entries of a network's state that are not trained; values are read on the CPU.

    Raises:
        InputError: Tensors on the meta device.
    """
    structure, values = hashlib.sha256(), hashlib.sha256()
    for name, tensor in _frozen(state, is_trained):
        if tensor.is_meta:
            raise InputError(
                "a network with values", got=f"{name} on the meta device", remedy="Load the weights first."
            )
        structure.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        values.update(tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy())
    return Fingerprint(structure.hexdigest(), values.hexdigest())


def write_delta(path: str | Path, tuned: Tuned) -> Path:
    """Write the trained entries of a network; the file appears whole or not at all.

    Returns:
        The path.

    Raises:
        InputError: A path that does not end in .safetensors or cannot be written, tensors on the meta device.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError("a path that ends in .safetensors", got=repr(path.name), remedy="Rename it.")
    base = fingerprint(tuned.model.state_dict(), tuned.is_trained)
    about = {"settings": tuned.settings(), "structure": base.structure, "values": base.values}
    tensors = {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in tuned.delta_state_dict().items()
    }
    # One entry alone, because safetensors writes several in any order: equal deltas are equal files.
    metadata = {_FORMAT: json.dumps(about)}
    replace_file(path, lambda target: _write(target, tensors, metadata))
    return path


def read_delta(path: str | Path) -> Delta:
    """Read what `write_delta` wrote; nothing in the file is executed.

    Raises:
        UnsafeFileError: A pickle.
        InputError: No file, a damaged one, or one of another kind.
    """
    from safetensors import safe_open

    path = Path(path)
    if not is_file(path):
        raise InputError("a file of what changed", got=f"nothing at {path}", remedy="Check the path.")
    if path.suffix in (".pt", ".pth", ".pkl", ".bin"):
        raise UnsafeFileError("a safetensors file", got=f"{path.name}, a pickle by its name", remedy=_HOW)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _FORMAT in metadata:
            about = json.loads(metadata[_FORMAT])
            return Delta(tensors, dict(about["settings"]), Fingerprint(str(about["structure"]), str(about["values"])))
    except Exception as error:  # the reader's own kind of error, or metadata that do not fit
        raise InputError("a whole file of what changed", got=f"{path.name} ({reason(error)})", remedy=_HOW) from error
    raise InputError(f"a file in the format {_FORMAT}", got=f"{path.name}, which is of another kind", remedy=_HOW)


def check_base(delta: Delta, found: Fingerprint) -> None:
    """The base that a delta was trained on.

    Raises:
        InputError: Another network, or other weights.
    """
    if found.structure != delta.base.structure:
        raise InputError(
            f"the base of this delta, whose frozen part has the structure {delta.base.structure[:12]}",
            got=f"a network with other layers, shapes or precision ({found.structure[:12]})",
            remedy="Load it on the model that was tuned, in the same precision.",
        )
    if found.values != delta.base.values:
        raise InputError(
            f"the base of this delta, whose frozen weights have the hash {delta.base.values[:12]}",
            got=f"the same network with other weights ({found.values[:12]})",
            remedy="Load it on the pretrained weights that were tuned.",
        )


def apply_delta(delta: Delta, tuned: Tuned) -> None:
    """Copy the tensors of a delta into a network prepared by the same method.

    Raises:
        InputError: Names or shapes that do not fit; nothing is copied then.
    """
    own = tuned.delta_state_dict()
    wrong = sorted(own.keys() ^ delta.tensors.keys())
    wrong += [name for name in own.keys() & delta.tensors.keys() if own[name].shape != delta.tensors[name].shape]
    if wrong:
        raise InputError(
            "a delta with the tensors that this method trains",
            got=f"missing, unknown or of another shape: {', '.join(wrong[:5])}",
            remedy="Load it on the model that was tuned.",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(delta.tensors[name])


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(0, str(error)) from error


def _frozen(state: Mapping[str, Tensor], is_trained: Callable[[str], bool]) -> list[tuple[str, Tensor]]:
    # Entries that are no tensors (the extra state of some modules) have no bytes to compare.
    kept = ((name, value) for name, value in state.items() if isinstance(value, Tensor) and not is_trained(name))
    return sorted(((name.replace(_ADAPTED, ""), value) for name, value in kept), key=lambda entry: entry[0])
