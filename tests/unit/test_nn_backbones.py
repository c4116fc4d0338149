"""Backbones: checkpoints of transformers written and read back, timm by a stand-in, factories, and prepared images."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tightframe.collapse.monitor import measure
from tightframe.core.errors import InputError, MissingDependencyError
from tightframe.core.rng import generator
from tightframe.data.labelled.images import ArrayDataset
from tightframe.features.tap import FeatureTap
from tightframe.nn.backbones.backbones import Backbone, Headed, backbone
from tightframe.nn.backbones.preparation import Preparation
from tightframe.nn.networks import MLP, build

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

PREPROCESSING = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5], "image_processor_type": "X"}


def written(network: nn.Module, place: Path, **preprocessing) -> str:
    """Save a network with random weights as transformers does; its spec."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(place)
    if preprocessing:
        (place / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return f"hf:{place}"


def vit(kind=None, **changed) -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    images = {"image_size": 12, "patch_size": 4, "num_channels": 3, "num_labels": 5}
    return (kind or transformers.ViTForImageClassification)(transformers.ViTConfig(**sizes | images | changed)).eval()


def resnet(kind=None) -> nn.Module:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    config.num_labels = 3
    return (kind or transformers.ResNetForImageClassification)(config).eval()


def clip_parts() -> tuple:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = transformers.CLIPVisionConfig(**sizes, image_size=16, patch_size=8)
    return transformers.CLIPTextConfig(**sizes, vocab_size=30), vision


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


@torch.no_grad()
def test_vision_transformer_with_its_classifier(tmp_path, capfd):
    network = vit()
    spec = written(network, tmp_path, **PREPROCESSING)
    capfd.readouterr()
    found = backbone(spec)
    # Reading is silent.
    assert capfd.readouterr() == ("", "")
    assert (found.features, found.size, found.classes) == (16, (3, 12, 12), 5)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
    x = images(4, 3, 12, 12)
    torch.testing.assert_close(found.model(x), network(x).logits)
    torch.testing.assert_close(found.embed(x), network.vit(x).last_hidden_state[:, 0])
    assert not any(module.training for module in found.model.modules())


@torch.no_grad()
def test_a_new_classifier_replaces_the_old_one_and_is_saved_with_the_network(tmp_path):
    network = vit()
    spec = written(network, tmp_path / "a")
    found = backbone(spec, classes=7, seed=3)
    x = images(4, 3, 12, 12)
    head = found.model.get_submodule(found.classifier)
    assert (found.classes, tuple(head.weight.shape), found.mean) == (7, (7, 16), ())
    torch.testing.assert_close(found.model(x), network.vit(x).last_hidden_state[:, 0] @ head.weight.T + head.bias)
    assert torch.equal(backbone(spec, classes=7, seed=3).model(x), found.model(x))
    assert not torch.equal(backbone(spec, classes=7, seed=4).model(x), found.model(x))
    found.model.network.save_pretrained(tmp_path / "b")
    again = backbone(f"hf:{tmp_path / 'b'}")
    assert again.classes == 7
    assert torch.equal(again.model(x), found.model(x))


@torch.no_grad()
def test_convolutional_network_with_and_without_its_classifier(tmp_path):
    network = resnet()
    spec = written(network, tmp_path / "a", **PREPROCESSING, size={"shortest_edge": 20})
    found = backbone(spec)
    x = images(4, 3, 20, 20)
    assert (found.features, found.size, found.classes) == (16, (3, 20, 20), 3)
    torch.testing.assert_close(found.embed(x), network.resnet(x).pooler_output.flatten(1))
    assert backbone(spec, size=(3, 32, 32)).size == (3, 32, 32)
    trunk = resnet(transformers.ResNetModel)
    bare = backbone(written(trunk, tmp_path / "b"), size=(3, 20, 20))
    assert (bare.features, bare.classes, bare.classifier) == (16, None, None)
    torch.testing.assert_close(bare.model(x), trunk(x).pooler_output.flatten(1))
    assert torch.equal(bare.embed(x), bare.model(x))


@torch.no_grad()
@pytest.mark.parametrize("whole", [True, False])
def test_the_image_side_of_clip(tmp_path, whole):
    text, vision = clip_parts()
    if whole:
        config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
        network = transformers.CLIPModel(config).eval()
        side = network.vision_model
    else:
        network = side = transformers.CLIPVisionModel(vision).eval()
    found = backbone(written(network, tmp_path, **PREPROCESSING, crop_size={"height": 16, "width": 16}), classes=4)
    x = images(4, 3, 16, 16)
    features = side(pixel_values=x).pooler_output
    assert (found.features, found.size, found.classes, found.classifier) == (16, (3, 16, 16), 4, "classifier")
    torch.testing.assert_close(found.embed(x), features)
    torch.testing.assert_close(found.model.forward_features(x), features)
    torch.testing.assert_close(found.model(x), found.model.classifier(features))
    assert len([name for name, _ in found.model.named_modules() if "text" in name]) == 0
    assert list(FeatureTap(found.model, "auto")(x).features)[-1] == "features"


@torch.no_grad()
def test_the_pooler_counts_only_where_the_checkpoint_has_it(tmp_path):
    x = images(4, 3, 12, 12)
    pooled, bare = vit(transformers.ViTModel), transformers.ViTModel(vit().config, add_pooling_layer=False).eval()
    with_pooler = backbone(written(pooled, tmp_path / "a"))
    torch.testing.assert_close(with_pooler.embed(x), pooled(x).pooler_output)
    without = backbone(written(bare, tmp_path / "b"))
    torch.testing.assert_close(without.embed(x), bare(x).last_hidden_state[:, 0])


def test_measuring_a_backbone_on_data_of_another_size(tmp_path):
    found = backbone(written(vit(), tmp_path, **PREPROCESSING), classes=3)
    data = ArrayDataset(images(30, 1, 8, 8), torch.arange(30) % 3)
    network = nn.Sequential(found.preparation(mean=(0.3,), std=(0.2,)), found.model)
    summary = measure(network, DataLoader(data, 10), layers="auto")
    assert [name.split(".")[-2:] for name in summary.layers][:2] == [["layers", "0"], ["layers", "1"]]
    assert summary["NC1"] > 0


def test_checkpoints_that_are_no_image_network(tmp_path):
    text, _ = clip_parts()
    words = written(transformers.CLIPTextModel(text), tmp_path / "text")
    with pytest.raises(InputError, match="CLIPTextModel, of other input"):
        backbone(words)
    spec = written(vit(), tmp_path / "vit")
    from safetensors.torch import load_file, save_file

    file = tmp_path / "vit" / "model.safetensors"
    weights = load_file(file)
    dropped = next(name for name in weights if "layernorm_before" in name)
    del weights[dropped]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"no weights for .*layernorm_before"):
        backbone(spec)
    with pytest.raises(InputError, match="no-such-network"):
        backbone(f"hf:{tmp_path}/no-such-network")
    with pytest.raises(InputError, match=r"size of the images.*Pass size=\(C, H, W\)"):
        backbone(written(resnet(), tmp_path / "unsized"))
    with pytest.raises(InputError, match=r"takes images of \(3, 20, 20\)"):
        backbone(written(vit(), tmp_path / "fixed"), size=(3, 20, 20))


class Stub:
    """What `backbone` calls of timm."""

    def __init__(self) -> None:
        self.calls = []
        self.data = types.SimpleNamespace(resolve_model_data_config=self.settings)

    def create_model(self, name: str, **options) -> nn.Module:
        self.calls.append((name, options))
        if name == "nothing":
            raise RuntimeError("Unknown model (nothing)")
        return build("resnet18", shape=(3, 8, 8), classes=6, width=4)

    def settings(self, network: nn.Module) -> dict:
        assert network.classifier.out_features == 6
        return {"input_size": (3, 16, 16), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_pct": 0.9}


def test_timm_is_asked_for_the_network_with_its_weights(monkeypatch):
    stub = Stub()
    monkeypatch.setitem(sys.modules, "timm", stub)
    found = backbone("timm:resnet18.a1_in1k", classes=4)
    assert stub.calls == [("resnet18.a1_in1k", {"pretrained": True})]
    assert (found.features, found.size, found.classes) == (32, (3, 16, 16), 4)
    assert (found.mean, found.std, found.classifier) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "classifier")
    assert found.model(images(2, 3, 16, 16)).shape == (2, 4)
    with pytest.raises(InputError, match=r"of timm; got 'nothing': Unknown model \(nothing\)"):
        backbone("timm:nothing")


class TwoHeads(nn.Module):
    """A distilled network of timm: the mean of two heads, and a way to take them off."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(12, 7))
        self.head, self.head_dist = nn.Linear(7, 6), nn.Linear(7, 6)

    def reset_classifier(self, classes: int) -> None:
        assert classes == 0
        self.head = self.head_dist = nn.Identity()

    def forward(self, x):
        h = self.trunk(x)
        return (self.head(h) + self.head_dist(h)) / 2


def test_of_several_heads_the_features_are_taken_and_not_their_logits(monkeypatch):
    stub = Stub()
    stub.data = types.SimpleNamespace(
        resolve_model_data_config=lambda _: {"input_size": (3, 2, 2), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    )
    network = TwoHeads()
    stub.create_model = lambda name, **options: network
    monkeypatch.setitem(sys.modules, "timm", stub)
    found = backbone("timm:distilled", classes=4)
    assert (found.features, found.classes, found.classifier) == (7, 4, "classifier")
    x = images(2, 3, 2, 2)
    torch.testing.assert_close(found.embed(x), network.trunk(x))


@pytest.mark.parametrize(("package", "spec", "extra"), [("timm", "timm:x", "vision"), ("transformers", "hf:x", "hf")])
def test_missing_packages(monkeypatch, package, spec, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"`{package}`.*pip install 'tightframe\[{extra}\]'"):
        backbone(spec)


def test_the_door_imports_neither_transformers_nor_timm():
    code = "import sys, tightframe.nn.backbones.backbones; sys.exit(bool({'transformers', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


FACTORIES = """
import torch
from torch import nn
from tightframe.nn.backbones.backbones import Backbone
from tightframe.nn.networks import MLP, build

def network():
    return build("resnet18", shape=(1, 8, 8), classes=6, width=4)

def described():
    return Backbone(network(), 32, (1, 8, 8), mean=(0.3,), std=(0.2,))

def headless():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU())

def tokens():
    return nn.Sequential(nn.Flatten(2), nn.ReLU())

def unpooled():
    return nn.Conv2d(1, 4, 3, stride=1)

def number():
    return 3

value = 4
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mynets", raising=False)


@pytest.mark.usefixtures("made")
def test_factories():
    found = backbone("mynets:network", size=(1, 8, 8))
    assert (found.features, found.classes, found.classifier) == (32, 6, "classifier")
    x = images(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(found.embed(x), found.model.forward_features(x))
    assert torch.equal(found.model(x), backbone("mynets:network", size=(1, 8, 8)).model(x))
    described = backbone("mynets:described", classes=2)
    assert (described.mean, described.std, described.size, described.classes) == ((0.3,), (0.2,), (1, 8, 8), 2)
    pixels = backbone("torch.nn:Flatten", size=(1, 8, 8), classes=4)
    assert torch.equal(pixels.embed(x), x.flatten(1))
    bare = backbone("mynets:headless", size=(1, 8, 8))
    assert (bare.features, bare.classes) == (12, None)
    headed = backbone("mynets:headless", size=(1, 8, 8), classes=5)
    assert isinstance(headed.model, Headed)
    assert headed.model(x).shape == (3, 5)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("mynets:network", {}, r"the size of the images that mynets:network wants"),
        ("mynets:network", {"size": (1, 8)}, r"a size \(C, H, W\)"),
        ("mynets:network", {"size": (3, 8, 8)}, r"takes images of \(3, 8, 8\); got mynets:network: .*channels"),
        ("mynets:network", {"size": (1, 8, 8), "classes": 1}, "classes is an integer of at least 2"),
        ("mynets:unpooled", {"size": (1, 8, 8)}, r"returns logits .*got a tensor of shape \(2, 4, 6, 6\)"),
        ("mynets:tokens", {"size": (1, 8, 8)}, r"features of shape \(n, d\); got shape \(2, 1, 64\)"),
        ("mynets:number", {}, "returns an nn.Module or a Backbone; got int"),
        ("mynets:value", {}, "'mynets:value', a int"),
        ("mynets:absent", {}, "has no attribute 'absent'"),
        ("nomodule:x", {}, "No module named 'nomodule'"),
        ("resnet18", {}, "hf:NAME_OR_PATH, timm:NAME, IMPORT.PATH:factory; got 'resnet18'"),
        ("hf:", {}, "got 'hf:'"),
    ],
)
def test_bad_specs(spec, options, message):
    with pytest.raises(InputError, match=message):
        backbone(spec, **options)


def plain(size=(3, 8, 8), **statistics) -> Backbone:
    return Backbone(MLP(192, 4), 256, size, classes=4, name="plain", classifier="classifier", **statistics)


def test_prepared_images_by_the_formula():
    found = plain(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    pixels = torch.rand(2, 3, 8, 8, generator=generator(1), dtype=torch.float64)
    data_mean, data_std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.9, 0.8, 0.7])
    given = (pixels - data_mean.view(3, 1, 1)) / data_std.view(3, 1, 1)
    wanted = (pixels - torch.tensor(found.mean).view(3, 1, 1)) / torch.tensor(found.std).view(3, 1, 1)
    got = found.prepared(given, mean=data_mean.tolist(), std=data_std.tolist())
    assert got.dtype == torch.float64
    # Statistics are kept in float32.
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_resizing_and_grey_images():
    found = plain(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    constant = torch.full((1, 1, 5, 7), 2.0)
    got = found.prepared(constant, mean=(0.1,), std=(0.3,))
    assert got.shape == (1, 3, 8, 8)
    assert got[0, :, 2, 3].tolist() == pytest.approx(
        [(0.7 - m) / s for m, s in zip(found.mean, found.std, strict=True)]
    )
    # Halving a size averages neighbours, with the smoothing of a shrinking filter: a ramp stays a ramp inside.
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    small = plain(size=(1, 8, 8)).prepared(ramp)[0, 0, 4]
    assert small[1:-1].diff().tolist() == pytest.approx([2.0] * 5, abs=1e-5)
    assert torch.equal(plain().prepared(images(2, 3, 8, 8)), images(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("size", "shape", "options", "message"),
    [
        ((1, 8, 8), (2, 3, 8, 8), {}, r"with C = 1; got shape \(2, 3, 8, 8\)"),
        ((3, 8, 8), (2, 2, 8, 8), {}, "with C = 1 or 3"),
        ((3, 8, 8), (3, 8, 8), {}, r"shape \(3, 8, 8\)"),
        ((3, 8, 8), (2, 3, 8, 8), {"wanted_mean": (0.5,) * 3, "wanted_std": (0.5,) * 3}, "of the data.*got 0 values"),
        ((3, 8, 8), (2, 3, 8, 8), {"wanted_mean": (0.5,) * 2, "wanted_std": (0.5,) * 2}, "wanted.*got 2 values"),
    ],
)
def test_images_that_cannot_be_prepared(size, shape, options, message):
    with pytest.raises(InputError, match=message):
        Preparation(size, **options)(torch.zeros(shape))


def test_whole_numbers_and_unprepared_images():
    with pytest.raises(InputError, match=r"dtype torch.uint8"):
        plain().prepared(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"\(3, 8, 8\), as plain wants; got shape \(2, 3, 9, 8\)"):
        plain().embed(torch.zeros(2, 3, 9, 8))
    with pytest.raises(InputError, match=r"got shape \(2, 1, 8, 8\)"):
        plain().embed(torch.zeros(2, 1, 8, 8))
