from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest
from scipy.io import savemat

from tightframe.core.errors import AmbiguityError, InputError, UnsafeFileError
from tightframe.data.array_files import named_arrays, read_array

VALUES = np.random.default_rng(0).standard_normal((7, 3))


def packed(path):
    """A gzipped copy beside a file."""
    copy = path.with_name(path.name + ".gz")
    copy.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return copy


def written(folder, kind):
    path = folder / f"file{kind}"
    if kind == ".npy":
        np.save(path, VALUES)
    elif kind == ".npz":
        np.savez(path, data=VALUES, rate=30000.0)
    elif kind == ".mat":
        savemat(path, {"data": VALUES, "rate": 30000.0})
    else:
        np.savetxt(path, VALUES, delimiter=",", fmt="%.17g")
    return path


@pytest.mark.parametrize("kind", [".npy", ".npz", ".mat", ".csv", ".txt"])
@pytest.mark.parametrize("gzipped", [False, True])
def test_every_format_brings_back_what_was_written(tmp_path, kind, gzipped):
    path = written(tmp_path, kind)
    read = read_array(packed(path) if gzipped else path)
    # Some versions of pandas read text to within the last bit.
    np.testing.assert_allclose(read, VALUES, rtol=4e-16 if kind in (".csv", ".txt") else 0)


def test_a_plain_npy_is_mapped_and_cannot_be_written(tmp_path):
    array = read_array(written(tmp_path, ".npy"))
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1.0


def test_upper_case_names_and_strings_for_paths_are_read(tmp_path):
    path = tmp_path / "FILE.NPY"
    with path.open("wb") as file:
        np.save(file, VALUES)
    np.testing.assert_array_equal(read_array(str(path)), VALUES)


@pytest.mark.parametrize("header", ["time,voltage,x", "0,1,2", '"a","b","c"'])
def test_a_line_of_names_is_no_data(tmp_path, header):
    path = tmp_path / "file.csv"
    path.write_text(f"{header}\n1,2,3\n4,,6\n")
    np.testing.assert_array_equal(read_array(path), [[1, 2, 3], [4, np.nan, 6]])


def test_numbers_that_do_not_count_are_data(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("0,1,3\n4,5,6\n")
    assert read_array(path).shape == (2, 3)
    path.write_text("0\n1\n")
    np.testing.assert_array_equal(read_array(path), [[0], [1]])


@pytest.mark.parametrize("write", [np.savez, lambda path, **arrays: savemat(path, arrays)])
def test_several_arrays_need_a_key_and_are_listed(tmp_path, write):
    path = tmp_path / ("file.npz" if write is np.savez else "file.mat")
    write(path, first=VALUES, second=VALUES[:2], label="text")
    with pytest.raises(AmbiguityError, match=r"first 7x3, second 2x3.*key"):
        read_array(path)
    np.testing.assert_array_equal(read_array(path, key="second"), VALUES[:2])
    with pytest.raises(InputError, match=r"'third'.*first, second"):
        read_array(path, key="third")
    assert set(named_arrays(path)) == {"first", "second"}


def test_a_key_for_a_format_without_names_is_refused(tmp_path):
    with pytest.raises(InputError, match="key"):
        read_array(written(tmp_path, ".npy"), key="data")


class Bomb:
    """Unpickling this raises an error that no test expects."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was executed')",)


def test_pickles_are_refused_and_never_executed(tmp_path):
    named = tmp_path / "file.pkl"
    disguised = tmp_path / "file.npy"
    for path in (named, disguised):
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(UnsafeFileError):
            read_array(path)
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([Bomb()], dtype=object), allow_pickle=True)
    inside = tmp_path / "objects.npz"
    np.savez(inside, data=np.array([Bomb()], dtype=object))
    for path in (objects, inside):
        with pytest.raises(UnsafeFileError, match="executing code"):
            read_array(path)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".mat"])
@pytest.mark.parametrize("gzipped", [False, True])
def test_a_cut_off_file_is_named_in_the_error(tmp_path, kind, gzipped):
    path = written(tmp_path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    path = packed(path) if gzipped else path
    with pytest.raises(InputError, match=f"file{kind}"):
        read_array(path)


def test_a_cut_off_gzip_file_is_named_in_the_error(tmp_path):
    path = packed(written(tmp_path, ".npy"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"file.npy.gz"):
        read_array(path)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".mat", ".csv"])
def test_an_empty_or_missing_file_says_so(tmp_path, kind):
    path = tmp_path / f"file{kind}"
    with pytest.raises(InputError, match="No such file"):
        read_array(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_array(path)


def test_words_below_the_names_are_refused(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("a,b\n1,2\nthree,4\n")
    with pytest.raises(InputError, match="three"):
        read_array(path)


def test_other_things_than_real_numbers_are_refused(tmp_path):
    path = tmp_path / "file.npy"
    for content in (VALUES + 1j, np.array(["a", "b"]), np.empty((0, 3))):
        np.save(path, content)
        with pytest.raises(InputError, match="real numbers"):
            read_array(path)
    with pytest.raises(InputError, match=r"npz, \.mat"):
        read_array(tmp_path / "file.wav")


def test_a_mat_file_of_version_7_3_is_told_apart(tmp_path):
    path = tmp_path / "file.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(512))
    with pytest.raises(InputError, match=r"7\.3.*-v7"):
        read_array(path)
