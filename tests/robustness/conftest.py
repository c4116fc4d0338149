"""Makes the campaign of `benchmarks.robustness` importable, and gives tests folders of whole files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def whole_files(tmp_path_factory):
    """The folder of whole files of a reader, written once."""
    folders = {}

    def folder_of(reader):
        if reader.name not in folders:
            folders[reader.name] = tmp_path_factory.mktemp("whole")
            reader.write(folders[reader.name])
        return folders[reader.name]

    return folder_of
