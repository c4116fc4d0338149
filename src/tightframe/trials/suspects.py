"""The training images whose labels look most wrong, as a table with thumbnails."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.data.labelled.images import ImageData
from tightframe.runs.pictures import encoded
from tightframe.runs.record import Table, table_of
from tightframe.trials.audit import LabelAudit

MOST = 40


def suspects(audit: LabelAudit, data: ImageData, *, most: int = MOST) -> Table:
    """The samples with the highest suspicion, most suspicious first.

    Args:
        audit: Suspicion of the training labels.
        data: What was trained on.
        most: Number of rows.

    Returns:
        Columns rank, image (PNG as a data URI), index, label, suggested, score, and the label before noise.
    """
    rows = []
    for rank, index in enumerate(audit.order[:most].tolist(), start=1):
        names = [data.classes[int(labels[index])] for labels in (audit.given, audit.suggested, audit.truth)]
        rows.append(
            {
                "rank": rank,
                "image": thumbnail(data.train[index][0], data),
                "index": index,
                "label": names[0],
                "suggested": names[1],
                "score": float(audit.scores[index]),
                "before noise": names[2],
            }
        )
    return table_of(rows)


def thumbnail(image: Tensor, data: ImageData) -> str:
    """A standardised image (C, H, W) as a PNG in a data URI; images of other channels show their first one."""
    mean, std = (torch.tensor(values or (fill,)).view(-1, 1, 1) for values, fill in ((data.mean, 0.5), (data.std, 0.5)))
    pixels = (image.cpu() * std + mean).clamp(0, 1).mul(255).round().byte()
    shown = pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels[0]
    return encoded(shown.numpy(), most=None)
