"""The test images of image restoration, by the names the literature gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tightframe.core.errors import InputError
from tightframe.data.location import data_file
from tightframe.data.pictured.image_files import read_image

# Set12 numbers its images; these are the ones known by name.
_FILES = {
    "cameraman": "set12_01.png",
    "peppers": "set12_03.png",
    "starfish": "set12_04.png",
    "monarch": "set12_05.png",
    "airplane": "set12_06.png",
    "barbara": "set12_09.png",
    "boat": "set12_10.png",
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
}
NAMES = tuple(sorted(_FILES))


def reference_image(name: str, *, root: str | Path | None = None) -> np.ndarray:
    """A test image, float64 of 0 to 255: (height, width), or (height, width, 3) for astronaut and chelsea.

    Args:
        name: One of `NAMES`; the file lies in `images/` below the root. "cameraman" is the image of 256 x 256 pixels
            in Set12, "camera" the one of 512 x 512 that scikit-image has in its place.
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: Another name, or a file that is missing or damaged.
    """
    if name not in _FILES:
        raise InputError(f"a test image, one of {', '.join(NAMES)}", got=repr(name), remedy="Choose one of these.")
    return read_image(data_file(f"images/{_FILES[name]}", root=root))
