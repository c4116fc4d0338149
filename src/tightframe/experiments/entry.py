"""`Entry`: what the catalogue knows of an experiment without importing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One experiment.

    Args:
        name: Name on the command line; its module in the room is called the same, with underscores.
        title: Heading of its section in the report.
        question: What it answers.
        claims: Identifiers of the claims ledger that it makes executable.
        presets: Names of its presets, quickest first.
    """

    name: str
    title: str
    question: str
    claims: tuple[str, ...]
    presets: tuple[str, ...] = ("smoke", "quick", "paper")
