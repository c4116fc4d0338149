"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

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
)
