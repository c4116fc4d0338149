from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tightframe.core.errors import AmbiguityError, InputError, MissingDependencyError
from tightframe.data.labelled.source import load

datasets = pytest.importorskip("datasets")


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (5, 6, 3), dtype=np.uint8)


def made(n=10, *, names=("cat", "dog"), columns=None, labels=None):
    labels = [i % 2 for i in range(n)] if labels is None else labels
    kind = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    features = {"picture": datasets.Image(), "animal": kind} | (columns or {})
    content = {"picture": [Image.fromarray(pixels(i)) for i in range(n)], "animal": labels}
    content |= {
        key: content["picture"] if isinstance(kind, datasets.Image) else labels for key, kind in (columns or {}).items()
    }
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def saved(tmp_path, **splits):
    found = datasets.DatasetDict(splits) if len(splits) > 1 else splits["train"]
    found.save_to_disk(str(tmp_path / "set"))
    return f"hf:{tmp_path / 'set'}"


@pytest.mark.parametrize("other", ["test", "validation"])
def test_columns_are_found_by_type_and_splits_by_name(tmp_path, other):
    data = load(saved(tmp_path, train=made(), **{other: made(4)}))
    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 5, 6)
    assert (len(data.train), len(data.test)) == (10, 4)
    image, label = data.train[3]
    assert label == 1
    np.testing.assert_allclose(image.numpy(), pixels(3).transpose(2, 0, 1) / 255 * 2 - 1, atol=1e-6)


def test_a_single_split_is_divided(tmp_path):
    data = load(saved(tmp_path, train=made()))
    assert (len(data.train), len(data.test)) == (8, 2)
    assert torch.bincount(data.test.labels).tolist() == [1, 1]


def test_size_and_limit(tmp_path):
    data = load(saved(tmp_path, train=made(), test=made(4)), size=3, limit=4)
    assert data.train[0][0].shape == (3, 3, 3)
    assert data.train.labels.tolist() == [0, 1, 0, 1]


def test_integer_labels_without_names_are_numbered(tmp_path):
    assert load(saved(tmp_path, train=made(names=()))).classes == ("0", "1")


def test_several_label_columns_are_listed(tmp_path):
    columns = {"breed": datasets.ClassLabel(names=["x", "y"])}
    with pytest.raises(AmbiguityError, match=r"one class label column; got animal, breed among"):
        load(saved(tmp_path, train=made(columns=columns)))


def test_several_image_columns_are_listed(tmp_path):
    with pytest.raises(AmbiguityError, match=r"one image column; got picture, mask among"):
        load(saved(tmp_path, train=made(columns={"mask": datasets.Image()})))


def test_sets_without_images_are_refused(tmp_path):
    text = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    with pytest.raises(InputError, match="one image column; got none among text"):
        load(saved(tmp_path, train=text))


def test_withheld_labels_are_pointed_out(tmp_path):
    with pytest.raises(InputError, match=r"labels from 0 to 1 in column 'animal'; got -1 to -1.*withheld"):
        load(saved(tmp_path, train=made(), test=made(4, labels=[-1] * 4)))


def test_a_split_without_the_columns_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the columns 'picture' and 'animal' in the split 'test'; got picture"):
        load(saved(tmp_path, train=made(), test=made(4).remove_columns("animal")))


def test_a_directory_of_something_else_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="a directory written by `save_to_disk`"):
        load(f"hf:{tmp_path}")


def test_a_name_that_cannot_be_had_is_an_input_error(monkeypatch):
    def offline(name):
        raise ConnectionError(f"cannot reach {name}\nand a long trace")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(
        InputError, match=r"'nobody/nothing': cannot reach nobody/nothing\. Check the name, the network"
    ):
        load("hf:nobody/nothing")


def test_a_set_without_training_split_is_refused(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda _: datasets.DatasetDict(test=made(4)))
    with pytest.raises(InputError, match=r"a split called 'train'.*got test"):
        load("hf:nobody/nothing")


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tightframe\[hf\]'"):
        load("hf:cifar10")
