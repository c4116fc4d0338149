"""Deep linear networks: their exact training dynamics, compression, and matrix completion."""

from __future__ import annotations

from tightframe.core.lazy import exports

_HOMES: dict[str, str] = {}

__all__: list[str] = []


__getattr__, __dir__ = exports("tightframe.deeplinear", _HOMES)
