"""npz, safetensors and parquet: named arrays in and out, nothing executed, mapped from disk where possible."""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightframe.core.errors import InputError, UnsafeFileError
from tightframe.core.files import is_file, is_folder
from tightframe.core.memory import check_fits

KEYS = ("features", "labels", "label", "weight", "bias")
FORMATS = "npz, safetensors or parquet with `features` and `labels`"
HOW = "Save the arrays with numpy.savez(path, features=..., labels=...), safetensors, or tightframe's write_features."
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".bin")
_LONGEST_METADATA = 4_000_000

Arrays = dict[str, Any]


def reader_of(path: Path) -> Callable[[Path], Arrays]:
    """The function that reads a file, told by its first bytes.

    Raises:
        UnsafeFileError: The file is a pickle by its bytes or its name.
        InputError: No file, an empty one, or of no known format.
    """
    if not is_file(path):
        got = "a directory" if is_folder(path) else "nothing"
        raise InputError(f"a file: {FORMATS}", got=f"{got} at {path}", remedy="Check the path.")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"a file: {FORMATS}", got=f"{path.name}, which is empty", remedy=HOW)
    with path.open("rb") as file:
        start = file.read(16)
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header < size:
        return read_safetensors
    if path.suffix in _PICKLES or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        raise _unsafe(path.name, "a pickle")
    reader = _BY_MAGIC.get(start[:2]) or _BY_SUFFIX.get(path.suffix)
    if reader is not None:
        return reader
    raise InputError(f"a file: {FORMATS}", got=f"{path.name}, which is none of these", remedy=HOW)


def read_npz(path: Path) -> Arrays:
    """Arrays of an npz file; uncompressed ones are mapped copy-on-write, object arrays are refused."""
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if any(name.endswith(".pkl") for name in members):
            raise _unsafe(path.name, "a pickle in a zip archive (torch.save)")
        return {key: _member(path, archive, f"{key}.npy") for key in KEYS if f"{key}.npy" in members}


def read_safetensors(path: Path) -> Arrays:
    """Tensors of a safetensors file, mapped."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in KEYS if key in file.keys()}  # noqa: SIM118


def read_parquet(path: Path) -> Arrays:
    """Columns of a parquet file, row group by row group; weight and bias from its metadata."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        # A constant column of any length takes a few bytes on disk.
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        check_fits(8 * sum(group.column(at).num_values for group in groups for at in range(group.num_columns)), path)
        columns = [key for key in KEYS if key in file.schema_arrow.names]
        parts: dict[str, list[np.ndarray]] = {key: [] for key in columns}
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns)
            for key in columns:
                parts[key].extend(_column(chunk, key) for chunk in table.column(key).chunks)
        arrays: Arrays = {key: np.concatenate(values) for key, values in parts.items() if values}
        metadata = file.schema_arrow.metadata or {}
    for key in ("weight", "bias"):
        if key.encode() in metadata:
            arrays[key] = np.array(json.loads(metadata[key.encode()]), dtype=np.float64)
    return arrays


def write_npz(path: Path, tensors: dict[str, Tensor]) -> None:
    """Uncompressed, so that it can be mapped."""
    np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """As they are."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(0, str(error)) from error


def write_parquet(path: Path, tensors: dict[str, Tensor]) -> None:
    """A fixed-size list column `features`, an integer column `labels`, JSON lists in the metadata."""
    import pyarrow
    import pyarrow.parquet

    features = tensors["features"]
    extra = {key: tensors[key] for key in ("weight", "bias") if key in tensors}
    if sum(tensor.numel() for tensor in extra.values()) > _LONGEST_METADATA:
        raise InputError(
            f"a classifier of at most {_LONGEST_METADATA} numbers in parquet metadata",
            got=f"weight of shape {tuple(extra['weight'].shape)}",
            remedy="Write .safetensors or .npz.",
        )
    table = pyarrow.table(
        {
            "features": pyarrow.FixedSizeListArray.from_arrays(features.numpy().ravel(), features.shape[1]),
            "labels": tensors["labels"].numpy(),
        },
        metadata={key: json.dumps(tensor.tolist()) for key, tensor in extra.items()},
    )
    pyarrow.parquet.write_table(table, path, row_group_size=max(1, 2**22 // features.shape[1]))


WRITERS = {".npz": write_npz, ".safetensors": write_safetensors, ".parquet": write_parquet}
_BY_MAGIC = {b"PK": read_npz, b"PA": read_parquet}
_BY_SUFFIX = {".npz": read_npz, ".safetensors": read_safetensors, ".parquet": read_parquet}


def as_tensor(value: Any, name: str) -> Tensor:
    """A tensor that shares the memory of an array.

    Raises:
        InputError: Strings, objects, complex numbers or a precision torch does not have.
    """
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(native if all(s >= 0 for s in native.strides) else native.copy())
    except TypeError as error:
        raise InputError(
            f"{name} is an array of numbers", got=f"dtype {array.dtype}", remedy="Convert it to float32 or int64."
        ) from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(name)
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        header = file.tell()
    if dtype.hasobject:
        raise _unsafe(path.name, f"{name} is an object array, that is a pickle")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > info.file_size - header:
        raise ValueError(f"{name} of shape {shape}, more than its {info.file_size} bytes")
    if info.compress_type != zipfile.ZIP_STORED or 0 in shape:
        check_fits(claimed, path)
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    with path.open("rb") as file:
        # The local header repeats the name and has its own extra field, of another length than the directory's.
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    offset = info.header_offset + 30 + name_length + extra_length + header
    return np.memmap(path, dtype, "c", offset, shape, "F" if fortran else "C")


def _column(chunk: Any, name: str) -> np.ndarray:
    import pyarrow

    if name in ("label", "labels"):
        return _numbers(chunk, name)
    kind = chunk.type
    if not (pyarrow.types.is_fixed_size_list(kind) or pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)):
        raise InputError(
            f"column {name!r} holds lists of numbers", got=str(kind), remedy="Store each row's vector as one list."
        )
    lengths = np.unique(chunk.value_lengths().to_numpy(zero_copy_only=False))
    if chunk.null_count or len(lengths) > 1:
        raise InputError(
            f"column {name!r} holds lists of one length",
            got="missing rows" if chunk.null_count else f"lengths from {lengths[0]} to {lengths[-1]}",
            remedy="Drop the incomplete rows.",
        )
    return _numbers(chunk.flatten(), name).reshape(len(chunk), -1)


def _numbers(values: Any, name: str) -> np.ndarray:
    if values.null_count:
        raise InputError(
            f"column {name!r} is complete",
            got=f"{values.null_count} missing values",
            remedy="Drop the incomplete rows.",
        )
    return values.to_numpy(zero_copy_only=False)


def _unsafe(name: str, what: str) -> UnsafeFileError:
    return UnsafeFileError(
        "a file that holds nothing but arrays",
        got=f"{name}: {what}, which can run code when it is read",
        remedy=f"Open it where you trust it. {HOW}",
    )
