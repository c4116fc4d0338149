"""Tables of triples and drug-target matrices."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.data.ratings import drug_targets, read_pairs, read_triples, write_triples

LINES = "user,item,rating,when\nann,10,4.5,1\nbob,9,1,2\nann,9,3,3\n"


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet"])
def test_every_kind_of_table_is_read_alike(tmp_path, kind):
    path = tmp_path / f"ratings.{kind}"
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(LINES.encode()))
    elif kind == "parquet":
        columns = {"user": ["ann", "bob", "ann"], "item": [10, 9, 9], "rating": [4.5, 1.0, 3.0]}
        write_triples(path, {name: np.array(values) for name, values in columns.items()})
    else:
        path.write_text(LINES if kind == "csv" else LINES.replace(",", "\t"))
    found = read_triples(path)
    assert found.shape == (2, 2)
    assert len(found) == 3
    assert found.row_names.tolist() == ["ann", "bob"]
    # Numbers are sorted as numbers, so that 9 comes before 10.
    assert found.column_names.tolist() == [9, 10]
    assert found.rows.tolist() == [0, 1, 0]
    assert found.columns.tolist() == [1, 0, 0]
    assert found.values.tolist() == [4.5, 1.0, 3.0]


def test_columns_are_found_by_name(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(LINES)
    found = read_triples(path, row="item", column="user", value="when")
    assert found.row_names.tolist() == [9, 10]
    assert found.values.tolist() == [1.0, 2.0, 3.0]
    (rows, names), (columns, _) = read_pairs(path, row="item", column="user")
    assert names[rows].tolist() == [10, 9, 9]
    assert columns.tolist() == [0, 1, 0]


def test_names_stay_as_they_are_written(tmp_path):
    """Text that looks like a number or like a missing value may be a name, and predictions are to be joined by it."""
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n0010,NA,1\n0009,nan,2\n9,x,3\n")
    found = read_triples(path)
    assert found.row_names.tolist() == ["0009", "0010", "9"]
    assert found.rows.tolist() == [1, 0, 2]
    assert found.column_names.tolist() == ["NA", "nan", "x"]
    path.write_text("user, item, rating\n10, 2.5, 1\n9, 1.0, 2\n")
    found = read_triples(path, value="rating")
    assert found.row_names.tolist() == [9, 10]
    assert found.column_names.tolist() == [1.0, 2.5]
    # A column without a name is taken where there is no doubt, and numbers may be names of columns asked for.
    path.write_text(",item,2019\nann,x,1\n")
    assert read_triples(path, value="2019").row_names.tolist() == ["ann"]


def test_what_is_written_is_read_back_to_the_last_digit(tmp_path):
    values = np.random.default_rng(0).normal(size=20)
    for name in ("a.csv", "a.parquet"):
        write_triples(tmp_path / name, {"r": np.arange(20), "c": np.arange(20), "x": values})
        assert np.array_equal(read_triples(tmp_path / name).values, values)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "user,item\nx,y\n", "at least 3 columns"),
        ("a.csv", "user,item,rating\n", "at least one entry"),
        ("a.csv", "user,item,rating\nx,y,good\n", "the first 'good' in entry 1"),
        ("a.csv", "user,item,rating\nx,y,1\nz,y,inf\n", "1 other values"),
        ("a.csv", "user,item,rating\nx,,1\n", "a name in every line"),
        ("a.csv", "", "a readable table"),
        ("a.parquet", "no parquet", "a readable table"),
        ("a.xlsx", "", "a .csv, .tsv or .parquet"),
        ("a.csv", "ann,x,3.5\nbob,y,1\n", "a first line of names"),
        ("a.csv", ",user,item,rating\n0,ann,x,3.5\n", "a name for the first column"),
        ("a.csv", "user,item,rating\nann,x,3,5\nbob,y,4,5\n", "more values than names"),
        ("a.csv", "user,item,rating\nann,x,\nbob,y,1\n", "1 other values, the first '' in entry 1. Remove"),
        ("a.csv", "user,item,rating\nann,x,a\nbob,y,b\n", "2 other values.*Name the column"),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_triples(tmp_path / name)


def test_missing_files_and_columns_are_refused(tmp_path):
    with pytest.raises(InputError, match="a readable table"):
        read_triples(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text(LINES)
    with pytest.raises(InputError, match="Choose from user, item, rating, when"):
        read_triples(tmp_path / "a.csv", value="stars")


def test_drug_targets_are_read_from_a_folder(tmp_path):
    (tmp_path / "dti").mkdir()
    table = "\tD1\tD2\tD3\nt1\t0\t1\t0\nt2\t1\t0\t0\n"
    (tmp_path / "dti" / "nr_admat_dgc.txt.gz").write_bytes(gzip.compress(table.encode()))
    found = drug_targets("nr", root=tmp_path)
    assert found.targets == ("t1", "t2")
    assert found.drugs == ("D1", "D2", "D3")
    assert found.matrix.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    with pytest.raises(InputError, match="one of nr"):
        drug_targets("proteins", root=tmp_path)
    (tmp_path / "dti" / "ic_admat_dgc.txt").write_text(table.replace("\t1\t", "\t7\t"))
    with pytest.raises(InputError, match="zeros and ones"):
        drug_targets("ic", root=tmp_path)


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [("nr", (26, 54), 90), ("gpcr", (95, 223), 635), ("ic", (204, 210), 1476), ("e", (664, 445), 2926)],
)
def test_the_published_matrices(name, shape, count):
    found = drug_targets(name)
    assert found.matrix.shape == shape
    assert int(found.matrix.sum()) == count
