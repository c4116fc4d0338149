"""Arrays from the files that laboratories keep them in: npy, npz, mat and csv, each gzipped or not."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from tightframe.core.errors import AmbiguityError, InputError, UnsafeFileError, reason
from tightframe.core.files import check_no_pipe, replace_file
from tightframe.core.memory import check_fits
from tightframe.data.matlab_elements import check_elements

ARRAY_SUFFIXES = (".npy", ".npz", ".mat", ".csv", ".txt")
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
_BLOCK = 1 << 24


def read_array(path: str | Path, *, key: str | None = None) -> np.ndarray:
    """The array of real numbers that a file holds.

    Args:
        path: .npy (memory-mapped, read-only), .npz, .mat (MATLAB up to version 7), .csv or .txt (columns separated by
            commas, with or without a first line of names, such as the numbers 0, 1, 2, ...; empty fields are NaN), or
            one of these followed by .gz.
        key: Name of the array in .npz and .mat; needed where the file holds several arrays of more than one number.

    Raises:
        InputError: The file is missing, damaged, of another kind, or holds no real numbers.
        AmbiguityError: Several arrays and no `key`; the message lists them with their shapes.
        UnsafeFileError: A pickle, or an array of Python objects, which could only be read by executing its code.
    """
    path = Path(path)
    kind = suffix_of(path)
    if kind in (".npz", ".mat"):
        return _chosen(named_arrays(path, key=key), key, path)
    if key is not None:
        raise InputError("`key` goes with .npz and .mat files", got=f"key={key!r} for {path}", remedy="Leave it out.")
    reader = {".npy": _read_npy, ".csv": _read_csv, ".txt": _read_csv}.get(kind)
    if reader is None:
        raise unknown_kind(path, ARRAY_SUFFIXES)
    return _numbers(_guarded(reader, path), path)


def named_arrays(path: str | Path, *, key: str | None = None) -> dict[str, np.ndarray]:
    """Every array of numbers in an .npz or .mat file, by name; only that named `key` where one is given.

    Raises:
        InputError: The file is missing, damaged or of another kind.
        UnsafeFileError: An array of Python objects in an .npz.
    """
    path = Path(path)
    reader = {".npz": _read_npz, ".mat": _read_mat}.get(suffix_of(path))
    if reader is None:
        raise unknown_kind(path, (".npz", ".mat"))
    found = _guarded(lambda source: reader(source, key), path)
    return {name: array for name, array in found.items() if array.dtype.kind in "biuf"}


def suffix_of(path: Path) -> str:
    """What the file is by its name, in lower case and without .gz; pickles are refused here, before any reading."""
    suffixes = [part.lower() for part in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind in _PICKLES:
        raise UnsafeFileError(
            "a file that can be read without executing code",
            got=f"{path}, a pickle by its name",
            remedy="Load it where you trust it, and save the array with numpy.save.",
        )
    return kind


def unknown_kind(path: Path, admitted: tuple[str, ...]) -> InputError:
    """The error for a file whose name does not say one of the admitted kinds."""
    return InputError(
        f"a file named {', '.join(admitted)}, or one of these followed by .gz",
        got=str(path),
        remedy="Convert the file, or rename it to what it is.",
    )


def opened(path: Path) -> BinaryIO:
    """The file for reading, its bytes decompressed in memory where its first bytes are those of gzip.

    Raises:
        InputError: It is missing, empty, no regular file, or gzip data that are damaged or do not fit into memory.
    """
    try:
        check_no_pipe(path)
        with path.open("rb") as file:
            start = file.read(2)
        content = _unpacked(path) if start == b"\x1f\x8b" else None
        if content is None and start:
            return path.open("rb")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        raise InputError(f"a readable file at {path}", got=why, remedy="Check the path, or copy it again.") from error
    if content is None or not content.getbuffer():
        raise InputError(f"a file with content at {path}", got="an empty one", remedy="Copy it again.")
    return content


def write_arrays(path: str | Path, arrays: Mapping[str, ArrayLike]) -> Path:
    """Write named arrays of numbers (kernels, maps, reconstructions) as compressed .npz, whole or not at all.

    Raises:
        InputError: Another ending, values that are no numbers, or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InputError("a file named .npz", got=str(path), remedy="Choose this ending.")
    kept = {name: np.asarray(values) for name, values in arrays.items()}
    if wrong := [f"{name} of type {values.dtype}" for name, values in kept.items() if values.dtype.kind not in "biufc"]:
        raise InputError("arrays of numbers", got=", ".join(wrong), remedy="Convert or leave them out.")
    replace_file(path, lambda partial: np.savez_compressed(partial, **kept))
    return path


def _unpacked(path: Path) -> io.BytesIO:
    content = io.BytesIO()
    with gzip.open(path) as file:
        while block := file.read(_BLOCK):
            content.write(block)
            check_fits(content.tell(), path)
    content.seek(0)
    return content


def _guarded(read: Callable[[Path], np.ndarray | dict], path: Path) -> np.ndarray | dict:
    """What `read` makes of the file; whatever damaged content makes it raise is an InputError that names the file."""
    try:
        return read(path)
    except InputError:
        raise
    except Exception as error:  # readers of damaged files raise almost anything
        if "pickle" in str(error) or "Python objects" in str(error):
            raise UnsafeFileError(
                f"an array of numbers in {path}",
                got="a damaged file, or Python objects, which could only be read by executing code",
                remedy="Save it again as numbers.",
            ) from error
        raise InputError(
            f"a whole {suffix_of(path)} file at {path}",
            got=reason(error),
            remedy="The file is damaged or of another kind: copy it again, or rename it to what it is.",
        ) from error


def _read_npy(path: Path) -> np.ndarray:
    with opened(path) as file:
        if isinstance(file, io.BytesIO):
            check_claim(file, len(file.getbuffer()))
            return np.load(file, allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_npz(path: Path, key: str | None) -> dict[str, np.ndarray]:
    found = {}
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if info.filename.endswith(".npy") and key in (None, name):
                check_fits(info.file_size, path)
                with archive.open(info) as member:
                    check_claim(member, info.file_size)
                with archive.open(info) as member:
                    found[name] = np.lib.format.read_array(member, allow_pickle=False)
    return found


def check_claim(file: BinaryIO, size: int) -> None:
    """Array data in .npy format whose header claims no more than the `size` bytes that there are.

    The header is checked before anything of the claimed size is allocated; a file that can be sought is rewound.

    Raises:
        ValueError: It claims more.
    """
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array of shape {shape} claimed, in {size} bytes")
    if file.seekable():
        file.seek(0)


def _read_mat(path: Path, key: str | None) -> dict[str, np.ndarray]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    with opened(path) as file:
        check_elements(file, path)
        try:
            content = loadmat(file, variable_names=None if key is None else [key])
        except (NotImplementedError, MatReadError) as error:
            # Version 7.3 is HDF5 under another name.
            reason = "version 7.3" if isinstance(error, NotImplementedError) else str(error)
            raise InputError(
                f"a MATLAB file up to version 7 at {path}", got=reason, remedy="Save it with save(..., '-v7')."
            ) from error
    return {name: array for name, array in content.items() if isinstance(array, np.ndarray)}


def _read_csv(path: Path) -> np.ndarray:
    import pandas as pd

    with opened(path) as file:
        first = file.readline().decode("utf-8", errors="replace").strip().split(",")
        file.seek(0)
        return pd.read_csv(file, header=0 if _are_names(first) else None, dtype=np.float64).to_numpy()


def _are_names(fields: list[str]) -> bool:
    """Whether a first line holds names: some field is no number, or they are 0, 1, 2, ..., the default of pandas."""
    try:
        numbers = [float(field) for field in fields if field.strip()]
    except ValueError:
        return True
    return len(fields) > 1 and numbers == list(range(len(fields)))


def _chosen(arrays: dict[str, np.ndarray], key: str | None, path: Path) -> np.ndarray:
    listed = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in arrays.items())
    if key is not None:
        if key not in arrays:
            everything = ", ".join(named_arrays(path)) or "none"
            raise InputError(f"an array {key!r} of numbers in {path}", got=everything, remedy="Name one of these.")
        return _numbers(arrays[key], path)
    candidates = {name: array for name, array in arrays.items() if array.size > 1}
    if len(candidates) > 1:
        raise AmbiguityError(f"one array in {path}", got=listed, remedy="Set key= (--key) to one of these names.")
    if not candidates:
        raise InputError(f"an array of numbers in {path}", got=listed or "none", remedy="Check the file.")
    return _numbers(next(iter(candidates.values())), path)


def _numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "biuf" or array.size == 0:
        raise InputError(
            f"real numbers in {path}", got=f"{array.dtype} of shape {array.shape}", remedy="Save real numbers."
        )
    return array
