"""One's own images: a folder for every class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tightframe.core.errors import InputError
from tightframe.data.labelled.decoding import decoded_data
from tightframe.data.labelled.images import ImageData

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
_TEST_NAMES = ("test", "val")


def image_folder(path: Path, *, size: int | None = None, seed: int = 0) -> ImageData:
    """Read `path/train/<class>/*.png` and `path/test/<class>/*.png` (or val/), or `path/<class>/*.png`.

    Classes are numbered in the order of their names. Without a test (or val) folder a fifth of every class is held
    out. Images are decoded when they are read, as colour when the first image of any class is coloured, as grey
    otherwise, and their values 0..1 are standardised by mean 0.5 and standard deviation 0.5.

    Args:
        path: The folder.
        size: Height and width that images are stretched to; by default all must have the size of the first.
        seed: Seed of the split.

    Raises:
        InputError: There are no images or fewer than two classes, train and test differ in their classes, or (on
            reading) an image is damaged or of another size; the file is named.
    """
    path = Path(path)
    folders = _folders(path)
    if "train" not in folders and any(name in folders for name in _TEST_NAMES):
        raise InputError(
            f"a folder train/ beside {', '.join(n for n in _TEST_NAMES if n in folders)}/ in {path}",
            got=", ".join(folders),
            remedy="Name the folder of training images train/.",
        )
    source = folders.get("train", path)
    files, labels, classes = _listed(source)
    test_name = next((name for name in _TEST_NAMES if "train" in folders and name in folders), None)
    test = None
    if test_name is not None:
        *test, test_classes = _listed(folders[test_name])
        if test_classes != classes:
            raise InputError(
                f"the classes of {source} in {folders[test_name]} too",
                got=f"differing: {', '.join(sorted({*classes} ^ {*test_classes}))}",
                remedy="Give every class a folder of the same name on both sides.",
            )
    return decoded_data((files, labels), test, classes=classes, name=path.resolve().name, size=size, seed=seed)


@dataclass(frozen=True)
class _Files:
    """Image files by position."""

    paths: tuple[Path, ...]

    def open(self, place: int) -> Image:
        from PIL import Image

        return Image.open(self.paths[place])

    def name(self, place: int) -> str:
        return str(self.paths[place])


def _folders(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        raise InputError("a folder of images", got=f"{path}, which is no directory", remedy="Check the path.")
    return {p.name: p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")}


def _listed(path: Path) -> tuple[_Files, torch.Tensor, tuple[str, ...]]:
    """Files, labels and class names under `path`, one folder a class, in the order of names."""
    paths: list[Path] = []
    labels: list[int] = []
    folders = _folders(path)
    for label, folder in enumerate(folders.values()):
        found = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
        found = [p for p in found if not p.name.startswith(".")]
        if not found:
            raise InputError(
                f"images in the folder of every class, ending in {', '.join(sorted(SUFFIXES))}",
                got=f"none in {folder}",
                remedy="Add images or remove the folder.",
            )
        paths += found
        labels += [label] * len(found)
    if len(folders) < 2:
        raise InputError(
            f"a folder for each of at least two classes in {path}",
            got=", ".join(folders) or "no folders",
            remedy="Put the images of every class into a folder named after it.",
        )
    return _Files(tuple(paths)), torch.tensor(labels), tuple(folders)
