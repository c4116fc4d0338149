"""Structure of MATLAB files of version 5, checked before scipy reads them: an unknown type would end the process."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from tightframe.core.memory import check_fits

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# Numbers of 8 to 64 bits, matrices, compressed elements and text; 8, 10 and 11 were never given a meaning.
_TYPES = frozenset((*range(1, 8), 9, *range(12, 19)))
_DEEPEST = 32
_BLOCK = 1 << 24

Order = Literal["little", "big"]


def check_elements(file: BinaryIO, path: Path) -> None:
    """Every element of the file, also inside others, is of a type that there is and as long as it says.

    Files of versions 4 and 7.3, which have no such elements, are left alone. The file is rewound.

    Raises:
        ValueError: One is not.
        InputError: Compressed elements that do not fit into memory.
    """
    data = file.read()
    file.seek(0)
    # The first four bytes of version 4 are a number below 5000, those of version 5 are text.
    if len(data) <= _HEADER or 0 in data[:4]:
        return
    order: Order = "little" if data[126:128] == b"IM" else "big"
    if int.from_bytes(data[124:126], order) >> 8 != 1:
        return
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            for inner, packed in _elements(memoryview(_unpacked(content, path)), order):
                _check(inner, packed, order, 0)
        else:
            _check(kind, content, order, 0)


def _check(kind: int, content: memoryview, order: Order, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"elements more than {_DEEPEST} deep")
    if kind == _MATRIX:
        for inner, part in _elements(content, order):
            _check(inner, part, order, depth + 1)


def _elements(data: memoryview, order: Order) -> Iterator[tuple[int, memoryview]]:
    """Type and content of one element after another."""
    place = 0
    while place + 8 <= len(data):
        kind, size = (int.from_bytes(data[place + at : place + at + 4], order) for at in (0, 4))
        start, short = place + 8, kind >> 16
        if short:
            # A short element: its size in the upper half of the first word, its content in the second.
            kind, size, start = kind & 0xFFFF, short, place + 4
        if kind not in _TYPES:
            raise ValueError(f"an element of type {kind}, which does not exist")
        if size > len(data) - start or short > 4:
            raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
        yield kind, data[start : start + size]
        # Compressed elements follow each other without padding.
        place = place + 8 if short else start + (size if kind == _COMPRESSED else -(-size // 8) * 8)


def _unpacked(content: memoryview, path: Path) -> bytes:
    unpacking, parts, size = zlib.decompressobj(), [], 0
    rest: bytes | memoryview = content
    while rest:
        parts.append(unpacking.decompress(rest, _BLOCK))
        size += len(parts[-1])
        check_fits(size, path)
        rest = unpacking.unconsumed_tail
    return b"".join(parts)
