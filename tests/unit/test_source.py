from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.data.labelled.source import load


def test_digits_need_no_files(monkeypatch):
    monkeypatch.delenv("TIGHTFRAME_DATA", raising=False)
    assert load("digits").name == "digits"


def test_limit_keeps_a_balanced_training_set_and_the_whole_test_set():
    data = load("digits", limit=205)
    assert torch.bincount(data.train.labels).tolist() == [21] * 5 + [20] * 5
    assert len(data.test) == 450


def test_a_limit_above_the_size_keeps_everything():
    assert len(load("digits", limit=10_000).train) == 1347


@pytest.mark.parametrize(
    "spec", ["imagenet", "", "folder", "folder:", "hf:", "digits:here", "mnist:here", "textures:here"]
)
def test_unknown_specs_list_the_choices(spec):
    with pytest.raises(
        InputError, match=r"digits, .*mnist, fashion-mnist, cifar10, textures, textures:SEED, folder:PATH, hf:NAME"
    ):
        load(spec)


@pytest.mark.parametrize("spec", ["mnist", "fashion-mnist", "cifar10", "textures"])
def test_without_a_root_the_error_says_how_to_set_it_and_which_files_are_wanted(spec, monkeypatch):
    monkeypatch.delenv("TIGHTFRAME_DATA", raising=False)
    with pytest.raises(
        InputError, match=r"Set TIGHTFRAME_DATA .*(train-images-idx3-ubyte|cifar-10-batches-bin|images/)"
    ):
        load(spec)


def test_a_root_that_is_no_directory_is_named(tmp_path):
    with pytest.raises(InputError, match="absent, which is not a directory"):
        load("cifar10", root=tmp_path / "absent")


def test_size_is_for_folders_and_hugging_face_only():
    with pytest.raises(InputError, match="Leave `size` out"):
        load("digits", size=16)
