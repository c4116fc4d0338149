"""What fine-tuning changed: saved, refused on another base, and put back."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from tightframe.core.errors import InputError, UnsafeFileError
from tightframe.nn.heads.heads import SimplexETFHead
from tightframe.nn.networks import MLP, resnet18
from tightframe.nn.tuning.delta import fingerprint, inside
from tightframe.nn.tuning.fine_tuning import load_delta, tune

METHODS = ("linear", "layer", "scl", "full", "lora")


def base(seed: int = 0, *, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    model = resnet18(3, 10, width=width)
    model(torch.randn(4, 3, 8, 8))  # running statistics that are not the initial ones
    return model


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def trained(model: nn.Module, method: str, *, classes: int | None = 5, **options):
    if method == "lora":
        pytest.importorskip("peft")
    tuned = tune(model, method, layer="layer3.0" if method in ("layer", "scl") else None, classes=classes, **options)
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.1)
    tuned.train()
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(tuned(images()), torch.arange(4)).backward()
        optimizer.step()
    return tuned.eval()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tuned.safetensors"


@pytest.mark.parametrize("method", METHODS)
def test_a_delta_brings_back_the_outputs(method, file):
    tuned = trained(base(), method)
    assert tuned.save_delta(file) == file
    loaded = load_delta(base(), file)
    assert type(loaded) is type(tuned)
    assert not loaded.training
    assert torch.equal(loaded(images()), tuned(images()))
    assert str(loaded.describe()) == str(tuned.describe())
    again = file.with_name("again.safetensors")
    loaded.save_delta(again)
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_only_what_changed_is_saved(method, file):
    tuned = trained(base(), method)
    tuned.save_delta(file)
    tensors = load_file(file)
    assert tensors.keys() == tuned.delta_state_dict().keys()
    trainable = {name for name, p in tuned.model.named_parameters() if p.requires_grad}
    buffers = {name for name, _ in tuned.model.named_buffers()}
    assert trainable <= tensors.keys() <= trainable | buffers
    assert sum(tensors[name].numel() for name in trainable) == tuned.describe().trainable


def test_a_kept_head_and_a_wide_one(file):
    x = torch.randn(3, 6)
    start = MLP(6, 4, widths=(9, 5))
    for options in ({"classes": 3, "inputs": x}, {"classes": 3, "in_features": 9}):
        tuned = tune(copy.deepcopy(start), "scl", layer="blocks.0", **options)
        tuned.save_delta(file)
        assert torch.equal(load_delta(copy.deepcopy(start), file)(x), tuned(x))
    head = SimplexETFHead(5, 4)
    start.classifier = head
    tuned = tune(copy.deepcopy(start), "layer", layer="blocks.0")
    with torch.no_grad():
        tuned.model.blocks[0].linear.weight.mul_(2)
    tuned.save_delta(file)
    assert torch.equal(load_delta(copy.deepcopy(start), file)(x), tuned(x))


def test_the_values_of_the_tuned_layer_do_not_belong_to_the_base(file):
    tuned = trained(base(), "layer")
    tuned.save_delta(file)
    other = base()
    with torch.no_grad():
        other.layer3[0].conv1.weight.zero_()
    other.classifier = nn.Linear(32, 3)
    assert torch.equal(load_delta(other, file)(images()), tuned(images()))


class TestAnotherBase:
    def test_other_weights(self, file):
        trained(base(), "scl").save_delta(file)
        other = base(1)
        flags = [p.requires_grad for p in other.parameters()]
        with pytest.raises(InputError, match="same network with other weights"):
            load_delta(other, file)
        assert [p.requires_grad for p in other.parameters()] == flags
        assert other.classifier.out_features == 10

    @pytest.mark.parametrize("name", ["conv1.weight", "layer4.1.bn2.running_var", "layer3.1.bn1.num_batches_tracked"])
    def test_one_number_is_enough(self, name, file):
        trained(base(), "layer").save_delta(file)
        other = base()
        with torch.no_grad():
            other.state_dict()[name].view(-1)[-1] += 1
        with pytest.raises(InputError, match="other weights"):
            load_delta(other, file)

    def test_another_network_or_precision(self, file):
        trained(base(), "scl").save_delta(file)
        for other in (base(width=8), base().double(), MLP(192, 10)):
            with pytest.raises(InputError, match="other layers, shapes or precision"):
                load_delta(other, file)

    def test_a_network_tuned_in_full_has_no_base_but_its_shapes(self, file):
        tuned = trained(base(), "full")
        tuned.save_delta(file)
        assert torch.equal(load_delta(base(1), file)(images()), tuned(images()))
        with pytest.raises(InputError, match="of another shape"):
            load_delta(base(width=8), file)

    def test_a_frozen_part_that_was_changed_shows(self, file):
        tuned = trained(base(), "layer")
        with torch.no_grad():
            tuned.model.conv1.weight.add_(1)
        tuned.save_delta(file)
        with pytest.raises(InputError, match="other weights"):
            load_delta(base(), file)


class TestFiles:
    def test_of_another_kind(self, tmp_path, file):
        with pytest.raises(InputError, match="nothing at"):
            load_delta(base(), file)
        save_file({"a": torch.zeros(1)}, file)
        with pytest.raises(InputError, match="of another kind"):
            load_delta(base(), file)
        file.write_bytes(b"x" * 40)
        with pytest.raises(InputError, match="a whole file"):
            load_delta(base(), file)
        pickled = tmp_path / "tuned.pt"
        torch.save({}, pickled)
        with pytest.raises(UnsafeFileError, match="pickle"):
            load_delta(base(), pickled)

    def test_with_tensors_missing(self, file):
        trained(base(), "layer").save_delta(file)
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        save_file({"classifier.weight": torch.zeros(5, 32)}, file, metadata)
        model = base()
        before = model.conv1.weight.clone()
        with pytest.raises(InputError, match=r"classifier\.bias"):
            load_delta(model, file)
        assert torch.equal(model.conv1.weight, before)

    def test_metadata_are_readable(self, file):
        trained(base(), "scl").save_delta(file)
        with safe_open(file, framework="pt") as opened:
            about = json.loads(opened.metadata()["tightframe-delta-1"])
        assert about["settings"] == {
            "method": "scl",
            "layer": "layer3.0",
            "classifier": "classifier",
            "classes": 5,
            "in_features": 32,
            "tokens": "class",
        }

    def test_places_that_cannot_be_written(self, tmp_path):
        tuned = tune(base(), "linear")
        with pytest.raises(InputError, match=r"ends in \.safetensors"):
            tuned.save_delta(tmp_path / "tuned.pt")
        with pytest.raises(InputError, match="a place to write"):
            tuned.save_delta(tmp_path / "absent" / "tuned.safetensors")
        assert list(tmp_path.iterdir()) == []

    def test_a_network_without_values(self, file):
        with torch.device("meta"):
            model = MLP(4, 3, widths=(5,))
        with pytest.raises(InputError, match="meta device"):
            tune(model, "linear").save_delta(file)


def test_fingerprints_depend_on_names_shapes_dtypes_and_values():
    state = {"a": torch.tensor(1.0), "b": torch.arange(6.0).view(2, 3)}
    first = fingerprint(state, lambda name: False)
    assert fingerprint({**state}, lambda name: False) == first
    assert fingerprint(dict(reversed(state.items())), lambda name: False) == first
    assert fingerprint({**state, "c": torch.ones(1)}, lambda name: name == "c") == first
    for other in (
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"], "b": state["b"].T},
        {"a": state["a"], "b": state["b"].bfloat16()},
    ):
        assert fingerprint(other, lambda name: False).structure != first.structure
    changed = fingerprint({"a": state["a"], "b": state["b"] * 2}, lambda name: False)
    assert changed.structure == first.structure
    assert changed.values != first.values


def test_adapted_layers_keep_the_name_of_what_they_adapt():
    plain = fingerprint({"block.weight": torch.ones(2)}, lambda name: False)
    assert fingerprint({"block.base_layer.weight": torch.ones(2)}, lambda name: False) == plain


@pytest.mark.parametrize(("name", "path", "yes"), [("a.b", "", True), ("a.b", "a", True), ("ab", "a", False)])
def test_inside(name, path, yes):
    assert inside(name, path) is yes
