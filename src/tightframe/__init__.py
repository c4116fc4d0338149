"""tightframe: measure, explain and exploit low-dimensional structure in learned representations.

    >>> import tightframe
    >>> moments = tightframe.ClassMoments(classes=10)

Names are imported on first use, so that `import tightframe` and the command line start without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

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
    "deeplinear",
    "dictionary",
    "features",
    "geometry",
    "integrations",
    "nn",
    "ntk",
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


__getattr__, __dir__ = exports("tightframe", _HOMES | {room: room for room in _ROOMS})
