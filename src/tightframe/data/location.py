"""Where files of named data sets lie: below a folder that the user gives or the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from tightframe.core.errors import InputError
from tightframe.data.source import ROOT_VARIABLE


def data_file(*places: str, root: str | Path | None = None) -> Path:
    """The first of these files that is there.

    Args:
        places: Paths below the root; those ending in .gz and those not are tried both.
        root: Folder of the data sets; TIGHTFRAME_DATA in the environment when absent.

    Raises:
        InputError: No root, a root that is no directory, or none of the files; the places looked at are listed.
    """
    chosen = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if not chosen:
        raise InputError(
            f"the folder that holds {places[0]}",
            got=f"neither `root` nor the environment variable {ROOT_VARIABLE}",
            remedy=f"Set {ROOT_VARIABLE} (or --data-root) to it.",
        )
    if not Path(chosen).is_dir():
        raise InputError(
            f"the folder that holds {places[0]}", got=f"{chosen}, which is not a directory", remedy="Name the folder."
        )
    for place in places:
        for name in dict.fromkeys((place, place.removesuffix(".gz"), place.removesuffix(".gz") + ".gz")):
            if (Path(chosen) / name).is_file():
                return Path(chosen) / name
    raise InputError(f"the file {places[0]}", got=f"none in {chosen}", remedy="Put it there.")
