"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "parsimony",
        "The law of parsimony of deep linear networks",
        "Does every weight move in a fixed space of twice the rank only, and what is left of that without whitening?",
        ("P1", "P2"),
    ),
    Entry(
        "deep-separation",
        "Progressive separation in deep linear networks",
        "At what ratio do classes separate from layer to layer, and how does the scale of the start set it?",
        ("P3", "P4"),
    ),
    Entry(
        "compressed-descent",
        "A compressed network beside the wide one",
        "Does the compressed factorisation follow the trajectory of the original, and at what price?",
        ("P5",),
    ),
    Entry(
        "completion-rate",
        "Matrix completion: the rate of the outer factors",
        "Does a compressed network complete a matrix only if its outer factors learn, and at which rates do they?",
        ("P6",),
    ),
    Entry(
        "completion-cost",
        "Matrix completion: what a step costs, and how many it takes",
        "How does a step's cost grow with the size, and does compression beat a narrow network of the same width?",
        ("P7",),
    ),
    Entry(
        "completion-depth",
        "Matrix completion: what depth and width are good for",
        "Do deeper networks need fewer entries and overfit less, and do wider ones converge in fewer steps?",
        ("P8",),
    ),
    Entry(
        "completion-phases",
        "Matrix completion: which matrices are recovered",
        "Over rank and share observed, which method recovers a matrix whose rank it is or is not told?",
        ("P8",),
    ),
    Entry(
        "drug-targets",
        "Drugs and targets: held-out interactions",
        "Does deep completion rank unseen interactions at least as well as nuclear norm and least squares?",
        ("P8",),
    ),
)
