"""A pretrained network with a new head for a task: one of our own checkpoints, or a public one by name."""

from __future__ import annotations

from torch import nn

from tightframe.data.labelled.images import ImageData
from tightframe.experiments.transfer.pretraining import Checkpoint
from tightframe.trials.prepared import Prepare


def ready(origin: Checkpoint | str, data: ImageData, *, seed: int = 0) -> tuple[nn.Module, Prepare | None]:
    """The network of `origin` with a new classifier for the classes of `data`, and what its images go through first.

    Args:
        origin: A checkpoint, or what `nn.backbone` reads: "hf:NAME", "timm:NAME".
        data: Images of the task.
        seed: Of the classifier.

    Raises:
        InputError: No such network, or one that does not take images of this size.
    """
    if isinstance(origin, Checkpoint):
        return origin.network(len(data.classes), shape=data.shape, seed=seed), None
    from tightframe.nn.backbones.backbones import backbone

    found = backbone(origin, classes=len(data.classes), seed=seed)
    return found.model, found.preparation(mean=data.mean, std=data.std)
