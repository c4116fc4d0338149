"""Scanning tunnelling microscopy: topographs with labelled defects, and simulated defect patterns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError, reason
from tightframe.core.files import check_no_pipe
from tightframe.data.array_files import read_array
from tightframe.data.location import data_file
from tightframe.data.pictured.image_files import read_image


@dataclass(frozen=True, eq=False)
class Topograph:
    """An image of a surface with the defects that experts marked in it.

    Args:
        image: (height, width), float64.
        boxes: (n, 4): top, left, height, width of every defect, in pixels.
        kinds: Class of each, as the annotation names it.
        nanometres: Height and width of what was scanned.
        volts: Bias of the tip.
        name: The file.
    """

    image: np.ndarray
    boxes: np.ndarray
    kinds: tuple[str, ...]
    nanometres: tuple[float, float]
    volts: float
    name: str


def labelled_topographs(folder: str | Path | None = None, *, root: str | Path | None = None) -> tuple[Topograph, ...]:
    """The images of a folder that its `annotations.json` describes, by name; entries without an image are left out.

    An entry is `"file.jpg": {"size_px": [width, height], "scan_nm": [width, height], "bias_V": volts, "boxes":
    [[left, top, width, height, "kind"], ...]}`.

    Args:
        folder: The folder; `stm/wse2` below the root when absent.
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: The annotations are missing or of another form, no image of theirs is there, an image has another
            size than its entry says, or a box lies outside it.
    """
    place = (
        Path(folder) / "annotations.json" if folder is not None else data_file("stm/wse2/annotations.json", root=root)
    )
    try:
        check_no_pipe(place)
        entries = json.loads(place.read_text(encoding="utf-8"))
        found = [
            _entry(place.parent / name, entries[name]) for name in sorted(entries) if (place.parent / name).is_file()
        ]
    except InputError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"annotations with size_px, scan_nm, bias_V and boxes per image at {place}",
            got=f"{type(error).__name__}: {reason(error)}",
            remedy="Check the file.",
        ) from error
    if not found:
        raise InputError(f"images beside {place}", got=f"none of its {len(entries)} entries", remedy="Put them there.")
    return tuple(found)


def simulated_densities(path: str | Path | None = None, *, root: str | Path | None = None) -> np.ndarray:
    """Simulated local density of states around one defect, (energies, height, width), float64.

    Args:
        path: A MATLAB file or .npz with one array (height, width, energies); `stm/LDoS_sim.mat` below the root when
            absent (25 energies, 49 x 49).
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: The file is missing, damaged or of another shape.
    """
    path = Path(path) if path is not None else data_file("stm/LDoS_sim.mat", root=root)
    array = read_array(path)
    if array.ndim != 3:
        raise InputError(
            f"an array (height, width, energies) in {path}", got=f"{array.shape}", remedy="Check the file."
        )
    return np.ascontiguousarray(np.moveaxis(array, 2, 0), dtype=np.float64)


def measured_density(*, root: str | Path | None = None) -> np.ndarray:
    """A measured map of the local density of states, 128 x 128, float64: `stm/realdata.mat` below the root.

    Raises:
        InputError: The file is missing or damaged.
    """
    return read_image(data_file("stm/realdata.mat", root=root), key="Y")


def defect_kernels(densities: ArrayLike, size: int = 32, *, margin: int = 0) -> np.ndarray:
    """Patterns of unit norm and of another size, as kernels of a simulated topograph.

    Args:
        densities: (kernels, height, width), for example `simulated_densities()[[17, 24]]`.
        size: Height and width of the kernels.
        margin: Pixels cut off on every side first.

    Returns:
        (kernels, size, size), float64: bicubic interpolation, smoothed first where it shrinks.

    Raises:
        InputError: Another shape, NaN, or a margin that leaves nothing. DegenerateError: a pattern of zeros.
    """
    from PIL import Image

    check_count(size, "size")
    check_count(margin, "margin", least=0)
    patterns = np.asarray(densities, dtype=np.float32)
    if patterns.ndim != 3 or min(patterns.shape[1:]) <= 2 * margin or not np.isfinite(patterns).all():
        raise InputError(
            f"finite patterns (kernels, height, width) larger than twice the margin {margin}",
            got=f"shape {patterns.shape}",
            remedy="Select slices with densities[[17, 24]].",
        )
    cropped = patterns[:, margin : patterns.shape[1] - margin, margin : patterns.shape[2] - margin]
    resized = [Image.fromarray(part).resize((size, size), Image.Resampling.BICUBIC) for part in cropped]
    return unit_kernels(np.stack([np.asarray(part, dtype=np.float64) for part in resized]))


def ring_kernels(kernels: int, size: int = 32) -> np.ndarray:
    r"""Analytic defect patterns of unit norm: damped standing waves around a scatterer.

    .. math:: a_k(r, \varphi) = \cos(q_k r + \pi k)\, (1 + \tfrac12 \cos m_k \varphi)\, e^{-r^2 / 2 \sigma^2},
        \quad m_k = 2 (k + 1)

    where r is the distance from the centre, sigma is an eighth of `size`, and q_k = 2 pi (1 + k / 2) / (size / 2).

    Args:
        kernels: How many.
        size: Height and width.

    Returns:
        (kernels, size, size), float64.

    Raises:
        InputError: A count below 1, or a size below 8.
    """
    check_count(kernels, "kernels")
    check_count(size, "size", least=8)
    axis = np.arange(size) - (size - 1) / 2
    down, across = axis[:, None], axis[None, :]
    radius, angle = np.hypot(down, across), np.arctan2(down, across)
    order = np.arange(kernels)[:, None, None]
    waves = np.cos(4 * np.pi * (1 + order / 2) / size * radius + np.pi * order)
    lobes = 1 + 0.5 * np.cos(2 * (order + 1) * angle)
    return unit_kernels(waves * lobes * np.exp(-(radius**2) / (2 * (size / 8) ** 2)))


def unit_kernels(kernels: np.ndarray) -> np.ndarray:
    """Kernels (kernels, ...) each divided by its norm.

    Raises:
        DegenerateError: A kernel of zeros.
    """
    norms = np.sqrt((kernels.reshape(len(kernels), -1) ** 2).sum(axis=1))
    if not norms.all():
        raise DegenerateError("kernels that are not zero", got="one of zeros", remedy="Leave it out.")
    return kernels / norms.reshape(-1, *[1] * (kernels.ndim - 1))


def _entry(path: Path, entry: dict[str, Any]) -> Topograph:
    image = read_image(path)
    image = image if image.ndim == 2 else image.mean(axis=2)
    width, height = entry["size_px"]
    if image.shape != (height, width):
        raise InputError(
            f"{path} of {height} x {width} pixels, as annotated", got=f"{image.shape}", remedy="Copy it again."
        )
    rows = [[top, left, tall, wide] for left, top, wide, tall, _ in entry["boxes"]]
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    # The far edge may lie outside: annotators draw a little over the border.
    if len(boxes) and ((boxes[:, :2] < 0).any() or (boxes[:, 2:] <= 0).any() or (boxes[:, :2] >= image.shape).any()):
        raise InputError(f"boxes inside {path}", got="one outside or empty", remedy="Check its annotation.")
    across, down = entry["scan_nm"]
    kinds = tuple(str(kind) for *_, kind in entry["boxes"])
    return Topograph(image, boxes, kinds, (float(down), float(across)), float(entry["bias_V"]), path.name)
