"""`export`: a network as a file that runs without this library, compared with the network."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError, missing_package
from tightframe.core.files import replace_file
from tightframe.features.evaluation import evaluation
from tightframe.features.layers import first_tensor
from tightframe.nn.tuning.tuning import Tuning

Format = Literal["torch", "onnx"]
SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """A network on disk.

    Args:
        path: The file.
        format: "torch" or "onnx".
        difference: Largest difference between the outputs of the file and those of the network on the example, as part
            of the network's largest output, or absolute where that is below 1.
    """

    path: Path
    format: Format
    difference: float


def export(
    model: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    format: Format = "torch",
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a network, or what a tuning has made of one, as a program that runs without this library.

    The file is run on the example, and on one and on two more samples than that, before it counts: its batch axis is
    free. The network is copied and exported on the CPU in evaluation mode; a skip connection becomes part of the
    program, adapters are added to the weights.

    Args:
        model: A `Tuning`, or any network with one tensor in and logits out.
        example: A batch (n, ...) as the network reads it.
        path: Where to; it ends in ".pt2" ("torch") or ".onnx" ("onnx").
        format: "torch" for torch.export, to be read by torch.export.load; "onnx" for other runtimes.
        tolerance: Largest difference allowed, see `Exported`.

    Returns:
        Exported.

    Raises:
        InputError: Another suffix or format; a network that cannot be captured as one program; outputs that differ by
            more than `tolerance`, in which case nothing is written.
        MissingDependencyError: "onnx" without onnx, onnxscript and onnxruntime.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = export(nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 4), f"{folder}/model.pt2")
        ...     program = torch.export.load(exported.path).module()
        >>> exported.difference < 1e-5, tuple(program(torch.randn(5, 4)).shape)
        (True, (5, 3))
    """
    path = Path(path)
    _check(path, example, format)
    plain = model.merged() if isinstance(model, Tuning) else deepcopy(model).eval()
    plain = plain.cpu().requires_grad_(False)
    example = example.detach().cpu()
    found: list[float] = []

    def write(target: Path) -> None:
        _WRITERS[format](plain, example, target)
        found.append(_difference(plain, example, _READERS[format](target)))
        if not found[0] <= tolerance:
            raise InputError(
                f"an exported program that agrees with the network to {tolerance:g}",
                got=f"outputs that differ by {found[0]:.3g}",
                remedy="Nothing was written. Export in double precision, or raise the tolerance if that is enough.",
            )

    replace_file(path, write)
    return Exported(path, format, found[0])


def _check(path: Path, example: Tensor, format: str) -> None:
    if format not in get_args(Format):
        raise InputError(f"a format, one of {', '.join(get_args(Format))}", got=repr(format), remedy="Choose one.")
    if path.suffix != SUFFIXES[format]:
        raise InputError(f"a path that ends in {SUFFIXES[format]}", got=repr(path.name), remedy="Rename it.")
    if not path.parent.is_dir():
        raise InputError("a folder to write to", got=f"none at {path.parent}", remedy="Create it, or choose another.")
    if not isinstance(example, Tensor) or example.ndim < 2 or not len(example):
        got = f"shape {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise InputError("an example batch (n, ...)", got=got, remedy="Pass a few samples as the network reads them.")
    if format == "onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise missing_package(f"the package `{name}`, for onnx files", "export", error) from error


def _write_torch(model: nn.Module, example: Tensor, path: Path) -> None:
    torch.export.save(_captured(model, example), path)


def _write_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    with _quiet():
        program = torch.onnx.export(_captured(model, example), (), dynamo=True, verbose=False)
        program.save(path, external_data=False)


def _captured(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    # A batch of one would be taken for a constant.
    batch = torch.cat([example, example]) if len(example) == 1 else example
    try:
        with evaluation(model):
            return torch.export.export(model, (batch,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # the compiler raises errors of many kinds
        raise InputError(
            "a network that can be captured as one program for any number of samples",
            got=(str(error).splitlines() or [type(error).__name__])[0],
            remedy="Take branches on values out of its forward, and use x.shape[0] where it says len(x).",
        ) from error


def _read_torch(path: Path) -> Any:
    return torch.export.load(path).module()


def _read_onnx(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return lambda batch: torch.from_numpy(np.asarray(session.run(None, {entry.name: batch.numpy()})[0]))


def _difference(model: nn.Module, example: Tensor, program: Any) -> float:
    """Largest difference on the example, on its first sample and on two samples more."""
    worst = 0.0
    for batch in (example, example[:1], torch.cat([example, example[:1], example[:1]])):
        with evaluation(model):
            wanted = first_tensor(model(batch), "the network").double()
            found = first_tensor(program(batch), "the exported program").double()
        if not bool(torch.isfinite(wanted).all()):
            raise InputError(
                "a network whose outputs are finite", got="NaN or inf", remedy="Check the example and the weights."
            )
        # A NaN of the program must not pass for agreement.
        gap = (wanted - found).abs().nan_to_num(nan=torch.inf).max() if wanted.shape == found.shape else torch.inf
        worst = max(worst, float(gap / wanted.abs().max().clamp(min=1)))
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's notes on its own progress are not the caller's."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


_WRITERS = {"torch": _write_torch, "onnx": _write_onnx}
_READERS = {"torch": _read_torch, "onnx": _read_onnx}
