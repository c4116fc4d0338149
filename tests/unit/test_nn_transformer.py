"""The vision transformer: an independent implementation, the contract of the networks, measuring and training."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch.utils.data import DataLoader

from tightframe.cli.main import main
from tightframe.collapse.monitor import measure
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.labelled.source import load
from tightframe.features.tap import FeatureTap
from tightframe.nn.networks import build
from tightframe.nn.transformer import TransformerBlock, VisionTransformer, default_patch
from tightframe.runs.series import rows_of

SIZES = {"classes": 5, "patch": 2, "width": 16, "depth": 2, "heads": 4}


@pytest.fixture
def network() -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer((3, 8, 12), **SIZES).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def huggingface(model: VisionTransformer):
    """The same network of transformers, with its weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=(8, 12),
        patch_size=2,
        num_channels=3,
        num_labels=5,
        layer_norm_eps=1e-6,
    )
    return transformers.ViTForImageClassification(config).double().eval()


def test_as_many_parameters_as_the_transformer_of_another_library(network):
    other = huggingface(network)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in other.parameters())


@torch.no_grad()
def test_the_logits_of_another_library_at_equal_weights(network):
    other = huggingface(network)
    for name, target in other.named_parameters():
        target.copy_(_counterpart(network, name))
    images = torch.randn(4, 3, 8, 12, generator=generator(1), dtype=torch.float64)
    expected = other(images).logits
    assert expected.std() > 0.1
    # Sums of at most 64 products in float64.
    torch.testing.assert_close(network(images), expected, rtol=1e-11, atol=1e-11)


# Names of transformers, of releases before and after 5, and what holds the same here.
NAMES = {
    r"cls_token": "class_token",
    r"position_embeddings": "positions",
    r"patch_embeddings": "embedding",
    r"\.layernorm\.|^layernorm": "norm",
    r"^classifier": "classifier",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"q_proj|query": "qkv 0",
    r"k_proj|\.key": "qkv 1",
    r"v_proj|value": "qkv 2",
    r"o_proj|attention\.output": "projection",
    r"fc1|intermediate": "expand",
    r"fc2|output\.dense": "contract",
}


def _counterpart(network: VisionTransformer, name: str) -> torch.Tensor:
    place, _, third = next(value for pattern, value in NAMES.items() if re.search(pattern, name)).partition(" ")
    block = re.search(r"layers?\.(\d+)\.", name)
    owner = network.blocks[int(block[1])] if block else network
    found = getattr(owner, place)
    if not isinstance(found, torch.nn.Parameter):
        found = getattr(found, name.rpartition(".")[2])
    return found.chunk(3)[int(third)] if third else found


@torch.no_grad()
def test_a_block_against_loops_over_heads_and_tokens():
    torch.manual_seed(2)
    block = TransformerBlock(6, 2, hidden=5).double()
    x = torch.randn(1, 4, 6, dtype=torch.float64)

    def normed(norm, v):
        centred = v - v.mean()
        return centred / (centred.square().mean() + 1e-6).sqrt() * norm.weight + norm.bias

    joint = torch.stack([block.qkv(normed(block.norm1, v)) for v in x[0]])
    rows = []
    for i in range(4):
        mixed = []
        for h in range(2):
            q, k, v = (joint[:, part * 6 + 3 * h : part * 6 + 3 * h + 3] for part in range(3))
            weights = torch.stack([(q[i] @ k[j]) / 3**0.5 for j in range(4)]).softmax(0)
            mixed.append(sum(weights[j] * v[j] for j in range(4)))
        y = x[0, i] + block.projection(torch.cat(mixed))
        inner = block.expand(normed(block.norm2, y))
        gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        rows.append(y + block.contract(gelu))
    torch.testing.assert_close(block(x)[0], torch.stack(rows), rtol=1e-12, atol=1e-12)


def test_the_contract_of_the_networks():
    torch.manual_seed(0)
    model = build("vit", shape=(1, 8, 8), classes=7, width=32, depth=3)
    x = torch.randn(3, 1, 8, 8)
    features = model.forward_features(x)
    assert features.shape == (3, 32)
    assert len(model.blocks) == 3
    assert model.patch == 2
    torch.testing.assert_close(model(x), features @ model.classifier.weight.T + model.classifier.bias)
    assert build("vit/4", shape=(1, 8, 8), classes=7).positions.shape == (1, 5, 128)
    torch.manual_seed(0)
    again = build("vit", shape=(1, 8, 8), classes=7, width=32, depth=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("depth", [1, 3])
def test_blocks_are_found_and_give_their_class_tokens(depth):
    model = build("vit", shape=(1, 8, 8), classes=4, width=8, depth=depth)
    x = torch.randn(6, 1, 8, 8, generator=generator(0))
    taps = FeatureTap(model, layers="auto")(x)
    assert list(taps.features) == [*(f"blocks.{i}" for i in range(depth)), "features"]
    last = taps.features[f"blocks.{depth - 1}"]
    torch.testing.assert_close(model.norm(last), taps.features["features"])


def test_measured_layer_by_layer():
    data = load("digits", limit=200)
    summary = measure(
        build("vit", shape=data.shape, classes=10, width=16, depth=2), DataLoader(data.train, 100), layers="auto"
    )
    assert list(summary.layers) == ["blocks.0", "blocks.1", "features"]


def test_training_it_from_the_command_line(tmp_path):
    command = "train --data digits --model vit --width 32 --depth 1 --epochs 8 --optimizer adam --lr 0.003"
    rest = "--weight-decay 0 --batch-size 32 --limit 600 --observations 2 --layers classifier --out"
    main([*command.split(), *rest.split(), str(tmp_path / "run")])
    series = json.loads((tmp_path / "run" / "record.json").read_text())["series"]
    rows = list(rows_of(series))
    accuracy = [row["value"] for row in rows if row["metric"] == "accuracy" and row["split"] == "test"]
    # Chance is 0.1 with a standard deviation of 0.014; the first row is before training.
    assert accuracy[0] < 0.2
    assert accuracy[-1] > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 3}, "a patch that divides the image, 8 x 8"),
        ({"patch": 16}, "a patch that divides the image"),
        ({"patch": 0}, "patch is an integer of at least 1"),
        ({"width": 10, "heads": 3}, "heads that divide the width, 10"),
        ({"depth": 0}, "depth is an integer"),
        ({"width": 0}, "width is an integer"),
    ],
)
def test_impossible_sizes(options, message):
    with pytest.raises(InputError, match=message):
        VisionTransformer((1, 8, 8), 4, **options)


def test_other_bad_input(network):
    with pytest.raises(InputError, match=r"7 x 8 pixels.*vit/1"):
        default_patch(7, 8)
    with pytest.raises(InputError, match=r"\(3, 8, 12\).*shape \(2, 3, 8, 8\)"):
        network(torch.zeros(2, 3, 8, 8).double())
    with pytest.raises(InputError, match=r"shape \(3, 8, 12\)"):
        network(torch.zeros(3, 8, 12).double())


def test_default_heads_are_about_32_wide():
    heads = {width: VisionTransformer((1, 8, 8), 2, width=width, depth=1).blocks[0].heads for width in (8, 64, 100)}
    assert heads == {8: 1, 64: 2, 100: 2}
