from __future__ import annotations

import json
import os
import pickle
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from tightframe.core.errors import InputError, UnsafeFileError
from tightframe.core.rng import generator
from tightframe.features.shards import FeatureShards
from tightframe.features.store import read_features, write_features

SUFFIXES = (".npz", ".safetensors", ".parquet")


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(0)).to(dtype)


LABELS = torch.tensor([0, 2, 1, 2, 0])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_is_written_is_read_exactly(tmp_path, suffix, dtype):
    h, w, b = normal(5, 4, dtype=dtype), normal(3, 4), normal(3)
    path = write_features(tmp_path / f"h{suffix}", h, LABELS, weight=w, bias=b)
    content = read_features(path)
    assert content.features.dtype == dtype
    assert torch.equal(content.features, h)
    assert content.labels.dtype == torch.int64
    assert torch.equal(content.labels, LABELS)
    assert torch.equal(content.weight, w.to(content.weight.dtype))
    assert torch.equal(content.bias, b.to(content.bias.dtype))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_classifier_may_be_absent_and_arrays_are_as_good_as_tensors(tmp_path, suffix):
    h = normal(5, 4).numpy()
    content = read_features(write_features(tmp_path / f"h{suffix}", h.T.copy().T, LABELS.numpy().astype(np.uint8)))
    assert content.weight is None
    assert content.bias is None
    assert np.array_equal(content.features.numpy(), h)
    content = read_features(write_features(tmp_path / f"w{suffix}", h, LABELS, weight=normal(3, 4)))
    assert content.bias is None


def test_bfloat16_goes_to_safetensors_only(tmp_path):
    h = normal(5, 4, dtype=torch.bfloat16)
    assert torch.equal(read_features(write_features(tmp_path / "h.safetensors", h, LABELS)).features, h)
    for suffix in (".npz", ".parquet"):
        with pytest.raises(InputError, match=r"got bfloat16\. Write \.safetensors"):
            write_features(tmp_path / f"h{suffix}", h, LABELS)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_features_are_mapped_and_the_file_is_never_changed(tmp_path, suffix):
    path = write_features(tmp_path / f"h{suffix}", normal(5, 4), LABELS)
    before = path.read_bytes()
    content = read_features(path)
    content.features.zero_()
    assert path.read_bytes() == before
    if sys.platform == "linux":
        large = write_features(
            tmp_path / f"large{suffix}", torch.zeros(2**16, 64), torch.zeros(2**16, dtype=torch.int64)
        )
        content = read_features(large)
        with open("/proc/self/maps") as maps:
            assert any(line.rstrip().endswith(large.name) for line in maps)
        assert not content.features.any()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "<f2"])
def test_npz_files_of_every_layout(tmp_path, save, order, kind):
    h = np.asarray(normal(5, 4).numpy(), dtype=kind, order=order)
    save(tmp_path / "h.npz", features=h, label=LABELS.numpy(), other=np.ones(3))
    content = read_features(tmp_path / "h.npz")
    assert np.array_equal(content.features.numpy(), h)
    assert torch.equal(content.labels, LABELS)


@pytest.mark.parametrize("kind", [pyarrow.list_(pyarrow.float32()), pyarrow.large_list(pyarrow.float64())])
def test_parquet_files_with_lists_metadata_and_many_row_groups(tmp_path, kind):
    h = normal(5, 4)
    table = pyarrow.table(
        {"features": pyarrow.array(h.tolist(), kind), "label": LABELS.tolist(), "text": list("abcde")},
        metadata={"weight": json.dumps([[1.5, 0, 0, 0]] * 3), "bias": "[0, 1, 2]"},
    )
    pyarrow.parquet.write_table(table, tmp_path / "h.parquet", row_group_size=2)
    content = read_features(tmp_path / "h.parquet")
    assert torch.equal(content.features.float(), h)
    assert torch.equal(content.labels, LABELS)
    assert content.weight.tolist() == [[1.5, 0, 0, 0]] * 3
    assert content.bias.tolist() == [0, 1, 2]


def test_the_content_decides_and_not_the_name(tmp_path):
    for suffix in SUFFIXES:
        path = write_features(tmp_path / f"h{suffix}", normal(5, 4), LABELS)
        other = path.rename(tmp_path / f"{suffix[1:]}.data")
        assert torch.equal(read_features(other).features, normal(5, 4))


def test_a_safetensors_header_whose_length_looks_like_a_pickle(tmp_path):
    for spaces in range(0, 256, 8):
        save_file({"features": normal(5, 4), "labels": LABELS}, tmp_path / "h.safetensors", {"pad": " " * spaces})
        assert torch.equal(read_features(tmp_path / "h.safetensors").labels, LABELS)


def test_integral_floats_columns_and_ignored_rows_of_labels(tmp_path):
    np.savez(tmp_path / "h.npz", features=normal(5, 4).numpy(), labels=np.array([[0.0], [2], [-100], [1], [-100]]))
    content = read_features(tmp_path / "h.npz")
    assert content.labels.tolist() == [0, 2, 1]
    assert torch.equal(content.features, normal(5, 4)[[0, 1, 3]])


GOOD = {"features": np.ones((5, 4), np.float32), "labels": LABELS.numpy()}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((5, 4))}, r"h\.npz without labels"),
        ({"h": np.ones((5, 4)), "y": np.ones(5)}, "without features and labels"),
        (GOOD | {"features": np.ones((5, 2, 2))}, r"features is a floating-point matrix.*shape \(5, 2, 2\)"),
        (GOOD | {"features": np.ones(5)}, r"shape \(5,\)"),
        (GOOD | {"features": np.ones((5, 4), int)}, "dtype torch.int64.*convert to float32"),
        (GOOD | {"features": np.ones((5, 4), complex)}, "dtype torch.complex128"),
        (GOOD | {"features": np.array([["a"]])}, "features is an array of numbers; got dtype <U1"),
        (GOOD | {"features": np.ones((0, 4)), "labels": np.ones(0, int)}, r"shape \(0, 4\)"),
        (GOOD | {"labels": np.array([0, 1, 2])}, r"one label per row of the features, shape \(5,\); got shape \(3,\)"),
        (GOOD | {"labels": np.eye(5)}, "one-hot labels into indices with argmax"),
        (GOOD | {"labels": np.array([0, 1, 0.5, 1, 0])}, "labels are whole numbers"),
        (GOOD | {"labels": np.array([0, 1, np.nan, 1, 0])}, "labels are whole numbers"),
        (GOOD | {"labels": np.array([True] * 5)}, "labels are whole numbers; got dtype torch.bool"),
        (GOOD | {"labels": np.array([0, 1, -1, 1, -2])}, "got 2 negative labels, the first -1"),
        (GOOD | {"labels": np.full(5, -100)}, "only the label -100"),
        (GOOD | {"bias": np.ones(3)}, "a bias comes with its weight"),
        (GOOD | {"weight": np.ones((4, 3))}, r"weight \(k, 4\).*shape \(4, 3\).*transpose"),
        (GOOD | {"weight": np.ones((3, 4)), "bias": np.ones(4)}, r"bias of shape \(4,\)"),
        (GOOD | {"weight": np.ones((2, 4))}, "labels below 2, the rows of the weight; got label 2"),
        (GOOD | {"weight": np.ones(4)}, "weight is a floating-point matrix"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_words(tmp_path, arrays, message):
    np.savez(tmp_path / "h.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_features(tmp_path / "h.npz")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"features": [1.0, 2.0]}, "column 'features' holds lists of numbers; got double"),
        ({"features": [[1.0, 2.0], [3.0]]}, "lists of one length; got lengths from 1 to 2"),
        ({"features": [[1.0, 2.0], None]}, "lists of one length; got missing rows"),
        ({"features": [[1.0, 2.0], [None, 1.0]]}, "column 'features' is complete; got 1 missing values"),
        ({"features": [[1.0], [2.0]], "labels": [1, None]}, "column 'labels' is complete"),
        ({"features": [["a"], ["b"]]}, "features is an array of numbers; got dtype object"),
    ],
)
def test_parquet_columns_that_do_not_fit_are_refused_in_words(tmp_path, columns, message):
    pyarrow.parquet.write_table(pyarrow.table({"labels": [0, 1]} | columns), tmp_path / "h.parquet")
    with pytest.raises(InputError, match=message):
        read_features(tmp_path / "h.parquet")


class Bomb:
    def __reduce__(self):
        return sys.exit, ("a pickle was executed",)


def test_pickles_of_every_dress_are_refused(tmp_path):
    features = np.empty(1, object)
    features[0] = Bomb()
    np.savez(tmp_path / "objects.npz", features=features, labels=np.zeros(1, int))
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "disguised.npz").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(Bomb(), protocol=0))
    torch.save({"features": torch.ones(2, 2)}, tmp_path / "torch.pt")
    torch.save({"features": torch.ones(2, 2)}, tmp_path / "torch.safetensors")
    torch.save({"features": torch.ones(2, 2)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        with pytest.raises(UnsafeFileError, match=r"can run code when it is read.*numpy\.savez\(path, features="):
            read_features(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_refused_in_words(tmp_path, suffix):
    path = write_features(tmp_path / f"h{suffix}", normal(50, 40), torch.arange(50))
    content = path.read_bytes()
    for cut in (1, 9, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=rf"a readable file.*h\{suffix}, damaged or cut off"):
            read_features(path)
    path.write_bytes(b"nonsense" * 20)
    with pytest.raises(InputError, match="damaged or cut off"):
        read_features(path)


def test_other_files_are_refused_in_words(tmp_path):
    with pytest.raises(InputError, match=r"got nothing at .*Check the path"):
        read_features(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="got a directory at"):
        read_features(tmp_path)
    (tmp_path / "empty.npz").touch()
    with pytest.raises(InputError, match=r"empty\.npz, which is empty"):
        read_features(tmp_path / "empty.npz")
    (tmp_path / "table.csv").write_text("features,labels\n1,0\n")
    with pytest.raises(InputError, match=r"table\.csv, which is none of these.*numpy\.savez"):
        read_features(tmp_path / "table.csv")


def test_writing_where_it_cannot_be_done_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.npz, \.safetensors, \.parquet; got 'h\.csv'"):
        write_features(tmp_path / "h.csv", normal(5, 4), LABELS)
    for suffix in SUFFIXES:
        with pytest.raises(InputError, match=r"a place to write .*absent"):
            write_features(tmp_path / "absent" / f"h{suffix}", normal(5, 4), LABELS)
    with pytest.raises(InputError, match=r"at most 4000000 numbers in parquet metadata"):
        write_features(tmp_path / "h.parquet", normal(5, 2001), LABELS, weight=torch.zeros(2000, 2001))
    with pytest.raises(InputError, match="one label per row"):
        write_features(tmp_path / "h.npz", normal(5, 4), LABELS[:3])
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    path = write_features(tmp_path / "h.npz", normal(5, 4), LABELS)
    before = path.read_bytes()

    def full(file, **arrays):
        with open(file, "wb") as handle:
            handle.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match=r"No space left on device.*free space"):
        write_features(path, normal(6, 4), torch.zeros(6, dtype=torch.int64))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["h.npz"]


# Shards


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shards_give_back_what_was_appended_in_order(tmp_path, dtype):
    h, y = normal(23, 4, dtype=dtype), torch.arange(23) % 5
    with FeatureShards.create(tmp_path / "s", features=4, dtype=dtype, shard_rows=6) as writer:
        for a, b in zip(h.split(5), y.split(5), strict=True):
            writer.append(a, b.int())
    shards = FeatureShards.open(tmp_path / "s")
    assert len(shards) == 23
    assert (shards.features, shards.dtype) == (4, dtype)
    assert len(list((tmp_path / "s").glob("shard-*"))) == 4
    for rows in (1, 4, 6, 100):
        blocks = list(shards.blocks(rows))
        assert max(len(y) for _, y in blocks) <= rows
        assert torch.equal(torch.cat([a for a, _ in blocks]), h)
        assert torch.equal(torch.cat([b for _, b in blocks]), y)


def test_shards_are_finished_before_they_are_read(tmp_path):
    with pytest.raises(InputError, match=r"finished shards in .* got none"):
        FeatureShards.open(tmp_path / "absent")
    writer = FeatureShards.create(tmp_path / "s", features=4, shard_rows=2)
    writer.append(normal(5, 4), LABELS)
    with pytest.raises(InputError, match=r"got unfinished ones.*up to finish\(\)"):
        FeatureShards.open(tmp_path / "s")
    assert len(writer.finish()) == 5
    with pytest.raises(InputError, match="still open; got finished ones"):
        writer.append(normal(5, 4), LABELS)
    with pytest.raises(InputError, match="still open"):
        writer.finish()


def test_an_exception_leaves_shards_unfinished(tmp_path):
    writer = FeatureShards.create(tmp_path / "s", features=4, shard_rows=2)
    writer.append(normal(5, 4), LABELS)
    with pytest.raises(ZeroDivisionError), writer:
        raise ZeroDivisionError
    with pytest.raises(InputError, match="unfinished"):
        FeatureShards.open(tmp_path / "s")


def test_shards_need_a_place_of_their_own(tmp_path):
    (tmp_path / "other").touch()
    with pytest.raises(InputError, match="an empty place for the shards"):
        FeatureShards.create(tmp_path, features=4)
    with pytest.raises(InputError, match="an empty place"):
        FeatureShards.create(tmp_path / "other", features=4)
    with pytest.raises(InputError, match=r"a place to write .*other"):
        FeatureShards.create(tmp_path / "other" / "s", features=4)


@pytest.mark.parametrize(
    ("h", "y", "message"),
    [
        (normal(5, 3), LABELS, r"features \(n, 4\).*shape \(5, 3\)"),
        (normal(5, 4).long(), LABELS, "dtype torch.int64"),
        (normal(5, 4), LABELS[:4], r"integer labels \(5,\); got dtype torch.int64 and shape \(4,\)"),
        (normal(5, 4), LABELS.float(), "dtype torch.float32"),
        (normal(5, 4), LABELS > 0, "dtype torch.bool"),
    ],
)
def test_batches_that_do_not_fit_are_refused_whole(tmp_path, h, y, message):
    writer = FeatureShards.create(tmp_path / "s", features=4)
    with pytest.raises(InputError, match=message):
        writer.append(h, y)
    with pytest.raises(InputError, match="at least one row"):
        writer.finish()


def test_other_dtypes_and_sizes_of_shards_are_refused(tmp_path):
    with pytest.raises(InputError, match="a dtype among float16, bfloat16, float32, float64"):
        FeatureShards.create(tmp_path / "s", features=4, dtype=torch.int8)
    with pytest.raises(InputError, match="features is an integer of at least 1"):
        FeatureShards.create(tmp_path / "s", features=0)
    with pytest.raises(InputError, match="shard_rows is an integer"):
        FeatureShards.create(tmp_path / "s", features=2, shard_rows=0)
    assert not (tmp_path / "s").exists()


def test_damaged_shards_are_named(tmp_path):
    with FeatureShards.create(tmp_path / "s", features=4, shard_rows=2) as writer:
        writer.append(normal(5, 4), LABELS)
    shards = FeatureShards.open(tmp_path / "s")
    shard = tmp_path / "s" / "shard-00001.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-5])
    with pytest.raises(InputError, match=r"complete shards; got shard-00001\.safetensors"):
        list(shards.blocks(2))
    save_file({"features": normal(2, 3), "labels": LABELS[:2]}, shard)
    with pytest.raises(InputError, match=r"shapes \(2, 3\)"):
        list(shards.blocks(2))
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-00001\.safetensors: missing"):
        FeatureShards.open(tmp_path / "s")
    (tmp_path / "s" / "index.json").write_text("{")
    with pytest.raises(InputError, match=r"index\.json"):
        FeatureShards.open(tmp_path / "s")
