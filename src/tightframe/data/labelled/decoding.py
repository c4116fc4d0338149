"""Images decoded one by one when they are read, for sets that do not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tightframe.core.errors import InputError, reason
from tightframe.data.labelled.images import ImageData, normalised, stratified_split

if TYPE_CHECKING:
    from PIL.Image import Image

# Stated statistics: values 0..1 become -1..1.
CENTRE, SCALE = 0.5, 0.5
HELD_OUT = 0.2
_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


class ImageSource(Protocol):
    """Images by position; picklable, so that loader processes can have it."""

    def open(self, place: int) -> Image:
        """The image at `place`."""

    def name(self, place: int) -> str:
        """What errors call it."""


class DecodedDataset(Dataset[Any]):
    """Labelled images that are decoded, resized and standardised on reading.

    Args:
        source: Where the images come from.
        labels: (N,), int64, 0..K-1.
        shape: (C, H, W) of the images given out; C is 1 (grey) or 3 (colour).
        resize: Whether images of another size are stretched to H x W, or refused.
        places: (N,), positions in the source of the images of this data set; all of them by default.
    """

    def __init__(
        self,
        source: ImageSource,
        labels: Tensor,
        *,
        shape: tuple[int, int, int],
        resize: bool,
        places: Tensor | None = None,
    ) -> None:
        self.source: ImageSource = source
        self.labels: Tensor = labels
        self.shape: tuple[int, int, int] = shape
        self.resize: bool = resize
        self.places: Tensor = torch.arange(len(labels)) if places is None else places

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from PIL.Image import Resampling

        channels, height, width = self.shape
        with _opened(self.source, int(self.places[index])) as image:
            if image.size != (width, height) and not self.resize:
                raise InputError(
                    f"images of one size, {width} x {height} as the first one, or a size to resize to",
                    got=f"{self.name(index)} of {image.width} x {image.height} pixels",
                    remedy="Set size= (--size) to the height and width wanted.",
                )
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Resampling.BILINEAR)
            pixels = np.asarray(image).reshape(1, height, width, channels)
        return normalised(pixels, (CENTRE,) * channels, (SCALE,) * channels)[0], self.labels[index]

    def name(self, index: int) -> str:
        """What the source calls the image at `index`: its file, or its row."""
        return self.source.name(int(self.places[index]))

    def take(self, indices: Tensor) -> DecodedDataset:
        """The data set of the samples at `indices`, in that order."""
        return DecodedDataset(
            self.source,
            self.labels[indices],
            shape=self.shape,
            resize=self.resize,
            places=self.places[indices],
        )

    def relabelled(self, labels: Tensor) -> DecodedDataset:
        """The same images with other labels (N,)."""
        return DecodedDataset(self.source, labels, shape=self.shape, resize=self.resize, places=self.places)


def decoded_data(
    train: tuple[ImageSource, Tensor],
    test: tuple[ImageSource, Tensor] | None,
    *,
    classes: tuple[str, ...],
    name: str,
    size: int | None,
    seed: int,
) -> ImageData:
    """Training and test set from sources and labels; a fifth of every class is held out when `test` is None.

    Images are colour when the first training image of any class is coloured, grey otherwise, and of the size of
    the very first one unless `size` is given.

    Raises:
        InputError: One of these images cannot be decoded, `size` is not positive, or a class is too small to split.
    """
    if size is not None and size < 1:
        raise InputError("a size of at least 1 pixel", got=f"size={size}", remedy="Set size=32, for example.")
    source, labels = train
    firsts = [int(torch.nonzero(labels == label)[0]) for label in torch.unique(labels).tolist()]
    channels = 3 if any(_is_colour(source, place) for place in firsts) else 1
    with _opened(source, 0) as image:
        shape = (channels, size or image.height, size or image.width)
    whole = DecodedDataset(source, labels, shape=shape, resize=size is not None)
    if test is None:
        kept, held_out = stratified_split(labels, held_out=HELD_OUT, seed=seed)
        parts = whole.take(kept), whole.take(held_out)
    else:
        parts = whole, DecodedDataset(*test, shape=shape, resize=size is not None)
    return ImageData(*parts, classes, shape, name, (CENTRE,) * channels, (SCALE,) * channels)


@contextmanager
def _opened(source: ImageSource, place: int) -> Iterator[Image]:
    """The image at `place` of `source`; whatever goes wrong with it is an InputError that names it."""
    try:
        with source.open(place) as image:
            if image.mode not in (*_GREY, *_COLOUR):
                raise InputError(
                    "images with 8 bits a channel",
                    got=f"{source.name(place)} of mode {image.mode}",
                    remedy="Convert the images to 8-bit grey or colour.",
                )
            yield image
    except InputError:
        raise
    except Exception as error:  # decoders of damaged files raise almost anything
        raise InputError(
            "an image that can be decoded",
            got=f"{source.name(place)}: {reason(error)}",
            remedy="Replace the file or remove it.",
        ) from error


def _is_colour(source: ImageSource, place: int) -> bool:
    with _opened(source, place) as image:
        return image.mode not in _GREY
