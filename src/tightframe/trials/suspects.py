"""Training samples whose labels look wrong: the most suspicious with thumbnails, all as comma-separated text."""

from __future__ import annotations

import csv
import io

import torch
from torch import Tensor

from tightframe.data.labelled.decoding import DecodedDataset
from tightframe.data.labelled.images import ImageData
from tightframe.runs.pictures import encoded
from tightframe.runs.record import Cell, Table, table_of
from tightframe.trials.audit import LabelAudit

MOST = 40


def suspects(audit: LabelAudit, data: ImageData, *, most: int = MOST) -> Table:
    """The samples with the highest suspicion, most suspicious first.

    Args:
        audit: Suspicion of the training labels.
        data: What was trained on.
        most: Number of rows.

    Returns:
        Columns rank, image (PNG as a data URI), index, the file where images are files, label, suggested, score, and
        the label before noise where that is known.
    """
    order = audit.order[:most].tolist()
    return table_of(
        [
            {"rank": rank, "image": thumbnail(data.train[index][0], data)} | _sample(audit, data, index)
            for rank, index in enumerate(order, start=1)
        ]
    )


def believed_wrong(audit: LabelAudit, data: ImageData) -> str:
    """All samples for which another label is suggested, most suspicious first, as comma-separated text with a header.

    Args:
        audit: Suspicion of the training labels.
        data: What was trained on.

    Returns:
        The columns of `suspects` but rank and image.
    """
    order = audit.order
    columns = table_of([_sample(audit, data, index) for index in order[audit.flagged[order]].tolist()])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns or ("index", "label", "suggested", "score"))
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _sample(audit: LabelAudit, data: ImageData, index: int) -> dict[str, Cell]:
    name = {"file": data.train.name(index)} if isinstance(data.train, DecodedDataset) else {}
    judged = {"label": _class(data, audit.given, index), "suggested": _class(data, audit.suggested, index)}
    before = {} if audit.truth is None else {"before noise": _class(data, audit.truth, index)}
    return {"index": index} | name | judged | {"score": float(audit.scores[index])} | before


def _class(data: ImageData, labels: Tensor, index: int) -> str:
    return data.classes[int(labels[index])]


def thumbnail(image: Tensor, data: ImageData) -> str:
    """A standardised image (C, H, W) as a PNG in a data URI; images of other channels show their first one."""
    mean, std = (torch.tensor(values or (fill,)).view(-1, 1, 1) for values, fill in ((data.mean, 0.5), (data.std, 0.5)))
    pixels = (image.cpu() * std + mean).clamp(0, 1).mul(255).round().byte()
    shown = pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels[0]
    return encoded(shown.numpy(), most=None)
