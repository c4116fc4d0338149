"""Checkpoints: the state of training, saved whole or not at all; weights read without executing pickles."""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.serialization import MAGIC_NUMBER

from tightframe.core.errors import InputError, UnsafeFileError, reason
from tightframe.core.files import check_no_pipe
from tightframe.core.memory import check_fits
from tightframe.runs.store import write_atomic

FORMAT = "tightframe checkpoint 2"
_NESTED = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "model.", "_orig_mod.", "_forward_module.")
_SAFER = "Save the weights alone: torch.save(model.state_dict(), path), or safetensors.torch.save_file."


@dataclass(frozen=True)
class Checkpoint:
    """The state of training after `epoch` epochs.

    Random states are not part of it: every epoch starts its random streams anew from (seed, epoch, rank).

    Args:
        model: State dict of the network.
        optimizer: State dict of the optimiser.
        epoch: Epochs done.
        history: Series rows so far.
        config: What must be the same for training to go on as if it had not stopped.
        loss: State dict of the loss; empty where it has none.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    epoch: int
    history: tuple[dict[str, Any], ...]
    config: dict[str, Any]
    loss: dict[str, Any] = field(default_factory=dict)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint`; the file that was there is kept until the new one is complete.

    Raises:
        InputError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT} | {name: getattr(checkpoint, name) for name in _FIELDS}, buffer)
    write_atomic(path, buffer.getbuffer())


def load(path: Path) -> Checkpoint:
    """Read what `save` wrote, with tensors on the CPU.

    Raises:
        InputError: The file is missing, damaged or no training checkpoint.
        UnsafeFileError: It holds objects that only executing it could restore.
    """
    content = _torch_load(Path(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT or not content.keys() >= set(_FIELDS):
        raise InputError(
            f"a checkpoint written by training ({FORMAT})",
            got=f"{path}, which is another file",
            remedy="Name the checkpoint.pt of a run, or train from the start.",
        )
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(content[name], kind)]
    if wrong:
        raise _unreadable(path, f"{wrong[0]} of type {type(content[wrong[0]]).__name__}")
    return Checkpoint(**{name: content[name] for name in _FIELDS})


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Weights by name from a safetensors file or a torch.save'd state dict, never executing the file.

    A state dict inside a larger dictionary is found under "state_dict", "model" or "model_state_dict".

    Raises:
        InputError: The file is missing, damaged, or holds no state dict (its keys are listed).
        UnsafeFileError: Reading it would execute code it contains.
    """
    path = Path(path)
    content = _safetensors(path) if _is_safetensors(path) else _torch_load(path)
    for candidate in (content, *(content.get(key) for key in _NESTED if isinstance(content, dict))):
        if isinstance(candidate, dict) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return {str(name): value for name, value in candidate.items()}
    keys = [str(key) for key in content][:8] if isinstance(content, dict) else type(content).__name__
    raise InputError(
        f"a dictionary of tensors by name in {path}", got=f"{keys}", remedy="Save model.state_dict() itself."
    )


def load_into(model: nn.Module, path: Path) -> None:
    """Load the weights at `path` into `model`; every key and every shape must fit.

    Prefixes that wrappers leave ("module.", "model.", "_orig_mod.") are removed when all keys bear them.

    Raises:
        InputError: Keys are missing or unexpected, or shapes differ; the message lists them and the model is
            unchanged.
        UnsafeFileError: Reading the file would execute code it contains.
    """
    wanted = model.state_dict().keys()
    versions = _without_prefixes(load_state_dict(path))
    apply_state(model, min(versions, key=lambda version: len(wanted ^ version.keys())), path)


def apply_state(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Give `model` the weights `state`, read from `path`, if every key and every shape fits.

    Raises:
        InputError: They do not fit; the message lists what is missing, unexpected or of another shape.
    """
    wanted = model.state_dict()
    unexpected = [name for name in state if name not in wanted]
    # Tied weights are stored once by some formats: a name is there if another name of the same tensor is.
    present = {wanted[name].data_ptr() for name in state if name in wanted}
    missing = [name for name in wanted if name not in state and wanted[name].data_ptr() not in present]
    shapes = [
        f"{name} {tuple(value.shape)} for {tuple(wanted[name].shape)}"
        for name, value in state.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    if missing or unexpected or shapes:
        raise InputError(
            f"weights in {path} that fit {type(model).__name__}",
            got="; ".join(
                f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
                for kind, names in (
                    ("missing", missing),
                    ("unexpected", unexpected),
                    ("of other shape", shapes),
                )
                if names
            ),
            remedy="Build the model with the arguments it was trained with.",
        )
    model.load_state_dict(state, strict=False)


_FIELDS = {"model": dict, "optimizer": dict, "epoch": int, "history": tuple, "config": dict, "loss": dict}


def _without_prefixes(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """`state`, and `state` with one more common prefix removed at a time."""
    versions = [state]
    while True:
        latest = versions[-1]
        shared = next((p for p in _PREFIXES if all(name.startswith(p) for name in latest)), None)
        if shared is None:
            return versions
        versions.append({name.removeprefix(shared): value for name, value in latest.items()})


def _is_safetensors(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return True
    try:
        check_no_pipe(path)
        with path.open("rb") as handle:
            head = handle.read(9)
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from error
    # A safetensors file begins with the length of its JSON header (8 bytes) and the header's brace.
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # the reader's own kind of error, or whatever a damaged header makes it raise
        raise _unreadable(path, reason(error)) from error


def _torch_load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # The pickle protocols torch warns about are read, or refused below in words.
            warnings.simplefilter("ignore", UserWarning)
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    check_fits(sum(info.file_size for info in archive.infolist()), path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except pickle.UnpicklingError as error:
        if _is_whole_pickle(path):
            raise _unsafe(path) from error
        raise _unreadable(path, "no complete checkpoint") from error
    except Exception as error:  # torch reports damage by RuntimeError, EOFError, KeyError, ...
        if "TorchScript" in str(error):
            raise _unsafe(path) from error
        raise _unreadable(path, reason(error)) from error


def _is_whole_pickle(path: Path) -> bool:
    """Whether the file is intact, and so was refused for what it contains. Reads opcodes, executes none."""
    if zipfile.is_zipfile(path):
        return True
    try:
        with path.open("rb") as handle:
            arguments = [argument for _, argument, _ in pickletools.genops(handle)]
            # torch's older format: a magic number, then four more pickles, then the bytes of the tensors.
            for _ in range(4 if MAGIC_NUMBER in arguments else 0):
                list(pickletools.genops(handle))
        return True
    except Exception:  # opcodes of a damaged file raise almost anything
        return False


def _unsafe(path: Path) -> UnsafeFileError:
    return UnsafeFileError(
        "a file of tensors and plain containers, which can be read without executing it",
        got=f"{path}, which holds other Python objects or code",
        remedy=_SAFER,
    )


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "a readable checkpoint file (safetensors or torch.save)",
        got=f"{path}: {why}",
        remedy="Check the path, or copy the file again.",
    )
