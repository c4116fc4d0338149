"""Images and movies from files and back: png, jpg, tiff with several pages, and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.errors import InputError, reason
from tightframe.core.files import replace_file
from tightframe.core.memory import check_fits
from tightframe.data.array_files import ARRAY_SUFFIXES, opened, read_array, suffix_of, unknown_kind

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_GREY = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "F")


def read_image(path: str | Path, *, key: str | None = None) -> np.ndarray:
    """One grey or colour image, with the values that the file holds.

    Args:
        path: .png, .jpg, .tif, .bmp (8 or 16 bits; transparency is dropped, palettes become colours, and colours of
            which all three channels are equal become grey), or .npy, .npz, .mat, .csv.
        key: Name of the array in .npz and .mat.

    Returns:
        float64 of shape (height, width) or (height, width, 3), unscaled: 0 to 255 for 8 bits, 0 to 65535 for 16.

    Raises:
        InputError: The file is missing, damaged, holds a movie, or is no image; of several arrays and no `key`,
            AmbiguityError; of pickles, UnsafeFileError.
    """
    path = Path(path)
    if suffix_of(path) in IMAGE_SUFFIXES:
        pages = _pages(path, key)
        if len(pages) == 1:
            return pages[0]
        raise InputError(f"one image in {path}", got=f"{len(pages)} pages", remedy="Read it with read_movie.")
    array = _array(path, key)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
        return np.array(array, dtype=np.float64)
    raise InputError(
        f"an image of shape (height, width) or (height, width, 3) in {path}",
        got=f"shape {array.shape}",
        remedy="Select one slice, or read a movie with read_movie.",
    )


def read_movie(path: str | Path, *, key: str | None = None) -> np.ndarray:
    """Grey frames in order of time.

    Args:
        path: .tif with one page per frame, or .npy (memory-mapped), .npz, .mat of shape (frames, height, width).
        key: Name of the array in .npz and .mat.

    Returns:
        (frames, height, width): float64 from image files, the type of the file from arrays. A single image is a
        movie of one frame.

    Raises:
        InputError: As for `read_image`; also colour frames, or frames of different sizes.
    """
    path = Path(path)
    if suffix_of(path) not in IMAGE_SUFFIXES:
        array = _array(path, key)
        if array.ndim in (2, 3):
            return array if array.ndim == 3 else array[None]
        raise InputError(f"frames (frames, height, width) in {path}", got=f"shape {array.shape}", remedy="Reshape it.")
    pages = _pages(path, key)
    shapes = {page.shape for page in pages}
    if len(shapes) > 1 or pages[0].ndim != 2:
        raise InputError(
            f"grey frames of one size in {path}", got=f"shapes {sorted(shapes)}", remedy="Convert the frames."
        )
    return np.stack(pages)


def write_image(path: str | Path, image: ArrayLike, *, limits: tuple[float, float] | None = None) -> Path:
    """Write an image as 8-bit .png, or unchanged as .npy; the file appears whole or not at all.

    Args:
        path: Ends in .png or .npy.
        image: (height, width) or (height, width, 3), finite.
        limits: Values that become 0 and 255, those outside being clipped; the smallest and largest unless given.

    Raises:
        InputError: Another shape or ending, NaN, limits that do not ascend, or a place that cannot be written.
    """
    path, values = Path(path), np.asarray(image)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3) or not values.size:
        raise InputError("an image (height, width) or (height, width, 3)", got=f"{values.shape}", remedy="Reshape it.")
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise InputError("finite real values", got=f"NaN, inf or type {values.dtype}", remedy="Fill or convert them.")
    if path.suffix.lower() == ".npy":
        replace_file(path, lambda partial: np.save(partial, values, allow_pickle=False))
        return path
    if path.suffix.lower() != ".png":
        raise InputError("a file named .png or .npy", got=str(path), remedy="Choose one of these endings.")
    from PIL import Image

    low, high = limits if limits is not None else (float(values.min()), float(values.max()))
    if limits is not None and not low < high:
        raise InputError("ascending limits", got=repr(limits), remedy="Use (0, 255).")
    scaled = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    picture = Image.fromarray(np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8))
    replace_file(path, lambda partial: picture.save(partial))
    return path


def _array(path: Path, key: str | None) -> np.ndarray:
    if suffix_of(path) not in ARRAY_SUFFIXES:
        raise unknown_kind(path, (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES))
    return read_array(path, key=key)


def _pages(path: Path, key: str | None) -> list[np.ndarray]:
    from PIL import Image, ImageSequence

    if key is not None:
        raise InputError("`key` goes with .npz and .mat files", got=f"key={key!r} for {path}", remedy="Leave it out.")
    pages: list[np.ndarray] = []
    with opened(path) as file:
        try:
            with Image.open(file) as image:
                for page in ImageSequence.Iterator(image):
                    size = 8 * page.width * page.height * len(page.getbands())
                    check_fits(size + sum(earlier.nbytes for earlier in pages), path)
                    pages.append(_values(page))
        except InputError:
            raise
        except Exception as error:  # decoders of damaged files raise almost anything
            raise InputError(
                f"an image that can be decoded at {path}", got=reason(error), remedy="Copy it again, or convert it."
            ) from error
    return pages


def _values(page) -> np.ndarray:
    if page.mode in _GREY:
        grey = page.convert("L") if page.mode in ("1", "LA") else page
        return np.array(grey, dtype=np.float64)
    colours = np.array(page.convert("RGB"), dtype=np.float64)
    # Cameras and microscopes often write grey images as three equal channels.
    equal = (colours == colours[..., :1]).all()
    return colours[..., 0] if equal else colours
