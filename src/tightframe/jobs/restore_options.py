"""Options of the jobs that restore images: plain frozen dataclasses, read without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions:
    """Remove noise from an image with a dictionary learned on its patches, beside the fixed cosine one.

    Args:
        image: png, jpg, tiff, bmp, npy, npz or mat; grey or colour.
        out: Directory for the restored images, the atoms, the record and the report.
        noise: Standard deviation of the noise in units of the pixels; estimated when absent.
        add_noise: Add white noise of this standard deviation first, and measure how much of it goes.
        patch_size: Side of a patch.
        bases: Orthonormal bases of the dictionary.
        samples: Random patches to learn from.
        seed: Of these patches, and of noise that is added.
        key: Name of the array in npz and mat files.
        accelerator: auto, cpu, cuda or mps.
        quiet: Show no progress.
    """

    image: Annotated[Path, tyro.conf.Positional]
    out: Path
    noise: float | None = None
    add_noise: float | None = None
    patch_size: int = 8
    bases: int = 4
    samples: int = 20_000
    seed: int = 0
    key: str | None = None
    accelerator: str = "auto"
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class InpaintOptions:
    """Fill in missing pixels with a dictionary learned on the rest of the image, beside the fixed cosine one.

    Args:
        image: png, jpg, tiff, bmp, npy, npz or mat; grey or colour; NaN counts as missing.
        out: Directory for the restored images, the atoms, the record and the report.
        mask: Image or array of the same height and width that is not zero where a pixel is missing.
        remove: Remove this share of the pixels at random first, and measure how well they come back.
        noise: Standard deviation of noise in the known pixels, which are then cleaned too.
        patch_size: Side of a patch; should be larger than the holes.
        rounds: Rounds of learning.
        samples: Random patches to learn from.
        seed: Of these patches, and of pixels that are removed.
        key: Name of the array in npz and mat files.
        accelerator: auto, cpu, cuda or mps.
        quiet: Show no progress.
    """

    image: Annotated[Path, tyro.conf.Positional]
    out: Path
    mask: Path | None = None
    remove: float | None = None
    noise: float | None = None
    patch_size: int = 12
    rounds: int = 3
    samples: int = 20_000
    seed: int = 0
    key: str | None = None
    accelerator: str = "auto"
    quiet: bool = False
