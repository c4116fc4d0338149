from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tightframe.core.errors import InputError, UnsafeFileError
from tightframe.training.checkpoint import Checkpoint, load, load_into, load_state_dict, save


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def state() -> Checkpoint:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    row = dict(run="r", epoch=1, split="train", layer="x", metric="m", value=0.1)
    return Checkpoint(model.state_dict(), optimizer.state_dict(), 1, (row,), {"lr": 0.1, "milestones": (1,)})


def test_round_trip(tmp_path):
    before = state()
    save(tmp_path / "c.pt", before)
    after = load(tmp_path / "c.pt")
    assert equal(before.model, after.model)
    assert (after.epoch, after.history, after.config) == (before.epoch, before.history, before.config)
    assert before.optimizer["param_groups"] == after.optimizer["param_groups"]
    assert all(equal(before.optimizer["state"][k], after.optimizer["state"][k]) for k in before.optimizer["state"])
    assert os.listdir(tmp_path) == ["c.pt"]


def test_a_failed_save_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    save(tmp_path / "c.pt", state())
    before = (tmp_path / "c.pt").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save(tmp_path / "c.pt", state())
    assert (tmp_path / "c.pt").read_bytes() == before
    assert os.listdir(tmp_path) == ["c.pt"]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_state_dicts_are_found_bare_and_nested(tmp_path, wrap):
    weights = net().state_dict()
    torch.save(wrap(dict(weights)), tmp_path / "w.pt")
    assert equal(load_state_dict(tmp_path / "w.pt"), weights)


def test_weights_of_a_training_checkpoint_can_be_read(tmp_path):
    save(tmp_path / "c.pt", state())
    assert equal(load_state_dict(tmp_path / "c.pt"), state().model | load(tmp_path / "c.pt").model)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_are_known_by_name_and_by_content(tmp_path, name):
    weights = net().state_dict()
    save_file(weights, tmp_path / name)
    assert equal(load_state_dict(tmp_path / name), weights)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_that_execute_code_are_refused_and_not_executed(tmp_path, protocol):
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom"), protocol=protocol))
    with pytest.raises(UnsafeFileError, match=r"w\.pt.*safetensors"):
        load_state_dict(tmp_path / "w.pt")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_pickled_models_are_refused(tmp_path, legacy):
    torch.save(net(), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeFileError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
        load_state_dict(tmp_path / "w.pt")


def test_bombs_inside_a_torch_file_are_refused_and_not_executed(tmp_path):
    torch.save({"state_dict": net().state_dict(), "extra": Bomb(tmp_path / "boom")}, tmp_path / "w.pt")
    with pytest.raises(UnsafeFileError):
        load_state_dict(tmp_path / "w.pt")
    with pytest.raises(UnsafeFileError):
        load(tmp_path / "w.pt")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [b"", b"hello, this is no checkpoint", b"\x80\x02}q\x00", b"PK\x03\x04broken"])
def test_damaged_files_are_input_errors(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"a readable checkpoint file.*w\.pt") as caught:
        load_state_dict(tmp_path / "w.pt")
    assert not isinstance(caught.value, UnsafeFileError)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_input_errors(tmp_path, share, kind):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(net().state_dict(), path)
    else:
        torch.save(net().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="a readable checkpoint file"):
        load_state_dict(path)


def test_missing_files_and_directories_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_state_dict(tmp_path / "none.pt")
    with pytest.raises(InputError, match=r"No such file|none\.safetensors"):
        load_state_dict(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="Is a directory"):
        load(tmp_path)


def test_files_without_weights_list_their_keys(tmp_path):
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"\['epoch', 'lr'\]"):
        load_state_dict(tmp_path / "w.pt")
    torch.save(torch.zeros(3), tmp_path / "t.pt")
    with pytest.raises(InputError, match="got Tensor"):
        load_state_dict(tmp_path / "t.pt")


def test_weights_alone_are_no_training_checkpoint(tmp_path):
    torch.save(net().state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="a checkpoint written by training"):
        load(tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_wrappers_prefixes_are_removed(tmp_path, prefix):
    weights = net(1).state_dict()
    torch.save({prefix + k: v for k, v in weights.items()}, tmp_path / "w.pt")
    model = net(2)
    load_into(model, tmp_path / "w.pt")
    assert equal(model.state_dict(), weights)


def test_a_model_whose_own_names_begin_like_a_wrapper_keeps_them(tmp_path):
    inner, outer = net(1), nn.ModuleDict({"model": net(2)})
    torch.save({f"model.{k}": v for k, v in inner.state_dict().items()}, tmp_path / "w.pt")
    load_into(outer, tmp_path / "w.pt")
    assert equal(outer["model"].state_dict(), inner.state_dict())


def test_misfits_are_listed_and_change_nothing(tmp_path):
    weights = net(1).state_dict()
    del weights["0.bias"]
    weights["head.weight"] = torch.zeros(1)
    weights["2.weight"] = torch.zeros(7, 4)
    torch.save(weights, tmp_path / "w.pt")
    model = net(2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    message = r"1 missing: 0\.bias; 1 unexpected: head\.weight; 1 of other shape: 2\.weight \(7, 4\) for \(2, 4\)"
    with pytest.raises(InputError, match=message):
        load_into(model, tmp_path / "w.pt")
    assert equal(model.state_dict(), before)


def test_tied_weights_may_be_stored_once(tmp_path):
    def tied(seed):
        model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
        torch.nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(seed))
        model[1].weight = model[0].weight
        return model

    save_file({"0.weight": tied(1)[0].weight.detach()}, tmp_path / "w.safetensors")
    model = tied(2)
    load_into(model, tmp_path / "w.safetensors")
    assert torch.equal(model[1].weight, tied(1)[1].weight)
