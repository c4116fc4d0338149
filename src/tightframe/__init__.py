"""tightframe: measure, explain and exploit low-dimensional structure in learned representations.

    >>> import tightframe
    >>> moments = tightframe.ClassMoments(classes=10)

Names are imported on first use, so that `import tightframe` and the command line start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tightframe.collapse.monitor import Monitor, measure
    from tightframe.collapse.summary import CollapseSummary
    from tightframe.core.errors import (
        AmbiguityError,
        DegenerateError,
        InputError,
        MissingDependencyError,
        TightframeError,
        UnsafeFileError,
    )
    from tightframe.features.moments import ClassMoments
    from tightframe.features.tap import FeatureTap

_HOMES = {
    "AmbiguityError": "core.errors",
    "ClassMoments": "features.moments",
    "CollapseSummary": "collapse.summary",
    "DegenerateError": "core.errors",
    "FeatureTap": "features.tap",
    "InputError": "core.errors",
    "MissingDependencyError": "core.errors",
    "Monitor": "collapse.monitor",
    "TightframeError": "core.errors",
    "UnsafeFileError": "core.errors",
    "measure": "collapse.monitor",
}
_ROOMS = (
    "collapse",
    "core",
    "data",
    "features",
    "geometry",
    "integrations",
    "nn",
    "optimize",
    "report",
    "runs",
    "training",
    "ufm",
)

__all__ = [
    "AmbiguityError",
    "ClassMoments",
    "CollapseSummary",
    "DegenerateError",
    "FeatureTap",
    "InputError",
    "MissingDependencyError",
    "Monitor",
    "TightframeError",
    "UnsafeFileError",
    "measure",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"tightframe.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"tightframe.{name}")
    raise AttributeError(f"module 'tightframe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
