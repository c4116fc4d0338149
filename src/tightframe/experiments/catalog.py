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
    Entry(
        "random-labels",
        "Collapse on random labels",
        "Do networks that are wide enough fit random labels, and do their features collapse by them?",
        ("N5",),
        ("smoke", "quick", "paper", "paper-mlp"),
    ),
    Entry(
        "four-losses",
        "Four losses, networks of several widths and lengths",
        "Do four losses end at the same features and the same test accuracy once networks are large and trained long?",
        ("N7",),
    ),
    Entry(
        "fixed-heads",
        "Fixed frames in place of the last layer",
        "How many parameters does a fixed simplex save, and does accuracy stay on par?",
        ("N8",),
    ),
    Entry(
        "rate-reduction",
        "Cross-entropy beside maximal coding rate reduction",
        "Do classes collapse to points or spread over orthogonal subspaces?",
        ("N9",),
    ),
    Entry(
        "normalized-training",
        "Normalised features in networks",
        "Do networks with features and classifiers on spheres collapse and learn in fewer epochs?",
        ("N15",),
    ),
    Entry(
        "noisy-labels",
        "Training to collapse on wrong labels",
        "Does a network that collapses overfit the wrong labels it is given?",
        ("R1",),
    ),
    Entry(
        "sparse-corruption",
        "Sparse over-parameterisation in a linear model",
        "Does gradient descent from a small start solve the convex program, and when does it recover the truth?",
        ("R2",),
    ),
    Entry(
        "label-noise",
        "Training that survives wrong labels",
        "Which methods keep their test accuracy under wrong labels, each tuned on noisy validation labels alone?",
        ("R3",),
        ("smoke", "quick", "digits", "human", "paper"),
    ),
    Entry(
        "transfer-scores",
        "Collapse on other data, and transfer to them",
        "Do networks whose features collapse more on other data reach a higher accuracy there?",
        ("T1",),
        ("smoke", "quick", "grey", "paper"),
    ),
    Entry(
        "fine-tuning",
        "Five ways to fine-tune a network",
        "How near does tuning one layer come to tuning all, with how many samples, and which layers collapse?",
        ("T2", "T3", "T4"),
    ),
    Entry(
        "convolutional-dictionaries",
        "Kernels from fourth powers over all shifts",
        "Does a preconditioned sample lead to a shift of a kernel, and several of them to all kernels?",
        ("D6",),
    ),
    Entry(
        "bilinear-variants",
        "What the caveats of the bilinear Lasso are worth",
        "Do momentum, homotopy, reweighting and lifting matter, and most for low-pass kernels?",
        ("D7",),
    ),
    Entry(
        "l4-columns",
        "Columns of a dictionary as maxima of fourth powers",
        "Does every start on the sphere lead to a column, and are there critical points of a third kind?",
        ("D1", "D2", "D3"),
    ),
    Entry(
        "l4-dictionaries",
        "Whole dictionaries by repeated trials, after preconditioning",
        "How many columns can independent trials find, in which dimensions, and does preconditioning make them tight?",
        ("D4", "D5"),
    ),
    Entry(
        "spike-sorting",
        "Spikes sorted, overlapping ones included",
        "Does learning waveforms and spikes together sort what threshold, PCA and clustering confuse?",
        ("D8",),
    ),
    Entry(
        "microscopy",
        "Defects of surfaces by blind deconvolution",
        "Does blind deconvolution find the patterns of defects and where they are, simulated and measured?",
        ("D9",),
    ),
    Entry(
        "calcium",
        "Spikes from calcium traces of unknown response",
        "Does deconvolution that is not told the response find spikes as well as one that is told its family?",
        ("D9",),
    ),
    Entry(
        "image-restoration",
        "Dictionaries learned on an image restore it",
        "Does a dictionary learned on a degraded image restore it better than the fixed cosine one?",
        ("D10",),
    ),
)


def entry(name: str) -> Entry:
    """The entry of this name, or the first that has this claim; an InputError that lists the names otherwise."""
    return entries(name)[0]


def entries(name: str) -> tuple[Entry, ...]:
    """The entry of this name, or all those that make this claim executable.

    Raises:
        InputError: There is none; the message lists the names.
    """
    found = tuple(candidate for candidate in ENTRIES if name == candidate.name or name in candidate.claims)
    if not found:
        raise InputError(
            "the name of an experiment or the id of a claim",
            got=repr(name),
            remedy=f"Use one of {', '.join(e.name for e in ENTRIES)}; `tightframe list` describes them.",
        )
    return found


def load(name: str) -> Experiment:
    """Import the experiment of this name (or the first that has this claim)."""
    module = importlib.import_module(f"tightframe.experiments.{entry(name).name.replace('-', '_')}")
    return module.EXPERIMENT
