from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.data.labelled.idx import mnist, read_idx
from tightframe.data.labelled.source import load

FILES = {
    "train-images-idx3-ubyte": (12, 28, 28),
    "train-labels-idx1-ubyte": (12,),
    "t10k-images-idx3-ubyte": (5, 28, 28),
    "t10k-labels-idx1-ubyte": (5,),
}


def encoded(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        name: random.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8) for name, shape in FILES.items()
    }


def write(folder, *, packed: bool = False, dotted: bool = False) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    for name, array in arrays().items():
        data = encoded(array)
        shown = name.replace("-idx", ".idx") if dotted else name
        (folder / (shown + ".gz" if packed else shown)).write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return arrays()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "fashion_mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_both_sets_are_found_in_the_usual_places(tmp_path, name, folder, packed, dotted):
    expected = write(tmp_path / folder, packed=packed, dotted=dotted)
    data = load(name, root=tmp_path)
    assert data.shape == (1, 28, 28)
    assert len(data.classes) == 10
    pixels = (data.train.images * data.std[0] + data.mean[0]) * 255
    # float32 of values up to 255 after four roundings.
    np.testing.assert_allclose(pixels[:, 0].numpy(), expected["train-images-idx3-ubyte"], atol=1e-3)
    assert data.test.labels.tolist() == expected["t10k-labels-idx1-ubyte"].tolist()


def test_a_missing_file_lists_the_places(tmp_path):
    write(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz; got none in .*mnist, .*MNIST"):
        mnist(tmp_path, "mnist")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty one"),
        (b"\x00\x00\x08", "3 bytes that begins with 00 00 08"),
        (b"\x00\x00\x0d\x01" + b"\0" * 8, "begins with 00 00 0d 01"),
        (encoded(np.zeros((2, 2), np.uint8)), "begins with 00 00 08 02"),
        (encoded(np.zeros(9, np.uint8))[:-1], r"9 bytes for shape \(9,\).*got 8"),
        (encoded(np.zeros(9, np.uint8)) + b"\0", "got 10"),
        (gzip.compress(encoded(np.zeros(900, np.uint8)), mtime=0)[:-9], "a readable idx file"),
        (b"\x1f\x8b\x08\x00 not gzip at all", "a readable idx file"),
        (b"<html>404: not found</html>", "begins with 3c 68 74 6d"),
    ],
)
def test_damaged_and_other_files_are_named(tmp_path, data, message):
    path = tmp_path / "labels"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_idx(path, dimensions=1)
    assert str(path) in str(caught.value)


def test_a_directory_instead_of_a_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="a readable idx file"):
        read_idx(tmp_path, dimensions=1)


@pytest.mark.parametrize("labels", [np.zeros(11, np.uint8), np.full(12, 10, np.uint8)])
def test_labels_that_do_not_belong_to_the_images_are_refused(tmp_path, labels):
    write(tmp_path / "mnist")
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(encoded(labels))
    with pytest.raises(InputError, match=r"labels the images of .* with 0\.\.9"):
        mnist(tmp_path, "mnist")


def test_training_and_test_images_of_two_sizes_are_refused(tmp_path):
    write(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte").write_bytes(encoded(np.zeros((5, 14, 14), np.uint8)))
    with pytest.raises(InputError, match="images of one size"):
        mnist(tmp_path, "mnist")


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
def test_the_real_fashion_mnist_has_the_stated_statistics():
    data = load("fashion-mnist")
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert torch.bincount(data.train.labels).tolist() == [6000] * 10
    # The stated constants have four digits, in units of a standard deviation of 0.353.
    assert abs(data.train.images.double().mean()) < 3e-4
    assert abs(data.train.images.double().std() - 1) < 3e-4
