"""Parameter counts from layer shapes, against the literature's totals and against built networks."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.nn.heads.shapes import NETWORKS, parameters
from tightframe.nn.networks import resnet18, resnet34, resnet50

# Totals as the papers and model zoos print them, with 1000 classes; the classifier's share as the sources round it.
PUBLISHED = {
    "resnet18": (11_689_512, 512, 0.0439),
    "resnet34": (21_797_672, 512, 0.0235),
    "resnet50": (25_557_032, 2048, 0.0802),
    "densenet169": (14_149_480, 1664, 0.1177),
    "shufflenet": (1_865_728, 960, 0.5151),
    "shufflenet-biased": (1_826_554, 960, 0.5261),
    "shufflenet-v2-x0.5": (1_366_792, 1024, 0.7499),
    "shufflenet-v2-x1.0": (2_278_604, 1024, 0.4498),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_totals(name):
    total, features, share = PUBLISHED[name]
    count = parameters(name)
    assert (count.total, count.features) == (total, features)
    assert count.head == 1000 * features + 1000
    assert count.share == pytest.approx(share, abs=5e-5)
    assert f"{total:,}" in str(count)


def test_the_literatures_shufflenet_is_one_with_biases_and_a_learned_scale():
    count = parameters("shufflenet-biased")
    assert count.total + 1 == 1_826_555
    assert count.head_weight == 960_000
    assert round(count.head_weight / (count.total + 1), 2) == 0.53


@pytest.mark.parametrize(("name", "maker"), [("resnet18", resnet18), ("resnet34", resnet34), ("resnet50", resnet50)])
def test_built_networks_differ_by_their_stem_alone(name, maker):
    with torch.device("meta"):
        built = sum(p.numel() for p in maker(3, 10).parameters())
    count = parameters(name, 10)
    assert count.total - built == 3 * 64 * (7**2 - 3**2)


@pytest.mark.parametrize(
    ("name", "kind", "depths"), [("resnet18", "basic", [2, 2, 2, 2]), ("resnet50", "bottleneck", [3, 4, 6, 3])]
)
def test_resnets_with_the_imagenet_stem(name, kind, depths):
    transformers = pytest.importorskip("transformers")
    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    config = transformers.ResNetConfig(depths=depths, hidden_sizes=widths, layer_type=kind, num_labels=10)
    with torch.device("meta"):
        model = transformers.ResNetForImageClassification(config)
    assert sum(p.numel() for p in model.parameters()) == parameters(name, 10).total


@pytest.mark.parametrize(("name", "classes"), [("vgg", 10), ("resnet18", 1)])
def test_unknown_networks_and_one_class(name, classes):
    with pytest.raises(InputError, match=r"one of resnet18|at least 2"):
        parameters(name, classes)
