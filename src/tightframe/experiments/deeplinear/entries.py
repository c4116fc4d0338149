"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES: tuple[Entry, ...] = ()
