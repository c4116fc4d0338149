"""Parameters of the source's networks by the shapes of their layers, and the share that tuning one block trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tightframe.runs.record import Claim

_SOURCE = "L6, percentage of parameters fine-tuned"
# Some of the source's numbers are rounded and one is cut (8.1853 is printed as 8.18): a unit of the last digit.
_ROUNDING = 0.01
_RESNET50 = (("layer1", 64, 3), ("layer2", 128, 4), ("layer3", 256, 6), ("layer4", 512, 3))
_STEM = 64


@dataclass(frozen=True)
class Backbone:
    """Parameters of a network without its head.

    Args:
        name: What it is.
        features: d that the head reads.
        blocks: Parameters by block, those of the stem and of the last norm left out.
        rest: All others.
        tuned: The block that the source tunes.
    """

    name: str
    features: int
    blocks: dict[str, int]
    rest: int
    tuned: str

    def share(self, classes: int, *, block: str | None = None) -> float:
        """Share, in per cent, of the head of `classes` classes and of a block, of all parameters with this head.

        Args:
            classes: K.
            block: One of `blocks`; None for the head alone.
        """
        head = (self.features + 1) * classes
        trained = head + (0 if block is None else self.blocks[block])
        return 100 * trained / (head + self.rest + sum(self.blocks.values()))


def resnet50() -> Backbone:
    """ResNet-50 for ImageNet: a 7 x 7 stem, and bottleneck blocks `layer1.0` to `layer4.2`.

    >>> sum(resnet50().blocks.values()) + resnet50().rest
    23508032
    """
    blocks, entering = {}, _STEM
    for stage, width, depth in _RESNET50:
        for place in range(depth):
            blocks[f"{stage}.{place}"] = _bottleneck(entering, width, projected=place == 0)
            entering = 4 * width
    return Backbone("ResNet50", entering, blocks, _normed(7 * 7 * 3 * _STEM, _STEM), "layer3.0")


def vit_base(*, patch: int = 32, side: int = 224) -> Backbone:
    """ViT-B: twelve blocks of width 768.

    Args:
        patch: Side of a patch.
        side: Of the images.

    >>> vit_base().blocks["blocks.0"]
    7087872
    """
    width, positions = 768, (side // patch) ** 2 + 1
    embedding = 3 * patch**2 * width + width
    blocks = {f"blocks.{place}": _encoder_block(width) for place in range(12)}
    return Backbone("ViT-B", width, blocks, embedding + width + positions * width + 2 * width, "blocks.0")


def share_claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """The published shares of tuned parameters, recomputed.

    Args:
        rows: Published rows with "backbone", "data", "classes" and "SCL FT, share".
    """
    networks = {found.name: found for found in (resnet50(), vit_base())}
    return [
        Claim(
            id=f"T2.share.{row['backbone']}.{row['data']}",
            statement=f"Per cent of {row['backbone']} trained, one block and a head of {row['classes']} classes",
            source=_SOURCE,
            expected=row["SCL FT, share"],
            observed=networks[row["backbone"]].share(row["classes"], block=networks[row["backbone"]].tuned),
            relation="==",
            tolerance=_ROUNDING,
            note=f"{networks[row['backbone']].tuned}, counted from the shapes of the layers",
        )
        for row in rows
        if row["backbone"] in networks
    ]


def _bottleneck(entering: int, width: int, *, projected: bool) -> int:
    wide = 4 * width
    inner = _normed(entering * width, width) + _normed(9 * width**2, width) + _normed(width * wide, wide)
    return inner + (_normed(entering * wide, wide) if projected else 0)


def _normed(weights: int, channels: int) -> int:
    """A convolution without a bias and its batch normalisation."""
    return weights + 2 * channels


def _encoder_block(width: int) -> int:
    attention, perceptron, norms = 4 * (width**2 + width), 8 * width**2 + 5 * width, 4 * width
    return attention + perceptron + norms
