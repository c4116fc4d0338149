"""The table of experiments, room by room: names, questions and claims, without importing any of them."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tightframe.core.errors import InputError
from tightframe.experiments.collapse import entries as collapse
from tightframe.experiments.deeplinear import entries as deeplinear
from tightframe.experiments.dictionary import entries as dictionary
from tightframe.experiments.entry import Entry
from tightframe.experiments.labels import entries as labels
from tightframe.experiments.levers import entries as levers
from tightframe.experiments.ntk import entries as ntk
from tightframe.experiments.transfer import entries as transfer
from tightframe.experiments.ufm import entries as ufm

if TYPE_CHECKING:
    from tightframe.experiments.base import Experiment

ROOMS = (collapse, ufm, levers, labels, transfer, dictionary, deeplinear, ntk)
ENTRIES: tuple[Entry, ...] = tuple(line for room in ROOMS for line in room.ENTRIES)


def entry(name: str) -> Entry:
    """The entry of this name, or the first that has this claim; an InputError otherwise, see `entries`."""
    return entries(name)[0]


def entries(name: str) -> tuple[Entry, ...]:
    """The entry of this name, or all those that make this claim executable.

    Raises:
        InputError: There is none; the message names those that are spelt alike, or else all.
    """
    found = tuple(candidate for candidate in ENTRIES if name == candidate.name or name in candidate.claims)
    if not found:
        names = [candidate.name for candidate in ENTRIES]
        near = get_close_matches(name, names, n=3)
        advice = f"Perhaps you mean {' or '.join(near)}" if near else f"Use one of {', '.join(names)}"
        raise InputError(
            "the name of an experiment or the id of a claim",
            got=repr(name),
            remedy=f"{advice}; `tightframe list` describes them.",
        )
    return found


def load(name: str) -> Experiment:
    """Import the experiment of this name (or the first that has this claim)."""
    found = entry(name)
    room = next(room for room in ROOMS if found in room.ENTRIES)
    return importlib.import_module(f"{room.__package__}.{found.name.replace('-', '_')}").EXPERIMENT
