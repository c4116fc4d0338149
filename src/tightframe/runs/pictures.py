"""Pictures as cells of tables: the report shows a data URL as a thumbnail."""

from __future__ import annotations

import base64
import io

import numpy as np

# Longest side of a picture in the report.
_SIDE = 480


def picture(image: np.ndarray, limits: tuple[float, float], *, least: int = 0) -> str:
    """A png of at most `_SIDE` pixels along its longer side, as the cell of a table.

    Args:
        image: (height, width).
        limits: Values that become black and white.
        least: Small pictures are magnified until the longer side has as many pixels.
    """
    from PIL import Image

    low, high = limits
    grey = np.rint(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    shown = Image.fromarray(grey)
    factor = -(-least // max(grey.shape)) if least else 1
    shown = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    return encoded(np.asarray(shown))


def encoded(pixels: np.ndarray, *, most: int | None = _SIDE) -> str:
    """Bytes (height, width) or (height, width, 3) as a png in the cell of a table.

    Args:
        pixels: uint8.
        most: Larger pictures are shrunk until the longer side has as many pixels; None keeps them.
    """
    from PIL import Image

    shown = Image.fromarray(np.ascontiguousarray(pixels))
    if most is not None:
        shown.thumbnail((most, most))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
