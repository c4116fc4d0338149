"""Dictionaries, deconvolution and convolutional dictionaries: sparse structure in signals and images."""

from __future__ import annotations

from tightframe.core.lazy import exports

_HOMES: dict[str, str] = {}

__all__: list[str] = []


__getattr__, __dir__ = exports("tightframe.dictionary", _HOMES)
