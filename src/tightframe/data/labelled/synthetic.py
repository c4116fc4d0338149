"""Inputs that mean nothing: Gaussian pixels with labels drawn apart from them, for what networks only memorise."""

from __future__ import annotations

import re

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.labelled.images import ArrayDataset, ImageData

_FORM = re.compile(r"(\d+)x(\d+)(?::(\d+)x(\d+)x(\d+))?")
# As many test samples for each training sample as the bundled digits have.
_TEST_SHARE = 1 / 3


def gaussian(
    classes: int, samples: int, *, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0, name: str = ""
) -> ImageData:
    r"""Images of independent standard normal pixels, classes as equal in size as they can be.

    .. math:: x_i \sim N(0, I_{CHW}), \qquad y_i = i \bmod K

    where K is `classes` and C, H, W are `shape`. The label says nothing about the image: a network can learn the
    training set by heart, and on the test set, a third as large, no rule does better than chance.

    Args:
        classes: K, at least 2.
        samples: Training samples, at least one for each class.
        shape: (C, H, W) of one image.
        seed: Seed of the pixels.
        name: What to call the data set; "gaussian:KxN:CxHxW" unless given.

    Raises:
        InputError: A size is out of range.

    >>> data = gaussian(10, 100)
    >>> len(data.train), len(data.test), data.train.images.shape[1:]
    (100, 33, torch.Size([1, 8, 8]))
    """
    check_count(classes, "classes", least=2)
    check_count(samples, "samples", least=classes)
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            "a shape (channels, height, width), each 1 or more", got=repr(shape), remedy="Use (1, 8, 8) or (3, 32, 32)."
        )
    test = max(classes, round(samples * _TEST_SHARE))
    pixels = torch.randn(samples + test, *shape, generator=generator(seed))
    train, held_out = pixels.split([samples, test])
    return ImageData(
        train=ArrayDataset(train, torch.arange(samples) % classes),
        test=ArrayDataset(held_out, torch.arange(test) % classes),
        classes=tuple(str(k) for k in range(classes)),
        shape=shape,
        name=name or f"gaussian:{classes}x{samples}:{'x'.join(map(str, shape))}",
        mean=(0.0,) * shape[0],
        std=(1.0,) * shape[0],
    )


def named(sizes: str) -> ImageData:
    """The set that "CLASSESxSAMPLES" or "CLASSESxSAMPLES:CHANNELSxHEIGHTxWIDTH" asks for.

    Raises:
        InputError: `sizes` cannot be read, or a size is out of range.

    >>> named("4x20:3x16x16").shape
    (3, 16, 16)
    """
    match = _FORM.fullmatch(sizes)
    if match is None:
        raise InputError(
            'sizes of random inputs, as "gaussian:CLASSESxSAMPLES" or "gaussian:CLASSESxSAMPLES:CxHxW"',
            got=repr(f"gaussian:{sizes}"),
            remedy='For example "gaussian:10x1000" or "gaussian:10x5000:3x32x32".',
        )
    classes, samples, *shape = (int(size) for size in match.groups(default=0))
    return gaussian(classes, samples, shape=(1, 8, 8) if match[3] is None else tuple(shape), name=f"gaussian:{sizes}")
