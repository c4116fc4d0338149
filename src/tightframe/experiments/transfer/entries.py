"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES = (
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
)
