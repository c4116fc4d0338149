"""Damage inside formats: headers that lie, members that are not what they seem, checksums made to fit again."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from random import Random

from benchmarks.robustness.mutations import BYTES, Mutation

_SHAPES = (
    *("(1000000000000,)", "(9223372036854775808,)", "(0,)", "(-1,)", "()", "(4294967296, 4294967296)", "(3, -2)"),
    *("(2.5,)", "('a',)", "((1,),)", "None", "(1,)", f"({'1, ' * 40})", f"({'1, ' * 70})", "(True,)", "(7,)", "[7]"),
)
_KINDS = (
    *("'|O'", "'<U4'", "'<c16'", "'<f2'", "'>f8'", "'<f16'", "'<M8[s]'", "'|V8'", "'|V0'", "'|S0'", "'<i1'", "'x'"),
    *("[('a', '<f8'), ('b', '|O')]", "[('a', '<f8')]", "5", "None", "'|b1'", "'<u8'", "'<U1000000'", "'(3,)<f8'"),
)
_TEXTS = (
    *("", "{", "{}", "None", "5", "'descr'", "{'descr': '<f8'}", "(" * 3000, "{'descr': " + "[" * 200, "{" * 100_000),
    "__import__('os').system('touch executed')",
    "{'descr': __import__('os').system('touch executed'), 'fortran_order': False, 'shape': (3,)}",
)
_STORED_AS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_MEMBERS = ("../outside.npy", "data.pkl", "features", "features.npy", "labels.npy", "weight.npy", "é.npy", "", "a/b/c")
_SAFE_TYPES = ("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X", 5, None)
_SAFE_SHAPES = ([10**12], [2**63], [2**32, 2**32], [-1], [], [0], [0, 4], [1] * 70, "x", None, [2.5], {"a": 1})


class Bomb:
    """Unpickling this creates the file `executed` in the working directory."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def npy(data: bytes, rng: Random) -> bytes:
    """The header of an .npy file with another shape, type or order, or in other words."""
    if data[:6] != b"\x93NUMPY":
        return data
    wide = data[6] > 1
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    header, body = data[start : start + length].decode("latin-1"), data[start + length :]
    action = rng.randrange(6)
    if action == 0:
        header = rng.choice(_TEXTS)
    elif action <= 2:
        before, _, after = header.partition("'shape': ")
        header = f"{before}'shape': {rng.choice(_SHAPES)}{after[after.find(')') + 1 :]}"
    elif action <= 4:
        before, _, after = header.partition("'descr': ")
        header = f"{before}'descr': {rng.choice(_KINDS)}{after[after.find(',') :]}"
    else:
        header = header.replace("False", rng.choice(("True", "'no'", "1", "None")))
    if rng.random() < 0.05:
        body = pickle.dumps([Bomb()])
    text = header.encode("latin-1") + b"\n"
    version = rng.choice((1, 1, 2, 3)) if len(text) < 65_536 else 2
    return b"\x93NUMPY" + bytes((version, 0)) + len(text).to_bytes(4 if version > 1 else 2, "little") + text + body


def in_zip(inner: Mutation) -> Mutation:
    """A whole archive again, a member of which is damaged, renamed, doubled, nested or announced with another size."""

    def mutate(data: bytes, rng: Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError):
            return data
        if not members:
            return data
        place = rng.randrange(len(members))
        name, content, method = members[place]
        action = rng.randrange(8)
        if action <= 3:
            members[place] = (name, inner(content, rng), method)
        elif action == 4:
            members[place] = (rng.choice(_MEMBERS), content, method)
        elif action == 5:
            members.append((name, inner(content, rng), method))
        elif action == 6:
            members[place] = (name, data, method)
        else:
            members.pop(place)
        if rng.random() < 0.3:
            again = rng.choice(_STORED_AS)
            members = [(name, content, again) for name, content, _ in members]
        packed = _zipped(members)
        return _misannounced(packed, rng) if rng.random() < 0.3 else packed

    return mutate


def in_gzip(inner: Mutation) -> Mutation:
    """Packed again after damage inside; a file that is not packed is damaged as it is."""

    def mutate(data: bytes, rng: Random) -> bytes:
        if data[:2] != b"\x1f\x8b":
            return inner(data, rng)
        try:
            return gzip.compress(inner(gzip.decompress(data), rng), compresslevel=1, mtime=0)
        except (OSError, EOFError, zlib.error):
            return data

    return mutate


def safetensors(data: bytes, rng: Random) -> bytes:
    """The header of a safetensors file with another type, shape, place or name of a tensor, or none at all."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        name = rng.choice([key for key in header if key != "__metadata__"])
        entry = header[name]
        size = len(data) - 8 - length
        changes = (
            lambda: entry.update(dtype=rng.choice(_SAFE_TYPES)),
            lambda: entry.update(shape=rng.choice(_SAFE_SHAPES)),
            lambda: entry.update(
                data_offsets=rng.choice(([0, size], [size, 0], [0, 10**13], [0], "x", [2**64, 2**64]))
            ),
            lambda: header.pop(name),
            lambda: header.update({rng.choice(("label", "bias", "", "é", "a" * 10_000)): header.pop(name)}),
            lambda: header.update(__metadata__=rng.choice(({"a": 1}, [], None, {"format": "x"}, "x"))),
            lambda: header.update({name: rng.choice(([], None, 3, {}))}),
            lambda: _damaged_metadata(header, rng),
        )
        rng.choice(changes)()
        text = json.dumps(header).encode()
    except (ValueError, IndexError, AttributeError, TypeError, RecursionError, OverflowError):
        return data
    if rng.random() < 0.1:
        text = text.ljust(len(text) + 8 * rng.randrange(1_000))
    announced = len(text) if rng.random() < 0.95 else rng.choice((0, 10**12, 2**64 - 1, len(text) * 2))
    return announced.to_bytes(8, "little") + text + data[8 + length :]


def png(data: bytes, rng: Random) -> bytes:
    """A chunk of a png changed, doubled, moved or left out, its checksum fitting again."""
    chunks, place = [], 8
    while place + 12 <= len(data) and data[:4] == b"\x89PNG":
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return data
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    action = rng.randrange(6)
    if action == 0 and chunks[0][0] == b"IHDR":
        wide, tall = (rng.choice((0, 1, 5, 8_000, 60_000, 2**31 - 1, 2**32 - 1)) for _ in range(2))
        depth, colour = rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 7))
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", wide, tall, depth, colour, 0, 0, rng.randrange(3)))
    elif action == 1:
        chunks[number] = (kind, rng.choice(BYTES)(content, rng))
    elif action == 2:
        chunks.pop(number)
    elif action == 3:
        chunks.insert(rng.randrange(len(chunks)), (kind, content))
    elif action == 4:
        chunks.insert(
            1, (rng.choice((b"zTXt", b"iCCP")), b"note\x00\x00" + zlib.compress(bytes(rng.choice((10, 10**8)))))
        )
    else:
        chunks[number] = (rng.choice((b"IDAT", b"PLTE", b"tRNS", b"fdAT", b"acTL")), content)
    packed = (len(c).to_bytes(4, "big") + k + c + zlib.crc32(k + c).to_bytes(4, "big") for k, c in chunks)
    return data[:8] + b"".join(packed)


def tiff(data: bytes, rng: Random) -> bytes:
    """A tag of a tiff with another type, count or value, or a directory that points to one before it."""
    if data[:2] != b"II" or len(data) < 16:
        return data
    first = int.from_bytes(data[4:8], "little")
    if first + 2 > len(data):
        return data
    count = int.from_bytes(data[first : first + 2], "little")
    changed = bytearray(data)
    entry = first + 2 + 12 * rng.randrange(max(1, count))
    last = first + 2 + 12 * count
    if entry + 12 > len(data) or last + 4 > len(data):
        return data
    action = rng.randrange(4)
    if action == 0:
        changed[last : last + 4] = rng.choice((first, 8, 0, 2**32 - 1, last)).to_bytes(4, "little")
    elif action == 1:
        changed[entry + 2 : entry + 4] = rng.randrange(20).to_bytes(2, "little")
    elif action == 2:
        changed[entry + 4 : entry + 8] = rng.choice((0, 1, 2, 2**16, 2**31, 2**32 - 1)).to_bytes(4, "little")
    else:
        changed[entry + 8 : entry + 12] = rng.choice((0, 1, 3, 5, 7, 2**16, 2**31, 2**32 - 1)).to_bytes(4, "little")
    return bytes(changed)


def footer(data: bytes, rng: Random) -> bytes:
    """The footer of a parquet file damaged, its length fitting again, or announced with another length."""
    if data[-4:] != b"PAR1" or len(data) < 12:
        return data
    length = int.from_bytes(data[-8:-4], "little")
    body, foot = data[: -8 - length], data[-8 - length : -8]
    if rng.random() < 0.2:
        announced = rng.choice((0, 1, length - 1, length + 1, 2**31 - 1, 2**32 - 1))
    else:
        foot = rng.choice(BYTES[:4])(foot, rng)
        announced = len(foot)
    return body + foot + (announced % 2**32).to_bytes(4, "little") + b"PAR1"


def pickled(data: bytes, rng: Random) -> bytes:
    """A pickle with an object that runs a command, at the start, inside or instead."""
    bomb = pickle.dumps(Bomb(), protocol=rng.choice((0, 2, 4)))
    body = bomb[2:-1] if bomb[:1] == b"\x80" else bomb[:-1]
    start = 2 if data[:1] == b"\x80" else 0
    place = rng.choice((start, rng.randrange(len(data) + 1)))
    huge = b"cnumpy\nndarray\n((L1000000000000L\nttR"
    return rng.choice(
        (bomb, data[:place] + body + data[place:], data[:start] + body + b"0" + data[start:], huge + b".")
    )


def _zipped(members: list[tuple[str, bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content, method in members:
            info = zipfile.ZipInfo(name or "unnamed")
            archive.writestr(info, content, compress_type=method)
    return packed.getvalue()


def _misannounced(data: bytes, rng: Random) -> bytes:
    """Another size, method, flag or place in the directory of an archive than in fact."""
    changed = bytearray(data)
    entries = [place for place in range(len(data) - 46) if data[place : place + 4] == b"PK\x01\x02"]
    if not entries:
        return data
    entry = rng.choice(entries)
    field, size = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)))
    value = rng.choice((0, 1, 8, 9, 99, 2**16 - 1, 2**31, 2**32 - 2, 2**32 - 1)) % 2 ** (8 * size)
    changed[entry + field : entry + field + size] = value.to_bytes(size, "little")
    return bytes(changed)


def _damaged_metadata(header: dict, rng: Random) -> None:
    for key, value in header.get("__metadata__", {}).items():
        header["__metadata__"][key] = rng.choice(
            (value[: len(value) // 2], "[" * 100_000, "null", "{}", "5", '{"settings": 1}')
        )
