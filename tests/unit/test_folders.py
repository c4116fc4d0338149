from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tightframe.core.errors import InputError
from tightframe.data.labelled.source import load


def picture(path, *, mode="L", size=(6, 4), value=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    if value is not None:
        pixels[:] = value
    Image.fromarray(pixels, mode=mode if mode == "LA" else None).save(path)
    return pixels


def fill(root, *, classes=("ant", "bee"), count=5, **options):
    return {(name, i): picture(root / name / f"{i}.png", seed=i, **options) for name in classes for i in range(count)}


def test_train_and_test_folders(tmp_path):
    pixels = fill(tmp_path / "train", count=3)
    fill(tmp_path / "test", count=2)
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("ant", "bee")
    assert data.shape == (1, 4, 6)
    assert (len(data.train), len(data.test)) == (3 * 2, 2 * 2)
    image, label = data.train[4]
    assert label == 1
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image[0].numpy(), pixels["bee", 1] / 255 * 2 - 1, atol=1e-6)
    assert (data.mean, data.std) == ((0.5,), (0.5,))


def test_the_path_alone_names_a_folder_unless_a_data_set_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "digits"):
        fill(tmp_path / name, count=10)
    for spec in ("photos", "./photos", str(tmp_path / "photos")):
        data = load(spec, limit=4, size=5)
        assert (data.name, data.shape, data.classes, len(data.train)) == ("photos", (1, 5, 5), ("ant", "bee"), 4)
    assert load("digits").shape == (1, 8, 8)
    assert load("./digits").shape == (1, 4, 6)


def test_val_serves_as_test(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", count=1)
    assert len(load(f"folder:{tmp_path}").test) == 2


def test_an_undivided_folder_is_split_in_the_same_way_each_time(tmp_path):
    fill(tmp_path, count=10)
    first, second = load(f"folder:{tmp_path}"), load(f"folder:{tmp_path}")
    assert (len(first.train), len(first.test)) == (16, 4)
    assert torch.bincount(first.test.labels).tolist() == [2, 2]
    assert torch.equal(first.test.places, second.test.places)
    assert sorted([*first.train.places.tolist(), *first.test.places.tolist()]) == list(range(20))


def test_loader_processes_can_read(tmp_path):
    fill(tmp_path, count=10)
    train = load(f"folder:{tmp_path}").train
    alone = torch.cat([x for x, _ in DataLoader(train, batch_size=3)])
    spawned = torch.cat([x for x, _ in DataLoader(train, batch_size=3, num_workers=1)])
    assert torch.equal(alone, spawned)


def test_limit_takes_the_classes_in_turn(tmp_path):
    fill(tmp_path / "train", count=5)
    fill(tmp_path / "test", count=1)
    train = load(f"folder:{tmp_path}", limit=3).train
    assert train.labels.tolist() == [0, 0, 1]
    assert train.places.tolist() == [0, 1, 5]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("LA", 1)])
def test_channels_follow_the_images(tmp_path, mode, channels):
    fill(tmp_path, mode=mode)
    data = load(f"folder:{tmp_path}")
    assert data.shape == (channels, 4, 6)
    assert data.train[0][0].shape == (channels, 4, 6)


def test_one_coloured_class_makes_the_set_coloured(tmp_path):
    fill(tmp_path, classes=("ant",))
    fill(tmp_path, classes=("bee",), mode="RGB")
    data = load(f"folder:{tmp_path}")
    image, label = data.train[0]
    assert label == 0
    assert image.shape == (3, 4, 6)
    assert torch.equal(image[0], image[1])


def test_size_stretches_and_keeps_a_constant_image_constant(tmp_path):
    fill(tmp_path, classes=("ant",), size=(9, 5), value=51)
    fill(tmp_path, classes=("bee",), size=(7, 7), value=51)
    data = load(f"folder:{tmp_path}", size=4)
    assert data.shape == (1, 4, 4)
    for image, _ in data.train:
        torch.testing.assert_close(image, torch.full((1, 4, 4), 51 / 255 * 2 - 1), rtol=0, atol=1e-6)


def test_mixed_sizes_without_a_size_name_the_image_and_the_option(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    picture(tmp_path / "train" / "bee" / "0.png", size=(5, 5))
    train = load(f"folder:{tmp_path}").train
    with pytest.raises(InputError, match=r"6 x 4 as the first one.*0\.png of 5 x 5 pixels.*Set size= \(--size\)"):
        list(train)


@pytest.mark.parametrize("data", [b"", b"no image", None])
def test_damaged_images_are_named(tmp_path, data):
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    path = tmp_path / "train" / "ant" / "3.png"
    path.write_bytes(path.read_bytes()[:-30] if data is None else data)
    train = load(f"folder:{tmp_path}").train
    with pytest.raises(InputError, match=r"an image that can be decoded; got .*3\.png"):
        list(train)


def test_a_damaged_first_image_is_named_at_once(tmp_path):
    fill(tmp_path)
    (tmp_path / "bee" / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"an image that can be decoded; got .*0\.png"):
        load(f"folder:{tmp_path}")


def test_sixteen_bit_images_are_refused_in_words(tmp_path):
    fill(tmp_path)
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(tmp_path / "ant" / "0.png")
    with pytest.raises(InputError, match=r"8 bits a channel.*I;16"):
        load(f"folder:{tmp_path}")


def test_classes_must_agree(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("ant", "cat"))
    with pytest.raises(InputError, match="differing: bee, cat"):
        load(f"folder:{tmp_path}")


def test_empty_class_one_class_and_no_folder(tmp_path):
    with pytest.raises(InputError, match="which is no directory"):
        load(f"folder:{tmp_path / 'none'}")
    with pytest.raises(InputError, match=r"at least two classes in .*; got no folders"):
        load(f"folder:{tmp_path}")
    fill(tmp_path, classes=("ant",))
    with pytest.raises(InputError, match="got ant"):
        load(f"folder:{tmp_path}")
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee" / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"none in .*bee"):
        load(f"folder:{tmp_path}")


def test_a_test_folder_without_a_train_folder_is_pointed_out(tmp_path):
    fill(tmp_path / "test")
    with pytest.raises(InputError, match="a folder train/ beside test/"):
        load(f"folder:{tmp_path}")


def test_impossible_size(tmp_path):
    fill(tmp_path)
    with pytest.raises(InputError, match="size=0"):
        load(f"folder:{tmp_path}", size=0)
