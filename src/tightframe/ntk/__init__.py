"""The neural tangent kernel, the geometry of data that it answers to, and what training does under it."""

from __future__ import annotations

from tightframe.core.lazy import exports

_HOMES: dict[str, str] = {}

__all__: list[str] = []


__getattr__, __dir__ = exports("tightframe.ntk", _HOMES)
