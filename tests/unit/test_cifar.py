from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from tightframe.core.errors import InputError, UnsafeFileError
from tightframe.data.labelled.cifar import cifar10
from tightframe.data.labelled.source import load

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    return {
        name: (random.integers(0, 256, (4, 3072), dtype=np.uint8), random.integers(0, 10, 4, dtype=np.uint8))
        for name in (*TRAIN, "test_batch")
    }


def write_binary(folder):
    folder.mkdir(parents=True)
    for name, (pixels, labels) in batches().items():
        (folder / f"{name}.bin").write_bytes(np.column_stack([labels, pixels]).tobytes())


def write_pickled(folder, *, protocol=2, keys=bytes):
    folder.mkdir(parents=True)
    for name, (pixels, labels) in batches().items():
        content = {"data": pixels, "labels": labels.tolist(), "batch_label": "batch", "filenames": ["a"] * 4}
        if keys is bytes:
            content = {key.encode(): value for key, value in content.items()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))


def common_start(images: list[bytes]) -> bytes:
    length = next(i for i, values in enumerate(zip(*images, strict=False)) if len(set(values)) > 1)
    return images[0][:length]


def jpeg(seed: int) -> bytes:
    smooth = np.linspace(0, 255, 32)[:, None, None] * np.random.default_rng(seed).random(3)
    buffer = io.BytesIO()
    Image.fromarray(np.broadcast_to(smooth, (32, 32, 3)).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_jpegs(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        images = [jpeg(seed) for seed in range(3)]
        common = common_start(images)
        tails = [image[len(common) :] for image in images]
        content = {
            "header": np.frombuffer(common, np.uint8),
            "payload": np.frombuffer(b"".join(tails), np.uint8),
            "length": np.array([len(tail) for tail in tails], np.uint16),
            "label": np.array([0, 9, 3], np.uint8),
        }
        np.savez(folder / f"cifar10_{part}_jpeg.npz", **content | changes)


def check_pixels(data):
    for part, names in ((data.train, TRAIN), (data.test, ["test_batch"])):
        pixels = np.concatenate([batches()[name][0] for name in names]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([batches()[name][1] for name in names])
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (data.mean, data.std))
        # float32 of values up to 255 after four roundings.
        np.testing.assert_allclose(((part.images * std + mean) * 255).numpy(), pixels, atol=1e-3)
        assert part.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("inside", ["", "cifar10"])
def test_binary_version(tmp_path, inside):
    write_binary(tmp_path / inside / "cifar-10-batches-bin")
    check_pixels(load("cifar10", root=tmp_path))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("keys", [bytes, str])
def test_python_version_in_every_protocol(tmp_path, protocol, keys):
    write_pickled(tmp_path / "cifar-10-batches-py", protocol=protocol, keys=keys)
    check_pixels(cifar10(tmp_path))


def test_jpeg_version(tmp_path):
    write_jpegs(tmp_path / "cifar10")
    data = cifar10(tmp_path)
    assert data.train.labels.tolist() == [0, 9, 3]
    with Image.open(io.BytesIO(jpeg(1))) as image:
        expected = np.asarray(image).transpose(2, 0, 1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std))
    np.testing.assert_allclose(((data.train.images[1] * std + mean) * 255).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_that_execute_code_are_refused_and_not_executed(tmp_path, protocol):
    write_pickled(tmp_path / "cifar-10-batches-py")
    bomb = pickle.dumps({b"data": Bomb(tmp_path / "boom")}, protocol=protocol)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(bomb)
    with pytest.raises(UnsafeFileError, match=r"data_batch_2: the name \w+\.open.*binary version"):
        cifar10(tmp_path)
    assert not (tmp_path / "boom").exists()


def test_harmless_classes_of_the_standard_library_are_refused_too(tmp_path):
    write_pickled(tmp_path / "cifar-10-batches-py")
    content = pickle.dumps({b"data": np.float64, b"labels": []})
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
    with pytest.raises(UnsafeFileError, match=r"numpy\.float64"):
        cifar10(tmp_path)


def test_arrays_of_objects_in_npz_files_are_refused(tmp_path):
    write_jpegs(tmp_path, label=np.array([Bomb(tmp_path / "boom")] * 3, dtype=object))
    with pytest.raises(InputError, match=r"cifar10_train_jpeg\.npz.*executing code"):
        cifar10(tmp_path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps([1]), pickle.dumps({b"data": [1]})])
def test_damaged_pickles_are_input_errors(tmp_path, content):
    write_pickled(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match=r"a whole file of CIFAR-10 at .*test_batch") as caught:
        cifar10(tmp_path)
    assert not isinstance(caught.value, UnsafeFileError)


def test_pickles_of_other_arrays_are_input_errors(tmp_path):
    write_pickled(tmp_path / "cifar-10-batches-py")
    content = pickle.dumps({b"data": np.zeros((4, 3072)), b"labels": [0] * 4})
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(InputError, match="data of type float64"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"\0" * 3072, "not a multiple of 3073"), (b"", "0 labels"), (b"\x0b" + b"\0" * 3072, "to 11")],
)
def test_damaged_binary_files_are_input_errors(tmp_path, data, message):
    write_binary(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin").write_bytes(data)
    with pytest.raises(InputError, match=rf"data_batch_4\.bin.*{message}"):
        cifar10(tmp_path)


def test_a_missing_part_is_named(tmp_path):
    write_binary(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    with pytest.raises(InputError, match=r"test_batch\.bin; got No such file"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"payload": np.zeros(5, np.uint8)}, "5 bytes of images"),
        ({"label": np.zeros(2, np.uint8)}, "2 labels"),
        ({"header": np.zeros(3, np.uint8)}, "image 0: cannot identify"),
        ({"label": np.full(3, 10, np.uint8)}, "labels from 10 to 10"),
    ],
)
def test_inconsistent_jpeg_files_are_input_errors(tmp_path, changes, message):
    write_jpegs(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        cifar10(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_npz_files_are_input_errors(tmp_path, share):
    write_jpegs(tmp_path)
    path = tmp_path / "cifar10_train_jpeg.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"cifar10_train_jpeg\.npz"):
        cifar10(tmp_path)


def test_nothing_there_lists_the_layouts(tmp_path):
    with pytest.raises(InputError, match="cifar-10-batches-bin/, cifar-10-batches-py/ or cifar10_train_jpeg"):
        cifar10(tmp_path)


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
def test_the_real_cifar10_is_balanced_and_has_about_the_stated_statistics():
    data = load("cifar10")
    assert torch.bincount(data.train.labels).tolist() == [5000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    # The JPEG copy is lossy: its mean error is 5.8/255, so its mean may differ by some tenths of a percent.
    assert data.train.images.mean((0, 2, 3)).abs().max() < 0.01
    assert (data.train.images.std((0, 2, 3)) - 1).abs().max() < 0.02
