"""What a run ran on: versions and hardware, nothing that names a person, a machine or a path."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def describe() -> dict[str, Any]:
    """Versions and hardware of this process, as JSON values.

    Returns:
        Keys "tightframe", "python", "torch", "numpy", "system", "machine", "cpus" (that this process may
        use), "threads" (of torch), "devices" (names of the accelerators).

    >>> sorted(describe())[:3]
    ['cpus', 'devices', 'machine']
    """
    import numpy
    import torch

    return {
        "tightframe": _version("tightframe"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "devices": _devices(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else []
