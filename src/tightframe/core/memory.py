"""How much memory there is: what content of a file is measured against before it is unpacked."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from tightframe.core.errors import InputError

# Where containers under Linux find the limit that is set for them.
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes() -> int:
    """Bytes of memory of this machine, container or process, whichever has the least."""
    known = [sys.maxsize]
    # Not every system tells every one of them.
    with suppress(AttributeError, ValueError, OSError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for place in _CONTAINER:
        with suppress(ValueError, OSError):
            known.append(int(place.read_text()))
    with suppress(ImportError, ValueError, OSError):
        import resource

        known.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    return min(amount for amount in known if amount > 0)


def check_fits(size: int, path: Path) -> None:
    """Content of so many bytes in the file at `path`, which must fit into half of the memory.

    Raises:
        InputError: It does not.
    """
    most = memory_bytes() // 2
    if size > most:
        raise InputError(
            f"content that fits into memory in {path}",
            got=f"{size:,} bytes unpacked, more than half of {2 * most:,}",
            remedy="Store it as .npy or uncompressed, which is read piece by piece, or use a larger machine.",
        )
