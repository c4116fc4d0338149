"""Files made to mislead: pickles that run commands, headers that claim terabytes, bombs, pipes, links, odd names."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from benchmarks.robustness.readers import READERS
from benchmarks.robustness.samples import FOREIGN
from benchmarks.robustness.structures import Bomb

from door import perhaps_refused
from tightframe.core import memory
from tightframe.core.errors import InputError, TightframeError, UnsafeFileError
from tightframe.core.files import is_file, replace_file
from tightframe.data.array_files import read_array
from tightframe.data.labelled.cifar import cifar10
from tightframe.data.pictured.image_files import read_image, read_movie
from tightframe.data.ratings import read_triples
from tightframe.features.store import read_features
from tightframe.training.checkpoint import load, load_state_dict

MANY = 10**12


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, in which a pickle that is executed leaves the file `executed`."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def small_memory(monkeypatch):
    """A machine of 64 MiB; reading may take no more than that."""
    monkeypatch.setattr(memory, "memory_bytes", lambda: 64 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 <= 96 << 20


def header_of(shape, kind="<f8"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def refusals(reader, folder, target):
    """The error for a target that cannot be read, checked for its words."""
    with pytest.raises(TightframeError) as caught:
        reader.read(folder, target)
    message = str(caught.value)
    assert any(name in message for name in (target.name, target.parent.name, folder.name)), message
    assert caught.value.remedy.strip()
    return caught.value


def is_a_pipe(path):
    os.mkfifo(path)


def is_empty(path):
    path.write_bytes(b"")


def is_missing(path):
    assert not path.exists()


def is_a_folder(path):
    path.mkdir()


def links_to_itself(path):
    path.symlink_to(path)


def links_to_nothing(path):
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("instead", [is_a_pipe, is_empty, is_missing, is_a_folder, links_to_itself, links_to_nothing])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_something_else_in_place_of_a_file_is_refused(reader, instead, whole_files, tmp_path):
    whole = whole_files(reader)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    place = tmp_path / "place"
    shutil.copytree(whole, place)
    target = place / files[0]
    target.unlink()
    instead(target)
    # A configuration may come from a process, as in --config <(command): there a pipe is what it should be.
    # Class folders and data sets look for files among what is there, and find the others.
    if (instead is is_a_pipe and reader.name == "settings .toml") or reader.name == "image folder":
        return
    if instead is is_empty and reader.name == "settings .toml":
        assert reader.read(place, target) == ["train", "--seed", "1"]
        return
    refusals(reader, place, target)


@pytest.mark.parametrize("reader", [r for r in READERS if not r.folder], ids=lambda reader: reader.name)
def test_names_that_are_long_or_impossible_are_refused(reader, whole_files, tmp_path):
    suffix = "".join(sorted(path for path in whole_files(reader).iterdir())[0].suffixes)
    for stem in ("x" * 300, "nul\x00byte"):
        with pytest.raises(TightframeError, match=stem[:3]):
            reader.read(tmp_path, tmp_path / f"{stem}{suffix}")


@pytest.mark.parametrize("reader", [r for r in READERS if not r.folder], ids=lambda reader: reader.name)
@pytest.mark.parametrize(
    "stem", ["наука 数据 é", "a b 'c' \"d\"", "-dash", "percent%20[1]{x}", "new\nline", "dots.in.the.name"]
)
def test_odd_names_are_read(reader, stem, whole_files, tmp_path):
    whole = next(path for path in sorted(whole_files(reader).iterdir()) if path.stem not in FOREIGN)
    target = tmp_path / (stem + "".join(whole.suffixes))
    shutil.copy(whole, target)
    assert reader.valid(reader.read(tmp_path, target))


def test_pickles_are_never_executed(here):
    bomb = pickle.dumps(Bomb())
    for name in ("a.npy", "a.npz", "a.npy.gz", "a.pt", "a.bin", "a.safetensors", "a.pkl"):
        path = here / name
        path.write_bytes(gzip.compress(bomb) if name.endswith(".gz") else bomb)
        for read in (read_array, read_features, load_state_dict, load):
            with pytest.raises(InputError, match="a\\."):
                read(path)
    np.savez(here / "objects.npz", features=np.array([Bomb()], dtype=object), labels=np.arange(1))
    torch.save({"state_dict": {"weight": Bomb()}}, here / "bomb.pt")
    with zipfile.ZipFile(here / "nested.npz", "w") as archive:
        archive.write(here / "objects.npz", "features.npy")
        archive.write(here / "bomb.pt", "data.pkl")
    for name in ("objects.npz", "bomb.pt"):
        with pytest.raises(UnsafeFileError, match=name):
            (load_state_dict if name == "bomb.pt" else read_features)(here / name)
    with pytest.raises(UnsafeFileError, match=r"nested\.npz"):
        read_features(here / "nested.npz")
    folder = here / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps({b"data": Bomb(), b"labels": [1]}))
    with pytest.raises(UnsafeFileError, match="data_batch_1"):
        cifar10(here)


@pytest.mark.parametrize("protocol", [0, 2])
def test_arrays_of_pointers_in_a_pickle_of_numbers_are_refused(here, protocol):
    # Eight bytes read as the address of a Python object would end the process, or worse.
    array = np.zeros((1, 3072), dtype=np.uint8)
    content = pickle.dumps({b"data": array, b"labels": [1]}, protocol=protocol)
    assert b"u1" in content
    folder = here / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(content.replace(b"u1", b"O8"))
    with pytest.raises(InputError, match="data_batch_1"):
        cifar10(here)


def test_headers_that_claim_more_than_there_is_are_refused_before_anything_is_allocated(tmp_path, small_memory):
    claim = header_of((MANY,)) + bytes(80)
    (tmp_path / "a.npy").write_bytes(claim)
    (tmp_path / "b.npy.gz").write_bytes(gzip.compress(claim))
    for name, method in (("c.npz", zipfile.ZIP_STORED), ("d.npz", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", method) as archive:
            archive.writestr("features.npy", header_of((10**6, 10**6), "<f4") + bytes(80))
            archive.writestr("labels.npy", claim)
    for name in ("a.npy", "b.npy.gz", "c.npz", "d.npz"):
        with pytest.raises(InputError, match=name):
            read_array(tmp_path / name, key="labels" if name.endswith("npz") else None)
    for name in ("c.npz", "d.npz"):
        with pytest.raises(InputError, match=name):
            read_features(tmp_path / name)
    header = json.dumps({"features": {"dtype": "F32", "shape": [MANY, 4], "data_offsets": [0, 16 * MANY]}}).encode()
    (tmp_path / "e.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    for read in (read_features, load_state_dict):
        with pytest.raises(InputError, match=r"e\.safetensors"):
            read(tmp_path / "e.safetensors")


def test_bombs_are_refused_before_memory_is_full(tmp_path, small_memory):
    zeros = bytes(1 << 20)
    with gzip.open(tmp_path / "bomb.npy.gz", "wb", compresslevel=1) as file:
        file.write(header_of((2**25,)))
        for _ in range(256):
            file.write(zeros)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("features", "data/archive"):
            with archive.open(f"{name}.npy", "w") as member:
                member.write(header_of((2**21, 16)))
                for _ in range(256):
                    member.write(zeros)
        archive.writestr("labels.npy", header_of((0,)))
    for read in (read_array, read_features):
        with pytest.raises(InputError, match=r"fits into memory.*bomb\.np"):
            read(tmp_path / ("bomb.npz" if read is read_features else "bomb.npy.gz"))
    with pytest.raises(InputError, match=r"fits into memory.*bomb\.npz"):
        read_array(tmp_path / "bomb.npz")


def test_constant_columns_and_large_pictures_are_bombs_too(tmp_path, small_memory):
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.array(np.zeros(2_000_000, dtype=np.int8))
    table = pa.table({"user": column, "item": column, "rating": column})
    pq.write_table(table, tmp_path / "many.parquet", compression="zstd")
    assert (tmp_path / "many.parquet").stat().st_size < 30_000
    with pytest.raises(InputError, match=r"got 48,000,000 bytes unpacked"):
        read_triples(tmp_path / "many.parquet")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(6_000_000, dtype=np.int8)).cast(pa.float32()), 3)
    pq.write_table(pa.table({"features": lists, "labels": column}), tmp_path / "wide.parquet", compression="zstd")
    with pytest.raises(InputError, match=r"fits into memory.*wide\.parquet"):
        read_features(tmp_path / "wide.parquet")
    side = 6_000
    rows = zlib.compress((b"\x00" + bytes(side)) * side, 1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    for read in (read_image, read_movie):
        with pytest.raises(InputError, match=r"got 288,000,000 bytes unpacked"):
            read(tmp_path / "large.png")


def test_memory_is_that_of_the_machine_the_container_or_the_process(monkeypatch, tmp_path):
    whole = memory.memory_bytes()
    assert 1 << 26 < whole <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (tmp_path / "memory.max").write_text("123456\n")
    monkeypatch.setattr(memory, "_CONTAINER", (tmp_path / "none", tmp_path / "memory.max"))
    assert memory.memory_bytes() == 123_456
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 27, -1))
    assert memory.memory_bytes() == 1 << 27
    memory.check_fits(1 << 26, tmp_path)
    with pytest.raises(InputError, match=r"67,108,865 bytes unpacked, more than half of 134,217,728"):
        memory.check_fits((1 << 26) + 1, tmp_path)


@pytest.mark.timeout(20)
def test_a_tiff_whose_pages_go_round_in_a_circle_ends(tmp_path):
    from PIL import Image

    buffer = io.BytesIO()
    page = Image.fromarray(np.zeros((4, 4), dtype=np.uint8))
    page.save(buffer, "TIFF", save_all=True, append_images=[page])
    data = bytearray(buffer.getvalue())
    first = int.from_bytes(data[4:8], "little")
    last = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[last : last + 4] = first.to_bytes(4, "little")
    (tmp_path / "circle.tif").write_bytes(data)
    with perhaps_refused("circle.tif"):
        assert read_movie(tmp_path / "circle.tif").shape[1:] == (4, 4)


def test_a_file_that_cannot_be_finished_leaves_what_was_there(tmp_path):
    path = tmp_path / "kept.csv"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"a place to write .*kept\.csv; got No space left.*free space"):
        replace_file(path, fail)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("kept.csv", "old")]
    replace_file(path, lambda partial: partial.write_text("new"))
    assert path.read_text() == "new"
    assert is_file(path)
    assert not is_file(tmp_path)
    assert not is_file(tmp_path / ("x" * 300))
