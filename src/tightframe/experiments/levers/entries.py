"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES = (
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
)
