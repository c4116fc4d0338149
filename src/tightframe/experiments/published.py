"""Published test accuracies on the human labels of CIFAR-10N, to stand beside measured ones."""

from __future__ import annotations

from tightframe.runs.record import Table, table_of

_LABELS = ("aggregate", "random 1", "random 2", "random 3", "worst")
_LECTURE = "L4 (best epoch on the test set)"
_REPRODUCED = "KlemenVovk/noisy-labels, three seeds (best epoch on the test set)"
# The lecture's row "SOP" is that of the recipe with consistency and class balance, here called SOP+.
_ROWS = (
    ("CE", _LECTURE, (87.77, 85.02, 86.46, 85.16, 77.69)),
    ("ELR+", _LECTURE, (94.83, 94.43, 94.20, 94.34, 91.09)),
    ("DivideMix", _LECTURE, (95.01, 95.16, 95.23, 95.21, 92.56)),
    ("PES (semi)", _LECTURE, (94.66, 95.06, 95.19, 95.22, 92.68)),
    ("SOP+", _LECTURE, (95.61, 95.28, 95.31, 95.39, 93.24)),
    ("CE", _REPRODUCED, (91.70, 90.20, 90.12, 90.08, 83.91)),
    ("ELR", _REPRODUCED, (93.00, 92.20, 92.05, 92.18, 87.89)),
    ("ELR+", _REPRODUCED, (95.32, 94.89, 94.88, 94.93, 91.75)),
    ("DivideMix", _REPRODUCED, (95.62, 95.72, 95.78, 95.71, 93.10)),
    ("SOP", _REPRODUCED, (91.69, 89.83, 90.57, 90.88, 83.66)),
    ("SOP+", _REPRODUCED, (96.04, 95.70, 95.62, 95.75, 92.89)),
)


def human_labels() -> Table:
    """Per cent of right answers by method and kind of human label, with where they are stated."""
    return table_of(
        [
            {"method": method, "stated by": where} | dict(zip(_LABELS, values, strict=True))
            for method, where, values in _ROWS
        ]
    )
