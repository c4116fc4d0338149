from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.nn.networks import MLP, build, resnet18, resnet34, resnet50


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("maker", "count"), [(resnet18, 11_173_962), (resnet34, 21_282_122), (resnet50, 23_520_842)])
def test_parameter_counts_are_those_of_the_cifar_resnets(maker, count):
    assert parameters(maker(3, 10)) == count


@pytest.mark.parametrize("name", ["mlp", "resnet18", "resnet34", "resnet50"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20)])
def test_logits_are_the_classifier_of_the_features(name, shape):
    torch.manual_seed(0)
    model = build(name, shape=shape, classes=7, width=4).eval()
    x = torch.randn(3, *shape)
    features = model.forward_features(x)
    assert features.shape == (3, model.classifier.in_features)
    torch.testing.assert_close(model(x), features @ model.classifier.weight.T + model.classifier.bias)


def test_blocks_have_the_names_that_layerwise_measuring_uses():
    names = dict(build("mlp", shape=(1, 8, 8), classes=10).named_modules())
    assert {"blocks.0", "blocks.3", "classifier"} <= set(names)
    names = dict(resnet18(1, 10, width=4).named_modules())
    assert {"layer1.0", "layer1.1", "layer4.1", "classifier"} <= set(names)


def test_each_block_of_the_mlp_ends_in_a_relu():
    torch.manual_seed(0)
    model = MLP(6, 3, widths=(5, 4), batch_norm=True)
    x = torch.randn(10, 2, 3)
    for block in model.blocks:
        x = block(x.flatten(1))
        assert x.min() == 0
    assert model.blocks[0].norm.num_features == 5


def test_mlp_without_bias_maps_zero_to_zero():
    assert MLP(6, 3, widths=(5,), bias=False)(torch.zeros(2, 6)).abs().max() == 0


def test_a_zeroed_residual_branch_leaves_the_shortcut():
    block = resnet18(1, 2, width=4).layer1[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x), x.relu())


def test_width_scales_every_stage():
    channels = [getattr(resnet50(3, 10, width=8), f"layer{i}")[0].conv1.out_channels for i in range(1, 5)]
    assert channels == [8, 16, 32, 64]


def test_same_seed_same_weights():
    torch.manual_seed(3)
    first = build("resnet18", shape=(1, 8, 8), classes=4, width=4)
    torch.manual_seed(3)
    second = build("resnet18", shape=(1, 8, 8), classes=4, width=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_unknown_network_lists_the_choices():
    with pytest.raises(InputError, match=r"mlp, mlp-bn, resnet18, resnet34, resnet50, vit; got 'vgg'"):
        build("vgg", shape=(1, 8, 8), classes=10)


def test_depth_and_normalisation_of_the_mlp():
    plain = build("mlp", shape=(1, 2, 2), classes=3, width=5, depth=2)
    normalised = build("mlp-bn", shape=(1, 2, 2), classes=3, width=5, depth=2)
    assert sum(p.numel() for p in plain.parameters()) == (4 * 5 + 5) + (5 * 5 + 5) + (5 * 3 + 3)
    assert sum(isinstance(m, torch.nn.BatchNorm1d) for m in normalised.modules()) == 2


@pytest.mark.parametrize("widths", [(), (4, 0)])
def test_impossible_widths_are_refused(widths):
    with pytest.raises(InputError, match="hidden width"):
        MLP(4, 2, widths=widths)


def test_impossible_resnet_width_is_refused():
    with pytest.raises(InputError, match="width=0"):
        build("resnet18", shape=(1, 8, 8), classes=10, width=0)
