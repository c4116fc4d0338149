"""Damage that knows nothing of formats: to bytes, and to text."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]

_COUNTS = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63 - 1, 2**63, 2**64 - 1)
_STARTS = (
    *(b"PK\x03\x04", b"PAR1", b"\x80\x04", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08\x00"),
    *(b"\x89PNG\r\n\x1a\n", b"II*\x00", b"\xff\xd8\xff", b"MATLAB 5.0"),
)
_TOKENS = (
    *("", "nan", "NaN", "inf", "-inf", "1e999", "-1", "0", "1e308", "9" * 40, "0x10", "true", "null", "None", "\x00"),
    *("é", "\u202e", "😀", '"', "'", ",", ";", "\t", "\n", "\r", "\ufeff", "[", "{", "]]", "}}", "(", "#", "=", "\\"),
    *("1 2", "1,2", "[1, 2]", '{"a": 1}', '"x"', "[[[[]]]]", "2024-01-01", "1_000", "--help", "Infinity", "-0.0"),
)
_ENCODINGS = ("utf-16", "utf-8-sig", "utf-32", "cp037")


def flipped(data: bytes, rng: Random) -> bytes:
    """A few bits the other way round, near the start as often as anywhere."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        if changed:
            changed[_place(changed, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: Random) -> bytes:
    """Cut off at the end, or at the start."""
    place = rng.randrange(len(data) + 1)
    return data[place:] if rng.random() < 0.2 else data[:place]


def without(data: bytes, rng: Random) -> bytes:
    """A piece left out, doubled, set to zero or moved."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 4, 16, 256, 4096)))
    piece = data[start:end]
    middle = rng.choice((b"", piece * 2, bytes(len(piece)), piece[::-1]))
    return data[:start] + middle + data[end:]


def counted(data: bytes, rng: Random) -> bytes:
    """An integer of 2, 4 or 8 bytes overwritten by one at the edge of its range."""
    size = rng.choice((2, 4, 8))
    if len(data) < size:
        return data
    value = rng.choice(_COUNTS) % 2 ** (8 * size)
    start = min(_place(data, rng), len(data) - size)
    return data[:start] + value.to_bytes(size, rng.choice(("little", "big"))) + data[start + size :]


def other(data: bytes, rng: Random) -> bytes:
    """Noise, a start of another format, or something behind the end."""
    noise = rng.randbytes(rng.choice((1, 16, 300)))
    return rng.choice((noise, rng.choice(_STARTS) + data[8:], data + noise, rng.choice(_STARTS), data + data))


def real(data: bytes, rng: Random) -> bytes:
    """A floating-point number overwritten by NaN, infinity or one that overflows when squared."""
    if len(data) < 8:
        return data
    kind = rng.choice(("<f", "<d", ">f"))
    value = struct.pack(kind, rng.choice((float("nan"), float("inf"), -float("inf"), 3e38, -1.0)))
    start = rng.randrange(len(data) - len(value) + 1)
    return data[:start] + value + data[start + len(value) :]


def token(data: bytes, rng: Random) -> bytes:
    """A field of a text replaced, or something put between two of them."""
    text = data.decode("utf-8", errors="replace")
    marks = [place for place, letter in enumerate(text) if letter in ",\n\t:=[]{} "]
    if not marks:
        return data
    number = rng.randrange(len(marks))
    start = marks[number] + 1
    end = marks[number + 1] if number + 1 < len(marks) and rng.random() < 0.8 else start
    return (text[:start] + rng.choice(_TOKENS) + text[end:]).encode("utf-8", errors="surrogatepass")


def line(data: bytes, rng: Random) -> bytes:
    """A line left out, doubled, shortened, lengthened or moved to the top."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    number = rng.randrange(len(lines))
    chosen = lines.pop(number)
    action = rng.randrange(5)
    if action == 1:
        lines[number:number] = [chosen, chosen]
    elif action == 2:
        lines.insert(number, chosen[: len(chosen) // 2])
    elif action == 3:
        lines.insert(number, chosen.rstrip(b"\r\n") + b",7" * rng.choice((1, 3, 5000)) + b"\n")
    elif action == 4:
        lines.insert(0, chosen)
    return b"".join(lines)


def encoded(data: bytes, rng: Random) -> bytes:
    """The same text in another encoding, with other ends of lines, or with bytes that are no text."""
    text = data.decode("utf-8", errors="replace")
    if rng.random() < 0.5:
        return text.encode(rng.choice(_ENCODINGS), errors="replace")
    return rng.choice(
        (data.replace(b"\n", b"\r"), data.replace(b"\n", b"\r\n"), b"\xff\xfe" + data, data + b"\xff\x00")
    )


def deep(data: bytes, rng: Random) -> bytes:
    """Brackets a hundred thousand deep, alone or in place of a value."""
    depth = rng.choice((50, 2_000, 100_000))
    nest = rng.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    return rng.choice((nest, b"x = " + nest, data.replace(b": ", b": " + nest, 1)))


def endless(data: bytes, rng: Random) -> bytes:
    """An integer of thousands of digits in place of a number."""
    digits = b"9" * rng.choice((400, 5_000, 100_000))
    places = [place for place, letter in enumerate(data) if 48 <= letter < 58]
    if not places:
        return digits
    start = rng.choice(places)
    return data[:start] + digits + data[start + 1 :]


BYTES: tuple[Mutation, ...] = (flipped, cut, without, counted, other, real)
TEXT: tuple[Mutation, ...] = (token, token, token, line, encoded, deep, endless)


def _place(data: bytes | bytearray, rng: Random) -> int:
    return rng.randrange(min(len(data), rng.choice((16, 128, len(data)))))
