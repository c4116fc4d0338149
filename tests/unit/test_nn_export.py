"""Exported programs: they run without the library, at any batch size, and give the network's outputs."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from tightframe.core.errors import InputError, MissingDependencyError
from tightframe.nn import networks
from tightframe.nn.backbones.exported import SUFFIXES, export
from tightframe.nn.tuning.fine_tuning import tune

# Twice the rounding of float32 sums of some hundred terms; a missing layer or skip connection differs by far more.
CLOSE = 1e-5

FORMATS = ["torch", "onnx"]


def resnet():
    torch.manual_seed(0)
    model = networks.ResNet(networks.BasicBlock, (1, 1), in_channels=3, classes=7, width=4)
    return model, "layer1.0", torch.randn(3, 3, 8, 8)


def vit():
    torch.manual_seed(0)
    model = networks.build("vit/4", shape=(3, 16, 16), classes=7, width=16, depth=2)
    return model, "blocks.0", torch.randn(3, 3, 16, 16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Random checkpoints in the format of transformers."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("checkpoints")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes)
    transformers.ViTForImageClassification(config).save_pretrained(folder / "vit")
    vision = transformers.CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=8, **sizes)
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(folder / "clip")
    return folder


def ready(require, kind):
    if kind == "onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            require(name)


def program(path, kind):
    """The file as other people read it."""
    if kind == "torch":
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.numpy()})[0])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("make", [resnet, vit])
def test_a_skip_connection_is_part_of_the_program(make, kind, tmp_path):
    ready(pytest.importorskip, kind)
    model, layer, images = make()
    tuned = tune(model, "scl", layer=layer, classes=5, inputs=images[:1])
    tuned.train()
    exported = export(tuned, images, tmp_path / f"tuned{SUFFIXES[kind]}", format=kind)
    assert tuned.training
    assert exported.difference <= CLOSE
    run = program(exported.path, kind)
    tuned.eval()
    with torch.no_grad():
        for batch in (images, images[:1], torch.randn(9, *images.shape[1:])):
            torch.testing.assert_close(run(batch), tuned(batch), atol=CLOSE, rtol=CLOSE)
        plain = tuned.model
        for hooks in (plain.get_submodule(layer)._forward_hooks, tuned.head._forward_pre_hooks):
            hooks.clear()
        assert (plain(images) - run(images)).abs().max() > 100 * CLOSE


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["vit", "clip"])
def test_networks_of_transformers(saved, name, kind, tmp_path):
    ready(pytest.importorskip, kind)
    from tightframe.nn.backbones.backbones import backbone

    found = backbone(f"hf:{saved / name}", classes=4)
    blocks = [path for path, _ in found.model.named_modules() if path.endswith("layers.0") or path.endswith("layer.0")]
    images = torch.randn(2, *found.size)
    tuned = tune(found.model, "scl", layer=blocks[0], inputs=images, tokens="mean", classes=4)
    exported = export(tuned, images, tmp_path / f"tuned{SUFFIXES[kind]}", format=kind)
    more = torch.randn(5, *found.size)
    tuned.eval()
    with torch.no_grad():
        torch.testing.assert_close(program(exported.path, kind)(more), tuned(more), atol=CLOSE, rtol=CLOSE)


def test_adapters_are_added_to_the_weights(tmp_path):
    pytest.importorskip("peft")
    model, _, images = vit()
    tuned = tune(model, "lora", classes=5, rank=2)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.2)
    exported = export(tuned, images[:1], tmp_path / "merged.pt2")
    read = torch.export.load(exported.path)
    tuned.eval()
    with torch.no_grad():
        torch.testing.assert_close(read.module()(images), tuned(images), atol=CLOSE, rtol=CLOSE)
    assert not [name for name in read.state_dict if "lora" in name]


class Shrunk(nn.Module):
    """Gives other numbers once it is captured."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x) * (0.5 if torch.compiler.is_exporting() else 1.0)


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else x[:, :2]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_program_that_differs_is_not_written(kind, tmp_path):
    ready(pytest.importorskip, kind)
    path = tmp_path / f"model{SUFFIXES[kind]}"
    with pytest.raises(InputError, match="outputs that differ by"):
        export(Shrunk(), torch.randn(3, 4), path, format=kind)
    assert not list(tmp_path.iterdir())
    export(Shrunk(), torch.randn(3, 4), path, format=kind, tolerance=10.0)
    assert path.exists()


def test_bad_input_is_refused(tmp_path, monkeypatch):
    model, images = nn.Sequential(nn.Linear(4, 2)), torch.randn(3, 4)
    with pytest.raises(InputError, match=r"ends in \.pt2"):
        export(model, images, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="a format"):
        export(model, images, tmp_path / "model.pt2", format="tensorrt")
    with pytest.raises(InputError, match="example batch"):
        export(model, images[0], tmp_path / "model.pt2")
    with pytest.raises(InputError, match="captured as one program"):
        export(Broken(), images, tmp_path / "model.pt2")
    with pytest.raises(InputError, match="finite"):
        export(model, images * torch.nan, tmp_path / "model.pt2")
    with pytest.raises(InputError, match="a folder to write to"):
        export(model, images, tmp_path / "missing" / "model.pt2")

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"tightframe\[export\]"):
        export(model, images, tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())
