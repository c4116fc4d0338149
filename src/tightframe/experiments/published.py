"""Published numbers to stand beside measured ones: human labels of CIFAR-10N, and five ways of fine-tuning."""

from __future__ import annotations

from tightframe.runs.record import Cell, Table, table_of

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


_CLASSES = {"CIFAR-10": 10, "CIFAR-100": 100, "Aircraft": 100, "DTD": 47, "Pet": 37}
_COLUMNS = (
    *(("ResNet50", data) for data in _CLASSES),
    *((backbone, data) for backbone in ("ViT-B", "CLIP") for data in ("Aircraft", "DTD", "Pet")),
)
# By method: test accuracy in per cent, NC1 of the last features, trained parameters in per cent. The first row of CLIP
# is zero-shot, which trains nothing.
_FINE_TUNING = {
    "linear probe": (
        (85.33, 65.47, 43.23, 68.46, 89.26, 43.65, 73.88, 92.23, 12.87, 32.34, 39.66),
        (1.84, 18.36, 20.36, 3.52, 1.45, 17.91, 1.99, 0.66, 17.47, 2.96, 3.77),
        (0.09, 0.86, 0.86, 0.41, 0.32, 0.09, 0.04, 0.03, 0.0, 0.0, 0.0),
    ),
    "layer FT": (
        (94.04, 77.47, 70.27, 67.66, 89.40, 65.83, 77.13, 92.94, 67.63, 79.47, 91.09),
        (0.28, 3.22, 3.37, 1.68, 0.68, 6.98, 1.62, 0.44, 1.30, 0.42, 0.32),
        (6.52, 7.24, 7.24, 6.82, 6.73, 8.18, 8.14, 8.13, 8.16, 8.11, 8.10),
    ),
    "SCL FT": (
        (94.94, 78.32, 70.72, 72.87, 91.69, 65.80, 77.34, 93.13, 66.58, 79.04, 90.02),
        (0.22, 2.61, 1.02, 0.64, 0.39, 7.48, 1.33, 0.35, 1.65, 0.61, 0.46),
        (6.52, 7.24, 7.24, 6.82, 6.73, 8.18, 8.14, 8.13, 8.16, 8.11, 8.10),
    ),
    "full FT": (
        (85.51, 78.88, 80.77, 76.12, 73.24, 64.66, 76.54, 93.02, 59.11, 72.82, 84.44),
        (0.17, 0.15, 0.61, 0.31, 0.28, 3.78, 1.11, 0.21, 0.49, 0.17, 0.18),
        (100.0,) * 11,
    ),
}


def tuned_backbones() -> list[dict[str, Cell]]:
    """A row for every public backbone and data set: accuracy, NC1 and share of trained parameters by method."""
    rows = []
    for place, (backbone, data) in enumerate(_COLUMNS):
        row: dict[str, Cell] = {"backbone": backbone, "data": data, "classes": _CLASSES[data]}
        for method, columns in _FINE_TUNING.items():
            names = ("accuracy", "NC1", "share")
            row |= {f"{method}, {name}": column[place] for name, column in zip(names, columns, strict=True)}
        rows.append(row)
    return rows
