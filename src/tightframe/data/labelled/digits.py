"""Handwritten digits bundled with scikit-learn: 1,797 real 8x8 images, no download."""

from __future__ import annotations

import torch

from tightframe.data.labelled.images import ArrayDataset, ImageData, stratified_split

TEST_SAMPLES = 450


def digits(*, seed: int = 0) -> ImageData:
    """The digits 0..9 as 8x8 grey images: 1,347 to train on and 450 to test on.

    Intensities 0..16 are scaled to 0..1 and standardised by the mean and standard deviation of all
    training pixels. The split keeps the class shares and depends on `seed` alone.

    Args:
        seed: Seed of the split.

    Returns:
        Images of shape (1, 8, 8) and their labels.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = torch.from_numpy(bundle.images).unsqueeze(1) / 16
    labels = torch.from_numpy(bundle.target).long()
    train, test = stratified_split(labels, held_out=TEST_SAMPLES / len(labels), seed=seed)
    mean, std = images[train].mean(), images[train].std(correction=0)
    images = ((images - mean) / std).float()
    return ImageData(
        train=ArrayDataset(images[train], labels[train]),
        test=ArrayDataset(images[test], labels[test]),
        classes=tuple(str(name) for name in bundle.target_names),
        shape=(1, 8, 8),
        name="digits" if seed == 0 else f"digits:{seed}",
        mean=(mean.item(),),
        std=(std.item(),),
    )
