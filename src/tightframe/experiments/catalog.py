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
    Entry(
        "ufm-collapse",
        "Global optima of unconstrained features, loss by loss",
        "Is every global solution a collapsed one, for every loss and every treatment of the bias?",
        ("N1",),
    ),
    Entry(
        "ufm-landscape",
        "The landscape of unconstrained features",
        "Are there local minima, or only global ones and strict saddles, and for which feature dimensions?",
        ("N2",),
    ),
    Entry(
        "ufm-convex",
        "The convex program behind unconstrained features, and minority collapse",
        "Do the factored and the nuclear-norm program have the same solutions, and when do small classes merge?",
        ("N3",),
    ),
    Entry(
        "ufm-losses",
        "Four losses, one frame",
        "Do cross-entropy, label smoothing, focal loss and squared error lead to the same collapsed features?",
        ("N7",),
    ),
    Entry(
        "ufm-bias",
        "Squared error: the bias decides between orthogonal frame and simplex",
        "Which frame do features form without a bias, with a free one, and with every coefficient between?",
        ("N10",),
    ),
    Entry(
        "ufm-extended",
        "A second layer of weights, linear and with ReLU",
        "Do both levels of features collapse, or only the deeper one?",
        ("N11",),
    ),
    Entry(
        "ufm-perturbed",
        "Fixed features around a collapsed frame",
        "Does the classifier of perturbed features keep its direction, attenuated by the factor of the theory?",
        ("N12",),
    ),
    Entry(
        "ufm-depth",
        "Collapse over depth in extended models",
        "Does the ReLU model separate the levels of features as trained networks do, where the linear one does not?",
        ("N13",),
    ),
    Entry(
        "ufm-normalized",
        "Features and classifiers on spheres",
        "Is collapse the only local minimum on the product of spheres, within and beyond the proven temperatures?",
        ("N14",),
    ),
    Entry(
        "ufm-normalized-speed",
        "How fast normalised features collapse",
        "Does normalisation reach collapse in fewer steps than weight decay?",
        ("N15",),
    ),
    Entry(
        "ufm-low-rank",
        "Deep chains with ReLU: where low rank beats collapse",
        "From how many classes on is a collapsed deep ReLU chain no longer optimal?",
        ("X1",),
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
