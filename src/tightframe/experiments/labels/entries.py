"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES = (
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
)
