"""The table of experiments: names, questions and claims, without importing any of them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tightframe.core.errors import InputError

if TYPE_CHECKING:
    from tightframe.experiments.base import Experiment


@dataclass(frozen=True)
class Entry:
    """One experiment.

    Args:
        name: Name on the command line; the module is `tightframe.experiments.<name with underscores>`.
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


ENTRIES = (
    Entry(
        "optimizers",
        "Collapse under three training algorithms",
        "Do features collapse whatever the training algorithm, and does generalisation depend on it?",
        ("N4",),
        ("smoke", "quick", "paper", "paper-mnist"),
    ),
    Entry(
        "weight-decay",
        "Weight decay on everything, or on the last layer alone",
        "Does collapse need weight decay on all weights, or only on the last features and the classifier?",
        ("N6",),
        ("smoke", "quick", "paper", "paper-mnist"),
    ),
    Entry(
        "depthwise",
        "Progressive separation through the layers",
        "Does variability fall from layer to layer, and log D about linearly with depth?",
        ("N16",),
        ("smoke", "quick", "paper", "paper-mnist"),
    ),
)


def entry(name: str) -> Entry:
    """The entry of this name; an InputError that lists the names otherwise."""
    for candidate in ENTRIES:
        if candidate.name == name or name in candidate.claims:
            return candidate
    raise InputError(
        "the name of an experiment or the id of a claim",
        got=repr(name),
        remedy=f"Use one of {', '.join(e.name for e in ENTRIES)}; `tightframe list` describes them.",
    )


def load(name: str) -> Experiment:
    """Import the experiment of this name (or the one that has this claim)."""
    module = importlib.import_module(f"tightframe.experiments.{entry(name).name.replace('-', '_')}")
    return module.EXPERIMENT
