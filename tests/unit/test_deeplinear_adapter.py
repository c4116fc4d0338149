"""Compressed adapters: frames from gradients, equality with the matrix they stand for, and a few-shot task."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.deeplinear.adapter import CompressedAdapter, adapt, merge, parameter_groups
from tightframe.deeplinear.compression import CompressedNetwork

SIZES = (12, 16, 10)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.Tanh(), nn.Linear(SIZES[1], SIZES[2])).double()


def batch(seed=0):
    draws = generator(seed)
    return torch.randn(20, 12, dtype=torch.float64, generator=draws), torch.randint(10, (20,), generator=draws)


def loss(model):
    inputs, labels = batch()
    return nn.functional.cross_entropy(model(inputs), labels)


def test_the_start_changes_almost_nothing_and_only_adapters_are_trained():
    model = network()
    before = model(batch()[0])
    adapters = adapt(model, rank=2, loss=loss, scale=1e-3)
    assert set(adapters) == {"0", "2"}
    assert isinstance(model[0], CompressedAdapter)
    # The product of three layers of size 1e-3 between orthonormal frames, through a network of gain below ten.
    assert float((model(batch()[0]) - before).abs().max().detach()) < 1e-7
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.network.layers.{layer}.weight" for name in "02" for layer in range(5)}


def test_parameters_are_as_many_as_documented():
    rank, depth = 2, 3
    model = network()
    adapt(model, rank=rank, depth=depth)
    expected = sum(2 * rank * (into + out) + 4 * depth * rank**2 for into, out in itertools.pairwise(SIZES))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


def test_frames_hold_the_leading_vectors_of_the_gradient():
    model = network()
    reference = copy.deepcopy(model)
    loss(reference).backward()
    adapters = adapt(model, rank=2, loss=loss)
    for name, adapter in adapters.items():
        U, _, Vh = torch.linalg.svd(-reference.get_submodule(name).weight.grad)
        right, left = adapter.network.weights[0].T, adapter.network.weights[-1]
        for frame, leading in ((right, Vh[:2].T), (left, U[:, :2])):
            torch.testing.assert_close(frame.T @ frame, torch.eye(4).double(), rtol=0, atol=1e-10)
            torch.testing.assert_close(frame @ (frame.T @ leading), leading, rtol=0, atol=1e-8)
        assert adapter.base.weight.grad is None
        assert not adapter.base.weight.requires_grad


def test_outputs_and_merged_layers_are_those_of_the_sum():
    model = network()
    adapters = adapt(model, rank=3, seed=4)
    for adapter in adapters.values():
        for number, layer in enumerate(adapter.network.layers):
            nn.init.normal_(layer.weight, generator=generator(number))
    inputs = batch()[0]
    hidden = inputs
    for place in (0, 2):
        adapter = model[place]
        product = adapter.network.layers[0].weight
        for layer in adapter.network.layers[1:]:
            product = layer.weight @ product
        hidden = hidden @ (adapter.base.weight + product).T + adapter.base.bias
        hidden = torch.tanh(hidden) if place == 0 else hidden
    expected = model(inputs)
    torch.testing.assert_close(expected, hidden, rtol=1e-9, atol=1e-9)
    whole = merge(model)
    assert not any(isinstance(module, CompressedAdapter) for module in whole.modules())
    torch.testing.assert_close(whole(inputs), expected, rtol=1e-9, atol=1e-9)


def test_groups_have_the_discrepant_rate_and_every_parameter_once():
    model = network()
    adapt(model, rank=2, targets=["2"], gamma=0.25)
    model[0].bias.requires_grad_(True)
    groups = parameter_groups(model, 0.8)
    assert sorted((len(group["params"]), group["lr"]) for group in groups) == [(1, 0.8), (2, 0.2), (3, 0.8)]
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(trained)


def test_gamma_zero_freezes_the_factors():
    model = network()
    adapt(model, rank=2, targets=["0"], gamma=0.0)
    assert sum(p.requires_grad for p in model.parameters()) == 3


def test_seeds_decide_the_frames():
    frames = [adapt(network(), rank=2, seed=seed)["0"].network.weights[0] for seed in (1, 1, 2)]
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])


def test_gradients_are_asked_for_and_put_back():
    model = network()
    model[0].weight.requires_grad_(False)
    with pytest.raises(InputError, match="a loss that every adapted layer enters"):
        adapt(model, rank=2, loss=lambda net: net[0](batch()[0]).square().sum())
    assert not model[0].weight.requires_grad
    assert model[2].weight.requires_grad
    assert not any(isinstance(module, CompressedAdapter) for module in model.modules())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rank": 6}, "half of both sides of 2"),
        ({"rank": 0}, "rank"),
        ({"rank": 2, "scale": 0.0}, "scale"),
        ({"rank": 2, "targets": ["1"]}, "targets that are nn.Linear"),
        ({"rank": 2, "targets": ["9"]}, "matches none"),
        ({"rank": 2, "gamma": -1.0}, "gamma"),
    ],
)
def test_bad_arguments_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        adapt(network(), **options)


def test_layers_and_networks_have_to_fit():
    with pytest.raises(InputError, match="a linear layer inside"):
        adapt(nn.Sequential(nn.ReLU()), rank=1)
    frame = torch.eye(12, 4).double()
    inner = CompressedNetwork(frame, [torch.eye(4).double()], frame, gamma=0.1)
    with pytest.raises(InputError, match="a network from 12 to 16"):
        CompressedAdapter(nn.Linear(12, 16).double(), inner)
    with pytest.raises(InputError, match="to adapt; got ReLU"):
        CompressedAdapter(nn.ReLU(), inner)
