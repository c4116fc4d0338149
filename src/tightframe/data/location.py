"""Where files of named data sets lie: below a folder that the user gives or the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from tightframe.core.errors import InputError

ROOT_VARIABLE = "TIGHTFRAME_DATA"


def data_file(*places: str, root: str | Path | None = None) -> Path:
    """The first of these files that is there.

    Args:
        places: Paths below the root; those ending in .gz and those not are tried both.
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: No root, a root that is no directory, or none of the files; the places looked at are listed.
    """
    folder = root_folder(places[0], root, contents="that folder")
    for place in places:
        for name in dict.fromkeys((place, place.removesuffix(".gz"), place.removesuffix(".gz") + ".gz")):
            if (folder / name).is_file():
                return folder / name
    raise InputError(f"the file {places[0]}", got=f"none in {folder}", remedy="Put it there.")


def root_folder(wanted: str, root: str | Path | None, *, contents: str) -> Path:
    """The folder of the data sets: `root`, or what TIGHTFRAME_DATA names.

    Args:
        wanted: What is looked for there.
        root: Folder, or None.
        contents: The folder in words, for what to do where there is none.

    Raises:
        InputError: Neither is given, or it is no directory.
    """
    chosen = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if not chosen:
        raise InputError(
            f"the folder that holds {wanted}",
            got=f"neither `root` nor the environment variable {ROOT_VARIABLE}",
            remedy=f"Set {ROOT_VARIABLE} (or --data-root) to {contents}.",
        )
    if not Path(chosen).is_dir():
        raise InputError(
            f"the folder that holds {wanted}",
            got=f"{chosen}, which is not a directory",
            remedy=f"Name {contents}.",
        )
    return Path(chosen)
